//! Account bootstrap: the documents that set the account of the device.
//!
//! | profile | document | authenticated by |
//! | --- | --- | --- |
//! | `cp` | a provisioning document (w7) as a push over WSP | the subscriber's number, a PIN, both, or a code made for the document |
//! | `dm` | a DM message that adds a `DMAcc` under `./Inbox` | the subscriber's number, a PIN, or both |
//! | `factory` | either document without a proof | the person who runs the program on the device |
//! | `smart-card` | the image of the card's file, [`card`] | the card |
//!
//! The account is stored in the data directory and takes precedence over the configuration; the
//! environment and flags take precedence over both. The card's account takes precedence over any
//! other stored one, and is removed with the card.

use std::fmt;

use proto::{
    base64_text,
    crypto::{Digest, sha256},
    dm::{
        auth::AuthKind,
        bootstrap::{
            DmBootstrap, Push, SecMethod, SharedSecrets,
            card::{Card, Confirmation},
            dmacc, prov, w7,
        },
        encoding::{Encoding, Limits},
        tnds::MgmtTree,
        ui::{Answer, Echo, Input, Options, Prompt, PromptKind},
    },
    wire::WireError,
};
use thiserror::Error;
use toml::{Table, Value};

use crate::url::is_http;

/// Characters of an address, a name or a password.
const MAX_TEXT: usize = 512;
/// Digits of a PIN or a code.
const MAX_PIN: usize = 20;
/// First octets of a short message with a user data header for the push port, before the
/// originating port.
const SHORT_MESSAGE: [u8; 5] = [0x06, 0x05, 0x04, 0x0b, 0x84];

proto::words! {
    /// Profile of a bootstrap document.
    pub enum Profile: "profile" {
        /// A provisioning document with its proof.
        Cp = "cp",
        /// A DM message with its proof.
        Dm = "dm",
        /// A document without a proof, from the manufacturer.
        Factory = "factory",
        /// The image of a card's file.
        SmartCard = "smart-card",
    }
}

impl Profile {
    /// Returns the profile of a document that was received over the air: `Cp` or `Dm`.
    #[must_use]
    pub fn of_push(octets: &[u8]) -> Self {
        if DmBootstrap::parse(octets).is_ok() { Self::Dm } else { Self::Cp }
    }
}

/// Error in a bootstrap document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootstrapError {
    /// It is not a document of this profile.
    #[error("not a bootstrap document of the profile {profile}: {source}")]
    Unreadable {
        /// The profile.
        profile: Profile,
        /// The cause.
        source: WireError,
    },
    /// The proof cannot be verified without this secret.
    #[error("{0} is needed to verify the proof")]
    Missing(&'static str),
    /// The profile does not define this kind of proof.
    #[error("the proof is of an unknown kind")]
    UnknownProof,
    /// The proof is wrong.
    #[error("document rejected: its proof does not match {0}")]
    NotProved(&'static str),
    /// The account in it is unusable.
    #[error("unusable account: {0}")]
    Unusable(&'static str),
}

/// The content of an authenticated bootstrap document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapProposal {
    /// Kind of a bootstrap document.
    pub profile: Profile,
    /// The account.
    pub account: Account,
    /// The user's confirmation that the account requires.
    pub confirmation: Confirmation,
    /// Number of the card that holds it.
    pub card: Option<String>,
    /// SHA-256 of the document.
    pub document: Digest,
}

/// Address of a server, and the credentials of both sides.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// URL of DM messages.
    pub url: String,
    /// The server's identifier.
    pub server_id: String,
    /// Authentication type of the device.
    pub auth: AuthKind,
    /// Authentication type of the server.
    pub server_auth: AuthKind,
    /// User name of the device.
    pub user: String,
    password: String,
    nonce: Vec<u8>,
    /// Password of the server, and the nonce of its first credentials.
    server: Option<(String, Vec<u8>)>,
}

/// Shows the server alone.
impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, server_id, .. } = self;
        write!(formatter, "Account {{ {server_id} at {url} }}")
    }
}

impl BootstrapProposal {
    /// Parses a document, verifies its proof, and checks the account in it.
    ///
    /// # Errors
    ///
    /// [`BootstrapError`]; nothing of the document is used then.
    // spec: oma-dm 9.3 (no account without a proof)
    pub fn open(
        profile: Profile,
        octets: &[u8],
        secrets: &SharedSecrets,
    ) -> Result<Self, BootstrapError> {
        let unreadable = |source| BootstrapError::Unreadable { profile, source };
        let mut confirmation = Confirmation::NotWanted;
        let mut card = None;
        let found = match profile {
            Profile::Cp => cp(octets, secrets)?,
            Profile::Dm => {
                let bootstrap = DmBootstrap::parse(octets).map_err(unreadable)?;
                prove(bootstrap.method(), bootstrap.is_proved(secrets))?;
                bootstrap.account().map_err(unreadable)?
            }
            Profile::Factory => factory(octets).map_err(unreadable)?,
            Profile::SmartCard => {
                let read = Card::parse(octets).map_err(unreadable)?;
                confirmation = read.confirmation;
                card = Some(read.number);
                read.account
            }
        };
        let account = Account::from_document(&found)?;
        Ok(Self { profile, account, confirmation, card, document: sha256(&[octets]) })
    }

    /// Returns whether the proof of a pushed document requires a PIN or a code from the user.
    #[must_use]
    pub fn wants_pin(octets: &[u8]) -> bool {
        let method = match Profile::of_push(octets) {
            Profile::Dm => DmBootstrap::parse(octets).ok().and_then(|it| it.method()),
            Profile::Cp | Profile::Factory | Profile::SmartCard => {
                Push::parse(from_sms(octets)).ok().and_then(|it| it.method())
            }
        };
        method.is_some_and(SecMethod::wants_pin)
    }

    /// Returns the stored form: the sections of the configuration that it replaces, and its origin.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |value: &str| Value::String(value.to_owned());
        let mut origin = Table::new();
        origin.insert("profile".to_owned(), text(self.profile.as_str()));
        origin.insert("document".to_owned(), text(&self.document.to_string()));
        if let Some(number) = &self.card {
            origin.insert("card".to_owned(), text(number));
        }
        let account = &self.account;
        let mut server = Table::new();
        let mut set = |name: &str, value: &str| server.insert(name.to_owned(), text(value));
        set("url", &account.url);
        set("server_id", &account.server_id);
        set("auth", account.auth.as_str());
        set("server_auth", account.server_auth.as_str());
        set("user", &account.user);
        set("password", &account.password);
        set("nonce", &base64_text::encode(&account.nonce));
        if let Some((password, nonce)) = &account.server {
            set("server_password", password);
            set("server_nonce", &base64_text::encode(nonce));
        }
        let mut whole = Table::new();
        whole.insert("origin".to_owned(), Value::Table(origin));
        whole.insert("server".to_owned(), Value::Table(server));
        format!(
            "# Written by `receiver bootstrap`: the account that the device was given.\n{whole}"
        )
    }

    /// Returns the prompt that precedes the use of a card's account.
    #[must_use]
    pub fn question(&self) -> Prompt {
        let Account { url, server_id, .. } = &self.account;
        Prompt::confirm(format!(
            "The card brings an account: this device would be managed by {server_id} at {url}. Use it?"
        ))
    }
}

impl Account {
    /// Returns the usable part of an account.
    fn from_document(found: &w7::Account) -> Result<Self, BootstrapError> {
        let lacks = BootstrapError::Unusable;
        let url = found.addresses.iter().find_map(address);
        let url = url.ok_or(lacks("no address with https:// or http://"))?;
        let at =
            |level: &str| found.credentials.iter().find(|it| it.level.as_deref() == Some(level));
        let own = at("APPSRV").ok_or(lacks("no credentials of the device"))?;
        let auth = auth_kind(own)?.unwrap_or_default();
        let user = own.name.clone().ok_or(lacks("no user name of the device"))?;
        let password = match auth {
            // Nothing of it is sent.
            AuthKind::Transport => own.secret.clone().unwrap_or_default(),
            AuthKind::Basic | AuthKind::Md5 | AuthKind::Mac => {
                own.secret.clone().filter(|it| !it.is_empty()).ok_or(lacks("no password"))?
            }
        };
        let theirs = at("CLIENT");
        let server_auth = theirs.map(auth_kind).transpose()?.flatten().unwrap_or(auth);
        let server = match theirs.and_then(|it| Some((it.secret.clone()?, it))) {
            None => None,
            Some((secret, it)) => Some((secret, nonce(it)?)),
        };
        let odd = |text: &String| text.len() > MAX_TEXT || text.chars().any(char::is_control);
        let names = [&found.server_id, &user];
        if odd(&password) || names.into_iter().any(|text| odd(text) || text.is_empty()) {
            return Err(lacks("a name or a password is empty, too long or not plain text"));
        }
        Ok(Self {
            url,
            server_id: found.server_id.clone(),
            auth,
            server_auth,
            user,
            password,
            nonce: nonce(own)?,
            server,
        })
    }
}

/// Returns the authentication type of credentials; `None` when they name none.
fn auth_kind(found: &w7::Credentials) -> Result<Option<AuthKind>, BootstrapError> {
    let unknown = "the authentication type is none of BASIC, DIGEST, HMAC, TRANSPORT";
    let read = |kind| AuthKind::from_account_type(kind).ok_or(BootstrapError::Unusable(unknown));
    found.kind.as_deref().map(read).transpose()
}

/// Returns the URL of an address, with its separate port, if any.
fn address(found: &w7::Address) -> Option<String> {
    let url = found.address.trim();
    let (scheme, after) = url.split_once("://")?;
    let plain = url.len() <= MAX_TEXT && url.chars().all(|c| c.is_ascii_graphic());
    if !is_http(url) || !plain || after.is_empty() {
        return None;
    }
    let (host, path) = after.find('/').map_or((after, ""), |at| after.split_at(at));
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    match found.ports.first().and_then(|port| port.parse::<u16>().ok()) {
        Some(port) if !has_port => Some(format!("{scheme}://{host}:{port}{path}")),
        Some(_) | None => Some(url.to_owned()),
    }
}

fn nonce(credentials: &w7::Credentials) -> Result<Vec<u8>, BootstrapError> {
    let data = credentials.data.as_deref().unwrap_or_default().trim();
    let odd = |_| BootstrapError::Unusable("a nonce is not base64");
    base64_text::decode(data).map_err(odd)
}

fn cp(octets: &[u8], secrets: &SharedSecrets) -> Result<w7::Account, BootstrapError> {
    let unreadable = |source| BootstrapError::Unreadable { profile: Profile::Cp, source };
    let push = Push::parse(from_sms(octets)).map_err(unreadable)?;
    prove(push.method(), push.is_proved(secrets))?;
    provisioned(push.document()).map_err(unreadable)
}

fn provisioned(document: &[u8]) -> Result<w7::Account, WireError> {
    w7::Account::find(&prov::parse(document)?)
}

/// Parses a provisioning document, a tree document in either encoding, or a message that adds one.
fn factory(octets: &[u8]) -> Result<w7::Account, WireError> {
    let encoding =
        if octets.trim_ascii_start().starts_with(b"<") { Encoding::Xml } else { Encoding::Wbxml };
    match MgmtTree::parse(octets, encoding, &Limits::default()) {
        Ok(tree) => dmacc::from_tree(&tree),
        Err(_) => match DmBootstrap::parse(octets) {
            Ok(message) => message.account(),
            Err(_) => provisioned(octets)
                .or_else(|error| DmBootstrap::unproved(octets).account().map_err(|_| error)),
        },
    }
}

fn prove(
    method: Option<SecMethod>,
    is_proved: Result<bool, &'static str>,
) -> Result<(), BootstrapError> {
    let method = method.ok_or(BootstrapError::UnknownProof)?;
    if is_proved.map_err(BootstrapError::Missing)? {
        return Ok(());
    }
    Err(BootstrapError::NotProved(match method {
        SecMethod::Network => "the subscriber's number",
        SecMethod::Pin => "the PIN",
        SecMethod::UserCode => "the user's code",
        SecMethod::NetworkAndPin => "the subscriber's number and the PIN",
    }))
}

/// Returns the push in a short message.
fn from_sms(octets: &[u8]) -> &[u8] {
    match octets.strip_prefix(&SHORT_MESSAGE) {
        Some([_, _, push @ ..]) => push,
        Some(_) | None => octets,
    }
}

/// Action on the account of the card before the agent starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardAction {
    /// The account is up to date, or there is neither a card nor an account of one.
    Nothing,
    /// The card was removed: remove its account.
    Remove,
    /// Store the account, after the user's confirmation if the card requires one.
    Replace(Box<BootstrapProposal>),
}

/// Compares the inserted card with the origin of the stored account.
// spec: oma-003 6.1.4.1, oma-003 6.1.4.2 (the card decides whether the user confirms)
#[must_use]
pub fn card_action(inserted: Option<BootstrapProposal>, stored: Option<&Origin>) -> CardAction {
    match (inserted, stored) {
        (None, None) => CardAction::Nothing,
        (None, Some(_)) => CardAction::Remove,
        (Some(proposal), Some(stored)) if stored.document == proposal.document.to_string() => {
            CardAction::Nothing
        }
        (Some(proposal), _) => CardAction::Replace(Box::new(proposal)),
    }
}

/// Origin of a stored account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Number of the card, if any.
    pub card: Option<String>,
    /// SHA-256 of the document, in hex.
    pub document: String,
}

impl Origin {
    /// Parses the output of [`BootstrapProposal::to_toml`].
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let table: Table = text.parse().ok()?;
        let origin = table.get("origin")?.as_table()?;
        let text = |name: &str| origin.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { card: text("card"), document: text("document")? })
    }
}

/// Returns the prompt for the PIN or the code of a pushed document.
#[must_use]
pub fn pin_question(attempt: u32) -> Prompt {
    let again = if attempt == 0 { "" } else { "That was not it. " };
    Prompt {
        kind: PromptKind::TextInput,
        text: format!(
            "{again}This device is being set up. Enter the PIN or code that you were given:"
        ),
        choices: Vec::new(),
        options: Options {
            max_length: Some(MAX_PIN),
            input: Input::Number,
            echo: Echo::Hidden,
            ..Options::default()
        },
    }
}

/// Returns the PIN in an answer.
#[must_use]
pub fn pin_of(answer: Answer) -> Option<String> {
    match answer {
        Answer::Text(pin) => Some(pin.trim().to_owned()).filter(|pin| !pin.is_empty()),
        Answer::Shown
        | Answer::Yes
        | Answer::No
        | Answer::Chosen(_)
        | Answer::Cancelled
        | Answer::TimedOut
        | Answer::NotDisplayable
        | Answer::NoUser => None,
    }
}

#[cfg(test)]
mod tests;
