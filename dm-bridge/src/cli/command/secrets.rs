//! `dm-bridge secrets`.

use serde::Serialize;

use super::output::print;
use crate::{
    app::AppError,
    cli::args::common::{DataArg, FormArg},
    fleet::sealing::KeyId,
    shell::store::sqlite::rotation::{NewKey, Reseal},
};

#[derive(Serialize)]
struct ResealedBody {
    key: String,
    sealed: u64,
    removed: Vec<String>,
}

pub(super) async fn reseal(
    with_last: bool,
    data: &DataArg,
    form: FormArg,
) -> Result<String, AppError> {
    let store = data.open_store().await?;
    let new = if with_last { NewKey::Last } else { NewKey::Made };
    let mut work = Reseal::begin(&store, new).await?;
    while work.step().await? {
        let (sealed, devices) = (work.sealed, work.devices);
        tracing::info!(sealed, devices, "sealing secrets anew");
    }
    let done = work.end().await?;
    let body = ResealedBody {
        key: done.key.to_string(),
        sealed: done.sealed,
        removed: done.removed.iter().map(KeyId::to_string).collect(),
    };
    Ok(print(form, &body, || {
        let removed =
            if body.removed.is_empty() { "none".to_owned() } else { body.removed.join(" ") };
        format!("sealed {} device(s) with key {}; keys let go: {removed}\n", body.sealed, body.key)
    }))
}
