//! Rights of a server in access control lists.

/// A right of a server to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dm) enum Right {
    Add,
    Delete,
    Exec,
    Get,
    Replace,
}

impl Right {
    pub(super) const ALL: [Self; 5] =
        [Self::Add, Self::Delete, Self::Exec, Self::Get, Self::Replace];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Delete => "Delete",
            Self::Exec => "Exec",
            Self::Get => "Get",
            Self::Replace => "Replace",
        }
    }
}
