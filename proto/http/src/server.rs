//! The accept loop: gives each connection a place, and closes those that lose theirs.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{
    Request, Response, body::Body, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use proto::peer::PeerNetwork;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    body::{RequestBody, ResponseBody},
    limits::Limits,
    place::{Place, SharedTable},
    stream::PlacedStream,
    table::{ConnectionTable, Origin, Phase, Stats},
    transport::{Peer, Proof, Proved, Transport},
};

/// Octets of a header at most, and of the buffer that it is read into.
const MAX_HEADER_OCTETS: usize = 16 << 10;

/// Delay after a failed accept, for example when no file descriptor is free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Time between two log lines on failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Looks at the table in the shortest of its time limits.
const CHECKS_IN_LIMIT: u32 = 8;

/// Time between two looks at the table.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(10);
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The connections of a server.
#[derive(Debug, Clone)]
pub struct Connections {
    table: Arc<SharedTable>,
    limits: Limits,
    trusted_proxies: Arc<[IpNet]>,
}

impl Connections {
    /// Returns an empty table; connections of trusted proxies are not counted by address.
    #[must_use]
    pub fn new(limits: Limits, trusted_proxies: &[IpNet]) -> Self {
        let table = Arc::new(SharedTable::new(ConnectionTable::new(limits)));
        Self { table, limits, trusted_proxies: trusted_proxies.into() }
    }

    /// Returns the networks of trusted proxies.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.table.lock().stats()
    }

    /// Accepts connections and calls `service` with each request, until `stop` is ready; then ends
    /// when the requests in progress have ended. Errors to accept are waited out.
    ///
    /// # Cancel safety
    ///
    /// Closes all connections.
    pub async fn serve<T, F, R, B>(
        &self,
        listener: TcpListener,
        transport: T,
        service: F,
        stop: impl Future<Output = ()>,
    ) where
        T: Transport,
        F: Fn(Peer<T::Info>, Request<RequestBody>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut checks = interval(self.check_interval());
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut accepting = Accepting::default();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = accepting.accept(&listener) => match accepted {
                    Ok((stream, address)) => {
                        let Some(place) = self.place(address, T::FIRST_PHASE) else { continue };
                        let (transport, service) = (transport.clone(), service.clone());
                        let connection =
                            Connection { place: Arc::new(place), address, limits: self.limits };
                        tasks.spawn(connection.run(stream, transport, service, stopped.clone()));
                    }
                    Err(error) => self.accept_failed(&mut accepting, &error),
                },
                _ = checks.tick() => self.check(),
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(listener);
        stopping.send_replace(true);
        loop {
            tokio::select! {
                ended = tasks.join_next() => if ended.is_none() { return },
                _ = checks.tick() => self.check(),
            }
        }
    }

    fn place(&self, address: SocketAddr, phase: Phase) -> Option<Place> {
        let ip = address.ip().to_canonical();
        let is_trusted = self.trusted_proxies.iter().any(|network| network.contains(&ip));
        let origin =
            if is_trusted { Origin::TrustedProxy } else { Origin::Peer(PeerNetwork::of(ip)) };
        Place::take(&self.table, origin, phase)
    }

    fn check_interval(&self) -> Duration {
        let interval = self.table.lock().shortest_limit() / CHECKS_IN_LIMIT;
        interval.clamp(MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL)
    }

    /// Closes the connections whose peer takes too long.
    fn check(&self) {
        let overdue = self.table.lock().handle_timeout(self.table.now());
        overdue.into_iter().for_each(|closed| closed.notify_one());
    }

    fn accept_failed(&self, accepting: &mut Accepting, error: &std::io::Error) {
        if accepting.pause(Instant::now()) {
            tracing::warn!(%error, "connections cannot be accepted");
        }
        if let Some(closed) = self.table.lock().handle_accept_error(self.table.now()) {
            closed.notify_one();
        }
    }
}

/// Pauses after failed accepts.
#[derive(Debug, Default)]
struct Accepting {
    again: Option<Instant>,
    logged: Option<Instant>,
}

impl Accepting {
    /// Accepts a connection, after a pause if the last one failed.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost.
    async fn accept(&mut self, listener: &TcpListener) -> std::io::Result<(TcpStream, SocketAddr)> {
        if let Some(again) = self.again {
            sleep_until(again).await;
            self.again = None;
        }
        listener.accept().await
    }

    /// Begins a pause; returns whether it may be logged.
    fn pause(&mut self, now: Instant) -> bool {
        self.again = Some(now + ACCEPT_RETRY);
        let is_due = self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL);
        if is_due {
            self.logged = Some(now);
        }
        is_due
    }
}

/// One connection.
struct Connection {
    place: Arc<Place>,
    address: SocketAddr,
    limits: Limits,
}

impl Connection {
    /// Serves it until it ends or loses its place.
    async fn run<T, F, R, B>(
        self,
        stream: TcpStream,
        transport: T,
        service: F,
        stopped: watch::Receiver<bool>,
    ) where
        T: Transport,
        F: Fn(Peer<T::Info>, Request<RequestBody>) -> R,
        R: Future<Output = Response<B>>,
        B: Body<Error: Into<BoxError>> + Unpin + 'static,
    {
        let (place, address) = (Arc::clone(&self.place), self.address);
        tokio::select! {
            biased;
            () = place.closed() => tracing::debug!(%address, "connection closed"),
            () = self.serve(stream, transport, service, stopped) => {}
        }
    }

    async fn serve<T, F, R, B>(
        self,
        stream: TcpStream,
        transport: T,
        service: F,
        mut stopped: watch::Receiver<bool>,
    ) where
        T: Transport,
        F: Fn(Peer<T::Info>, Request<RequestBody>) -> R,
        R: Future<Output = Response<B>>,
        B: Body<Error: Into<BoxError>> + Unpin + 'static,
    {
        let Self { place, address, limits } = self;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off Nagle's algorithm");
        }
        let shaken = transport.handshake(PlacedStream::new(stream, Arc::clone(&place)));
        let established = tokio::select! {
            established = shaken => established,
            () = until_stop(&mut stopped) => return,
        };
        let established = match established {
            Ok(established) => established,
            Err(error) => return tracing::debug!(%error, "a handshake failed"),
        };
        place.enter(Phase::Header);
        if established.proof == Proof::Shown {
            place.prove();
        }
        let peer = Peer { address, info: established.info };
        let service = service_fn(|request: Request<Incoming>| {
            let place = Arc::clone(&place);
            let body = |incoming| RequestBody::new(incoming, Arc::clone(&place), limits.body);
            let handled = service(peer.clone(), request.map(body));
            async move {
                let response = handled.await;
                if response.extensions().get::<Proved>().is_some() {
                    place.prove();
                }
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, place)))
            }
        });
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEADER_OCTETS);
        let connection = http.serve_connection(TokioIo::new(established.stream), service);
        let mut connection = pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = until_stop(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection failed");
        }
    }
}

/// Waits for the stop of the server; one that is gone has stopped.
async fn until_stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the server is gone");
    }
}
