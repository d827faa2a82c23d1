//! From a seed to a world: who is in it, and what goes wrong when.

use receiver::suspension::SuspendReason;

use super::{
    bridge, device,
    disk::{Call, Fault as DiskFault},
    fault::{At, ClockKept, Fault, Span, What},
    package::{Follows, Package, package},
};
use crate::lab::chance::Chance;

/// A window that the operator opens while things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it is ordered.
    pub ordered: At,
    /// When it opens.
    pub opens: At,
    /// When it closes.
    pub closes: At,
}

/// All that a seed decides before a world begins.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// What is sent.
    pub package: &'static Package,
    /// The devices.
    pub devices: Vec<device::Setup>,
    /// How many image servers air the plan.
    pub servers: usize,
    /// The management server.
    pub bridge: bridge::Setup,
    /// Windows in which things go wrong.
    pub windows: Vec<Window>,
    /// What goes wrong; by number, so that each can be left out.
    pub faults: Vec<Fault>,
    /// Nothing goes wrong from here on.
    pub calm: At,
}

impl Scenario {
    /// Draws the world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "scenario");
        let package = package(chance.next());
        let devices = draw_devices(&mut chance);
        let servers = if chance.below(3) == 0 { 2 } else { 1 };
        let bridge = bridge::Setup {
            report_spread: one_of(&mut chance, [0, 5, 60]),
            hands_plan_header_out: chance.below(2) == 0,
        };
        let windows = draw_windows(&mut chance);
        let last = windows.last().map_or(0, |window| window.closes.0);
        let calm = At(last + 90_000);
        let count = match chance.below(12) {
            0 => 0,
            1..=7 => 1 + chance.below(4),
            _ => 5 + chance.below(8),
        };
        let draw = Draw { devices: devices.len(), servers, windows: &windows, calm };
        let mut faults: Vec<_> = (0..count).map(|_| draw.fault(&mut chance)).collect();
        faults.extend(draw.desk(&mut Chance::new(seed, "desk")));
        Self { seed, package, devices, servers, bridge, windows, faults, calm }
    }

    /// Leaves faults out, by number.
    #[must_use]
    pub fn without(mut self, left_out: &[usize]) -> Self {
        let mut number = 0;
        self.faults.retain(|_| {
            number += 1;
            !left_out.contains(&(number - 1))
        });
        self
    }
}

fn draw_devices(chance: &mut Chance) -> Vec<device::Setup> {
    let count = 1 + chance.below(3);
    (0..count)
        .map(|number| device::Setup {
            check_in: one_of(chance, [60, 120, 300]),
            reboots: chance.below(3) == 0,
            is_addressed: number == 0 || chance.below(6) > 0,
        })
        .collect()
}

fn draw_windows(chance: &mut Chance) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for number in 0..=chance.below(2) {
        let ordered = match windows.last() {
            None => 1_000 * number,
            Some(before) => before.closes.0 + 1_000 * (1 + chance.below(70)),
        };
        let opens = ordered + 1_000 * (90 + chance.below(60) + number * 200);
        let closes = opens + 1_000 * (3 + chance.below(12));
        windows.push(Window { ordered: At(ordered), opens: At(opens), closes: At(closes) });
    }
    windows
}

fn one_of<T: Copy, const N: usize>(chance: &mut Chance, all: [T; N]) -> T {
    let at = below(chance, N as u64);
    *all.get(at).expect("a number below the length")
}

fn below(chance: &mut Chance, end: u64) -> usize {
    usize::try_from(chance.below(end)).unwrap_or_default()
}

/// What faults are drawn from.
struct Draw<'a> {
    devices: usize,
    servers: usize,
    windows: &'a [Window],
    calm: At,
}

impl Draw<'_> {
    fn fault(&self, chance: &mut Chance) -> Fault {
        let what = draw_what(chance);
        let among = if what.is_of_a_server() { self.servers } else { self.devices };
        let whose = below(chance, among as u64);
        Fault { whose, span: self.span(chance, what), what }
    }

    /// What the operator changes while things go wrong, and who lies in the operator's name.
    fn desk(&self, chance: &mut Chance) -> Vec<Fault> {
        let mut faults = Vec::new();
        if chance.below(5) == 0 {
            let per_mille = one_of(chance, [30, 100, 300]);
            faults.push(What::Lies { per_mille });
        }
        if chance.below(6) == 0 {
            faults.push(What::Disarm);
        }
        if chance.below(3) == 0 {
            faults.push(What::Supersede(one_of(chance, Follows::ALL)));
        }
        let whose = below(chance, self.devices as u64);
        let fault = |what| Fault { whose, span: self.span(chance, what), what };
        faults.into_iter().map(fault).collect()
    }

    /// Most of what goes wrong goes wrong around a window.
    fn span(&self, chance: &mut Chance, what: What) -> Span {
        let window = self.windows.get(below(chance, self.windows.len() as u64));
        let window =
            window.copied().unwrap_or(Window { ordered: At(0), opens: At(0), closes: At(0) });
        let on_air = window.closes.0 - window.opens.0;
        let lasts = chance.below(what.longest().max(1)) + 50;
        let from = match chance.below(8) {
            // Any time from the beginning on.
            0 => chance.below(self.calm.0),
            // From the order of the window on.
            1 => window.ordered.0 + chance.below(window.opens.0 - window.ordered.0),
            // Around the end of the window.
            2 => window.closes.0 - 2_000 + chance.below(70_000),
            _ => window.opens.0 - 1_000 + chance.below(on_air + 2_000),
        };
        let from = from.min(self.calm.0 - 1_000);
        let to = (from + lasts).min(self.calm.0 - 1);
        Span { from: At(from), to: At(to) }
    }
}

impl What {
    /// Returns how long it lasts at most, in milliseconds.
    const fn longest(self) -> u64 {
        match self {
            Self::Loss { .. }
            | Self::Bursts { .. }
            | Self::Reorder { .. }
            | Self::Duplicate { .. }
            | Self::Corrupt { .. }
            | Self::Forge { .. } => 30_000,
            Self::Cut | Self::Sleep | Self::SlowDisk | Self::Suspend(_) => 15_000,
            Self::DmLoss { .. } | Self::BridgeDown | Self::Lies { .. } => 120_000,
            Self::Replay | Self::Supersede(_) | Self::Disarm => 1,
            Self::CutAtOperation { .. } => 100_000,
            Self::PowerOff { .. } | Self::Kill | Self::Terminate => 10_000,
            Self::ClockStep { .. } => 150_000,
            Self::DiskFull | Self::DiskError { .. } => 20_000,
            Self::FlipBits { .. } => 1,
            Self::InstallFails => 60_000,
            Self::ServerDown => 6_000,
        }
    }
}

fn draw_what(chance: &mut Chance) -> What {
    let per_mille = one_of(chance, [20, 100, 300, 500]);
    let kept = if chance.below(3) == 0 { ClockKept::Lost } else { ClockKept::Kept };
    match chance.below(27) {
        0 | 1 => What::Loss { per_mille },
        2 | 3 => What::Bursts { enter: 10 + chance.below(100), leave: 50 + chance.below(400) },
        4 => What::Reorder { per_mille },
        5 => What::Duplicate { per_mille },
        6 => What::Corrupt { per_mille: per_mille.min(300) },
        7 => What::Cut,
        8 | 9 => What::Forge { per_ten: one_of(chance, [5, 20, 60]) },
        10 | 11 => {
            What::DmLoss { requests: per_mille, replies: one_of(chance, [0, 100, 300, 600]) }
        }
        12 => What::BridgeDown,
        13 => What::Replay,
        14..=17 => What::CutAtOperation { operations: 1 + chance.below(90), clock: kept },
        18 => What::PowerOff { clock: kept },
        19 => What::Kill,
        20 => one_of(chance, [What::Terminate, What::Sleep]),
        21 => What::Suspend(one_of(chance, SuspendReason::ALL)),
        22 => {
            const STEPS: [i64; 8] = [-315_360_000, -86_400, -300, -5, 7, 240, 86_400, 315_360_000];
            What::ClockStep { seconds: one_of(chance, STEPS) }
        }
        23 => one_of(chance, [What::DiskFull, What::SlowDisk]),
        24 => draw_disk_error(chance),
        25 => match chance.below(3) {
            0 => What::InstallFails,
            _ => What::FlipBits { count: 1 + chance.below(20) },
        },
        _ => What::ServerDown,
    }
}

fn draw_disk_error(chance: &mut Chance) -> What {
    const CALLS: [Call; 8] = [
        Call::Write,
        Call::Sync,
        Call::Sync,
        Call::Create,
        Call::Rename,
        Call::Read,
        Call::SyncDirectory,
        Call::Remove,
    ];
    let call = one_of(chance, CALLS);
    let may_be_full = matches!(call, Call::Write | Call::Create);
    let how = if may_be_full && chance.below(2) == 0 { DiskFault::NoSpace } else { DiskFault::Io };
    What::DiskError { call, nth: 1 + chance.below(12), how }
}
