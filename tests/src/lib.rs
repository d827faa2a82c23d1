//! The lab, the simulation, and the helpers of the tests; `tests/README.md` says where a test goes.
//!
//! | module | holds |
//! | --- | --- |
//! | [`lab`], [`span`], [`namespaces`] | the real programs on this machine; a file over a lossy link |
//! | [`sim`] | simulated worlds: the real cores on a simulated clock, network and disk |
//! | [`store`] | power cuts and kills of the storage, octets written to flash |
//! | [`verifier`] | a device as a command line, for attacks |
//! | [`bench_reports`], [`bench_tables`], [`check`], [`flood`], [`sessions`] | measurements |
//! | [`siege`] | peers that never prove themselves, beside devices that do |
//! | [`mutants_check`] | defences removed one by one, and the tests that must fail |
//! | [`schema`], [`secrets`], [`tools`] | generated types, the search for secrets, tools of others |
//! | [`memory`] | a file in memory |

/// Prints a formatted line on standard output. A reader that is gone, or a full disk, loses it.
#[macro_export]
macro_rules! print_line {
    () => { $crate::print_line!("") };
    ($($text:tt)+) => { drop(proto_cli::output::print_line(format_args!($($text)+))) };
}

pub mod bench_reports;
pub mod bench_tables;
pub mod check;
pub mod flood;
pub mod lab;
pub mod memory;
pub mod mutants_check;
pub mod namespaces;
pub mod schema;
pub mod secrets;
pub mod sessions;
pub mod siege;
pub mod sim;
pub mod span;
pub mod store;
pub mod tools;
pub mod verifier;
