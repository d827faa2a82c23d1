//! Addresses of nodes in the management tree: `./DevInfo/DevId`, with an optional `?prop=` or
//! `?list=`.

use std::{fmt, str::FromStr};

use crate::wire::WireError;

/// Segments that an address may have, the leading `.` not counted (`DevDetail/URI/MaxDepth`).
pub const MAX_DEPTH: usize = 16;
/// Octets that an address may have (`DevDetail/URI/MaxTotLen`).
pub const MAX_TOTAL_LENGTH: usize = 255;
/// Octets that a segment may have (`DevDetail/URI/MaxSegLen`).
pub const MAX_SEGMENT_LENGTH: usize = 64;

/// The address of a node; `./A` and `A` are the same node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeUri {
    segments: Vec<String>,
}

impl NodeUri {
    /// Returns the root of the tree, `.`.
    #[must_use]
    pub const fn root() -> Self {
        Self { segments: Vec::new() }
    }

    /// Returns the segments from the root on.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &str> {
        self.segments.iter().map(String::as_str)
    }

    /// Returns the address without its last segment; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, segments) = self.segments.split_last()?;
        Some(Self { segments: segments.to_vec() })
    }

    /// Returns the last segment; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.segments.last().map(String::as_str)
    }

    /// Returns the path below `ancestor`, joined by `/`; empty when the two are the same node.
    #[must_use]
    pub fn below(&self, ancestor: &Self) -> Option<String> {
        self.segments.strip_prefix(ancestor.segments.as_slice()).map(|tail| tail.join("/"))
    }

    /// Returns the text of a node below this one, given its path (`Ext/Broadcast/Phase`).
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{self}/{path}")
    }
}

impl FromStr for NodeUri {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let wrong = |expected| WireError::invalid("node address", text, expected);
        if text.len() > MAX_TOTAL_LENGTH {
            return Err(WireError::TooLarge {
                field: "node address",
                found: u64::try_from(text.len()).unwrap_or(u64::MAX),
                limit: 255,
            });
        }
        if text == "." {
            return Ok(Self::root());
        }
        let path = text.strip_prefix("./").unwrap_or(text);
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        if segments.len() > MAX_DEPTH {
            return Err(wrong("at most 16 segments"));
        }
        let odd = |c: char| c.is_control() || matches!(c, '?' | '\\');
        for segment in &segments {
            if segment.is_empty() || segment == "." || segment == ".." || segment.contains(odd) {
                return Err(wrong("segments such as ./DevInfo/DevId"));
            }
            if segment.len() > MAX_SEGMENT_LENGTH {
                return Err(wrong("segments of at most 64 octets"));
            }
        }
        Ok(Self { segments })
    }
}

impl fmt::Display for NodeUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(".")?;
        self.segments.iter().try_for_each(|segment| write!(formatter, "/{segment}"))
    }
}

/// The address of a command: a node, one of its properties, or an export of its subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The node.
    pub node: NodeUri,
    /// The part after the `?`.
    pub query: Option<Query>,
}

/// The part of an address after the `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `prop=NAME`.
    Property(String),
    /// `list=KIND`.
    List(String),
}

impl FromStr for Address {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (node, query) = match text.split_once('?') {
            None => (text, None),
            Some((node, query)) => (node, Some(query)),
        };
        let query = match query.map(|query| query.split_once('=')) {
            None => None,
            Some(Some(("prop", name))) => Some(Query::Property(name.to_owned())),
            Some(Some(("list", kind))) => Some(Query::List(kind.to_owned())),
            Some(Some(_) | None) => {
                return Err(WireError::invalid("node address", text, "?prop=NAME or ?list=KIND"));
            }
        };
        Ok(Self { node: node.parse()?, query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_dot_makes_no_difference() {
        let full: NodeUri = "./DevInfo/DevId".parse().unwrap();
        assert_eq!("DevInfo/DevId".parse(), Ok(full.clone()));
        assert_eq!(full.to_string(), "./DevInfo/DevId");
        assert_eq!(full.name(), Some("DevId"));
        assert_eq!(full.parent().unwrap().to_string(), "./DevInfo");
        assert_eq!(".".parse(), Ok(NodeUri::root()));
        assert_eq!(NodeUri::root().parent(), None);
    }

    #[test]
    fn a_path_below_a_node_is_relative_to_it() {
        let object: NodeUri = "./FwUpdate/Main".parse().unwrap();
        let state: NodeUri = object.join("Ext/Broadcast/Phase").parse().unwrap();
        assert_eq!(state.below(&object).as_deref(), Some("Ext/Broadcast/Phase"));
        assert_eq!(object.below(&object).as_deref(), Some(""));
        assert_eq!("./FwUpdate/Other".parse::<NodeUri>().unwrap().below(&object), None);
    }

    #[test]
    fn addresses_that_could_be_paths_or_break_a_log_are_refused() {
        for wrong in ["", "/", "./", "a//b", "./a/", "../a", "./a/../b", "a/./b", "a\nb", "a\\b"] {
            assert!(wrong.parse::<NodeUri>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn depth_and_lengths_end_at_their_limits() {
        for (depth, fits) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
            assert_eq!(vec!["a"; depth].join("/").parse::<NodeUri>().is_ok(), fits, "{depth}");
        }
        for (length, fits) in [(MAX_SEGMENT_LENGTH, true), (MAX_SEGMENT_LENGTH + 1, false)] {
            assert_eq!("a".repeat(length).parse::<NodeUri>().is_ok(), fits, "{length}");
        }
        let long = vec!["a".repeat(63); 4].join("/");
        assert_eq!(long.len(), MAX_TOTAL_LENGTH);
        assert!(long.parse::<NodeUri>().is_ok());
        assert!(format!("{long}a").parse::<NodeUri>().is_err());
    }

    #[test]
    fn properties_and_exports_are_distinguished() {
        let address: Address = "./DevInfo?prop=ACL".parse().unwrap();
        assert_eq!(address.query, Some(Query::Property("ACL".to_owned())));
        let address: Address = "./DevInfo?list=Struct".parse().unwrap();
        assert_eq!(address.query, Some(Query::List("Struct".to_owned())));
        assert!("./DevInfo?x=y".parse::<Address>().is_err());
        assert!("./DevInfo?prop".parse::<Address>().is_err());
    }
}
