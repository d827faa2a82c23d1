//! Numbers of the tags, by code page.

/// A code page of the SyncML document type.
///
/// # Source
///
/// OMA SyncML Representation Protocol 1.2, MetInf 1.2, DM DDF 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dm) enum Page {
    /// The message.
    SyncMl,
    /// Elements inside Meta.
    MetInf,
    /// Serialised management trees.
    Ddf,
}

impl Page {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::SyncMl),
            1 => Some(Self::MetInf),
            2 => Some(Self::Ddf),
            _ => None,
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::SyncMl => 0,
            Self::MetInf => 1,
            Self::Ddf => 2,
        }
    }

    /// The names of the tags from [`FIRST_TAG`] on.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::SyncMl => &SYNCML,
            Self::MetInf => &METINF,
            Self::Ddf => &DDF,
        }
    }

    /// Returns the name of a tag, its content bit not set.
    pub(super) fn name(self, token: u8) -> Option<&'static str> {
        let place = token.checked_sub(FIRST_TAG)?;
        self.names().get(usize::from(place)).copied().filter(|name| !name.is_empty())
    }

    /// Returns the tag of a name.
    pub(super) fn token(self, name: &str) -> Option<u8> {
        let place = self.names().iter().position(|known| *known == name)?;
        u8::try_from(place).ok()?.checked_add(FIRST_TAG)
    }
}

/// Tokens below this one are the same on every page.
const FIRST_TAG: u8 = 5;

// spec: oma-dm 8 (code pages)
#[rustfmt::skip]
const SYNCML: [&str; 56] = [
    "Add", "Alert", "Archive", "Atomic", "Chal", "Cmd", "CmdID", "CmdRef",
    "Copy", "Cred", "Data", "Delete", "Exec", "Final", "Get", "Item",
    "Lang", "LocName", "LocURI", "Map", "MapItem", "Meta", "MsgID", "MsgRef",
    "NoResp", "NoResults", "Put", "Replace", "RespURI", "Results", "Search", "Sequence",
    "SessionID", "SftDel", "Source", "SourceRef", "Status", "Sync", "SyncBody", "SyncHdr",
    "SyncML", "Target", "TargetRef", "", "VerDTD", "VerProto", "NumberOfChanges", "MoreData",
    "Field", "Filter", "Record", "FilterType", "SourceParent", "TargetParent", "Move", "Correlator",
];

#[rustfmt::skip]
const METINF: [&str; 18] = [
    "Anchor", "EMI", "Format", "FreeID", "FreeMem", "Last", "Mark", "MaxMsgSize", "Mem",
    "MetInf", "Next", "NextNonce", "SharedMem", "Size", "Type", "Version", "MaxObjSize",
    "FieldLevel",
];

#[rustfmt::skip]
const DDF: [&str; 56] = [
    "AccessType", "ACL", "Add", "b64", "bin", "bool", "chr", "CaseSense", "CIS", "Copy", "CS",
    "date", "DDFName", "DefaultValue", "Delete", "Description", "DFFormat", "DFProperties",
    "DFTitle", "DFType", "Dynamic", "Exec", "float", "Format", "Get", "int", "Man", "MgmtTree",
    "MIME", "Mod", "Name", "Node", "node", "NodeName", "null", "Occurrence", "One", "OneOrMore",
    "OneOrN", "Path", "Permanent", "Replace", "RTProperties", "Scope", "Size", "time", "Title",
    "TStamp", "Type", "Value", "VerDTD", "VerNo", "xml", "ZeroOrMore", "ZeroOrN", "ZeroOrOne",
];

#[cfg(test)]
mod tests {
    use super::*;

    // test: oma-dm 8 (code pages)
    #[test]
    fn tags_have_the_numbers_of_the_code_pages() {
        for (page, token, name) in [
            (Page::SyncMl, 0x05, "Add"),
            (Page::SyncMl, 0x1a, "Meta"),
            (Page::SyncMl, 0x2d, "SyncML"),
            (Page::SyncMl, 0x31, "VerDTD"),
            (Page::SyncMl, 0x34, "MoreData"),
            (Page::SyncMl, 0x3c, "Correlator"),
            (Page::MetInf, 0x05, "Anchor"),
            (Page::MetInf, 0x10, "NextNonce"),
            (Page::MetInf, 0x15, "MaxObjSize"),
            (Page::MetInf, 0x16, "FieldLevel"),
            (Page::Ddf, 0x05, "AccessType"),
            (Page::Ddf, 0x13, "Delete"),
            (Page::Ddf, 0x20, "MgmtTree"),
            (Page::Ddf, 0x25, "node"),
            (Page::Ddf, 0x2f, "RTProperties"),
            (Page::Ddf, 0x3c, "ZeroOrOne"),
        ] {
            assert_eq!(page.token(name), Some(token), "{name}");
            assert_eq!(page.name(token), Some(name), "{token:#x}");
        }
    }

    #[test]
    fn every_tag_reads_back_and_reserved_ones_are_unknown() {
        for page in [Page::SyncMl, Page::MetInf, Page::Ddf] {
            for name in page.names().iter().filter(|name| !name.is_empty()) {
                let token = page.token(name).unwrap();
                assert!(token < 0x40, "{name}");
                assert_eq!(page.name(token), Some(*name));
            }
            assert_eq!(Page::from_number(page.number()), Some(page));
        }
        assert_eq!(Page::SyncMl.name(0x30), None);
        assert_eq!(Page::SyncMl.name(0x3d), None);
        assert_eq!(Page::MetInf.name(0x17), None);
        assert_eq!(Page::SyncMl.name(4), None);
        assert_eq!(Page::SyncMl.token("SyncMl"), None);
        assert_eq!(Page::from_number(3), None);
    }
}
