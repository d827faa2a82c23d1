use std::net::Ipv4Addr;

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest},
};

use super::*;

/// A table of small numbers: an address has a share from 12 of 16 connections on.
const LIMITS: Limits = Limits {
    unproved: 16,
    all: 32,
    idle_after: Duration::from_secs(1),
    progress_octets: 1_000,
    body_octets: 5_000,
    handshake: Duration::from_secs(10),
    header: Duration::from_secs(11),
    body: Duration::from_secs(12),
    response: Duration::from_secs(13),
    keep_alive: Duration::from_secs(14),
};

const fn at(millis: u64) -> Mono {
    Mono(millis * 1_000_000)
}

fn peer(number: u32) -> Origin {
    Origin::Peer(PeerNetwork::of(Ipv4Addr::from(0x0A00_0000 + number).into()))
}

/// A table whose handles are numbers in the order of arrival.
struct World {
    table: ConnectionTable<u32>,
    ids: Vec<Option<ConnectionId>>,
}

impl World {
    fn new() -> Self {
        Self { table: ConnectionTable::new(LIMITS), ids: Vec::new() }
    }

    /// Returns the handle that was evicted for a connection; an error when it was refused.
    fn admit(&mut self, now: Mono, origin: Origin) -> Result<Option<u32>, ()> {
        let handle = u32::try_from(self.ids.len()).unwrap();
        match self.table.admit(now, origin, Phase::Header, handle) {
            Admission::Admitted { id, evicted } => {
                self.ids.push(Some(id));
                Ok(evicted)
            }
            Admission::Refused => {
                self.ids.push(None);
                Err(())
            }
        }
    }

    fn fill(&mut self, now: Mono, origin: Origin, count: u32) {
        for _ in 0..count {
            assert_eq!(self.admit(now, origin), Ok(None));
        }
    }

    fn id(&self, handle: u32) -> ConnectionId {
        self.ids[handle as usize].unwrap()
    }

    fn moved(&mut self, now: Mono, handle: u32, direction: Direction, octets: usize) {
        assert_eq!(self.table.moved(now, self.id(handle), direction, octets), None);
    }

    fn all_enter(&mut self, now: Mono, phase: Phase) {
        for id in self.ids.iter().flatten() {
            self.table.enter(now, *id, phase);
        }
    }
}

// test: security 7.2 (places of connections)
#[test]
fn an_address_with_more_than_its_share_loses_its_oldest_idle_connection() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 11);
    world.fill(at(1), peer(2), 1);
    // Three quarters are taken; the shares are 16 / 2.
    assert_eq!(world.admit(at(1_000), peer(2)), Ok(Some(0)));
    assert_eq!(world.admit(at(1_000), peer(1)), Ok(Some(1)), "its own newcomer costs it one");
    // A third address: the shares are 16 / 3.
    for expected in 2..6 {
        assert_eq!(world.admit(at(1_000), peer(3)), Ok(Some(expected)));
    }
    let stats = world.table.stats();
    assert_eq!((stats.open, stats.unproved, stats.evicted, stats.refused), (12, 12, 6, 0));
}

// test: security 7.2 (places of connections)
#[test]
fn below_three_quarters_and_within_its_share_nobody_loses_a_connection() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 6);
    world.fill(at(0), peer(2), 6);
    // Both have less than 8, long idle.
    world.fill(at(9_000), peer(1), 2);
    world.fill(at(9_000), peer(2), 2);
    assert_eq!(world.table.stats().evicted, 0);
}

// test: security 7.2 (places of connections)
#[test]
fn when_all_places_are_taken_the_oldest_idle_of_the_fullest_address_goes() {
    let mut world = World::new();
    for number in 0..14 {
        assert_eq!(world.admit(at(u64::from(number)), peer(number)), Ok(None));
    }
    world.fill(at(20), peer(13), 1);
    world.fill(at(21), peer(20), 1);
    // Place 13 and 14 are of one address.
    assert_eq!(world.admit(at(2_000), peer(21)), Ok(Some(13)));
    assert_eq!(world.admit(at(2_000), peer(22)), Ok(Some(0)), "all have one: the oldest");
}

// test: security 7.2 (places of connections)
#[test]
fn a_connection_is_idle_after_a_second_in_which_the_server_waits() {
    let mut world = World::new();
    for number in 0..16 {
        assert_eq!(world.admit(at(0), peer(number)), Ok(None));
    }
    assert_eq!(world.admit(at(999), peer(30)), Err(()));
    assert_eq!(world.admit(at(1_000), peer(30)), Ok(Some(0)));
    for phase in [Phase::Handshake, Phase::Header, Phase::Body, Phase::Response, Phase::KeepAlive] {
        let mut world = World::new();
        world.fill(at(0), peer(1), 16);
        world.all_enter(at(500), phase);
        assert_eq!(world.admit(at(1_499), peer(1)), Err(()), "{phase:?}");
        assert_eq!(world.admit(at(1_500), peer(1)), Ok(Some(0)), "{phase:?}");
    }
}

// test: security 7.2 (places of connections)
#[test]
fn octets_of_a_drip_are_no_progress_and_those_of_a_slow_link_are() {
    for (octets, is_idle) in [(1, true), (99, true), (100, false)] {
        let mut world = World::new();
        world.fill(at(0), peer(1), 16);
        world.all_enter(at(0), Phase::Body);
        for tenth in 1..40 {
            for handle in 0..16 {
                world.moved(at(tenth * 100), handle, Direction::Sent, octets);
            }
        }
        let evicted = world.admit(at(4_000), peer(1));
        assert_eq!(evicted, if is_idle { Ok(Some(0)) } else { Err(()) }, "{octets} octets");
    }
}

// test: security 7.2 (places of connections)
#[test]
fn requests_in_progress_of_one_address_are_never_cut() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 15);
    world.all_enter(at(0), Phase::Handling);
    world.fill(at(60_000), peer(2), 1);
    for _ in 0..3 {
        assert_eq!(world.admit(at(60_500), peer(3)), Err(()));
    }
    assert_eq!(world.admit(at(61_000), peer(3)), Ok(Some(15)), "the one that does nothing");
    assert_eq!(world.table.stats().refused, 3);
}

// test: security 7.2 (places of connections)
#[test]
fn without_an_idle_connection_an_address_gives_its_excess_to_one_below_its_share() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 16);
    world.table.enter(at(0), world.id(0), Phase::Body);
    // Nobody is idle yet. The shares are 16 / 2.
    assert_eq!(world.admit(at(10), peer(1)), Err(()), "not to itself");
    for expected in 1..9 {
        assert_eq!(world.admit(at(20), peer(2)), Ok(Some(expected)));
    }
    assert_eq!(world.admit(at(30), peer(2)), Err(()), "it has its share");
}

// test: security 7.2 (places of connections)
#[test]
fn bodies_that_drip_from_one_address_give_their_excess_to_others() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 16);
    world.all_enter(at(0), Phase::Body);
    assert_eq!(world.admit(at(10), peer(1)), Err(()), "not to itself");
    for expected in 0..8 {
        assert_eq!(world.admit(at(20), peer(2)), Ok(Some(expected)));
    }
    assert_eq!(world.admit(at(30), peer(2)), Err(()), "it has its share");
    let mut world = World::new();
    world.fill(at(0), peer(1), 16);
    world.all_enter(at(0), Phase::Response);
    assert_eq!(world.admit(at(20), peer(2)), Err(()), "who is answered is not cut");
}

// test: security 7.2 (places of connections)
#[test]
fn proved_connections_and_those_of_proxies_are_not_counted_by_address() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 12);
    for handle in 0..12 {
        world.table.prove(world.id(handle));
    }
    world.fill(at(0), Origin::TrustedProxy, 12);
    world.fill(at(9_000), peer(2), 3);
    assert_eq!(world.admit(at(9_000), peer(3)), Ok(None));
    let stats = world.table.stats();
    assert_eq!((stats.open, stats.unproved), (28, 16));
    // All unproved places are taken: one of the proxy goes, as no other is idle, none that is proved.
    assert_eq!(world.admit(at(9_000), peer(4)), Ok(Some(12)));
    assert_eq!(world.admit(at(10_000), peer(4)), Ok(Some(24)), "before one of a proxy");
}

// test: security 7.2 (places of connections)
#[test]
fn with_as_many_connections_as_files_permit_an_idle_one_goes_even_if_proved() {
    let mut world = World::new();
    for number in 0..32 {
        assert_eq!(world.admit(at(0), peer(number)), Ok(None));
        world.table.prove(world.id(number));
    }
    world.table.enter(at(0), world.id(0), Phase::Handling);
    assert_eq!(world.admit(at(999), peer(40)), Err(()));
    assert_eq!(world.admit(at(1_000), peer(40)), Ok(Some(1)));
    // An unproved one goes first.
    assert_eq!(world.admit(at(2_001), peer(41)), Ok(Some(33)));
}

// test: security 7.2 (waits for a peer)
#[test]
fn each_wait_for_a_peer_has_its_limit() {
    for (phase, limit) in [
        (Phase::Handshake, Some(LIMITS.handshake)),
        (Phase::Header, Some(LIMITS.header)),
        (Phase::Body, None),
        (Phase::Handling, None),
        (Phase::Response, Some(LIMITS.response)),
        (Phase::KeepAlive, Some(LIMITS.keep_alive)),
    ] {
        let mut world = World::new();
        world.fill(at(0), peer(1), 1);
        world.table.enter(at(500), world.id(0), phase);
        let millisecond = Duration::from_millis(1);
        let limit_or_day = limit.unwrap_or(Duration::from_secs(86_400));
        let early = at(500) + (limit_or_day - millisecond);
        assert!(world.table.handle_timeout(early).is_empty(), "{phase:?}");
        let closed = world.table.handle_timeout(early + millisecond);
        assert_eq!(closed.len(), usize::from(limit.is_some()), "{phase:?}");
        let timed_out = world.table.stats().timed_out.get(&phase).copied();
        assert_eq!(timed_out, limit.map(|_| 1), "{phase:?}");
        assert_eq!(world.table.stats().open, usize::from(limit.is_none()));
    }
}

// test: security 7.2 (waits for a peer)
#[test]
fn a_dripped_header_and_a_stalled_response_are_overdue_and_a_response_that_moves_is_not() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 2);
    for second in 1..=13 {
        world.moved(at(second * 1_000), 0, Direction::Received, 1);
    }
    world.table.enter(at(0), world.id(1), Phase::Response);
    world.moved(at(12_000), 1, Direction::Sent, 1_000);
    assert_eq!(world.table.handle_timeout(at(24_999)), [0]);
    assert_eq!(world.table.handle_timeout(at(25_000)), [1]);
}

// test: security 7.2 (waits for a peer)
#[test]
fn the_first_octet_of_another_request_begins_its_header() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 2);
    world.all_enter(at(0), Phase::KeepAlive);
    world.moved(at(1_000), 0, Direction::Received, 1);
    world.moved(at(1_000), 1, Direction::Sent, 1);
    assert_eq!(world.table.handle_timeout(at(12_000)), [0]);
    assert_eq!(world.table.handle_timeout(at(14_000)), [1]);
}

// test: security 7.2 (waits for a peer)
#[test]
fn the_pause_between_requests_begins_when_the_response_is_received() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 1);
    world.all_enter(at(0), Phase::KeepAlive);
    world.moved(at(5_000), 0, Direction::Sent, 1_000);
    assert!(world.table.handle_timeout(at(18_999)).is_empty());
    assert_eq!(world.table.handle_timeout(at(19_000)), [0]);
}

// test: security 7.2 (places of connections)
#[test]
fn with_too_many_octets_of_bodies_the_largest_that_still_arrives_is_given_up() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 4);
    world.all_enter(at(0), Phase::Body);
    world.table.prove(world.id(3));
    world.moved(at(0), 3, Direction::Received, 9_000);
    world.moved(at(0), 0, Direction::Received, 2_400);
    world.moved(at(0), 1, Direction::Received, 2_000);
    world.moved(at(0), 2, Direction::Received, 600);
    let ids = [0, 1, 2].map(|handle| world.id(handle));
    world.table.body_ended(at(0), ids[0]);
    assert_eq!(world.table.moved(at(0), ids[2], Direction::Received, 1), Some(1));
    assert_eq!(world.table.body_octets, 3_001);
    // What is handled goes with the response.
    world.table.enter(at(0), ids[0], Phase::Response);
    assert_eq!(world.table.body_octets, 601);
    assert_eq!(world.table.moved(at(0), ids[2], Direction::Received, 4_400), Some(2));
    assert_eq!((world.table.body_octets, world.table.stats().evicted), (0, 2));
}

#[test]
fn a_body_that_ended_leaves_the_connection_to_the_server() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 1);
    let id = world.id(0);
    world.table.enter(at(0), id, Phase::Body);
    world.table.body_ended(at(0), id);
    assert_eq!(world.table.phase(id), Some(Phase::Handling));
    world.table.enter(at(0), id, Phase::Response);
    world.table.body_ended(at(0), id);
    assert_eq!(world.table.phase(id), Some(Phase::Response));
}

#[test]
fn a_failed_accept_makes_room() {
    let mut world = World::new();
    world.fill(at(0), peer(1), 2);
    assert_eq!(world.table.handle_accept_error(at(999)), None);
    assert_eq!(world.table.handle_accept_error(at(1_000)), Some(0));
    let stats = world.table.stats();
    assert_eq!((stats.accept_errors, stats.evicted, stats.open), (2, 1, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u32),
    Proxy,
    Enter(prop::sample::Index, usize),
    Moved(prop::sample::Index, usize),
    Prove(prop::sample::Index),
    Remove(prop::sample::Index),
    Wait(u64),
}

use proptest::prelude::prop;

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    proptest::prop_oneof![
        6 => (0_u32..5).prop_map(Step::Admit),
        1 => proptest::prelude::Just(Step::Proxy),
        4 => (index(), 0_usize..6).prop_map(|(index, phase)| Step::Enter(index, phase)),
        2 => (index(), 0_usize..1_500).prop_map(|(index, octets)| Step::Moved(index, octets)),
        1 => index().prop_map(Step::Prove),
        1 => index().prop_map(Step::Remove),
        2 => (0_u64..2_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    // test: security 7.2 (places of connections)
    #[test]
    fn numbers_hold_and_no_request_is_cut_whatever_happens(steps in vec(step(), 1..100)) {
        let mut world = World::new();
        let mut now = at(0);
        for step in steps {
            let handling: Vec<_> = world.table.connections.iter()
                .filter(|(_, connection)| connection.phase == Phase::Handling)
                .map(|(id, _)| *id)
                .collect();
            let mut removed = None;
            let ids: Vec<_> = world.table.connections.keys().copied().collect();
            let pick = |index: prop::sample::Index| (!ids.is_empty()).then(|| ids[index.index(ids.len())]);
            match step {
                Step::Admit(number) => drop(world.admit(now, peer(number))),
                Step::Proxy => drop(world.admit(now, Origin::TrustedProxy)),
                Step::Enter(index, phase) => if let Some(id) = pick(index) {
                    world.table.enter(now, id, Phase::ALL[phase]);
                },
                Step::Moved(index, octets) => if let Some(id) = pick(index) {
                    let _evicted = world.table.moved(now, id, Direction::Received, octets);
                },
                Step::Prove(index) => if let Some(id) = pick(index) { world.table.prove(id) },
                Step::Remove(index) => {
                    removed = pick(index);
                    if let Some(id) = removed { world.table.remove(id) }
                }
                Step::Wait(millis) => {
                    now = now + Duration::from_millis(millis);
                    world.table.handle_timeout(now);
                }
            }
            let stays = |id: &ConnectionId| Some(*id) == removed || world.table.connections.contains_key(id);
            prop_assert!(handling.iter().all(stays));
            let stats = world.table.stats();
            let unproved = world.table.connections.values().filter(|it| it.is_unproved()).count();
            prop_assert!(stats.unproved == unproved && unproved <= LIMITS.unproved);
            let bodies: usize = world.table.connections.values().map(|it| it.body).sum();
            prop_assert_eq!(world.table.body_octets, bodies);
            prop_assert!(stats.open <= LIMITS.all);
            let by_address: usize = world.table.counts.values().sum();
            let counted = world.table.connections.values().filter(|it| it.network().is_some()).count();
            prop_assert!(by_address == counted && world.table.counts.values().all(|count| *count > 0));
        }
    }
}
