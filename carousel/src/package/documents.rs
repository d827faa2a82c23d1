//! The documents of a package: made, signed, and checked before they are written.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    crypto::{Digest, PublicKey, SigningKey, sha256},
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::ComponentId,
    time::Utc,
    trust::{
        Campaign, DocumentKind, Envelope, Manifest, PlannedObject, Role, RoleKeys, Root, Verified,
        campaign::CampaignObject, plan,
    },
    wire::WireError,
};

use crate::error::{CliError, ExitCode};

/// One year, for documents whose maker names no date.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes and signs a first root: one key for each role, each enough alone. For labs.
///
/// # Errors
///
/// [`CliError`] when the document would break its own limits.
pub fn make_root(
    now: Utc,
    root: &SigningKey,
    release: PublicKey,
    campaign: PublicKey,
) -> Result<Vec<u8>, CliError> {
    let one = |key| RoleKeys { threshold: 1, keys: vec![key] };
    let roles = BTreeMap::from([
        (Role::Root, one(root.public())),
        (Role::Release, one(release)),
        (Role::Campaign, one(campaign)),
    ]);
    let document =
        Root { version: 1, expires: now + 10 * YEAR, roles, sequence_floor: 0, epoch: 1 };
    let payload = document.emit().map_err(|error| CliError::trust("root", error))?;
    signed(DocumentKind::Root, payload, std::slice::from_ref(root))
}

/// Puts a document into an envelope and signs it with every key.
///
/// # Errors
///
/// [`CliError`] when the document is too large or the keys are too many.
pub fn signed(
    kind: DocumentKind,
    payload: Vec<u8>,
    keys: &[SigningKey],
) -> Result<Vec<u8>, CliError> {
    let refused = |error| CliError::trust(kind.to_string(), error);
    let mut envelope = Envelope::new(kind, payload).map_err(refused)?;
    keys.iter().try_for_each(|key| envelope.sign(key)).map_err(refused)?;
    Ok(envelope.emit())
}

/// Checks that a key may sign documents of a kind.
///
/// # Errors
///
/// [`ExitCode::Refused`] with the roles that the key has, if any.
pub fn check_role(root: &Root, kind: DocumentKind, key: &SigningKey) -> Result<(), CliError> {
    let role = kind.role();
    let public = key.public();
    if root.keys(role).keys.contains(&public) {
        return Ok(());
    }
    let has = |role: &&Role| root.keys(**role).keys.contains(&public);
    let roles: Vec<String> = Role::ALL.iter().filter(has).map(ToString::to_string).collect();
    let other = if roles.is_empty() {
        "a stranger to this root".to_owned()
    } else {
        format!("a {} key", roles.join(" and "))
    };
    let id = public.key_id();
    Err(ExitCode::Refused.with_message(format!("key {id} is {other}; a {kind} takes a {role} key")))
}

/// Rejects a document that has expired.
///
/// # Errors
///
/// [`ExitCode::Policy`].
pub fn check_expiry(now: Utc, kind: DocumentKind, expires: Utc) -> Result<(), CliError> {
    if now <= expires {
        return Ok(());
    }
    Err(ExitCode::Policy.with_message(format!("the {kind} expired at {expires}, it is {now}")))
}

/// Rejects a document below the floor of the root: devices would reject it as a rollback.
///
/// # Errors
///
/// [`ExitCode::Policy`].
pub fn check_floor(root: &Root, kind: DocumentKind, sequence: u64) -> Result<(), CliError> {
    let floor = root.sequence_floor;
    if sequence >= floor {
        return Ok(());
    }
    Err(ExitCode::Policy
        .with_message(format!("sequence {sequence} of the {kind} is below {floor}")))
}

/// Reads the root that the operator trusts.
///
/// # Errors
///
/// [`CliError`] when it is tampered with, not signed by itself, or expired.
pub fn trusted_root(now: Utc, envelope: &[u8]) -> Result<Verified<Root>, CliError> {
    let root = Root::from_factory(envelope).map_err(|error| CliError::trust("root", error))?;
    check_expiry(now, DocumentKind::Root, root.expires)?;
    Ok(root)
}

/// Returns the objects that `campaign` airs of a manifest with this payload, parameters checked.
///
/// Signatures are verified before.
///
/// # Errors
///
/// [`ExitCode::Refused`] that names the mismatch.
pub fn planned_objects(
    campaign: &Campaign,
    manifest_payload: &[u8],
) -> Result<Vec<PlannedObject>, CliError> {
    if sha256(&[manifest_payload]) != campaign.manifest_sha256 {
        return Err(ExitCode::Refused.with_message("the campaign was made for another manifest"));
    }
    let manifest =
        Manifest::read(manifest_payload).map_err(|error| CliError::trust("manifest", error))?;
    campaign.objects.iter().map(|object| planned_object(object, &manifest)).collect()
}

fn planned_object(object: &CampaignObject, manifest: &Manifest) -> Result<PlannedObject, CliError> {
    let id = object.component;
    let component = manifest.component(id).ok_or_else(|| {
        ExitCode::Refused
            .with_message(format!("the manifest has no component {} of the campaign", id.0))
    })?;
    let parameters = RaptorQParameters {
        transfer_length: component.stored_len,
        symbol_size: object.symbol_size,
        source_blocks: object.source_blocks,
        sub_blocks: 1,
        alignment: object.alignment,
    };
    let oti = RaptorQOti::new(parameters)
        .map_err(|error| CliError::wire(ExitCode::Refused, "campaign", WireError::from(error)))?;
    let (plan_root, stored_sha256) = (object.plan_root, component.stored_sha256);
    Ok(planned(id, oti, object.repair_per_block, plan_root, stored_sha256))
}

fn planned(
    component: ComponentId,
    oti: RaptorQOti,
    repair_per_block: u32,
    plan_root: Digest,
    stored_sha256: Digest,
) -> PlannedObject {
    let object_key = plan::object_key(&stored_sha256, &oti);
    PlannedObject { component, oti, repair_per_block, plan_root, stored_sha256, object_key }
}

/// Returns the campaign's entry for a component with this plan header.
///
/// # Errors
///
/// [`ExitCode::Refused`] when the header is not one of this component.
pub fn object_of_plan(
    manifest: &Manifest,
    component: ComponentId,
    header: &[u8],
) -> Result<CampaignObject, CliError> {
    let what = format!("plan of component {}", component.0);
    let stored = manifest.component(component).ok_or_else(|| {
        ExitCode::Refused.with_message(format!("{what}: the manifest has no such one"))
    })?;
    let cut = || ExitCode::Refused.with_message(format!("{what}: the header is cut off"));
    let oti = header.get(24..36).and_then(|octets| octets.try_into().ok()).ok_or_else(cut)?;
    let repair = header.get(36..40).and_then(|octets| octets.try_into().ok()).ok_or_else(cut)?;
    let oti = RaptorQOti::from_bytes(oti)
        .map_err(|error| CliError::wire(ExitCode::Refused, what.clone(), WireError::from(error)))?;
    let root = plan::plan_root(header);
    let repair = u32::from_be_bytes(repair);
    let object = planned(component, oti, repair, root, stored.stored_sha256);
    plan::PlanHeader::read(header, &object)
        .map_err(|error| CliError::wire(ExitCode::Refused, what.clone(), error))?;
    let parameters = oti.parameters();
    if parameters.transfer_length != stored.stored_len {
        return Err(
            ExitCode::Refused.with_message(format!("{what}: made for an image of another length"))
        );
    }
    Ok(CampaignObject {
        component,
        symbol_size: parameters.symbol_size,
        source_blocks: parameters.source_blocks,
        alignment: parameters.alignment,
        plan_root: root,
        repair_per_block: repair,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proto::fixtures::documents::random_key;
    use proto::{
        ids::{CampaignId, ClassId, VendorId},
        trust::{Component, ComponentEncoding},
    };

    use super::*;
    use crate::plan::encode::tests::{Sample, sample};

    pub(crate) const NOW: Utc = Utc::from_seconds(1_800_000_000);

    pub(crate) fn manifest(sample: &Sample) -> Manifest {
        let stored_len = u64::try_from(sample.image.len()).unwrap();
        let stored_sha256 = sample.object.stored_sha256;
        Manifest {
            sequence: 3,
            floor_after_commit: 0,
            vendor: VendorId([1; 16]),
            classes: vec![ClassId([2; 16])],
            firmware_version: "3".into(),
            components: vec![Component {
                id: ComponentId(0),
                stored_len,
                stored_sha256,
                encoding: ComponentEncoding::None,
                decoded_len: stored_len,
                decoded_sha256: stored_sha256,
                memory_needed: 0,
            }],
            not_before: NOW,
            expires: NOW + YEAR,
            root_version: 1,
            epoch: 1,
        }
    }

    pub(crate) fn campaign(manifest_payload: &[u8], object: CampaignObject) -> Campaign {
        Campaign {
            id: CampaignId([7; 16]),
            sequence: 1,
            manifest_sha256: sha256(&[manifest_payload]),
            objects: vec![object],
            not_before: NOW,
            latest_stop: NOW + Duration::from_secs(3600),
            sources: vec!["127.0.0.1".parse().unwrap()],
            report_spread_max_s: 0,
            expires: NOW + YEAR,
            epoch: 1,
        }
    }

    #[test]
    fn a_root_made_for_a_lab_verifies_what_its_keys_sign() {
        let (root, release, operator) = (random_key(), random_key(), random_key());
        let envelope = make_root(NOW, &root, release.public(), operator.public()).unwrap();
        let trusted = trusted_root(NOW, &envelope).unwrap();
        let payload = manifest(&sample()).emit().unwrap();
        let envelope = signed(DocumentKind::Manifest, payload.clone(), &[release]).unwrap();
        assert!(Manifest::verify(&trusted, &envelope).is_ok());
        let stranger = signed(DocumentKind::Manifest, payload, &[operator]).unwrap();
        assert!(Manifest::verify(&trusted, &stranger).is_err());
    }

    #[test]
    fn a_key_of_the_wrong_role_is_refused_with_the_role_it_has() {
        let (root, release, operator) = (random_key(), random_key(), random_key());
        let envelope = make_root(NOW, &root, release.public(), operator.public()).unwrap();
        let trusted = trusted_root(NOW, &envelope).unwrap();
        assert!(check_role(&trusted, DocumentKind::Manifest, &release).is_ok());
        let error = check_role(&trusted, DocumentKind::Manifest, &operator).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Refused);
        assert!(error.to_string().ends_with("is a campaign key; a manifest takes a release key"));
        let error = check_role(&trusted, DocumentKind::Campaign, &random_key()).unwrap_err();
        assert!(error.to_string().contains("stranger"), "{error}");
    }

    #[test]
    fn a_tampered_or_expired_root_is_refused() {
        let root = random_key();
        let envelope = make_root(NOW, &root, root.public(), root.public()).unwrap();
        let error = trusted_root(NOW + 11 * YEAR, &envelope).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Policy);
        let mut tampered = envelope;
        tampered[40] ^= 1;
        assert_eq!(trusted_root(NOW, &tampered).unwrap_err().exit_code(), ExitCode::Refused);
    }

    #[test]
    fn a_campaign_airs_the_objects_of_its_plan_and_manifest() {
        let sample = sample();
        let manifest = manifest(&sample);
        let payload = manifest.emit().unwrap();
        let object = object_of_plan(&manifest, ComponentId(0), &sample.header.emit()).unwrap();
        let planned = planned_objects(&campaign(&payload, object), &payload).unwrap();
        assert_eq!(planned, [sample.object]);
    }

    #[test]
    fn documents_that_do_not_belong_together_are_refused() {
        let sample = sample();
        let mut manifest = manifest(&sample);
        let payload = manifest.emit().unwrap();
        let header = sample.header.emit();
        let object = object_of_plan(&manifest, ComponentId(0), &header).unwrap();
        let good = campaign(&payload, object);
        assert!(planned_objects(&good, &[&payload[..], &[0]].concat()).is_err());
        let foreign = CampaignObject { component: ComponentId(1), ..object };
        assert!(planned_objects(&campaign(&payload, foreign), &payload).is_err());
        assert!(object_of_plan(&manifest, ComponentId(1), &header).is_err());
        for length in 0..header.len() {
            assert!(object_of_plan(&manifest, ComponentId(0), &header[..length]).is_err());
        }
        manifest.components[0].stored_sha256 = sha256(&[b"another image"]);
        assert!(object_of_plan(&manifest, ComponentId(0), &header).is_err());
    }
}
