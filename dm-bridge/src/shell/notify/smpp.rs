//! SMPP transport: a short message over a message centre.
//!
//! Each message has a connection of its own: notifications are rare, and an open bind needs
//! keepalives.

use std::str::FromStr as _;

use futures_util::{SinkExt as _, StreamExt as _};
use proto::dm::push::ShortMessage;
use rusmpp::{
    Command, CommandStatus, Pdu,
    pdus::{BindTransmitter, SubmitSm},
    tokio_codec::CommandCodec,
    types::{COctetString, OctetString},
    values::{DataCoding, EsmClass, InterfaceVersion, Npi, Ton},
};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use super::error::{EIGHT_BIT, NotifyError};
use crate::notification::target::Subscriber;

/// ESM class of a message whose data begin with a user data header. (The default of the library is
/// a delivery acknowledgement.)
const HEADER_LEADS: u8 = 0x40;

/// The account of this server at the message centre.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) system_id: &'a str,
    pub(super) password: &'a str,
}

/// Submits a message: bind, submit, unbind.
///
/// # Errors
///
/// [`NotifyError`] when the message centre cannot be reached or rejects it.
///
/// # Cancel safety
///
/// The message may have been submitted.
pub(super) async fn submit(
    address: &str,
    account: Account<'_>,
    to: &Subscriber,
    message: &ShortMessage,
) -> Result<(), NotifyError> {
    let stream = TcpStream::connect(address).await?;
    let mut connection = Framed::new(stream, CommandCodec::new());
    let bind = BindTransmitter::builder()
        .system_id(text(account.system_id)?)
        .password(text(account.password)?)
        .interface_version(InterfaceVersion::Smpp3_4)
        .build();
    exchange(&mut connection, 1, bind.into()).await?;
    let bytes = OctetString::from_vec(message.octets()).map_err(smpp)?;
    let short_message = SubmitSm::builder()
        .dest_addr_ton(Ton::International)
        .dest_addr_npi(Npi::Isdn)
        .destination_addr(text(to.digits())?)
        .esm_class(EsmClass::from(HEADER_LEADS))
        .data_coding(DataCoding::from(EIGHT_BIT))
        .short_message(bytes)
        .build();
    exchange(&mut connection, 2, short_message.into()).await?;
    // The message is submitted; the unbind may fail.
    if let Err(error) = exchange(&mut connection, 3, Pdu::Unbind).await {
        tracing::debug!(%error, "the message centre closed the connection early");
    }
    Ok(())
}

/// Sends a request and waits for its response; other PDUs are ignored.
async fn exchange(
    connection: &mut Framed<TcpStream, CommandCodec>,
    number: u32,
    pdu: Pdu,
) -> Result<(), NotifyError> {
    let command = Command::builder().status(CommandStatus::EsmeRok).sequence_number(number);
    connection.send(command.pdu(pdu)).await.map_err(smpp)?;
    while let Some(answer) = connection.next().await {
        let answer = answer.map_err(smpp)?;
        if answer.sequence_number() == number {
            let status = answer.status();
            return if status == CommandStatus::EsmeRok {
                Ok(())
            } else {
                Err(NotifyError::Smpp(format!("the message centre returned {status:?}")))
            };
        }
    }
    Err(NotifyError::Smpp("the message centre closed the connection".to_owned()))
}

fn text<const MIN: usize, const MAX: usize>(
    text: &str,
) -> Result<COctetString<MIN, MAX>, NotifyError> {
    COctetString::from_str(text).map_err(smpp)
}

fn smpp(error: impl std::fmt::Display) -> NotifyError {
    NotifyError::Smpp(error.to_string())
}

#[cfg(test)]
mod tests {
    use rusmpp::{
        CommandId,
        pdus::{BindTransmitterResp, SubmitSmResp},
    };
    use tokio::net::TcpListener;

    use super::*;
    use crate::notification::target::Target;

    fn subscriber() -> Subscriber {
        match "sms:+4915112345678".parse() {
            Ok(Target::Sms(subscriber)) => subscriber,
            other => panic!("{other:?}"),
        }
    }

    /// A message centre for one connection, which answers the submission with `status`; returns
    /// the requests.
    async fn message_centre(listener: TcpListener, status: CommandStatus) -> Vec<Command> {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = Framed::new(stream, CommandCodec::new());
        let mut requests = Vec::new();
        while let Some(Ok(command)) = connection.next().await {
            let (status, pdu) = if command.id() == CommandId::BindTransmitter {
                (CommandStatus::EsmeRok, BindTransmitterResp::default().into())
            } else if command.id() == CommandId::SubmitSm {
                (status, SubmitSmResp::default().into())
            } else {
                (CommandStatus::EsmeRok, Pdu::UnbindResp)
            };
            let number = command.sequence_number();
            requests.push(command);
            let answer = Command::builder().status(status).sequence_number(number).pdu(pdu);
            connection.send(answer).await.unwrap();
        }
        requests
    }

    async fn submitted(status: CommandStatus) -> (Result<(), NotifyError>, Vec<Command>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let centre = tokio::spawn(message_centre(listener, status));
        let account = Account { system_id: "fumocast", password: "secret" };
        let message = ShortMessage::new(b"digest and trigger").unwrap();
        let sent = submit(&address, account, &subscriber(), &message).await;
        (sent, centre.await.unwrap())
    }

    // test: oma-dm 7.2
    #[tokio::test]
    async fn a_message_centre_receives_the_push_as_eight_bit_data_with_a_header() {
        let (sent, requests) = submitted(CommandStatus::EsmeRok).await;
        sent.unwrap();
        let [bind, submission, unbind] = requests.try_into().unwrap();
        let Some(Pdu::BindTransmitter(bind)) = bind.pdu() else { panic!("{bind:?}") };
        assert_eq!(
            (bind.system_id.to_string(), bind.password.to_string()),
            ("fumocast".to_owned(), "secret".to_owned())
        );
        let Some(Pdu::SubmitSm(short)) = submission.pdu() else { panic!("{submission:?}") };
        assert_eq!(short.destination_addr.to_string(), "4915112345678");
        assert_eq!(u8::from(short.esm_class), 0x40, "a header leads the data");
        assert_eq!(u8::from(short.data_coding), 4);
        let bytes = ShortMessage::new(b"digest and trigger").unwrap().octets();
        assert_eq!(short.short_message().as_ref(), bytes);
        assert_eq!(unbind.id(), CommandId::Unbind);
    }

    #[tokio::test]
    async fn a_message_that_the_message_centre_rejects_is_an_error() {
        let (sent, _) = submitted(CommandStatus::EsmeRthrottled).await;
        let error = sent.unwrap_err().to_string();
        assert!(error.contains("Throttled") || error.contains("throttled"), "{error}");
    }
}
