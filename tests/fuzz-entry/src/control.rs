//! Messages of the control API.

use prost::Message;
use proto::control::{OpenRequest, PrepareReply, PrepareRequest};

/// Reads every kind of message, and writes it again.
pub fn run(octets: &[u8]) {
    both_ways::<PrepareRequest>(octets);
    both_ways::<PrepareReply>(octets);
    both_ways::<OpenRequest>(octets);
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
    };
    let reply = PrepareReply {
        source: "192.0.2.1".to_owned(),
        tsi: 7,
        group: prepare.group.clone(),
        port: prepare.port,
        plan_symbols: 1 << 20,
        bytes_per_pass: 1 << 30,
    };
    vec![prepare.encode_to_vec(), reply.encode_to_vec()]
}
