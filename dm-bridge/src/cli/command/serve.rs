//! `dm-bridge serve`.

use std::time::Duration;

use proto_cli::output;

use crate::{
    app::AppError,
    campaign::reconcile::ReconcilePolicy,
    cli::args::{ServeArgs, common::plain_http},
    shell::{
        server::{self, Settings, StopSignals},
        state::Admission,
        tls::TlsFiles,
    },
};

/// Runs the server until a signal.
pub(super) async fn run(arguments: ServeArgs) -> Result<String, AppError> {
    let client_ca = arguments.client_ca;
    let tls = arguments.tls_cert.zip(arguments.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_ca,
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let data = arguments.data.open()?;
    data.remove_parts()?;
    let settings = Settings {
        data,
        listen: arguments.listen,
        tls,
        plain_http: plain_http(arguments.insecure_http),
        policy: ReconcilePolicy { silence_timeout: Duration::from_secs(arguments.silent_after) },
        admission: Admission::default(),
        trusted_proxies: arguments.trusted_proxy,
    };
    let signals = StopSignals::install()?;
    let running = server::start(settings).await?;
    output::print(format_args!("dm-bridge listens on {scheme}://{}\n", running.address))
        .map_err(|error| AppError::Network(format!("cannot print the address: {error}")))?;
    running.until(signals).await;
    Ok(String::new())
}
