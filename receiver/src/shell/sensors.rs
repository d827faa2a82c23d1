//! Sensors of Linux: battery, memory, storage, link and temperature.
//!
//! | reading | file below the root |
//! | --- | --- |
//! | battery, mains | `sys/class/power_supply/*/{type,capacity,online}` |
//! | memory | `proc/meminfo`: `MemTotal`, `MemAvailable` |
//! | storage | `statvfs` of the data directory |
//! | link | `sys/class/net/*/operstate` |
//! | temperature | `sys/class/thermal/*/temp` |
//!
//! A missing sensor has no reading and causes no suspend reason. The root is `/` unless configured
//! otherwise, so that a test or a lab can simulate a battery.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::suspension::Readings;

/// The sensors below a root.
#[derive(Debug, Clone)]
pub struct Sensors {
    root: PathBuf,
    data: PathBuf,
    link: Link,
}

/// The interface whose link is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// This one.
    Named(String),
    /// Any but the loopback.
    Any,
    /// None: the device receives on its loopback.
    Loopback,
}

impl Sensors {
    /// Creates sensors below `root`; the storage is that of `data`.
    #[must_use]
    pub const fn new(root: PathBuf, data: PathBuf, link: Link) -> Self {
        Self { root, data, link }
    }

    /// Reads all sensors.
    #[must_use]
    pub fn read(&self) -> Readings {
        let supplies = folders(&self.root.join("sys/class/power_supply"));
        let of_kind = |kind: &str| {
            let kind = kind.to_owned();
            supplies.iter().filter(move |path| word(&path.join("type")) == Some(kind.clone()))
        };
        Readings {
            battery_percent: of_kind("Battery")
                .filter_map(|path| number(&path.join("capacity")))
                .filter_map(|percent| u8::try_from(percent).ok())
                .min(),
            on_mains: of_kind("Mains")
                .chain(of_kind("USB"))
                .any(|path| number(&path.join("online")) == Some(1)),
            memory_percent: memory(&self.root.join("proc/meminfo")),
            storage_percent: storage(&self.data),
            link_lost: self.is_link_lost(),
            celsius: folders(&self.root.join("sys/class/thermal"))
                .iter()
                .filter_map(|path| number(&path.join("temp")))
                .filter_map(|millidegrees| i16::try_from(millidegrees / 1000).ok())
                .max(),
        }
    }

    /// Returns whether the link is lost. An interface in state `unknown` counts as up.
    fn is_link_lost(&self) -> bool {
        let net = self.root.join("sys/class/net");
        let is_down = |path: &Path| {
            let state = word(&path.join("operstate"));
            matches!(state.as_deref(), Some("down" | "lowerlayerdown" | "notpresent"))
        };
        match &self.link {
            Link::Loopback => false,
            Link::Named(name) => {
                let path = net.join(name);
                net.is_dir() && (!path.exists() || is_down(&path))
            }
            Link::Any => {
                let mut others = folders(&net);
                others.retain(|path| path.file_name().is_some_and(|name| name != "lo"));
                !others.is_empty() && others.iter().all(|path| is_down(path))
            }
        }
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn word(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<i64> {
    word(path)?.parse().ok()
}

fn memory(path: &Path) -> Option<u8> {
    let text = fs::read_to_string(path).ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kibibytes("MemTotal")?, kibibytes("MemAvailable")?);
    percent(total.saturating_sub(available), total)
}

/// Returns the used percentage as `df` shows it, of the space for unprivileged users.
fn storage(path: &Path) -> Option<u8> {
    let found = rustix::fs::statvfs(path).ok()?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    percent(used, used.saturating_add(found.f_bavail))
}

fn percent(part: u64, whole: u64) -> Option<u8> {
    part.saturating_mul(100).checked_div(whole).and_then(|percent| u8::try_from(percent).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    // test: oma-002 2 (sensors of Linux)
    #[test]
    fn battery_memory_link_and_heat_are_read_from_their_files() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let sensors = |link| Sensors::new(root.to_owned(), root.to_owned(), link);
        let empty = sensors(Link::Any).read();
        assert_eq!(Readings { storage_percent: None, ..empty }, Readings::default());
        assert!(empty.storage_percent.is_some_and(|percent| percent <= 100));

        write(root, "sys/class/power_supply/BAT0/type", "Battery\n");
        write(root, "sys/class/power_supply/BAT0/capacity", "42\n");
        write(root, "sys/class/power_supply/AC/type", "Mains\n");
        write(root, "sys/class/power_supply/AC/online", "0\n");
        write(root, "proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n");
        write(root, "sys/class/thermal/thermal_zone0/temp", "41000\n");
        write(root, "sys/class/thermal/thermal_zone1/temp", "55500\n");
        let read = sensors(Link::Any).read();
        assert_eq!((read.battery_percent, read.on_mains), (Some(42), false));
        assert_eq!((read.memory_percent, read.celsius), (Some(75), Some(55)));
        write(root, "sys/class/power_supply/AC/online", "1\n");
        assert!(sensors(Link::Any).read().on_mains);
        write(root, "sys/class/power_supply/BAT0/capacity", "many");
        assert_eq!(sensors(Link::Any).read().battery_percent, None);
    }

    // test: oma-002 2 (link state)
    #[test]
    fn the_link_is_lost_when_its_interface_is_down_or_gone_or_all_of_them_are() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let lost = |link: &Link| {
            Sensors::new(root.to_owned(), root.to_owned(), link.clone()).read().link_lost
        };
        let (eth0, any) = (Link::Named("eth0".to_owned()), Link::Any);
        assert!(!lost(&eth0) && !lost(&any), "a machine that shows no interfaces");
        for (state, is_lost) in
            [("up", false), ("unknown", false), ("down", true), ("lowerlayerdown", true)]
        {
            write(root, "sys/class/net/lo/operstate", "unknown\n");
            write(root, "sys/class/net/eth0/operstate", state);
            assert_eq!((lost(&eth0), lost(&any)), (is_lost, is_lost), "{state}");
            assert!(!lost(&Link::Loopback));
        }
        write(root, "sys/class/net/wlan0/operstate", "up");
        assert!(lost(&eth0) && !lost(&any));
        assert!(lost(&Link::Named("usb0".to_owned())), "it is not there");
    }
}
