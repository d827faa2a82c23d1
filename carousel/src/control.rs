//! Operations of the control API, and which session is on air when.
//!
//! The management server prepares, opens and stops; from then on the windows are kept here, with or
//! without it. Every operation may be repeated. What was ordered is kept before it is answered.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proto::{
    control::{
        AirPhase, AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusReply, StatusRequest,
        StopRequest,
    },
    ids::{CampaignId, Tsi},
    time::{Mono, Now, Utc},
    trust::Campaign,
    tune_in::Window,
};
use thiserror::Error;

use crate::{
    pacing::Rate,
    place::{Kept, KeptSession, Order, Place},
    session::Sent,
    window::{Position, position},
};

/// How often the place of a session on air is kept.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How long after a failure a session is put on air again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Sessions at most.
pub const MAX_SESSIONS: usize = 256;

/// Why an operation was refused; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A field does not hold what it should.
    #[error("{0}")]
    Malformed(String),
    /// There is no such campaign or session.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what was ordered before.
    #[error("{0}")]
    Conflict(String),
    /// The signed campaign does not allow it.
    #[error("{0}")]
    Policy(String),
}

/// What an image server gives to sessions that are not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The address that packets come from.
    pub source: IpAddr,
    /// How fast.
    pub rate: Rate,
}

/// A campaign whose package lies at the image server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The campaign, verified by the shell.
    pub campaign: Campaign,
    /// Data symbols of one pass.
    pub plan_symbols: u64,
    /// UDP payload octets of one pass.
    pub pass_octets: u64,
}

/// What a session on air reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Where to go on after a restart.
    pub place: Place,
    /// Index of the next data symbol.
    pub symbol_place: u64,
    /// What was sent since it was put on air.
    pub sent: Sent,
}

/// How to put a session on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Its identifier.
    pub tsi: Tsi,
    /// Group and port.
    pub channel: SocketAddr,
    /// How fast.
    pub rate: Rate,
    /// Where it begins.
    pub place: Place,
}

/// What the shell must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Keep this before anything else happens.
    Keep(Kept),
    /// Put a session on air; answered by `handle_progress` and `handle_ended`.
    Start(CampaignId, Start),
    /// Take a session off the air; answered by `handle_ended`.
    Stop(CampaignId),
    /// Nothing to do before this moment of the wall clock.
    Wait(Utc),
    /// Nothing to do until the next input.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Air {
    Off { not_before: Mono },
    On,
    Stopping,
}

#[derive(Debug)]
struct Entry {
    offer: Offer,
    tsi: Tsi,
    session: KeptSession,
    place: Place,
    symbol_place: u64,
    air: Air,
    kept_at: Mono,
    earlier: Sent,
    current: Sent,
}

/// All sessions of an image server.
#[derive(Debug)]
pub struct Control {
    defaults: Defaults,
    entries: BTreeMap<CampaignId, Entry>,
    outputs: VecDeque<Output>,
}

impl Control {
    /// Starts without a session.
    #[must_use]
    pub const fn new(defaults: Defaults) -> Self {
        Self { defaults, entries: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// Takes up a session of an earlier life.
    pub fn restore(&mut self, offer: Offer, kept: Kept) {
        let Some(session) = kept.session else { return };
        let entry = Entry::new(offer, kept.tsi, session, kept.place);
        self.entries.insert(kept.campaign, entry);
    }

    /// Names group, port and window; the same campaign keeps its TSI.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn prepare(
        &mut self,
        now: Now,
        request: &PrepareRequest,
        offer: Offer,
        fresh_tsi: Tsi,
        earlier: Option<Kept>,
    ) -> Result<PrepareReply, Refusal> {
        let id = campaign_id(&request.campaign_id)?;
        if offer.campaign.id != id {
            return Err(Refusal::Policy("campaign_id is not that of the package".into()));
        }
        let channel = channel(&request.group, request.port)?;
        let window = checked_window(now, &offer.campaign, request.opens_utc, request.closes_utc)?;
        if !offer.campaign.admits_source(self.defaults.source) {
            let source = self.defaults.source;
            return Err(Refusal::Policy(format!("source {source} is not among the campaign's")));
        }
        let bits_per_second = match request.bits_per_second {
            0 => None,
            bits => Some(checked_rate(bits)?.bits_per_second()),
        };
        if self.entries.len() >= MAX_SESSIONS && !self.entries.contains_key(&id) {
            return Err(Refusal::Conflict(format!("{MAX_SESSIONS} sessions are the most")));
        }
        let Window { opens, closes } = window;
        let order = Order::Prepared;
        let session = KeptSession { channel, opens, closes, bits_per_second, order };
        let entry = self.entries.entry(id).or_insert_with(|| {
            let kept = earlier.map(|kept| (kept.tsi, kept.place));
            let (tsi, place) = kept.unwrap_or((fresh_tsi, Place::START));
            Entry::new(offer.clone(), tsi, session, place)
        });
        entry.prepare_again(now, offer, session)?;
        let reply = PrepareReply {
            source: self.defaults.source.to_string(),
            tsi: u32::try_from(entry.tsi.0).unwrap_or(u32::MAX),
            group: channel.ip().to_string(),
            port: channel.port().into(),
            plan_symbols: entry.offer.plan_symbols,
            bytes_per_pass: entry.offer.pass_octets,
        };
        self.outputs.push_back(Output::Keep(entry.kept(id)));
        Ok(reply)
    }

    /// Puts a session on air from opens to closes.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn open(&mut self, now: Now, request: &OpenRequest) -> Result<AirStatus, Refusal> {
        let (id, entry) = self.entry(&request.campaign_id, request.tsi)?;
        let (opens, closes) = (request.opens_utc, request.closes_utc);
        let window = checked_window(now, &entry.offer.campaign, opens, closes)?;
        entry.session.opens = window.opens;
        entry.session.closes = window.closes;
        entry.session.order = Order::Opened;
        let (keep, status) = (entry.kept(id), entry.status(now, id));
        self.outputs.push_back(Output::Keep(keep));
        Ok(status)
    }

    /// Takes a session off the air; its place is kept.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn stop(&mut self, now: Now, request: &StopRequest) -> Result<AirStatus, Refusal> {
        let (id, entry) = self.entry(&request.campaign_id, request.tsi)?;
        entry.session.order = Order::Stopped;
        let (keep, status) = (entry.kept(id), entry.status(now, id));
        self.outputs.push_back(Output::Keep(keep));
        Ok(status)
    }

    /// Returns the state of one session, or of all.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when the one does not exist.
    pub fn status(&self, now: Now, request: &StatusRequest) -> Result<StatusReply, Refusal> {
        if request.campaign_id.is_empty() {
            let sessions = self.entries.iter().map(|(id, entry)| entry.status(now, *id)).collect();
            return Ok(StatusReply { sessions });
        }
        let id = campaign_id(&request.campaign_id)?;
        let entry = self.entries.get(&id).ok_or_else(|| no_session(id))?;
        Ok(StatusReply { sessions: vec![entry.status(now, id)] })
    }

    /// Takes what a session on air reports.
    pub fn handle_progress(&mut self, now: Now, id: CampaignId, live: Live) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.current = live.sent;
        entry.symbol_place = live.symbol_place;
        let moved = entry.place != live.place;
        entry.place = live.place;
        if moved && now.mono.since(entry.kept_at) >= KEEP_EVERY {
            entry.kept_at = now.mono;
            self.outputs.push_back(Output::Keep(entry.kept(id)));
        }
    }

    /// Takes note that a session has left the air, asked to or not.
    pub fn handle_ended(&mut self, now: Now, id: CampaignId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let asked = entry.air == Air::Stopping;
        let pause = if asked { Duration::ZERO } else { RETRY_AFTER };
        entry.air = Air::Off { not_before: now.mono + pause };
        entry.earlier.packets += entry.current.packets;
        entry.earlier.octets += entry.current.octets;
        entry.earlier.symbols += entry.current.symbols;
        entry.current = Sent::default();
        self.outputs.push_back(Output::Keep(entry.kept(id)));
    }

    /// Returns what to do next.
    pub fn poll_output(&mut self, now: Now) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let rate = self.defaults.rate;
        for (id, entry) in &mut self.entries {
            if let Some(output) = entry.act(now, *id, rate) {
                return output;
            }
        }
        let next = self.entries.values().filter_map(|entry| entry.next_change(now)).min();
        next.map_or(Output::Idle, Output::Wait)
    }

    fn entry(&mut self, id: &[u8], tsi: u32) -> Result<(CampaignId, &mut Entry), Refusal> {
        let id = campaign_id(id)?;
        let entry = self.entries.get_mut(&id).ok_or_else(|| no_session(id))?;
        if entry.tsi.0 != u64::from(tsi) {
            let known = entry.tsi.0;
            return Err(Refusal::Conflict(format!("tsi is {tsi}, prepared was {known}")));
        }
        Ok((id, entry))
    }
}

impl Entry {
    fn new(offer: Offer, tsi: Tsi, session: KeptSession, place: Place) -> Self {
        Self {
            offer,
            tsi,
            session,
            place,
            symbol_place: 0,
            air: Air::Off { not_before: Mono(0) },
            kept_at: Mono(0),
            earlier: Sent::default(),
            current: Sent::default(),
        }
    }

    fn window(&self) -> Window {
        Window { opens: self.session.opens, closes: self.session.closes }
    }

    /// Moves window and channel of a session that may be open already.
    fn prepare_again(
        &mut self,
        now: Now,
        offer: Offer,
        wanted: KeptSession,
    ) -> Result<(), Refusal> {
        let is_off = matches!(self.air, Air::Off { .. });
        if !is_off && self.session.channel != wanted.channel {
            let channel = self.session.channel;
            return Err(Refusal::Conflict(format!("group and port: on air at {channel}")));
        }
        let passed = position(now.utc, self.window()) == Position::Passed;
        let order = match self.session.order {
            // An open window moves and stays open; one that has passed is prepared anew.
            Order::Opened if !passed => Order::Opened,
            Order::Opened | Order::Prepared | Order::Stopped => Order::Prepared,
        };
        self.session = KeptSession { order, ..wanted };
        self.offer = offer;
        Ok(())
    }

    fn kept(&self, campaign: CampaignId) -> Kept {
        let place = match self.air {
            Air::Off { .. } => self.place,
            Air::On | Air::Stopping => self.place.with_reserve(),
        };
        let session = Some(self.session);
        Kept { version: Kept::VERSION, campaign, tsi: self.tsi, place, session }
    }

    fn is_wanted(&self, now: Now) -> bool {
        self.session.order == Order::Opened && position(now.utc, self.window()) == Position::Open
    }

    fn act(&mut self, now: Now, id: CampaignId, default: Rate) -> Option<Output> {
        let wanted = self.is_wanted(now);
        match self.air {
            Air::Off { not_before } if wanted && now.mono >= not_before => {
                self.air = Air::On;
                self.kept_at = now.mono;
                let rate = self.session.bits_per_second.and_then(Rate::new).unwrap_or(default);
                let (tsi, channel, place) = (self.tsi, self.session.channel, self.place);
                Some(Output::Start(id, Start { tsi, channel, rate, place }))
            }
            Air::On if !wanted => {
                self.air = Air::Stopping;
                Some(Output::Stop(id))
            }
            Air::Off { .. } | Air::On | Air::Stopping => None,
        }
    }

    /// Returns the next moment at which the window itself asks for something.
    fn next_change(&self, now: Now) -> Option<Utc> {
        if self.session.order != Order::Opened {
            return None;
        }
        match position(now.utc, self.window()) {
            Position::Ahead => Some(self.session.opens),
            Position::Open => match self.air {
                Air::Off { not_before } => Some(now.utc + not_before.since(now.mono)),
                Air::On | Air::Stopping => Some(self.session.closes),
            },
            Position::Passed => None,
        }
    }

    fn status(&self, now: Now, id: CampaignId) -> AirStatus {
        let phase = match (self.session.order, self.air) {
            (_, Air::On) => AirPhase::OnAir,
            (Order::Prepared, _) => AirPhase::Prepared,
            (Order::Stopped, _) => AirPhase::Stopped,
            (Order::Opened, _) => match position(now.utc, self.window()) {
                Position::Ahead | Position::Open => AirPhase::Waiting,
                Position::Passed => AirPhase::Closed,
            },
        };
        AirStatus {
            campaign_id: id.0.to_vec(),
            tsi: u32::try_from(self.tsi.0).unwrap_or(u32::MAX),
            phase: phase.into(),
            place: self.symbol_place,
            passes: self.place.passes,
            packets_sent: self.earlier.packets + self.current.packets,
            bytes_sent: self.earlier.octets + self.current.octets,
        }
    }
}

fn no_session(id: CampaignId) -> Refusal {
    Refusal::NotFound(format!("campaign_id {id}: no session is prepared"))
}

/// Reads a campaign id.
///
/// # Errors
///
/// [`Refusal::Malformed`] for another length than 16 octets.
pub fn campaign_id(octets: &[u8]) -> Result<CampaignId, Refusal> {
    let wrong = |_| Refusal::Malformed(format!("campaign_id has {} octets, not 16", octets.len()));
    octets.try_into().map(CampaignId).map_err(wrong)
}

fn channel(group: &str, port: u32) -> Result<SocketAddr, Refusal> {
    let address: IpAddr =
        group.parse().map_err(|_| Refusal::Malformed(format!("group {group:?} is no address")))?;
    if !address.is_multicast() {
        return Err(Refusal::Malformed(format!("group {address} is no multicast address")));
    }
    if address.is_ipv6() {
        return Err(Refusal::Malformed(format!("group {address}: IPv6 is not supported")));
    }
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Refusal::Malformed("port is not 1 to 65535".into()))?;
    Ok(SocketAddr::new(address, port))
}

fn checked_rate(bits: u64) -> Result<Rate, Refusal> {
    let wrong =
        || Refusal::Malformed(format!("bits_per_second is {bits}, not 64000 to 1000000000"));
    Rate::new(bits).ok_or_else(wrong)
}

fn checked_window(
    now: Now,
    campaign: &Campaign,
    opens: u64,
    closes: u64,
) -> Result<Window, Refusal> {
    let window = Window { opens: Utc::from_seconds(opens), closes: Utc::from_seconds(closes) };
    if position(now.utc, window) == Position::Passed {
        return Err(Refusal::Policy(format!("closes_utc {closes} lies in the past")));
    }
    campaign
        .check_window(window.opens, window.closes)
        .map_err(|error| Refusal::Policy(format!("window: {error}")))?;
    Ok(window)
}

#[cfg(test)]
mod tests;
