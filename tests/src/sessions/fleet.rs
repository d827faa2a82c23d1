//! A fleet in a data directory, enrolled in one go.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;
use dm_bridge::{
    app::devices::{self, Enrolment, FreshSecrets},
    fleet::{
        audit::{Actor, Audit},
        memory::MemoryStore,
        store::{Change, FleetStore as _},
    },
    shell::data_dir::DataDir,
};
use proto::{
    crypto::random,
    dm::{auth::AuthKind, encoding::Encoding},
    ids::{ClassId, VendorId},
    time::Utc,
};
use tokio::sync::Mutex;

use super::client::{Keys, URL, id};

/// Makes a data directory with this many devices, and returns their credentials.
///
/// # Errors
///
/// When the directory cannot be made.
pub(crate) async fn enrol(
    folder: &Path,
    count: u32,
) -> anyhow::Result<(DataDir, Arc<[Mutex<Keys>]>)> {
    let data = DataDir::init(folder, None, random()).await?;
    let store = MemoryStore::default();
    let mut nonces = BTreeMap::new();
    for number in 0..count {
        let enrolment = Enrolment {
            id: id(number).parse()?,
            manufacturer: "fumocast".to_owned(),
            model: "load".to_owned(),
            vendor: VendorId([1; 16]),
            class: ClassId([2; 16]),
            url: URL.to_owned(),
            encoding: Encoding::Xml,
            auth: AuthKind::Md5,
            account: dm_bridge::app::enrolment::OwnAccount::default(),
            profile: dm_bridge::fleet::profile::Profile::default(),
            // The first session of a device would ask for an object that was not set.
            firmware_object: Some("./FwUpdate/Main".parse()?),
        };
        let fresh = FreshSecrets {
            password: random(),
            nonce: random(),
            server_password: random(),
            server_nonce: random(),
        };
        nonces.insert(enrolment.id.clone(), fresh.nonce.to_vec());
        devices::enrol(&store, Utc(1), enrolment, fresh).await?;
    }
    let (mut rows, mut keys): (Vec<Change>, Vec<_>) = Default::default();
    for mut device in store.devices().await? {
        let nonce = nonces.remove(&device.id).context("a nonce")?;
        let secret = device.auth.secret.opened().context("a secret")?.clone();
        keys.push(Mutex::new(Keys::new(secret, nonce)));
        device.version = 0;
        rows.push(device.into());
    }
    let audit = Audit {
        actor: Actor::Operator,
        action: "device.enrol",
        subject: "load".to_owned(),
        detail: String::new(),
    };
    let store = data.store().await?;
    store.apply(Utc(1), audit, rows).await?;
    store.close().await;
    Ok((data, keys.into()))
}
