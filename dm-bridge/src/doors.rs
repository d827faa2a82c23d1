//! How many DM sessions the server has at once: who comes in, and who is told to come back.
//!
//! A place counts from the moment at which a device comes in until its message leaves with no
//! session open, so that the limit holds also while many first messages are worked on. What is
//! kept of a session that is over stays for a while, and costs no place.

use std::{collections::BTreeMap, fmt, time::Duration};

use proto::{
    ids::DeviceId,
    time::{Mono, Utc},
};

/// A session that the device has left alone for so long is over.
pub const SESSION_IDLE: Duration = Duration::from_secs(600);
/// How long what is left of a session is kept, for a device that has not got the last answer.
pub const ANSWER_KEPT: Duration = Duration::from_secs(60);
/// While there is room, who has left is looked for no more often: it means to look at all.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Which devices have a session.
#[derive(Debug)]
pub struct Doors<T> {
    limit: usize,
    places: BTreeMap<DeviceId, Place<T>>,
    taken: usize,
    swept: Option<Mono>,
}

#[derive(Debug)]
struct Place<T> {
    kept: T,
    touched: Mono,
    /// Messages that are worked on.
    inside: u32,
    open: bool,
    /// Whether it has had a session.
    is_known: bool,
}

impl<T> Place<T> {
    const fn is_taken(&self) -> bool {
        self.open || self.inside > 0
    }
}

impl<T: Clone + Default> Doors<T> {
    /// Makes doors that let so many sessions in at once.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, places: BTreeMap::new(), taken: 0, swept: None }
    }

    /// Returns how many places are taken.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// Lets a message of a device in; returns what is kept of its session, or `None` when the
    /// server has taken on enough. Each message that was let in must [leave](Self::leave).
    // spec: oma-002 4 (admission limit)
    pub fn enter(&mut self, id: &DeviceId, now: Mono) -> Option<T> {
        let has_place = self.places.get(id).is_some_and(Place::is_taken);
        if !has_place && (self.taken >= self.limit || self.may_sweep(now)) {
            self.sweep(now);
        }
        if !has_place && self.taken >= self.limit {
            return None;
        }
        let place = self.places.entry(id.clone()).or_insert_with(|| Place {
            kept: T::default(),
            touched: now,
            inside: 0,
            open: false,
            is_known: false,
        });
        place.inside += 1;
        self.taken += usize::from(!has_place);
        Some(place.kept.clone())
    }

    /// A message of a device has been answered; `session` says whether its session goes on.
    pub fn leave(&mut self, id: &DeviceId, now: Mono, session: Session) {
        let Some(place) = self.places.get_mut(id) else { return };
        place.inside = place.inside.saturating_sub(1);
        match session {
            Session::Open => (place.open, place.touched) = (true, now),
            Session::Over => (place.open, place.touched) = (false, now),
            Session::Untouched => {}
        }
        place.is_known |= session != Session::Untouched;
        if !place.is_taken() {
            self.taken = self.taken.saturating_sub(1);
            // Of who has never had a session nothing is kept: names are free.
            if !place.is_known {
                self.places.remove(id);
            }
        }
    }

    fn may_sweep(&self, now: Mono) -> bool {
        let is_due = self.swept.is_none_or(|swept| now.since(swept) >= SWEEP_INTERVAL);
        is_due && self.places.len() >= self.limit
    }

    fn sweep(&mut self, now: Mono) {
        self.swept = Some(now);
        let mut freed = 0;
        self.places.retain(|_, place| {
            let kept = if place.open { SESSION_IDLE } else { ANSWER_KEPT };
            let stays = place.inside > 0 || now.since(place.touched) < kept;
            freed += usize::from(!stays && place.is_taken());
            stays
        });
        self.taken = self.taken.saturating_sub(freed);
    }
}

/// What a message that leaves says of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It goes on.
    Open,
    /// It has ended.
    Over,
    /// The message was not one of it.
    Untouched,
}

/// A moment as the reply address of a DM message gives it, `20000512T133000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(pub Utc);

impl fmt::Display for After {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: nobody is asked to come back too early.
        let seconds = i64::try_from(self.0.0.div_ceil(1000)).unwrap_or(i64::MAX);
        let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        write!(formatter, "{}", moment.strftime("%Y%m%dT%H%M%SZ"))
    }
}

/// Returns the address at which a device that is put off shall try again, with the moment.
// spec: oma-002 4 (417 with the moment in the reply address)
#[must_use]
pub fn come_back(url: &str, after: Utc) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}after={}", After(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn doors(limit: usize) -> Doors<u8> {
        Doors::new(limit)
    }

    // test: oma-002 4 (admission limit)
    #[test]
    fn only_so_many_sessions_are_open_at_once() {
        let mut doors = doors(2);
        for name in ["a", "b"] {
            assert!(doors.enter(&id(name), Mono(0)).is_some());
            doors.leave(&id(name), Mono(0), Session::Open);
        }
        assert!(doors.enter(&id("c"), Mono(0)).is_none());
        assert!(doors.enter(&id("a"), Mono(0)).is_some(), "one that is open goes on");
        doors.leave(&id("a"), Mono(0), Session::Over);
        assert!(doors.enter(&id("c"), Mono(0)).is_some());
        doors.leave(&id("c"), Mono(0), Session::Open);
        assert!(doors.enter(&id("a"), Mono(0)).is_none(), "its place was taken");
        assert_eq!(doors.taken(), 2);
    }

    #[test]
    fn first_messages_that_are_worked_on_take_places_too() {
        let mut doors = doors(1);
        assert!(doors.enter(&id("a"), Mono(0)).is_some());
        assert!(doors.enter(&id("b"), Mono(0)).is_none());
        assert!(doors.enter(&id("a"), Mono(0)).is_some(), "the same device again");
        doors.leave(&id("a"), Mono(0), Session::Untouched);
        assert!(doors.enter(&id("b"), Mono(0)).is_none());
        doors.leave(&id("a"), Mono(0), Session::Untouched);
        assert!(doors.enter(&id("b"), Mono(0)).is_some());
        assert_eq!(doors.taken(), 1);
    }

    #[test]
    fn of_strangers_nothing_is_kept() {
        let mut doors = doors(4);
        for number in 0..1_000 {
            let stranger = id(&format!("stranger-{number}"));
            assert!(doors.enter(&stranger, Mono(0)).is_some());
            doors.leave(&stranger, Mono(0), Session::Untouched);
        }
        assert!(doors.places.is_empty() && doors.taken() == 0);
    }

    #[test]
    fn a_session_that_is_left_alone_makes_room() {
        let mut doors = doors(1);
        doors.enter(&id("a"), Mono(0)).unwrap();
        doors.leave(&id("a"), Mono(0), Session::Open);
        let just_before = Mono(0) + (SESSION_IDLE - Duration::from_millis(1));
        assert!(doors.enter(&id("b"), just_before).is_none());
        assert!(doors.enter(&id("b"), Mono(0) + SESSION_IDLE).is_some());
        assert_eq!(doors.taken(), 1);
    }

    #[test]
    fn what_is_left_of_a_session_is_there_for_a_while() {
        let mut doors: Doors<std::sync::Arc<()>> = Doors::new(1);
        let first = doors.enter(&id("a"), Mono(0)).unwrap();
        doors.leave(&id("a"), Mono(0), Session::Over);
        let again = doors.enter(&id("a"), Mono(0) + ANSWER_KEPT / 2).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &again));
        doors.leave(&id("a"), Mono(0), Session::Over);
        let later = doors.enter(&id("a"), Mono(0) + ANSWER_KEPT).unwrap();
        assert!(!std::sync::Arc::ptr_eq(&first, &later));
    }

    // test: oma-002 4 (the moment in the reply address)
    #[test]
    fn a_device_that_is_put_off_is_told_when() {
        let after = Utc::from_seconds(958_138_200);
        assert_eq!(come_back("http://s/dm", after), "http://s/dm?after=20000512T133000Z");
        assert_eq!(come_back("http://s/dm?u=j", after), "http://s/dm?u=j&after=20000512T133000Z");
        assert_eq!(After(Utc(958_138_199_001)).to_string(), "20000512T133000Z");
    }
}
