//! Sessions whose packets arrive in any order: whatever comes first, all files become complete.

use proto::flute::fdt::{mbms::InstanceExtensions, skipped::Skipped};

use super::*;

/// Files of a session, each described by an instance of its own: more than a table store holds.
const FILES: u32 = 6;

/// The packets of a session of several files, and the content of each.
struct Session {
    tables: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    contents: Vec<(String, Vec<u8>)>,
}

/// Returns a session. Its tables are cut into symbols of `table_symbol` octets; the files differ in
/// their FEC scheme and in the place of its parameters.
fn session(tsi: u64, table_symbol: u16) -> Session {
    let mut made = Session { tables: Vec::new(), data: Vec::new(), contents: Vec::new() };
    for number in 0..FILES {
        let content = octets(300 + usize::try_from(number).unwrap() * 40);
        let length = content.len() as u64;
        let oti = match number % 3 {
            2 => Oti::NoCode(NoCodeOti::new(length, 16, 10).unwrap()),
            _ => raptorq(length, 2),
        };
        let in_fdt = number % 2 == 0;
        let sent = Sent { tsi, toi: u128::from(number) + 1, fti: !in_fdt, in_fdt, ..SENT };
        let location = format!("file:///{tsi}-{number}.bin");
        let entry = FileEntry::plain(Toi(sent.toi), &*location, "application/x-test", oti);
        let entry = FileEntry { oti: entry.oti.filter(|_| in_fdt), ..entry };
        made.tables.extend(sent.tables(number, entry, table_symbol));
        made.data.extend(sent.data(&content, oti, 0..40));
        made.contents.push((format!("{tsi}-{number}.bin"), content));
    }
    made
}

impl Sent {
    /// Returns the packets of an instance with one entry.
    fn tables(&self, instance_id: u32, entry: FileEntry, symbol_size: u16) -> Vec<Vec<u8>> {
        let document = FdtInstance {
            expires_ntp: (now().utc + HOUR).ntp_seconds(),
            complete: false,
            files: vec![entry],
            mbms: InstanceExtensions::default(),
            skipped: Skipped::default(),
        }
        .to_xml();
        let length = u64::try_from(document.len()).unwrap();
        let fti = Oti::NoCode(NoCodeOti::new(length, symbol_size, 64).unwrap());
        let mut extensions = Vec::new();
        let header = FdtHeader { version: self.version, instance_id };
        ExtensionWriter::new(&mut extensions).fdt(header).fti(&fti);
        let symbols = document.as_bytes().chunks(usize::from(symbol_size)).zip(0..);
        let packet = |(symbol, esi): (&[u8], u32)| {
            let id = PayloadId { sbn: Sbn(0), esi: Esi(esi) };
            self.packet(0, 0, &extensions, id, symbol)
        };
        symbols.map(packet).collect()
    }
}

/// Receives the packets in this order; all files of the sessions become complete, and nothing waits
/// or was dropped.
fn receive(order: &str, packets: &[Vec<u8>], sessions: &[&Session]) {
    let mut bench = Bench::new();
    packets.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    for (name, content) in sessions.iter().flat_map(|session| &session.contents) {
        assert_eq!(bench.file(name), Some(&content[..]), "{order}: {name}");
    }
    let UnsignedStats { dropped, evicted, sessions_evicted, invalid, .. } = bench.core.stats();
    assert_eq!((dropped, evicted, sessions_evicted, invalid), (0, 0, 0, 0), "{order}");
    assert!(bench.is_all_complete() && bench.core.waiting() == 0, "{order}");
}

/// Returns the packets in an order that `seed` chooses.
fn shuffled(mut packets: Vec<Vec<u8>>, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = crate::rng::SplitMix64::new(seed);
    for last in (1..packets.len()).rev() {
        let other = rng.below(last as u64 + 1);
        packets.swap(last, usize::try_from(other).unwrap());
    }
    packets
}

#[test]
fn every_order_of_tables_and_data_completes_all_files() {
    let session = session(7, 100);
    let forwards = [session.tables.clone(), session.data.clone()].concat();
    let reversed = |packets: &[Vec<u8>]| packets.iter().rev().cloned().collect::<Vec<_>>();
    let tables_last = [session.data.clone(), session.tables.clone()].concat();
    let tables_backwards = [session.data.clone(), reversed(&session.tables)].concat();
    let orders = [
        ("forwards", forwards.clone()),
        ("backwards", reversed(&forwards)),
        ("tables last", tables_last.clone()),
        ("tables last and backwards", tables_backwards),
        ("tables first, all backwards", reversed(&tables_last)),
    ];
    for (name, packets) in &orders {
        receive(name, packets, &[&session]);
    }
    // A receiver that tunes in at any moment hears the newest tables first.
    for at in (0..forwards.len()).step_by(7) {
        let mut turned = forwards.clone();
        turned.rotate_left(at);
        // What is cut comes whole with the next pass.
        let packets = [turned.clone(), turned].concat();
        receive(&format!("from packet {at}"), &packets, &[&session]);
    }
}

#[test]
fn sessions_that_interleave_complete_in_every_order() {
    let (one, two) = (session(7, 100), session(8, 100));
    let all = |session: &Session| [session.tables.clone(), session.data.clone()].concat();
    let backwards = |session: &Session| all(session).into_iter().rev().collect::<Vec<_>>();
    let pairs = [
        ("both forwards", all(&one), all(&two)),
        ("one backwards", all(&one), backwards(&two)),
        ("both backwards", backwards(&one), backwards(&two)),
    ];
    for (name, first, second) in pairs {
        let packets: Vec<_> = first.into_iter().zip(second).flat_map(|(a, b)| [a, b]).collect();
        receive(name, &packets, &[&one, &two]);
    }
}

#[test]
fn a_shuffled_session_completes_whatever_the_seed() {
    let session = session(7, 1400);
    assert_eq!(session.tables.len(), usize::try_from(FILES).unwrap());
    let all = [session.tables.clone(), session.data.clone()].concat();
    for seed in 0..60 {
        receive(&format!("seed {seed}"), &shuffled(all.clone(), seed), &[&session]);
    }
}
