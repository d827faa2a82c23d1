//! From a seed to a world: its parts, and its faults.

use receiver::suspension::SuspendReason;

use super::{
    bridge, device,
    disk::{Call, Fault as DiskFault},
    fault::{At, ClockSurvival, Effect, Fault, FaultKind, Span},
    package::{Follows, Package, package},
};
use crate::lab::rng::SeededRng;

/// Seeds below it were noted before image servers, gateways and installers could hang: they keep
/// their worlds.
pub const FIRST_SEED_WITH_HANGING_PEERS: u64 = 10_000_000;

/// A window that the operator opens while things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Time of the command.
    pub ordered: At,
    /// Opening time.
    pub opens: At,
    /// Closing time.
    pub closes: At,
}

/// Times of notifications.
///
/// # Units
///
/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationTimes {
    /// Longest time from the command for a window until a device is notified.
    pub sent_within: u64,
    /// Longest time that a notification is on its way.
    pub on_its_way: u64,
}

/// All that a seed decides before a world begins.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// The package that is sent.
    pub package: &'static Package,
    /// The devices.
    pub devices: Vec<device::Setup>,
    /// Number of image servers that air the plan.
    pub servers: usize,
    /// The management server.
    pub bridge: bridge::Setup,
    /// Windows in which things go wrong.
    pub windows: Vec<Window>,
    /// Faults by number, so that each can be left out.
    pub faults: Vec<Fault>,
    /// Set when the operator has devices notified of each window.
    pub notifications: Option<NotificationTimes>,
    /// Nothing goes wrong from here on.
    pub calm: At,
}

impl Scenario {
    /// Draws the world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed, "scenario");
        let package = package(rng.next_u64());
        let has_peers = seed >= FIRST_SEED_WITH_HANGING_PEERS;
        let devices = draw_devices(&mut rng, has_peers);
        let servers = if rng.below(3) == 0 { 2 } else { 1 };
        let bridge = bridge::Setup {
            report_spread: one_of(&mut rng, [0, 5, 60]),
            hands_plan_header_out: rng.below(2) == 0,
            watches_sessions: has_peers,
        };
        let windows = draw_windows(&mut rng);
        let last = windows.last().map_or(0, |window| window.closes.0);
        let calm = At(last + 90_000);
        let count = match rng.below(12) {
            0 => 0,
            1..=7 => 1 + rng.below(4),
            _ => 5 + rng.below(8),
        };
        let draw = Draw { devices: devices.len(), servers, windows: &windows, calm };
        let mut faults: Vec<_> = (0..count).map(|_| draw.fault(&mut rng)).collect();
        // The name of the stream decides what is drawn: it stays as it was when seeds were noted.
        faults.extend(draw.operator_faults(&mut SeededRng::new(seed, "desk")));
        if has_peers {
            faults.extend(draw.hanging_peers(&mut SeededRng::new(seed, "peers")));
            faults.extend(draw.lost_sessions(&mut SeededRng::new(seed, "sessions")));
        }
        let usual = NotificationTimes { sent_within: 20_000, on_its_way: 3_000 };
        let notifications = has_peers.then_some(usual);
        Self { seed, package, devices, servers, bridge, windows, faults, notifications, calm }
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

fn draw_devices(rng: &mut SeededRng, is_notified: bool) -> Vec<device::Setup> {
    let count = 1 + rng.below(3);
    (0..count)
        .map(|number| device::Setup {
            check_in: one_of(rng, [60, 120, 300]),
            reboots: rng.below(3) == 0,
            is_notified,
            is_addressed: number == 0 || rng.below(6) > 0,
        })
        .collect()
}

fn draw_windows(rng: &mut SeededRng) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for number in 0..=rng.below(2) {
        let ordered = match windows.last() {
            None => 1_000 * number,
            Some(before) => before.closes.0 + 1_000 * (1 + rng.below(70)),
        };
        let opens = ordered + 1_000 * (90 + rng.below(60) + number * 200);
        let closes = opens + 1_000 * (3 + rng.below(12));
        windows.push(Window { ordered: At(ordered), opens: At(opens), closes: At(closes) });
    }
    windows
}

fn one_of<T: Copy, const N: usize>(rng: &mut SeededRng, all: [T; N]) -> T {
    let at = below(rng, N as u64);
    *all.get(at).expect("a number below the length")
}

fn below(rng: &mut SeededRng, end: u64) -> usize {
    usize::try_from(rng.below(end)).unwrap_or_default()
}

/// Limits within which faults are drawn.
struct Draw<'a> {
    devices: usize,
    servers: usize,
    windows: &'a [Window],
    calm: At,
}

impl Draw<'_> {
    fn fault(&self, rng: &mut SeededRng) -> Fault {
        let kind = draw_kind(rng);
        let among = if kind.is_of_a_server() { self.servers } else { self.devices };
        let whose = below(rng, among as u64);
        Fault { whose, span: self.span(rng, kind), kind }
    }

    /// Draws changes of the operator while faults hold, and false answers of the server.
    fn operator_faults(&self, rng: &mut SeededRng) -> Vec<Fault> {
        let mut faults = Vec::new();
        if rng.below(5) == 0 {
            let per_mille = one_of(rng, [30, 100, 300]);
            faults.push(FaultKind::Lies { per_mille });
        }
        if rng.below(6) == 0 {
            faults.push(FaultKind::Disarm);
        }
        if rng.below(3) == 0 {
            faults.push(FaultKind::Supersede(one_of(rng, Follows::ALL)));
        }
        let whose = below(rng, self.devices as u64);
        let fault = |kind| Fault { whose, span: self.span(rng, kind), kind };
        faults.into_iter().map(fault).collect()
    }

    /// Draws image servers, gateways and installers that do not answer.
    fn hanging_peers(&self, rng: &mut SeededRng) -> Vec<Fault> {
        let mut kinds = Vec::new();
        for _ in 0..rng.below(3) {
            kinds.push(FaultKind::ServerHangs(one_of(rng, Effect::ALL)));
        }
        if rng.below(2) == 0 {
            kinds.push(FaultKind::GatewayHangs(one_of(rng, Effect::ALL)));
        }
        if rng.below(3) == 0 {
            kinds.push(FaultKind::InstallHangs(one_of(rng, Effect::ALL)));
        }
        if rng.below(3) == 0 {
            kinds.push(FaultKind::VersionHangs);
        }
        let fault = |kind: FaultKind| {
            let among = if kind.is_of_a_server() { self.servers } else { self.devices };
            Fault { whose: below(rng, among as u64), span: self.span(rng, kind), kind }
        };
        kinds.into_iter().map(fault).collect()
    }

    /// Draws image servers that lose sessions, and those that open one late; meanwhile the operator
    /// may stop the campaign.
    fn lost_sessions(&self, rng: &mut SeededRng) -> Vec<Fault> {
        let Some(window) = self.windows.get(below(rng, self.windows.len() as u64)) else {
            return Vec::new();
        };
        let (ordered, ahead) = (window.ordered.0, window.opens.0 - window.ordered.0);
        let whose = below(rng, self.servers as u64);
        let fault = |kind: FaultKind, from: u64, lasts: u64| {
            let to = (from + lasts).min(self.calm.0 - 1);
            Fault { whose, span: Span { from: At(from), to: At(to) }, kind }
        };
        let mut faults = Vec::new();
        if rng.below(3) == 0 {
            let kind = FaultKind::SessionsLost;
            let from = ordered + 1 + rng.below(ahead / 3);
            faults.push(fault(kind, from, 50 + rng.below(kind.longest())));
        }
        if rng.below(4) == 0 {
            let lasts = ahead / 3 + rng.below(FaultKind::OpensHang.longest());
            faults.push(fault(FaultKind::OpensHang, ordered, lasts));
            if rng.below(2) == 0 {
                faults.push(fault(FaultKind::Disarm, ordered + rng.below(lasts), 1));
            }
        }
        faults
    }

    /// Most of what goes wrong goes wrong around a window.
    fn span(&self, rng: &mut SeededRng, kind: FaultKind) -> Span {
        let window = self.windows.get(below(rng, self.windows.len() as u64));
        let window =
            window.copied().unwrap_or(Window { ordered: At(0), opens: At(0), closes: At(0) });
        let on_air = window.closes.0 - window.opens.0;
        let lasts = rng.below(kind.longest().max(1)) + 50;
        let from = match rng.below(8) {
            // Any time from the beginning on.
            0 => rng.below(self.calm.0),
            // From the command for the window on.
            1 => window.ordered.0 + rng.below(window.opens.0 - window.ordered.0),
            // Around the end of the window.
            2 => window.closes.0 - 2_000 + rng.below(70_000),
            _ => window.opens.0 - 1_000 + rng.below(on_air + 2_000),
        };
        let from = from.min(self.calm.0 - 1_000);
        let to = (from + lasts).min(self.calm.0 - 1);
        Span { from: At(from), to: At(to) }
    }
}

impl FaultKind {
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
            Self::ServerDown | Self::SessionsLost => 6_000,
            Self::ServerHangs(_) | Self::OpensHang | Self::GatewayHangs(_) => 60_000,
            Self::InstallHangs(_) | Self::VersionHangs => 90_000,
        }
    }
}

fn draw_kind(rng: &mut SeededRng) -> FaultKind {
    let per_mille = one_of(rng, [20, 100, 300, 500]);
    let kept = if rng.below(3) == 0 { ClockSurvival::Lost } else { ClockSurvival::Kept };
    match rng.below(27) {
        0 | 1 => FaultKind::Loss { per_mille },
        2 | 3 => FaultKind::Bursts { enter: 10 + rng.below(100), leave: 50 + rng.below(400) },
        4 => FaultKind::Reorder { per_mille },
        5 => FaultKind::Duplicate { per_mille },
        6 => FaultKind::Corrupt { per_mille: per_mille.min(300) },
        7 => FaultKind::Cut,
        8 | 9 => FaultKind::Forge { per_ten: one_of(rng, [5, 20, 60]) },
        10 | 11 => {
            FaultKind::DmLoss { requests: per_mille, replies: one_of(rng, [0, 100, 300, 600]) }
        }
        12 => FaultKind::BridgeDown,
        13 => FaultKind::Replay,
        14..=17 => FaultKind::CutAtOperation { operations: 1 + rng.below(90), clock: kept },
        18 => FaultKind::PowerOff { clock: kept },
        19 => FaultKind::Kill,
        20 => one_of(rng, [FaultKind::Terminate, FaultKind::Sleep]),
        21 => FaultKind::Suspend(one_of(rng, SuspendReason::ALL)),
        22 => {
            const STEPS: [i64; 8] = [-315_360_000, -86_400, -300, -5, 7, 240, 86_400, 315_360_000];
            FaultKind::ClockStep { seconds: one_of(rng, STEPS) }
        }
        23 => one_of(rng, [FaultKind::DiskFull, FaultKind::SlowDisk]),
        24 => draw_disk_error(rng),
        25 => match rng.below(3) {
            0 => FaultKind::InstallFails,
            _ => FaultKind::FlipBits { count: 1 + rng.below(20) },
        },
        _ => FaultKind::ServerDown,
    }
}

fn draw_disk_error(rng: &mut SeededRng) -> FaultKind {
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
    let call = one_of(rng, CALLS);
    let may_be_full = matches!(call, Call::Write | Call::Create);
    let how = if may_be_full && rng.below(2) == 0 { DiskFault::NoSpace } else { DiskFault::Io };
    FaultKind::DiskError { call, nth: 1 + rng.below(12), how }
}
