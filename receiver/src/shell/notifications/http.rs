//! Notifications posted by a push gateway (OTA over HTTP), one in each body.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
};
use proto::dm::{
    bootstrap::{CONNECTIVITY, DmBootstrap, Push},
    encoding::Encoding,
    notification::MEDIA_TYPE,
};
use proto_http::{
    body::{BodyError, RequestBody},
    limits::Limits,
    server::Connections,
    transport::{Peer, Plain},
};
use tokio::{net::TcpListener, sync::mpsc};

use super::MAX_NOTIFICATION;

/// Connections at a time; a gateway needs one, and no peer proves itself.
const CONNECTIONS: usize = 4;
/// Time limit of each wait for a peer.
const WAIT: Duration = Duration::from_secs(5);

/// Returns the limits on connections.
fn limits() -> Limits {
    Limits {
        unproved: CONNECTIONS,
        all: CONNECTIONS,
        handshake: WAIT,
        header: WAIT,
        body: WAIT,
        response: WAIT,
        keep_alive: WAIT,
        ..Limits::default()
    }
}

/// Serves while the runtime runs.
pub(super) async fn serve(listener: TcpListener, posted: mpsc::Sender<Vec<u8>>) {
    let answer = move |_: Peer<()>, request| {
        let posted = posted.clone();
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = handle(request, &posted).await;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    };
    Connections::new(limits(), &[]).serve(listener, Plain, answer, std::future::pending()).await;
}

/// Handles one request; status 202 acknowledges reception, not authenticity.
// spec: oma-dm 7.2 (a push over HTTP)
async fn handle(request: Request<RequestBody>, posted: &mpsc::Sender<Vec<u8>>) -> StatusCode {
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let takes = [MEDIA_TYPE, CONNECTIVITY, Encoding::Wbxml.media_type()];
    if !takes.iter().any(|known| media_type.eq_ignore_ascii_case(known)) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let body = match Limited::new(request.into_body(), MAX_NOTIFICATION).collect().await {
        Ok(body) => body,
        Err(error) if BodyError::is_timeout(&*error) => return StatusCode::REQUEST_TIMEOUT,
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE,
    };
    match posted.try_send(with_proof(&content_type, body.to_bytes().to_vec())) {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Returns a bootstrap document together with its proof from the header, as in a datagram.
fn with_proof(content_type: &str, body: Vec<u8>) -> Vec<u8> {
    if let Ok(push) = Push::from_post(content_type, &body) {
        return push.emit();
    }
    let is_message = content_type.starts_with(Encoding::Wbxml.media_type());
    let message = DmBootstrap { content_type: content_type.to_owned(), body };
    if is_message { message.emit() } else { message.body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(url: &str, media_type: &str, body: &[u8]) -> u16 {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let sent = agent.post(url).header("content-type", media_type).send(body);
        sent.unwrap().status().as_u16()
    }

    // test: oma-dm 7.2
    #[tokio::test(flavor = "multi_thread")]
    async fn only_a_notification_is_accepted_from_a_post() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/push", listener.local_addr().unwrap());
        let (sender, mut posted) = mpsc::channel(1);
        tokio::spawn(serve(listener, sender));
        let codes = tokio::task::spawn_blocking(move || {
            let parameter = format!("{MEDIA_TYPE}; charset=binary");
            let long = vec![0; MAX_NOTIFICATION + 1];
            [
                ureq::get(&url).call().map(|answer| answer.status().as_u16()).unwrap_or(405),
                post(&url, "text/plain", b"x"),
                post(&url, MEDIA_TYPE, &long),
                post(&url, &parameter, b"notification"),
                post(&url, MEDIA_TYPE, b"one too many"),
            ]
        });
        assert_eq!(codes.await.unwrap(), [405, 415, 413, 202, 503]);
        assert_eq!(posted.recv().await.unwrap(), b"notification");
    }

    // test: security 7.2 (places of connections)
    #[tokio::test(flavor = "multi_thread")]
    async fn silent_peers_do_not_keep_a_push_from_its_device() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut posted) = mpsc::channel(1);
        tokio::spawn(serve(listener, sender));
        let mut silent = Vec::new();
        for _ in 0..3 * CONNECTIONS {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(address).await.unwrap());
        }
        let url = format!("http://{address}/push");
        let begun = tokio::time::Instant::now();
        let code = tokio::task::spawn_blocking(move || post(&url, MEDIA_TYPE, b"notification"));
        assert_eq!(code.await.unwrap(), 202);
        assert_eq!(posted.recv().await.unwrap(), b"notification");
        assert!(begun.elapsed() < WAIT, "it has not waited for them");
        drop(silent);
    }

    #[test]
    fn a_posted_bootstrap_document_is_returned_with_its_proof() {
        let key = proto::dm::bootstrap::SecKey::Pin("1234".to_owned());
        let push = Push::new(b"document".to_vec(), &key).unwrap();
        let on = with_proof(&push.content_type(), push.document().to_vec());
        assert_eq!(on, push.emit());
        let content_type = "application/vnd.syncml.dm+wbxml; SEC=USERPIN; MAC=00".to_owned();
        let message = DmBootstrap { content_type, body: b"message".to_vec() };
        assert_eq!(with_proof(&message.content_type, b"message".to_vec()), message.emit());
        assert_eq!(with_proof(MEDIA_TYPE, b"notification".to_vec()), b"notification");
    }
}
