//! Faults of a world, and their times. Every fault can be left out by its number, so that a
//! failing world shrinks to the faults that matter.

use std::fmt;

use proto::time::Utc;
use receiver::suspension::SuspendReason;

use super::{
    disk::{Call, Fault as DiskFault},
    package::{BEGIN, Follows},
};

/// A moment of the world.
///
/// # Units
///
/// Milliseconds since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct At(pub u64);

impl At {
    /// Returns the wall clock of the servers at this moment.
    pub const fn utc(self) -> Utc {
        Utc(BEGIN.0 + self.0)
    }
}

/// A span of the world's time; `to` is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: At,
    /// The first moment after it.
    pub to: At,
}

impl Span {
    /// Returns whether a moment lies inside.
    pub fn holds(self, at: At) -> bool {
        self.from <= at && at < self.to
    }
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The device, or the image server.
    pub whose: usize,
    /// Its span.
    pub span: Span,
    /// Kind.
    pub kind: FaultKind,
}

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Datagrams are lost, each for itself.
    Loss {
        /// Of a thousand.
        per_mille: u64,
    },
    /// Datagrams are lost in bursts: a link with a good and a bad state.
    Bursts {
        /// Of a thousand datagrams in the good state, those that enter the bad one.
        enter: u64,
        /// Of a thousand datagrams in the bad state, those that leave it.
        leave: u64,
    },
    /// Datagrams overtake one another.
    Reorder {
        /// Of a thousand.
        per_mille: u64,
    },
    /// Datagrams come twice.
    Duplicate {
        /// Of a thousand.
        per_mille: u64,
    },
    /// Bits of datagrams flip.
    Corrupt {
        /// Of a thousand.
        per_mille: u64,
    },
    /// Nothing comes through.
    Cut,
    /// Somebody sends forged packets on the channel.
    Forge {
        /// Forged ones for ten true ones.
        per_ten: u64,
    },
    /// DM messages and their answers are lost.
    DmLoss {
        /// Of a thousand messages.
        requests: u64,
        /// Of a thousand answers.
        replies: u64,
    },
    /// The management server does not answer and loses its sessions.
    BridgeDown,
    /// Messages that were recorded come again.
    Replay,
    /// The power goes at an operation of the storage.
    CutAtOperation {
        /// Counted from the beginning of the span.
        operations: u64,
        /// The wall clock after it, until the end of the span.
        clock: ClockSurvival,
    },
    /// The power goes at the beginning of the span and comes back at its end.
    PowerOff {
        /// The wall clock after it.
        clock: ClockSurvival,
    },
    /// The process is killed, and started at the end of the span.
    Kill,
    /// The process is terminated, and started at the end of the span.
    Terminate,
    /// The machine sleeps.
    Sleep,
    /// A suspend reason holds.
    Suspend(SuspendReason),
    /// The wall clock is wrong by so many seconds.
    ClockStep {
        /// Ahead when positive.
        seconds: i64,
    },
    /// The disk has no room.
    DiskFull,
    /// A call fails.
    DiskError {
        /// The kind of call.
        call: Call,
        /// Its number from the beginning of the span.
        nth: u64,
        /// Failure.
        how: DiskFault,
    },
    /// Bits flip in what is stored of the object.
    FlipBits {
        /// Number of bits.
        count: u64,
    },
    /// The storage takes long.
    SlowDisk,
    /// The installer fails.
    InstallFails,
    /// The image server ends and is started again.
    ServerDown,
    /// The image server ends and is started again without its sessions.
    SessionsLost,
    /// Calls to the image server are not answered.
    ServerHangs(Effect),
    /// Calls that open a session are not answered, and have their effect when the fault ends.
    OpensHang,
    /// The gateway does not answer for a notification.
    GatewayHangs(Effect),
    /// The installer does not end before it is killed.
    InstallHangs(Effect),
    /// The installer does not tell the version before it is killed.
    VersionHangs,
    /// Answers in the management server's name are replaced.
    Lies {
        /// Of a thousand answers.
        per_mille: u64,
    },
    /// The operator brings the image by another campaign, which supersedes the one before.
    Supersede(Follows),
    /// The operator stops the campaign: each device is disarmed in its next session.
    Disarm,
}

/// Effect of a call that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It has it at once.
    AtOnce,
    /// It has it when the fault ends, whatever came after the call.
    Later,
    /// It has none.
    Never,
}

impl Effect {
    /// All effects.
    pub const ALL: [Self; 3] = [Self::AtOnce, Self::Later, Self::Never];
}

/// State of a clock after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockSurvival {
    /// It does.
    Kept,
    /// It begins in 1970, until it is set.
    Lost,
}

impl FaultKind {
    /// Returns whether the storage itself is at fault: then symbols may be lost.
    pub const fn damages(self) -> bool {
        matches!(self, Self::FlipBits { .. })
    }

    /// Returns whether the storage may refuse calls: then the device logs errors.
    pub const fn hinders_storage(self) -> bool {
        matches!(self, Self::FlipBits { .. } | Self::DiskFull | Self::DiskError { .. })
    }

    /// Returns whether worlds had it only after the first bugs were found: those are repeated
    /// without.
    pub const fn came_later(self) -> bool {
        self.is_by_the_operator() || matches!(self, Self::Lies { .. })
    }

    /// Returns whether it is the operator who does it.
    pub const fn is_by_the_operator(self) -> bool {
        matches!(self, Self::Supersede(_) | Self::Disarm)
    }

    /// Returns whether `whose` is an image server.
    pub const fn is_of_a_server(self) -> bool {
        matches!(
            self,
            Self::ServerDown | Self::SessionsLost | Self::ServerHangs(_) | Self::OpensHang
        )
    }
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind.is_of_a_server() { "server" } else { "device" };
        let Span { from, to } = self.span;
        if self.kind.is_by_the_operator() {
            return write!(formatter, "the operator at {from}: {:?}", self.kind);
        }
        write!(formatter, "{kind} {} from {from} to {to}: {:?}", self.whose, self.kind)
    }
}
