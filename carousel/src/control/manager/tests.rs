use proto::ids::ComponentId;

use super::*;
use crate::{
    package::documents::{
        object_of_plan,
        tests::{NOW, campaign, manifest},
    },
    plan::encode::tests::sample,
};

const ID: [u8; 16] = [7; 16];

fn at(seconds: u64) -> Now {
    let span = Duration::from_secs(seconds);
    Now { mono: Mono(5_000_000_000) + span, utc: NOW + span }
}

fn utc(seconds: u64) -> u64 {
    NOW.seconds() + seconds
}

fn package() -> AirablePackage {
    let sample = sample();
    let manifest = manifest(&sample);
    let object = object_of_plan(&manifest, ComponentId(0), &sample.header.emit()).unwrap();
    let campaign = campaign(&manifest.emit().unwrap(), object);
    AirablePackage { campaign, plan_symbols: 160, pass_bytes: 20_000, check: PlanCheck::Passed }
}

fn control() -> Control {
    let source = "127.0.0.1".parse().unwrap();
    Control::new(Defaults { source, rate: Rate::new(40_000_000).unwrap() })
}

fn request() -> PrepareRequest {
    PrepareRequest {
        campaign_id: ID.to_vec(),
        group: "232.1.2.3".into(),
        port: 3400,
        opens_utc: utc(10),
        closes_utc: utc(100),
        bits_per_second: 0,
        window_revision: 0,
    }
}

fn prepare(control: &mut Control, now: Now, request: &PrepareRequest) -> Result<u32, Refusal> {
    control.prepare(now, request, package(), Tsi(77), None).map(|reply| reply.tsi)
}

fn open(control: &mut Control, now: Now, from: u64, to: u64) -> Result<AirStatus, Refusal> {
    open_window(control, now, (from, to), 0)
}

fn open_window(
    control: &mut Control,
    now: Now,
    (from, to): (u64, u64),
    window_revision: u32,
) -> Result<AirStatus, Refusal> {
    let (campaign_id, opens_utc, closes_utc) = (ID.to_vec(), utc(from), utc(to));
    let request = OpenRequest { campaign_id, tsi: 77, opens_utc, closes_utc, window_revision };
    control.open(now, &request)
}

fn stop(control: &mut Control, now: Now) -> Result<AirStatus, Refusal> {
    stop_window(control, now, 0)
}

fn stop_window(
    control: &mut Control,
    now: Now,
    window_revision: u32,
) -> Result<AirStatus, Refusal> {
    control.stop(now, &StopRequest { campaign_id: ID.to_vec(), tsi: 77, window_revision })
}

fn phase(control: &Control, now: Now) -> AirPhase {
    control.status(now, &StatusRequest::default()).unwrap().sessions[0].phase()
}

/// Polls until nothing is to be done; returns the actions without those that save.
fn drain(control: &mut Control, now: Now) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        match control.poll_output(now) {
            Output::Save(_) => {}
            output @ (Output::Wait(_) | Output::Idle) => {
                outputs.push(output);
                return outputs;
            }
            output @ (Output::Start(..) | Output::Stop(_)) => outputs.push(output),
        }
    }
}

fn progress(segment: u32) -> SessionProgress {
    let resume_point = ResumePoint { segment, ..ResumePoint::START };
    SessionProgress {
        resume_point,
        symbol_index: 9,
        sent: Sent { packets: 5, octets: 50, symbols: 4 },
        damaged_runs: 0,
    }
}

#[test]
fn a_session_is_on_air_from_the_first_to_the_last_second_of_its_window() {
    let mut control = control();
    assert_eq!(prepare(&mut control, at(0), &request()), Ok(77));
    assert_eq!(phase(&control, at(0)), AirPhase::Prepared);
    assert_eq!(drain(&mut control, at(20)), [Output::Idle]);
    open(&mut control, at(1), 10, 100).unwrap();
    assert_eq!(phase(&control, at(1)), AirPhase::Waiting);
    assert_eq!(drain(&mut control, at(1)), [Output::Wait(NOW + Duration::from_secs(10))]);
    let outputs = drain(&mut control, at(10));
    let channel = "232.1.2.3:3400".parse().unwrap();
    let rate = Rate::new(40_000_000).unwrap();
    let start = StartSession { tsi: Tsi(77), channel, rate, resume_point: ResumePoint::START };
    assert_eq!(outputs[0], Output::Start(CampaignId(ID), start));
    assert_eq!(outputs[1], Output::Wait(NOW + Duration::from_secs(100)));
    assert_eq!(phase(&control, at(10)), AirPhase::OnAir);
    assert_eq!(drain(&mut control, at(100))[0], Output::Stop(CampaignId(ID)));
    control.handle_progress(at(100), CampaignId(ID), progress(3));
    control.handle_ended(at(100), CampaignId(ID));
    assert_eq!(drain(&mut control, at(100)), [Output::Idle]);
    assert_eq!(phase(&control, at(100)), AirPhase::Closed);
    let status = control.status(at(100), &StatusRequest { campaign_id: ID.to_vec() }).unwrap();
    assert_eq!((status.sessions[0].packets_sent, status.sessions[0].bytes_sent), (5, 50));
}

#[test]
fn an_operation_is_saved_before_anything_else_happens() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    assert!(matches!(control.poll_output(at(0)), Output::Save(saved) if saved.tsi == Tsi(77)));
    open(&mut control, at(50), 10, 100).unwrap();
    let Output::Save(saved) = control.poll_output(at(50)) else { panic!("not saved") };
    assert_eq!(saved.session.unwrap().desired, DesiredState::Opened);
    assert!(matches!(control.poll_output(at(50)), Output::Start(..)));
}

#[test]
fn the_same_campaign_has_the_same_tsi_and_another_window() {
    let mut control = control();
    assert_eq!(prepare(&mut control, at(0), &request()), Ok(77));
    let later = PrepareRequest { closes_utc: utc(200), ..request() };
    let reply = control.prepare(at(0), &later, package(), Tsi(99), None).unwrap();
    assert_eq!((reply.tsi, reply.plan_symbols, reply.bytes_per_pass), (77, 160, 20_000));
    open(&mut control, at(0), 0, 50).unwrap();
    assert!(matches!(drain(&mut control, at(1))[0], Output::Start(..)));
    prepare(&mut control, at(2), &PrepareRequest { opens_utc: utc(0), ..later.clone() }).unwrap();
    assert_eq!(drain(&mut control, at(60)), [Output::Wait(NOW + Duration::from_secs(200))]);
    let moved = PrepareRequest { port: 3401, ..later };
    let refusal = Refusal::Conflict("group and port: on air at 232.1.2.3:3400".to_owned());
    assert_eq!(prepare(&mut control, at(3), &moved), Err(refusal));
}

#[test]
fn a_session_that_is_stopped_can_be_opened_again_at_its_resume_point() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 0, 100).unwrap();
    drain(&mut control, at(1));
    control.handle_progress(at(20), CampaignId(ID), progress(6));
    assert_eq!(stop(&mut control, at(20)).unwrap().phase(), AirPhase::OnAir);
    assert_eq!(drain(&mut control, at(20))[0], Output::Stop(CampaignId(ID)));
    assert_eq!(phase(&control, at(20)), AirPhase::Stopped);
    control.handle_ended(at(21), CampaignId(ID));
    assert_eq!(stop(&mut control, at(21)).unwrap().phase(), AirPhase::Stopped);
    open(&mut control, at(22), 0, 100).unwrap();
    let outputs = drain(&mut control, at(22));
    assert!(matches!(outputs[0], Output::Start(_, start) if start.resume_point.segment == 6));
}

#[test]
fn a_call_for_a_window_that_was_replaced_or_stopped_has_no_effect() {
    let mut control = control();
    let window = |window_revision| PrepareRequest { window_revision, ..request() };
    let late = |answer: Result<AirStatus, Refusal>, text: &str| {
        let text = format!("window_revision {text}: set the window again");
        assert_eq!(answer.map(drop), Err(Refusal::Conflict(text)));
    };
    prepare(&mut control, at(0), &window(1)).unwrap();
    assert_eq!(stop_window(&mut control, at(0), 1).unwrap().window_revision, 1);
    // The open was on its way when the stop was answered.
    late(open_window(&mut control, at(0), (0, 100), 1), "1 is stopped");
    let again = prepare(&mut control, at(0), &window(1)).map(|_| AirStatus::default());
    late(again, "1 is stopped");
    assert_eq!(drain(&mut control, at(20)), [Output::Idle]);
    prepare(&mut control, at(20), &window(2)).unwrap();
    open_window(&mut control, at(20), (0, 100), 2).unwrap();
    assert!(matches!(drain(&mut control, at(20))[0], Output::Start(..)));
    // So were a stop, an open and a prepare of the window before.
    let kept = stop_window(&mut control, at(21), 1).unwrap();
    assert_eq!((kept.phase(), kept.window_revision), (AirPhase::OnAir, 2));
    late(open_window(&mut control, at(21), (0, 50), 1), "1 is older than 2");
    let earlier = prepare(&mut control, at(21), &window(1)).map(|_| AirStatus::default());
    late(earlier, "1 is older than 2");
    assert_eq!(drain(&mut control, at(60)), [Output::Wait(NOW + Duration::from_secs(100))]);
    // A stop may overtake the prepare of its window.
    stop_window(&mut control, at(60), 3).unwrap();
    let overtaken = prepare(&mut control, at(60), &window(3)).map(|_| AirStatus::default());
    late(overtaken, "3 is stopped");
    assert_eq!(drain(&mut control, at(60))[0], Output::Stop(CampaignId(ID)));
}

#[test]
fn the_number_of_a_window_survives_a_restart() {
    let mut before = control();
    prepare(&mut before, at(0), &PrepareRequest { window_revision: 4, ..request() }).unwrap();
    stop_window(&mut before, at(0), 4).unwrap();
    before.poll_output(at(0));
    let Output::Save(saved) = before.poll_output(at(0)) else { panic!("not saved") };
    let text = serde_json::to_string(&saved).unwrap();
    let saved: SavedState = serde_json::from_str(&text).unwrap();
    for restored in [true, false] {
        let mut control = control();
        if restored {
            control.restore(package(), saved);
        }
        for (window_revision, is_taken) in [(3, false), (4, false), (5, true)] {
            let request = PrepareRequest { window_revision, ..request() };
            let reply = control.prepare(at(1), &request, package(), Tsi(9), Some(saved));
            assert_eq!(reply.is_ok(), is_taken, "{window_revision}: {reply:?}");
        }
    }
    let earlier = text.replace(",\"window_revision\":4", "");
    assert_ne!(earlier, text);
    let earlier: SavedState = serde_json::from_str(&earlier).unwrap();
    assert_eq!(earlier.session.unwrap().window_revision, 0);
}

#[test]
fn a_session_that_fails_is_put_on_air_again_after_a_pause() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 0, 100).unwrap();
    drain(&mut control, at(1));
    control.handle_ended(at(2), CampaignId(ID));
    assert_eq!(drain(&mut control, at(2)), [Output::Wait(NOW + Duration::from_secs(7))]);
    assert!(matches!(drain(&mut control, at(7))[0], Output::Start(..)));
}

#[test]
fn the_resume_point_on_air_is_saved_once_a_second_with_spare_fdt_instances() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 0, 100).unwrap();
    drain(&mut control, at(1));
    control.handle_progress(at(1), CampaignId(ID), progress(1));
    assert!(matches!(control.poll_output(at(1)), Output::Wait(_)));
    control.handle_progress(at(3), CampaignId(ID), progress(2));
    let Output::Save(saved) = control.poll_output(at(3)) else { panic!("not saved") };
    assert_eq!((saved.resume_point.segment, saved.resume_point.fdt_instance), (2, 8));
}

#[test]
fn a_restart_restores_the_sessions() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 0, 100).unwrap();
    control.poll_output(at(0));
    let Output::Save(saved) = control.poll_output(at(0)) else { panic!("not saved") };
    let saved =
        SavedState { resume_point: ResumePoint { segment: 5, ..saved.resume_point }, ..saved };
    let mut again = self::control();
    again.restore(package(), saved);
    let outputs = drain(&mut again, at(30));
    assert!(matches!(outputs[0], Output::Start(_, start) if start.resume_point.segment == 5));
    again.restore(package(), SavedState { session: None, ..saved });
    assert_eq!(again.status(at(30), &StatusRequest::default()).unwrap().sessions.len(), 1);
}

#[test]
fn a_request_that_the_campaign_does_not_allow_is_refused_by_name() {
    let malformed = |text: &str| Refusal::Malformed(text.into());
    for (request, expected) in [
        (PrepareRequest { campaign_id: vec![7; 15], ..request() }, malformed("campaign_id has 15")),
        (PrepareRequest { group: "10.1.2.3".into(), ..request() }, malformed("group 10.1.2.3")),
        (PrepareRequest { group: "x".into(), ..request() }, malformed("group \"x\"")),
        (PrepareRequest { group: "ff3e::1".into(), ..request() }, malformed("group ff3e::1")),
        (PrepareRequest { port: 0, ..request() }, malformed("port")),
        (PrepareRequest { port: 65_536, ..request() }, malformed("port")),
        (PrepareRequest { bits_per_second: 1, ..request() }, malformed("bits_per_second")),
        (PrepareRequest { closes_utc: utc(0), ..request() }, Refusal::Policy("closes_utc".into())),
        (PrepareRequest { opens_utc: utc(100), ..request() }, Refusal::Policy("window".into())),
        (
            PrepareRequest { opens_utc: NOW.seconds() - 1, ..request() },
            Refusal::Policy("window: opens".into()),
        ),
        (
            PrepareRequest { closes_utc: utc(3601), ..request() },
            Refusal::Policy("window: closes".into()),
        ),
    ] {
        let refusal = prepare(&mut control(), at(1), &request).unwrap_err();
        assert_eq!(std::mem::discriminant(&refusal), std::mem::discriminant(&expected));
        assert!(refusal.to_string().starts_with(&expected.to_string()), "{refusal}");
    }
    let mut elsewhere = control();
    elsewhere.defaults.source = "192.0.2.9".parse().unwrap();
    let refusal = prepare(&mut elsewhere, at(1), &request()).unwrap_err();
    assert!(matches!(refusal, Refusal::Policy(text) if text.starts_with("source 192.0.2.9")));
}

#[test]
fn operations_on_a_session_that_does_not_exist_are_refused() {
    let mut control = control();
    assert!(matches!(open(&mut control, at(0), 0, 9), Err(Refusal::NotFound(_))));
    assert!(matches!(stop(&mut control, at(0)), Err(Refusal::NotFound(_))));
    let one = StatusRequest { campaign_id: ID.to_vec() };
    assert!(matches!(control.status(at(0), &one), Err(Refusal::NotFound(_))));
    assert!(control.status(at(0), &StatusRequest::default()).unwrap().sessions.is_empty());
    prepare(&mut control, at(0), &request()).unwrap();
    let wrong = StopRequest { campaign_id: ID.to_vec(), tsi: 78, window_revision: 0 };
    assert!(matches!(control.stop(at(0), &wrong), Err(Refusal::Conflict(_))));
    control.handle_ended(at(0), CampaignId([1; 16]));
    control.handle_progress(at(0), CampaignId([1; 16]), progress(1));
}

#[test]
fn an_open_session_goes_on_air_once_its_plan_is_compared() {
    let mut control = control();
    let pending = AirablePackage { check: PlanCheck::Pending(0), ..package() };
    let reply = control.prepare(at(0), &request(), pending, Tsi(77), None).unwrap();
    assert!(reply.checking);
    assert_eq!(phase(&control, at(0)), AirPhase::Checking);
    let status = open(&mut control, at(1), 10, 100).unwrap();
    assert_eq!(status.phase(), AirPhase::Checking);
    control.handle_check(CampaignId(ID), PlanCheck::Pending(40));
    assert_eq!(drain(&mut control, at(20)), [Output::Idle]);
    let status = control.status(at(20), &StatusRequest::default()).unwrap();
    assert_eq!(
        (status.sessions[0].phase(), status.sessions[0].checked_percent),
        (AirPhase::Checking, 40)
    );
    control.handle_check(CampaignId(ID), PlanCheck::Passed);
    assert!(matches!(drain(&mut control, at(20))[0], Output::Start(..)));
    assert_eq!(phase(&control, at(20)), AirPhase::OnAir);
    assert!(!control.prepare(at(20), &request(), package(), Tsi(77), None).unwrap().checking);
}

#[test]
fn a_plan_that_is_not_the_signed_one_is_named_and_not_aired() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 10, 100).unwrap();
    control.handle_check(CampaignId(ID), PlanCheck::Failed("0.plan: changed".to_owned()));
    assert_eq!(drain(&mut control, at(20)), [Output::Idle]);
    let status = control.status(at(20), &StatusRequest::default()).unwrap();
    let session = &status.sessions[0];
    assert_eq!((session.phase(), session.problem.as_str()), (AirPhase::Damaged, "0.plan: changed"));
    let refusal = Refusal::Policy("0.plan: changed".to_owned());
    assert_eq!(open(&mut control, at(20), 10, 100), Err(refusal.clone()));
    let failed = AirablePackage { check: PlanCheck::Failed("0.plan: changed".into()), ..package() };
    let again = control.prepare(at(20), &request(), failed, Tsi(77), None);
    assert_eq!(again, Err(refusal));
}

#[test]
fn the_status_says_when_a_plan_changes_on_air() {
    let mut control = control();
    prepare(&mut control, at(0), &request()).unwrap();
    open(&mut control, at(0), 0, 100).unwrap();
    drain(&mut control, at(1));
    let id = CampaignId(ID);
    control.handle_progress(at(2), id, SessionProgress { damaged_runs: 3, ..progress(0) });
    let session = control.status(at(2), &StatusRequest::default()).unwrap().sessions[0].clone();
    assert_eq!((session.phase(), session.damaged_runs), (AirPhase::OnAir, 3));
    assert!(session.problem.starts_with("3 runs of 64 KiB"), "{}", session.problem);
    // A copy that was compared is sound again.
    control.handle_check(id, PlanCheck::Pending(0));
    control.handle_check(id, PlanCheck::Passed);
    let session = control.status(at(3), &StatusRequest::default()).unwrap().sessions[0].clone();
    assert_eq!((session.damaged_runs, session.problem.as_str()), (0, ""));
}
