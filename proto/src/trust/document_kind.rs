//! Kinds of signed documents.

use super::role::Role;

crate::words! {
    /// The kind of a signed document.
    pub enum DocumentKind {
        /// Names the keys that may sign.
        Root = "root",
        /// Describes a package.
        Manifest = "manifest",
        /// Releases a package for a set of devices.
        Campaign = "campaign",
    }
}

impl DocumentKind {
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
