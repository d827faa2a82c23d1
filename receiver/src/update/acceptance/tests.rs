use proto::{
    fixtures::{
        broadcast::{Broadcast, EARLY},
        documents::{CLASS, VENDOR, random_key, seal},
    },
    trust::DocumentKind,
};

use super::*;

fn window() -> Window {
    Window { opens: Utc::from_seconds(2_000), closes: Utc::from_seconds(3_000) }
}

struct Case {
    broadcast: Broadcast,
    campaign: Vec<u8>,
    manifest: Vec<u8>,
    windows: Vec<(TuneIn, Window)>,
    history: AcceptanceHistory,
    limits: Limits,
    kind: DeviceClass,
}

impl Case {
    fn new() -> Self {
        Self::of(Broadcast::small())
    }

    fn of(broadcast: Broadcast) -> Self {
        Self {
            campaign: broadcast.campaign_envelope(),
            manifest: broadcast.manifest_envelope(),
            windows: vec![(broadcast.tune_in(), window())],
            history: AcceptanceHistory::default(),
            limits: Limits::default(),
            kind: DeviceClass { vendor: VENDOR, class: CLASS },
            broadcast,
        }
    }

    fn evaluate(&self) -> Result<Acceptance, Refusal> {
        let offer = CampaignOffer {
            campaign: &self.campaign,
            manifest: &self.manifest,
            windows: self.windows.clone(),
            carried: None,
        };
        evaluate(
            &self.broadcast.keys.verified_root(),
            self.kind,
            &self.history,
            &self.limits,
            &offer,
        )
    }

    fn refused(&self) -> (u16, &'static str) {
        let refusal = self.evaluate().unwrap_err();
        (refusal.result.0, refusal.reason)
    }
}

#[test]
fn a_campaign_for_this_device_is_accepted() {
    let case = Case::new();
    let Acceptance::Accepted(accepted) = case.evaluate().unwrap() else { panic!("not accepted") };
    assert_eq!(accepted.object, case.broadcast.object);
}

#[test]
fn signatures_of_strangers_and_of_other_roles_are_404() {
    let mut case = Case::new();
    let campaign = case.broadcast.campaign.emit().unwrap();
    case.campaign = seal(DocumentKind::Campaign, campaign.clone(), &random_key());
    assert_eq!(case.refused(), (404, "signature"));
    case.campaign = seal(DocumentKind::Campaign, campaign, &case.broadcast.keys.release);
    assert_eq!(case.refused(), (404, "signature"));
    let mut case = Case::new();
    let manifest = case.broadcast.manifest.emit().unwrap();
    case.manifest = seal(DocumentKind::Manifest, manifest, &case.broadcast.keys.campaign);
    assert_eq!(case.refused(), (404, "signature"));
}

#[test]
fn junk_and_nothing_are_404() {
    for junk in [vec![], vec![0xff; 300], vec![0; 5_000]] {
        let mut case = Case::new();
        case.campaign = junk;
        assert_eq!(case.refused(), (404, "malformed"));
    }
    let mut case = Case::new();
    std::mem::swap(&mut case.campaign, &mut case.manifest);
    assert_eq!(case.refused(), (404, "malformed"));
}

#[test]
fn older_sequences_are_455_and_the_same_campaign_is_not() {
    let mut case = Case::new();
    let digest = case.broadcast.tune_in().campaign_digest;
    case.history.accepted = Some((6, Digest([0; 32])));
    assert_eq!(case.refused(), (455, "rollback"));
    case.history.accepted = Some((5, Digest([0; 32])));
    assert_eq!(case.refused(), (455, "rollback"), "another campaign of the same sequence");
    case.history.accepted = Some((5, digest));
    assert!(case.evaluate().is_ok(), "the same again, after a missed window");
    case.history.accepted = Some((4, Digest([0; 32])));
    assert!(case.evaluate().is_ok());
}

#[test]
fn a_manifest_that_is_not_newer_than_what_is_installed_is_455() {
    let mut case = Case::new();
    for installed in [5, 6] {
        case.history.installed = Some((installed, Digest([0; 32])));
        assert_eq!(case.refused(), (455, "rollback"));
    }
    case.history.installed = Some((4, Digest([0; 32])));
    assert!(case.evaluate().is_ok());
    case.history.floor = 6;
    assert_eq!(case.refused(), (455, "rollback"));
    case.history.floor = 5;
    assert!(case.evaluate().is_ok());
}

#[test]
fn the_package_that_is_installed_is_already_done() {
    let mut case = Case::new();
    let digest = proto::crypto::sha256(&[&case.broadcast.manifest.emit().unwrap()]);
    case.history.installed = Some((5, digest));
    case.history.finished = vec![case.broadcast.campaign.id];
    assert!(matches!(case.evaluate(), Ok(Acceptance::AlreadyInstalled(_))));
}

#[test]
fn a_campaign_that_ended_well_is_455() {
    let mut case = Case::new();
    case.history.finished = vec![case.broadcast.campaign.id];
    assert_eq!(case.refused(), (455, "rollback"));
}

#[test]
fn expired_documents_are_455_by_the_lower_bound_of_the_time() {
    let mut case = Case::new();
    case.history.clock_floor = case.broadcast.campaign.expires;
    assert!(case.evaluate().is_ok());
    case.history.clock_floor = Utc(case.broadcast.campaign.expires.0 + 1);
    assert_eq!(case.refused(), (455, "freeze"));
}

#[test]
fn another_vendor_or_class_is_403() {
    let mut case = Case::new();
    case.kind.class = ClassId([9; 16]);
    assert_eq!(case.refused(), (403, "class"));
    let mut case = Case::new();
    case.kind.vendor = VendorId([9; 16]);
    assert_eq!(case.refused(), (403, "class"));
}

#[test]
fn a_campaign_with_another_manifest_is_455() {
    let mut case = Case::new();
    case.broadcast.manifest.firmware_version = "3.0".to_owned();
    case.manifest = case.broadcast.manifest_envelope();
    assert_eq!(case.refused(), (455, "mismatch"));
}

#[test]
fn what_the_device_cannot_bear_is_refused() {
    let with = |change: fn(&mut Limits)| {
        let mut case = Case::new();
        change(&mut case.limits);
        case.refused()
    };
    assert_eq!(with(|limits| limits.max_block_symbols = 19), (455, "limits"));
    assert_eq!(with(|limits| limits.max_memory_bytes = 80_000), (455, "limits"));
    assert_eq!(with(|limits| limits.max_storage_bytes = 24 << 10), (501, "storage"));
    assert_eq!(with(|limits| limits.max_image_bytes = 2_500), (501, "storage"));
}

#[test]
fn a_tune_in_outside_the_limits_is_455() {
    let with = |change: fn(&mut TuneIn, &mut Window)| {
        let mut case = Case::new();
        let (tune_in, window) = &mut case.windows[0];
        change(tune_in, window);
        case.evaluate().map(|_| ()).map_err(|refusal| (refusal.result.0, refusal.reason))
    };
    assert_eq!(with(|_, _| ()), Ok(()));
    let other =
        |tune_in: &mut TuneIn, _: &mut Window| tune_in.source = "192.0.2.9".parse().unwrap();
    assert_eq!(with(other), Err((455, "limits")));
    assert_eq!(with(|_, window| window.opens = Utc::from_seconds(999)), Err((455, "limits")));
    assert_eq!(with(|_, window| window.closes = Utc::from_seconds(100_001)), Err((455, "limits")));
    assert_eq!(with(|_, window| window.closes = window.opens), Err((455, "limits")));
    assert_eq!(with(|tune_in, _| tune_in.campaign.0[0] ^= 1), Err((455, "mismatch")));
    assert_eq!(with(|tune_in, _| tune_in.campaign_digest.0[0] ^= 1), Err((455, "mismatch")));
    let absent = |tune_in: &mut TuneIn, _: &mut Window| tune_in.component = Some(ComponentId(3));
    assert_eq!(with(absent), Err((455, "limits")));
}

#[test]
fn every_changed_octet_of_the_documents_is_refused() {
    let case = Case::new();
    let keys = &case.broadcast.keys;
    let root = keys.verified_root();
    let judged = |campaign: &[u8], manifest: &[u8]| {
        let offer =
            CampaignOffer { campaign, manifest, windows: case.windows.clone(), carried: None };
        evaluate(&root, case.kind, &case.history, &case.limits, &offer)
    };
    for (which, document) in [&case.campaign, &case.manifest].into_iter().enumerate() {
        for at in 0..document.len() {
            let mut changed = document.clone();
            changed[at] ^= 1;
            let verdict = match which {
                0 => judged(&changed, &case.manifest),
                _ => judged(&case.campaign, &changed),
            };
            // The key id is a hint that decides nothing.
            let hint = [&keys.release, &keys.campaign].iter().any(|key| {
                let id = key.public().key_id();
                let found = document.windows(id.len()).position(|window| window == id.as_bytes());
                found.is_some_and(|start| (start..start + id.len()).contains(&at))
            });
            assert!(verdict.is_err() || hint, "document {which}, octet {at}");
        }
    }
}

#[test]
fn a_compressed_component_is_refused_before_anything_is_unpacked() {
    let mut broadcast = Broadcast::small();
    let component = &mut broadcast.manifest.components[0];
    component.encoding = ComponentEncoding::Zstd;
    component.decoded_len = u64::MAX;
    component.memory_needed = u64::MAX;
    broadcast.campaign.manifest_sha256 =
        proto::crypto::sha256(&[&broadcast.manifest.emit().unwrap()]);
    let refusal = Case::of(broadcast).evaluate().unwrap_err();
    assert_eq!((refusal.result, refusal.reason), (ResultCode::NOT_ACCEPTABLE, "encoding"));
}

#[test]
fn an_expired_root_arms_nothing() {
    let mut case = Case::new();
    case.history.clock_floor = case.broadcast.campaign.expires;
    assert!(case.evaluate().is_ok());
    let expires = Utc::from_seconds(EARLY.latest_stop.seconds() - 1);
    let keys = &case.broadcast.keys;
    let root = keys.root_after(keys, 1, |root| root.expires = expires);
    let root = Root::from_factory(&root).unwrap();
    let offer = CampaignOffer {
        campaign: &case.campaign,
        manifest: &case.manifest,
        windows: case.windows.clone(),
        carried: None,
    };
    let refusal = evaluate(&root, case.kind, &case.history, &case.limits, &offer).unwrap_err();
    assert_eq!((refusal.result.0, refusal.reason), (455, "freeze"));
}

#[test]
fn a_campaign_below_the_floor_of_the_root_is_455() {
    let case = Case::new();
    let keys = &case.broadcast.keys;
    let judged = |floor| {
        let root = keys.root_after(keys, 1, |root| root.sequence_floor = floor);
        let root = Root::from_factory(&root).unwrap();
        let offer = CampaignOffer {
            campaign: &case.campaign,
            manifest: &case.manifest,
            windows: case.windows.clone(),
            carried: None,
        };
        evaluate(&root, case.kind, &case.history, &case.limits, &offer).map(drop)
    };
    assert_eq!(judged(5), Ok(()));
    assert_eq!(judged(6).unwrap_err().reason, "rollback");
}
