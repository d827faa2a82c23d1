//! Octets written to flash by a reception: `bench-flash-writes --mebibytes 256`.

use std::process::ExitCode;

use clap::Parser as _;
use fumocast_tests::{
    lab::exit::Exit,
    store::bench_flash_writes::{self, Options},
};

/// Octets written for each octet of the image that are promised not to be exceeded, in hundredths.
const PROMISE: u64 = 220;

fn main() -> ExitCode {
    let cost = match bench_flash_writes::run(&Options::parse()) {
        Ok(cost) => cost,
        Err(error) => {
            proto_cli::note!("bench-flash-writes: {error:#}");
            return Exit::Configuration.into();
        }
    };
    let share = |octets: u64| octets.saturating_mul(1000) / cost.image.max(1);
    let shown = |octets: u64| format!("{}.{:03}", share(octets) / 1000, share(octets) % 1000);
    fumocast_tests::print_line!("image {} octets", cost.image);
    let (before, after) = cost.over_the_cut;
    fumocast_tests::print_line!(
        "power cut at half: {before} symbols synced before, {after} found after"
    );
    for (name, written) in [("reservation", cost.reservation), ("window", cost.reception)] {
        fumocast_tests::print_line!(
            "{name}: {} octets, {} per image octet",
            written.asked,
            shown(written.asked)
        );
    }
    let pages = cost.reception.synced;
    fumocast_tests::print_line!(
        "window, in pages that syncs wrote: {pages} octets, {} per image octet",
        shown(pages)
    );
    let dirtied = cost.reception.dirtied;
    fumocast_tests::print_line!(
        "window, as the kernel counts dirty memory: {} per image octet",
        shown(dirtied)
    );
    if share(pages.max(cost.reception.asked)) > PROMISE * 10 || after < before {
        fumocast_tests::print_line!("breach: more than 2.2 octets, or a synced symbol lost");
        return Exit::Breach.into();
    }
    ExitCode::SUCCESS
}
