//! Packages that are received by unicast: over HTTP by a descriptor (the Download User Agent),
//! inside a DM session, or from local media. All of them are bundles, and all are processed like a
//! broadcast image once they are stored: check, hand-off, result.
//!
//! ```text
//! Exec -> descriptor -> documents verified -> chunks, each synced -> assembled -> verified -> …
//!         (HTTP alone)  PkgData: all of it, in chunks of `partial_package` ^
//! ```
//!
//! Octets count as fetched once they are synced.

use std::time::Duration;

use proto::{
    dm::{
        descriptor::{self, Descriptor, InstallStatus},
        fumo::{Phase, ResultCode},
    },
    ids::PackageId,
    time::Mono,
    trust::bundle::{self, BundleHead},
};

use super::fetch::{Fetch, FetchError, Fetched};
use crate::{
    store::{
        StorageError,
        journal_state::{DownloadRecord, InstallNotificationRecord, JournalState},
    },
    url::is_http,
};

/// Octets of the image that are requested at once, and synced together.
const CHUNK: u64 = 1 << 20;
/// Time without an octet after which the download is aborted.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest wait between two attempts, unless the server requests a longer one.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a server may request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(6 * 60 * 60);
/// Attempts at an installation notification before it is dropped.
const MAX_NOTIFICATION_ATTEMPTS: u32 = 5;
/// Installation notifications that are queued at most.
const MAX_NOTIFICATIONS: usize = 2;
/// The URL scheme of an import; no URL of a server begins so.
const FILE: &str = "file:";

/// The download of a package, and the installation notifications of those before.
#[derive(Debug, Default)]
pub(crate) struct Download {
    package: Option<PackageDownload>,
    /// Installation notifications that the download server has not acknowledged.
    notifications: Vec<InstallNotification>,
    /// Set while a completion of the network or the storage is awaited.
    busy: bool,
    /// Set when that completion belongs to an operation that has ended.
    stale: bool,
    /// Attempts without an octet since the last one that came.
    failures: u32,
    /// Time of the first of them.
    failing_since: Option<Mono>,
    retry: Option<Mono>,
    /// The descriptor, or the front of the package, as far as it came.
    front: Vec<u8>,
    /// Octets that are being stored.
    storing: u64,
    notifying: bool,
    next_notification: Option<Mono>,
    /// The reason why the package in `PkgData`, or in the `Data` of a component, is refused: the
    /// result of its Exec.
    refusal: Option<(Option<PackageId>, ResultCode)>,
    /// The outcome as an OMA DL status, where the result code is ambiguous.
    status: Option<InstallStatus>,
}

/// A unicast download, as the journal stores it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct PackageDownload {
    /// URL of a descriptor, or of the package. Empty when there is nothing to fetch.
    url: String,
    /// URL of the package, once that is known.
    object: Option<String>,
    /// URL that receives the outcome.
    notify: Option<String>,
    /// Octets of the package by its descriptor; 0 when there was none.
    size: u64,
    /// Offset of the image in the package.
    image_offset: u64,
    /// Octets of the image that are synced.
    fetched: u64,
}

/// A queued installation notification.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InstallNotification {
    /// The destination.
    url: String,
    /// The status that it carries.
    status: InstallStatus,
    /// Attempts so far.
    tries: u32,
}

/// The image of the package, as far as its documents are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WantedImage {
    /// The documents are not received.
    Unknown,
    /// The download waits for the consent of the user.
    AwaitsConsent,
    /// An image of this many octets.
    Bytes(u64),
}

/// The next step of a download.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DownloadStep {
    /// Fetch a range.
    Fetch(Fetch),
    /// The whole image is synced.
    Complete,
}

/// An event of a download.
#[derive(Debug)]
pub(crate) enum DownloadEvent {
    /// Nothing.
    Nothing,
    /// The next range can be requested.
    Ready,
    /// The download has advanced: that is stored before the next range is requested.
    Advanced,
    /// The front of the package, to be evaluated.
    Head(BundleHead),
    /// Octets of the image, to be written at this offset.
    Image(u64, Vec<u8>),
    /// The operation ends.
    Failed(Phase, ResultCode),
}

impl Download {
    /// Restores the download; no completion is awaited.
    pub(crate) fn from_journal(state: &JournalState) -> Self {
        let package = state.download.as_ref().map(PackageDownload::from);
        let notifications = state.install_notifications.iter().map(InstallNotification::from);
        Self { package, notifications: notifications.collect(), ..Self::default() }
    }

    /// Writes the download into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.download = self.package.as_ref().map(DownloadRecord::from);
        let notifications = self.notifications.iter().map(InstallNotificationRecord::from);
        state.install_notifications = notifications.collect();
    }

    /// Returns whether a package is received, or was, by unicast.
    pub(crate) const fn is_active(&self) -> bool {
        self.package.is_some()
    }

    /// Returns whether a completion of an operation that has ended is awaited.
    pub(crate) const fn awaits_ended(&self) -> bool {
        self.stale
    }

    /// Resets the state of this run; a completion that is still pending is dropped when it arrives.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self {
            package: self.package.take(),
            notifications: std::mem::take(&mut self.notifications),
            busy: self.busy,
            stale: self.busy,
            notifying: self.notifying,
            next_notification: self.next_notification,
            ..Self::default()
        };
    }

    /// Begins the download of a descriptor or a package.
    pub(crate) fn begin(&mut self, url: String) {
        self.package = Some(PackageDownload { url, ..PackageDownload::default() });
        self.begin_anew();
    }

    /// Begins the import of a package from local media.
    pub(crate) fn begin_import(&mut self, path: &str) {
        let object = Some(format!("{FILE}{path}"));
        self.package = Some(PackageDownload { object, ..PackageDownload::default() });
        self.begin_anew();
    }

    /// Stores that the documents of the package are verified: its image begins at this offset.
    pub(crate) const fn record_head(&mut self, image_offset: u64) {
        if let Some(package) = &mut self.package {
            (package.image_offset, package.fetched) = (image_offset, 0);
        }
    }

    /// Stores a package that is received as a whole.
    pub(crate) fn hold(&mut self, image_offset: u64, fetched: u64) {
        let whole = PackageDownload { image_offset, fetched, ..PackageDownload::default() };
        self.package = Some(whole);
    }

    /// Forgets the package.
    pub(crate) fn drop_package(&mut self) {
        self.package = None;
    }

    /// Stores the reason why a package is refused, until its Exec.
    pub(crate) fn refuse(&mut self, package: Option<PackageId>, result: ResultCode) {
        self.refusal = Some((package, result));
    }

    /// Returns the reason why the package is refused, once.
    pub(crate) fn take_refusal(&mut self, package: Option<&PackageId>) -> Option<ResultCode> {
        let refusal = self.refusal.take_if(|(refused, _)| refused.as_ref() == package);
        refusal.map(|(_, result)| result)
    }

    /// Returns how much of an image is synced, per mille, while one is fetched.
    pub(crate) fn progress_per_mille(&self, image_bytes: u64) -> Option<u16> {
        let package = self.package.as_ref()?;
        let octets = image_bytes.max(1);
        u16::try_from(package.fetched.min(octets).saturating_mul(1000) / octets).ok()
    }

    /// Returns the next missing range, unless a completion or a retry is awaited.
    // spec: oma-001 8.1.2.13, oma-001 8.1.2.17, oma-001 8.1.2.18
    pub(crate) fn next_step(&mut self, now: Mono, image: WantedImage) -> Option<DownloadStep> {
        let package = self.package.as_ref()?;
        let blocked = self.busy || self.retry.is_some_and(|at| at > now);
        if blocked || (package.url.is_empty() && package.object.is_none()) {
            return None;
        }
        let head = |url: &str| {
            let from = u64::try_from(self.front.len()).unwrap_or(u64::MAX);
            let to = u64::try_from(bundle::MAX_HEAD).unwrap_or(u64::MAX);
            Fetch { url: url.to_owned(), from, to }
        };
        let fetch = match (&package.object, image) {
            (None, _) => head(&package.url),
            (Some(url), WantedImage::Unknown) => head(url),
            (Some(_), WantedImage::AwaitsConsent) => return None,
            (Some(url), WantedImage::Bytes(octets)) if package.fetched < octets => {
                let from = package.image_offset + package.fetched;
                let to = (from + CHUNK).min(package.image_offset + octets);
                Fetch { url: url.clone(), from, to }
            }
            (Some(_), WantedImage::Bytes(_)) => return Some(DownloadStep::Complete),
        };
        self.retry = None;
        self.busy = true;
        Some(DownloadStep::Fetch(fetch))
    }

    /// Handles the outcome of a fetch. `max_image_bytes` is the room for an image.
    pub(crate) fn handle_fetched(
        &mut self,
        now: Mono,
        fetched: Result<Fetched, FetchError>,
        image: WantedImage,
        max_image_bytes: u64,
    ) -> DownloadEvent {
        self.busy = false;
        if std::mem::take(&mut self.stale) {
            return DownloadEvent::Ready;
        }
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return self.handle_fetch_failed(now, error),
        };
        let Some(package) = &self.package else { return DownloadEvent::Nothing };
        if fetched.octets.is_empty() {
            if package.object.as_ref().is_some_and(|object| object.starts_with(FILE)) {
                return self.fail(ResultCode::CORRUPTED, InstallStatus::ATTRIBUTE_MISMATCH);
            }
            // More was to come: the end that the server shows is a passing one.
            self.front.clear();
            return self.handle_fetch_failed(now, FetchError::Network);
        }
        let is_descriptor = is_descriptor(&fetched.media_type);
        if package.object.is_none() && is_descriptor && fetched.is_cut {
            // A descriptor may be written anew for each request.
            self.front.clear();
            return self.handle_fetch_failed(now, FetchError::Network);
        }
        (self.failures, self.failing_since) = (0, None);
        match (&package.object, image) {
            (None, _) => self.handle_descriptor(fetched, max_image_bytes),
            (Some(_), WantedImage::Unknown) => self.handle_head(fetched),
            (Some(_), _) => {
                let at = package.fetched;
                self.busy = true;
                self.storing = u64::try_from(fetched.octets.len()).unwrap_or_default();
                DownloadEvent::Image(at, fetched.octets)
            }
        }
    }

    /// Handles the first response: a descriptor, or the package itself.
    // spec: oma-001 8.1.2.15 (the descriptor is checked before anything is fetched)
    fn handle_descriptor(&mut self, fetched: Fetched, max_image_bytes: u64) -> DownloadEvent {
        let Some(package) = &mut self.package else { return DownloadEvent::Nothing };
        if !is_descriptor(&fetched.media_type) {
            package.object = Some(package.url.clone());
            package.size = fetched.total.unwrap_or_default();
            return self.handle_head(fetched);
        }
        self.front.extend(fetched.octets);
        if fetched.has_more && self.front.len() < bundle::MAX_HEAD {
            return DownloadEvent::Ready;
        }
        let document = std::mem::take(&mut self.front);
        let Ok(found) = Descriptor::parse(&document) else {
            return self.fail(ResultCode::UNDEFINED, InstallStatus::INVALID_DESCRIPTOR);
        };
        package.notify = found.install_notify_uri.clone().filter(|url| is_http(url));
        if !found.is_understood() {
            return self.fail(ResultCode::UNDEFINED, InstallStatus::INVALID_VERSION);
        }
        if !found.types.iter().any(|kind| kind.eq_ignore_ascii_case(bundle::MEDIA_TYPE)) {
            return self.fail(ResultCode::NOT_ACCEPTABLE, InstallStatus::NOT_ACCEPTABLE);
        }
        if found.size > max_image_bytes {
            let full = InstallStatus::INSUFFICIENT_MEMORY;
            return self.fail(ResultCode::NO_ROOM_TO_DOWNLOAD, full);
        }
        if !is_http(&found.object_uri) {
            return self.fail(ResultCode::BAD_URL, InstallStatus::LOADER_ERROR);
        }
        package.object = Some(found.object_uri);
        package.size = found.size;
        DownloadEvent::Advanced
    }

    /// Handles octets of the front of the package: it is parsed as soon as it came.
    fn handle_head(&mut self, fetched: Fetched) -> DownloadEvent {
        let announced = self.package.as_ref().map_or(0, |package| package.size);
        self.front.extend(fetched.octets);
        let Ok(head) = BundleHead::parse(&self.front) else {
            let is_unfinished = fetched.has_more || fetched.is_cut;
            if is_unfinished && self.front.len() < bundle::MAX_HEAD {
                return DownloadEvent::Advanced;
            }
            return self.fail(ResultCode::NOT_ACCEPTABLE, InstallStatus::NOT_ACCEPTABLE);
        };
        self.front = Vec::new();
        if announced != 0 && announced != head.bundle_octets() {
            return self.fail(ResultCode::NOT_ACCEPTABLE, InstallStatus::ATTRIBUTE_MISMATCH);
        }
        DownloadEvent::Head(head)
    }

    fn handle_fetch_failed(&mut self, now: Mono, error: FetchError) -> DownloadEvent {
        if !self.is_active() {
            return DownloadEvent::Nothing;
        }
        tracing::info!(?error, "fetch failed");
        let (result, status, lasting) = outcome_of(error);
        let since = *self.failing_since.get_or_insert(now);
        if lasting || now.since(since) >= PATIENCE {
            return self.fail(result, status);
        }
        if error == FetchError::NotYet {
            return DownloadEvent::Ready;
        }
        self.failures += 1;
        let wait = Duration::from_secs(1 << self.failures.min(9)).min(MAX_WAIT);
        let requested = match error {
            FetchError::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            FetchError::Refused
            | FetchError::OwnService
            | FetchError::OtherRange
            | FetchError::NotYet
            | FetchError::Network => Duration::ZERO,
        };
        self.retry = Some(now + wait.max(requested.min(MAX_RETRY_AFTER)));
        DownloadEvent::Nothing
    }

    const fn fail(&mut self, result: ResultCode, status: InstallStatus) -> DownloadEvent {
        self.status = Some(status);
        DownloadEvent::Failed(Phase::Incomplete, result)
    }

    /// Handles the outcome of a write to the image. Nothing is reported before it is synced.
    pub(crate) fn handle_image_written(
        &mut self,
        outcome: Result<(), StorageError>,
    ) -> DownloadEvent {
        // No completion is awaited for the image of `PkgData`.
        self.busy = false;
        if std::mem::take(&mut self.stale) {
            return DownloadEvent::Ready;
        }
        match outcome {
            Ok(()) => {
                let octets = std::mem::take(&mut self.storing);
                let Some(package) = &mut self.package else { return DownloadEvent::Nothing };
                package.fetched += octets;
                DownloadEvent::Advanced
            }
            Err(StorageError::NoSpace { .. }) => {
                DownloadEvent::Failed(Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD)
            }
            Err(error @ StorageError::Io { .. }) => {
                tracing::warn!(%error, "package not stored");
                DownloadEvent::Failed(Phase::Incomplete, ResultCode::CLIENT_ERROR)
            }
        }
    }

    /// Handles the end of a write to the image of an operation that has ended.
    pub(crate) fn handle_late_image_written(&mut self) -> DownloadEvent {
        if !self.stale && self.is_active() {
            return DownloadEvent::Nothing;
        }
        (self.busy, self.stale) = (false, false);
        DownloadEvent::Ready
    }

    /// Ends the download with the result of its operation; returns whether a notification of the
    /// download server is queued.
    // spec: oma-001 8.1.2.21, oma-001 8.1.2.23
    pub(crate) fn end(&mut self, result: ResultCode) -> bool {
        let Some(package) = self.package.take() else { return false };
        let status = self.status.unwrap_or_else(|| install_status(result));
        self.begin_anew();
        match package.notify {
            Some(url) if self.notifications.len() < MAX_NOTIFICATIONS => {
                self.notifications.push(InstallNotification { url, status, tries: 0 });
                true
            }
            Some(_) | None => false,
        }
    }

    /// Returns URL and body of the oldest installation notification when it is due.
    pub(crate) fn next_notification(&mut self, now: Mono) -> Option<(String, String)> {
        let due = self.next_notification.is_none_or(|at| at <= now);
        let notice = self.notifications.first()?;
        if !due || self.notifying {
            return None;
        }
        self.notifying = true;
        Some((notice.url.clone(), notice.status.emit()))
    }

    /// Handles the outcome of an installation notification; returns whether there was one.
    pub(crate) fn handle_notified(&mut self, now: Mono, arrived: bool) -> bool {
        self.notifying = false;
        self.next_notification = None;
        let Some(notice) = self.notifications.first_mut() else { return false };
        notice.tries += 1;
        if arrived || notice.tries >= MAX_NOTIFICATION_ATTEMPTS {
            self.notifications.remove(0);
        } else {
            self.next_notification = Some(now + Duration::from_secs(30 << notice.tries));
        }
        true
    }

    /// Returns the time of the next retry or notification.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let notice = self.next_notification.filter(|_| !self.notifications.is_empty());
        let retry = self.retry.filter(|_| self.is_active());
        [retry, notice].into_iter().flatten().min()
    }
}

/// Returns what a failed fetch means as the result of the download, and whether it is its end: the
/// server would answer the same request in the same way (RFC 9110 15, RFC 6585 4).
const fn outcome_of(error: FetchError) -> (ResultCode, InstallStatus, bool) {
    match error {
        FetchError::Refused | FetchError::OwnService => {
            (ResultCode::BAD_URL, InstallStatus::LOADER_ERROR, true)
        }
        FetchError::Network | FetchError::NotYet => {
            (ResultCode::NETWORK, InstallStatus::LOSS_OF_SERVICE, false)
        }
        FetchError::OtherRange => {
            (ResultCode::DOWNLOAD_SERVER_ERROR, InstallStatus::LOSS_OF_SERVICE, false)
        }
        FetchError::Status { code, .. } => match code {
            401 | 403 | 407 => {
                (ResultCode::DOWNLOAD_AUTHENTICATION, InstallStatus::LOADER_ERROR, true)
            }
            408 | 504 => (ResultCode::DOWNLOAD_TIMEOUT, InstallStatus::LOSS_OF_SERVICE, false),
            425 | 429 | 503 => {
                (ResultCode::DOWNLOAD_UNAVAILABLE, InstallStatus::LOSS_OF_SERVICE, false)
            }
            500.. => (ResultCode::DOWNLOAD_SERVER_ERROR, InstallStatus::LOSS_OF_SERVICE, false),
            _ => (ResultCode::BAD_URL, InstallStatus::LOADER_ERROR, true),
        },
    }
}

/// Returns whether a media type is that of download descriptors, whatever its parameters.
fn is_descriptor(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(descriptor::MEDIA_TYPE)
}

/// Returns the outcome of a download for the result of its operation.
const fn install_status(result: ResultCode) -> InstallStatus {
    match result {
        ResultCode::USER_CANCELLED => InstallStatus::USER_CANCELLED,
        ResultCode::NO_ROOM_TO_DOWNLOAD | ResultCode::NO_ROOM_TO_UPDATE => {
            InstallStatus::INSUFFICIENT_MEMORY
        }
        ResultCode::NETWORK | ResultCode::DOWNLOAD_TIMEOUT | ResultCode::DOWNLOAD_UNAVAILABLE => {
            InstallStatus::LOSS_OF_SERVICE
        }
        ResultCode::CORRUPTED => InstallStatus::ATTRIBUTE_MISMATCH,
        ResultCode::MISMATCH
        | ResultCode::BAD_SIGNATURE
        | ResultCode::NOT_ACCEPTABLE
        | ResultCode::REFUSED => InstallStatus::NOT_ACCEPTABLE,
        ResultCode::DISARMED | ResultCode::CLIENT_ERROR | ResultCode::POLICY => {
            InstallStatus::DEVICE_ABORTED
        }
        success if success.is_success() => InstallStatus::SUCCESS,
        _ => InstallStatus::LOADER_ERROR,
    }
}

impl From<&DownloadRecord> for PackageDownload {
    fn from(record: &DownloadRecord) -> Self {
        Self {
            url: record.url.clone(),
            object: record.object.clone(),
            notify: record.notify.clone(),
            size: record.size,
            image_offset: record.image_offset,
            fetched: record.fetched,
        }
    }
}

impl From<&PackageDownload> for DownloadRecord {
    fn from(package: &PackageDownload) -> Self {
        Self {
            url: package.url.clone(),
            object: package.object.clone(),
            notify: package.notify.clone(),
            size: package.size,
            image_offset: package.image_offset,
            fetched: package.fetched,
        }
    }
}

impl From<&InstallNotificationRecord> for InstallNotification {
    fn from(record: &InstallNotificationRecord) -> Self {
        let status = u16::try_from(record.status).unwrap_or(InstallStatus::LOADER_ERROR.0);
        Self { url: record.url.clone(), status: InstallStatus(status), tries: record.tries }
    }
}

impl From<&InstallNotification> for InstallNotificationRecord {
    fn from(notice: &InstallNotification) -> Self {
        let InstallNotification { url, status, tries } = notice;
        Self { url: url.clone(), status: status.0.into(), tries: *tries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_read_as_it_was_written() {
        let download = DownloadRecord {
            url: "http://x/d".to_owned(),
            object: Some("http://x/o".to_owned()),
            notify: Some("http://x/n".to_owned()),
            size: 3,
            image_offset: 2,
            fetched: 1,
        };
        let notice =
            InstallNotificationRecord { url: "http://x/n".to_owned(), status: 900, tries: 2 };
        let state = JournalState {
            download: Some(download),
            install_notifications: vec![notice],
            ..JournalState::default()
        };
        let mut written = JournalState::default();
        Download::from_journal(&state).write_journal(&mut written);
        assert_eq!(written, state);
    }
}
