//! The account of a DM server in a provisioning document: APPLICATION w7.

use super::prov::Characteristic;
use crate::wire::WireError;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The server's identifier (`PROVIDER-ID`), which becomes `ServerID`.
    pub server_id: String,
    /// A name for people.
    pub name: Option<String>,
    /// Set when the device begins a session at once (`INIT`).
    pub begin: bool,
    /// Proxies to go through.
    pub proxies: Vec<String>,
    /// Network accesses to use.
    pub accesses: Vec<String>,
    /// Addresses of the server.
    pub addresses: Vec<Address>,
    /// Credentials of both sides.
    pub credentials: Vec<Credentials>,
}

/// An address of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// The address, usually a URI.
    pub address: String,
    /// Type of the address.
    pub kind: Option<String>,
    /// Ports.
    pub ports: Vec<String>,
}

/// The credentials of one side.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// `APPSRV`: the device authenticates to the server; `CLIENT`: the other way round.
    pub level: Option<String>,
    /// `BASIC`, `DIGEST` or `HMAC`, among others.
    pub kind: Option<String>,
    /// User name.
    pub name: Option<String>,
    /// Password.
    pub secret: Option<String>,
    /// The first nonce, in base64.
    pub data: Option<String>,
}

/// Shows level and kind.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("level", &self.level)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Returns the value of `AAuthLevel` in `DMAcc` that the level maps to.
    // spec: oma-dm 9.2 (levels)
    #[must_use]
    pub fn account_level(&self) -> Option<&'static str> {
        match self.level.as_deref() {
            Some("APPSRV") => Some("CLCRED"),
            Some("CLIENT") => Some("SRVCRED"),
            Some("OBEX") => Some("OBEX"),
            Some(_) | None => None,
        }
    }
}

impl Account {
    /// Reads the first whole account of a document.
    ///
    /// # Errors
    ///
    /// [`WireError`] when there is none, or none that has a server and an address.
    pub fn find(document: &[Characteristic]) -> Result<Self, WireError> {
        let is_w7 = |it: &&Characteristic| {
            it.kind == "APPLICATION" && one(it, "APPID").as_deref() == Some("w7")
        };
        let mut refusal = lacks("no APPLICATION w7");
        for found in document.iter().filter(is_w7) {
            match Self::of_application(found) {
                Ok(account) => return Ok(account),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn of_application(found: &Characteristic) -> Result<Self, WireError> {
        let inside = |kind: &'static str| found.children.iter().filter(move |it| it.kind == kind);
        let mut addresses: Vec<Address> = inside("APPADDR")
            .filter_map(|it| {
                let ports = it.children.iter().filter(|it| it.kind == "PORT");
                Some(Address {
                    address: one(it, "ADDR")?,
                    kind: one(it, "ADDRTYPE"),
                    ports: ports.filter_map(|it| one(it, "PORTNBR")).collect(),
                })
            })
            .collect();
        if addresses.is_empty() {
            let plain = all(found, "ADDR").map(|address| Address { address, ..Address::default() });
            addresses = plain.collect();
        }
        if addresses.is_empty() {
            return Err(lacks("no address"));
        }
        let credentials = inside("APPAUTH").map(|it| Credentials {
            level: one(it, "AAUTHLEVEL"),
            kind: one(it, "AAUTHTYPE"),
            name: one(it, "AAUTHNAME"),
            secret: one(it, "AAUTHSECRET"),
            data: one(it, "AAUTHDATA"),
        });
        Ok(Self {
            server_id: one(found, "PROVIDER-ID").ok_or_else(|| lacks("no PROVIDER-ID"))?,
            name: one(found, "NAME"),
            begin: found.parameters.iter().any(|(name, _)| name == "INIT"),
            proxies: all(found, "TO-PROXY").collect(),
            accesses: all(found, "TO-NAPID").collect(),
            addresses,
            credentials: credentials.collect(),
        })
    }

    /// Returns the account as a characteristic.
    // spec: oma-dm 9.2 (parameters of w7)
    #[must_use]
    pub fn to_characteristic(&self) -> Characteristic {
        let mut parameters = vec![pair("APPID", "w7"), pair("PROVIDER-ID", &self.server_id)];
        parameters.extend(self.name.as_deref().map(|name| pair("NAME", name)));
        parameters.extend(self.proxies.iter().map(|proxy| pair("TO-PROXY", proxy)));
        parameters.extend(self.accesses.iter().map(|access| pair("TO-NAPID", access)));
        if self.begin {
            parameters.push(("INIT".to_owned(), None));
        }
        let addresses = self.addresses.iter().map(|address| {
            let mut parameters = vec![pair("ADDR", &address.address)];
            parameters.extend(address.kind.as_deref().map(|kind| pair("ADDRTYPE", kind)));
            let ports = address.ports.iter().map(|port| Characteristic {
                kind: "PORT".to_owned(),
                parameters: vec![pair("PORTNBR", port)],
                children: Vec::new(),
            });
            Characteristic { kind: "APPADDR".to_owned(), parameters, children: ports.collect() }
        });
        let credentials = self.credentials.iter().map(|it| {
            let parts = [
                ("AAUTHLEVEL", &it.level),
                ("AAUTHTYPE", &it.kind),
                ("AAUTHNAME", &it.name),
                ("AAUTHSECRET", &it.secret),
                ("AAUTHDATA", &it.data),
            ];
            let said =
                parts.into_iter().filter_map(|(name, value)| Some(pair(name, value.as_ref()?)));
            Characteristic {
                kind: "APPAUTH".to_owned(),
                parameters: said.collect(),
                children: Vec::new(),
            }
        });
        let children = addresses.chain(credentials).collect();
        Characteristic { kind: "APPLICATION".to_owned(), parameters, children }
    }
}

fn lacks(what: &'static str) -> WireError {
    WireError::invalid("account", what, "a whole w7")
}

fn pair(name: &str, value: &str) -> (String, Option<String>) {
    (name.to_owned(), Some(value.to_owned()))
}

fn all(group: &Characteristic, name: &'static str) -> impl Iterator<Item = String> {
    let named = group.parameters.iter().filter(move |(found, _)| found == name);
    named.filter_map(|(_, value)| value.clone())
}

fn one(group: &Characteristic, name: &'static str) -> Option<String> {
    all(group, name).next()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dm::bootstrap::prov;

    /// An account with something in each of its fields.
    pub(in super::super) fn account() -> Account {
        Account {
            server_id: "fumocast".to_owned(),
            name: Some("Lab".to_owned()),
            begin: true,
            proxies: vec!["proxy".to_owned()],
            accesses: vec!["INTERNET".to_owned()],
            addresses: vec![Address {
                address: "https://dm.example/dm".to_owned(),
                kind: Some("URI".to_owned()),
                ports: vec!["443".to_owned()],
            }],
            credentials: vec![
                Credentials {
                    level: Some("APPSRV".to_owned()),
                    kind: Some("DIGEST".to_owned()),
                    name: Some("LAB-0001".to_owned()),
                    secret: Some("secret".to_owned()),
                    data: Some("bm9uY2U=".to_owned()),
                },
                Credentials { level: Some("CLIENT".to_owned()), ..Credentials::default() },
            ],
        }
    }

    // test: oma-dm 9.2
    #[test]
    fn an_account_survives_its_document() {
        let octets = prov::emit(&[account().to_characteristic()]);
        let read = Account::find(&prov::parse(&octets).unwrap()).unwrap();
        assert_eq!(read, account());
        let levels: Vec<_> = read.credentials.iter().map(Credentials::account_level).collect();
        assert_eq!(levels, [Some("CLCRED"), Some("SRVCRED")]);
    }

    // test: oma-dm 9.2
    #[test]
    fn an_account_needs_a_server_and_an_address() {
        let whole = account().to_characteristic();
        let without = |name: &str| {
            let mut found = whole.clone();
            found.parameters.retain(|(it, _)| it != name);
            Account::find(&[found])
        };
        assert!(without("PROVIDER-ID").is_err() && without("APPID").is_err());
        assert!(without("NAME").is_ok());
        let mut plain = whole.clone();
        plain.children.clear();
        assert!(Account::find(std::slice::from_ref(&plain)).is_err());
        plain.parameters.push(pair("ADDR", "https://dm.example/dm"));
        assert_eq!(Account::find(&[plain]).unwrap().addresses[0].kind, None);
        assert!(Account::find(&[]).is_err());
        // One that is not whole does not hide another.
        let mut odd = whole.clone();
        odd.children.clear();
        assert_eq!(Account::find(&[odd, whole]), Ok(account()));
    }

    #[test]
    fn the_debug_form_hides_names_and_passwords() {
        let shown = format!("{:?}", account());
        assert!(!shown.contains("secret\"") && !shown.contains("LAB-0001"), "{shown}");
    }
}
