//! Profiles of clients.

use std::path::Path;

use proto::ids::ClassId;

use super::output::{print, push_line};
use crate::{
    api::responses::ProfileBody,
    app::{AppError, devices},
    cli::args::common::{DataDirArgs, OutputArgs},
    fleet::profile::Profile,
    shell::{data_dir::DataDir, state::Clock},
};

/// Lists the profiles.
pub(super) fn list(data: Option<&Path>, output: OutputArgs) -> Result<String, AppError> {
    let stored = data.map(|path| DataDir::open(path, None)?.profiles()).transpose()?;
    let built_in = || {
        let all = Profile::built_in().into_iter();
        all.map(|(profile, about)| (profile, about.to_owned())).collect()
    };
    let all: Vec<(Profile, String)> = stored.unwrap_or_else(built_in);
    let bodies: Vec<_> =
        all.iter().map(|(profile, about)| ProfileBody::new(profile, about)).collect();
    Ok(print(output, &bodies, || {
        let mut text = String::new();
        for body in &bodies {
            push_line(&mut text, format_args!("{:<12} {}\n", body.name, body.about));
            for (quirk, reason) in &body.quirks {
                push_line(&mut text, format_args!("    {quirk:<22} {reason}\n"));
            }
        }
        text
    }))
}

/// Sets the profile of a class.
pub(super) async fn set_class_profile(
    id: ClassId,
    name: &str,
    data: &DataDirArgs,
) -> Result<String, AppError> {
    let data = data.open()?;
    let profile = data.profile(name)?;
    let store = data.store().await?;
    data.set_class_profile(id, name)?;
    let count = devices::set_class_profile(&store, Clock.now().utc, id, &profile).await?;
    Ok(format!("class {id} has profile {name}: {count} device(s) and those enrolled later\n"))
}
