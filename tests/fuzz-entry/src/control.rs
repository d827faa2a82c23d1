//! Messages of the control API.

use prost::Message;
use proto::control::{
    AirPhase, AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusReply, StatusRequest,
    StopRequest,
};

/// Reads every kind of message, and writes it again.
pub fn run(octets: &[u8]) {
    both_ways::<PrepareRequest>(octets);
    both_ways::<PrepareReply>(octets);
    both_ways::<OpenRequest>(octets);
    both_ways::<StopRequest>(octets);
    both_ways::<StatusRequest>(octets);
    both_ways::<StatusReply>(octets);
    both_ways::<AirStatus>(octets);
}

fn both_ways<M: Message + Default + PartialEq + std::fmt::Debug>(octets: &[u8]) {
    let Ok(message) = M::decode(octets) else { return };
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again, Ok(message));
}

/// One message of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let prepare = PrepareRequest {
        campaign_id: vec![6; 16],
        group: "232.1.2.3".to_owned(),
        port: 3400,
        opens_utc: 1_800_000_060,
        closes_utc: 1_800_003_600,
        bits_per_second: 20_000_000,
        window_revision: 2,
    };
    let reply = PrepareReply {
        source: "192.0.2.1".to_owned(),
        tsi: 7,
        group: prepare.group.clone(),
        port: prepare.port,
        plan_symbols: 1 << 20,
        bytes_per_pass: 1 << 30,
        checking: true,
        checked_percent: 37,
    };
    let campaign_id = || prepare.campaign_id.clone();
    let (opens_utc, closes_utc) = (prepare.opens_utc, prepare.closes_utc);
    let (tsi, window_revision) = (reply.tsi, prepare.window_revision);
    let open =
        OpenRequest { campaign_id: campaign_id(), tsi, opens_utc, closes_utc, window_revision };
    let stop = StopRequest { campaign_id: campaign_id(), tsi, window_revision };
    let ask = StatusRequest { campaign_id: campaign_id() };
    let status = AirStatus {
        campaign_id: campaign_id(),
        tsi: reply.tsi,
        phase: AirPhase::OnAir.into(),
        place: 77,
        passes: 3,
        packets_sent: 1 << 33,
        bytes_sent: 1 << 43,
        checked_percent: 100,
        damaged_runs: 1,
        problem: "copy the package again".to_owned(),
        window_revision,
    };
    let all = StatusReply { sessions: vec![status.clone(), AirStatus::default()] };
    vec![
        prepare.encode_to_vec(),
        reply.encode_to_vec(),
        open.encode_to_vec(),
        stop.encode_to_vec(),
        ask.encode_to_vec(),
        status.encode_to_vec(),
        all.encode_to_vec(),
    ]
}
