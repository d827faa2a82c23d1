//! Names and addresses of a session.

use proto::dm::syncml::{Credential, Header, Location, MessageId, Meta};

use super::{address::Origin, limits::Limits, outcome::SessionError};
use crate::dm::Settings;

/// Names and addresses of both sides in the headers of a session.
#[derive(Debug)]
pub(super) struct Identity {
    session_id: String,
    /// Address of the next request.
    url: String,
    server_uri: String,
    /// This device, and the user name of its account.
    source: Location,
}

impl Identity {
    pub(super) fn new(settings: &Settings, session_id: u16) -> Self {
        let account = &settings.account;
        Self {
            session_id: format!("{:X}", session_id.max(1)),
            url: account.url.clone(),
            server_uri: account.url.clone(),
            source: Location::named(settings.identity.device_id.as_str(), &account.user),
        }
    }

    /// Returns whether a message belongs to this session.
    pub(super) fn is_of(&self, header: &Header) -> bool {
        header.session_id == self.session_id
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the origin of the address of the next request.
    pub(super) fn origin(&self) -> Option<Origin<'_>> {
        Origin::of(&self.url)
    }

    /// Returns the user name of the account.
    pub(super) fn user(&self) -> &str {
        self.source.name.as_deref().unwrap_or_default()
    }

    /// Follows the server's RespURI if it leads to the same server.
    // spec: oma-dm 1 (the reply address)
    pub(super) fn follow_respond_uri(
        &mut self,
        address: &str,
        max_characters: usize,
    ) -> Result<(), SessionError> {
        let readable =
            address.len() <= max_characters && address.chars().all(|c| c.is_ascii_graphic());
        let is_same = |ours: Origin<'_>| Origin::of(address).is_some_and(|it| ours.is_same(it));
        if readable && self.origin().is_some_and(is_same) {
            address.clone_into(&mut self.url);
            Ok(())
        } else {
            Err(SessionError::Protocol("unacceptable RespURI"))
        }
    }

    /// Builds the header of a message.
    pub(super) fn header(
        &self,
        message_id: MessageId,
        credential: Option<Credential>,
        limits: &Limits,
    ) -> Header {
        let message_bytes = u64::try_from(limits.response.message_bytes).unwrap_or(u64::MAX);
        Header {
            session_id: self.session_id.clone(),
            message_id,
            target: Location::new(&self.server_uri),
            source: self.source.clone(),
            respond_to: None,
            credential,
            meta: Some(Meta {
                max_message_size: Some(message_bytes),
                max_object_size: Some(limits.object_bytes),
                ..Meta::default()
            }),
        }
    }
}
