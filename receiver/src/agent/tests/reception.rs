//! An armed device from its Exec to its report: what survives, what ends it, what is refused.

use proto::fixtures::{broadcast::packet, documents::COMPONENT};

use super::*;

// test: oma-002 1, oma-003 5.5.1.4, oma-003 5.5.1.6.5 (prepared, tuned in by itself, from the sender that was named)
#[test]
fn an_armed_device_receives_verifies_installs_and_reports() {
    let mut device = Device::new();
    device.arm();
    assert_eq!(device.phase(), Phase::Armed);
    assert_eq!(device.journal().phase, "armed");
    device.to(OPENS);
    assert_eq!(device.joined, [device.broadcast.tune_in()]);
    device.receive_pass();
    assert_eq!(device.installed, [device.broadcast.image.clone()]);
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.joined, []);
    let [alert] = &device.alerts()[..] else { panic!("one alert") };
    assert_eq!(alert.result, ResultCode::SUCCESS);
    assert_eq!(alert.correlator, Some(Correlator("c-1".to_owned())));
    assert_eq!(device.disk.object, None, "the storage is free again");
}

#[test]
fn nothing_that_others_can_see_happens_before_the_journal_is_synced() {
    let mut device = Device::new();
    device.agent.owners.arm(device.now, device.request());
    device.agent.settle(device.now);
    device.agent.check_in(device.now);
    let mut seen = Vec::new();
    while let Some(output) = device.agent.poll_output(device.now) {
        seen.push(format!("{output:?}").split(['(', ' ']).nth(1).unwrap().to_owned());
    }
    assert_eq!(
        seen,
        ["WriteFile", "WriteFile", "Journal"],
        "later effects wait for the completion"
    );
    let generation = device.journal_generation() + 1;
    device.agent.handle_storage(device.now, Completion::JournalWritten(generation));
    assert!(matches!(
        device.agent.poll_output(device.now),
        Some(Output::Storage(StorageCommand::RemoveOtherObjects(_)))
    ));
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_device() {
    let mut device = Device::new();
    device.agent.owners.arm(device.now, device.request());
    device.agent.settle(device.now);
    while device.agent.poll_output(device.now).is_some() {}
    let full = StorageError::NoSpace { attempted: "write the journal".to_owned() };
    device.agent.handle_storage(device.now, Completion::JournalFailed(1, full));
    assert!(matches!(device.agent.poll_output(device.now), Some(Output::Stop(_))));
    assert!(device.agent.poll_output(device.now).is_none(), "nothing follows");
}

#[test]
fn a_device_that_is_not_armed_stores_nothing() {
    let mut device = Device::new();
    device.to(OPENS);
    device.receive_pass();
    let status = device.agent.status();
    assert_eq!((status.phase, status.slots_held), (Phase::Idle, 0));
    assert_eq!(status.stats.not_tuned_in, status.stats.datagrams);
    assert!(device.disk.logs.is_empty());
}

#[test]
fn a_device_stops_listening_once_it_has_enough() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    let mut received = 0;
    for datagram in device.broadcast.pass() {
        device.receive(&datagram);
        received += 1;
        if device.joined.is_empty() {
            break;
        }
    }
    // 40 source symbols, and in front of their segments the tables.
    let tables: usize = (0..3).map(|segment| device.broadcast.table_packets(segment).len()).sum();
    assert!(received <= 1 + tables + 40 + 4, "{received}");
}

/// The power goes after each output in turn; whatever was reached, the device ends where it would
/// have ended, installs the exact image, and installs it at most once.
// test: oma-000 8.2.5.2
#[test]
fn a_power_cut_at_any_output_costs_only_what_was_not_synced() {
    let mut cuts = 0;
    for power in 0.. {
        let mut device = Device::new();
        device.power_left = Some(power);
        device.arm();
        device.to(OPENS);
        device.receive_pass();
        let cut = device.stopped;
        device.restart();
        if device.phase() == Phase::Idle && device.results().is_empty() {
            // Nothing was durable: the server has no 202 and arms again.
            device.arm();
        }
        device.to(OPENS + 1);
        device.receive_pass();
        let exact = device.installed.iter().all(|image| *image == device.broadcast.image);
        assert!(exact && device.installed.len() <= 1, "cut at {power}");
        let results = device.results();
        assert!(results == [200] || results == [410], "cut at {power}: {results:?}");
        // The only loss is a hand-off whose beginning is durable and which never took place.
        assert_eq!(results == [200], device.installed.len() == 1, "cut at {power}");
        if !cut {
            cuts = power;
            break;
        }
    }
    assert!(cuts > 15, "{cuts} outputs");
}

#[test]
fn a_power_cut_while_a_campaign_supersedes_leaves_one_of_the_two() {
    for power in 0.. {
        let mut device = Device::new();
        device.arm();
        device.broadcast.campaign.sequence = 9;
        device.broadcast.campaign.id.0[0] ^= 1;
        let correlator = Some(Correlator("c-2".to_owned()));
        device.power_left = Some(power);
        device.arm_with(ArmRequest { correlator, ..device.request() });
        let cut = device.stopped;
        device.restart();
        let phase = device.phase();
        assert!(matches!(phase, Phase::Armed | Phase::Receiving), "cut at {power}: {phase}");
        if !cut {
            break;
        }
    }
}

#[test]
fn the_version_of_the_start_does_not_confirm_the_installation() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(45);
    device.to(OPENS + 2);
    device.held = Held::Version;
    device.restart();
    device.to(OPENS + 3);
    device.receive_pass();
    assert_eq!((device.phase(), device.installed.len()), (Phase::Verified, 0));
    device.release();
    assert_eq!((device.results(), device.installed.len()), (vec![200], 1));
}

#[test]
fn what_was_synced_is_there_after_a_kill() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(45);
    device.to(OPENS + 2);
    let synced = device.agent.status().symbols_synced;
    assert!(synced > 10, "{synced}");
    device.restart();
    let status = device.agent.status();
    assert_eq!((status.phase, status.symbols_resumed), (Phase::Receiving, synced));
    assert_eq!(device.joined.len(), 1, "it tunes in again unaided");
    device.receive_pass();
    assert_eq!(device.results(), [200]);
}

#[test]
fn a_plan_header_that_came_with_the_arming_survives_a_kill() {
    let mut device = Device::new();
    let header = device.broadcast.header.emit();
    let plan_headers = BTreeMap::from([(device.broadcast.object.component, header)]);
    device.arm_with(ArmRequest { plan_headers, ..device.request() });
    device.to(OPENS);
    device.restart();
    let without_header = device.broadcast.pass().split_off(1);
    without_header.iter().for_each(|datagram| device.receive(datagram));
    assert_eq!(device.results(), [200]);
}

#[test]
fn a_missed_window_and_an_incomplete_one_are_results_of_their_own() {
    let mut device = Device::new();
    device.arm();
    device.now = at(CLOSES + 100);
    device.to(CLOSES + 100);
    assert_eq!((device.phase(), device.results()), (Phase::Missed, vec![450]));

    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.to(CLOSES + 100);
    assert_eq!((device.phase(), device.results()), (Phase::Incomplete, vec![550]));

    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(45);
    device.to(CLOSES + 100);
    assert_eq!((device.phase(), device.results()), (Phase::Incomplete, vec![451]));
}

#[test]
fn what_an_incomplete_window_left_serves_in_the_next() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(45);
    device.to(CLOSES + 100);
    let [alert] = &device.alerts()[..] else { panic!("one alert") };
    let alert = alert.clone();
    device.agent.owners.on_alert_acknowledged(device.now, &alert);
    assert_eq!(device.phase(), Phase::Idle);
    let next = ArmRequest {
        opens: Some(Utc::from_seconds(5_000)),
        closes: Some(Utc::from_seconds(6_000)),
        correlator: Some(Correlator("c-2".to_owned())),
        ..device.request()
    };
    device.arm_with(next);
    assert!(device.agent.status().symbols_resumed > 10);
    device.to(5_000);
    device.receive_pass();
    assert_eq!(device.results(), [200]);
}

#[test]
fn suspension_keeps_the_symbols_and_ends_with_the_last_reason() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(45);
    device.agent.handle_suspend(device.now, SuspendReason::Battery);
    device.agent.handle_suspend(device.now, SuspendReason::User);
    device.run();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Suspended, 0));
    let held = device.agent.status().symbols_synced;
    device.receive_pass();
    assert_eq!(device.agent.status().symbols_synced, held, "a suspended device takes nothing");
    device.restart();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Suspended, 0));
    device.agent.handle_resume(device.now, SuspendReason::User);
    device.run();
    assert_eq!(device.phase(), Phase::Suspended);
    device.agent.handle_resume(device.now, SuspendReason::Battery);
    device.run();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Receiving, 1));
    device.receive_pass();
    assert_eq!(device.results(), [200]);
}

#[test]
fn the_same_exec_again_moves_the_windows() {
    let mut device = Device::new();
    device.arm();
    let request = ArmRequest {
        campaign: Vec::new(),
        manifest: Vec::new(),
        opens: Some(Utc::from_seconds(8_000)),
        closes: Some(Utc::from_seconds(9_000)),
        ..device.request()
    };
    device.arm_with(request.clone());
    device.to(OPENS);
    assert_eq!(device.joined, []);
    device.to(8_000);
    assert_eq!(device.joined.len(), 1);
    assert_eq!(device.results(), Vec::<u16>::new());
    // Beyond the campaign's limits the windows stay as they are.
    device.arm_with(ArmRequest { closes: Some(Utc::from_seconds(200_000)), ..request });
    assert_eq!(device.results(), [455]);
    device.receive_pass();
    assert_eq!(device.installed.len(), 1);
}

#[test]
fn the_same_exec_again_after_its_end_begins_nothing_before_its_result_is_acknowledged() {
    let mut device = Device::new();
    device.install_ends = InstallOutcome::Failed;
    device.arm();
    device.to(OPENS);
    device.receive_pass();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![410]));
    device.arm();
    device.restart();
    device.arm();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![410]));
    device.receive_pass();
    assert_eq!(device.installed.len(), 1, "handed off once");
    let alert = device.alerts().remove(0);
    assert!(device.agent.owners.dm.reports.acknowledge(&alert));
    device.arm();
    assert_eq!(device.phase(), Phase::Receiving, "the server knows the result");
}

#[test]
fn another_campaign_waits_for_this_one_unless_it_is_newer() {
    let mut device = Device::new();
    device.arm();
    let mut older = device.request();
    device.broadcast.campaign.sequence = 4;
    older.campaign = device.broadcast.campaign_envelope();
    older.url = device.broadcast.tune_in().to_string();
    older.correlator = Some(Correlator("c-2".to_owned()));
    device.arm_with(older);
    assert_eq!(device.results(), [455]);
    assert_eq!(device.phase(), Phase::Armed);

    device.broadcast.campaign.sequence = 9;
    device.broadcast.campaign.id.0[0] ^= 1;
    let newer = ArmRequest { correlator: Some(Correlator("c-3".to_owned())), ..device.request() };
    device.arm_with(newer);
    assert_eq!(device.results(), [455, 453], "the first one is superseded");
    device.to(OPENS);
    device.receive_pass();
    let last = device.alerts().pop().unwrap();
    assert_eq!(last.correlator, Some(Correlator("c-3".to_owned())));
    assert_eq!(last.result, ResultCode::SUCCESS);
}

#[test]
fn disarming_is_a_result_and_an_install_is_never_interrupted() {
    let mut device = Device::new();
    assert_eq!(device.agent.owners.disarm(device.now), proto::dm::code::StatusCode::OK);
    assert_eq!(device.results(), Vec::<u16>::new());
    device.arm();
    device.agent.owners.disarm(device.now);
    device.run();
    assert_eq!((device.phase(), device.results()), (Phase::Disarmed, vec![453]));
    device.agent.owners.update.hand_over();
    assert_eq!(device.agent.owners.disarm(device.now), proto::dm::code::StatusCode::FAILED);
}

#[test]
fn a_full_disk_is_a_result_before_the_window() {
    let mut device = Device::new();
    device.agent.owners.arm(device.now, device.request());
    device.agent.settle(device.now);
    while let Some(output) = device.agent.poll_output(device.now) {
        if let Output::Storage(StorageCommand::Open(layout)) = output {
            let full = StorageError::NoSpace { attempted: "reserve log.0".to_owned() };
            let failed = Completion::OpenFailed(layout.object_key(), full);
            device.agent.handle_storage(device.now, failed);
        } else {
            device.perform(output);
        }
    }
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![501]));
}

#[test]
fn a_wrong_version_after_the_installation_is_a_failure() {
    let mut device = Device::new();
    device.arm();
    device.broadcast.manifest.firmware_version = "2.1".to_owned();
    device.to(OPENS);
    device.agent.owners.installer.start(Some("2.0".to_owned()));
    device.agent.owners.installer.handle_ended();
    device.agent.owners.update.hand_over();
    let answer = InstallerAnswer::Version(Some("1.9".to_owned()));
    device.agent.handle_installer(device.now, answer);
    device.run();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![410]));
}

#[test]
fn an_image_damaged_on_disk_is_decoded_once_more_and_then_fails() {
    for damages in 1..=2 {
        let mut device = Device::new();
        device.arm();
        device.to(OPENS);
        let mut left = damages;
        for datagram in device.broadcast.pass().iter().chain(&device.broadcast.pass()) {
            let channel = device.broadcast.tune_in().channel;
            device.agent.handle_datagram(device.now, channel, SOURCE, datagram);
            while let Some(output) = device.agent.poll_output(device.now) {
                if matches!(output, Output::Storage(StorageCommand::VerifyImage(_))) && left > 0 {
                    left -= 1;
                    device.disk.image[0] ^= 1;
                }
                device.perform(output);
            }
        }
        let expected = if damages == 1 { 200 } else { 402 };
        assert_eq!(device.results(), [expected], "damaged {damages} times");
    }
}

#[test]
fn an_image_is_decoded_again_once_also_over_a_restart() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    let channel = device.broadcast.tune_in().channel;
    for datagram in device.broadcast.pass() {
        device.agent.handle_datagram(device.now, channel, SOURCE, &datagram);
        while let Some(output) = device.agent.poll_output(device.now) {
            if matches!(output, Output::Storage(StorageCommand::VerifyImage(_))) {
                device.disk.image[0] ^= 1;
            }
            device.perform(output);
            let anew = device.journal().objects.iter().any(|object| object.redecoded);
            if anew && device.boot == 0 {
                device.boot += 1;
                device.agent = boot(&device.broadcast, &device.disk, device.now, 1);
            }
        }
    }
    assert_eq!((device.boot, device.results()), (1, vec![402]));
}

#[test]
fn a_failed_flush_is_written_again_and_its_slots_are_remembered_over_a_restart() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.failing_flushes = 1;
    device.receive_pass();
    assert_eq!((device.phase(), device.results()), (Phase::Confirmed, vec![200]));

    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(20);
    device.failing_flushes = 1;
    device.to(OPENS + 5);
    let bad = device.journal().objects[0].bad();
    assert_eq!(bad.first().map(|run| run.first), Some(0), "{bad:?}");
    assert_eq!(device.agent.status().symbols_synced, 0);
    device.restart();
    assert_eq!(device.agent.status().symbols_synced, 0, "what is read back is not believed");
    device.to(OPENS + 10);
    device.receive_pass();
    assert_eq!(device.results(), [200]);
}

#[test]
fn a_storage_that_fails_on_and_on_is_a_result_and_what_is_synced_stays() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(20);
    device.to(OPENS + 5);
    let held = device.agent.status().symbols_synced;
    assert!(held > 0);
    device.failing_flushes = u32::MAX;
    device.receive_some(30);
    for second in 6..20 {
        device.to(OPENS + second);
    }
    assert_eq!((device.phase(), device.results()), (Phase::Incomplete, vec![400]));
    device.failing_flushes = 0;
    device.arm_with(ArmRequest { correlator: None, ..device.request() });
    assert_eq!(device.agent.status().symbols_synced, held);
}

#[test]
fn foreign_sessions_and_hints_that_contradict_the_campaign_are_counted_and_dropped() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    let channel = device.broadcast.tune_in().channel;
    let datagram = device.broadcast.data_packet(0);
    let stranger = "192.0.2.66".parse().unwrap();
    device.agent.handle_datagram(device.now, channel, stranger, &datagram);
    let mut other_session = datagram.clone();
    other_session[11] ^= 1;
    device.agent.handle_datagram(device.now, channel, SOURCE, &other_session);
    let other_channel = "232.1.2.3:3401".parse().unwrap();
    device.agent.handle_datagram(device.now, other_channel, SOURCE, &datagram);
    device.agent.handle_datagram(device.now, channel, SOURCE, &datagram[..11]);
    device.agent.handle_datagram(device.now, channel, SOURCE, &[0x10; 1473]);
    let mut no_code = datagram.clone();
    no_code[3] = 0;
    device.agent.handle_datagram(device.now, channel, SOURCE, &no_code);
    let mut other_object = datagram;
    other_object[15] ^= 0x40;
    device.agent.handle_datagram(device.now, channel, SOURCE, &other_object);
    let stats = device.agent.stats();
    assert_eq!((stats.wrong_session, stats.not_tuned_in, stats.malformed), (2, 1, 2));
    assert_eq!((stats.fec_mismatch, stats.other_object), (1, 1));
}

#[test]
fn a_damaged_envelope_is_rejected_after_a_restart() {
    let mut device = Device::new();
    device.arm();
    device.disk.files.values_mut().for_each(|file| file[40] ^= 1);
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![409]));
}

#[test]
fn another_signed_campaign_in_place_of_the_armed_one_is_rejected() {
    let mut device = Device::new();
    device.arm();
    device.broadcast.campaign.report_spread_max_s += 1;
    let other = device.broadcast.campaign_envelope();
    let pinned = device.disk.files.iter_mut().find(|(name, _)| name.ends_with(".campaign"));
    *pinned.unwrap().1 = other;
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![409]));
}

#[test]
fn forged_tables_of_files_and_hints_of_other_receivers_change_nothing() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    let hinted = |extension: &[u8], symbol: u8| {
        packet(
            Toi::object(COMPONENT),
            proto::fec::ENCODING_ID_RAPTORQ,
            extension,
            (Sbn(0), Esi(0)),
            &[symbol; 64],
        )
    };
    let fdt =
        b"<FDT-Instance Expires=\"0\"><File TOI=\"16\" Content-Location=\"x\"/></FDT-Instance>";
    let forged = [
        // A file table of its own, that ends at once.
        packet(Toi(0), 0, &[192, 0x20, 0, 1], (Sbn(0), Esi(0)), fdt),
        // EXT_FTI of another object, and EXT_CENC.
        hinted(&[64, 4, 0, 0, 0, 0, 9, 0, 0, 64, 1, 0, 1, 8, 0, 0], 1),
        hinted(&[193, 3, 0, 0], 2),
    ];
    let channel = device.broadcast.tune_in().channel;
    for mut datagram in device.broadcast.pass() {
        for forged in &forged {
            device.agent.handle_datagram(device.now, channel, SOURCE, forged);
        }
        // The session ends, the object ends.
        datagram[1] |= 3;
        device.agent.handle_datagram(device.now, channel, SOURCE, &datagram);
        device.run();
    }
    assert_eq!((device.results(), device.installed.len()), (vec![200], 1));
    assert!(device.installed[0] == device.broadcast.image);
}

// test: security 5
#[test]
fn the_time_of_the_server_counts_over_tls_alone() {
    for (url, moves) in [("https://dm.example/dm", true), ("http://127.0.0.1:1/dm", false)] {
        let mut device = Device::new();
        let account = dm::Account { url: url.to_owned(), ..config().dm.account };
        device.agent.owners.dm.account =
            AccountState::from_journal(account, Vec::new(), &JournalState::default());
        let request = ArmRequest { server_now: Some(Utc::from_seconds(1_600)), ..device.request() };
        device.agent.owners.arm(device.now, request);
        let mut journal = JournalState::default();
        device.agent.owners.trust.write_journal(&mut journal);
        assert_eq!(journal.clock_floor == 1_600, moves, "{url}");
    }
}

// test: oma-000 8.2.1, oma-001 8.1.1.1, oma-001 8.1.1.2, oma-003 5.5.1.6.3
#[test]
fn a_notification_begins_the_session_that_it_names_once() {
    let secret = proto::dm::auth::Secret::new("server", SERVER_PASSWORD);
    let notification = proto::dm::notification::Notification {
        user_mode: proto::dm::notification::UserMode::Background,
        initiator: proto::dm::notification::Initiator::Server,
        session_id: 0xbeef,
        server_id: "server".to_owned(),
        vendor: Vec::new(),
    };
    let octets = notification.emit(&secret, b"server nonce").unwrap();
    let mut device = Device::new();
    let mut config = config();
    let nonce = b"server nonce".to_vec();
    config.dm.account.server =
        Some(dm::ServerProof { kind: proto::dm::auth::AuthKind::Md5, secret, nonce });
    let root = device.broadcast.keys.root_envelope();
    device.agent = try_boot_as(config, root, &device.disk, device.now, 1).unwrap();
    device.run();
    let posts = |device: &mut Device, octets: &[u8]| {
        device.agent.handle_notification(device.now, octets);
        let mut posts = Vec::new();
        while let Some(output) = device.agent.poll_output(device.now) {
            if let Output::Network(NetworkRequest::SendDmMessage(post)) = output {
                posts.push(String::from_utf8(post.body).unwrap());
            }
        }
        posts
    };
    assert_eq!(posts(&mut device, &octets[1..]), [""; 0]);
    let begun = posts(&mut device, &octets);
    assert_eq!(begun.len(), 1);
    assert!(begun[0].contains("<SessionID>BEEF<") && begun[0].contains("<Data>1200<"));
    device.agent.handle_post_failure(
        device.now,
        crate::dm::client::TransportError::Http { status: 500, retry_after: None },
    );
    assert_eq!(posts(&mut device, &octets), [""; 0], "the same one again");
}
