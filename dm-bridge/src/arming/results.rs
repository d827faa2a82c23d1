//! From a final alert to a result: recorded once, for the attempt that it names, and confirmed by
//! the version that is read back.

use proto::{
    dm::{
        fumo::{Operation, OperationResult, Phase, ResultCode},
        scomo,
    },
    ids::Correlator,
    time::Utc,
};

use crate::{
    campaign::model::{Campaign, Software},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        components::Components,
    },
};

/// Effect of a final alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The first result of its attempt.
    Recorded,
    /// A further result of its attempt; the first one stays.
    Duplicate,
    /// A result that names no attempt of this device.
    Unmatched,
}

/// Records a final alert of the device that `attempts` belong to.
///
/// # Source
///
/// Security facts 7.2; OMA DM facts 11 and 15.4.
pub fn record_result(armings: &mut [ArmingAttempt], result: &OperationResult, now: Utc) -> Receipt {
    record_result_of(armings, result.correlator.as_ref(), result, now)
}

/// Records a final alert of the attempt with a correlator, which the alert may lack.
// spec: oma-dm 11.6 (a final alert without a correlator)
pub fn record_result_of(
    armings: &mut [ArmingAttempt],
    correlator: Option<&Correlator>,
    result: &OperationResult,
    now: Utc,
) -> Receipt {
    let code = result.result;
    let missing = if result.correlator.is_none() { "; the alert had no Correlator" } else { "" };
    let text = format!("{}{missing}", code.text());
    // The end of the download alone: the installation follows, and has its own result.
    let is_halfway = result.operation == Operation::Download && code.is_success();
    let receipt = record(armings, correlator, |row| match is_halfway {
        true => row.record_download(format!("downloaded, the installation follows{missing}"), now),
        false => row.record_result(code.0, phase_of(code), &text, now),
    });
    if receipt == Receipt::Recorded && code.is_success() && !is_halfway {
        end_successors(armings, correlator, (code, &text), now);
    }
    receipt
}

/// Ends the later attempts that were not begun: the device has succeeded with an attempt that was
/// taken for failed, and must not be sent another Exec.
fn end_successors(
    armings: &mut [ArmingAttempt],
    correlator: Option<&Correlator>,
    (code, text): (ResultCode, &str),
    now: Utc,
) {
    let named = armings.iter().find(|row| Some(&row.correlator) == correlator);
    let Some((campaign, attempt)) = named.map(|row| (row.campaign, row.attempt)) else { return };
    let later = armings.iter_mut().filter(|row| row.campaign == campaign && row.attempt > attempt);
    for row in later.filter(|row| row.result_code.is_none() && !row.may_run()) {
        row.succeed_with(phase_of(code), format!("attempt {attempt}: {text}"), now);
    }
}

/// Returns the correlator of the one operation that a final alert without a correlator can be about,
/// out of the latest attempts for firmware: the one in progress, or else the one without a result.
#[must_use]
pub fn only_operation(latest: &[&ArmingAttempt]) -> Option<Correlator> {
    let running = || latest.iter().filter(|row| row.may_run());
    let is_one = |count| count == 1;
    let open = running().filter(|row| row.phase.is_open());
    let found = match open.clone().count() {
        0 => running().next().filter(|_| is_one(running().count())),
        count => open.clone().next().filter(|_| is_one(count)),
    };
    found.map(|row| row.correlator.clone())
}

/// Records the final alert of a component operation; its phase is that of the equivalent firmware
/// code.
// spec: oma-dm 15.5 (a result of a component is counted once)
pub fn record_component_result(
    armings: &mut [ArmingAttempt],
    result: &scomo::OperationResult,
    now: Utc,
) -> Receipt {
    let code = result.result;
    record(armings, result.correlator.as_ref(), |row| {
        row.record_result(code.0, phase_of(code.to_firmware()), code.text(), now)
    })
}

fn record(
    armings: &mut [ArmingAttempt],
    correlator: Option<&Correlator>,
    apply: impl FnOnce(&mut ArmingAttempt) -> bool,
) -> Receipt {
    let named = |row: &&mut ArmingAttempt| Some(&row.correlator) == correlator;
    let Some(row) = armings.iter_mut().find(named) else { return Receipt::Unmatched };
    if apply(row) { Receipt::Recorded } else { Receipt::Duplicate }
}

/// Confirms or contradicts a reported success by the firmware version that was read back; an empty
/// one is unknown to the device and decides nothing.
pub fn confirm_version(row: &mut ArmingAttempt, campaign: &Campaign, firmware: &str, now: Utc) {
    if firmware.is_empty() {
        return;
    }
    let agrees = firmware == campaign.terms.firmware_version;
    let phase = match row.phase {
        ArmingPhase::Reported if agrees => ArmingPhase::Confirmed,
        ArmingPhase::Reported => ArmingPhase::VersionMismatch,
        // The deferred installation is done; there is no second alert for it.
        ArmingPhase::Deferred if agrees => ArmingPhase::Confirmed,
        ArmingPhase::Deferred
        | ArmingPhase::Pending
        | ArmingPhase::Armed
        | ArmingPhase::Receiving
        | ArmingPhase::Suspended
        | ArmingPhase::Assembled
        | ArmingPhase::Verified
        | ArmingPhase::HandedOver
        | ArmingPhase::Confirmed
        | ArmingPhase::VersionMismatch
        | ArmingPhase::Failed
        | ArmingPhase::Missed
        | ArmingPhase::Incomplete
        | ArmingPhase::Expired
        | ArmingPhase::Disarmed
        | ArmingPhase::Refused
        | ArmingPhase::NeedsUnicast
        | ArmingPhase::Unknown => return,
    };
    if phase == ArmingPhase::VersionMismatch {
        let wanted = &campaign.terms.firmware_version;
        row.postpone(format!("reported success, but runs {firmware} and not {wanted}"));
    }
    row.read_back(phase, firmware, now);
}

/// Confirms or contradicts a reported success by the inventory that was read.
pub fn confirm_components(
    row: &mut ArmingAttempt,
    software: &Software,
    components: &Components,
    now: Utc,
) {
    if row.phase != ArmingPhase::Reported && row.phase != ArmingPhase::Deferred {
        return;
    }
    let (operation, package) = (software.operation, &software.package);
    let shown = components.shows(operation, package.as_str());
    match (row.phase, shown) {
        (_, true) => row.show(ArmingPhase::Confirmed, now),
        // The installation is still deferred.
        (ArmingPhase::Deferred, false) => {}
        (_, false) => {
            row.show(ArmingPhase::VersionMismatch, now);
            row.postpone(format!("reported success, but does not show {package}"));
        }
    }
}

/// Applies the phase that a device reports to an attempt without a result.
pub fn apply_phase(row: &mut ArmingAttempt, phase: Phase, now: Utc) {
    let shown = match phase {
        Phase::Armed => ArmingPhase::Armed,
        Phase::Receiving => ArmingPhase::Receiving,
        Phase::Suspended => ArmingPhase::Suspended,
        Phase::Assembled => ArmingPhase::Assembled,
        Phase::Verified => ArmingPhase::Verified,
        Phase::Deferred => ArmingPhase::Deferred,
        Phase::HandedOver => ArmingPhase::HandedOver,
        // Idle, or a final alert follows.
        Phase::Idle
        | Phase::Confirmed
        | Phase::Failed
        | Phase::Reported
        | Phase::Missed
        | Phase::Expired
        | Phase::Disarmed
        | Phase::Refused
        | Phase::Incomplete => return,
    };
    row.show(shown, now);
}

fn phase_of(result: ResultCode) -> ArmingPhase {
    match result {
        ResultCode::DEFERRED => ArmingPhase::Deferred,
        ResultCode::BAD_URL => ArmingPhase::NeedsUnicast,
        ResultCode::MISSED => ArmingPhase::Missed,
        ResultCode::INCOMPLETE | ResultCode::NOTHING_RECEIVED | ResultCode::SESSION_ENDED => {
            ArmingPhase::Incomplete
        }
        ResultCode::DISARMED => ArmingPhase::Disarmed,
        ResultCode::EXPIRED => ArmingPhase::Expired,
        ResultCode::USER_CANCELLED
        | ResultCode::MISMATCH
        | ResultCode::BAD_SIGNATURE
        | ResultCode::NOT_ACCEPTABLE
        | ResultCode::WRONG_STATE
        | ResultCode::REFUSED
        | ResultCode::POLICY => ArmingPhase::Refused,
        success if success.is_success() => ArmingPhase::Reported,
        _ => ArmingPhase::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::model::samples;

    fn row(correlator: &str) -> ArmingAttempt {
        let mut row = ArmingAttempt::pending(
            "a".parse().unwrap(),
            samples::running().id,
            1,
            Correlator(correlator.to_owned()),
            Utc(1),
        );
        row.phase = ArmingPhase::Armed;
        row.armed_revision = 1;
        row
    }

    fn alert(code: ResultCode, correlator: Option<&str>) -> OperationResult {
        OperationResult {
            object: None,
            operation: Operation::DownloadAndUpdate,
            result: code,
            correlator: correlator.map(|text| Correlator(text.to_owned())),
        }
    }

    // test: oma-dm 15.4 (a result is counted once)
    #[test]
    fn a_result_counts_once_for_the_attempt_that_it_names() {
        let mut rows = [row("one"), row("two")];
        let good = alert(ResultCode::SUCCESS, Some("two"));
        assert_eq!(record_result(&mut rows, &good, Utc(2)), Receipt::Recorded);
        assert_eq!(record_result(&mut rows, &good, Utc(3)), Receipt::Duplicate);
        let other = alert(ResultCode::UPDATE_FAILED, Some("two"));
        assert_eq!(record_result(&mut rows, &other, Utc(4)), Receipt::Duplicate);
        assert_eq!(rows[0], row("one"));
        assert_eq!((rows[1].result_code, rows[1].updated), (Some(200), Utc(2)));
    }

    #[test]
    fn a_result_without_or_with_a_strange_correlator_counts_for_nobody() {
        let mut rows = [row("one")];
        for correlator in [None, Some("strange"), Some("")] {
            let result = alert(ResultCode::SUCCESS, correlator);
            assert_eq!(record_result(&mut rows, &result, Utc(2)), Receipt::Unmatched);
        }
        assert_eq!(rows, [row("one")]);
    }

    #[test]
    fn success_is_done_only_when_the_version_agrees() {
        for (firmware, phase) in [
            ("2.0", ArmingPhase::Confirmed),
            ("1.0", ArmingPhase::VersionMismatch),
            ("", ArmingPhase::Reported),
        ] {
            let mut rows = [row("one")];
            record_result(&mut rows, &alert(ResultCode::SUCCESS, Some("one")), Utc(2));
            assert_eq!(rows[0].phase, ArmingPhase::Reported);
            confirm_version(&mut rows[0], &samples::running(), firmware, Utc(3));
            assert_eq!(rows[0].phase, phase);
            let known = Some(firmware).filter(|known| !known.is_empty());
            assert_eq!(rows[0].read_back.as_deref(), known);
        }
    }

    #[test]
    fn a_failure_stays_one_whatever_version_runs() {
        let mut rows = [row("one")];
        record_result(&mut rows, &alert(ResultCode::UPDATE_FAILED, Some("one")), Utc(2));
        confirm_version(&mut rows[0], &samples::running(), "2.0", Utc(3));
        assert_eq!(rows[0].phase, ArmingPhase::Failed);
    }

    // test: oma-dm 15.5 (a result of a component is counted once)
    #[test]
    fn a_result_of_a_component_counts_as_the_firmware_code_that_says_the_same() {
        for (code, phase) in [
            (1200, ArmingPhase::Reported),
            (1401, ArmingPhase::Refused),
            (1405, ArmingPhase::Failed),
            (1407, ArmingPhase::Refused),
            (1413, ArmingPhase::Refused),
            (1450, ArmingPhase::Missed),
            (1451, ArmingPhase::Incomplete),
            (1453, ArmingPhase::Disarmed),
            (1551, ArmingPhase::Incomplete),
        ] {
            let mut rows = [row("one")];
            let result = scomo::OperationResult {
                source: None,
                target: None,
                result: scomo::ResultCode(code),
                identifier: None,
                correlator: Some(Correlator("one".to_owned())),
            };
            assert_eq!(record_component_result(&mut rows, &result, Utc(2)), Receipt::Recorded);
            assert_eq!(record_component_result(&mut rows, &result, Utc(3)), Receipt::Duplicate);
            assert_eq!((rows[0].phase, rows[0].result_code), (phase, Some(code)), "{code}");
        }
    }

    #[test]
    fn every_named_result_code_has_its_phase() {
        use ArmingPhase::{
            Deferred, Disarmed, Expired, Failed, Incomplete, Missed, NeedsUnicast, Refused,
            Reported,
        };
        let expected = [
            (200, Reported),
            (250, Deferred),
            (251, Reported),
            (400, Failed),
            (401, Refused),
            (402, Failed),
            (403, Refused),
            (404, Refused),
            (405, Refused),
            (406, Failed),
            (407, Failed),
            (408, Failed),
            (409, Failed),
            (410, Failed),
            (411, NeedsUnicast),
            (412, Failed),
            (450, Missed),
            (451, Incomplete),
            (452, Refused),
            (453, Disarmed),
            (454, Expired),
            (455, Refused),
            (456, Refused),
            (457, Failed),
            (500, Failed),
            (501, Failed),
            (502, Failed),
            (503, Failed),
            (550, Incomplete),
            (551, Incomplete),
        ];
        assert_eq!(expected.map(|(code, _)| ResultCode(code)).as_slice(), ResultCode::NAMED);
        for (code, phase) in expected {
            assert_eq!(phase_of(ResultCode(code)), phase, "{code}");
        }
    }

    #[test]
    fn the_result_code_of_a_vendor_counts_by_its_range() {
        assert_eq!(phase_of(ResultCode(260)), ArmingPhase::Reported);
        assert_eq!(phase_of(ResultCode(9)), ArmingPhase::Failed);
    }
}
