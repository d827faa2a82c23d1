//! `dm-bridge secrets`.

use serde::Serialize;

use super::output::{print, push_line};
use crate::{
    app::AppError,
    cli::args::common::{DataDirArgs, OutputArgs},
    fleet::sealing::KeyId,
    shell::store::sqlite::rotation::{RotateTo, Rotation},
};

#[derive(Serialize)]
struct RotationBody {
    key: String,
    sealed: u64,
    removed: Vec<String>,
    damaged: Vec<String>,
}

/// Rotates the key of the secrets.
pub(super) async fn rotate(
    use_last_key: bool,
    data: &DataDirArgs,
    output: OutputArgs,
) -> Result<String, AppError> {
    let store = data.open_store().await?;
    let to = if use_last_key { RotateTo::LastKey } else { RotateTo::NewKey };
    let mut rotation = Rotation::begin(&store, to).await?;
    while rotation.step().await? {
        let (sealed, devices) = (rotation.sealed, rotation.devices);
        tracing::info!(sealed, devices, "rotating secrets");
    }
    let report = rotation.finish().await?;
    let body = RotationBody {
        key: report.key.to_string(),
        sealed: report.sealed,
        removed: report.removed.iter().map(KeyId::to_string).collect(),
        damaged: report.damaged,
    };
    Ok(print(output, &body, || {
        let removed =
            if body.removed.is_empty() { "none".to_owned() } else { body.removed.join(" ") };
        let mut text = format!(
            "sealed {} device(s) with key {}; keys removed: {removed}\n",
            body.sealed, body.key
        );
        for device in &body.damaged {
            push_line(&mut text, format_args!("{device}: damaged, not sealed again\n"));
        }
        text
    }))
}
