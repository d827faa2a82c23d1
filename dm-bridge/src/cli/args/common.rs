//! Arguments that most commands share.

use std::path::PathBuf;

use clap::Args;

use crate::{
    app::{AppError, PlainHttp},
    shell::{data_dir::DataDir, store::sqlite::SqliteStore},
};

/// Where the fleet is kept.
#[derive(Debug, Clone, Args)]
pub struct DataArg {
    /// Data directory.
    #[arg(long, value_name = "DIR", env = "DM_BRIDGE_DATA")]
    pub data: PathBuf,
    /// Keys that the secrets are sealed with, mode 0400, for one fleet alone; absent: the credential
    /// dm-bridge.keys of the service manager, or fleet.keys in the data directory.
    #[arg(long, value_name = "FILE", env = "DM_BRIDGE_SECRETS_KEY")]
    pub secrets_key: Option<PathBuf>,
}

impl DataArg {
    /// Returns the data directory that was named.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it is no data directory.
    pub fn open(&self) -> Result<DataDir, AppError> {
        DataDir::open(&self.data, self.secrets_key.as_deref())
    }

    /// Opens the fleet in the data directory that was named.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`AppError::Store`] when the fleet cannot be opened.
    pub async fn open_store(&self) -> Result<SqliteStore, AppError> {
        self.open()?.store().await
    }
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormArg {
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Returns how plain HTTP is allowed, by the flag `--insecure-http`.
pub(crate) const fn plain_http(insecure: bool) -> PlainHttp {
    if insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly }
}
