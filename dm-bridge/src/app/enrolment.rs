//! The account that a device brings to its enrolment, in the place of one that is made for it.

use std::fmt;

use proto::{crypto::Digest, dm::auth::AuthKind};

use super::{AppError, PlainHttp, check_url};
use crate::fleet::device::SERVER_ID;

/// Characters of a name or a password.
const MAX_TEXT: usize = 512;
/// Characters of a password that is not weak: it withstands guessing from one recorded digest.
pub const MIN_PASSWORD: usize = 16;

/// Parses the SHA-256 of a certificate: 64 hex digits, as openssl prints them with colons or without.
///
/// # Errors
///
/// [`AppError::Usage`] when it is none.
pub fn parse_certificate(text: &str) -> Result<Digest, AppError> {
    let digits = text.replace(':', "").to_ascii_lowercase();
    Digest::from_hex(&digits).ok_or_else(|| {
        let text = "client certificate: expected its SHA-256, 64 hex digits";
        AppError::Usage(text.to_owned())
    })
}

/// The parts of an account that a device has already; the others are made.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OwnAccount {
    /// User name of the device; its id by default.
    pub user: Option<String>,
    /// Password of the device.
    pub password: Option<String>,
    /// Server id by which the device knows this server.
    pub server_id: Option<String>,
    /// Password of this server.
    pub server_password: Option<String>,
    /// Kind of proof of this server; that of the device by default.
    pub server_auth: Option<AuthKind>,
    /// SHA-256 of the client certificate that the device is tied to.
    pub certificate: Option<Digest>,
}

/// Leaves out names and passwords.
impl fmt::Debug for OwnAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OwnAccount")
            .field("server_auth", &self.server_auth)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl OwnAccount {
    /// Checks the texts, and the URL of the account for the kinds of proof.
    ///
    /// # Errors
    ///
    /// [`AppError::Usage`] names the text that is no name or password, [`AppError::Policy`] the URL
    /// over which a proof must not go.
    pub(super) fn check(&self, url: &str, auth: AuthKind) -> Result<(), AppError> {
        // They stand before a colon (basic) and between quotes (HMAC).
        let odd = |c: char| c.is_control() || ":\"".contains(c);
        check_text("user name", self.user.as_deref(), "printable, without : and \"", odd)?;
        // They stand in access control lists.
        let odd = |c: char| c.is_control() || c.is_whitespace() || "=&*+".contains(c);
        let expected = "printable, without space and = & * +";
        check_text("server id", self.server_id.as_deref(), expected, odd)?;
        let passwords = [("password", &self.password), ("server password", &self.server_password)];
        for (what, password) in passwords {
            check_text(what, password.as_deref(), "no control characters", char::is_control)?;
        }
        let server_auth = self.server_auth(auth);
        // The device decides whether it accepts a plain URL beyond its own machine.
        let plain_http = match (auth, server_auth) {
            // spec: security 7.2 (the password itself goes over TLS or stays on the machine)
            (AuthKind::Basic | AuthKind::Transport, _)
            | (_, AuthKind::Basic | AuthKind::Transport) => PlainHttp::LoopbackOnly,
            (AuthKind::Md5 | AuthKind::Mac, AuthKind::Md5 | AuthKind::Mac) => PlainHttp::Anywhere,
        };
        check_url(url, plain_http)?;
        let wants_tls = auth == AuthKind::Transport || self.certificate.is_some();
        if wants_tls && !url.to_ascii_lowercase().starts_with("https://") {
            let text = format!("{url} has no client certificates: give an https:// URL");
            return Err(AppError::Policy(text));
        }
        Ok(())
    }

    /// Returns the server id.
    pub(super) fn server_id(&self) -> &str {
        self.server_id.as_deref().unwrap_or(SERVER_ID)
    }

    /// Returns the kind of proof of this server.
    pub(super) fn server_auth(&self, auth: AuthKind) -> AuthKind {
        self.server_auth.unwrap_or(auth)
    }

    /// Returns a line for each weak password: it can be guessed from one digest that was recorded.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let passwords = [
            ("password of the device", &self.password),
            ("server password", &self.server_password),
        ];
        let weak = passwords.into_iter().filter_map(|(what, password)| {
            let length = password.as_ref()?.chars().count();
            (length < MIN_PASSWORD).then(|| {
                format!(
                    "weak {what}: {length} characters, expected {MIN_PASSWORD} or more; tie the \
                     device to a client certificate, or set another with `dm-bridge bootstrap`"
                )
            })
        });
        weak.collect()
    }
}

fn check_text(
    what: &'static str,
    text: Option<&str>,
    expected: &'static str,
    odd: impl Fn(char) -> bool,
) -> Result<(), AppError> {
    let Some(text) = text else { return Ok(()) };
    if !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(odd) {
        return Ok(());
    }
    Err(AppError::Usage(format!("{what}: expected 1 to {MAX_TEXT} octets, {expected}")))
}
