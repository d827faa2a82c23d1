//! Commands: each parses its arguments, calls one function of [`crate::app`] and prints the result.

mod audit;
mod bootstrap;
mod campaign;
mod component;
mod device;
mod list;
mod output;
mod profile;
mod secrets;
mod serve;

use std::time::Duration;

use proto::crypto::random;
use tracing_subscriber::EnvFilter;

use crate::{
    app::AppError,
    cli::args::{ClassVerb, ProfileVerb, SecretsVerb, Verb, common::DataDirArgs},
    shell::data_dir::DataDir,
};

/// Runs a command; returns the text to print.
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

/// Logs to standard error, unless logs are set up in this process already.
fn start_logging() {
    let filter = EnvFilter::try_from_env("FUMOCAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if logs.try_init().is_err() {
        tracing::debug!("logs are set up already");
    }
}

async fn execute(verb: Verb) -> Result<String, AppError> {
    match verb {
        Verb::Init(data) => init(&data).await,
        Verb::Device(verb) => device::run(verb).await,
        Verb::Campaign(verb) => campaign::run(verb).await,
        Verb::Profile(ProfileVerb::List { data, output }) => profile::list(data.as_deref(), output),
        Verb::Component(verb) => component::run(verb).await,
        Verb::Class(ClassVerb::SetProfile { id, profile, data }) => {
            profile::set_class_profile(id, &profile, &data).await
        }
        Verb::Audit(verb) => audit::run(verb).await,
        Verb::Bootstrap(arguments) => bootstrap::run(*arguments).await,
        Verb::Secrets(SecretsVerb::Rotate { use_last_key, data, output }) => {
            secrets::rotate(use_last_key, &data, output).await
        }
        Verb::Serve(arguments) => serve::run(arguments).await,
    }
}

async fn init(data: &DataDirArgs) -> Result<String, AppError> {
    DataDir::init(&data.data, data.secrets_key.as_deref(), random()).await?;
    Ok(format!("created {} with admin.token and fleet.db\n", data.data.display()))
}
