//! Sessions of any age: senders that start again with other contents, rewrite their FDT and lose
//! packets, and a receiver that is killed between. In memory, with the time of the seed.
//!
//! `SESSIONS=1000000 cargo nextest run -p receiver --cargo-profile release any_session` runs that
//! many; `SESSIONS_FROM` is the first seed.
//!
//! Two things hold all the time. A file that is reported complete has under its name the octets of
//! one content that was sent with its description, never a mixture. And when all is said to be
//! complete, every file of the latest FDT that arrived is there as that FDT describes it, and no entry
//! that arrived could not be read. In the end
//! nothing is lost any more, and all becomes complete.
//!
//! A sender may pause for longer than ten seconds at any point, send its FDT once, send data before
//! it, describe a TOI otherwise three times in a row, and anybody may forge the flag A. A file that
//! arrives whole under a description that arrived and has not expired is received, whatever pauses
//! there are.
//!
//! Without a digest two contents of one description differ by silence and by an end that arrives:
//! such a sender pauses for ten seconds at least before it starts again, see the module. Before the
//! first FDT of all has arrived nothing tells them: a sender that starts again then has other TOIs.
//! One that has started again brings its FDT to the receiver within a minute.

use crate::rng::SplitMix64;

use super::*;

/// Sessions of a run, unless the environment sets another number.
const SESSIONS: u64 = 1000;

/// Names of all files.
const LOCATIONS: [&str; 3] = ["a.bin", "b.bin", "c.bin"];

#[test]
fn any_session_is_reported_truly() {
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let first = number("SESSIONS_FROM", 0);
    let count = number("SESSIONS", SESSIONS);
    let wrong: Vec<_> = (first..first + count)
        .filter_map(|seed| World::new(seed).run().err().map(|why| format!("seed {seed}: {why}")))
        .take(5)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that a sender sends.
#[derive(Clone)]
struct SentFile {
    toi: u128,
    location: &'static str,
    content: Vec<u8>,
    oti: Oti,
    has_digest: bool,
    fti: bool,
}

/// Way in which a sender numbers its FDT instances.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// All have one ID, whatever they list.
    Rewritten,
    /// Each list of files has an ID of its own.
    CountedUp,
}

struct World {
    rng: SplitMix64,
    bench: Bench,
    numbering: Numbering,
    instance: u32,
    /// Lifetime of an instance.
    lifetime: Duration,
    /// Set where the expiry is written anew with each repetition.
    is_rewriting: bool,
    files: Vec<SentFile>,
    next_toi: u128,
    /// Expiry of the instance that is repeated.
    expires: Utc,
    lost_percent: u64,
    /// All contents that were sent, by name.
    contents: Vec<(&'static str, Vec<u8>)>,
    /// Set where the FDT has an entry that cannot be read.
    is_odd: bool,
    /// Set once such an FDT arrived, until the sender mends it under its ID or starts again.
    is_unread: bool,
    /// Set once such an FDT arrived at all.
    was_unread: bool,
    /// Files of the latest FDT that this run of the receiver was given.
    latest: Option<Vec<SentFile>>,
    checked: usize,
    /// Time at which the sender started.
    started_at: Duration,
    /// Expiry of the instance that arrived last.
    received_until: Utc,
    /// Set once an FDT arrived that it has sent since.
    is_received: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let numbering = match rng.below(2) {
            0 => Numbering::Rewritten,
            _ => Numbering::CountedUp,
        };
        let lifetime = Duration::from_secs([20, 60, 3600][usize::try_from(rng.below(3)).unwrap()]);
        let (is_rewriting, lost_percent) = (rng.below(2) == 0, rng.below(40));
        let mut world = Self {
            rng,
            bench: Bench::new(),
            numbering,
            instance: 3,
            lifetime,
            is_rewriting: is_rewriting && numbering == Numbering::Rewritten,
            files: Vec::new(),
            next_toi: 1,
            expires: now().utc,
            lost_percent,
            contents: Vec::new(),
            is_odd: false,
            is_unread: false,
            was_unread: false,
            latest: None,
            checked: 0,
            started_at: Duration::ZERO,
            received_until: now().utc,
            is_received: true,
        };
        world.start();
        world
    }

    fn trace(&self, what: impl std::fmt::Display) {
        if std::env::var_os("SESSIONS_TRACE").is_some() {
            let shown = |files: &[SentFile]| -> Vec<_> {
                files
                    .iter()
                    .map(|it| (it.toi, it.location, it.content.len(), it.has_digest))
                    .collect()
            };
            eprintln!(
                "{:?} {what}: {:?} id {}",
                self.bench.elapsed,
                shown(&self.files),
                self.instance
            );
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn run(mut self) -> Result<(), String> {
        for _ in 0..2 + self.rng.below(5) {
            match self.rng.below(8) {
                0 | 1 => self.restart_sender()?,
                2 => self.restart_receiver(),
                3 if self.chance(50) => self.describe_three_times()?,
                3 => self.renew_a_file(),
                4 => {
                    let pause = self.rng.below(30_000);
                    self.pause(pause)?;
                }
                _ => {}
            }
            self.pass()?;
        }
        // What was of use to anybody before is silent or over now.
        self.lost_percent = 0;
        self.send_once()?;
        for _ in 0..4 {
            self.pass()?;
            self.pause(6_000)?;
        }
        self.bench.sync();
        self.check()?;
        let files: Vec<_> = self.bench.core.files().collect();
        for file in &self.files {
            let is_complete = |of: &&UnsignedFile| {
                of.toi == file.toi.to_string() && of.state == "complete" && of.name == file.location
            };
            if files.iter().find(is_complete).is_none()
                || self.bench.file(file.location) != Some(&file.content[..])
            {
                let toi = file.toi;
                return Err(format!("TOI {toi} is missing after all was sent: {files:?}"));
            }
        }
        // What an instance listed that has not expired may still come.
        let is_current = |of: &UnsignedFile| {
            self.files.iter().any(|file| file.toi.to_string() == of.toi) || of.state == "superseded"
        };
        let standing = self.bench.standing();
        let is_refused = self.was_unread && standing == Standing::Refused;
        if standing == Standing::Complete || is_refused || !files.iter().all(is_current) {
            return Ok(());
        }
        Err(format!("{standing:?} after all was sent: {files:?}"))
    }

    /// Fills the session of a sender that has just started.
    fn start(&mut self) {
        self.files.clear();
        (self.is_odd, self.is_unread) = (self.chance(15), false);
        for location in LOCATIONS.iter().take(1 + usize::try_from(self.rng.below(3)).unwrap()) {
            let file = self.made(location);
            self.files.push(file);
        }
        self.expires = self.bench.now().utc + self.lifetime;
    }

    /// Makes a file with the next TOI; lengths repeat, so that descriptions without a digest may.
    fn made(&mut self, location: &'static str) -> SentFile {
        let length = 40 + 40 * usize::try_from(self.rng.below(4)).unwrap();
        let content: Vec<u8> =
            (0..length).map(|_| u8::try_from(self.rng.below(256)).unwrap()).collect();
        let oti = match self.rng.below(5) {
            0 => raptorq(length as u64, 1),
            _ => Oti::NoCode(NoCodeOti::new(length as u64, 16, 4).unwrap()),
        };
        let toi = self.next_toi;
        self.next_toi += 1;
        self.contents.push((location, content.clone()));
        let (has_digest, fti) = (self.chance(50), self.chance(30));
        SentFile { toi, location, content, oti, has_digest, fti }
    }

    /// Ends the sender, and starts it again with other contents.
    fn restart_sender(&mut self) -> Result<(), String> {
        let is_closed = self.chance(50);
        if is_closed {
            let mut close = Vec::new();
            Header::close(Tsi(SENT.tsi)).emit(Extensions::NONE, &mut close).unwrap();
            self.bench.receive(&close);
        }
        let again = self.chance(60) && self.latest.is_some();
        let is_noticed = is_closed || self.numbering == Numbering::Rewritten;
        if again {
            self.next_toi = 1;
        }
        if again && is_noticed && self.chance(50) {
            // The ids begin anew, too.
            self.instance = 3;
        } else if self.numbering == Numbering::CountedUp {
            self.instance += 1;
        }
        let pause = match again && !is_noticed {
            // Whatever it described has expired.
            true => 3_600_000,
            false => 10_000 + self.rng.below(15_000),
        };
        self.pause(pause)?;
        self.start();
        (self.started_at, self.is_received) = (self.bench.elapsed, false);
        self.trace(format!("restart closed {is_closed} again {again}"));
        Ok(())
    }

    fn restart_receiver(&mut self) {
        self.trace("receiver starts again");
        let bench = std::mem::replace(&mut self.bench, Bench::new());
        let (elapsed, disk) = (bench.elapsed, bench.disk);
        self.bench = Bench::on(disk);
        self.bench.elapsed = elapsed;
        (self.latest, self.checked) = (None, 0);
        (self.is_unread, self.was_unread) = (false, false);
    }

    /// Describes a TOI otherwise three times, with all data of each content at once.
    fn describe_three_times(&mut self) -> Result<(), String> {
        let at = usize::try_from(self.rng.below(self.files.len() as u64)).unwrap();
        let toi = self.files[at].toi;
        let lost_percent = std::mem::replace(&mut self.lost_percent, 0);
        for _ in 0..3 {
            let location = self.files[at].location;
            let made = self.made(location);
            self.files[at] = SentFile { toi, has_digest: true, ..made };
            self.instance += u32::from(self.numbering == Numbering::CountedUp);
            self.send_fdt()?;
            let file = self.files[at].clone();
            self.send_whole(&file)?;
        }
        self.lost_percent = lost_percent;
        Ok(())
    }

    /// Sends all symbols of a file, in which anybody may forge the flag A, and pauses, none of which
    /// tells anything.
    fn send_whole(&mut self, file: &SentFile) -> Result<(), String> {
        let sent = Sent { toi: file.toi, fti: file.fti, ..SENT };
        for packet in sent.data(&file.content, file.oti, 0..file.oti.partition().largest() + 3) {
            if self.lifetime >= HOUR && self.chance(5) {
                self.forge_close();
                let pause = self.rng.below(25_000);
                self.pause(pause)?;
            }
            self.bench.receive(&packet);
            self.check()?;
        }
        Ok(())
    }

    fn forge_close(&mut self) {
        if self.chance(30) {
            let mut close = Vec::new();
            Header::close(Tsi(SENT.tsi)).emit(Extensions::NONE, &mut close).unwrap();
            self.bench.receive(&close);
        }
    }

    /// Sends the FDT once, and all files once, with pauses: they are received.
    fn send_once(&mut self) -> Result<(), String> {
        self.pause(10_000)?;
        self.expires = self.bench.now().utc;
        self.send_fdt()?;
        let is_long = self.lifetime >= HOUR;
        let pause = if is_long { self.rng.below(40_000) } else { 0 };
        self.pause(pause)?;
        for file in self.files.clone() {
            self.send_whole(&file)?;
        }
        self.bench.sync();
        // As long as a file that came before is not silent, and as long as an instance is awaited.
        self.pause(10_000)?;
        self.pause(60_000)?;
        self.trace("sent once");
        for SentFile { toi, location, content, .. } in &self.files {
            if self.bench.file(location) != Some(&content[..]) {
                let files: Vec<_> = self.bench.core.files().collect();
                return Err(format!("TOI {toi}, {location} was sent whole: {files:?}"));
            }
        }
        Ok(())
    }

    /// Sends a newer version of a file, under a TOI of its own.
    fn renew_a_file(&mut self) {
        let at = usize::try_from(self.rng.below(self.files.len() as u64)).unwrap();
        let location = self.files[at].location;
        self.is_odd &= self.chance(50);
        self.files[at] = self.made(location);
        if self.numbering == Numbering::CountedUp {
            self.instance += 1;
        }
    }

    fn pause(&mut self, milliseconds: u64) -> Result<(), String> {
        let since = self.bench.elapsed.saturating_sub(self.started_at);
        if !self.is_received
            && since + Duration::from_millis(milliseconds) > Duration::from_secs(55)
        {
            let lost_percent = std::mem::replace(&mut self.lost_percent, 0);
            self.send_fdt()?;
            self.lost_percent = lost_percent;
        }
        self.bench.elapsed += Duration::from_millis(milliseconds);
        self.bench.core.handle_timeout(self.bench.now());
        self.bench.settle();
        self.check()
    }

    /// Sends the FDT and all files once, some of the packets lost or late.
    fn pass(&mut self) -> Result<(), String> {
        let mut packets = Vec::new();
        for file in self.files.clone() {
            let sent = Sent { toi: file.toi, fti: file.fti, ..SENT };
            let symbols = file.oti.partition().largest() + 3;
            packets.extend(sent.data(&file.content, file.oti, 0..symbols));
        }
        let repeats = 1 + packets.len() / 4;
        if self.chance(30) {
            for at in (1..packets.len()).rev() {
                let other = usize::try_from(self.rng.below(at as u64 + 1)).unwrap();
                packets.swap(at, other);
            }
        }
        // The storage of a disk that is busy answers late, perhaps behind the pause that follows.
        self.bench.is_slow = self.lost_percent > 0 && self.chance(25);
        let starts_with_fdt = self.chance(80);
        let repeats_fdt = self.lost_percent == 0 || self.chance(70);
        for (at, packet) in packets.iter().enumerate() {
            let is_repeated = at % repeats == 0 && (at > 0 || starts_with_fdt);
            if is_repeated && (repeats_fdt || at == 0) {
                self.send_fdt()?;
            }
            if self.lost_percent > 0 && self.chance(2) {
                self.forge_close();
                let pause = self.rng.below(30_000);
                self.pause(pause)?;
            }
            self.bench.elapsed += Duration::from_millis(self.rng.below(60));
            if !self.chance(self.lost_percent) {
                self.bench.receive(packet);
                self.check()?;
            }
        }
        if self.bench.is_slow && self.chance(50) {
            return self.check();
        }
        self.bench.sync();
        self.check()
    }

    fn send_fdt(&mut self) -> Result<(), String> {
        let at = self.bench.now().utc;
        // The next instance begins another session once all has expired.
        self.is_unread &= at < self.received_until;
        let is_old = self.expires.since(at) < self.lifetime / 2;
        if is_old && self.numbering == Numbering::CountedUp {
            self.instance += 1;
        }
        if is_old || self.is_rewriting {
            self.expires = at + self.lifetime;
        }
        let entries = self.files.iter().map(|file| FileEntry {
            content_md5: file.has_digest.then(|| md5(&file.content)),
            ..FileEntry::plain(Toi(file.toi), file.location, "text/plain", file.oti)
        });
        let mut entries: Vec<_> = entries.collect();
        if self.is_odd {
            entries.push(FileEntry { toi: Toi::FDT, ..entries[0].clone() });
        }
        let packet = SENT.instance_of(self.instance, self.expires, entries);
        let is_lost = self.chance(self.lost_percent);
        self.trace(format!("FDT lost {is_lost}"));
        if !is_lost {
            (self.is_received, self.received_until) = (true, self.expires);
            self.latest = Some(self.files.clone());
            self.is_unread &= self.numbering == Numbering::CountedUp;
            self.is_unread |= self.is_odd;
            self.was_unread |= self.is_odd;
            self.bench.receive(&packet);
        }
        self.check()
    }

    /// Checks what is reported against what is on the disk and what was sent.
    fn check(&mut self) -> Result<(), String> {
        for file in &self.bench.complete[self.checked..] {
            self.trace(format!("complete {} {}", file.toi, file.name));
            let octets = self.bench.file(&file.name).ok_or("a complete file is not there")?;
            let is_one = self
                .contents
                .iter()
                .any(|(location, content)| *location == file.location && content == octets);
            if !is_one {
                return Err(format!("{file:?} is a mixture"));
            }
        }
        self.checked = self.bench.complete.len();
        let Some(latest) = &self.latest else { return Ok(()) };
        if self.bench.standing() != Standing::Complete {
            return Ok(());
        }
        if self.is_unread {
            return Err("complete without an entry that cannot be read".to_owned());
        }
        for file in latest {
            if self.bench.file(file.location) != Some(&file.content[..]) {
                let files: Vec<_> = self.bench.core.files().collect();
                let (toi, name) = (file.toi, file.location);
                return Err(format!("complete without {name}, TOI {toi}: {files:?}"));
            }
        }
        Ok(())
    }
}
