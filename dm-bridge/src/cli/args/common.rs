//! Arguments shared by most commands.

use std::path::PathBuf;

use clap::Args;

use crate::{
    app::{AppError, PlainHttp},
    shell::{data_dir::DataDir, store::sqlite::SqliteStore},
};

/// The data directory of a command.
#[derive(Debug, Clone, Args)]
pub struct DataDirArgs {
    /// Data directory
    #[arg(long, value_name = "DIR", env = "DM_BRIDGE_DATA")]
    pub data: PathBuf,
    /// File with the keys that seal the secrets, mode 0400, for one fleet; default: the credential
    /// dm-bridge.keys of the service manager, or fleet.keys in the data directory
    #[arg(long, value_name = "FILE", env = "DM_BRIDGE_SECRETS_KEY")]
    pub secrets_key: Option<PathBuf>,
}

impl DataDirArgs {
    /// Opens the data directory.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it is no data directory.
    pub fn open(&self) -> Result<DataDir, AppError> {
        DataDir::open(&self.data, self.secrets_key.as_deref())
    }

    /// Opens the store in the data directory.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`AppError::Store`] when the store cannot be opened.
    pub async fn open_store(&self) -> Result<SqliteStore, AppError> {
        self.open()?.store().await
    }
}

/// The output options of a command.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The part of a list.
#[derive(Debug, Clone, Default, Args)]
pub struct PageArgs {
    /// Print at most this many rows, and where the next page begins; default: the whole list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: Option<u32>,
    /// Begin after the row with this id or number
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

/// Returns the use of plain HTTP for the flag `--insecure-http`.
pub(crate) const fn plain_http(insecure: bool) -> PlainHttp {
    if insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly }
}
