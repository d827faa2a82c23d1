//! The machine of a device: storage, clock and installed software, which outlive its process.

use std::path::Path;

use proto::{
    dm::auth::Secret,
    fixtures::documents::{CLASS, VENDOR},
    ids::DeviceId,
    time::{Mono, Now, Utc},
};
use receiver::{
    agent, dm,
    update::acceptance::{DeviceClass, Limits},
};

use crate::{
    lab::rng::SeededRng,
    sim::{
        account,
        disk::SimDisk,
        fault::{At, Effect},
        injected_bugs::InjectedBug,
        model::{DATA, Model},
        package::{BEGIN, Package},
        queue::Queue,
        trace::Trace,
    },
};

/// Setup of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Time between DM sessions without a reason.
    ///
    /// # Units
    ///
    /// Seconds.
    pub check_in: u64,
    /// Set when the installer needs a boot.
    pub reboots: bool,
    /// Set when the management server proves itself to it, and so can notify it.
    pub is_notified: bool,
    /// Set when the campaign addresses it; a device that is not addressed receives everything, too.
    pub is_addressed: bool,
}

/// The machine of a device.
#[derive(Debug)]
pub struct Machine {
    /// Its index among the devices.
    pub number: usize,
    pub(super) setup: Setup,
    pub(super) package: &'static Package,
    /// The invariants of the device.
    pub model: Model,
    pub(super) disk: SimDisk,
    pub(super) rng: SeededRng,
    pub(super) bug: Option<InjectedBug>,
    /// Counts starts and ends, so that events of an earlier life go nowhere.
    pub(super) lives: u64,
    pub(super) boots: u64,
    pub(super) booted: At,
    /// Offset of the wall clock, in milliseconds.
    pub(super) wall_ahead: i64,
    /// The version that is installed.
    pub firmware: String,
    /// The version that is installed at the next boot.
    pub(super) staged: Option<String>,
    pub(super) slow: bool,
    /// Installations that are to fail.
    pub(super) failing_installs: u32,
    /// Set while the installer does not end.
    pub(super) hanging_installs: Option<Effect>,
    /// Set while the installer does not tell its version.
    pub(super) is_version_hanging: bool,
}

impl Machine {
    pub(super) fn new(
        seed: u64,
        number: usize,
        setup: Setup,
        package: &'static Package,
        bug: Option<InjectedBug>,
    ) -> Self {
        Self {
            number,
            setup,
            package,
            model: Model::new(package),
            disk: SimDisk::new(seed ^ number as u64),
            rng: SeededRng::new(seed, &format!("device {number}")),
            bug,
            lives: 0,
            boots: 0,
            booted: At(0),
            wall_ahead: 0,
            firmware: "1.0".to_owned(),
            staged: None,
            slow: false,
            failing_installs: 0,
            hanging_installs: None,
            is_version_hanging: false,
        }
    }

    /// Returns the number of its current life.
    pub const fn life(&self) -> u64 {
        self.lives
    }

    pub(super) fn now(&self, at: At) -> Now {
        let up = at.0.saturating_sub(self.booted.0) + 1_000;
        let wall = BEGIN.0.saturating_add(at.0).saturating_add_signed(self.wall_ahead);
        Now { mono: Mono(up * 1_000_000), utc: Utc(wall) }
    }

    pub(super) fn at(&self, mono: Mono) -> At {
        let up = mono.0.div_ceil(1_000_000).saturating_sub(1_000);
        At(self.booted.0.saturating_add(up))
    }

    pub(super) fn settings(&self) -> agent::Config {
        let id = id(self.number);
        let user = id.as_str().to_owned();
        agent::Config {
            device_class: DeviceClass { vendor: VENDOR, class: CLASS },
            limits: Limits { max_block_symbols: 8192, ..Limits::default() },
            dm: dm::Settings {
                identity: dm::Identity::new(id, "Sim".to_owned(), "One".to_owned()),
                account: dm::Account {
                    url: account::URL.to_owned(),
                    server_id: "fumocast".to_owned(),
                    encoding: proto::dm::encoding::Encoding::Xml,
                    auth: proto::dm::auth::AuthKind::Md5,
                    server: self.setup.is_notified.then(|| dm::ServerProof {
                        kind: proto::dm::auth::AuthKind::Md5,
                        secret: Secret::new("fumocast", &account::server_password()),
                        nonce: account::NONCE.to_vec(),
                    }),
                    secret: Secret::new(&user, &account::password(self.number)),
                    user,
                },
                object: "./FwUpdate/Main".parse().expect("a node"),
            },
            check_in: std::time::Duration::from_secs(self.setup.check_in),
            first_nonce: account::NONCE.to_vec(),
            user: receiver::user::Settings::default(),
            components: receiver::components::InventoryAccess::Absent,
        }
    }

    pub(super) fn data() -> &'static Path {
        Path::new(DATA)
    }
}

/// The simulation as a device sees it.
#[derive(Debug)]
pub struct Context<'a> {
    /// The moment.
    pub at: At,
    /// Events to come.
    pub queue: &'a mut Queue,
    /// Record of events.
    pub trace: &'a mut Trace,
}

/// Returns the identifier of a device.
pub(super) fn id(number: usize) -> DeviceId {
    format!("sim-{number}").parse().expect("letters and a number")
}
