//! Commands: each parses its arguments, calls one function of [`crate::app`] and prints the result.

mod bootstrap;
mod campaign;
mod component;
mod device;
mod output;
mod profile;
mod secrets;
mod serve;

use std::time::Duration;

use proto::crypto::random;
use tracing_subscriber::EnvFilter;

use crate::{
    app::AppError,
    cli::args::{SecretsVerb, Verb, common::DataArg},
    shell::data_dir::DataDir,
};

/// Carries out a command; returns what it prints.
///
/// # Errors
///
/// [`AppError`] with its exit code.
pub(super) fn run(verb: Verb) -> Result<String, AppError> {
    start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::Configuration(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(execute(verb));
    // A call to an image server may still hang in its own thread.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Logs to standard error, unless somebody in this process has set up logs already.
fn start_logging() {
    let filter = EnvFilter::try_from_env("FUMOCAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if logs.try_init().is_err() {
        tracing::debug!("logs are set up already");
    }
}

async fn execute(verb: Verb) -> Result<String, AppError> {
    match verb {
        Verb::Init(data) => init(&data).await,
        Verb::Device(verb) => device::run(verb).await,
        Verb::Campaign(verb) => campaign::run(verb).await,
        Verb::Profiles { data, form } => profile::list(data.as_deref(), form),
        Verb::Components { device, data, form } => component::list(&device, &data, form).await,
        Verb::Component { operation, device, id, data, form } => {
            component::queue(&device, (operation, &id), &data, form).await
        }
        Verb::Class { id, profile, data } => profile::set_for_class(id, &profile, &data).await,
        Verb::Bootstrap(arguments) => bootstrap::run(*arguments).await,
        Verb::Secrets(SecretsVerb::Reseal { with_last, data, form }) => {
            secrets::reseal(with_last, &data, form).await
        }
        Verb::Serve(arguments) => serve::run(arguments).await,
    }
}

async fn init(data: &DataArg) -> Result<String, AppError> {
    DataDir::init(&data.data, data.secrets_key.as_deref(), random()).await?;
    Ok(format!("made {} with admin.token and fleet.db\n", data.data.display()))
}
