//! The account: its stored state, and its management object, `DMAcc/1`. Its server may change its
//! own address and the device's password; an open DM session is not affected.

use proto::{
    crypto::{Digest, sha256},
    dm::{
        code::{Format, StatusCode},
        nodes::device::ACCOUNT_IDENTIFIER,
        syncml::Item,
    },
    time::Now,
};

use super::{
    Account, AccountChange, ManagementBackend,
    tree::{
        management_object::{Leaf, ManagementObject},
        right::Right,
    },
};
use crate::{store::journal_state::JournalState, url::has_scheme};

/// Characters of an address or a password.
const MAX_TEXT: usize = 512;
const ADDRESS: &str = "AppAddr/1/Addr";
const SECRET: &str = "AppAuth/1/AAuthSecret";

/// Octets of the mark of an account.
const MARK_BYTES: usize = 16;

/// The account with the state that its DM sessions store: nonces, access control lists, and the
/// changes by its server. State of another account is never used.
#[derive(Debug, Clone)]
pub(crate) struct AccountState {
    given: Account,
    /// The nonce of the enrolment; used until the server sends another.
    first_nonce: Vec<u8>,
    /// The mark of the account that the journal names.
    mark: Vec<u8>,
    /// The nonce of the next credentials; empty until the server sends one.
    nonce: Vec<u8>,
    /// The nonce of the server's next credentials; empty while the enrolled one is valid.
    server_nonce: Vec<u8>,
    /// Access control lists of the management tree that a server has changed.
    access_lists: String,
    change: AccountChange,
}

impl AccountState {
    /// Restores the state of an account. Nonces, access control lists and changes of another
    /// account are removed; an earlier program wrote no mark.
    pub(crate) fn from_journal(given: Account, first_nonce: Vec<u8>, state: &JournalState) -> Self {
        let parts =
            [given.server_id.as_bytes(), b"\0", given.user.as_bytes(), b"\0", &*first_nonce];
        let mark: Vec<u8> = sha256(&parts).0.iter().copied().take(MARK_BYTES).collect();
        let is_same = state.account.is_empty() || state.account == mark;
        let mut account = Self {
            given,
            first_nonce,
            mark,
            nonce: Vec::new(),
            server_nonce: Vec::new(),
            access_lists: String::new(),
            change: AccountChange::default(),
        };
        if is_same {
            account.nonce.clone_from(&state.dm_nonce);
            account.server_nonce.clone_from(&state.dm_server_nonce);
            account.access_lists.clone_from(&state.access_lists);
            account.change.url.clone_from(&state.account_url);
            account.change.password.clone_from(&state.account_password);
        }
        account
    }

    /// Writes the state into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.account.clone_from(&self.mark);
        state.dm_nonce.clone_from(&self.nonce);
        state.dm_server_nonce.clone_from(&self.server_nonce);
        state.access_lists.clone_from(&self.access_lists);
        state.account_url.clone_from(&self.change.url);
        state.account_password.clone_from(&self.change.password);
    }

    /// Returns whether DM messages travel over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        has_scheme(&self.given.url, "https")
    }

    /// Returns the nonce of the next credentials.
    pub(crate) fn nonce(&self) -> &[u8] {
        if self.nonce.is_empty() { &self.first_nonce } else { &self.nonce }
    }

    /// Stores the nonce of the next credentials.
    pub(crate) fn store_nonce(&mut self, next: &[u8]) {
        self.nonce = next.to_vec();
    }

    /// Returns the nonce of the server's next credentials; empty when it has none.
    pub(crate) fn server_nonce(&self) -> &[u8] {
        let first = self.given.server.as_ref().map(|server| server.nonce.as_slice());
        let stored = Some(self.server_nonce.as_slice()).filter(|nonce| !nonce.is_empty());
        stored.or(first).unwrap_or_default()
    }

    /// Stores the nonce of the server's next credentials.
    pub(crate) fn store_server_nonce(&mut self, next: &[u8]) {
        self.server_nonce = next.to_vec();
    }

    /// Returns the stored access control lists, an opaque text.
    pub(crate) fn access_lists(&self) -> &str {
        &self.access_lists
    }

    /// Stores the access control lists.
    pub(crate) fn store_access_lists(&mut self, lists: &str) {
        lists.clone_into(&mut self.access_lists);
    }

    /// Returns the changes by the server.
    pub(crate) const fn change(&self) -> &AccountChange {
        &self.change
    }

    /// Stores the changes by the server; they apply from the next DM session on.
    pub(crate) fn store_change(&mut self, change: AccountChange) {
        tracing::info!("server changed the account for later DM sessions");
        self.change = change;
    }

    /// Returns fresh octets for a nonce.
    ///
    /// # Units
    ///
    /// `numbers` are the next two of the sequence that the seed of this run determines.
    pub(crate) fn fresh_nonce(&self, boot_id: &str, numbers: [u64; 2]) -> [u8; 16] {
        // Two numbers of the sequence never repeat; the secret keeps others from guessing them.
        let secret = self.given.secret.octets();
        let server = self.given.server.as_ref().map_or([0; 16], |server| server.secret.octets());
        let [first, second] = &numbers.map(u64::to_be_bytes);
        let Digest(hash) = sha256(&[b"nonce", &secret, &server, boot_id.as_bytes(), first, second]);
        let (nonce, _) = hash.split_first_chunk().expect("a hash is longer than a nonce");
        *nonce
    }
}

/// The management object; paths are those below `./DMAcc/1`.
#[derive(Debug, Clone)]
pub(super) struct AccountObject(Account);

impl AccountObject {
    pub(super) const fn new(given: Account) -> Self {
        Self(given)
    }

    fn change(&self, path: &str, text: &str) -> Result<AccountChange, StatusCode> {
        let fits = !text.is_empty() && text.len() <= MAX_TEXT;
        let is_plain = !text.chars().any(|c| c.is_control() || c == ' ');
        if !fits || !is_plain {
            return Err(StatusCode::BAD_REQUEST);
        }
        let text = Some(text.to_owned());
        match path {
            ADDRESS => Ok(AccountChange { url: text, ..AccountChange::default() }),
            SECRET => Ok(AccountChange { password: text, ..AccountChange::default() }),
            _ => Err(StatusCode::NOT_ALLOWED),
        }
    }

    /// Returns whether the server may move to a URL: not from TLS to plain HTTP.
    fn may_move_to(&self, url: &str) -> bool {
        let is_plain = has_scheme(&self.0.url, "http");
        has_scheme(url, "https") || (is_plain && has_scheme(url, "http"))
    }
}

impl ManagementObject for AccountObject {
    fn nodes(&self, device: &dyn ManagementBackend) -> Vec<(String, Leaf)> {
        let account = self.0.with(&device.account_change());
        let kind = account.auth.account_type();
        let server_kind = account.server.as_ref().map(|server| server.kind.account_type());
        let read = |value: &str| Leaf::Read(Format::Chr, value.to_owned());
        let mut nodes = vec![
            ("AppID".to_owned(), read("w7")),
            ("ServerID".to_owned(), read(&account.server_id)),
            ("AAuthPref".to_owned(), read(kind)),
            (ADDRESS.to_owned(), Leaf::ReadWrite(Format::Chr, account.url.clone())),
            ("AppAddr/1/AddrType".to_owned(), read("URI")),
        ];
        let mut proofs = vec![("1", "CLCRED", kind, account.user.as_str())];
        proofs.extend(server_kind.map(|kind| ("2", "SRVCRED", kind, account.server_id.as_str())));
        for (number, level, kind, name) in proofs {
            let at = |leaf: &str| format!("AppAuth/{number}/{leaf}");
            nodes.extend([
                (at("AAuthLevel"), read(level)),
                (at("AAuthType"), read(kind)),
                (at("AAuthName"), read(name)),
                (at("AAuthSecret"), Leaf::Secret),
                (at("AAuthData"), Leaf::Secret),
            ]);
        }
        nodes
    }

    fn identifier(&self, path: &str) -> &'static str {
        if path.is_empty() { ACCOUNT_IDENTIFIER } else { "" }
    }

    fn rights(&self) -> &'static [Right] {
        &[Right::Replace]
    }

    // spec: oma-dm 10.1 (address and secret are changed for later sessions)
    fn replace(
        &mut self,
        _now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        let Some(text) = item.decoded_text() else { return StatusCode::INCOMPLETE };
        let change = match self.change(path, text.trim()) {
            Ok(change) => change,
            Err(refusal) => return refusal,
        };
        if change.url.as_ref().is_some_and(|url| !self.may_move_to(url)) {
            return StatusCode::BAD_REQUEST;
        }
        let before = device.account_change();
        device.store_account_change(AccountChange {
            url: change.url.or(before.url),
            password: change.password.or(before.password),
        });
        StatusCode::OK
    }

    fn cannot_roll_back(&self, _device: &dyn ManagementBackend, _path: &str) -> bool {
        true
    }

    fn checkpoint(&mut self) -> Box<dyn ManagementObject> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::{
        auth::{AuthKind, Secret},
        encoding::Encoding,
    };

    use super::*;

    fn account(server: &str) -> Account {
        Account {
            url: "https://dm.example/".to_owned(),
            server_id: server.to_owned(),
            encoding: Encoding::Xml,
            auth: AuthKind::Md5,
            user: "LAB-0001".to_owned(),
            secret: Secret::new("LAB-0001", "password"),
            server: None,
        }
    }

    /// The journal's state of an earlier program, which wrote no mark.
    fn journal() -> JournalState {
        JournalState {
            dm_nonce: vec![1, 2, 3],
            dm_server_nonce: vec![4, 5, 6],
            access_lists: "./a Get=*\n".to_owned(),
            account_url: Some("https://moved.example/".to_owned()),
            account_password: Some("changed".to_owned()),
            ..JournalState::default()
        }
    }

    fn written(account: &AccountState) -> JournalState {
        let mut state = JournalState::default();
        account.write_journal(&mut state);
        state
    }

    #[test]
    fn the_state_of_an_account_is_read_as_it_was_written() {
        let stored = AccountState::from_journal(account("a"), b"1".to_vec(), &journal());
        let mark = stored.mark.clone();
        assert_eq!(written(&stored), JournalState { account: mark, ..journal() });
        let again = AccountState::from_journal(account("a"), b"1".to_vec(), &written(&stored));
        assert_eq!(written(&again), written(&stored));
    }

    #[test]
    fn another_account_begins_with_nonces_and_lists_of_its_own() {
        let left = |first: Option<(&str, &[u8])>, (server, nonce): (&str, &[u8])| {
            let enter = |state: &JournalState, (server, nonce): (&str, &[u8])| {
                AccountState::from_journal(account(server), nonce.to_vec(), state)
            };
            let stored = first.map_or_else(journal, |first| written(&enter(&journal(), first)));
            let account = enter(&stored, (server, nonce));
            [
                !account.nonce.is_empty(),
                !account.server_nonce.is_empty(),
                !account.access_lists.is_empty(),
                account.change.url.is_some(),
            ]
        };
        let (all, nothing) = ([true; 4], [false; 4]);
        assert_eq!(left(None, ("a", b"1")), all, "written by an earlier program");
        assert_eq!(left(Some(("a", b"1")), ("a", b"1")), all);
        assert_eq!(left(Some(("a", b"1")), ("b", b"1")), nothing);
        assert_eq!(left(Some(("a", b"1")), ("a", b"2")), nothing, "the same server, enrolled anew");
    }
}
