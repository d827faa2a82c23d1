//! The FUMO object with `Ext/Broadcast`: writes of the server are staged in memory, and the Exec
//! passes them on as one [`ArmRequest`].
//!
//! Staging ends with the Exec, or with the next DM session: an Exec uses the writes of its own
//! session only.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    dm::{
        code::{Format, StatusCode},
        fumo::{Operation, PackageData, Phase, ResultCode},
        nodes::{broadcast, fumo},
        syncml::Item,
    },
    ids::{ComponentId, Correlator},
    time::{Mono, Now, Utc},
};

use super::{
    ArmRequest, ChunkPosition, DeviceView, DownloadRequest, FinalAlert, ManagementBackend,
    ReportFilter, ReportSettings,
    tree::{
        management_object::{Leaf, ManagementObject},
        right::Right,
    },
};

mod nodes;

use crate::{
    components::ComponentTarget,
    url::{has_scheme, is_http},
};

/// Octets of an envelope.
const MAX_ENVELOPE: usize = 4096;
/// Octets of a plan header: 64 and 64 cap nodes of 16.
const MAX_PLAN_HEADER: usize = 1088;
/// Characters of a URL.
const MAX_URL: usize = 512;
/// Further windows.
const MAX_SESSIONS: usize = 16;
/// The longest spread of reports: a week.
const MAX_SPREAD_SECONDS: u64 = 604_800;

/// The scheme that arms; any other is rejected like an unknown URL.
const SCHEME: &str = "fumocast:";

/// Arguments of an Exec, which the server may read back.
#[derive(Debug, Clone, Default)]
struct UsedArguments {
    download_url: Option<String>,
    update_url: Option<String>,
    now: Option<(Utc, Mono)>,
    opens: Option<Utc>,
    closes: Option<Utc>,
    sessions: Vec<String>,
    repair: Option<String>,
    report: ReportSettings,
}

/// Writes of the session for its Exec.
#[derive(Debug, Clone, Default)]
struct PendingWrites {
    arguments: UsedArguments,
    campaign: Vec<u8>,
    manifest: Vec<u8>,
    plan_headers: BTreeMap<ComponentId, Vec<u8>>,
}

/// The FUMO object; addresses here are paths below it.
#[derive(Debug, Clone, Default)]
pub struct FumoObject {
    pending: PendingWrites,
    /// Set while the staged values are those of a past Exec: the next write clears them.
    spent: bool,
    /// Set when a package was received since the last checkpoint.
    received_package: bool,
    plain_http: PlainHttp,
}

/// Permission of plain HTTP in a repair URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// Only `https:` is allowed.
    #[default]
    Refused,
    /// Plain HTTP is allowed: the server itself is reached by it.
    Allowed,
}

impl FumoObject {
    /// Creates an object without pending writes.
    #[must_use]
    pub fn new(plain_http: PlainHttp) -> Self {
        Self { plain_http, ..Self::default() }
    }

    fn stage(&mut self, now: Now, path: &str, item: &Item) -> Result<(), StatusCode> {
        let plan = path.strip_prefix(broadcast::PLAN).and_then(|path| path.strip_prefix('/'));
        let pending = &mut self.pending;
        if let Some(number) = plan {
            let component = number.parse().map_err(|_| StatusCode::NOT_FOUND)?;
            let header = octets(item, MAX_PLAN_HEADER)?;
            pending.plan_headers.insert(ComponentId(component), header);
            return Ok(());
        }
        let arguments = &mut pending.arguments;
        match path {
            fumo::DOWNLOAD_URL => arguments.download_url = Some(text(item, MAX_URL)?),
            fumo::DOWNLOAD_AND_UPDATE_URL => arguments.update_url = Some(text(item, MAX_URL)?),
            broadcast::CAMPAIGN => pending.campaign = octets(item, MAX_ENVELOPE)?,
            broadcast::MANIFEST => pending.manifest = octets(item, MAX_ENVELOPE)?,
            broadcast::NOW => arguments.now = utc(item)?.map(|utc| (utc, now.mono)),
            broadcast::OPENS => arguments.opens = utc(item)?,
            broadcast::CLOSES => arguments.closes = utc(item)?,
            broadcast::SESSIONS => arguments.sessions = sessions(item)?,
            broadcast::REPAIR => arguments.repair = repair(item, self.plain_http)?,
            broadcast::REPORT_SPREAD => arguments.report.spread = spread(item)?,
            broadcast::REPORT_NOT_BEFORE => arguments.report.not_before = utc(item)?,
            broadcast::REPORT_FILTER => arguments.report.filter = filter(item)?,
            _ => return Err(StatusCode::NOT_FOUND),
        }
        Ok(())
    }

    fn start(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        operation: Operation,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let url = match operation {
            Operation::Download => self.pending.arguments.download_url.clone(),
            Operation::Update | Operation::DownloadAndUpdate => {
                self.pending.arguments.update_url.clone()
            }
        };
        let url = url.filter(|_| !self.spent);
        self.execute(now, device, ExecRequest { operation, url, correlator, subject: None })
    }

    /// Passes the pending writes to the backend. The status is always 202: an error of the campaign
    /// becomes a final alert.
    pub(super) fn execute(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        request: ExecRequest,
    ) -> StatusCode {
        let ExecRequest { operation, url, correlator, subject } = request;
        // The arguments of the Exec stay readable; the documents are passed on.
        let used =
            if self.spent { PendingWrites::default() } else { std::mem::take(&mut self.pending) };
        if !self.spent {
            self.pending.arguments = used.arguments.clone();
        }
        self.spent = true;
        let arguments = used.arguments;
        match url.filter(|url| url.starts_with(SCHEME) || is_http(url)) {
            // spec: oma-001 8.1.2.10, oma-001 8.1.2.11, oma-000 8.2.4.2
            Some(url) if is_http(&url) => {
                let report = arguments.report;
                let request = DownloadRequest { operation, url, report, correlator, subject };
                device.download(now, request);
            }
            Some(url) => {
                let request = ArmRequest {
                    operation,
                    url,
                    campaign: used.campaign,
                    manifest: used.manifest,
                    plan_headers: used.plan_headers,
                    server_now: arguments.now.map(|(utc, at)| utc + now.mono.since(at)),
                    opens: arguments.opens,
                    closes: arguments.closes,
                    sessions: arguments.sessions,
                    repair: arguments.repair,
                    report: arguments.report,
                    correlator,
                    subject,
                };
                device.arm(now, request);
            }
            None => {
                let (result, campaign) = (ResultCode::BAD_URL, None);
                let alert = FinalAlert { correlator, operation, result, campaign, subject };
                device.refuse(now, alert);
            }
        }
        // spec: oma-dm 11 (exec)
        StatusCode::ACCEPTED
    }

    /// Returns the nodes of `Ext/Broadcast`; `is_own` is set when the current operation belongs to
    /// their object.
    pub(super) fn broadcast_nodes(
        &self,
        device: &dyn ManagementBackend,
        is_own: bool,
    ) -> Vec<(String, Leaf)> {
        let view = if is_own { device.view() } else { idle(device.view()) };
        let mut leaves = nodes::leaves(&self.pending.arguments, &view);
        leaves.retain(|(path, _)| path.starts_with(broadcast::ROOT_NODE));
        leaves
    }

    /// Runs a node of `Ext/Broadcast`.
    pub(super) fn exec_broadcast(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        is_own: bool,
    ) -> StatusCode {
        match path {
            // Another object is armed: there is nothing to disarm.
            broadcast::DISARM if !is_own => StatusCode::OK,
            broadcast::DISARM => device.disarm(now),
            broadcast::SUSPEND => device.suspend(now),
            broadcast::RESUME => device.resume(now),
            _ => StatusCode::NOT_FOUND,
        }
    }
}

/// An Exec, besides the pending writes.
#[derive(Debug)]
pub(super) struct ExecRequest {
    pub(super) operation: Operation,
    /// URL of the package.
    pub(super) url: Option<String>,
    pub(super) correlator: Option<Correlator>,
    /// The software component; `None` for firmware.
    pub(super) subject: Option<ComponentTarget>,
}

/// Returns the view of an object while the device works on another one.
fn idle(view: DeviceView) -> DeviceView {
    DeviceView {
        phase: Phase::Idle,
        data: PackageData::Deleted,
        reasons: Vec::new(),
        progress_per_mille: 0,
        package_name: None,
        package_version: None,
        ..view
    }
}

/// Returns whether the current operation belongs to the FUMO object.
fn is_firmware(device: &dyn ManagementBackend) -> bool {
    device.software().is_none_or(|software| software.working.is_none())
}

impl ManagementObject for FumoObject {
    fn nodes(&self, device: &dyn ManagementBackend) -> Vec<(String, Leaf)> {
        let view = if is_firmware(device) { device.view() } else { idle(device.view()) };
        let mut leaves = nodes::leaves(&self.pending.arguments, &view);
        leaves.extend(nodes::partial_package(device.partial_package()));
        leaves
    }

    fn identifier(&self, path: &str) -> &'static str {
        match path {
            "" => "urn:oma:mo:oma-fumo:1.0",
            broadcast::ROOT_NODE => broadcast::MO_IDENTIFIER,
            _ => "",
        }
    }

    fn rights(&self) -> &'static [Right] {
        &[Right::Exec, Right::Replace]
    }

    fn chunk_position(&self, path: &str) -> Option<ChunkPosition> {
        match path {
            fumo::PACKAGE_DATA => Some(ChunkPosition::First),
            fumo::PACKAGE_REMAINDER => Some(ChunkPosition::Remainder),
            _ => None,
        }
    }

    fn begin_session(&mut self) {
        if !self.spent {
            self.pending = PendingWrites::default();
        }
    }

    fn replace(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        let written = if path == fumo::PACKAGE_DATA {
            octets(item, usize::MAX).map(|package| {
                let code = device.receive_package(now, &package);
                self.received_package |= code.is_success();
                code
            })
        } else if path == fumo::PACKAGE_REMAINDER {
            octets(item, usize::MAX).map(|remainder| device.receive_remainder(now, &remainder))
        } else if path == broadcast::ROOT {
            octets(item, MAX_ENVELOPE).map(|envelope| device.offer_root(now, &envelope))
        } else if path.starts_with(broadcast::POLICY) {
            text(item, 64).map(|value| device.set_policy(now, path, &value))
        } else {
            if std::mem::take(&mut self.spent) {
                self.pending = PendingWrites::default();
            }
            self.stage(now, path, item).map(|()| StatusCode::OK)
        };
        written.unwrap_or_else(|refusal| refusal)
    }

    fn exec(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        match path {
            // A device is armed with one package, and every server knows this node: a component is
            // disarmed here too, rather than installed after its campaign was stopped.
            broadcast::DISARM | broadcast::SUSPEND | broadcast::RESUME => {
                self.exec_broadcast(now, device, path, true)
            }
            fumo::UPDATE => device.update(now, correlator),
            fumo::DOWNLOAD => self.start(now, device, Operation::Download, correlator),
            fumo::DOWNLOAD_AND_UPDATE => {
                self.start(now, device, Operation::DownloadAndUpdate, correlator)
            }
            _ => StatusCode::NOT_FOUND,
        }
    }

    fn cannot_roll_back(&self, device: &dyn ManagementBackend, path: &str) -> bool {
        path == broadcast::ROOT
            || path == fumo::PACKAGE_REMAINDER
            || path.starts_with(broadcast::POLICY)
            // An overwritten package cannot be restored; the first one can be removed.
            || (path == fumo::PACKAGE_DATA && device.view().data != PackageData::Deleted)
    }

    fn checkpoint(&mut self) -> Box<dyn ManagementObject> {
        self.received_package = false;
        Box::new(self.clone())
    }

    fn roll_back(&mut self, now: Now, device: &mut dyn ManagementBackend) -> Vec<String> {
        let stays = self.received_package && !device.receive_package(now, &[]).is_success();
        stays.then(|| fumo::PACKAGE_DATA.to_owned()).into_iter().collect()
    }
}

/// Returns the octets of a document; its format must be `b64` or `bin`.
pub(super) fn octets(item: &Item, limit: usize) -> Result<Vec<u8>, StatusCode> {
    match item.meta.as_ref().and_then(|meta| meta.format.as_ref()) {
        Some(Format::B64 | Format::Bin) => {}
        Some(_) | None => return Err(StatusCode::UNSUPPORTED_FORMAT),
    }
    let octets = item.to_bytes().map_err(|_| StatusCode::BAD_REQUEST)?;
    if octets.len() > limit { Err(StatusCode::TOO_LARGE) } else { Ok(octets) }
}

fn text(item: &Item, limit: usize) -> Result<String, StatusCode> {
    let text = item.decoded_text().ok_or(StatusCode::INCOMPLETE)?;
    match text.trim() {
        _ if text.len() > limit => Err(StatusCode::TOO_LARGE),
        _ if text.chars().any(char::is_control) => Err(StatusCode::BAD_REQUEST),
        text => Ok(text.to_owned()),
    }
}

fn number(item: &Item) -> Result<Option<u64>, StatusCode> {
    match text(item, 20)?.as_str() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| StatusCode::BAD_REQUEST),
    }
}

/// Parses decimal UTC seconds; an empty text clears the time.
fn utc(item: &Item) -> Result<Option<Utc>, StatusCode> {
    Ok(number(item)?.map(Utc::from_seconds))
}

fn spread(item: &Item) -> Result<Duration, StatusCode> {
    match number(item)?.unwrap_or_default() {
        seconds @ ..=MAX_SPREAD_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

fn sessions(item: &Item) -> Result<Vec<String>, StatusCode> {
    let data = item.decoded_text().ok_or(StatusCode::INCOMPLETE)?;
    let lines: Vec<String> =
        data.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.len() > MAX_SESSIONS || lines.iter().any(|line| line.len() > MAX_URL + 48) {
        return Err(StatusCode::TOO_LARGE);
    }
    if lines.iter().any(|line| line.chars().any(char::is_control)) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(lines)
}

fn repair(item: &Item, plain_http: PlainHttp) -> Result<Option<String>, StatusCode> {
    let url = text(item, MAX_URL)?;
    let plain = has_scheme(&url, "http") && plain_http == PlainHttp::Allowed;
    match url.as_str() {
        "" => Ok(None),
        _ if plain || has_scheme(&url, "https") => Ok(Some(url)),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

fn filter(item: &Item) -> Result<ReportFilter, StatusCode> {
    text(item, 64)?.parse::<ReportFilter>().map_err(|_| StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::fake::{FakeDevice, at};

    const URL: &str = "fumocast://232.1.2.3:3400/7?s=192.0.2.1";

    fn correlator() -> Option<Correlator> {
        Some(Correlator("c-1".to_owned()))
    }

    fn write(object: &mut FumoObject, path: &str, text: &str) -> StatusCode {
        object.replace(at(0), &mut FakeDevice::default(), path, &Item::text(path, text))
    }

    fn write_bytes(object: &mut FumoObject, path: &str, octets: &[u8]) -> StatusCode {
        object.replace(at(0), &mut FakeDevice::default(), path, &Item::octets(path, octets))
    }

    // test: oma-000 8.2.4.2
    #[test]
    fn an_exec_passes_on_all_staged_writes() {
        let mut object = FumoObject::default();
        let mut device = FakeDevice::default();
        for (path, octets) in [
            (broadcast::CAMPAIGN, b"campaign".as_slice()),
            (broadcast::MANIFEST, b"manifest"),
            ("Ext/Broadcast/Plan/15", b"plan"),
        ] {
            assert_eq!(write_bytes(&mut object, path, octets), StatusCode::OK, "{path}");
        }
        for (path, text) in [
            (broadcast::NOW, "1000"),
            (broadcast::OPENS, "2000"),
            (broadcast::CLOSES, "3000"),
            (broadcast::SESSIONS, "u 1 2\nv 3 4\n"),
            (broadcast::REPAIR, "https://repair.example/x"),
            (broadcast::REPORT_SPREAD, "60"),
            (broadcast::REPORT_NOT_BEFORE, "3500"),
            (broadcast::REPORT_FILTER, "sample 1/10"),
            (fumo::DOWNLOAD_AND_UPDATE_URL, URL),
        ] {
            assert_eq!(write(&mut object, path, text), StatusCode::OK, "{path}");
        }
        let status = object.exec(at(5), &mut device, fumo::DOWNLOAD_AND_UPDATE, correlator());
        assert_eq!(status, StatusCode::ACCEPTED);
        let wanted = ArmRequest {
            operation: Operation::DownloadAndUpdate,
            url: URL.to_owned(),
            campaign: b"campaign".to_vec(),
            manifest: b"manifest".to_vec(),
            plan_headers: BTreeMap::from([(ComponentId(15), b"plan".to_vec())]),
            server_now: Some(Utc::from_seconds(1005)),
            opens: Some(Utc::from_seconds(2000)),
            closes: Some(Utc::from_seconds(3000)),
            sessions: vec!["u 1 2".to_owned(), "v 3 4".to_owned()],
            repair: Some("https://repair.example/x".to_owned()),
            report: ReportSettings {
                spread: Duration::from_secs(60),
                not_before: Some(Utc::from_seconds(3500)),
                filter: ReportFilter::Sample { take: 1, of: 10 },
            },
            correlator: correlator(),
            subject: None,
        };
        assert_eq!(device.armed, [wanted]);
    }

    #[test]
    fn a_second_exec_does_not_use_the_writes_of_the_first() {
        let mut object = FumoObject::default();
        let mut device = FakeDevice::default();
        write(&mut object, fumo::DOWNLOAD_AND_UPDATE_URL, URL);
        object.exec(at(0), &mut device, fumo::DOWNLOAD_AND_UPDATE, correlator());
        object.exec(at(0), &mut device, fumo::DOWNLOAD_AND_UPDATE, correlator());
        assert_eq!((device.armed.len(), device.queue.len()), (1, 1));
        assert_eq!(device.queue[0].result, ResultCode::BAD_URL);
    }

    #[test]
    fn the_arguments_of_an_exec_stay_readable_until_the_next_write() {
        let mut object = FumoObject::default();
        let mut device = FakeDevice::default();
        write(&mut object, fumo::DOWNLOAD_AND_UPDATE_URL, URL);
        write(&mut object, broadcast::OPENS, "2000");
        object.exec(at(0), &mut device, fumo::DOWNLOAD_AND_UPDATE, None);
        object.begin_session();
        assert_eq!(object.pending.arguments.update_url.as_deref(), Some(URL));
        write(&mut object, broadcast::CLOSES, "3000");
        assert_eq!(object.pending.arguments.update_url, None);
        assert_eq!(object.pending.arguments.opens, None);
    }

    #[test]
    fn unused_writes_of_an_earlier_session_are_dropped() {
        let mut object = FumoObject::default();
        let mut device = FakeDevice::default();
        write(&mut object, fumo::DOWNLOAD_AND_UPDATE_URL, URL);
        object.begin_session();
        object.exec(at(0), &mut device, fumo::DOWNLOAD_AND_UPDATE, None);
        assert!(device.armed.is_empty());
    }

    // test: oma-dm 11
    #[test]
    fn a_foreign_scheme_is_accepted_and_ends_with_a_bad_url() {
        for url in ["https://x/y.bin", "file:///etc/passwd", "", "FUMOCAST://x"] {
            let mut object = FumoObject::default();
            let mut device = FakeDevice::default();
            write(&mut object, fumo::DOWNLOAD_URL, url);
            let status = object.exec(at(0), &mut device, fumo::DOWNLOAD, None);
            assert_eq!(status, StatusCode::ACCEPTED);
            assert!(device.armed.is_empty());
            let wanted = FinalAlert {
                correlator: None,
                operation: Operation::Download,
                result: ResultCode::BAD_URL,
                campaign: None,
                subject: None,
            };
            assert_eq!(device.queue, [wanted], "{url}");
        }
    }

    #[test]
    fn sizes_end_at_their_limits() {
        let mut object = FumoObject::default();
        for (path, limit) in [
            (broadcast::CAMPAIGN, MAX_ENVELOPE),
            (broadcast::MANIFEST, MAX_ENVELOPE),
            (broadcast::ROOT, MAX_ENVELOPE),
            ("Ext/Broadcast/Plan/0", MAX_PLAN_HEADER),
        ] {
            let mut write = |length| write_bytes(&mut object, path, &vec![0; length]);
            assert_eq!(write(limit - 1), StatusCode::OK, "{path}");
            assert_eq!(write(limit), StatusCode::OK, "{path}");
            assert_eq!(write(limit + 1), StatusCode::TOO_LARGE, "{path}");
        }
        let lines = |count: usize| "u 1 2\n".repeat(count);
        assert_eq!(write(&mut object, broadcast::SESSIONS, &lines(16)), StatusCode::OK);
        assert_eq!(write(&mut object, broadcast::SESSIONS, &lines(17)), StatusCode::TOO_LARGE);
        assert_eq!(write(&mut object, broadcast::REPORT_SPREAD, "604800"), StatusCode::OK);
        assert_eq!(write(&mut object, broadcast::REPORT_SPREAD, "604801"), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn invalid_values_are_rejected_and_not_staged() {
        let mut object = FumoObject::default();
        for (path, junk) in [
            (broadcast::NOW, "soon"),
            (broadcast::OPENS, "-1"),
            (broadcast::CLOSES, "1.5"),
            (broadcast::REPAIR, "http://plain.example"),
            (broadcast::REPAIR, "file:///etc"),
            (broadcast::REPORT_FILTER, "sample 3/0"),
            (broadcast::REPORT_FILTER, "sample 3/2"),
            (broadcast::REPORT_FILTER, "some"),
            (fumo::DOWNLOAD_URL, "fumocast:\nx"),
            (broadcast::SESSIONS, "u 1\u{7} 2"),
        ] {
            assert_eq!(write(&mut object, path, junk), StatusCode::BAD_REQUEST, "{path} {junk}");
        }
        assert_eq!(write(&mut object, broadcast::CAMPAIGN, "text"), StatusCode::UNSUPPORTED_FORMAT);
        let mut bad = Item::octets("x", []);
        bad.data = Some("%%%".into());
        let status = object.replace(at(0), &mut FakeDevice::default(), broadcast::MANIFEST, &bad);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(object.pending.arguments.opens.is_none() && object.pending.manifest.is_empty());
    }

    #[test]
    fn a_plain_repair_url_is_accepted_from_a_plain_server_only() {
        for (plain, url, status) in [
            (PlainHttp::Allowed, "http://127.0.0.1:1/", StatusCode::OK),
            (PlainHttp::Allowed, "HTTP://127.0.0.1:1/", StatusCode::OK),
            (PlainHttp::Refused, "HTTP://127.0.0.1:1/", StatusCode::BAD_REQUEST),
            (PlainHttp::Refused, "HTTPS://repair.example/", StatusCode::OK),
        ] {
            let mut object = FumoObject::new(plain);
            assert_eq!(write(&mut object, broadcast::REPAIR, url), status, "{url}");
        }
    }

    #[test]
    fn a_root_is_passed_to_the_backend_at_once() {
        let mut object = FumoObject::default();
        let mut device = FakeDevice { root_answer: StatusCode::FORBIDDEN, ..FakeDevice::default() };
        let item = Item::octets(broadcast::ROOT, *b"root");
        let status = object.replace(at(0), &mut device, broadcast::ROOT, &item);
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(device.roots, [b"root".to_vec()]);
    }
}
