//! TOIs that carry one content after another, and what ends a content.

use super::*;

/// Octets of the contents of these tests.
const LENGTH: usize = 400;

fn ones() -> Vec<u8> {
    vec![0x11; LENGTH]
}

fn twos() -> Vec<u8> {
    vec![0x22; LENGTH]
}

fn oti() -> Oti {
    Oti::NoCode(NoCodeOti::new(400, 16, 10).unwrap())
}

fn entry(toi: u128, location: &str, digest_of: Option<&[u8]>) -> FileEntry {
    let plain = FileEntry::plain(Toi(toi), location, "text/plain", oti());
    FileEntry { content_md5: digest_of.map(md5), ..plain }
}

fn close() -> Vec<u8> {
    let mut close = Vec::new();
    Header::close(Tsi(SENT.tsi)).emit(Extensions::NONE, &mut close).unwrap();
    close
}

impl Bench {
    fn tell(&mut self, instance: u32, files: Vec<FileEntry>) {
        let expires = self.now().utc + HOUR;
        self.receive(&SENT.instance_of(instance, expires, files));
    }

    fn send(&mut self, toi: u128, content: &[u8], symbols: std::ops::Range<usize>) {
        let data = Sent { toi, fti: false, ..SENT }.data(content, oti(), 0..16);
        data[symbols].iter().for_each(|packet| self.receive(packet));
    }

    fn later(&mut self, seconds: u64) {
        self.elapsed += Duration::from_secs(seconds);
        self.core.handle_timeout(self.now());
        self.settle();
    }

    fn state(&self, toi: &str) -> (&'static str, u64) {
        let file = self.core.files().find(|file| file.toi == toi).unwrap();
        (file.state, file.symbols_held)
    }
}

#[test]
fn another_description_waits_until_no_symbol_of_the_file_comes() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    bench.later(2);
    bench.tell(0, vec![entry(1, "b", None)]);
    bench.send(1, &twos(), 0..10);
    bench.later(7);
    assert_eq!(bench.state("1"), ("receiving", 20), "symbols came nine seconds ago");
    assert_eq!(bench.standing(), Standing::Open);
    bench.later(1);
    assert_eq!(bench.core.files().next().unwrap().location, "b");
    bench.send(1, &twos(), 10..25);
    bench.later(2);
    assert_eq!((bench.file("a"), bench.file("b")), (None, Some(&twos()[..])));
    assert!(bench.is_all_complete());
}

#[test]
fn symbols_that_waited_for_the_storage_are_as_old_as_their_arrival() {
    let mut bench = Bench::new();
    bench.is_slow = true;
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    // The storage answers behind the silence.
    bench.later(11);
    bench.is_slow = false;
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &twos(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&twos()[..]));
    assert!(bench.is_all_complete());
}

#[test]
fn a_forged_description_costs_what_comes_until_the_true_one_is_repeated() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    bench.tell(1, vec![entry(1, "forged", None)]);
    bench.send(1, &ones(), 20..25);
    assert_eq!(bench.core.stats().accepted, 20, "the others wait");
    bench.tell(0, vec![entry(1, "a", None)]);
    assert_eq!(bench.core.stats().undecided, 5, "they may have been of the other content");
    bench.send(1, &ones(), 20..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&ones()[..]));
}

#[test]
fn a_complete_file_is_received_anew_when_it_is_described_otherwise() {
    for digest in [false, true] {
        let of = |content: Vec<u8>| if digest { Some(content) } else { None };
        let mut bench = Bench::new();
        bench.tell(0, vec![entry(1, "a", of(ones()).as_deref())]);
        bench.send(1, &ones(), 0..25);
        bench.later(2);
        assert!(bench.is_all_complete());
        let other = FileEntry { content_length: Some(399), ..entry(1, "a", of(twos()).as_deref()) };
        let other = if digest { entry(1, "a", Some(&twos())) } else { other };
        bench.tell(0, vec![FileEntry { oti: None, ..other }]);
        assert_eq!(bench.standing(), Standing::Open);
        assert_eq!(bench.file("a"), Some(&ones()[..]), "the older one stays until then");
    }
}

/// Receives a part of one content; another one follows, of the same description.
fn restarted(end: impl Fn(&mut Bench)) -> Bench {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    end(&mut bench);
    bench.send(1, &twos(), 0..5);
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &twos(), 5..25);
    bench.later(2);
    bench
}

#[test]
fn without_a_digest_a_session_that_was_over_is_received_anew() {
    let closed = restarted(|bench| {
        bench.receive(&close());
        bench.later(10);
    });
    assert_eq!(closed.file("a"), Some(&twos()[..]), "closed");
    let expired = restarted(|bench| bench.later(3600));
    assert_eq!(expired.file("a"), Some(&twos()[..]), "expired");
    let silent = restarted(|bench| bench.later(10));
    assert_eq!(silent.file("a"), Some(&twos()[..]), "silent, and its expiry is another");
    assert_eq!(silent.complete.len(), 1);
}

// test: rfc5651 5.1
#[test]
fn a_flag_a_ends_no_session_of_which_symbols_come() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..10);
    bench.later(20);
    // Forged while symbols arrive.
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &twos(), 0..1);
    for at in 1..9 {
        bench.receive(&close());
        bench.later(4);
        bench.send(1, &twos(), at..at + 1);
    }
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.later(2);
    assert_eq!(bench.state("1"), ("receiving", 9), "nothing was dropped after the pause");
}

#[test]
fn a_file_that_progressed_lately_goes_on_after_a_forged_end() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    bench.receive(&close());
    bench.later(6);
    bench.send(1, &ones(), 20..22);
    assert_eq!(bench.core.stats().accepted, 22, "they are used until an instance tells otherwise");
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 22..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&ones()[..]));
}

#[test]
fn the_symbols_of_a_file_with_a_digest_are_kept_for_when_it_is_described_again() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", Some(&ones()))]);
    bench.send(1, &ones(), 0..20);
    bench.later(15);
    bench.tell(1, vec![entry(1, "a", Some(&twos()))]);
    bench.send(1, &twos(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&twos()[..]));
    bench.tell(2, vec![entry(1, "a", Some(&ones()))]);
    assert_eq!(bench.state("1"), ("receiving", 20));
    bench.send(1, &ones(), 20..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&ones()[..]));
}

// test: rfc6726 3.4.2
#[test]
fn an_older_version_never_gets_the_name_of_a_newer_one() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.tell(1, vec![entry(2, "a", None)]);
    bench.send(1, &ones(), 0..24);
    bench.send(2, &twos(), 0..25);
    bench.send(1, &ones(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&twos()[..]));
    assert_eq!((bench.state("1").0, bench.state("2").0), ("superseded", "complete"));
    assert!(bench.is_all_complete() && bench.disk.parts.is_empty());
    // The older instance is repeated, and its file is not received again.
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..25);
    bench.later(2);
    assert_eq!((bench.file("a"), bench.complete.len()), (Some(&twos()[..]), 1));
}

#[test]
fn an_older_version_is_received_until_the_newer_one_is() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..24);
    // Anybody may announce a newer one.
    bench.tell(1, vec![entry(2, "a", None)]);
    bench.send(1, &ones(), 24..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&ones()[..]));
    assert_eq!(bench.standing(), Standing::Open);
}

#[test]
fn a_session_of_three_hundred_objects_is_received_whole() {
    let mut bench = Bench::new();
    for toi in 1..=300 {
        bench.tell(0, vec![entry(toi, &format!("f{toi}"), None)]);
        bench.send(toi, &ones(), 0..25);
    }
    bench.later(2);
    assert!(bench.is_all_complete());
    assert_eq!(bench.complete.len(), 300);
}

#[test]
fn finished_entries_make_room_and_complete_is_never_said_while_one_is_refused() {
    let limits = Limits { entry_bytes: 3 * 900, ..Limits::default() };
    let mut bench = Bench::with(limits, Disk::default());
    for toi in 1..=30 {
        bench.tell(u32::try_from(toi).unwrap(), vec![entry(toi, &format!("f{toi}"), None)]);
        bench.send(toi, &ones(), 0..25);
        bench.later(2);
    }
    assert_eq!((bench.complete.len(), bench.core.stats().entries_refused), (30, 0));
    assert!(bench.core.files().count() < 10 && bench.is_all_complete());
    let many = (100..110).map(|toi| entry(toi, &format!("f{toi}"), None));
    bench.tell(40, many.collect());
    let listed = bench.core.files().filter(|file| file.state == "described").count();
    assert!((1..10).contains(&listed));
    assert_eq!(bench.core.stats().entries_refused, 10 - listed as u64);
    (100..110).for_each(|toi| bench.send(toi, &ones(), 0..25));
    bench.later(20);
    assert_eq!(bench.standing(), Standing::Open);
}

#[test]
fn all_is_complete_once_nothing_else_is_on_the_air() {
    let sent = |complete| {
        let document = FdtInstance {
            expires_ntp: (now().utc + HOUR).ntp_seconds(),
            complete,
            files: vec![entry(1, "a", None)],
            mbms: proto::flute::fdt::mbms::InstanceExtensions::default(),
            skipped: proto::flute::fdt::skipped::Skipped::default(),
        };
        SENT.document(0, &document)
    };
    for (lists_all, expected) in [(true, Standing::Complete), (false, Standing::Open)] {
        let mut bench = Bench::new();
        bench.receive(&sent(lists_all));
        bench.send(1, &ones(), 0..25);
        bench.later(2);
        assert!(bench.is_all_complete());
        bench.send(2, &twos(), 0..5);
        assert_eq!(bench.standing(), expected, "an object that no instance lists");
        bench.later(10);
        assert!(bench.is_all_complete(), "it may be somebody's");
    }
}

#[test]
fn a_complete_file_counts_in_the_next_run_as_long_as_it_is_what_it_was() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", Some(&ones())), entry(2, "b", None)]);
    bench.send(1, &ones(), 0..25);
    bench.send(2, &twos(), 0..25);
    bench.later(2);
    let mut bench = bench.restart();
    bench.tell(0, vec![entry(1, "a", Some(&ones())), entry(2, "b", None)]);
    assert_eq!((bench.state("1").0, bench.state("2").0), ("complete", "described"));
    bench.send(2, &ones(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("b"), Some(&ones()[..]), "under the name that its session has");
    bench.disk.files.insert("a".to_owned(), b"changed".to_vec());
    let mut bench = bench.restart();
    bench.tell(0, vec![entry(1, "a", Some(&ones()))]);
    assert_eq!(bench.state("1").0, "described");
    bench.send(1, &ones(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&ones()[..]));
}

#[test]
fn an_undigested_file_goes_on_where_the_user_knows_that_it_is_the_same() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..20);
    bench.later(2);
    let mut anew = Bench::resume(Limits::default(), bench.disk, Undigested::Resume);
    anew.tell(0, vec![entry(1, "a", None)]);
    assert_eq!(anew.state("1"), ("receiving", 20));
    let mut anew = anew.restart();
    anew.tell(0, vec![entry(1, "a", None)]);
    assert_eq!(anew.state("1").0, "described");
    assert!(anew.disk.parts.is_empty() && anew.disk.logs.is_empty());
}

/// Returns an instance with one file, which is repeated later as it is.
fn issued(toi: u128, location: &str, digest_of: Option<&[u8]>) -> Vec<u8> {
    SENT.instance_of(0, now().utc + HOUR, vec![entry(toi, location, digest_of)])
}

// test: rfc6726 3.3
#[test]
fn a_pause_is_no_restart() {
    for digest_of in [None, Some(ones())] {
        for (before, then_again) in [(0, None), (12, None), (12, Some(0)), (12, Some(20))] {
            let mut bench = Bench::new();
            let fdt = issued(1, "a", digest_of.as_deref());
            bench.receive(&fdt);
            bench.send(1, &ones(), 0..before);
            bench.later(12);
            bench.send(1, &ones(), before..25);
            if let Some(seconds) = then_again {
                bench.later(seconds);
                bench.receive(&fdt);
            }
            bench.later(60);
            let case = (digest_of.is_some(), before, then_again);
            assert_eq!(bench.file("a"), Some(&ones()[..]), "{case:?}");
            assert!(bench.is_all_complete() && bench.complete.len() == 1, "{case:?}");
            assert_eq!((bench.core.waiting(), bench.core.stats().undecided), (0, 0));
        }
    }
}

#[test]
fn a_session_of_a_packet_in_twelve_seconds_is_received() {
    for digest_of in [None, Some(ones())] {
        let mut bench = Bench::new();
        bench.receive(&issued(1, "a", digest_of.as_deref()));
        for at in 0..25 {
            bench.later(12);
            bench.send(1, &ones(), at..at + 1);
        }
        bench.later(60);
        assert_eq!(bench.file("a"), Some(&ones()[..]));
        assert!(bench.is_all_complete());
    }
}

#[test]
fn a_second_file_behind_a_pause_is_received() {
    let mut bench = Bench::new();
    let files = vec![entry(1, "a", None), entry(2, "b", Some(&twos()))];
    bench.receive(&SENT.instance_of(0, now().utc + HOUR, files));
    bench.send(1, &ones(), 0..25);
    bench.later(11);
    bench.send(2, &twos(), 0..25);
    assert_eq!((bench.file("a"), bench.file("b")), (Some(&ones()[..]), Some(&twos()[..])));
}

#[test]
fn what_came_since_a_pause_is_not_mixed_into_what_came_before() {
    for closes in [false, true] {
        let mut bench = Bench::new();
        bench.receive(&issued(1, "a", None));
        bench.send(1, &ones(), 0..10);
        if closes {
            bench.receive(&close());
        }
        bench.later(12);
        bench.send(1, &twos(), 5..25);
        assert_eq!(bench.state("1").0, "receiving", "all symbols are there");
        assert_eq!(bench.standing(), Standing::Open);
        bench.later(9);
        // Another document: the sender has started again.
        bench.tell(0, vec![entry(1, "a", None)]);
        bench.send(1, &twos(), 0..5);
        bench.later(2);
        assert_eq!(bench.file("a"), Some(&twos()[..]), "nothing of it was dropped");
        assert_eq!((bench.complete.len(), bench.disk.parts.len()), (1, 0));
    }
}

#[test]
fn what_came_since_a_pause_is_of_the_file_that_is_described_then() {
    for digest_of in [None, Some(ones())] {
        let mut bench = Bench::new();
        bench.receive(&issued(1, "a", digest_of.as_deref()));
        bench.send(1, &ones(), 0..10);
        bench.later(12);
        bench.send(1, &twos(), 0..25);
        bench.later(1);
        bench.tell(0, vec![entry(1, "b", digest_of.is_some().then(twos).as_deref())]);
        bench.later(2);
        assert_eq!((bench.file("a"), bench.file("b")), (None, Some(&twos()[..])));
    }
}

#[test]
fn of_two_pauses_what_came_between_is_of_neither_new_content() {
    let mut bench = Bench::new();
    bench.receive(&issued(1, "a", None));
    bench.send(1, &ones(), 0..5);
    bench.later(12);
    bench.send(1, &[0x33; LENGTH], 5..10);
    bench.later(12);
    bench.send(1, &twos(), 10..25);
    bench.tell(0, vec![entry(1, "a", None)]);
    assert_eq!(bench.state("1"), ("receiving", 0));
    bench.sync();
    assert_eq!(bench.state("1"), ("receiving", 15));
    bench.send(1, &twos(), 0..10);
    bench.later(2);
    assert_eq!(bench.file("a"), Some(&twos()[..]));
}

// test: rfc5651 5.1
#[test]
fn a_forged_flag_a_does_no_more_than_silence() {
    for digest_of in [None, Some(ones())] {
        for seconds in [6, 12] {
            let mut bench = Bench::new();
            let fdt = issued(1, "a", digest_of.as_deref());
            bench.receive(&fdt);
            bench.send(1, &ones(), 0..10);
            bench.receive(&close());
            bench.later(seconds);
            bench.send(1, &ones(), 10..20);
            bench.receive(&fdt);
            bench.send(1, &ones(), 20..25);
            bench.later(2);
            assert_eq!(bench.file("a"), Some(&ones()[..]), "the same document");
            assert_eq!((bench.core.stats().accepted, bench.core.stats().undecided), (25, 0));
        }
    }
}

// test: rfc6726 3.2
#[test]
fn data_long_before_its_first_description_is_received() {
    for digest_of in [None, Some(ones())] {
        for pauses in [[12, 0], [12, 12], [0, 12]] {
            let mut bench = Bench::new();
            bench.send(1, &ones(), 0..10);
            bench.later(pauses[0]);
            bench.send(1, &ones(), 10..25);
            bench.later(pauses[1]);
            bench.receive(&issued(1, "a", digest_of.as_deref()));
            bench.later(2);
            assert_eq!(bench.file("a"), Some(&ones()[..]), "{pauses:?}");
            assert_eq!(bench.core.stats().undecided, 0);
        }
    }
}

#[test]
fn data_before_a_restart_is_not_of_what_is_described_after_it() {
    let mut bench = Bench::new();
    bench.tell(0, vec![entry(1, "a", None)]);
    bench.send(1, &ones(), 0..25);
    // Its description was lost.
    bench.send(2, &ones(), 0..20);
    bench.later(12);
    bench.tell(0, vec![entry(1, "a", None), entry(2, "b", None)]);
    bench.send(2, &twos(), 20..25);
    bench.later(2);
    assert_eq!((bench.file("b"), bench.core.stats().undecided), (None, 20));
    bench.send(3, &ones(), 0..20);
    bench.later(12);
    // The session that begins describes it later.
    bench.tell(0, vec![entry(2, "b", None)]);
    bench.tell(1, vec![entry(3, "c", None)]);
    bench.send(3, &twos(), 20..25);
    assert_eq!((bench.file("c"), bench.core.stats().undecided), (None, 40));
    bench.tell(0, vec![entry(2, "b", None)]);
    bench.send(2, &twos(), 0..25);
    bench.later(2);
    assert_eq!(bench.file("b"), Some(&twos()[..]));
}
