//! Report of a run: one JSON object, and a table for people.

use serde::{Deserialize, Serialize};

proto::words! {
    /// Outcome of a run.
    #[derive(Serialize, Deserialize)]
    pub enum Outcome: "outcome", serde {
        /// All armed devices report success and hold the image.
        Complete = "complete",
        /// At least one armed device did not finish.
        Partial = "partial",
        /// A promise was broken.
        Breach = "breach",
    }
}

/// One run. What does not apply is 0 or absent (`null`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its outcome.
    pub outcome: Outcome,
    /// From the start of the lab to the verdict.
    pub seconds: f64,
    /// UDP payload that the image server sent.
    pub bytes_on_air: u64,
    /// Size of the image.
    pub image_bytes: u64,
    /// Digest of the image that was sent.
    pub image_sha256: String,
    /// Seed of the run.
    pub seed: u64,
    /// Most memory that the image server ever held.
    pub carousel_peak_rss_bytes: u64,
    /// Form of the DM messages.
    pub encoding: String,
    /// Seconds over which devices spread their reports.
    pub report_spread_seconds: u32,
    /// Armed devices first.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Device {
    /// `./DevInfo/DevId`.
    pub id: String,
    /// Set when the campaign arms it.
    pub armed: bool,
    /// Its phase, read from the management server's API; its own when no campaign has it.
    pub phase: String,
    /// FUMO result code, read from the management server's API.
    pub result_code: Option<u16>,
    /// Digest of the file that the hook received, computed by the lab.
    pub image_sha256: Option<String>,
    /// Datagrams after the loss model, over all lives.
    pub datagrams_heard: u64,
    /// Data packets among them.
    pub data_heard: u64,
    /// Source symbols of the object.
    pub symbols_needed: u64,
    /// Found at the restart after a kill: slots, and K for each decoded block.
    pub symbols_resumed: Option<u64>,
    /// Counted by the lab from the device's folder at the kill.
    pub symbols_stored_before_kill: Option<u64>,
    /// Packets that the device refused because their hash is not in the plan.
    pub forged_dropped: u64,
    /// SIGKILLs.
    pub kills: u32,
    /// Set when a notification caused a session.
    pub notified: bool,
    /// Set when it was suspended by a call and resumed.
    pub suspended: bool,
    /// Set when its user was asked at enrolment and never again, and the answer is on record.
    pub consented: bool,
    /// Slots in the device's folder at the end.
    pub slots_held: u64,
    /// Most memory that one of its processes ever held.
    pub peak_rss_bytes: u64,
    /// Symbols in its folder that are not those of the image; one is a breach.
    #[serde(skip)]
    pub wrong_symbols: u64,
}

impl Device {
    /// Returns the data packets received beyond those that a perfect code on a perfect channel
    /// would need.
    ///
    /// # Units
    ///
    /// Percent; `None` when there was nothing to need.
    pub fn overhead_percent(&self) -> Option<f64> {
        if !self.armed || self.symbols_needed == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "packet counts are far below 2^53")]
        let share = self.data_heard as f64 / self.symbols_needed as f64;
        Some((share - 1.0) * 100.0)
    }
}

/// Returns the summary in one line.
pub fn summary(report: &Report) -> String {
    let outcome = match report.outcome {
        Outcome::Complete => "complete",
        Outcome::Partial => "partial",
        Outcome::Breach => "BREACH",
    };
    let armed = report.devices.iter().filter(|device| device.armed);
    let done = armed.clone().filter(|device| device.result_code == Some(200)).count();
    format!(
        "{outcome}: {done} of {} armed devices done in {:.1} s; {:.1} MB on air for an image of \
         {:.1} MB; image server at most {} MB of memory; seed {}",
        armed.count(),
        report.seconds,
        megabytes(report.bytes_on_air),
        megabytes(report.image_bytes),
        report.carousel_peak_rss_bytes / 1_000_000,
        report.seed,
    )
}

/// Returns the summary of device management, if it did anything.
pub fn beside(report: &Report) -> Option<String> {
    let count = |what: fn(&Device) -> bool| report.devices.iter().filter(|it| what(it)).count();
    let counts = [
        (count(|it| it.consented), "with their users' consent from enrolment"),
        (count(|it| it.notified), "armed by notification"),
        (count(|it| it.suspended), "suspended by a call and resumed"),
    ];
    let mut words: Vec<String> = counts
        .into_iter()
        .filter(|(devices, _)| *devices > 0)
        .map(|(devices, what)| format!("{devices} {what}"))
        .collect();
    if report.report_spread_seconds > 0 {
        words.push(format!("reports over {} s", report.report_spread_seconds));
    }
    (!words.is_empty()).then(|| format!("{} messages: {}", report.encoding, words.join(", ")))
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
fn megabytes(octets: u64) -> f64 {
    octets as f64 / 1_000_000.0
}

const HEADINGS: [&str; 8] = [
    "device",
    "phase",
    "result",
    "received",
    "overhead",
    "resumed",
    "forged dropped",
    "peak memory",
];

/// Draws the devices as a table.
pub fn table(devices: &[Device]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(devices.iter().map(row));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(device: &Device) -> [String; 8] {
    let none = || "-".to_owned();
    let resumed = match (device.symbols_resumed, device.symbols_stored_before_kill) {
        (Some(resumed), Some(stored)) => format!("{resumed} of {stored}"),
        _ => none(),
    };
    [
        device.id.clone(),
        if device.armed { device.phase.clone() } else { format!("{} (unarmed)", device.phase) },
        device.result_code.map_or_else(none, |code| code.to_string()),
        device.datagrams_heard.to_string(),
        device.overhead_percent().map_or_else(none, |percent| format!("{percent:.1} %")),
        resumed,
        device.forged_dropped.to_string(),
        format!("{} MB", device.peak_rss_bytes / 1_000_000),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> Device {
        Device { id: id.into(), phase: "reported".into(), ..Device::default() }
    }

    #[test]
    fn the_object_has_the_names_that_it_promises() {
        let report = Report {
            outcome: Outcome::Complete,
            seconds: 1.5,
            bytes_on_air: 1,
            image_bytes: 2,
            image_sha256: "ab".into(),
            seed: 3,
            carousel_peak_rss_bytes: 4,
            encoding: "xml".into(),
            report_spread_seconds: 0,
            devices: vec![device("LAB-0001")],
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"outcome":"complete","seconds":1.5,"bytes_on_air":1,"image_bytes":2,"#,
                r#""image_sha256":"ab","seed":3,"carousel_peak_rss_bytes":4,"encoding":"xml","#,
                r#""report_spread_seconds":0,"devices":[{"#,
                r#""id":"LAB-0001","armed":false,"phase":"reported","result_code":null,"#,
                r#""image_sha256":null,"datagrams_heard":0,"data_heard":0,"symbols_needed":0,"#,
                r#""symbols_resumed":null,"symbols_stored_before_kill":null,"forged_dropped":0,"#,
                r#""kills":0,"notified":false,"suspended":false,"consented":false,"slots_held":0,"#,
                r#""peak_rss_bytes":0}]}"#,
            )
        );
    }

    #[test]
    fn device_management_is_summarised_in_one_line() {
        let done =
            Device { notified: true, suspended: true, consented: true, ..device("LAB-0001") };
        let mut report = Report {
            outcome: Outcome::Complete,
            seconds: 1.5,
            bytes_on_air: 1,
            image_bytes: 2,
            image_sha256: "ab".into(),
            seed: 3,
            carousel_peak_rss_bytes: 4,
            encoding: "wbxml".into(),
            report_spread_seconds: 5,
            devices: vec![done, device("LAB-0002")],
        };
        let expected = "wbxml messages: 1 with their users' consent from enrolment, 1 armed by \
             notification, 1 suspended by a call and resumed, reports over 5 s";
        assert_eq!(beside(&report).as_deref(), Some(expected));
        report.devices.clear();
        report.report_spread_seconds = 0;
        assert_eq!(beside(&report), None);
    }

    #[test]
    fn the_table_lines_up() {
        let armed = Device {
            armed: true,
            result_code: Some(200),
            datagrams_heard: 13_000,
            data_heard: 12_120,
            symbols_needed: 12_000,
            symbols_resumed: Some(5_000),
            symbols_stored_before_kill: Some(5_001),
            peak_rss_bytes: 41_000_000,
            kills: 1,
            ..device("LAB-0001")
        };
        let text = table(&[armed, device("LAB-0002")]);
        let expected = [
            "device    phase               result  received  overhead       resumed  forged dropped  peak memory",
            "LAB-0001  reported               200     13000     1.0 %  5000 of 5001               0        41 MB",
            "LAB-0002  reported (unarmed)       -         0         -             -               0         0 MB",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
