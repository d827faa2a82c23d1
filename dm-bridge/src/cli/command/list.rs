//! Lists that are printed page by page: a long one is never held as a whole.

use proto_cli::output;
use serde::Serialize;

use crate::{
    api::responses::{DamagedBody, PageBody},
    app::AppError,
    cli::args::common::{OutputArgs, PageArgs},
};

/// Rows of a page that is read at once.
const PAGE: u32 = 500;

/// Prints a list: one page when the command names its size, else all pages. `begin` is printed before
/// the rows, in JSON before their array; `end` after it.
///
/// # Errors
///
/// The errors of `fetch`, and [`AppError::Network`] when the output cannot be written.
pub(super) async fn print_pages<T: Serialize>(
    page: &PageArgs,
    output: OutputArgs,
    (begin, end): (&str, &str),
    fetch: impl AsyncFn(Option<&str>, u32) -> Result<PageBody<T>, AppError>,
    lines: impl Fn(&[T]) -> String,
) -> Result<String, AppError> {
    if let Some(limit) = page.limit {
        let body = fetch(page.after.as_deref(), limit).await?;
        return Ok(match output.json {
            true => format!("{begin}{}{end}\n", json(&body)),
            false => format!(
                "{begin}{}{}{}",
                lines(&body.items),
                damaged_lines(&body.damaged),
                next_line(&body)
            ),
        });
    }
    let (mut after, mut is_first) = (page.after.clone(), true);
    write(begin)?;
    if output.json {
        write("[")?;
    }
    loop {
        let body = fetch(after.as_deref(), PAGE).await?;
        let text = match output.json {
            true => {
                let rows = body.items.iter().map(json).chain(body.damaged.iter().map(json));
                let rows = rows.collect::<Vec<_>>().join(",");
                let joint = if is_first || rows.is_empty() { "" } else { "," };
                is_first &= rows.is_empty();
                format!("{joint}{rows}")
            }
            false => lines(&body.items) + &damaged_lines(&body.damaged),
        };
        write(&text)?;
        after = body.next;
        if after.is_none() {
            break;
        }
    }
    Ok(if output.json { format!("]{end}\n") } else { String::new() })
}

fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("our own types have string keys")
}

fn write(text: &str) -> Result<(), AppError> {
    output::print(text)
        .map_err(|error| AppError::Network(format!("cannot write to standard output: {error}")))
}

fn damaged_lines(damaged: &[DamagedBody]) -> String {
    damaged.iter().map(|row| format!("{:<24} damaged: {}\n", row.id, row.damaged)).collect()
}

fn next_line<T>(body: &PageBody<T>) -> String {
    body.next.as_ref().map(|next| format!("more: --after {next}\n")).unwrap_or_default()
}
