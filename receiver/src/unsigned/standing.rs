//! State of all described files together.

use proto::{fec, time::Now};

use super::{
    announced::SILENT_AFTER,
    object::UnsignedObject,
    object_table::ObjectTable,
    session::{Sessions, session_of},
    status::{Standing, UnsignedFile, superseded, unopened},
    waiting::Waiting,
};
use crate::store::UnsignedIdentity;

/// Returns the described files, complete or not.
pub(super) fn files(
    sessions: &Sessions,
    objects: &ObjectTable,
) -> impl Iterator<Item = UnsignedFile> {
    sessions.described().map(|(of, file)| {
        let object = objects.get(&of);
        let problem = objects.problem(&of);
        let report = match object.map(UnsignedObject::report) {
            None => unopened(&of, file.entry(), problem),
            // One symbol that fits tells that the others are of somebody else.
            Some(report) if report.state == "receiving" && report.symbols_received == 0 => {
                UnsignedFile { problem: report.problem.or(problem), ..report }
            }
            Some(report) => report,
        };
        match file.superseded_by() {
            Some(by) if report.state != "complete" => superseded(report, by),
            Some(_) | None => report,
        }
    })
}

/// Returns how far the described files are.
pub(super) fn standing(
    now: Now,
    sessions: &Sessions,
    objects: &ObjectTable,
    waiting: &Waiting,
) -> Standing {
    // What cannot be read was announced all the same.
    let unread = sessions.unread();
    let mut standing = if unread == 0 { Standing::Complete } else { Standing::Refused };
    let mut is_any = unread > 0;
    for (of, file) in sessions.described() {
        if file.superseded_by().is_some() {
            continue;
        }
        let object = objects.get(&of);
        let is_complete = object.is_some_and(UnsignedObject::is_complete);
        let is_foreign = file.entry().encoding_id.is_some_and(|id| !fec::is_supported(id));
        let is_refused = is_foreign || object.is_some_and(UnsignedObject::is_refused);
        is_any |= is_complete || is_refused || !file.is_former();
        standing = standing.max(if file.is_contradicted() {
            Standing::Open
        } else if is_complete {
            Standing::Complete
        } else if is_refused {
            Standing::Refused
        } else if file.is_former() {
            // Another session has its name.
            Standing::Complete
        } else if file.has_ended(now.utc) {
            Standing::Incomplete
        } else {
            Standing::Open
        });
    }
    if is_any && !announces_more(now, sessions, waiting) { standing } else { Standing::Open }
}

/// Returns whether something is announced, or on the air, that no entry lists: parts of an instance,
/// entries beyond the limit, and symbols of undescribed objects of a session that does not state
/// that it lists all. Those of an object whose entry cannot be read are nobody's.
fn announces_more(now: Now, sessions: &Sessions, waiting: &Waiting) -> bool {
    let is_unknown = |of: &UnsignedIdentity| {
        sessions.description(of).is_none()
            && !sessions.is_unreadable(of)
            && !sessions.lists_all(now.utc, &session_of(of))
    };
    sessions.announces_more(now.mono) || waiting.has_lately(now.mono, SILENT_AFTER, is_unknown)
}
