//! The limit of open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are asked for at most: some programs visit every number below the limit.
const MOST: u64 = 65_536;

/// Raises the soft limit of open files to the hard one, 65,536 at most; returns what holds then.
///
/// A limit that is higher already, or cannot be raised, stays.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let before = current.unwrap_or(u64::MAX);
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    if before >= wanted {
        tracing::info!(open_files = before, "limit of open files");
        return before;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => {
            tracing::info!(open_files = wanted, before, "limit of open files raised");
            wanted
        }
        Err(error) => {
            tracing::warn!(%error, open_files = before, wanted, "limit of open files not raised");
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(300), maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        let most = maximum.unwrap_or(MOST).min(MOST);
        assert_eq!(raise_limit(), most);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
        assert_eq!(raise_limit(), most, "it stays");
    }
}
