//! Software components: by broadcast, by HTTP, inside a DM session; what is done to those that are
//! installed; and who may see them.

use proto::{
    dm::{
        code::StatusCode,
        nodes::scomo as nodes,
        scomo::{Branch, Operation},
        syncml::CommandId,
        ui::Answer,
    },
    trust::{
        bundle::{self, BundleHead},
        component_class,
    },
};

use super::*;
use crate::{
    agent::operations::is_occupied,
    components::{ChangeRequest, ComponentTarget, Software, Verb},
    dm::DownloadRequest,
    update::installer::ComponentInstall,
    user::{PromptPurpose, Reply, Settings, UserInterface},
};

mod session;

const PACKAGE: &str = "http://127.0.0.1:1/package";

/// The package on air is a component for the devices of the tests.
fn component() -> Broadcast {
    let mut broadcast = Broadcast::small();
    let class = component_class(CLASS, &"player".parse().unwrap());
    broadcast.manifest.classes = vec![class];
    broadcast.campaign.manifest_sha256 = sha256(&[&broadcast.manifest.emit().unwrap()]);
    broadcast
}

fn subject(operation: Operation) -> ComponentTarget {
    let branch = operation.branch();
    let node = if branch == Branch::Deployed { "player" } else { "x" };
    ComponentTarget { operation, node: node.to_owned(), package: "player".parse().unwrap() }
}

fn player(active: bool) -> Deployed {
    let (id, version) = ("player".parse().unwrap(), "2.0".to_owned());
    Deployed { id, version, active, name: None, description: None }
}

fn correlator(text: &str) -> Option<Correlator> {
    Some(Correlator(text.to_owned()))
}

impl Device {
    fn managed() -> Self {
        let inventory = InventoryAccess::Granted;
        let mut device = Self::made(component(), Disk { inventory, ..Disk::default() });
        device.announce();
        device
    }

    fn that_has(active: bool) -> Self {
        let (inventory, deployed) = (InventoryAccess::Granted, vec![player(active)]);
        Self::made(component(), Disk { inventory, deployed, ..Disk::default() })
    }

    /// The nodes that a server adds before the Exec of `Operations/…`.
    fn announce(&mut self) {
        let mut announced = self.software().announced;
        announced.add(Branch::Download, "x").unwrap();
        for (leaf, text) in [(nodes::PACKAGE_ID, "player"), (nodes::INSTALL_PARAMETERS, "quiet")] {
            announced.write(Branch::Download, "x", leaf, text).unwrap();
        }
        self.agent.owners.store_announced(announced);
        self.settle();
    }

    fn settle(&mut self) {
        self.agent.settle(self.now);
        self.run();
    }

    fn software(&self) -> Software {
        self.agent.owners.software().expect("a device with components")
    }

    pub(super) fn deploy(&mut self, component: &ComponentInstall, version: &str) {
        if self.disk.pretends {
            return;
        }
        self.disk.deployed.retain(|it| it.id != component.id);
        let (id, version) = (component.id.clone(), version.to_owned());
        let (active, name) = (component.activate, component.parameters.clone());
        self.disk.deployed.push(Deployed { id, version, active, name, description: None });
    }

    pub(super) fn perform_call(&mut self, call: InstallerCall) {
        match call {
            InstallerCall::ReadVersion => {
                let version = Some(self.version.clone()).filter(|_| !self.is_silent);
                let answer = InstallerAnswer::Version(version);
                self.agent.handle_installer(self.now, answer);
            }
            InstallerCall::Install(_, request) => {
                assert_eq!(self.journal().phase, "handed-over", "the journal knows first");
                assert_eq!(request.sha256, sha256(&[&self.disk.image]).to_string());
                self.installed.push(self.disk.image.clone());
                match &request.software_component {
                    _ if self.install_ends == InstallOutcome::Failed => {}
                    Some(component) => self.deploy(component, &request.firmware_version),
                    None => self.version = "2.0".to_owned(),
                }
                let answer = InstallerAnswer::Ended(self.install_ends);
                self.agent.handle_installer(self.now, answer);
            }
            InstallerCall::ReadComponents => {
                let answer = InstallerAnswer::Components(Some(self.disk.deployed.clone()));
                self.agent.handle_installer(self.now, answer);
            }
            InstallerCall::ChangeComponent(verb, ChangeRequest { id, .. }) => {
                assert_eq!(self.journal().phase, "handed-over", "the journal knows first");
                let deployed = &mut self.disk.deployed;
                match verb {
                    _ if self.disk.pretends => {}
                    Verb::Remove => deployed.retain(|component| component.id != id),
                    Verb::Activate | Verb::Deactivate => deployed
                        .iter_mut()
                        .filter(|component| component.id == id)
                        .for_each(|component| component.active = verb == Verb::Activate),
                }
                self.agent.handle_installer(self.now, InstallerAnswer::Ended(InstallOutcome::Done));
            }
        }
    }

    fn change(&mut self, operation: Operation) -> StatusCode {
        let (subject, correlator) =
            (subject(operation), correlator(&format!("c-{}", self.alerts().len() + 2)));
        let code = self.agent.owners.change_component(self.now, subject, correlator);
        self.settle();
        code
    }

    fn arm_component(&mut self, operation: Operation) {
        self.arm_with(ArmRequest { subject: Some(subject(operation)), ..self.request() });
    }

    fn bundle_of_component(&self) -> Vec<u8> {
        let image = &self.broadcast.image;
        let length = image.len() as u64;
        let (manifest, campaign) =
            (self.broadcast.manifest_envelope(), self.broadcast.campaign_envelope());
        let head = BundleHead::emit(&manifest, &campaign, (proto::ids::ComponentId(0), length));
        [head, image.clone(), BundleHead::tail(length)].concat()
    }

    fn download_component(&mut self, operation: Operation) {
        let course =
            if operation == Operation::Download { Exec::Download } else { Exec::DownloadAndUpdate };
        let request = DownloadRequest {
            operation: course,
            url: PACKAGE.to_owned(),
            report: ReportSettings::default(),
            correlator: correlator(&format!("c-{}", self.alerts().len() + 1)),
            subject: Some(subject(operation)),
        };
        self.agent.owners.download(self.now, request);
        self.settle();
        self.serve_component();
    }

    /// An honest download server, until nothing is asked for.
    fn serve_component(&mut self) {
        while !self.fetches.is_empty() {
            let fetch = self.fetches.remove(0);
            let whole = self.bundle_of_component();
            let place = |at: u64| usize::try_from(at).unwrap().min(whole.len());
            let octets = whole[place(fetch.from)..place(fetch.to)].to_vec();
            let media_type = bundle::MEDIA_TYPE.to_owned();
            let total = Some(whole.len() as u64);
            let fetched = Fetched { media_type, total, octets, ..Fetched::default() };
            self.agent.handle_network(self.now, NetworkAnswer::Fetched(Ok(fetched)));
            self.run();
        }
    }

    /// The results as the server reads them, oldest first.
    fn reported(&self) -> Vec<String> {
        let alerts = self.alerts();
        let alerts =
            alerts.iter().map(|alert| alert.to_alert(CommandId::new(1), "./FwUpdate/Main"));
        alerts
            .map(|alert| {
                let item = &alert.items[0];
                let code = item.data_text().unwrap().split(['<', '>']).nth(2).unwrap();
                let (source, target) = (item.source_uri().unwrap(), item.target_uri());
                format!("{code} {source} {}", target.unwrap_or("-"))
            })
            .collect()
    }

    fn result(&self) -> u16 {
        self.alerts().pop().expect("a result").result.0
    }
}

// test: oma-002 7, oma-002 scomo.both (a component by broadcast)
#[test]
fn a_component_is_received_installed_and_read_back() {
    let mut device = Device::managed();
    device.arm_component(Operation::DownloadInstall);
    device.to(OPENS);
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.installed, [device.broadcast.image.clone()]);
    let installed = Deployed { name: Some("quiet".to_owned()), ..player(true) };
    assert_eq!(device.software().deployed, [installed]);
    assert_eq!(device.version, "1.0", "the firmware is what it was");
    let result = "1200 ./SCOMO/Download/x/Operations/DownloadInstall \
                  ./SCOMO/Inventory/Deployed/player";
    assert_eq!(device.reported(), [result]);
    assert_eq!(device.alerts()[0].correlator, correlator("c-1"));
    assert_eq!(device.agent.status().components.unwrap().len(), 1);
}

// test: oma-002 7 (classes of their own)
#[test]
fn firmware_is_no_component_and_a_component_is_neither_firmware_nor_another_component() {
    let mut device = Device::managed();
    device.arm();
    assert_eq!(device.result(), 403, "a component as firmware");
    let disk = Disk { inventory: InventoryAccess::Granted, ..Disk::default() };
    let mut device = Device::made(Broadcast::small(), disk);
    device.arm_component(Operation::DownloadInstall);
    assert_eq!(device.result(), 403, "firmware as a component");
    let mut device = Device::managed();
    let other =
        ComponentTarget { package: "game".parse().unwrap(), ..subject(Operation::DownloadInstall) };
    device.arm_with(ArmRequest { subject: Some(other), ..device.request() });
    assert_eq!(device.result(), 403, "as another component");
    assert!(device.installed.is_empty());
}

// test: oma-dm 12.1, oma-002 scomo.download (download, delivered, install inactive)
#[test]
fn a_download_is_delivered_until_it_is_installed() {
    let mut device = Device::managed();
    device.download_component(Operation::Download);
    assert_eq!(
        device.reported(),
        ["1200 ./SCOMO/Download/x/Operations/Download ./SCOMO/Inventory/Delivered/x"]
    );
    assert!(device.installed.is_empty());
    device.restart();
    let software = device.software();
    assert_eq!(software.held.as_deref(), Some("x"));
    assert_eq!(software.announced.package(Branch::Delivered, "x"), "player".parse().ok());
    assert_eq!(software.status(Branch::Delivered, "x"), 50);
    assert_eq!(device.change(Operation::InstallInactive), StatusCode::ACCEPTED);
    assert!(!device.software().deployed[0].active);
    assert!(!device.software().announced.has(Branch::Delivered, "x"));
    assert_eq!(device.result(), 200);
}

// test: oma-dm 12.1 (remove what is delivered)
#[test]
fn a_delivered_package_is_removed_and_makes_room() {
    let mut device = Device::managed();
    device.download_component(Operation::Download);
    assert_eq!(device.change(Operation::RemovePackage), StatusCode::ACCEPTED);
    assert_eq!((device.phase(), device.disk.object), (Phase::Idle, None));
    assert_eq!(
        device.reported().last().unwrap(),
        "1200 ./SCOMO/Inventory/Delivered/x/Operations/Remove -"
    );
    assert_eq!(device.change(Operation::Install), StatusCode::FORBIDDEN);
}

// test: oma-dm 12.1, oma-002 scomo.direct (direct delivery)
#[test]
fn a_package_that_a_replace_brings_is_installed_by_its_exec() {
    let mut device = Device::managed();
    let bundle = device.bundle_of_component();
    let delivered = subject(Operation::Install);
    let code = device.agent.owners.receive_component(device.now, delivered.clone(), &bundle);
    device.settle();
    assert_eq!((code, device.phase()), (StatusCode::OK, Phase::Verified));
    let firmware = device.agent.owners.update(device.now, None);
    assert_eq!(firmware, StatusCode::FORBIDDEN, "it is no firmware");
    assert_eq!(device.change(Operation::Install), StatusCode::ACCEPTED);
    assert!(device.software().deployed[0].active);

    let mut device = Device::managed();
    let code = device.agent.owners.receive_component(device.now, delivered, b"no bundle");
    assert_eq!((code, device.change(Operation::Install)), (StatusCode::OK, StatusCode::ACCEPTED));
    assert_eq!(
        device.reported(),
        ["1407 ./SCOMO/Inventory/Delivered/x/Operations/Install -"],
        "the Exec has the result"
    );
}

// test: oma-dm 12.1, oma-002 scomo.install, oma-002 scomo.activate (activate, deactivate, remove)
#[test]
fn what_the_installer_lists_decides_whether_a_change_has_succeeded() {
    for (operation, before, after, success, failure) in [
        (Operation::Activate, false, Some(true), 1200, 1409),
        (Operation::Deactivate, true, Some(false), 1200, 1410),
        (Operation::Remove, true, None, 1200, 1408),
    ] {
        for (pretends, code) in [(false, success), (true, failure)] {
            let mut device = Device::that_has(before);
            device.disk.pretends = pretends;
            assert_eq!(device.change(operation), StatusCode::ACCEPTED);
            let reported = device.reported();
            assert!(reported[0].starts_with(&code.to_string()), "{operation} {reported:?}");
            let active = device.software().deployed.first().map(|component| component.active);
            assert_eq!(active, if pretends { Some(before) } else { after }, "{operation}");
            assert_eq!(device.alerts()[0].correlator, correlator("c-2"));
        }
    }
}

// test: oma-dm 12.1 (a power cut in a change)
#[test]
fn a_change_that_a_power_cut_broke_off_ends_by_what_is_installed() {
    for outputs in 0..12 {
        let mut device = Device::that_has(true);
        device.power_left = Some(outputs);
        device.change(Operation::Remove);
        let had_begun = device.journal().phase == "handed-over";
        let had_ended = !device.journal().alerts.is_empty();
        device.restart();
        let is_gone = device.disk.deployed.is_empty();
        let expected: &[u16] = match (had_begun || had_ended, is_gone) {
            (false, _) => &[],
            (true, true) => &[200],
            (true, false) => &[410],
        };
        assert_eq!(device.results(), expected, "after {outputs} outputs");
        assert!(!is_occupied(&device.agent.owners));
    }
}

#[test]
fn nothing_is_changed_while_an_answer_of_the_installer_is_pending() {
    let mut device = Device::that_has(true);
    device.agent.handle_installer(device.now, InstallerAnswer::Components(None));
    device.held = Held::Version;
    device.now.mono = device.agent.owners.installer.deadline().unwrap();
    device.agent.handle_timeout(device.now);
    device.run();
    assert_eq!(device.waiting.len(), 1, "a further read has begun");
    assert_eq!(device.change(Operation::Remove), StatusCode::ACCEPTED);
    assert_eq!((device.results(), device.disk.deployed.len()), (vec![452], 1));
    device.release();
    device.change(Operation::Remove);
    assert_eq!((device.results(), device.disk.deployed.len()), (vec![452, 200], 0));
}

#[test]
fn a_component_stays_one_over_restarts_and_the_reboot_that_its_installer_requests() {
    let mut device = Device::managed();
    device.install_ends = InstallOutcome::RebootNeeded;
    device.arm_component(Operation::DownloadInstallInactive);
    device.restart();
    device.to(OPENS);
    device.receive_some(20);
    device.restart();
    device.to(OPENS + 1);
    device.receive_pass();
    assert_eq!(device.phase(), Phase::HandedOver);
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::HandedOver, Vec::new()));
    device.disk.reboots += 1;
    device.restart();
    let result = "1200 ./SCOMO/Download/x/Operations/DownloadInstallInactive \
                  ./SCOMO/Inventory/Deployed/player";
    assert_eq!(device.reported(), [result]);
    assert!(!device.software().deployed[0].active);
    let class = component_class(CLASS, &"player".parse().unwrap());
    let installed = device.journal().installed;
    assert_eq!((installed.len(), &installed[0].class), (1, &class.0.to_vec()));
}

// test: oma-002 7 (one operation at a time)
#[test]
fn one_operation_goes_on_at_a_time() {
    let mut device = Device::that_has(true);
    device.held = Held::Components;
    device.change(Operation::Deactivate);
    assert_eq!(device.change(Operation::Deactivate), StatusCode::ACCEPTED);
    assert!(device.results().is_empty(), "the same again is the same");
    device.change(Operation::Remove);
    device.arm_component(Operation::DownloadInstall);
    let bundle = device.bundle_of_component();
    let firmware = device.agent.owners.receive_package(device.now, &bundle);
    assert_eq!((device.results(), firmware), (vec![452, 452], StatusCode::FORBIDDEN));
    device.release();
    assert_eq!(device.results(), [452, 452, 200]);

    let mut device = Device::managed();
    device.arm_component(Operation::DownloadInstall);
    device.change(Operation::Remove);
    assert_eq!((device.phase(), device.results()), (Phase::Armed, vec![452]));
}

#[test]
fn firmware_shows_nothing_of_a_component_and_disarms_it() {
    let mut device = Device::managed();
    device.arm_component(Operation::DownloadInstall);
    let tree = crate::dm::tree::Tree::new(config().dm);
    let get = |device: &Device, uri: &str| {
        let items = tree.get(&device.agent.owners, uri).unwrap();
        items[0].data_text().unwrap_or_default().to_owned()
    };
    assert_eq!(get(&device, "./FwUpdate/Main/Ext/Broadcast/Phase"), "idle");
    assert_eq!(get(&device, "./SCOMO/Download/x/Ext/Broadcast/Phase"), "armed");
    let uri = "./FwUpdate/Main/Ext/Broadcast/Disarm";
    let item = proto::dm::syncml::Item::target(uri);
    let mut tree = crate::dm::tree::Tree::new(config().dm);
    let code = tree.exec(device.now, &mut device.agent.owners, &item, None);
    device.settle();
    assert_eq!((code, device.results()), (StatusCode::OK, vec![453]));
    assert!(device.reported()[0].starts_with("1453 ./SCOMO/Download/x/"));
}

// test: oma-002 7 (rollback)
#[test]
fn a_component_that_was_removed_comes_back_and_an_older_one_does_not() {
    let mut device = Device::managed();
    let install = |device: &mut Device| device.download_component(Operation::DownloadInstall);
    install(&mut device);
    install(&mut device);
    assert_eq!(device.results(), [200, 251], "it is there already");
    device.change(Operation::Remove);
    install(&mut device);
    assert_eq!(device.software().deployed.len(), 1);
    device.change(Operation::Remove);
    device.restart();
    device.broadcast.manifest.sequence = 4;
    device.broadcast.campaign.sequence = 6;
    let manifest = device.broadcast.manifest.emit().unwrap();
    device.broadcast.campaign.manifest_sha256 = sha256(&[&manifest]);
    install(&mut device);
    assert_eq!((device.result(), device.software().deployed.len()), (455, 0));
}

// test: oma-003 6.1.4.16
#[test]
fn the_inventory_is_shown_once_the_user_has_given_leave() {
    for (answer, is_shown) in [(Answer::Yes, true), (Answer::No, false), (Answer::TimedOut, false)]
    {
        let user = Settings { front: UserInterface::Interactive, ..Settings::default() };
        let disk = Disk { user, inventory: InventoryAccess::Asked, ..Disk::default() };
        let mut device = Device::made(component(), disk);
        assert!(!device.software().is_shown);
        let decided = answer != Answer::TimedOut;
        device.agent.owners.on_inventory_denied(device.now);
        device.agent.owners.on_inventory_denied(device.now);
        device.settle();
        let [question] = device.asked.as_slice() else { panic!("asked once") };
        assert_eq!(question.about, PromptPurpose::Inventory);
        let ticket = question.ticket;
        device.agent.handle_user_reply(device.now, ticket, Reply::Answer(answer));
        device.run();
        device.restart();
        assert_eq!(device.software().is_shown, is_shown);
        device.agent.owners.on_inventory_denied(device.now);
        device.settle();
        assert_eq!(device.asked.len(), if decided { 1 } else { 2 }, "who has said is not asked");
    }
    let disk = Disk { inventory: InventoryAccess::Granted, ..Disk::default() };
    assert!(Device::made(component(), disk).software().is_shown, "the enrolment has granted it");
    assert!(Device::new().agent.owners.software().is_none());
}

#[test]
fn a_device_that_waits_for_its_list_hands_nothing_over_and_talks_to_nobody() {
    let mut device = Device::managed();
    device.download_component(Operation::Download);
    device.held = Held::Nothing;
    device.agent = boot(&device.broadcast, &device.disk, device.now, 9);
    assert!(!device.agent.owners.installer.knows_what_is_installed());
    let version = InstallerAnswer::Version(Some("1.0".to_owned()));
    device.agent.handle_installer(device.now, version);
    assert!(!device.agent.owners.installer.knows_what_is_installed());
    device.agent.handle_installer(device.now, InstallerAnswer::Components(None));
    assert!(device.agent.owners.installer.knows_what_is_installed());
}
