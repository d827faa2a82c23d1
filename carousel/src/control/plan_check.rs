//! The comparison of a package's plans with its campaign, as the control API sees it.

/// The state of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanCheck {
    /// It waits or is under way; this part is done, 0 to 100.
    Pending(u32),
    /// The plans are the signed ones.
    Passed,
    /// They are not, or cannot be read; the text names the file.
    Failed(String),
}

impl PlanCheck {
    /// Returns the part that is done, 0 to 100.
    #[must_use]
    pub const fn percent(&self) -> u32 {
        match self {
            Self::Pending(percent) => *percent,
            Self::Passed => 100,
            Self::Failed(_) => 0,
        }
    }
}
