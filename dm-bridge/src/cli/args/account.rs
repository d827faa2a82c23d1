//! Arguments for the account that a device has already.

use std::path::PathBuf;

use clap::Args;
use proto::{crypto::Digest, dm::auth::AuthKind};

use crate::app::{AppError, enrolment::parse_certificate};

/// The account of a device, as far as it has one; what is absent is made.
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// Authentication type of the device: md5 (a digest, once a session), hmac (a MAC over each
    /// message), basic (the password itself; only with an https:// URL or on this machine) or
    /// transport (the client certificate of its TLS connection)
    #[arg(long, default_value_t, value_name = "KIND")]
    pub auth: AuthKind,
    /// Authentication type of this server; default: that of the device. With transport the server's
    /// TLS certificate is its only proof
    #[arg(long, value_name = "KIND")]
    pub server_auth: Option<AuthKind>,
    /// User name of the device; default: its id
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the password of the device; default: a random one. One of fewer than 16 characters
    /// is named as weak
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Server id by which the device knows this server; default: fumocast
    #[arg(long, value_name = "ID")]
    pub server_id: Option<String>,
    /// File with the password of this server for the device; default: a random one
    #[arg(long, value_name = "FILE")]
    pub server_password_file: Option<PathBuf>,
    /// Tie the device to a client certificate: SHA-256 of its DER form, 64 hex digits. Its messages
    /// are then accepted with this certificate alone, whatever its common name is
    #[arg(long, value_name = "HEX", value_parser = certificate)]
    pub client_certificate: Option<Digest>,
}

fn certificate(text: &str) -> Result<Digest, AppError> {
    parse_certificate(text)
}
