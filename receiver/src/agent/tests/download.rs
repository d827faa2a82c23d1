//! Packages that come by unicast: over HTTP, inside a DM session, from local media.

use proto::{
    dm::{
        code::StatusCode,
        descriptor::{self, Descriptor},
        ui::Answer,
    },
    ids::ComponentId,
    trust::bundle::{self, BundleHead},
};

use super::*;
use crate::{
    agent::operations::complete,
    dm::DownloadRequest,
    user::{Consent, PromptPurpose, Reply, Settings, UserInterface},
};

const DESCRIPTOR: &str = "http://127.0.0.1:1/descriptor";
const PACKAGE: &str = "http://127.0.0.1:1/package";
const NOTIFY: &str = "http://127.0.0.1:1/notify";

/// The change that an attacker makes to a document.
type Change<T> = fn(&mut T);

impl Device {
    fn bundle(&self) -> Vec<u8> {
        let image = &self.broadcast.image;
        let length = image.len() as u64;
        let (manifest, campaign) =
            (self.broadcast.manifest_envelope(), self.broadcast.campaign_envelope());
        let head = BundleHead::emit(&manifest, &campaign, (ComponentId(0), length));
        [head, image.clone(), BundleHead::tail(length)].concat()
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            version: Some("1.0".to_owned()),
            types: vec![bundle::MEDIA_TYPE.to_owned()],
            size: self.bundle().len() as u64,
            object_uri: PACKAGE.to_owned(),
            install_notify_uri: Some(NOTIFY.to_owned()),
            ..Descriptor::default()
        }
    }

    /// The Exec of scenario 2.
    fn download(&mut self, operation: Exec) {
        let request = DownloadRequest {
            operation,
            url: DESCRIPTOR.to_owned(),
            report: ReportSettings::default(),
            correlator: Some(Correlator(format!("c-{}", self.alerts().len() + 1))),
            subject: None,
        };
        self.agent.owners.download(self.now, request);
        self.agent.settle(self.now);
        self.run();
    }

    /// Serves what was asked for from an honest server, until nothing is asked for.
    fn serve(&mut self) {
        while self.serve_one() {}
    }

    fn serve_one(&mut self) -> bool {
        if self.fetches.is_empty() || self.stopped {
            return false;
        }
        let fetch = self.fetches.remove(0);
        let document = self.descriptor().emit().into_bytes();
        let (media_type, whole) = if fetch.url == DESCRIPTOR {
            (descriptor::MEDIA_TYPE, document)
        } else {
            (bundle::MEDIA_TYPE, self.bundle())
        };
        let place = |at: u64| usize::try_from(at).unwrap().min(whole.len());
        let octets = whole[place(fetch.from)..place(fetch.to)].to_vec();
        let total = Some(whole.len() as u64);
        self.answer(Ok(Fetched {
            media_type: media_type.to_owned(),
            total,
            octets,
            ..Fetched::default()
        }));
        true
    }

    /// Lets the time pass until the next timer.
    fn wait(&mut self) {
        let wait = self.agent.deadline(self.now).expect("it waits");
        self.now = Now { mono: wait, ..self.now };
        self.agent.handle_timeout(self.now);
        self.run();
    }

    fn answer(&mut self, fetched: Result<Fetched, FetchError>) {
        self.agent.handle_network(self.now, NetworkAnswer::Fetched(fetched));
        self.run();
    }

    fn answer_descriptor(&mut self, descriptor: &Descriptor) {
        self.fetches.remove(0);
        let octets = descriptor.emit().into_bytes();
        let media_type = descriptor::MEDIA_TYPE.to_owned();
        self.answer(Ok(Fetched { media_type, octets, ..Fetched::default() }));
    }

    fn replace_package(&mut self, octets: &[u8]) -> StatusCode {
        let code = self.agent.owners.receive_package(self.now, octets);
        self.agent.settle(self.now);
        self.run();
        code
    }

    fn update(&mut self, correlator: &str) -> StatusCode {
        let correlator = Some(Correlator(correlator.to_owned()));
        let code = self.agent.owners.update(self.now, correlator);
        self.agent.settle(self.now);
        self.run();
        code
    }

    fn state(&self) -> u16 {
        self.agent.status().state
    }

    fn last(&self) -> (Exec, u16, Option<String>) {
        let alert = self.alerts().pop().expect("a result");
        (alert.operation, alert.result.0, alert.correlator.map(|correlator| correlator.0))
    }
}

// test: oma-001 8.1.2.12, oma-001 8.1.2.13, oma-001 8.1.2.15, oma-001 8.1.2.17, oma-001 8.1.2.19
// test: oma-001 8.1.2.21, oma-001 8.1.2.23, oma-002 fumo.both
#[test]
fn a_package_is_downloaded_by_its_descriptor_installed_and_reported_to_both_servers() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    assert_eq!((device.state(), device.fetches[0].url.as_str()), (30, DESCRIPTOR));
    device.serve_one();
    assert_eq!(device.fetches[0].url, PACKAGE, "the head of the package");
    device.serve_one();
    assert_eq!(device.journal().phase, "receiving");
    device.serve();
    assert_eq!(device.installed, [device.broadcast.image.clone()]);
    assert_eq!(device.phase(), Phase::Confirmed);
    let expected = (Exec::DownloadAndUpdate, 200, Some("c-1".to_owned()));
    assert_eq!(device.last(), expected);
    assert_eq!(device.notices, [(NOTIFY.to_owned(), "900 Success\r\n".to_owned())]);
}

// test: oma-001 8.1.2.18
#[test]
fn a_download_goes_on_after_a_power_cut_from_what_was_synced() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    for _ in 0..2 {
        device.serve_one();
    }
    // Before the store, before the journal that counts it, before the check, before the hand-off.
    for cut in 0..4 {
        device.power_left = Some(cut);
        device.serve();
        device.fetches.clear();
        device.restart();
        let fetched = device.journal().download.map(|download| download.fetched);
        assert!(fetched.is_none_or(|octets| octets <= device.disk.image.len() as u64), "{cut}");
    }
    device.serve();
    assert_eq!(device.installed, [device.broadcast.image.clone()]);
    assert_eq!(device.results(), [200]);
}

// test: oma-001 8.1.2.15, oma-dm 14, oma-dm 14.1
#[test]
fn a_descriptor_that_does_not_do_is_refused_with_its_codes() {
    let cases: [(Change<Descriptor>, u16, Option<&str>); 5] = [
        (|it| it.version = Some("2.0".to_owned()), 409, Some("951 Invalid DDVersion\r\n")),
        (|it| it.types = vec!["a/b".to_owned()], 405, Some("953 Non-Acceptable Content\r\n")),
        (|it| it.size = u64::MAX, 501, Some("901 Insufficient memory\r\n")),
        (|it| it.object_uri = "file:/etc/passwd".to_owned(), 411, Some("954 Loader Error\r\n")),
        (
            |it| {
                it.object_uri = "ftp://x".to_owned();
                it.install_notify_uri = None;
            },
            411,
            None,
        ),
    ];
    for (change, result, notice) in cases {
        let mut device = Device::new();
        device.download(Exec::DownloadAndUpdate);
        let mut descriptor = device.descriptor();
        change(&mut descriptor);
        device.answer_descriptor(&descriptor);
        assert_eq!(device.results(), [result]);
        let notices: Vec<_> = device.notices.iter().map(|(_, body)| body.as_str()).collect();
        assert_eq!(notices, Vec::from_iter(notice), "{result}");
        assert!(device.fetches.is_empty() && device.installed.is_empty());
    }
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    let media_type = descriptor::MEDIA_TYPE.to_owned();
    device.answer(Ok(Fetched { media_type, octets: b"<media/>".to_vec(), ..Fetched::default() }));
    assert_eq!(device.results(), [409]);
}

#[test]
fn media_types_and_schemes_are_compared_without_case() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    let mut descriptor = device.descriptor();
    descriptor.object_uri = PACKAGE.replace("http:", "HTTP:");
    descriptor.types = vec![bundle::MEDIA_TYPE.to_uppercase()];
    device.fetches.remove(0);
    let media_type = format!("{} ; charset=utf-8", descriptor::MEDIA_TYPE.to_uppercase());
    let octets = descriptor.emit().into_bytes();
    device.answer(Ok(Fetched { media_type, octets, ..Fetched::default() }));
    assert_eq!(device.fetches[0].url, descriptor.object_uri);
    device.serve();
    assert_eq!(device.results(), [200]);
    assert_eq!(device.installed.len(), 1);
}

// test: oma-001 8.1.2.15
#[test]
fn a_package_that_is_not_what_was_signed_or_announced_is_never_installed() {
    let cases: [(Change<Vec<u8>>, u16, &str); 4] = [
        (|it| it[600] ^= 1, 404, "953"),
        (|it| it.truncate(600), 405, "953"),
        (|it| it.extend([0; 512]), 405, "905"),
        (|it| *it.last_chunk_mut::<2000>().unwrap() = [9; 2000], 402, "905"),
    ];
    for (change, result, notice) in cases {
        let mut device = Device::new();
        device.download(Exec::DownloadAndUpdate);
        let mut octets = device.bundle();
        change(&mut octets);
        let mut descriptor = device.descriptor();
        if result == 404 || result == 402 {
            descriptor.size = octets.len() as u64;
        } else if notice == "905" {
            descriptor.size += 512 * 2;
        }
        device.answer_descriptor(&descriptor);
        while !device.fetches.is_empty() {
            let fetch = device.fetches.remove(0);
            let place = |at: u64| usize::try_from(at).unwrap().min(octets.len());
            let piece = octets[place(fetch.from)..place(fetch.to)].to_vec();
            let media_type = bundle::MEDIA_TYPE.to_owned();
            device.answer(Ok(Fetched { media_type, octets: piece, ..Fetched::default() }));
        }
        assert_eq!(device.results(), [result]);
        assert!(device.notices[0].1.starts_with(notice), "{:?}", device.notices);
        assert!(device.installed.is_empty());
    }
}

#[test]
fn a_server_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let status = |code| FetchError::Status { code, retry_after: None };
    for (error, result) in [
        (FetchError::Refused, 411),
        (status(404), 411),
        (status(410), 411),
        (status(401), 406),
        (status(403), 406),
    ] {
        let mut device = Device::new();
        device.download(Exec::DownloadAndUpdate);
        device.answer(Err(error));
        assert_eq!(device.results(), [result], "{error:?}");
    }
    for (error, result) in [
        (FetchError::Network, 503),
        (FetchError::OtherRange, 500),
        (status(408), 407),
        (status(425), 412),
        (status(429), 412),
        (status(503), 412),
        (status(504), 407),
        (status(500), 500),
    ] {
        let mut device = Device::new();
        device.download(Exec::DownloadAndUpdate);
        let begun = device.now.mono;
        let mut tries = 0;
        while device.results().is_empty() {
            device.answer(Err(error));
            tries += 1;
            device.wait();
        }
        assert_eq!(device.results(), [result], "{error:?}");
        let lasted = device.now.mono.since(begun);
        assert!(lasted >= Duration::from_secs(24 * 3600) && tries > 250, "{lasted:?}, {tries}");
    }
}

#[test]
fn a_server_that_names_a_time_is_not_asked_before() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    let begun = device.now.mono;
    let retry_after = Some(Duration::from_secs(1_000));
    device.answer(Err(FetchError::Status { code: 429, retry_after }));
    while device.fetches.len() < 2 {
        device.wait();
    }
    assert_eq!(device.now.mono.since(begun), Duration::from_secs(1_000));
}

#[test]
fn a_package_comes_in_as_many_pieces_as_the_network_makes_of_it() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    let mut cuts = 0;
    while !device.fetches.is_empty() {
        let fetch = device.fetches[0].clone();
        if fetch.url == DESCRIPTOR {
            // Half a document is none, and the next one may be another.
            let (media_type, octets) = (descriptor::MEDIA_TYPE.to_owned(), b"<media".to_vec());
            device.fetches.remove(0);
            device.answer(Ok(Fetched { media_type, octets, is_cut: true, ..Fetched::default() }));
            device.wait();
            assert_eq!(device.fetches[0], fetch);
            assert!(device.serve_one());
            continue;
        }
        device.fetches.remove(0);
        let bundle = device.bundle();
        let place = |at: u64| usize::try_from(at).unwrap().min(bundle.len());
        let (from, to) = (place(fetch.from), place(fetch.to));
        assert!(cuts == 0 || fetch.from > 0, "the outcome of the front is kept");
        let octets = bundle[from..to.min(from + 700)].to_vec();
        let is_cut = from + 700 < to;
        cuts += u32::from(is_cut);
        device.answer(Ok(Fetched { octets, is_cut, ..Fetched::default() }));
    }
    assert_eq!((device.results(), device.installed.len()), (vec![200], 1));
    assert!(cuts > 1, "{cuts}");
}

#[test]
fn of_a_slow_server_all_that_came_in_time_counts() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    let begun = device.now.mono;
    let mut pieces = 0;
    while !device.fetches.is_empty() {
        let Fetch { url, from, to } = device.fetches.remove(0);
        let (media_type, whole) = if url == DESCRIPTOR {
            (descriptor::MEDIA_TYPE, device.descriptor().emit().into_bytes())
        } else {
            (bundle::MEDIA_TYPE, device.bundle())
        };
        let place = |at: u64| usize::try_from(at).unwrap().min(whole.len());
        let (from, to) = (place(from), place(to));
        let octets = whole[from..to.min(from + 100)].to_vec();
        let (media_type, has_more) = (media_type.to_owned(), from + 100 < to);
        pieces += u32::from(has_more);
        device.answer(Ok(Fetched { media_type, octets, has_more, ..Fetched::default() }));
    }
    assert_eq!((device.results(), device.installed.len()), (vec![200], 1));
    assert!(pieces > 10 && device.now.mono == begun, "{pieces} without a wait");
}

#[test]
fn an_early_end_without_an_octet_is_a_passing_failure() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    // Of the descriptor, of the front, of the image.
    for _ in 0..3 {
        let fetch = device.fetches.remove(0);
        device.answer(Ok(Fetched::default()));
        assert!(device.results().is_empty(), "{fetch:?}");
        device.wait();
        assert_eq!(device.fetches, [fetch]);
        device.serve_one();
    }
    device.serve();
    assert_eq!((device.results(), device.installed.len()), (vec![200], 1));
}

#[test]
fn a_file_that_ends_early_is_corrupted() {
    let mut device = Device::new();
    let head = device.bundle();
    device.agent.import(device.now, "/media/bundle", &head).unwrap();
    device.run();
    device.answer(Ok(Fetched::default()));
    assert_eq!(device.results(), [402]);
}

#[test]
fn a_server_that_sends_only_what_is_before_the_range_is_asked_for_a_day() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    device.serve_one();
    for hours in 0..=24 {
        let fetch = device.fetches.pop();
        assert!(fetch.is_some() && device.results().is_empty(), "{hours}");
        device.answer(Err(FetchError::NotYet));
        device.now.mono = device.now.mono + Duration::from_secs(3_600);
    }
    assert_eq!(device.results(), [503]);
}

#[test]
fn the_fetch_of_an_operation_that_ends_is_stopped() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    device.serve_one();
    assert_eq!((device.fetches.len(), device.stopped_fetches), (1, 0));
    complete(&mut device.agent.owners, device.now, Phase::Failed, ResultCode::USER_CANCELLED);
    device.agent.settle(device.now);
    device.run();
    assert_eq!(device.stopped_fetches, 1);
    device.fetches.clear();
    device.download(Exec::DownloadAndUpdate);
    assert!(device.fetches.is_empty(), "one fetch at a time");
    device.answer(Err(FetchError::Network));
    assert_eq!(device.fetches.len(), 1, "the next one begins");
}

// test: oma-001 8.1.2.16
#[test]
fn the_user_decides_whether_the_download_begins() {
    for (answer, result) in [(Answer::Yes, 200), (Answer::No, 401)] {
        let (front, consent) = (UserInterface::Interactive, Consent::Download);
        let mut device = Device::with_user(Settings { front, consent, ..Settings::default() });
        device.download(Exec::DownloadAndUpdate);
        device.serve();
        assert_eq!(
            device.asked.last().map(|question| question.about),
            Some(PromptPurpose::Download)
        );
        assert!(device.fetches.is_empty(), "nothing of the image is fetched before");
        let ticket = device.asked[0].ticket;
        device.agent.handle_user_reply(device.now, ticket, Reply::Answer(answer));
        device.run();
        device.serve();
        assert_eq!(device.results(), [result]);
    }
}

// test: oma-001 8.1.1.10, oma-001 8.1.1.11, oma-001 8.1.1.12, oma-000 8.2.4.1, oma-002 fumo.update, oma-002 fumo.direct
#[test]
fn a_package_inside_the_session_is_held_until_update_is_executed() {
    let mut device = Device::new();
    assert_eq!(device.replace_package(&device.bundle()), StatusCode::OK);
    assert_eq!((device.state(), device.journal().phase.as_str()), (50, "verified"));
    assert!(device.installed.is_empty());
    device.restart();
    assert_eq!((device.state(), device.installed.len()), (50, 0));
    assert_eq!(device.update("c-9"), StatusCode::ACCEPTED);
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.installed, [device.broadcast.image.clone()]);
    assert_eq!(device.last(), (Exec::Update, 200, Some("c-9".to_owned())));
}

// test: oma-dm 11.1, oma-000 8.2.4.2.end
#[test]
fn a_held_package_goes_when_an_empty_one_is_written() {
    let mut device = Device::new();
    device.replace_package(&device.bundle());
    assert_eq!(device.replace_package(&[]), StatusCode::OK);
    assert_eq!((device.state(), device.disk.object), (10, None));
    assert_eq!(device.update("c-9"), StatusCode::FORBIDDEN);
    assert_eq!(device.replace_package(&device.bundle()), StatusCode::OK, "another one is taken");
    assert_eq!(device.state(), 50);
}

// test: oma-001 8.1.1.10
#[test]
fn a_package_that_is_refused_is_reported_with_its_exec() {
    let cases: [(Change<Vec<u8>>, u16); 4] = [
        (|it| it.truncate(100), 405),
        (|it| it[600] ^= 1, 404),
        (|it| it.truncate(it.len() - 1500), 402),
        (|it| *it.last_chunk_mut::<2000>().unwrap() = [9; 2000], 402),
    ];
    for (change, result) in cases {
        let mut device = Device::new();
        let mut octets = device.bundle();
        change(&mut octets);
        assert_eq!(device.replace_package(&octets), StatusCode::OK);
        assert_eq!(device.state(), 10);
        assert_eq!(device.update("c-9"), StatusCode::ACCEPTED);
        assert_eq!(device.last(), (Exec::Update, result, Some("c-9".to_owned())));
        assert!(device.installed.is_empty());
    }
}

#[test]
fn a_package_beyond_the_limits_is_refused_at_once() {
    let mut device = Device::new();
    let octets = device.bundle();
    let limits = &mut device.agent.owners.config.limits;
    limits.max_package_bytes = octets.len() as u64;
    limits.max_storage_bytes = octets.len() as u64 - 1;
    assert_eq!(device.replace_package(&octets), StatusCode::DEVICE_FULL);
    let longer = [octets, vec![0]].concat();
    assert_eq!(device.replace_package(&longer), StatusCode::TOO_LARGE);
    assert_eq!(device.state(), 10);
}

// test: oma-002 fumo.download
#[test]
fn a_download_alone_ends_with_its_own_result_and_waits_for_update() {
    let mut device = Device::new();
    device.download(Exec::Download);
    device.serve();
    assert_eq!(device.last(), (Exec::Download, 200, Some("c-1".to_owned())));
    assert_eq!((device.state(), device.installed.len()), (50, 0));
    device.restart();
    assert_eq!(device.update("c-2"), StatusCode::ACCEPTED);
    assert_eq!(device.last(), (Exec::Update, 200, Some("c-2".to_owned())));
    assert_eq!(device.installed.len(), 1);
}

// test: oma-003 5.5.1.5.1
#[test]
fn a_kiosk_brings_a_package_with_the_users_consent_and_the_same_checks() {
    let mut device = Device::with_user(Settings {
        front: UserInterface::Interactive,
        consent: Consent::Both,
        ..Settings::default()
    });
    let octets = device.bundle();
    let version = device.agent.import(device.now, "/media/bundle", &octets).unwrap();
    device.run();
    assert_eq!(version, "2.0");
    assert_eq!(device.fetches[0].url, "file:/media/bundle");
    device.serve();
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.last(), (Exec::DownloadAndUpdate, 200, None));
    let asked = device.asked.iter().filter(|question| question.about != PromptPurpose::Result);
    assert_eq!(asked.count(), 0, "who brings it has agreed");
    let again = device.agent.import(device.now, "/media/bundle", &octets).unwrap_err();
    assert_eq!(again.result, ResultCode::UP_TO_DATE);
    let mut forged = octets;
    forged[600] ^= 1;
    let refused = device.agent.import(device.now, "/media/bundle", &forged).unwrap_err();
    assert_eq!(refused.result, ResultCode::BAD_SIGNATURE);
}

#[test]
fn a_notification_that_does_not_arrive_is_sent_again_and_survives_a_restart() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    device.notices_fail = true;
    device.serve();
    assert_eq!((device.notices.len(), device.results()), (1, vec![200]));
    device.notices_fail = false;
    device.restart();
    device.to(1_600);
    assert_eq!(device.notices.len(), 2);
    assert!(device.journal().install_notifications.is_empty());
}

// test: oma-001 8.1.1.13, oma-001 8.1.2.20, oma-001 8.1.2.22
#[test]
fn the_version_counts_after_the_reboot_that_the_installer_requested() {
    for (runs, results, text) in [
        ("2.0", [200], "Version 2.0 is installed."),
        ("1.0", [410], "was not installed: the installation failed. The device works as before."),
    ] {
        let mut device = Device::with_user(Settings {
            front: UserInterface::Interactive,
            ..Settings::default()
        });
        device.install_ends = InstallOutcome::RebootNeeded;
        device.download(Exec::DownloadAndUpdate);
        device.serve();
        assert_eq!((device.state(), device.results()), (60, vec![]));
        device.restart();
        assert_eq!((device.state(), device.results()), (60, vec![]), "the same boot");
        device.disk.reboots += 1;
        device.version = runs.to_owned();
        device.restart();
        assert_eq!(device.results(), results);
        assert_eq!(device.installed.len(), 1, "handed over once");
        assert!(device.asked.last().unwrap().prompt.text.ends_with(text));
    }
}

#[test]
fn a_response_for_a_download_that_has_ended_is_not_used_for_the_next_one() {
    let mut device = Device::new();
    device.download(Exec::DownloadAndUpdate);
    device.agent.owners.disarm(device.now);
    device.run();
    device.download(Exec::DownloadAndUpdate);
    assert_eq!(device.fetches.len(), 1, "the answer to the first is awaited");
    let junk = Fetched { octets: b"old".to_vec(), ..Fetched::default() };
    device.fetches.clear();
    device.answer(Ok(junk));
    assert_eq!(device.fetches.len(), 1);
    device.serve();
    assert_eq!(device.results(), [453, 200]);
}
