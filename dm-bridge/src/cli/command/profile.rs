//! Profiles of clients.

use std::path::Path;

use proto::ids::ClassId;

use super::output::{add, print};
use crate::{
    api::ProfileBody,
    app::{AppError, devices},
    cli::args::common::{DataArg, FormArg},
    fleet::profile::Profile,
    shell::{clock::Clock, data_dir::DataDir},
};

pub(super) fn list(data: Option<&Path>, form: FormArg) -> Result<String, AppError> {
    let own = data.map(|path| DataDir::open(path, None)?.profiles()).transpose()?;
    let built_in = || {
        let all = Profile::built_in().into_iter();
        all.map(|(profile, about)| (profile, about.to_owned())).collect()
    };
    let all: Vec<(Profile, String)> = own.unwrap_or_else(built_in);
    let bodies: Vec<_> =
        all.iter().map(|(profile, about)| ProfileBody::new(profile, about)).collect();
    Ok(print(form, &bodies, || {
        let mut text = String::new();
        for body in &bodies {
            add(&mut text, format_args!("{:<12} {}\n", body.name, body.about));
            for (quirk, reason) in &body.quirks {
                add(&mut text, format_args!("    {quirk:<22} {reason}\n"));
            }
        }
        text
    }))
}

pub(super) async fn set_for_class(
    id: ClassId,
    name: &str,
    data: &DataArg,
) -> Result<String, AppError> {
    let data = data.open()?;
    let profile = data.profile(name)?;
    let store = data.store().await?;
    data.keep_class(id, name)?;
    let count = devices::set_class_profile(&store, Clock.now().utc, id, &profile).await?;
    Ok(format!("class {id} has profile {name}: {count} device(s) and those to come\n"))
}
