//! Session descriptions.

use std::net::IpAddr;

use proto::{
    ids::Tsi,
    sdp::{
        Channel, FecDeclaration, MAX_BYTES, MAX_CHANNELS, MAX_DECLARATIONS, Origin,
        SessionDescription,
    },
    time::Utc,
};

/// Reads a description; what can be written strictly reads back equal.
pub fn run(octets: &[u8]) {
    let Ok(mut description) = SessionDescription::parse(octets) else { return };
    assert!(octets.len() <= MAX_BYTES);
    assert!((1..=MAX_CHANNELS).contains(&description.channels.len()));
    assert!(description.declarations.len() <= MAX_DECLARATIONS);
    assert!(description.tsi.0 < 1 << 48);
    description.odd.clear();
    let Ok(written) = description.emit() else { return };
    assert_eq!(SessionDescription::parse(written.as_bytes()), Ok(description), "{written}");
}

/// A description of ours, one with two channels, and forms of others.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let channel = Channel {
        group: [239, 7, 7, 30].into(),
        port: 40_100,
        ttl: Some(8),
        kilobits_per_second: Some(20_000),
        fec: Some(0),
    };
    let ours = SessionDescription {
        origin: Origin {
            user: "carousel".to_owned(),
            id: 2_890_844_526,
            version: 2_890_842_807,
            host: IpAddr::from([192, 0, 2, 10]).into(),
        },
        name: "Firmware broadcast".to_owned(),
        opens: Some(Utc::from_seconds(1_800_000_000)),
        closes: Some(Utc::from_seconds(1_800_003_600)),
        source: Some([192, 0, 2, 10].into()),
        tsi: Tsi(7),
        declarations: vec![FecDeclaration { reference: 0, encoding_id: 6, instance_id: None }],
        channels: vec![channel],
        odd: Vec::new(),
    };
    let two = SessionDescription {
        declarations: vec![
            FecDeclaration { reference: 0, encoding_id: 0, instance_id: None },
            FecDeclaration { reference: 1, encoding_id: 129, instance_id: Some(3) },
        ],
        channels: vec![channel, Channel { port: 40_101, fec: Some(1), ..channel }],
        ..ours.clone()
    };
    let written = |description: &SessionDescription| description.emit().expect("it can be written");
    let ours = written(&ours);
    let others = ours.replace("\r\n", "\n").replace("239.7.7.30/8", "FF3E::30");
    [ours, written(&two), others].map(String::into_bytes).into()
}
