//! Kinds of signed documents.

use std::fmt;

use super::role::Role;

/// The kinds of signed documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// Which keys may sign what.
    Root,
    /// What may exist.
    Manifest,
    /// What may be put on which devices.
    Campaign,
}

impl DocumentKind {
    pub(super) const ALL: [Self; 3] = [Self::Root, Self::Manifest, Self::Campaign];

    /// Returns the media type that is signed together with the document.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.fumocast.root.v1",
            Self::Manifest => "application/vnd.fumocast.manifest.v1",
            Self::Campaign => "application/vnd.fumocast.campaign.v1",
        }
    }

    /// Returns the role whose keys sign documents of this kind.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Root => Role::Root,
            Self::Manifest => Role::Release,
            Self::Campaign => Role::Campaign,
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Root => "root",
            Self::Manifest => "manifest",
            Self::Campaign => "campaign",
        })
    }
}
