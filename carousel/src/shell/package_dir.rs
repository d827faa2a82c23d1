//! A package directory: its files, opened and compared.
//!
//! ```text
//! manifest.env  campaign.env      signed documents
//! N.img                           image of component N
//! N.plan  N.header                its plan, and the plan header alone for the operator
//! N.runs                          hashes of the plan's runs, once it was compared with the campaign
//! air.json                        session, resume point and window, saved over restarts
//! air.json.damaged-M              a damaged one, set aside
//! air.lock                        held while the package is on air
//! ```

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use proto::{
    crypto::{Digest, Hash16, sha256},
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
    control::resume_point::SavedState,
    error::{CliError, ExitCode},
    flute::session::AiredObject,
    package::documents,
    plan::{
        check::{self, CheckError, CheckJob},
        encode::ReadAt as _,
        file,
        runs::{self, Fingerprint},
        schedule::Schedule,
    },
};

/// Octets of `air.json` at most.
const MAX_SAVED_BYTES: u64 = 64 * 1024;

/// Returns the path of the signed manifest.
#[must_use]
pub fn manifest_path(directory: &Path) -> PathBuf {
    directory.join("manifest.env")
}

/// Returns the path of the signed campaign.
#[must_use]
pub fn campaign_path(directory: &Path) -> PathBuf {
    directory.join("campaign.env")
}

/// Returns the path of a component's file of a kind: `img`, `plan` or `header`.
#[must_use]
pub fn component_path(directory: &Path, component: ComponentId, kind: &str) -> PathBuf {
    directory.join(format!("{}.{kind}", component.0))
}

fn saved_path(directory: &Path) -> PathBuf {
    directory.join("air.json")
}

/// Reads an envelope.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_envelope(path: &Path) -> Result<Vec<u8>, CliError> {
    files::read(path, u64::try_from(MAX_ENVELOPE_BYTES).expect("4096"))
}

/// Reads a document of a kind from its envelope, without verifying it.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_payload(path: &Path, kind: DocumentKind) -> Result<Vec<u8>, CliError> {
    let what = || path.display().to_string();
    let octets = read_envelope(path)?;
    let envelope = Envelope::parse(&octets).map_err(|error| CliError::trust(what(), error))?;
    if envelope.kind() != kind {
        let found = envelope.kind();
        return Err(
            ExitCode::Refused.with_message(format!("{}: a {found}, expected a {kind}", what()))
        );
    }
    Ok(envelope.payload().to_vec())
}

/// Reads the manifest of a package with its payload, without verifying it.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_manifest(directory: &Path) -> Result<(Manifest, Vec<u8>), CliError> {
    let path = manifest_path(directory);
    let payload = read_payload(&path, DocumentKind::Manifest)?;
    let manifest = Manifest::read(&payload)
        .map_err(|error| CliError::trust(path.display().to_string(), error))?;
    Ok((manifest, payload))
}

/// A package that can be aired.
#[derive(Debug)]
pub struct OpenPackage {
    campaign: Campaign,
    /// H(document) of the campaign.
    campaign_digest: Digest,
    objects: Vec<AiredObject>,
    files: Vec<File>,
    directory: PathBuf,
}

/// The plan file of an object.
#[derive(Debug)]
pub struct PlanFile {
    aired: AiredObject,
    path: PathBuf,
    runs_path: PathBuf,
    file: File,
}

impl PlanFile {
    /// Returns the hashes of its runs, if it was compared and has not changed since.
    ///
    /// # Errors
    ///
    /// [`CliError`] when the state of the file cannot be queried.
    pub fn runs(&self) -> Result<Option<Vec<Hash16>>, CliError> {
        let fingerprint = self.fingerprint()?;
        let octets = files::read(&self.runs_path, runs::MAX_FILE_BYTES).unwrap_or_default();
        Ok(runs::parse(&octets, &fingerprint, &self.aired.object.plan_root))
    }

    /// Returns the properties by which a change of the file is known.
    ///
    /// # Errors
    ///
    /// [`CliError`] when they cannot be queried.
    pub fn fingerprint(&self) -> Result<Fingerprint, CliError> {
        let metadata = self.file.metadata();
        let metadata =
            metadata.map_err(|error| CliError::io(self.path.display().to_string(), error))?;
        let seconds = u64::try_from(metadata.mtime()).unwrap_or_default();
        let nanoseconds = u64::try_from(metadata.mtime_nsec()).unwrap_or_default();
        Ok(Fingerprint {
            size: metadata.len(),
            changed_ns: seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds),
            inode: metadata.ino(),
        })
    }

    /// Returns the octets of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.aired.schedule.file_bytes()
    }

    /// Compares the file with the campaign and stores the hashes of its runs.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the file; [`ExitCode::Refused`] when it is another plan, and no other
    /// fault has this code.
    pub fn check(&self, progress: &dyn Fn(u64) -> check::Progress) -> Result<(), CliError> {
        // A change during the comparison makes its result that of another file.
        let fingerprint = self.fingerprint()?;
        let runs = check::check_plan(&CheckJob {
            schedule: self.aired.schedule,
            object_key: self.aired.object.object_key,
            plan_header: &self.aired.plan_header,
            plan: &self.file,
            progress,
        });
        let path = self.path.display().to_string();
        let runs = runs.map_err(|error| match error {
            CheckError::Damaged(_) => ExitCode::Refused.with_message(format!("{path}: {error}")),
            CheckError::Io(error) => CliError::io(path, error),
            CheckError::Stopped => ExitCode::Interrupted.with_message(format!("{path}: {error}")),
        })?;
        let octets = runs::emit(&fingerprint, &self.aired.object.plan_root, &runs);
        files::replace(&self.runs_path, &octets)
    }

    /// Removes the hashes of its runs, so that it is compared anew.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the file.
    pub fn forget_check(&self) -> Result<(), CliError> {
        files::remove(&self.runs_path)
    }
}

impl OpenPackage {
    /// Opens a package; its documents must be signed under `root` where one is given.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the file and the fault.
    pub fn open(
        directory: &Path,
        root: Option<&Verified<Root>>,
        now: Utc,
    ) -> Result<Self, CliError> {
        let (manifest, manifest_payload) = read_manifest(directory)?;
        let path = campaign_path(directory);
        let payload = read_payload(&path, DocumentKind::Campaign)?;
        if let Some(root) = root {
            let refused = |path: &Path| {
                let what = path.display().to_string();
                move |error| CliError::trust(what, error)
            };
            let signed = manifest_path(directory);
            Manifest::verify(root, &read_envelope(&signed)?).map_err(refused(&signed))?;
            let campaign =
                Campaign::verify(root, &read_envelope(&path)?).map_err(refused(&path))?;
            documents::check_floor(root, DocumentKind::Manifest, manifest.sequence)?;
            documents::check_floor(root, DocumentKind::Campaign, campaign.sequence)?;
        }
        let campaign = Campaign::read(&payload)
            .map_err(|error| CliError::trust(path.display().to_string(), error))?;
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
        let (campaign_digest, directory) = (sha256(&[&payload]), directory.to_owned());
        Ok(Self { campaign, campaign_digest, objects, files, directory })
    }

    /// Returns the campaign.
    #[must_use]
    pub const fn campaign(&self) -> &Campaign {
        &self.campaign
    }

    /// Returns H(document) of the campaign.
    #[must_use]
    pub const fn campaign_digest(&self) -> Digest {
        self.campaign_digest
    }

    /// Returns the objects.
    #[must_use]
    pub fn objects(&self) -> &[AiredObject] {
        &self.objects
    }

    /// Returns what the sender reads from.
    ///
    /// # Errors
    ///
    /// [`CliError`] when no file handle can be opened.
    pub fn records(&self) -> Result<PlanReader, CliError> {
        let mut plans = Vec::new();
        for plan in self.plans()? {
            let runs = plan.runs()?.unwrap_or_default();
            plans.push((plan.file, runs));
        }
        Ok(PlanReader::new(plans))
    }

    /// Returns the plan files, with what they are compared with.
    ///
    /// # Errors
    ///
    /// [`CliError`] when no file handle can be opened.
    pub fn plans(&self) -> Result<Vec<PlanFile>, CliError> {
        let all = self.objects.iter().zip(&self.files);
        let plan = |(aired, file): (&AiredObject, &File)| {
            let component = aired.object.component;
            let path = component_path(&self.directory, component, "plan");
            let runs_path = component_path(&self.directory, component, "runs");
            let file = file.try_clone();
            let file = file.map_err(|error| CliError::io(path.display().to_string(), error))?;
            Ok(PlanFile { aired: aired.clone(), path, runs_path, file })
        };
        all.map(plan).collect()
    }

    /// Returns the data symbols of one pass.
    #[must_use]
    pub fn plan_symbols(&self) -> u64 {
        self.objects.iter().map(|aired| aired.schedule.shape().leaves()).sum()
    }

    /// Returns the UDP payload octets of one pass.
    #[must_use]
    pub fn pass_bytes(&self) -> u64 {
        self.objects.iter().map(|aired| aired.schedule.pass_bytes()).sum()
    }
}

/// Opens the plan of an object and compares it with the campaign.
fn open_plan(directory: &Path, object: PlannedObject) -> Result<(AiredObject, File), CliError> {
    let path = component_path(directory, object.component, "plan");
    let (plan_header, file) = read_plan_head(&path)?;
    let header = PlanHeader::parse(&plan_header, &object)
        .map_err(|error| CliError::wire(ExitCode::Refused, path.display().to_string(), error))?;
    let schedule = Schedule::new(*header.shape());
    let length =
        file.metadata().map_err(|error| CliError::io(path.display().to_string(), error))?;
    if length.len() != schedule.file_bytes() {
        let (found, expected) = (length.len(), schedule.file_bytes());
        let text = format!("{}: {found} octets, expected {expected}", path.display());
        return Err(ExitCode::Refused.with_message(text));
    }
    Ok((AiredObject { object, schedule, plan_header }, file))
}

/// Reads the plan header from a plan file, without comparing it with anything.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_plan_head(path: &Path) -> Result<(Vec<u8>, File), CliError> {
    let what = || path.display().to_string();
    let file = files::open(path).map_err(|error| CliError::io(what(), error))?;
    let mut head: file::Head = [0; 4096];
    file.read_at(0, &mut head).map_err(|error| CliError::io(what(), error))?;
    let header = file::parse_head(&head)
        .map_err(|error| CliError::wire(ExitCode::Refused, what(), error))?;
    Ok((header, file))
}

/// The lock on a package for the one session that airs it; two would use the same ids.
#[derive(Debug)]
pub struct AirLock {
    _file: File,
}

/// Locks the package for a session.
///
/// # Errors
///
/// [`ExitCode::Conflict`] when it is on air already.
pub fn lock(directory: &Path) -> Result<AirLock, CliError> {
    let path = directory.join("air.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| CliError::io(path.display().to_string(), error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(AirLock { _file: file }),
        Err(Errno::WOULDBLOCK) => {
            let package = directory.display();
            Err(ExitCode::Conflict
                .with_message(format!("{package}: the package is on air already")))
        }
        Err(error) => Err(CliError::io(path.display().to_string(), error.into())),
    }
}

/// Reads the saved state of a campaign; the state of another one, or of a later version, is not
/// used. A damaged one is set aside: its session begins afresh, with another TSI.
///
/// # Errors
///
/// [`CliError`] when the file cannot be read or set aside.
pub fn read_saved(directory: &Path, campaign: CampaignId) -> Result<Option<SavedState>, CliError> {
    let path = saved_path(directory);
    if !files::exists(&path) {
        return Ok(None);
    }
    let octets = files::read(&path, MAX_SAVED_BYTES)?;
    let saved: SavedState = match serde_json::from_slice(&octets) {
        Ok(saved) => saved,
        Err(error) => {
            let aside = set_aside(&path)?;
            let (file, aside) = (path.display(), aside.display());
            tracing::error!(%file, %error, kept_as = %aside, "damaged; the session begins afresh");
            return Ok(None);
        }
    };
    Ok(Some(saved)
        .filter(|saved| saved.version == SavedState::VERSION && saved.campaign == campaign))
}

/// Damaged files that are kept of one name.
const MAX_ASIDE: u32 = 100;

/// Gives a damaged file another name; returns it.
fn set_aside(path: &Path) -> Result<PathBuf, CliError> {
    let name = |number: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".damaged-{number}"));
        path.with_file_name(name)
    };
    let aside = (1..MAX_ASIDE).map(name).find(|name| !files::exists(name));
    let aside = aside.unwrap_or_else(|| name(MAX_ASIDE));
    fs::rename(path, &aside).map_err(|error| CliError::io(path.display().to_string(), error))?;
    Ok(aside)
}

/// Removes the temporary files that the image server left in a package directory when it was
/// killed.
///
/// # Errors
///
/// [`CliError`] that names the file or the directory.
pub fn remove_temporary(directory: &Path) -> Result<(), CliError> {
    for name in files::names(directory)? {
        // The others are those of commands, which may be at work.
        if name == "air.json.new" || name.ends_with(".runs.new") {
            files::remove(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Saves session, resume point and window.
///
/// # Errors
///
/// [`CliError`] that names the file.
///
/// # Panics
///
/// Never: the content is plain data.
pub fn save(directory: &Path, saved: &SavedState) -> Result<(), CliError> {
    let mut text = serde_json::to_vec_pretty(saved).expect("the content is plain data");
    text.push(b'\n');
    files::replace(&saved_path(directory), &text)
}
