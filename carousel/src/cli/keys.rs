//! Keys and roles as arguments name them.

use std::path::PathBuf;

use proto::{crypto::PublicKey, trust::Role, wire::WireError};

use crate::{error::CliError, key_file, shell::files};

/// Reads a public key: the text itself, or the file that holds it.
pub(super) fn public_key(text: &str) -> Result<PublicKey, CliError> {
    if text.len() == 64
        && let Ok(key) = key_file::public_key(text.as_bytes())
    {
        return Ok(key);
    }
    files::read_public_key(&PathBuf::from(text))
}

/// Reads `ROLE=VALUE`.
pub(super) fn of_role(text: &str) -> Result<(Role, String), String> {
    let (role, value) = text.split_once('=').ok_or("expected ROLE=VALUE")?;
    let role = role.parse().map_err(|error: WireError| error.to_string())?;
    Ok((role, value.to_owned()))
}

/// Reads `ROLE=N`.
pub(super) fn role_threshold(text: &str) -> Result<(Role, u32), String> {
    let (role, value) = of_role(text)?;
    value.parse().map(|threshold| (role, threshold)).map_err(|_| "expected ROLE=NUMBER".to_owned())
}
