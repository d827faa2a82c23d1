//! `dm-bridge bootstrap`.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use proto::crypto::random;

use crate::{
    app::{AppError, bootstrap, devices::FreshSecrets},
    cli::args::bootstrap::BootstrapArgs,
    shell::{data_dir::read_text, notify, state::Clock},
};

/// Writes the document, pushes it, or both.
///
/// # Errors
///
/// [`AppError`].
pub(super) async fn run(arguments: BootstrapArgs) -> Result<String, AppError> {
    let pin = arguments.pin_file.as_deref().map(read_text).transpose()?;
    let format = arguments.format(pin, random())?;
    let secret = arguments.sms_gateway_secret_file.as_deref().map(read_text).transpose()?;
    let gateway = (arguments.sms_gateway.clone(), secret);
    let store = arguments.data.open_store().await?;
    // Before the old credentials of the device are replaced.
    let open = |path| create(path).map(|file| (file, path));
    let file = arguments.out.as_deref().map(open).transpose()?;
    let secrets = FreshSecrets {
        password: random(),
        nonce: random(),
        server_password: random(),
        server_nonce: random(),
    };
    let id = &arguments.id;
    let document = bootstrap::document(&store, Clock.now().utc, id, format, secrets).await?;
    let mut text = String::new();
    if let Some((mut file, path)) = file {
        let written = file.write_all(&document.bytes).and_then(|()| file.sync_all());
        written.map_err(|error| unwritable(path, &error))?;
        text = format!("wrote {} for {}\n", path.display(), id.as_str());
    }
    if let Some(to) = &arguments.to {
        notify::push(to, gateway, &document).await?;
        text.push_str(&format!("pushed a bootstrap document for {} to {to}\n", id.as_str()));
    }
    if let Some(code) = &document.code {
        text.push_str(&format!(
            "code {} for the user of {}: tell it by other means; it is stored nowhere\n",
            code.reveal(),
            id.as_str()
        ));
    }
    Ok(text)
}

fn create(path: &Path) -> Result<File, AppError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> AppError {
    AppError::Configuration(format!("cannot write {}: {error}", path.display()))
}
