//! Items of a generic alert (1226): object, type, format, mark and data.

use super::{
    code::Format,
    syncml::{Item, Location, Meta},
};
use crate::wire::WireError;

/// Prefixes that the standard puts before an alert type and many clients leave out.
const TYPE_PREFIXES: [&str; 2] = ["Reversed-Domain-Name:", "Content-Type:"];

/// One item of a generic alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericAlert {
    /// The management object that the alert is about; some alerts of clients leave it out.
    pub source: Option<String>,
    /// The kind of alert, without prefix.
    pub kind: String,
    /// Format of the data.
    pub format: Option<Format>,
    /// Its importance.
    pub mark: Mark,
    /// Its data.
    pub data: String,
}

impl GenericAlert {
    /// Reads an item; a prefix before the type is dropped.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] when the item has no type. Answer it with 412.
    pub fn from_item(item: &Item) -> Result<Self, WireError> {
        let meta = item.meta.clone().unwrap_or_default();
        let kind = meta.kind.as_deref().map(bare_type).unwrap_or_default();
        if kind.is_empty() {
            return Err(WireError::invalid("alert type", kind, "a reversed domain name"));
        }
        Ok(Self {
            source: item.source.as_ref().map(|source| source.uri.clone()),
            kind: kind.to_owned(),
            format: meta.format,
            mark: meta.mark.and_then(|mark| mark.trim().parse().ok()).unwrap_or_default(),
            data: item.decoded_text().unwrap_or_default().into_owned(),
        })
    }

    /// Returns whether the alert is of a type, in whatever case a client writes it.
    #[must_use]
    pub fn is_of(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// Returns the item, with the bare type that field servers of FUMO expect.
    #[must_use]
    pub fn to_item(&self) -> Item {
        Item {
            source: self.source.clone().map(Location::new),
            meta: Some(Meta {
                kind: Some(self.kind.clone()),
                format: self.format.clone(),
                mark: Some(self.mark.to_string()),
                ..Meta::default()
            }),
            data: Some(self.data.as_str().into()),
            ..Item::default()
        }
    }
}

fn bare_type(text: &str) -> &str {
    let text = text.trim();
    let after = |prefix: &&str| {
        let (head, tail) = text.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(tail)
    };
    TYPE_PREFIXES.iter().find_map(after).unwrap_or(text).trim()
}

crate::words! {
    /// The importance of an alert.
    #[derive(Default)]
    pub enum Mark: "mark" {
        /// Nothing works any more.
        Fatal = "fatal",
        /// Something important failed.
        Critical = "critical",
        /// Something of little weight failed.
        Minor = "minor",
        /// A condition that an operator should check.
        Warning = "warning",
        /// For information; also the meaning of an absent or unknown mark.
        #[default]
        Informational = "informational",
        /// Of no consequence.
        Harmless = "harmless",
        /// Of unknown importance.
        Indeterminate = "indeterminate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: &str) -> GenericAlert {
        GenericAlert {
            source: Some("./FwUpdate/Main".to_owned()),
            kind: kind.to_owned(),
            format: Some(Format::Int),
            mark: Mark::Critical,
            data: "410".to_owned(),
        }
    }

    #[test]
    fn an_alert_survives_its_item() {
        let alert = alert("org.example.thing");
        assert_eq!(GenericAlert::from_item(&alert.to_item()), Ok(alert));
    }

    #[test]
    fn a_type_is_the_same_with_and_without_prefix() {
        for written in [
            "org.example.thing",
            "Reversed-Domain-Name: org.example.thing",
            "Reversed-Domain-Name:org.example.thing",
            " Content-Type: org.example.thing ",
            "reversed-domain-name:org.example.thing",
        ] {
            let read = GenericAlert::from_item(&alert(written).to_item()).unwrap();
            assert_eq!(read.kind, "org.example.thing", "{written}");
            assert!(read.is_of("ORG.example.Thing") && !read.is_of("org.example"), "{written}");
        }
    }

    #[test]
    fn an_item_without_type_is_refused_and_an_unknown_mark_is_informational() {
        assert!(GenericAlert::from_item(&Item::default()).is_err());
        assert!(GenericAlert::from_item(&alert("Reversed-Domain-Name: ").to_item()).is_err());
        let mut item = alert("org.example.thing").to_item();
        item.meta.as_mut().unwrap().mark = Some("purple".to_owned());
        assert_eq!(GenericAlert::from_item(&item).unwrap().mark, Mark::Informational);
    }
}
