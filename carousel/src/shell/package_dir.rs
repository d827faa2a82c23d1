//! A package directory: what lies there, opened and compared.
//!
//! ```text
//! manifest.env  campaign.env      signed documents
//! N.img                           image of component N
//! N.plan  N.header                its plan, and the plan header alone for the desk
//! air.json                        session, place and window, kept over restarts
//! air.lock                        held while the package is on air
//! ```

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use proto::{
    crypto::{Digest, sha256},
    ids::{CampaignId, ComponentId},
    time::Utc,
    trust::{
        Campaign, DocumentKind, Envelope, Manifest, PlannedObject, Root, Verified,
        envelope::MAX_ENVELOPE_BYTES, plan::PlanHeader,
    },
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::files::{self, PlanReader};
use crate::{
    encode::ReadAt as _,
    failure::{Exit, Failure},
    package::documents,
    place::Kept,
    plan_file,
    schedule::Schedule,
    session::AiredObject,
};

/// Octets of `air.json` at most.
const MAX_KEPT_OCTETS: u64 = 64 * 1024;

/// Returns the place of the signed manifest.
#[must_use]
pub fn manifest_path(directory: &Path) -> PathBuf {
    directory.join("manifest.env")
}

/// Returns the place of the signed campaign.
#[must_use]
pub fn campaign_path(directory: &Path) -> PathBuf {
    directory.join("campaign.env")
}

/// Returns the place of a component's file of a kind: `img`, `plan` or `header`.
#[must_use]
pub fn component_path(directory: &Path, component: ComponentId, kind: &str) -> PathBuf {
    directory.join(format!("{}.{kind}", component.0))
}

fn kept_path(directory: &Path) -> PathBuf {
    directory.join("air.json")
}

/// Reads an envelope.
///
/// # Errors
///
/// [`Failure`] that names the file.
pub fn read_envelope(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read(path, u64::try_from(MAX_ENVELOPE_BYTES).expect("4096"))
}

/// Reads a document of a kind out of its envelope, without believing it.
///
/// # Errors
///
/// [`Failure`] that names the file.
pub fn read_payload(path: &Path, kind: DocumentKind) -> Result<Vec<u8>, Failure> {
    let what = || path.display().to_string();
    let octets = read_envelope(path)?;
    let envelope = Envelope::parse(&octets).map_err(|error| Failure::trust(what(), error))?;
    if envelope.kind() != kind {
        let found = envelope.kind();
        return Err(Exit::Refused.because(format!("{}: a {found}, expected a {kind}", what())));
    }
    Ok(envelope.payload().to_vec())
}

/// Reads the manifest of a package with its payload, without believing it.
///
/// # Errors
///
/// [`Failure`] that names the file.
pub fn read_manifest(directory: &Path) -> Result<(Manifest, Vec<u8>), Failure> {
    let path = manifest_path(directory);
    let payload = read_payload(&path, DocumentKind::Manifest)?;
    let manifest = Manifest::read(&payload)
        .map_err(|error| Failure::trust(path.display().to_string(), error))?;
    Ok((manifest, payload))
}

/// A package that can be aired.
#[derive(Debug)]
pub struct OpenPackage {
    /// Its campaign.
    pub campaign: Campaign,
    /// H(document) of the campaign.
    pub campaign_digest: Digest,
    /// Its objects.
    pub objects: Vec<AiredObject>,
    files: Vec<File>,
}

impl OpenPackage {
    /// Opens a package; its documents must be signed under `root` where one is given.
    ///
    /// # Errors
    ///
    /// [`Failure`] that names the file, and what about it does not hold.
    pub fn open(
        directory: &Path,
        root: Option<&Verified<Root>>,
        now: Utc,
    ) -> Result<Self, Failure> {
        let (manifest, manifest_payload) = read_manifest(directory)?;
        let path = campaign_path(directory);
        let payload = read_payload(&path, DocumentKind::Campaign)?;
        if let Some(root) = root {
            let refused = |path: &Path| {
                let what = path.display().to_string();
                move |error| Failure::trust(what, error)
            };
            let signed = manifest_path(directory);
            Manifest::verify(root, &read_envelope(&signed)?).map_err(refused(&signed))?;
            let campaign =
                Campaign::verify(root, &read_envelope(&path)?).map_err(refused(&path))?;
            documents::check_floor(root, DocumentKind::Manifest, manifest.sequence)?;
            documents::check_floor(root, DocumentKind::Campaign, campaign.sequence)?;
        }
        let campaign = Campaign::read(&payload)
            .map_err(|error| Failure::trust(path.display().to_string(), error))?;
        documents::check_expiry(now, DocumentKind::Manifest, manifest.expires)?;
        documents::check_expiry(now, DocumentKind::Campaign, campaign.expires)?;
        let planned = documents::planned_objects(&campaign, &manifest_payload)?;
        let mut objects = Vec::new();
        let mut files = Vec::new();
        for object in planned {
            let (aired, file) = open_plan(directory, object)?;
            objects.push(aired);
            files.push(file);
        }
        Ok(Self { campaign, campaign_digest: sha256(&[&payload]), objects, files })
    }

    /// Returns what the sender reads from.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the machine has no file handle to give.
    pub fn records(&self) -> Result<PlanReader, Failure> {
        let again = self.files.iter().map(File::try_clone).collect::<Result<_, _>>();
        again.map(PlanReader::new).map_err(|error| Failure::io("plan file", error))
    }

    /// Returns the data symbols of one pass.
    #[must_use]
    pub fn plan_symbols(&self) -> u64 {
        self.objects.iter().map(|aired| aired.schedule.shape().leaves()).sum()
    }

    /// Returns the UDP payload octets of one pass.
    #[must_use]
    pub fn pass_octets(&self) -> u64 {
        self.objects.iter().map(|aired| aired.schedule.pass_octets()).sum()
    }
}

/// Opens the plan of an object and compares it with what the campaign pins.
fn open_plan(directory: &Path, object: PlannedObject) -> Result<(AiredObject, File), Failure> {
    let path = component_path(directory, object.component, "plan");
    let (plan_header, file) = read_plan_head(&path)?;
    let header = PlanHeader::parse(&plan_header, &object)
        .map_err(|error| Failure::wire(Exit::Refused, path.display().to_string(), error))?;
    let schedule = Schedule::new(*header.shape());
    let length = file.metadata().map_err(|error| Failure::io(path.display().to_string(), error))?;
    if length.len() != schedule.file_octets() {
        let (found, expected) = (length.len(), schedule.file_octets());
        let text = format!("{}: {found} octets, expected {expected}", path.display());
        return Err(Exit::Refused.because(text));
    }
    Ok((AiredObject { object, schedule, plan_header }, file))
}

/// Reads the plan header from a plan file, without comparing it with anything.
///
/// # Errors
///
/// [`Failure`] that names the file.
pub fn read_plan_head(path: &Path) -> Result<(Vec<u8>, File), Failure> {
    let what = || path.display().to_string();
    let file = File::open(path).map_err(|error| Failure::io(what(), error))?;
    let mut head: plan_file::Head = [0; 4096];
    file.read_at(0, &mut head).map_err(|error| Failure::io(what(), error))?;
    let header = plan_file::parse_head(&head)
        .map_err(|error| Failure::wire(Exit::Refused, what(), error))?;
    Ok((header, file))
}

/// Holds a package for the one session that airs it; two would use the same ids.
#[derive(Debug)]
pub struct AirLock {
    _file: File,
}

/// Takes the package for a session.
///
/// # Errors
///
/// [`Exit::Conflict`] when it is on air already.
pub fn lock(directory: &Path) -> Result<AirLock, Failure> {
    let path = directory.join("air.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| Failure::io(path.display().to_string(), error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(AirLock { _file: file }),
        Err(Errno::WOULDBLOCK) => {
            let package = directory.display();
            Err(Exit::Conflict.because(format!("{package}: the package is on air already")))
        }
        Err(error) => Err(Failure::io(path.display().to_string(), error.into())),
    }
}

/// Reads what was kept for a campaign; what was kept for another one, or by a later version, is
/// not used.
///
/// # Errors
///
/// [`Failure`] when the file is there but damaged.
pub fn read_kept(directory: &Path, campaign: CampaignId) -> Result<Option<Kept>, Failure> {
    let path = kept_path(directory);
    if !files::exists(&path) {
        return Ok(None);
    }
    let octets = files::read(&path, MAX_KEPT_OCTETS)?;
    let kept: Kept = serde_json::from_slice(&octets)
        .map_err(|error| Exit::Configuration.because(format!("{}: {error}", path.display())))?;
    Ok(Some(kept).filter(|kept| kept.version == Kept::VERSION && kept.campaign == campaign))
}

/// Keeps session, place and window.
///
/// # Errors
///
/// [`Failure`] that names the file.
///
/// # Panics
///
/// Never: the content is plain data.
pub fn keep(directory: &Path, kept: &Kept) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(kept).expect("the content is plain data");
    text.push(b'\n');
    files::replace(&kept_path(directory), &text)
}
