//! The connections of a server: places, shares, phases and their time limits.
//!
//! A connection is *proved* once its peer has: by a client certificate, or by a request that was
//! accepted. It is *idle* when the server has waited [`Limits::idle_after`] for the peer, whatever
//! for, and fewer than [`Limits::progress_octets`] went by meanwhile. Only idle connections, and such
//! as have no request in progress, are ever closed for another:
//!
//! * from three quarters of the unproved places on, the address with the most above its share loses
//!   its oldest idle one;
//! * with all places taken an idle one goes, of the address with the most of them; without an idle
//!   one, an address above its share loses one without a request to a peer below its own, or one
//!   whose body still arrives: whoever drips bodies would hold all places; else the peer is refused.
//!
//! Bodies of unproved connections have so many octets in all: the largest that still arrives is given
//! up for a further one.
//!
//! Proved connections and those of trusted proxies are not counted by address.

use std::{collections::BTreeMap, time::Duration};

use proto::{peer::PeerNetwork, time::Mono};

use crate::limits::Limits;

/// The number of a connection, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Origin of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A peer, counted by its address.
    Peer(PeerNetwork),
    /// A proxy, behind which many peers are.
    TrustedProxy,
}

/// Part of a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The TLS handshake.
    Handshake,
    /// The header of a request arrives.
    Header,
    /// The body of a request arrives.
    Body,
    /// The server handles a request.
    Handling,
    /// The peer receives a response.
    Response,
    /// The peer may send another request.
    KeepAlive,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 6] = [
        Self::Handshake,
        Self::Header,
        Self::Body,
        Self::Handling,
        Self::Response,
        Self::KeepAlive,
    ];

    /// Returns the name of its time limit in metrics; the server has none for itself.
    const fn timeout_name(self) -> Option<&'static str> {
        match self {
            Self::Handshake => Some("handshake-timeout"),
            Self::Header => Some("header-timeout"),
            Self::Body => Some("body-timeout"),
            Self::Handling => None,
            Self::Response => Some("response-timeout"),
            Self::KeepAlive => Some("keep-alive-timeout"),
        }
    }

    const fn has_request(self) -> bool {
        matches!(self, Self::Body | Self::Handling | Self::Response)
    }
}

/// Counters of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are open.
    pub open: usize,
    /// Those of them whose peer has not proved itself.
    pub unproved: usize,
    /// Connections that had a place.
    pub accepted: u64,
    /// Connections closed at once, as no place could be made free.
    pub refused: u64,
    /// Connections closed for another one.
    pub evicted: u64,
    /// Connections whose peer took too long, by phase.
    pub timed_out: BTreeMap<Phase, u64>,
    /// Failures to accept a connection, for example without a free file descriptor.
    pub accept_errors: u64,
}

impl Stats {
    /// Returns the counters of connections with the names of their outcomes in metrics.
    pub fn by_outcome(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = [
            ("accepted", self.accepted),
            ("refused", self.refused),
            ("evicted", self.evicted),
            ("accept-error", self.accept_errors),
        ];
        let of = |phase| self.timed_out.get(&phase).copied().unwrap_or(0);
        let waits = Phase::ALL
            .into_iter()
            .filter_map(move |phase| phase.timeout_name().map(|name| (name, of(phase))));
        counters.into_iter().chain(waits)
    }
}

/// Outcome of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<T> {
    /// It has a place, which `evicted` has left.
    Admitted {
        /// Its number.
        id: ConnectionId,
        /// The handle of the connection to be closed for it.
        evicted: Option<T>,
    },
    /// No place could be made free.
    Refused,
}

/// The connections of a server, each with a handle by which it is closed.
#[derive(Debug)]
pub struct ConnectionTable<T> {
    limits: Limits,
    connections: BTreeMap<ConnectionId, Connection<T>>,
    /// Unproved connections by address.
    counts: BTreeMap<PeerNetwork, usize>,
    /// Octets of bodies of unproved connections.
    body_octets: usize,
    next: u64,
    stats: Stats,
}

#[derive(Debug)]
struct Connection<T> {
    handle: T,
    standing: Standing,
    phase: Phase,
    /// Begin of the phase.
    since: Mono,
    /// Begin of the phase, or the last progress in it.
    active: Mono,
    /// Octets since the moment beside.
    moved: (Mono, usize),
    /// Octets of a body that is not handled yet, while the peer has not proved itself.
    body: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unproved(Origin),
    Proved,
}

impl<T> Connection<T> {
    fn is_idle(&self, now: Mono, limits: &Limits) -> bool {
        self.phase != Phase::Handling && now.since(self.active) >= limits.idle_after
    }

    const fn is_unproved(&self) -> bool {
        matches!(self.standing, Standing::Unproved(_))
    }

    const fn network(&self) -> Option<PeerNetwork> {
        match self.standing {
            Standing::Unproved(Origin::Peer(network)) => Some(network),
            Standing::Unproved(Origin::TrustedProxy) | Standing::Proved => None,
        }
    }

    fn is_overdue(&self, now: Mono, limits: &Limits) -> bool {
        let (since, limit) = match self.phase {
            Phase::Handshake => (self.since, limits.handshake),
            Phase::Header => (self.since, limits.header),
            Phase::Response => (self.active, limits.response),
            // The end of the response may still be on its way.
            Phase::KeepAlive => (self.active, limits.keep_alive),
            // The body ends with an error, which its request is answered with.
            Phase::Body | Phase::Handling => return false,
        };
        now.since(since) >= limit
    }
}

impl<T> ConnectionTable<T> {
    /// Returns an empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: BTreeMap::new(),
            counts: BTreeMap::new(),
            body_octets: 0,
            next: 0,
            stats: Stats::default(),
        }
    }

    /// Gives a place to a connection that begins with `phase`.
    // spec: security 7.2 (places of connections)
    pub fn admit(&mut self, now: Mono, origin: Origin, phase: Phase, handle: T) -> Admission<T> {
        let is_full = self.stats.unproved >= self.limits.unproved
            || self.connections.len() >= self.limits.all;
        let victim = if is_full {
            let Some(victim) = self.idle(now).or_else(|| self.excess(origin)) else {
                self.stats.refused += 1;
                return Admission::Refused;
            };
            Some(victim)
        } else if self.stats.unproved >= self.limits.crowded() {
            self.idle_above_share(now, origin)
        } else {
            None
        };
        let evicted = victim.and_then(|victim| self.evict(victim));
        let id = ConnectionId(self.next);
        self.next += 1;
        self.stats.accepted += 1;
        self.stats.unproved += 1;
        if let Origin::Peer(network) = origin {
            *self.counts.entry(network).or_default() += 1;
        }
        let standing = Standing::Unproved(origin);
        let connection = Connection {
            handle,
            standing,
            phase,
            since: now,
            active: now,
            moved: (now, 0),
            body: 0,
        };
        self.connections.insert(id, connection);
        Admission::Admitted { id, evicted }
    }

    /// Records that a connection enters a phase.
    pub fn enter(&mut self, now: Mono, id: ConnectionId, phase: Phase) {
        if let Some(connection) = self.connections.get_mut(&id) {
            (connection.phase, connection.since) = (phase, now);
            (connection.active, connection.moved) = (now, (now, 0));
            if phase != Phase::Handling {
                self.body_octets -= std::mem::take(&mut connection.body);
            }
        }
    }

    /// Records that all of a body has arrived, or that the server needs no more of it.
    pub fn body_ended(&mut self, now: Mono, id: ConnectionId) {
        if self.phase(id) == Some(Phase::Body) {
            self.enter(now, id, Phase::Handling);
        }
    }

    /// Records octets that were received or sent; returns the handle of the connection to be closed
    /// where there are too many of bodies.
    // spec: security 7.2 (places of connections)
    pub fn moved(
        &mut self,
        now: Mono,
        id: ConnectionId,
        direction: Direction,
        octets: usize,
    ) -> Option<T> {
        let limits = self.limits;
        if direction == Direction::Received && self.phase(id) == Some(Phase::KeepAlive) {
            self.enter(now, id, Phase::Header);
        }
        let connection = self.connections.get_mut(&id)?;
        let (begun, before) = connection.moved;
        let is_over = now.since(begun) >= limits.idle_after;
        let (begun, before) = if is_over { (now, 0) } else { (begun, before) };
        connection.moved = (begun, before.saturating_add(octets));
        if connection.moved.1 >= limits.progress_octets {
            connection.active = now;
        }
        if direction == Direction::Received
            && connection.phase == Phase::Body
            && connection.is_unproved()
        {
            connection.body += octets;
            self.body_octets += octets;
        }
        if self.body_octets <= limits.body_octets {
            return None;
        }
        let arriving = self.connections.iter().filter(|(_, it)| it.phase == Phase::Body);
        let largest = arriving.max_by_key(|(_, it)| it.body).map(|(id, _)| *id)?;
        self.evict(largest)
    }

    /// Records that the peer of a connection has proved itself.
    pub fn prove(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Standing::Unproved(origin) = connection.standing {
            connection.standing = Standing::Proved;
            self.body_octets -= std::mem::take(&mut connection.body);
            self.forget(origin);
        }
    }

    /// Removes a connection that has ended.
    pub fn remove(&mut self, id: ConnectionId) {
        drop(self.take(id));
    }

    /// Removes the connections whose peer takes too long, and returns their handles.
    // spec: security 7.2 (waits for a peer)
    pub fn handle_timeout(&mut self, now: Mono) -> Vec<T> {
        let limits = self.limits;
        let is_overdue = |connection: &Connection<T>| connection.is_overdue(now, &limits);
        let overdue = self.connections.iter().filter(|(_, connection)| is_overdue(connection));
        let overdue: Vec<_> = overdue.map(|(id, connection)| (*id, connection.phase)).collect();
        for (_, phase) in &overdue {
            self.count_timeout(*phase);
        }
        overdue.into_iter().filter_map(|(id, _)| self.take(id)).collect()
    }

    /// Counts a peer that took too long in a phase.
    pub fn count_timeout(&mut self, phase: Phase) {
        *self.stats.timed_out.entry(phase).or_default() += 1;
    }

    /// Counts a failure to accept, and removes an idle connection for the next one to come.
    pub fn handle_accept_error(&mut self, now: Mono) -> Option<T> {
        self.stats.accept_errors += 1;
        self.idle(now).and_then(|victim| self.evict(victim))
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { open: self.connections.len(), ..self.stats.clone() }
    }

    /// Returns the shortest time in which a connection may become overdue.
    #[must_use]
    pub fn shortest_limit(&self) -> Duration {
        let Limits { handshake, header, response, keep_alive, .. } = self.limits;
        handshake.min(header).min(response).min(keep_alive)
    }

    fn phase(&self, id: ConnectionId) -> Option<Phase> {
        self.connections.get(&id).map(|connection| connection.phase)
    }

    fn evict(&mut self, id: ConnectionId) -> Option<T> {
        self.stats.evicted += 1;
        self.take(id)
    }

    fn take(&mut self, id: ConnectionId) -> Option<T> {
        let connection = self.connections.remove(&id)?;
        self.body_octets -= connection.body;
        if let Standing::Unproved(origin) = connection.standing {
            self.forget(origin);
        }
        Some(connection.handle)
    }

    /// Takes a connection out of the numbers of unproved ones.
    fn forget(&mut self, origin: Origin) {
        self.stats.unproved -= 1;
        let Origin::Peer(network) = origin else { return };
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
    }

    /// Returns the number of unproved connections of an address.
    fn count(&self, network: Option<PeerNetwork>) -> usize {
        network.and_then(|network| self.counts.get(&network)).copied().unwrap_or(0)
    }

    /// Returns the share of an address while `origin` has one too.
    fn share(&self, origin: Origin) -> usize {
        let is_known = match origin {
            Origin::Peer(network) => self.counts.contains_key(&network),
            Origin::TrustedProxy => true,
        };
        let addresses = self.counts.len() + usize::from(!is_known);
        (self.limits.unproved / addresses.max(1)).max(1)
    }

    /// Returns the oldest connection of the address with the most, of those that fit.
    fn oldest(&self, fits: impl Fn(&Connection<T>) -> bool) -> Option<ConnectionId> {
        let fitting = self.connections.iter().filter(|(_, connection)| fits(connection));
        let first = fitting.min_by_key(|(id, connection)| {
            let most = std::cmp::Reverse(self.count(connection.network()));
            (most, connection.active, **id)
        });
        first.map(|(id, _)| *id)
    }

    fn idle(&self, now: Mono) -> Option<ConnectionId> {
        let unproved_only = self.stats.unproved >= self.limits.unproved;
        let is_idle = |connection: &Connection<T>| connection.is_idle(now, &self.limits);
        let unproved = self.oldest(|connection| connection.is_unproved() && is_idle(connection));
        if unproved_only { unproved } else { unproved.or_else(|| self.oldest(is_idle)) }
    }

    fn idle_above_share(&self, now: Mono, origin: Origin) -> Option<ConnectionId> {
        let share = self.share(origin);
        self.oldest(|connection| {
            let is_idle = connection.is_idle(now, &self.limits);
            is_idle && self.count(connection.network()) > share
        })
    }

    /// Returns a connection of an address above its share, for a peer below its own: one without a
    /// request in progress, or one whose body still arrives.
    fn excess(&self, origin: Origin) -> Option<ConnectionId> {
        let share = self.share(origin);
        let own = match origin {
            Origin::Peer(network) => self.count(Some(network)),
            Origin::TrustedProxy => 0,
        };
        if own >= share {
            return None;
        }
        let above_share = |fits: fn(Phase) -> bool| {
            self.oldest(|connection| {
                fits(connection.phase) && self.count(connection.network()) > share
            })
        };
        above_share(|phase| !phase.has_request())
            .or_else(|| above_share(|phase| phase == Phase::Body))
    }
}

/// Direction of octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

#[cfg(test)]
mod tests;
