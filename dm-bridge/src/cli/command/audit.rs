//! `dm-bridge audit`.

use proto::time::Utc;

use super::list::print_pages;
use crate::{
    api::responses::{AuditBody, PageBody},
    app::{AppError, status::audit_cursor, time_args},
    cli::args::audit::AuditVerb,
    fleet::store::FleetStore as _,
};

/// Runs a command for the audit log.
pub(super) async fn run(verb: AuditVerb) -> Result<String, AppError> {
    let AuditVerb::List { data, page, output } = verb;
    let store = &data.open_store().await?;
    let fetch = async |after: Option<&str>, limit: u32| {
        let rows = store.audit_page(audit_cursor(after)?, limit).await?;
        Ok(PageBody::<AuditBody>::new(rows, limit))
    };
    print_pages(&page, output, ("", ""), fetch, |lines| lines.iter().map(line).collect()).await
}

fn line(body: &AuditBody) -> String {
    let at = time_args::format(Utc::from_seconds(body.at_utc));
    let AuditBody { number, actor, action, subject, detail, .. } = body;
    format!("{number:>6} {at} {actor:<10} {action} {subject} {detail}\n")
}
