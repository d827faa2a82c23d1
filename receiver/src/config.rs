//! The configuration of a device: file, environment and flags, each overriding the one before.
//!
//! `dm-bridge device enrol` prints the sections `device`, `server` and `fumo`; the integrator
//! writes `receiver`. The variable `FUMOCAST_SERVER_URL` overrides the field `server.url`. The
//! account from a bootstrap document (see [`bootstrap`](crate::bootstrap)) replaces the one in the
//! file. This module does no I/O: the caller supplies the texts.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    dm::{auth::AuthKind, encoding::Encoding},
    ids::{ClassId, DeviceId, VendorId},
};
use thiserror::Error;
use toml::{Table, Value};

use crate::{components::InventoryAccess, user};

/// Configuration of a device.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[device]`
    pub device: Device,
    /// `[server]`
    pub server: Server,
    /// `fumo.object`: address of the FUMO object, `./FwUpdate/Main` by default.
    pub fumo_object: String,
    /// `[receiver]`
    pub receiver: Receiver,
}

/// Identity of the device.
#[derive(Debug, Clone)]
pub struct Device {
    /// `device.id`
    pub id: DeviceId,
    /// `device.manufacturer`
    pub manufacturer: String,
    /// `device.model`
    pub model: String,
    /// `device.vendor_id`
    pub vendor: VendorId,
    /// `device.class_id`
    pub class: ClassId,
}

/// The management server, and the credentials of both sides.
#[derive(Debug, Clone)]
pub struct Server {
    /// `server.url`
    pub url: String,
    /// `server.server_id`
    pub server_id: String,
    /// `server.encoding`: encoding of DM messages, `xml` (by default) or `wbxml`.
    pub encoding: Encoding,
    /// `server.auth`: authentication type of the device, `basic`, `md5` (by default), `hmac` or
    /// `transport`: its TLS certificate alone.
    pub auth: AuthKind,
    /// `server.server_auth`: authentication type of the server; by default that of the device.
    pub server_auth: AuthKind,
    /// `server.user`
    pub user: String,
    /// `server.password`
    pub password: Password,
    /// `server.nonce`: nonce of the first message to the server.
    pub nonce: Vec<u8>,
    /// `server.server_password` and `server.server_nonce`: credentials of the server.
    pub server_proof: Option<(Password, Vec<u8>)>,
    /// `server.ca`: CA certificates for TLS, a PEM file; the well-known ones by default.
    pub ca: Option<PathBuf>,
    /// `server.certificate` and `server.key`: client certificate for TLS, PEM files.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `server.insecure_http`: set to allow plain HTTP to other hosts; no by default.
    pub insecure_http: bool,
}

/// Settings of the integrator.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// `receiver.data`: the data directory.
    pub data: PathBuf,
    /// `receiver.trust_root`: the envelope of the factory root.
    pub trust_root: PathBuf,
    /// `receiver.interface`: address of the interface that joins groups.
    pub interface: Ipv4Addr,
    /// `receiver.installer_hook`: the installer hook and its leading arguments.
    pub installer_hook: Vec<String>,
    /// `receiver.notification_udp`: address and port for notifications; none by default.
    pub notification_udp: Option<SocketAddr>,
    /// `receiver.notification_http`: address and port for notifications by HTTP POST; none by
    /// default.
    pub notification_http: Option<SocketAddr>,
    /// `receiver.poll_interval_seconds`: time between DM sessions without another reason; an hour
    /// by default.
    pub poll_interval: Duration,
    /// `receiver.sysfs_root`: the folder that holds `sys` and `proc`; `/` by default.
    pub sysfs_root: PathBuf,
    /// `receiver.sensor_poll_seconds`: time between two sensor readings; 5 by default.
    pub sensor_poll_interval: Duration,
    /// `receiver.link_interface`: the interface whose link is watched; any but the loopback by
    /// default.
    pub link_interface: Option<String>,
    /// `receiver.max_block_symbols`: largest RaptorQ block; 8,192 by default.
    pub max_block_symbols: u32,
    /// `receiver.max_memory_bytes`: memory of the decoder; 128 MiB by default.
    pub max_memory_bytes: u64,
    /// `receiver.user_interface`, `receiver.auto_answer`, `receiver.consent`,
    /// `receiver.prompt_retry_seconds`: the user's prompts.
    pub user: user::Settings,
    /// `receiver.components`: the server's access to the software inventory: `none` (by default),
    /// `ask` the user first, or `granted`.
    pub components: InventoryAccess,
    /// `receiver.user_hook`: the command that prompts the user, with its arguments.
    pub user_hook: Option<Vec<String>>,
    /// `receiver.max_storage_bytes`: disk space of one reception; 4 GiB by default.
    pub max_storage_bytes: u64,
    /// `receiver.imsi`: the subscriber's number, the key of bootstrap documents; none by default.
    pub imsi: Option<Password>,
    /// `receiver.smart_card_image`: the image of the smart card's bootstrap file, read at each
    /// start; none by default.
    pub smart_card_image: Option<PathBuf>,
    /// `receiver.package_hosts`: hosts that packages may come from although they are the device
    /// itself or on its link; none by default.
    pub package_hosts: Vec<String>,
}

/// Every field that a configuration may have, by section.
const FIELDS: [(&str, &[&str]); 4] = [
    ("device", &["id", "manufacturer", "model", "vendor_id", "class_id"]),
    (
        "server",
        &[
            "url",
            "server_id",
            "encoding",
            "auth",
            "server_auth",
            "user",
            "password",
            "nonce",
            "server_password",
            "server_nonce",
            "ca",
            "certificate",
            "key",
            "insecure_http",
        ],
    ),
    ("fumo", &["object"]),
    (
        "receiver",
        &[
            "data",
            "trust_root",
            "interface",
            "installer_hook",
            "notification_udp",
            "notification_http",
            "poll_interval_seconds",
            "sysfs_root",
            "sensor_poll_seconds",
            "link_interface",
            "max_block_symbols",
            "max_memory_bytes",
            "max_storage_bytes",
            "user_interface",
            "user_hook",
            "auto_answer",
            "consent",
            "prompt_retry_seconds",
            "components",
            "imsi",
            "smart_card_image",
            "package_hosts",
        ],
    ),
];

/// A secret that is left out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Returns the secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

/// Error in a configuration. Names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("the configuration is not TOML: {0}")]
    Toml(String),
    /// A field has no value.
    #[error("`{field}` is missing; set it in the file, or as {variable}")]
    Missing {
        /// The field.
        field: &'static str,
        /// The variable that could set it.
        variable: String,
    },
    /// A field has an invalid value.
    #[error("invalid `{field}`: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The problem.
        problem: String,
    },
    /// The file has an unknown field or section.
    #[error("unknown `{field}`; expected one of {expected}")]
    Unknown {
        /// The field or section.
        field: String,
        /// The known ones, separated by commas.
        expected: String,
    },
    /// The file has a field that another field makes meaningless.
    #[error("`{0}` has no effect here; remove it")]
    Unused(String),
}

impl Config {
    /// Resolves the configuration from the file's text, the environment and the flags. `accounts`
    /// are the texts of the accounts from bootstrap documents, the last of which counts.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the field.
    pub fn resolve(
        file: &str,
        accounts: &[String],
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let mut table = parse(file)?;
        check_names(&table)?;
        for account in accounts {
            replace_account(&mut table, &parse(account)?);
        }
        let mut fields = Fields { table, environment, flags };
        let config = Self {
            device: Device::read(&mut fields)?,
            server: Server::read(&mut fields)?,
            fumo_object: fields.text_or("fumo.object", "./FwUpdate/Main")?,
            receiver: Receiver::read(&mut fields)?,
        };
        fields.finish()?;
        Ok(config)
    }
}

fn parse(text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Toml(e.to_string()))
}

/// Replaces the account as a whole: no field of the former one remains.
fn replace_account(table: &mut Table, account: &Table) {
    let Some(given) = account.get("server").and_then(Value::as_table) else { return };
    let server = table.entry("server").or_insert_with(|| Value::Table(Table::new()));
    let Some(server) = server.as_table_mut() else { return };
    for field in ACCOUNT {
        server.remove(field);
        if let Some(value) = given.get(field) {
            server.insert(field.to_owned(), value.clone());
        }
    }
}

/// The fields of `[server]` that belong to an account.
const ACCOUNT: [&str; 9] = [
    "url",
    "server_id",
    "auth",
    "server_auth",
    "user",
    "password",
    "nonce",
    "server_password",
    "server_nonce",
];

impl Device {
    fn read<E: Fn(&str) -> Option<String>>(
        fields: &mut Fields<'_, E>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            id: fields.parsed("device.id")?,
            manufacturer: fields.text("device.manufacturer")?,
            model: fields.text("device.model")?,
            vendor: fields.parsed("device.vendor_id")?,
            class: fields.parsed("device.class_id")?,
        })
    }
}

impl Server {
    fn read<E: Fn(&str) -> Option<String>>(
        fields: &mut Fields<'_, E>,
    ) -> Result<Self, ConfigError> {
        // First: the missing field that means that there is no account.
        let url = fields.text("server.url")?;
        let auth = fields.parsed_or("server.auth", "md5")?;
        let secret = |fields: &mut Fields<'_, E>, name| match auth {
            // Nothing of it is sent.
            AuthKind::Transport => Ok(fields.find(name)?.unwrap_or_default()),
            AuthKind::Basic | AuthKind::Md5 | AuthKind::Mac => fields.text(name),
        };
        Ok(Self {
            url,
            server_id: fields.text("server.server_id")?,
            encoding: fields.parsed_or("server.encoding", "xml")?,
            auth,
            server_auth: fields.parsed_or("server.server_auth", auth.as_str())?,
            user: fields.text("server.user")?,
            password: Password(secret(fields, "server.password")?),
            nonce: BASE64_STANDARD
                .decode(secret(fields, "server.nonce")?)
                .map_err(|_| invalid("server.nonce", "expected base64"))?,
            ca: fields.find("server.ca")?.map(PathBuf::from),
            certificate: match fields.find("server.certificate")? {
                None => None,
                Some(file) => Some((file.into(), fields.text("server.key")?.into())),
            },
            server_proof: match fields.find("server.server_password")? {
                None => None,
                Some(password) => {
                    let nonce = BASE64_STANDARD
                        .decode(fields.text("server.server_nonce")?)
                        .map_err(|_| invalid("server.server_nonce", "expected base64"))?;
                    Some((Password(password), nonce))
                }
            },
            insecure_http: fields.parsed_or("server.insecure_http", "false")?,
        })
    }
}

impl Receiver {
    /// Resolves `[receiver]` alone, for a device without an account.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the field.
    pub fn resolve(
        file: &str,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let table = parse(file)?;
        check_names(&table)?;
        Self::read(&mut Fields { table, environment, flags })
    }

    /// Resolves `receiver.data` alone; `None` when it is missing or invalid.
    #[must_use]
    pub fn data_of(
        file: &str,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Option<PathBuf> {
        let mut fields = Fields { table: parse(file).ok()?, environment, flags };
        fields.find("receiver.data").ok().flatten().map(PathBuf::from)
    }

    fn read<E: Fn(&str) -> Option<String>>(
        fields: &mut Fields<'_, E>,
    ) -> Result<Self, ConfigError> {
        let max_block_symbols = fields.parsed_or("receiver.max_block_symbols", "8192")?;
        if !(1..=MAX_BLOCK_SYMBOLS).contains(&max_block_symbols) {
            let problem = format!("expected 1 to {MAX_BLOCK_SYMBOLS}");
            return Err(invalid("receiver.max_block_symbols", &problem));
        }
        let poll_interval = fields.parsed_or("receiver.poll_interval_seconds", "3600")?;
        if poll_interval == 0 {
            return Err(invalid("receiver.poll_interval_seconds", "expected at least 1"));
        }
        let sensor_seconds = fields.parsed_or("receiver.sensor_poll_seconds", "5")?;
        if sensor_seconds == 0 {
            return Err(invalid("receiver.sensor_poll_seconds", "expected at least 1"));
        }
        let (user, user_hook) = read_user(fields)?;
        let components = fields.parsed_or("receiver.components", "none")?;
        if components == InventoryAccess::Asked && user.front == user::UserInterface::Absent {
            let problem = "requires `receiver.user_interface`";
            return Err(invalid("receiver.components", problem));
        }
        Ok(Self {
            user,
            user_hook,
            sysfs_root: fields.text_or("receiver.sysfs_root", "/")?.into(),
            sensor_poll_interval: Duration::from_secs(sensor_seconds),
            link_interface: fields.find("receiver.link_interface")?,
            data: fields.text("receiver.data")?.into(),
            trust_root: fields.text("receiver.trust_root")?.into(),
            interface: fields.parsed("receiver.interface")?,
            installer_hook: fields.list("receiver.installer_hook")?,
            notification_udp: fields.address("receiver.notification_udp")?,
            notification_http: fields.address("receiver.notification_http")?,
            poll_interval: Duration::from_secs(poll_interval),
            max_block_symbols,
            max_memory_bytes: fields.parsed_or("receiver.max_memory_bytes", "134217728")?,
            max_storage_bytes: fields.parsed_or("receiver.max_storage_bytes", "4294967296")?,
            components,
            imsi: fields.find("receiver.imsi")?.map(Password),
            smart_card_image: fields.find("receiver.smart_card_image")?.map(PathBuf::from),
            package_hosts: fields.list_or_none("receiver.package_hosts")?,
        })
    }
}

/// Resolves the user interface: `none`, `policy` with its answer, `terminal`, or `hook` with its
/// command.
fn read_user<E: Fn(&str) -> Option<String>>(
    fields: &mut Fields<'_, E>,
) -> Result<(user::Settings, Option<Vec<String>>), ConfigError> {
    let mut hook = None;
    let answer = fields.parsed_or("receiver.auto_answer", "no")?;
    let front = match fields.text_or("receiver.user_interface", "none")?.as_str() {
        "none" => user::UserInterface::Absent,
        "policy" => user::UserInterface::Automatic(answer),
        "terminal" => user::UserInterface::Interactive,
        "hook" => {
            hook = Some(fields.list("receiver.user_hook")?);
            user::UserInterface::Interactive
        }
        _ => {
            return Err(invalid(
                "receiver.user_interface",
                "expected none, policy, terminal or hook",
            ));
        }
    };
    let consent = fields.parsed_or("receiver.consent", "none")?;
    if front == user::UserInterface::Absent && consent != user::Consent::None {
        return Err(invalid("receiver.consent", "requires `receiver.user_interface`"));
    }
    let again = fields.parsed_or("receiver.prompt_retry_seconds", "3600")?;
    let ask_again = Duration::from_secs(u64::max(again, 1));
    Ok((user::Settings { front, consent, ask_again, ..user::Settings::default() }, hook))
}

/// Sources of values. Reading a field removes it from the table, so that unused ones remain.
struct Fields<'a, E> {
    table: Table,
    environment: E,
    flags: &'a BTreeMap<&'static str, String>,
}

impl<E: Fn(&str) -> Option<String>> Fields<'_, E> {
    fn text(&mut self, field: &'static str) -> Result<String, ConfigError> {
        self.find(field)?.ok_or_else(|| ConfigError::Missing { field, variable: variable(field) })
    }

    fn text_or(&mut self, field: &'static str, default: &str) -> Result<String, ConfigError> {
        Ok(self.find(field)?.unwrap_or_else(|| default.to_owned()))
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        field: &'static str,
    ) -> Result<T, ConfigError> {
        let text = self.text(field)?;
        text.parse().map_err(|error: T::Err| invalid(field, &error.to_string()))
    }

    fn parsed_or<T: FromStr<Err: fmt::Display>>(
        &mut self,
        field: &'static str,
        default: &str,
    ) -> Result<T, ConfigError> {
        let text = self.text_or(field, default)?;
        text.parse().map_err(|error: T::Err| invalid(field, &error.to_string()))
    }

    fn address(&mut self, field: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(text) = self.find(field)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(field, "expected ADDRESS:PORT"))
    }

    /// Resolves an array of texts; from the environment, words separated by spaces.
    fn list(&mut self, field: &'static str) -> Result<Vec<String>, ConfigError> {
        let in_file = self.take(field);
        if let Some(text) = self.overridden(field) {
            return Ok(text.split_whitespace().map(str::to_owned).collect());
        }
        let wrong = || match field.ends_with("_hook") {
            true => invalid(field, "expected an array of texts, the command first"),
            false => invalid(field, "expected an array of texts"),
        };
        let Some(value) = in_file else {
            return Err(ConfigError::Missing { field, variable: variable(field) });
        };
        let values = value.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)?;
        values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// Returns the texts of a field that may be missing.
    fn list_or_none(&mut self, field: &'static str) -> Result<Vec<String>, ConfigError> {
        match self.list(field) {
            Err(ConfigError::Missing { .. }) => Ok(Vec::new()),
            found => found,
        }
    }

    fn find(&mut self, field: &'static str) -> Result<Option<String>, ConfigError> {
        let in_file = self.take(field);
        if let Some(text) = self.overridden(field) {
            return Ok(Some(text));
        }
        match in_file {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Integer(number)) => Ok(Some(number.to_string())),
            Some(Value::Boolean(choice)) => Ok(Some(choice.to_string())),
            Some(
                value @ (Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_)),
            ) => Err(invalid(field, &format!("expected a single value, not {}", value.type_str()))),
        }
    }

    fn overridden(&self, field: &str) -> Option<String> {
        self.flags.get(field).cloned().or_else(|| (self.environment)(&variable(field)))
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        let (section, key) = field.split_once('.')?;
        debug_assert!(is_field(section, key), "{field} is missing in the list of fields");
        self.table.get_mut(section)?.as_table_mut()?.remove(key)
    }

    /// Checks that every field of the file was read.
    fn finish(self) -> Result<(), ConfigError> {
        let unused = self.table.iter().find_map(|(section, value)| {
            let key = value.as_table()?.keys().next()?;
            Some(format!("{section}.{key}"))
        });
        unused.map_or(Ok(()), |field| Err(ConfigError::Unused(field)))
    }
}

/// Checks that a configuration has known sections and fields only.
fn check_names(table: &Table) -> Result<(), ConfigError> {
    for (section, value) in table {
        let known = FIELDS.iter().find(|(name, _)| name == section);
        let Some(((_, known), value)) = known.zip(value.as_table()) else {
            let expected = FIELDS.map(|(name, _)| format!("[{name}]")).join(", ");
            return Err(ConfigError::Unknown { field: section.clone(), expected });
        };
        if let Some(key) = value.keys().find(|key| !known.contains(&key.as_str())) {
            let field = format!("{section}.{key}");
            return Err(ConfigError::Unknown { field, expected: known.join(", ") });
        }
    }
    Ok(())
}

fn is_field(section: &str, key: &str) -> bool {
    FIELDS.iter().any(|(name, keys)| *name == section && keys.contains(&key))
}

fn variable(field: &str) -> String {
    format!("FUMOCAST_{}", field.replace('.', "_").to_uppercase())
}

fn invalid(field: &'static str, problem: &str) -> ConfigError {
    ConfigError::Invalid { field, problem: problem.to_owned() }
}

/// The largest block of RFC 6330.
const MAX_BLOCK_SYMBOLS: u32 = 56_403;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [device]
        id = "LAB-0001"
        manufacturer = "fumocast"
        model = "lab"
        vendor_id = "000102030405060708090a0b0c0d0e0f"
        class_id = "f00102030405060708090a0b0c0d0e0f"

        [server]
        url = "http://127.0.0.1:8080/dm"
        server_id = "fumocast"
        user = "LAB-0001"
        password = "c2VjcmV0"
        nonce = "bm9uY2U="

        [fumo]
        object = "./FwUpdate/Main"

        [receiver]
        data = "/var/lib/fumocast"
        trust_root = "/etc/fumocast/root.env"
        interface = "127.0.0.1"
        installer_hook = ["/usr/libexec/fumocast-hook", "--quiet"]
        poll_interval_seconds = 60
    "#;

    #[test]
    fn the_configuration_of_an_enrolled_device_is_resolved() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert_eq!(config.device.id.as_str(), "LAB-0001");
        assert_eq!(config.server.nonce, b"nonce");
        assert_eq!(config.server.password.reveal(), "c2VjcmV0");
        assert!(!config.server.insecure_http);
        assert_eq!(config.receiver.installer_hook, ["/usr/libexec/fumocast-hook", "--quiet"]);
        assert_eq!(config.receiver.poll_interval, Duration::from_secs(60));
        assert_eq!(config.receiver.max_block_symbols, 8192);
        assert_eq!(config.receiver.sysfs_root, PathBuf::from("/"));
        assert_eq!(config.receiver.max_storage_bytes, 4 << 30);
    }

    #[test]
    fn flags_override_the_environment_and_the_environment_the_file() {
        let environment = [
            ("FUMOCAST_RECEIVER_DATA", "/env"),
            ("FUMOCAST_RECEIVER_INSTALLER_HOOK", "/hook a  b"),
        ];
        let config = resolve(FILE, &environment, &[]).unwrap();
        assert_eq!(config.receiver.data, PathBuf::from("/env"));
        assert_eq!(config.receiver.installer_hook, ["/hook", "a", "b"]);
        let config = resolve(FILE, &environment, &[("receiver.data", "/flag")]).unwrap();
        assert_eq!(config.receiver.data, PathBuf::from("/flag"));
        let variable = ("FUMOCAST_SERVER_INSECURE_HTTP", "true");
        assert!(resolve(FILE, &[variable], &[]).unwrap().server.insecure_http);
    }

    #[test]
    fn a_server_that_can_notify_is_resolved() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert!(config.server.server_proof.is_none() && config.receiver.notification_udp.is_none());
        let flags = [
            ("server.server_password", "c2VydmVy"),
            ("server.server_nonce", "bm9uY2U="),
            ("receiver.notification_udp", "127.0.0.1:2948"),
            ("receiver.notification_http", "[::1]:80"),
        ];
        let config = resolve(FILE, &[], &flags).unwrap();
        let (password, nonce) = config.server.server_proof.unwrap();
        assert_eq!((password.reveal(), nonce.as_slice()), ("c2VydmVy", &b"nonce"[..]));
        assert_eq!(
            config.receiver.notification_udp,
            Some(SocketAddr::from(([127, 0, 0, 1], 2948)))
        );
        assert_eq!(config.receiver.notification_http.unwrap().port(), 80);
        let error = resolve(FILE, &[], &flags[..1]).unwrap_err();
        assert!(error.to_string().starts_with("`server.server_nonce` is missing"), "{error}");
    }

    #[test]
    fn an_account_from_a_bootstrap_document_replaces_the_one_in_the_file() {
        let file = format!("{FILE}\n").replace(
            "[server]",
            "[server]\nencoding = \"wbxml\"\nserver_password = \"x\"\nserver_nonce = \"bm9uY2U=\"",
        );
        let account = |url: &str| {
            format!(
                "[origin]\nprofile = \"cp\"\n[server]\nurl = \"{url}\"\nserver_id = \"other\"\n\
                 user = \"u\"\npassword = \"p\"\nnonce = \"\"\n"
            )
        };
        let accounts = [account("https://given/"), account("https://card/")];
        let resolve = |variable: Option<&str>| {
            let environment =
                |name: &str| variable.filter(|_| name == "FUMOCAST_SERVER_URL").map(str::to_owned);
            Config::resolve(&file, &accounts, environment, &BTreeMap::new()).unwrap().server
        };
        let server = resolve(None);
        assert_eq!((server.url.as_str(), server.server_id.as_str()), ("https://card/", "other"));
        assert_eq!(
            server.encoding,
            Encoding::Wbxml,
            "the encoding belongs to the device, not to the account"
        );
        assert!(server.server_proof.is_none(), "no field of the old account remains");
        assert_eq!(resolve(Some("https://env/")).url, "https://env/");
    }

    #[test]
    fn every_missing_field_is_named() {
        for (field, line) in [
            ("device.id", "id = \"LAB-0001\""),
            ("server.url", "url = \"http://127.0.0.1:8080/dm\""),
            ("server.password", "password = \"c2VjcmV0\""),
            ("receiver.trust_root", "trust_root = \"/etc/fumocast/root.env\""),
            (
                "receiver.installer_hook",
                "installer_hook = [\"/usr/libexec/fumocast-hook\", \"--quiet\"]",
            ),
        ] {
            assert!(FILE.contains(line), "{line}");
            let error = resolve(&FILE.replacen(line, "", 1), &[], &[]).unwrap_err();
            let name = format!("`{field}` is missing");
            assert!(error.to_string().starts_with(&name), "{error}");
            assert!(error.to_string().contains(&variable(field)), "{error}");
        }
        assert!(matches!(resolve("", &[], &[]), Err(ConfigError::Missing { .. })));
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (field, value) in [
            ("device.id", "a b"),
            ("device.class_id", "00"),
            ("server.nonce", "!"),
            ("server.encoding", "json"),
            ("server.auth", "digest"),
            ("server.insecure_http", "maybe"),
            ("receiver.interface", "eth0"),
            ("receiver.user_interface", "somebody"),
            ("receiver.auto_answer", "maybe"),
            ("receiver.consent", "install"),
            ("receiver.components", "ask"),
            ("receiver.components", "all"),
            ("receiver.notification_udp", "2948"),
            ("receiver.notification_http", "http://x"),
            ("receiver.poll_interval_seconds", "0"),
            ("receiver.sensor_poll_seconds", "0"),
            ("receiver.max_block_symbols", "56404"),
            ("receiver.max_block_symbols", "0"),
            ("receiver.max_storage_bytes", "-1"),
        ] {
            let error = resolve(FILE, &[], &[(field, value)]).unwrap_err();
            let name = format!("invalid `{field}`: ");
            assert!(error.to_string().starts_with(&name), "{error}");
        }
        let wrong = FILE.replace("interface = \"127.0.0.1\"", "interface = [1]");
        let error = resolve(&wrong, &[], &[]).unwrap_err();
        assert!(error.to_string().contains("not array"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_named_with_the_known_ones() {
        let error = |text: &str| resolve(text, &[], &[]).unwrap_err().to_string();
        let wrong = error(&FILE.replace("user =", "usr = 1\nuser ="));
        assert!(
            wrong.starts_with("unknown `server.usr`; expected one of url, server_id, "),
            "{wrong}"
        );
        let wrong = error(&FILE.replace("[receiver]", "[local]"));
        let sections = "[device], [server], [fumo], [receiver]";
        assert_eq!(wrong, format!("unknown `local`; expected one of {sections}"));
        let wrong = error(&FILE.replace("trust_root =", "root ="));
        assert!(wrong.starts_with("unknown `receiver.root`; "), "{wrong}");
        assert!(wrong.contains(" trust_root, "), "{wrong}");
        let unused = resolve(&format!("{FILE}user_hook = [\"x\"]\n"), &[], &[]).unwrap_err();
        assert_eq!(unused, ConfigError::Unused("receiver.user_hook".to_owned()));
        assert!(matches!(resolve("= 1", &[], &[]), Err(ConfigError::Toml(_))));
    }

    #[test]
    fn debug_output_leaves_the_password_out() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert!(!format!("{config:?}").contains("c2VjcmV0"));
    }

    fn resolve(
        file: &str,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Result<Config, ConfigError> {
        let environment: BTreeMap<_, _> = environment.iter().copied().collect();
        let flags = flags.iter().map(|(field, value)| (*field, (*value).to_owned())).collect();
        Config::resolve(file, &[], |name| environment.get(name).map(|v| (*v).to_owned()), &flags)
    }
}
