//! The account as a management object, `DMAcc/1`. Its server may change its own address and the
//! device's password; an open DM session is not affected.

use proto::{
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

/// Characters of an address or a password.
const MAX_TEXT: usize = 512;
const ADDRESS: &str = "AppAddr/1/Addr";
const SECRET: &str = "AppAuth/1/AAuthSecret";

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
        let is_plain = self.0.url.starts_with("http://");
        url.starts_with("https://") || (is_plain && url.starts_with("http://"))
    }
}

impl ManagementObject for AccountObject {
    fn nodes(&self, device: &dyn ManagementBackend) -> Vec<(String, Leaf)> {
        let account = self.0.with(&device.account_change());
        let kind = account.auth.account_type();
        let read = |value: &str| Leaf::Read(Format::Chr, value.to_owned());
        let mut nodes = vec![
            ("AppID".to_owned(), read("w7")),
            ("ServerID".to_owned(), read(&account.server_id)),
            ("AAuthPref".to_owned(), read(kind)),
            (ADDRESS.to_owned(), Leaf::ReadWrite(Format::Chr, account.url.clone())),
            ("AppAddr/1/AddrType".to_owned(), read("URI")),
        ];
        let mut proofs = vec![("1", "CLCRED", account.user.as_str())];
        if account.server.is_some() {
            proofs.push(("2", "SRVCRED", &account.server_id));
        }
        for (number, level, name) in proofs {
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
        let Some(text) = item.data_text() else { return StatusCode::INCOMPLETE };
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
