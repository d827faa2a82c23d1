//! The device's configuration: the file, then the environment, then flags; the later one wins.
//!
//! The sections `device`, `server` and `fumo` are what `dm-bridge device enrol` prints; `local` is
//! the integrator's. A field `server.url` is overridden by `FUMOCAST_SERVER_URL`. The account that a
//! bootstrap gave (see [`bootstrap`](crate::bootstrap)) takes the place of the one in the file.
//! Nothing is read here: the caller hands over the texts.

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

use crate::{components::Inventory, user};

/// What the device is, whom it belongs to, and what it may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[device]`
    pub device: Device,
    /// `[server]`
    pub server: Server,
    /// `fumo.object`: place of the FUMO object, `./FwUpdate/Main` by default.
    pub fumo_object: String,
    /// `[local]`
    pub local: Local,
}

/// Who the device is.
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

/// Whom it reports to, and how it proves who it is.
#[derive(Debug, Clone)]
pub struct Server {
    /// `server.url`
    pub url: String,
    /// `server.server_id`
    pub server_id: String,
    /// `server.encoding`: the form of DM messages, `xml` (by default) or `wbxml`.
    pub encoding: Encoding,
    /// `server.auth`: what either side proves itself by, `basic`, `md5` (by default) or `hmac`.
    pub auth: AuthKind,
    /// `server.user`
    pub user: String,
    /// `server.password`
    pub password: Password,
    /// `server.nonce`: for the first message to the server.
    pub nonce: Vec<u8>,
    /// `server.server_password` and `server.server_nonce`: what the server proves itself by.
    pub server_proof: Option<(Password, Vec<u8>)>,
    /// `server.ca`: who vouches for the server, a PEM file; the well-known ones by default.
    pub ca: Option<PathBuf>,
    /// `server.certificate` and `server.key`: what the device shows the server, PEM files.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `server.insecure_http`: whether plain HTTP may leave this machine; no by default.
    pub insecure_http: bool,
}

/// What the integrator says.
#[derive(Debug, Clone)]
pub struct Local {
    /// `local.data`: the data directory.
    pub data: PathBuf,
    /// `local.root`: the envelope of the factory root.
    pub root: PathBuf,
    /// `local.interface`: address of the interface that joins groups.
    pub interface: Ipv4Addr,
    /// `local.hook`: the installer hook and its leading arguments.
    pub hook: Vec<String>,
    /// `local.notify`: address and port where notifications are taken; none by default.
    pub notify: Option<SocketAddr>,
    /// `local.notify_http`: address and port where they are posted; none by default.
    pub notify_http: Option<SocketAddr>,
    /// `local.check_in_seconds`: time between DM sessions without a reason; an hour by default.
    pub check_in: Duration,
    /// `local.sensors`: the folder that holds `sys` and `proc`; `/` by default.
    pub sensors: PathBuf,
    /// `local.sensor_seconds`: time between two looks at them; 5 by default.
    pub sensor_interval: Duration,
    /// `local.link`: the interface that has to be up; any but the loopback by default.
    pub link: Option<String>,
    /// `local.max_block_symbols`: 8,192 by default.
    pub max_block_symbols: u32,
    /// `local.max_memory_bytes`: what the decoder may take; 128 MiB by default.
    pub max_memory_bytes: u64,
    /// `local.user`, `local.user_answer`, `local.consent`, `local.ask_again_seconds`: who answers
    /// questions, and what is asked before it happens.
    pub user: user::Settings,
    /// `local.components`: `none` (by default), `ask` the user before the server sees which software
    /// components there are, or `granted`.
    pub components: Inventory,
    /// `local.user_hook`: the command that asks the user, with its arguments.
    pub user_hook: Option<Vec<String>>,
    /// `local.max_storage_bytes`: what one reception may take on disk; 4 GiB by default.
    pub max_storage_bytes: u64,
    /// `local.imsi`: the subscriber's number, which proves bootstrap documents; none by default.
    pub imsi: Option<Password>,
    /// `local.card`: the image of the smart card's bootstrap file, read at each start; none by
    /// default.
    pub card: Option<PathBuf>,
}

/// A secret that no log shows.
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

/// Why a configuration is no use. Names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file is no TOML.
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
    /// A field has a value that does not do.
    #[error("`{field}` does not do: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        problem: String,
    },
    /// The file has a field that there is not.
    #[error("`{0}` is not a field of the configuration")]
    Unknown(String),
}

impl Config {
    /// Puts the configuration together from the file's text, the environment and the flags.
    /// `accounts` are the texts of the accounts that the device was given, the last of which
    /// counts.
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
        for account in accounts {
            take_account(&mut table, &parse(account)?);
        }
        let mut fields = Fields { table, environment, flags };
        let config = Self {
            device: Device::read(&mut fields)?,
            server: Server::read(&mut fields)?,
            fumo_object: fields.text_or("fumo.object", "./FwUpdate/Main")?,
            local: Local::read(&mut fields)?,
        };
        fields.finish()?;
        Ok(config)
    }
}

fn parse(text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Toml(e.to_string()))
}

/// Puts an account in the place of the one that is there: nothing of the two is mixed.
fn take_account(table: &mut Table, account: &Table) {
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

/// The fields of `[server]` that an account has.
const ACCOUNT: [&str; 8] =
    ["url", "server_id", "auth", "user", "password", "nonce", "server_password", "server_nonce"];

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
        Ok(Self {
            // First: without an account, this is what is missing.
            url: fields.text("server.url")?,
            server_id: fields.text("server.server_id")?,
            encoding: fields.parsed_or("server.encoding", "xml")?,
            auth: fields.parsed_or("server.auth", "md5")?,
            user: fields.text("server.user")?,
            password: Password(fields.text("server.password")?),
            nonce: BASE64_STANDARD
                .decode(fields.text("server.nonce")?)
                .map_err(|_| invalid("server.nonce", "base64 is wanted"))?,
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
                        .map_err(|_| invalid("server.server_nonce", "base64 is wanted"))?;
                    Some((Password(password), nonce))
                }
            },
            insecure_http: fields.parsed_or("server.insecure_http", "false")?,
        })
    }
}

impl Local {
    /// Reads `[local]` alone: all that is needed before there is an account.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the field.
    pub fn resolve(
        file: &str,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        Self::read(&mut Fields { table: parse(file)?, environment, flags })
    }

    /// Reads `local.data` alone; `None` when it is not said, or wrong.
    #[must_use]
    pub fn data_of(
        file: &str,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Option<PathBuf> {
        let mut fields = Fields { table: parse(file).ok()?, environment, flags };
        fields.find("local.data").ok().flatten().map(PathBuf::from)
    }

    fn read<E: Fn(&str) -> Option<String>>(
        fields: &mut Fields<'_, E>,
    ) -> Result<Self, ConfigError> {
        let max_block_symbols = fields.parsed_or("local.max_block_symbols", "8192")?;
        if !(1..=MOST_BLOCK_SYMBOLS).contains(&max_block_symbols) {
            let problem = format!("1 to {MOST_BLOCK_SYMBOLS} is possible");
            return Err(invalid("local.max_block_symbols", &problem));
        }
        let check_in = fields.parsed_or("local.check_in_seconds", "3600")?;
        if check_in == 0 {
            return Err(invalid("local.check_in_seconds", "at least 1 is wanted"));
        }
        let sensor_seconds = fields.parsed_or("local.sensor_seconds", "5")?;
        if sensor_seconds == 0 {
            return Err(invalid("local.sensor_seconds", "at least 1 is wanted"));
        }
        let (user, user_hook) = read_user(fields)?;
        let components = fields.parsed_or("local.components", "none")?;
        if components == Inventory::Asked && user.front == user::Front::Absent {
            let problem = "nobody can be asked without `local.user`";
            return Err(invalid("local.components", problem));
        }
        Ok(Self {
            user,
            user_hook,
            sensors: fields.text_or("local.sensors", "/")?.into(),
            sensor_interval: Duration::from_secs(sensor_seconds),
            link: fields.find("local.link")?,
            data: fields.text("local.data")?.into(),
            root: fields.text("local.root")?.into(),
            interface: fields.parsed("local.interface")?,
            hook: fields.list("local.hook")?,
            notify: fields.address("local.notify")?,
            notify_http: fields.address("local.notify_http")?,
            check_in: Duration::from_secs(check_in),
            max_block_symbols,
            max_memory_bytes: fields.parsed_or("local.max_memory_bytes", "134217728")?,
            max_storage_bytes: fields.parsed_or("local.max_storage_bytes", "4294967296")?,
            components,
            imsi: fields.find("local.imsi")?.map(Password),
            card: fields.find("local.card")?.map(PathBuf::from),
        })
    }
}

/// Reads who the user is: `none`, `policy` with its answer, `terminal`, or `hook` with its command.
fn read_user<E: Fn(&str) -> Option<String>>(
    fields: &mut Fields<'_, E>,
) -> Result<(user::Settings, Option<Vec<String>>), ConfigError> {
    let mut hook = None;
    let answer = fields.parsed_or("local.user_answer", "no")?;
    let front = match fields.text_or("local.user", "none")?.as_str() {
        "none" => user::Front::Absent,
        "policy" => user::Front::Policy(answer),
        "terminal" => user::Front::Asked,
        "hook" => {
            hook = Some(fields.list("local.user_hook")?);
            user::Front::Asked
        }
        _ => return Err(invalid("local.user", "none, policy, terminal or hook is wanted")),
    };
    let consent = fields.parsed_or("local.consent", "none")?;
    if front == user::Front::Absent && consent != user::Consent::None {
        return Err(invalid("local.consent", "nobody can be asked without `local.user`"));
    }
    let again = fields.parsed_or("local.ask_again_seconds", "3600")?;
    let ask_again = Duration::from_secs(u64::max(again, 1));
    Ok((user::Settings { front, consent, ask_again, ..user::Settings::default() }, hook))
}

/// Where values come from. What is taken from the file is removed, so that the rest is unknown.
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
        text.parse().map(Some).map_err(|_| invalid(field, "ADDRESS:PORT is wanted"))
    }

    /// Reads an array of texts; from the environment, words between spaces.
    fn list(&mut self, field: &'static str) -> Result<Vec<String>, ConfigError> {
        let in_file = self.take(field);
        if let Some(text) = self.overridden(field) {
            return Ok(text.split_whitespace().map(str::to_owned).collect());
        }
        let wanted = || invalid(field, "an array of texts is wanted, the command first");
        let Some(value) = in_file else {
            return Err(ConfigError::Missing { field, variable: variable(field) });
        };
        let values = value.as_array().filter(|values| !values.is_empty()).ok_or_else(wanted)?;
        values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wanted)).collect()
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
            ) => {
                Err(invalid(field, &format!("a single value is wanted, not {}", value.type_str())))
            }
        }
    }

    fn overridden(&self, field: &str) -> Option<String> {
        self.flags.get(field).cloned().or_else(|| (self.environment)(&variable(field)))
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        let (section, key) = field.split_once('.')?;
        self.table.get_mut(section)?.as_table_mut()?.remove(key)
    }

    fn finish(self) -> Result<(), ConfigError> {
        for (section, value) in &self.table {
            let known = ["device", "server", "fumo", "local"].contains(&section.as_str());
            match value.as_table().filter(|_| known) {
                None => return Err(ConfigError::Unknown(section.clone())),
                Some(rest) => {
                    if let Some(key) = rest.keys().next() {
                        return Err(ConfigError::Unknown(format!("{section}.{key}")));
                    }
                }
            }
        }
        Ok(())
    }
}

fn variable(field: &str) -> String {
    format!("FUMOCAST_{}", field.replace('.', "_").to_uppercase())
}

fn invalid(field: &'static str, problem: &str) -> ConfigError {
    ConfigError::Invalid { field, problem: problem.to_owned() }
}

/// The largest block that RFC 6330 knows.
const MOST_BLOCK_SYMBOLS: u32 = 56_403;

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

        [local]
        data = "/var/lib/fumocast"
        root = "/etc/fumocast/root.env"
        interface = "127.0.0.1"
        hook = ["/usr/libexec/fumocast-hook", "--quiet"]
        check_in_seconds = 60
    "#;

    #[test]
    fn an_enrolled_device_is_read() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert_eq!(config.device.id.as_str(), "LAB-0001");
        assert_eq!(config.server.nonce, b"nonce");
        assert_eq!(config.server.password.reveal(), "c2VjcmV0");
        assert!(!config.server.insecure_http);
        assert_eq!(config.local.hook, ["/usr/libexec/fumocast-hook", "--quiet"]);
        assert_eq!(config.local.check_in, Duration::from_secs(60));
        assert_eq!(config.local.max_block_symbols, 8192);
        assert_eq!(config.local.sensors, PathBuf::from("/"));
        assert_eq!(config.local.max_storage_bytes, 4 << 30);
    }

    #[test]
    fn flags_go_before_the_environment_and_the_environment_before_the_file() {
        let environment = [("FUMOCAST_LOCAL_DATA", "/env"), ("FUMOCAST_LOCAL_HOOK", "/hook a  b")];
        let config = resolve(FILE, &environment, &[]).unwrap();
        assert_eq!(config.local.data, PathBuf::from("/env"));
        assert_eq!(config.local.hook, ["/hook", "a", "b"]);
        let config = resolve(FILE, &environment, &[("local.data", "/flag")]).unwrap();
        assert_eq!(config.local.data, PathBuf::from("/flag"));
        let variable = ("FUMOCAST_SERVER_INSECURE_HTTP", "true");
        assert!(resolve(FILE, &[variable], &[]).unwrap().server.insecure_http);
    }

    #[test]
    fn a_server_that_can_notify_is_read() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert!(config.server.server_proof.is_none() && config.local.notify.is_none());
        let flags = [
            ("server.server_password", "c2VydmVy"),
            ("server.server_nonce", "bm9uY2U="),
            ("local.notify", "127.0.0.1:2948"),
            ("local.notify_http", "[::1]:80"),
        ];
        let config = resolve(FILE, &[], &flags).unwrap();
        let (password, nonce) = config.server.server_proof.unwrap();
        assert_eq!((password.reveal(), nonce.as_slice()), ("c2VydmVy", &b"nonce"[..]));
        assert_eq!(config.local.notify, Some(SocketAddr::from(([127, 0, 0, 1], 2948))));
        assert_eq!(config.local.notify_http.unwrap().port(), 80);
        let error = resolve(FILE, &[], &flags[..1]).unwrap_err();
        assert!(error.to_string().starts_with("`server.server_nonce` is missing"), "{error}");
    }

    #[test]
    fn an_account_that_was_given_takes_the_place_of_the_one_in_the_file() {
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
        assert_eq!(server.encoding, Encoding::Wbxml, "it is the device's, not the account's");
        assert!(server.server_proof.is_none(), "nothing of the old account is left");
        assert_eq!(resolve(Some("https://env/")).url, "https://env/");
    }

    #[test]
    fn every_missing_field_is_named() {
        for (field, line) in [
            ("device.id", "id = \"LAB-0001\""),
            ("server.url", "url = \"http://127.0.0.1:8080/dm\""),
            ("server.password", "password = \"c2VjcmV0\""),
            ("local.root", "root = \"/etc/fumocast/root.env\""),
            ("local.hook", "hook = [\"/usr/libexec/fumocast-hook\", \"--quiet\"]"),
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
            ("local.interface", "eth0"),
            ("local.user", "somebody"),
            ("local.user_answer", "maybe"),
            ("local.consent", "install"),
            ("local.components", "ask"),
            ("local.components", "all"),
            ("local.notify", "2948"),
            ("local.notify_http", "http://x"),
            ("local.check_in_seconds", "0"),
            ("local.sensor_seconds", "0"),
            ("local.max_block_symbols", "56404"),
            ("local.max_block_symbols", "0"),
            ("local.max_storage_bytes", "-1"),
        ] {
            let error = resolve(FILE, &[], &[(field, value)]).unwrap_err();
            let name = format!("`{field}` does not do: ");
            assert!(error.to_string().starts_with(&name), "{error}");
        }
        let wrong = FILE.replace("interface = \"127.0.0.1\"", "interface = [1]");
        let error = resolve(&wrong, &[], &[]).unwrap_err();
        assert!(error.to_string().contains("not array"), "{error}");
    }

    #[test]
    fn a_field_that_there_is_not_is_named() {
        let wrong = FILE.replace("user =", "usr = 1\nuser =");
        assert_eq!(resolve(&wrong, &[], &[]).unwrap_err(), unknown("server.usr"));
        let wrong = format!("{FILE}\n[locale]\nx = 1");
        assert_eq!(resolve(&wrong, &[], &[]).unwrap_err(), unknown("locale"));
        assert!(matches!(resolve("= 1", &[], &[]), Err(ConfigError::Toml(_))));
    }

    #[test]
    fn the_password_is_in_no_log() {
        let config = resolve(FILE, &[], &[]).unwrap();
        assert!(!format!("{config:?}").contains("c2VjcmV0"));
    }

    fn unknown(field: &str) -> ConfigError {
        ConfigError::Unknown(field.to_owned())
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
