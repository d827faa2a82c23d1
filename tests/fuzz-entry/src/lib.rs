//! Entry points for hostile octets.
//!
//! Each takes any octets and panics when a promise is broken: readers do not panic, what they
//! return keeps its limits, what is written again reads back equal. The fuzz targets of
//! `tests/fuzz` call these functions, and so does a property test, so that every change runs them.
//!
//! | module | throws octets at |
//! | --- | --- |
//! | [`alc`] | LCT and ALC headers, extensions, payloads |
//! | [`oti`] | FEC parameters of all schemes, blocks, codecs |
//! | [`fdt`], [`fdt_store`] | file delivery tables, and the packets that carry them |
//! | [`sdp`], [`sap`], [`pcap`] | session descriptions, their announcements, packet captures |
//! | [`trust`], [`plan`] | signed documents; plan headers and table packets |
//! | [`syncml`], [`dm`] | device management: messages in XML and WBXML, and its smaller formats |
//! | [`tune_in`], [`control`] | the tune-in URL, the control API |
//! | [`session`] | a whole receiver of unsigned sessions, with its disk |
//! | [`script`] | octets as a list of actions |

pub mod alc;
pub mod control;
pub mod dm;
pub mod fdt;
pub mod fdt_store;
pub mod oti;
pub mod pcap;
pub mod plan;
pub mod sap;
pub mod script;
pub mod sdp;
pub mod session;
pub mod syncml;
pub mod trust;
pub mod tune_in;

/// One entry point.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name of the fuzz target.
    pub name: &'static str,
    /// Takes the octets.
    pub run: fn(&[u8]),
    /// Makes inputs that get deep, by the product's own writers.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All entry points.
pub const ENTRIES: [Entry; 15] = [
    Entry { name: "alc", run: alc::run, seeds: alc::seeds },
    Entry { name: "fdt", run: fdt::run, seeds: fdt::seeds },
    Entry { name: "fdt_store", run: fdt_store::run, seeds: fdt_store::seeds },
    Entry { name: "oti", run: oti::run, seeds: oti::seeds },
    Entry { name: "sdp", run: sdp::run, seeds: sdp::seeds },
    Entry { name: "sap", run: sap::run, seeds: sap::seeds },
    Entry { name: "pcap", run: pcap::run, seeds: pcap::seeds },
    Entry { name: "trust", run: trust::run, seeds: trust::seeds },
    Entry { name: "plan", run: plan::run, seeds: plan::seeds },
    Entry { name: "syncml", run: syncml::run, seeds: syncml::seeds },
    Entry { name: "wbxml", run: syncml::run_wbxml, seeds: syncml::wbxml_seeds },
    Entry { name: "dm", run: dm::run, seeds: dm::seeds },
    Entry { name: "tune_in", run: tune_in::run, seeds: tune_in::seeds },
    Entry { name: "control", run: control::run, seeds: control::seeds },
    Entry { name: "session", run: session::run, seeds: session::seeds },
];
