//! Package 0, the notification: the request of a server to begin a DM session.
//!
//! ```text
//!  0                16  digest  MD5(B64(MD5(server id ":" password)) ":" nonce ":" B64(MD5(trigger)))
//! 16  10 bits           version, ten times 1.1
//!      2 bits           visibility of the session to the user
//!      1 bit            initiator of the session
//!     27 bits           zero
//! 21  16 bits           session id, not zero
//! 23   8 bits           length of the server id
//! 24                    server id
//!     remaining octets  data of the vendor
//! ```
//!
//! The trigger is all that follows the digest. Password and nonce are those of the *server's*
//! credentials, so that nobody else can wake devices up.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::auth::{Secret, md5};
use crate::{
    crypto::equal_in_constant_time,
    wire::{Reader, WireError, Writer},
};

/// The media type where the transport has one.
pub const MEDIA_TYPE: &str = "application/vnd.syncml.notification";

/// The nonce of a server that does not know the nonce of a device.
///
/// # Source
///
/// OMA DM 1.2 Notification Initiated Session; the text does not define whether it means
/// characters or octets. These are the characters, as in libdmclient.
pub const FALLBACK_NONCE: &[u8] = b"0x00000000";

/// Octets of the digest.
const DIGEST_LENGTH: usize = 16;
/// Octets that a notification may have: one short message less the headers of its transport is
/// far below; UDP permits this.
const MAX_LENGTH: usize = 1024;
/// The only version there is: 1.1.
const VERSION: u64 = 11;

/// The visibility of the session to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserMode {
    /// The device decides.
    #[default]
    Unspecified,
    /// Nothing.
    Background,
    /// A notice.
    Informative,
    /// The user must confirm first.
    Interactive,
}

/// The initiator of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// The user, by way of the server.
    User,
    /// The server.
    Server,
}

/// The content of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Visibility of the session to the user.
    pub user_mode: UserMode,
    /// Initiator of the session.
    pub initiator: Initiator,
    /// The session that the device shall begin; not zero.
    pub session_id: u16,
    /// Identifier of the server.
    pub server_id: String,
    /// Data of the vendor.
    pub vendor: Vec<u8>,
}

/// A received notification, not authenticated before [`Received::is_from`] returns true.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    digest: [u8; DIGEST_LENGTH],
    trigger: Vec<u8>,
    notification: Notification,
}

impl fmt::Debug for Received {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notification.fmt(formatter)
    }
}

impl Received {
    /// Reads a notification.
    ///
    /// # Errors
    ///
    /// [`WireError`] names the field at fault.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        if octets.len() > MAX_LENGTH {
            let found = format!("{} octets long", octets.len());
            return Err(WireError::invalid("notification", found, "at most 1,024 octets"));
        }
        let mut reader = Reader::new(octets);
        let digest = reader.array("notification digest")?;
        let trigger = reader.clone().take_remaining().to_vec();
        Ok(Self { digest, trigger, notification: trigger_of(&mut reader)? })
    }

    /// Returns its content, which is not authenticated.
    #[must_use]
    pub const fn notification(&self) -> &Notification {
        &self.notification
    }

    /// Returns whether the holder of the server's secret sent it with this nonce.
    // spec: oma-dm 7 (digest of the notification)
    #[must_use]
    pub fn is_from(&self, secret: &Secret, nonce: &[u8]) -> bool {
        equal_in_constant_time(&self.digest, &digest(secret, nonce, &self.trigger))
    }
}

fn trigger_of(reader: &mut Reader<'_>) -> Result<Notification, WireError> {
    let bits = u64::try_from(reader.uint(5, "notification head")?).unwrap_or_default();
    let version = bits >> 30;
    if version != VERSION {
        return Err(WireError::Unexpected {
            field: "notification version",
            found: version,
            expected: "11, which is version 1.1",
        });
    }
    let user_mode = match bits >> 28 & 3 {
        0 => UserMode::Unspecified,
        1 => UserMode::Background,
        2 => UserMode::Informative,
        _ => UserMode::Interactive,
    };
    let initiator = if bits >> 27 & 1 == 0 { Initiator::User } else { Initiator::Server };
    let session_id = reader.u16("session id")?;
    if session_id == 0 {
        return Err(WireError::invalid("session id", 0, "a number other than zero"));
    }
    let length = usize::from(reader.u8("length of the server id")?);
    let server_id = std::str::from_utf8(reader.take(length, "server id")?)
        .map_err(|_| WireError::invalid("server id", "no UTF-8", "a text"))?
        .to_owned();
    let vendor = reader.take_remaining().to_vec();
    Ok(Notification { user_mode, initiator, session_id, server_id, vendor })
}

impl Notification {
    /// Writes the notification, proved with the server's secret and the device's nonce for it.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the session id is zero, the server id has more than 255 octets, or the
    /// whole is too long.
    pub fn emit(&self, secret: &Secret, nonce: &[u8]) -> Result<Vec<u8>, WireError> {
        let trigger = self.trigger()?;
        let mut out = digest(secret, nonce, &trigger).to_vec();
        out.extend(trigger);
        Ok(out)
    }

    // spec: oma-dm 7 (fields of the trigger)
    fn trigger(&self) -> Result<Vec<u8>, WireError> {
        let length = u8::try_from(self.server_id.len())
            .map_err(|_| WireError::invalid("server id", "longer", "at most 255 octets"))?;
        if self.session_id == 0 {
            return Err(WireError::invalid("session id", 0, "a number other than zero"));
        }
        if DIGEST_LENGTH + 8 + usize::from(length) + self.vendor.len() > MAX_LENGTH {
            return Err(WireError::invalid("notification", "longer", "at most 1,024 octets"));
        }
        let user_mode = match self.user_mode {
            UserMode::Unspecified => 0,
            UserMode::Background => 1,
            UserMode::Informative => 2,
            UserMode::Interactive => 3,
        };
        let initiator = match self.initiator {
            Initiator::User => 0,
            Initiator::Server => 1,
        };
        let bits: u64 = VERSION << 30 | user_mode << 28 | initiator << 27;
        let [_, _, _, head @ ..] = bits.to_be_bytes();
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.bytes(&head).u16(self.session_id).u8(length);
        writer.bytes(self.server_id.as_bytes()).bytes(&self.vendor);
        Ok(out)
    }
}

fn digest(secret: &Secret, nonce: &[u8], trigger: &[u8]) -> [u8; DIGEST_LENGTH] {
    let (secret, trigger) = (secret.octets(), md5(&[trigger]));
    let (secret, trigger) = (BASE64_STANDARD.encode(secret), BASE64_STANDARD.encode(trigger));
    md5(&[secret.as_bytes(), b":", nonce, b":", trigger.as_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The trigger of the specification's second appendix.
    const TRIGGER: &[u8] = b"\x02\xd0\x00\x00\x00\x12\x34\x12com.mgmtsrv.manage";
    const DIGEST: [u8; 16] = 0xcc08_9f3e_8f31_81d7_e691_780e_4039_cb14_u128.to_be_bytes();

    fn sample() -> Notification {
        Notification {
            user_mode: UserMode::Background,
            initiator: Initiator::User,
            session_id: 0x1234,
            server_id: "com.mgmtsrv.manage".to_owned(),
            vendor: Vec::new(),
        }
    }

    fn secret() -> Secret {
        Secret::new("com.mgmtsrv.manage", "srvpwd")
    }

    // test: oma-dm 7
    #[test]
    fn the_notification_of_the_specification_comes_out() {
        let octets = sample().emit(&secret(), b"nonce1").unwrap();
        assert_eq!(octets, [&DIGEST, TRIGGER].concat());
        let received = Received::parse(&octets).unwrap();
        assert_eq!(received.notification, sample());
        assert!(received.is_from(&secret(), b"nonce1"));
        assert!(!received.is_from(&secret(), FALLBACK_NONCE));
        assert!(!received.is_from(&Secret::new("com.mgmtsrv.manage", "x"), b"nonce1"));
    }

    // test: oma-dm 7
    #[test]
    fn any_changed_octet_breaks_the_digest_or_the_form() {
        let octets =
            Notification { vendor: b"x".to_vec(), ..sample() }.emit(&secret(), b"nonce1").unwrap();
        for place in 0..octets.len() {
            let mut changed = octets.clone();
            changed[place] ^= 1;
            if let Ok(received) = Received::parse(&changed) {
                assert!(!received.is_from(&secret(), b"nonce1"), "{place}");
            }
        }
        for length in 0..24 + 18 {
            assert!(Received::parse(&octets[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn other_versions_a_zero_session_and_long_ones_are_refused() {
        let with = |place: usize, octet: u8| {
            let mut octets = [&DIGEST, TRIGGER].concat();
            octets[place] = octet;
            Received::parse(&octets)
        };
        assert!(with(16, 3).is_err());
        assert!(with(21, 0).is_ok());
        let mut zero = [&DIGEST, TRIGGER].concat();
        zero[21..23].fill(0);
        assert!(Received::parse(&zero).is_err());
        assert!(Received::parse(&[&DIGEST, TRIGGER, &[0; 1024]].concat()).is_err());
        for wrong in [
            Notification { session_id: 0, ..sample() },
            Notification { server_id: "x".repeat(256), ..sample() },
            Notification { vendor: vec![0; 1024], ..sample() },
        ] {
            assert!(wrong.emit(&secret(), b"").is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            mode in prop::sample::select(vec![
                UserMode::Unspecified,
                UserMode::Background,
                UserMode::Informative,
                UserMode::Interactive,
            ]),
            by_server in any::<bool>(),
            session_id in 1_u16..,
            server_id in "[ -~]{0,255}",
            vendor in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let initiator = if by_server { Initiator::Server } else { Initiator::User };
            let sent = Notification { user_mode: mode, initiator, session_id, server_id, vendor };
            let octets = sent.emit(&secret(), b"n").unwrap();
            let received = Received::parse(&octets).unwrap();
            prop_assert!(received.is_from(&secret(), b"n"));
            prop_assert_eq!(received.notification, sent);
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            drop(Received::parse(&octets));
        }
    }
}
