//! Options that `send` and `announce` share.

use clap::ValueEnum;

use crate::unsigned::wire_profile::{Profile, Scheme};

/// Profiles by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// FLUTE version 2, TSI and TOI of 32 bits
    Rfc6726,
    /// FLUTE version 1 of 3GPP TS 26.346, 16 bits, FEC parameters in the FDT
    Mbms,
}

impl ProfileName {
    /// Returns the profile.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Rfc6726 => Profile::Rfc6726,
            Self::Mbms => Profile::Mbms,
        }
    }

    /// Returns the requested scheme, or the profile's default.
    #[must_use]
    pub const fn scheme(self, requested: Option<FecName>) -> Scheme {
        match requested {
            None => self.profile().default_scheme(),
            Some(FecName::RaptorQ) => Scheme::RaptorQ,
            Some(FecName::NoCode) => Scheme::NoCode,
        }
    }
}

/// FEC schemes by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FecName {
    /// RaptorQ (RFC 6330)
    #[value(name = "raptorq")]
    RaptorQ,
    /// Compact No-Code (RFC 5445)
    NoCode,
}

/// Sending orders by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderName {
    /// One symbol of each block, then the next of each: a burst of losses costs all blocks alike
    Rows,
    /// Block after block: for receivers that write blocks in order
    Blocks,
}

/// Locations of FEC parameters by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FtiName {
    /// EXT_FTI in each packet
    Packet,
    /// Attributes of the FDT
    Fdt,
    /// In both
    Both,
}
