//! Arguments of `dm-bridge audit`.

use clap::Subcommand;

use super::common::{DataDirArgs, OutputArgs, PageArgs};

/// Commands for the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// List the changes that people, the reconciler and devices have made, oldest first
    List {
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Part of the list.
        #[command(flatten)]
        page: PageArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
}
