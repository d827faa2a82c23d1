//! The simulation of a world: one queue of events, and the invariants after each.

use super::{
    attacker::Attacker,
    bridge::Bridge,
    device::{Context, Device},
    fault::{At, Effect, Fault, FaultKind, Span},
    gateway::{Gateway, Progress},
    image_server::{ImageServer, Timers},
    injected_bugs::InjectedBug,
    net::Link,
    package::Follows,
    queue::{Datagram, DeviceEvent, Event, Message, OperatorAction, Queue},
    reconciler::Reconciled,
    scenario::Scenario,
    trace::{Recording, Trace},
};
use crate::lab::rng::SeededRng;
use dm_bridge::fleet::attempt::ArmingPhase;
use proto::ids::CampaignId;
use receiver::dm::client::TransportError;

/// Outcome of a world.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Invariants that did not hold; empty when all did.
    pub breaches: Vec<String>,
    /// Time of its end.
    pub at: At,
    /// Digest of all that happened.
    pub digest: proto::crypto::Digest,
    /// The lines of the trace, if they were kept.
    pub lines: Vec<String>,
    /// Events.
    pub events: u64,
    /// Moments at which a device did something but receive a datagram, each once.
    pub device_steps: Vec<At>,
}

/// The simulation of a world.
struct Simulation {
    at: At,
    queue: Queue,
    scenario: Scenario,
    devices: Vec<Device>,
    links: Vec<Link>,
    attackers: Vec<Option<Attacker>>,
    bridge: Bridge,
    bridge_down: u32,
    image_servers: Vec<ImageServer>,
    gateway: Option<Gateway>,
    trace: Trace,
    rng: SeededRng,
    breaches: Vec<String>,
    /// Windows that were opened after all had calmed down.
    last_chances: u32,
    /// Time from which the management server runs.
    bridge_up_from: At,
    /// Moments of the steps of devices, each once.
    device_steps: Vec<At>,
}

/// Wait for a message or an answer that is lost.
const PATIENCE: u64 = 30_000;
/// Time within which a session that is lost is opened again: the longest time between two looks, and
/// a call without an answer.
const LOOKED_AT_WITHIN: u64 = 86_000;
/// More events than any world has.
const MOST_EVENTS: u64 = 3_000_000;
/// From the command for each window after the calm to its opening: a device that backs off waits an
/// hour at most.
const LAST_AHEAD: [u64; 3] = [400_000, 4_500_000, 4_500_000];
const LAST_LENGTH: u64 = 40_000;
/// From the end of such a window until all must be reported.
const LAST_PATIENCE: u64 = 4_600_000;

/// Runs a world to its end.
pub fn run(scenario: Scenario, keep: Recording, bug: Option<InjectedBug>) -> Outcome {
    super::trace::capture_logs(|| match Simulation::new(scenario, keep, bug) {
        Ok(world) => world.run(),
        Err(error) => Outcome {
            breaches: vec![format!("the world does not begin: {error:#}")],
            at: At(0),
            digest: proto::crypto::sha256(&[]),
            lines: Vec::new(),
            events: 0,
            device_steps: Vec::new(),
        },
    })
}

impl Simulation {
    fn new(scenario: Scenario, keep: Recording, bug: Option<InjectedBug>) -> anyhow::Result<Self> {
        let (seed, package) = (scenario.seed, scenario.package);
        let devices: Vec<_> = (0..)
            .zip(&scenario.devices)
            .map(|(number, setup)| Device::new(seed, number, *setup, package, bug))
            .collect();
        let bridge = Bridge::new(seed, scenario.bridge, package, &devices, bug)?;
        let link = |number| Link::new(seed, number, &scenario.faults);
        let attacker = |(number, fault): (u64, &Fault)| {
            let FaultKind::Forge { per_ten } = fault.kind else { return None };
            Some(Attacker::new(seed ^ number, package, per_ten))
        };
        let mut world = Self {
            at: At(0),
            queue: Queue::default(),
            links: (0..devices.len()).map(link).collect(),
            attackers: (0..).zip(&scenario.faults).map(attacker).collect(),
            devices,
            bridge,
            bridge_down: 0,
            image_servers: (0..scenario.servers)
                .map(|number| ImageServer::new(number, package, bug))
                .collect(),
            gateway: scenario.notifications.map(|times| Gateway::new(seed, times)),
            device_steps: Vec::new(),
            trace: Trace::new(keep),
            rng: SeededRng::new(seed, "world"),
            breaches: Vec::new(),
            last_chances: 0,
            bridge_up_from: At(0),
            scenario,
        };
        world.schedule();
        Ok(world)
    }

    fn schedule(&mut self) {
        for number in 0..self.devices.len() {
            let at = At(self.rng.below(5_000));
            self.queue.at(at, Event::Start(number));
        }
        for (number, fault) in self.scenario.faults.iter().enumerate() {
            self.queue.at(fault.span.from, Event::Begin(number));
            self.queue.at(fault.span.to, Event::End(number));
        }
        for window in &self.scenario.windows {
            let ahead = window.opens.0 - window.ordered.0;
            let length = window.closes.0 - window.opens.0;
            self.queue
                .at(window.ordered, Event::Operator(OperatorAction::OpenWindow { ahead, length }));
        }
        self.queue.at(self.scenario.calm, Event::Operator(OperatorAction::CheckEnd));
    }

    fn run(mut self) -> Outcome {
        let mut events = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.at = at;
            events += 1;
            let whose = whose(&event);
            let ended = self.handle(event);
            self.check(whose);
            if events > MOST_EVENTS {
                self.breaches.push("there is no end to it".to_owned());
            }
            if ended || !self.breaches.is_empty() {
                break;
            }
        }
        for breach in &self.breaches {
            self.trace.note(self.at, format_args!("BREACH: {breach}"));
        }
        Outcome {
            breaches: self.breaches,
            at: self.at,
            digest: self.trace.digest(),
            lines: self.trace.lines().to_vec(),
            events,
            device_steps: self.device_steps,
        }
    }

    /// Checks the invariants after every event.
    fn check(&mut self, whose: Option<usize>) {
        let hindered =
            whose.and_then(|number| self.devices.get(number)).is_some_and(|device| device.hindered);
        let errors = self.trace.take_errors(self.at);
        if !hindered {
            self.breaches.extend(errors.into_iter().map(|text| format!("logged as error: {text}")));
        }
        if let Some(device) = whose.and_then(|number| self.devices.get_mut(number)) {
            self.breaches.extend(device.machine.model.take_breaches());
            let attempts = self.bridge.attempts(&Device::id(device.machine.number)).len() as u64;
            if device.machine.model.installs > attempts {
                let installs = device.machine.model.installs;
                let text = format!("{installs} hand-offs in {attempts} attempts");
                self.breaches.push(text);
            }
        }
        self.breaches.extend(self.bridge.take_breaches());
        for server in &mut self.image_servers {
            self.breaches.extend(server.take_breaches());
        }
    }

    /// Returns whether the world ends with this event.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Start(number) => self.with_device(number, Device::start),
            Event::Reboot(number) => self.with_device(number, Device::reboot),
            Event::Device(number, life, event) => self.device_event(number, life, event),
            Event::Begin(number) => self.fault(number, true),
            Event::End(number) => self.fault(number, false),
            Event::Request(number, life, message) => self.request(number, life, &message),
            Event::ImageServer(number, life) => self.poll(number, life),
            Event::Transmit(number, life, id) => self.transmit(number, life, id),
            Event::Reconcile => self.reconcile(),
            Event::CheckSessions(number) => self.check_sessions(number),
            Event::CallTimeout(life, step) => {
                self.bridge.give_up(self.at, life, step);
                self.reconcile();
            }
            Event::Notify(number) => self.notify(number),
            Event::Operator(order) => return self.operate(order),
        }
        false
    }

    fn with_device(&mut self, number: usize, act: impl FnOnce(&mut Device, Context<'_>)) {
        if let Some(device) = self.devices.get_mut(number) {
            let around = Context { at: self.at, queue: &mut self.queue, trace: &mut self.trace };
            act(device, around);
        }
    }

    fn device_event(&mut self, number: usize, life: u64, event: DeviceEvent) {
        let Some(device) = self.devices.get(number).filter(|device| device.lives(life)) else {
            return;
        };
        match device.asleep().filter(|until| *until > self.at) {
            // Nothing is there to receive it.
            Some(_) if matches!(event, DeviceEvent::Datagram(_)) => {}
            Some(until) => self.queue.at(until, Event::Device(number, life, event)),
            None => {
                if !matches!(event, DeviceEvent::Datagram(_))
                    && self.device_steps.last() != Some(&self.at)
                {
                    self.device_steps.push(self.at);
                }
                self.with_device(number, |device, around| device.handle(event, around));
            }
        }
    }

    fn fault(&mut self, number: usize, begins: bool) {
        let Some(fault) = self.scenario.faults.get(number).copied() else { return };
        let verb = if begins { "begins" } else { "ends" };
        self.trace.note(self.at, format_args!("{verb}: {fault}"));
        match (fault.kind, begins) {
            (FaultKind::BridgeDown, true) => {
                self.bridge_down += 1;
                self.bridge.restart();
            }
            (FaultKind::BridgeDown, false) => {
                self.bridge_down -= 1;
                self.bridge_up_from = self.at;
                self.queue.at(self.at, Event::Reconcile);
                (0..self.image_servers.len()).for_each(|number| self.check_sessions_later(number));
            }
            (FaultKind::Replay, true) => self.bridge.replay(self.at, fault.whose),
            (FaultKind::Supersede(follows), true) => self.supersede(follows),
            (FaultKind::Disarm, true) => {
                let stopped = self.bridge.disarm(self.at);
                self.trace.note(self.at, format_args!("the campaign is stopped: {stopped:?}"));
                self.queue.at(self.at, Event::Reconcile);
            }
            (kind, _) if kind.is_of_a_server() => self.server_fault(fault, begins),
            (_, true) => self.with_device(fault.whose, |it, around| it.begin(&fault, around)),
            (_, false) => self.with_device(fault.whose, |it, around| it.finish(&fault, around)),
        }
    }

    fn server_fault(&mut self, fault: Fault, begins: bool) {
        let at = self.at;
        let Some(server) = self.image_servers.get_mut(fault.whose) else { return };
        match (fault.kind, begins) {
            (FaultKind::ServerHangs(effect), _) => server.set_hang(at, begins.then_some(effect)),
            (FaultKind::OpensHang, _) => server.set_opens_hang(at, begins),
            (_, true) => server.end(),
            (FaultKind::SessionsLost, false) => server.start_without_sessions(at),
            (_, false) => server.start(at),
        }
        self.queue.at(at, Event::ImageServer(fault.whose, server.life()));
        if matches!(fault.kind, FaultKind::ServerDown | FaultKind::SessionsLost) {
            self.queue.at(at, Event::Reconcile);
        }
        if !begins {
            // A call to one that hangs delays the look at the others of the campaign.
            (0..self.image_servers.len()).for_each(|number| self.check_sessions_later(number));
        }
    }

    fn check_sessions_later(&mut self, number: usize) {
        if self.scenario.bridge.watches_sessions {
            self.queue.at(At(self.at.0 + LOOKED_AT_WITHIN), Event::CheckSessions(number));
        }
    }

    /// A session that the management server has opened is open on its image server, unless it or an
    /// image server was away a short time ago.
    fn check_sessions(&mut self, number: usize) {
        let Some(server) = self.image_servers.get(number) else { return };
        let all: Option<Vec<_>> = self.image_servers.iter().map(|it| it.answers_from()).collect();
        let Some(answers_from) = all.and_then(|all| all.into_iter().max()) else { return };
        if self.bridge_down > 0 {
            return;
        }
        if self.at.0 < answers_from.max(self.bridge_up_from).0 + LOOKED_AT_WITHIN {
            return;
        }
        let opened = self.bridge.opened(self.at);
        let lost = opened.iter().filter(|id| !server.has_open_session(self.at, **id));
        self.breaches.extend(lost.map(|id| {
            format!("image server {number} has no open session of campaign {id}, which is opened")
        }));
    }

    /// Another campaign brings the image, in a window of its own.
    fn supersede(&mut self, follows: Follows) {
        if let Err(error) = self.bridge.supersede(self.at, follows) {
            self.breaches
                .push(format!("a campaign is not taken that follows {follows:?}: {error}"));
        }
        let ahead = 1_000 * (30 + self.rng.below(120));
        let length = 1_000 * (3 + self.rng.below(12));
        self.queue.at(self.at, Event::Operator(OperatorAction::OpenWindow { ahead, length }));
    }

    /// Delivers a DM message, or loses it; and so its answer.
    fn request(&mut self, number: usize, life: u64, message: &Message) {
        let mut lost = self.bridge_down > 0;
        let mut unanswered = false;
        let mut lies = false;
        let ours = |fault: &&Fault| fault.whose == number && fault.span.holds(self.at);
        for fault in self.scenario.faults.iter().filter(ours) {
            if let FaultKind::DmLoss { requests, replies } = fault.kind {
                lost |= self.rng.below(1000) < requests;
                unanswered |= self.rng.below(1000) < replies;
            }
            if let FaultKind::Lies { per_mille } = fault.kind {
                lies |= self.rng.below(1000) < per_mille;
            }
        }
        let answer = if lost {
            Err(TransportError::Network)
        } else {
            self.bridge.record(number, message);
            let answer = self.bridge.handle(self.at, message);
            if let Some(device) = self.devices.get(number) {
                self.bridge.check_truth(&Device::id(number), &device.machine.firmware);
            }
            self.queue.at(self.at, Event::Reconcile);
            match answer {
                _ if unanswered => Err(TransportError::Network),
                Ok(truth) if lies => self.bridge.falsify(number, truth),
                Ok(truth) => {
                    self.bridge.answered(number, &truth);
                    Ok(truth)
                }
                refused => refused,
            }
        };
        self.trace.octets(answer.as_deref().unwrap_or_default());
        let after = match answer {
            Err(TransportError::Network) => PATIENCE,
            Ok(_) | Err(TransportError::Http { .. }) => 5 + self.rng.below(80),
        };
        let event = Event::Device(number, life, DeviceEvent::Answer(answer));
        self.queue.at(At(self.at.0 + after), event);
    }

    fn schedule_timers(&mut self, number: usize, life: u64, timers: Timers) {
        if let Some(at) = timers.poll {
            self.queue.at(at, Event::ImageServer(number, life));
        }
        for (id, at) in timers.send {
            self.queue.at(at, Event::Transmit(number, life, id));
        }
    }

    fn poll(&mut self, number: usize, life: u64) {
        let server = self.image_servers.get_mut(number).filter(|server| server.lives(life));
        if let Some(timers) = server.map(|server| server.poll(self.at)) {
            let ended = timers.send.iter().filter(|(id, _)| self.bridge.has_ended(*id));
            self.breaches.extend(ended.map(|(id, _)| {
                format!("image server {number} airs campaign {id} after its stop was answered")
            }));
            self.schedule_timers(number, life, timers);
        }
    }

    fn transmit(&mut self, number: usize, life: u64, id: CampaignId) {
        let Some(server) = self.image_servers.get_mut(number).filter(|it| it.lives(life)) else {
            return;
        };
        let (datagram, timers) = server.transmit(self.at, id);
        self.schedule_timers(number, life, timers);
        if let Some(datagram) = datagram {
            self.broadcast(&datagram);
        }
    }

    fn broadcast(&mut self, truth: &Datagram) {
        for (fault, attacker) in self.scenario.faults.iter().zip(&mut self.attackers) {
            let Some(attacker) = attacker.as_mut().filter(|_| fault.span.holds(self.at)) else {
                continue;
            };
            let Some(device) = self.devices.get(fault.whose) else { continue };
            for forged in attacker.handle_true(truth) {
                if let Some(life) = device.life_that_receives(truth) {
                    let event = DeviceEvent::Datagram(forged);
                    self.queue.at(self.at, Event::Device(fault.whose, life, event));
                }
            }
        }
        for (device, link) in self.devices.iter().zip(&mut self.links) {
            let Some(life) = device.life_that_receives(truth) else { continue };
            for arrival in link.send(self.at, &truth.octets) {
                let datagram = Datagram { octets: arrival.octets, ..truth.clone() };
                let event =
                    Event::Device(device.machine.number, life, DeviceEvent::Datagram(datagram));
                self.queue.at(At(self.at.0 + arrival.after), event);
            }
        }
    }

    fn reconcile(&mut self) {
        if self.bridge_down > 0 {
            return;
        }
        let Reconciled { next, unanswered } =
            self.bridge.reconcile(self.at, &mut self.image_servers);
        if let Some(at) = next {
            self.queue.at(at, Event::Reconcile);
        }
        for (at, life, step) in unanswered {
            self.trace.note(self.at, format_args!("no answer: {step}"));
            self.queue.at(at, Event::CallTimeout(life, step));
        }
        for number in 0..self.image_servers.len() {
            let life = self.image_servers.get(number).map_or(0, ImageServer::life);
            self.queue.at(self.at, Event::ImageServer(number, life));
        }
    }

    /// Goes on with the attempt to notify a device.
    fn notify(&mut self, number: usize) {
        let hang = |fault: &Fault| -> Option<(Effect, Span)> {
            let FaultKind::GatewayHangs(effect) = fault.kind else { return None };
            (fault.whose == number && fault.span.holds(self.at)).then_some((effect, fault.span))
        };
        let hang = self.scenario.faults.iter().find_map(hang);
        let seen = self.bridge.last_seen(number);
        let begin = |session_id| self.bridge.notification(number, session_id);
        let Some(gateway) = &mut self.gateway else { return };
        let Progress { next, arrives } = gateway.step(self.at, number, (seen, hang), begin);
        if let Some(at) = next {
            self.queue.at(at, Event::Notify(number));
        }
        if let (Some((at, octets)), Some(device)) = (arrives, self.devices.get(number)) {
            let event = DeviceEvent::Notification(octets);
            self.queue.at(at, Event::Device(number, device.machine.life(), event));
        }
    }

    fn operate(&mut self, order: OperatorAction) -> bool {
        match order {
            OperatorAction::OpenWindow { ahead, length } => {
                let opens = At(self.at.0 + ahead);
                let opened = self.bridge.open_window(self.at, opens, At(opens.0 + length));
                self.trace.note(self.at, format_args!("a window is ordered: {opened:?}"));
                self.queue.at(self.at, Event::Reconcile);
                for number in 0..self.devices.len() {
                    if let Some(gateway) = &mut self.gateway {
                        let at = gateway.draw_start(self.at);
                        self.queue.at(at, Event::Notify(number));
                    }
                }
                false
            }
            OperatorAction::CheckEnd => self.check_the_end(),
        }
    }

    /// Arms the devices that are not done again, after all faults have ended.
    fn check_the_end(&mut self) -> bool {
        let undone: Vec<_> = self
            .devices
            .iter()
            .filter(|device| device.is_addressed())
            .filter_map(|device| {
                let phase = self.bridge.verdict(&Device::id(device.machine.number))?;
                (phase != ArmingPhase::Confirmed).then_some((device.machine.number, phase))
            })
            .collect();
        if undone.is_empty() {
            return true;
        }
        let chances = usize::try_from(self.last_chances).unwrap_or(usize::MAX);
        self.last_chances += 1;
        let Some(ahead) = LAST_AHEAD.get(chances) else {
            for (number, phase) in undone {
                let status = self.devices.get(number).and_then(Device::status);
                let shown = status.map(|status| (status.phase, status.result));
                self.breaches.push(format!("device {number} is not done: {phase}, {shown:?}"));
            }
            return true;
        };
        let order = OperatorAction::OpenWindow { ahead: *ahead, length: LAST_LENGTH };
        self.queue.at(self.at, Event::Operator(order));
        let patience = if chances == 0 { 600_000 } else { LAST_PATIENCE };
        let again = At(self.at.0 + ahead + LAST_LENGTH + patience);
        self.queue.at(again, Event::Operator(OperatorAction::CheckEnd));
        false
    }
}

/// Returns the device that an event is about.
fn whose(event: &Event) -> Option<usize> {
    match event {
        Event::Start(number)
        | Event::Reboot(number)
        | Event::Device(number, ..)
        | Event::Request(number, ..) => Some(*number),
        Event::Begin(_)
        | Event::End(_)
        | Event::ImageServer(..)
        | Event::Transmit(..)
        | Event::Reconcile
        | Event::CheckSessions(_)
        | Event::CallTimeout(..)
        | Event::Notify(_)
        | Event::Operator(_) => None,
    }
}
