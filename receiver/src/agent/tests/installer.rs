//! An installer that does not print what is installed, for a while or for ever.

use super::*;

impl Device {
    fn known_version(&self) -> Option<&str> {
        self.agent.owners.installer.firmware_version()
    }

    /// Moves to the next time at which the installer is asked again; returns the wait.
    fn read_again(&mut self) -> Duration {
        let due = self.agent.owners.installer.deadline().unwrap();
        let wait = due.since(self.now.mono);
        self.now = Now { mono: due, utc: self.now.utc + wait };
        self.agent.handle_timeout(self.now);
        self.run();
        wait
    }

    /// A device whose installer has installed the package and does not print the version.
    fn silent_after_installation() -> Self {
        let mut device = Self::new();
        device.held = Held::Install;
        device.arm();
        device.to(OPENS);
        device.receive_pass();
        device.is_silent = true;
        device.release();
        assert_eq!((device.phase(), device.installed.len()), (Phase::HandedOver, 1));
        device
    }
}

#[test]
fn a_version_that_is_not_printed_is_read_again_until_it_is() {
    let mut device = Device::new();
    device.is_silent = true;
    device.restart();
    assert_eq!(device.known_version(), Some(""));
    let waits: Vec<_> = (0..11).map(|_| device.read_again().as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]);
    device.is_silent = false;
    device.read_again();
    assert_eq!(device.known_version(), Some("1.0"));
    assert_eq!(device.agent.owners.installer.deadline(), None);
}

#[test]
fn an_installation_whose_version_is_printed_late_has_succeeded() {
    let mut device = Device::silent_after_installation();
    device.read_again();
    assert_eq!((device.phase(), device.results()), (Phase::HandedOver, vec![]));
    device.is_silent = false;
    device.read_again();
    assert_eq!((device.phase(), device.results()), (Phase::Confirmed, vec![200]));
}

#[test]
fn an_installation_whose_version_is_never_printed_has_failed_after_some_reads() {
    let mut device = Device::silent_after_installation();
    let mut waited = Duration::ZERO;
    while device.phase() == Phase::HandedOver {
        waited += device.read_again();
    }
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![410]));
    assert_eq!(waited, Duration::from_secs(10 + 20 + 40 + 80));
}

#[test]
fn an_image_is_not_handed_over_while_the_version_is_read_again() {
    let mut device = Device::new();
    device.is_silent = true;
    device.restart();
    device.arm();
    device.to(OPENS);
    device.held = Held::Version;
    device.read_again();
    device.receive_pass();
    assert_eq!((device.phase(), device.installed.len()), (Phase::Verified, 0));
    device.is_silent = false;
    device.release();
    assert_eq!((device.phase(), device.results()), (Phase::Confirmed, vec![200]));
}

#[test]
fn a_known_version_stays_when_it_is_not_printed_again() {
    let disk = Disk { inventory: InventoryAccess::Granted, ..Disk::default() };
    let mut device = Device::made(Broadcast::small(), disk);
    assert_eq!(device.known_version(), Some("1.0"));
    device.agent.handle_installer(device.now, InstallerAnswer::Components(None));
    device.is_silent = true;
    device.read_again();
    assert_eq!(device.known_version(), Some("1.0"));
}

#[test]
fn the_read_after_an_installation_is_pending_until_its_answer() {
    let mut device = Device::new();
    device.held = Held::Version;
    device.arm();
    device.to(OPENS);
    device.receive_pass();
    assert_eq!((device.phase(), device.waiting.len()), (Phase::HandedOver, 1));
    assert!(!device.agent.owners.installer.may_install());
    device.release();
    assert_eq!(device.phase(), Phase::Confirmed);
    assert!(device.agent.owners.installer.may_install());
}
