use crate::flute::decode::DecodeOutcome;
use std::collections::BTreeSet;

use proto::{
    fixtures::broadcast::{Broadcast, packet},
    ids::{Esi, Sbn},
};

use super::*;
use crate::store::{Limits, LogOutput, ObjectLayout, Recovered};

const NOW: Mono = Mono(0);

struct Case {
    broadcast: Broadcast,
    object: Object,
    stats: Stats,
}

impl Case {
    fn new() -> Self {
        Self::of(Broadcast::small())
    }

    fn of(broadcast: Broadcast) -> Self {
        let object = Object::new(broadcast.object, log(&broadcast));
        Self { broadcast, object, stats: Stats::default() }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let packet = Packet::parse(datagram).unwrap();
        assert!(self.object.handle_packet(NOW, &packet, &mut self.stats));
    }

    fn hear_tables(&mut self, segment: u32) {
        for packet in self.broadcast.table_packets(segment) {
            self.receive(&packet);
        }
    }

    /// Plays a storage that writes and syncs at once.
    fn sync(&mut self) {
        self.object.log_mut().flush();
        while let Some(output) = self.object.log_mut().poll_output() {
            if let LogOutput::Flush(ticket) = output {
                self.object.log_mut().handle_flushed(ticket);
            }
        }
    }
}

fn log(broadcast: &Broadcast) -> SymbolLog {
    let planned = broadcast.object;
    let layout = ObjectLayout::new(planned.object_key, planned.stored_sha256, planned.oti);
    let ready = Recovered { files_ready: layout.files(), ..Recovered::default() };
    SymbolLog::recovered(layout, Limits::default(), &ready, &BTreeSet::new(), &[])
}

#[test]
fn a_pass_without_loss_fills_every_block() {
    let mut case = Case::new();
    for datagram in case.broadcast.pass() {
        case.receive(&datagram);
    }
    assert!(case.object.blocks().has_enough());
    let Stats { header_forged, table_forged, data_forged, .. } = case.stats;
    assert_eq!((header_forged, table_forged, data_forged), (0, 0, 0));
    // Each block keeps 16 symbols beyond its 20.
    assert_eq!(case.stats.data_accepted, 72);
    case.sync();
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().slots.len(), 36);
}

#[test]
fn symbols_received_before_their_table_wait_and_count_only_then() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    for index in 0..10 {
        case.receive(&case.broadcast.data_packet(index));
    }
    assert_eq!((case.stats.data_pending, case.stats.data_accepted), (10, 0));
    assert_eq!(case.object.log().received(Sbn(0)), 0);
    case.hear_tables(0);
    assert_eq!(case.stats.data_accepted, 10);
    assert_eq!(case.object.log().received(Sbn(0)), 5);
}

#[test]
fn symbols_received_before_the_header_are_not_stored() {
    let mut case = Case::new();
    case.receive(&case.broadcast.data_packet(0));
    assert_eq!(case.stats.data_expired_unverified, 1);
}

// test: rfc6726 7.2.2, rfc6726 7.3.3, rfc5651 5.2.1, rfc5651 7, rfc5775 2.5, rfc5775 4.4, rfc5775 5
// test: rfc6330 6, rfc5052 11, rfc5651 8.3
#[test]
fn a_forged_symbol_is_dropped_and_the_true_one_still_accepted() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    let true_packet = case.broadcast.data_packet(3);
    let mut forged = true_packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    // Before the table: both wait, one survives.
    case.receive(&forged);
    case.receive(&true_packet);
    case.hear_tables(0);
    assert_eq!((case.stats.data_accepted, case.stats.data_forged), (1, 1));
    // With the table: refused at once.
    let mut forged = case.broadcast.data_packet(5);
    *forged.last_mut().unwrap() ^= 1;
    case.receive(&forged);
    assert_eq!((case.stats.data_accepted, case.stats.data_forged), (1, 2));
}

#[test]
fn each_changed_octet_of_a_table_packet_is_refused() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    let [first, ..] = &case.broadcast.table_packets(0)[..] else { panic!("tables") };
    let fixed = 16;
    let mut accepted = Vec::new();
    for at in fixed..first.len() {
        let mut changed = first.clone();
        changed[at] ^= 1;
        if Packet::parse(&changed).is_err() {
            continue;
        }
        let before = case.stats.table_accepted;
        case.receive(&changed);
        if case.stats.table_accepted > before {
            accepted.push(at);
        }
    }
    assert_eq!(accepted, Vec::<usize>::new());
    case.receive(first);
    assert_eq!(case.stats.table_accepted, 1);
}

// test: rfc5651 8.1
#[test]
fn another_objects_table_does_not_count() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    // Another plan of the same shape: its object key differs.
    let mut other = Broadcast::small();
    other.image[0] ^= 1;
    let other = Broadcast::of_image(other.image);
    for packet in other.table_packets(0) {
        case.receive(&packet);
    }
    assert_eq!(case.stats.table_accepted, 0);
    assert!(case.stats.table_forged > 0);
}

#[test]
fn a_header_that_the_campaign_does_not_pin_is_dropped() {
    let mut case = Case::new();
    let octets = case.broadcast.header.emit();
    for at in 0..octets.len() {
        let mut forged = octets.clone();
        forged[at] ^= 1;
        assert!(!case.object.receive_header(&forged, &mut case.stats), "octet {at}");
    }
    assert_eq!(case.stats.header_forged, octets.len() as u64);
    assert!(case.object.receive_header(&octets, &mut case.stats));
}

// test: rfc5651 8.3
#[test]
fn symbols_outside_the_plan_or_of_another_size_are_refused_before_any_hash() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    case.hear_tables(0);
    let toi = Toi::object(case.broadcast.object.component);
    for (sbn, esi, size) in
        [(2, 0, 64), (255, 0, 64), (0, 40, 64), (0, 0xff_ffff, 64), (0, 0, 63), (0, 0, 128)]
    {
        case.receive(&packet(toi, 6, &[], (Sbn(sbn), Esi(esi)), &vec![0; size]));
    }
    assert_eq!((case.stats.data_forged, case.stats.data_pending), (6, 0));
    // Where the table is not known yet, nothing but the length speaks against them.
    let (sbn, esi) = case.broadcast.header.shape().symbol_at(16).unwrap();
    for size in [0, 63, 65, 128] {
        case.receive(&packet(toi, 6, &[], (sbn, esi), &vec![0; size]));
    }
    assert_eq!((case.stats.data_forged, case.stats.data_pending), (10, 0));
}

#[test]
fn a_flood_of_symbols_without_table_stays_within_its_memory() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    for round in 0..100_u8 {
        for index in 0..case.broadcast.header.shape().leaves() {
            let (sbn, esi) = case.broadcast.header.shape().symbol_at(index).unwrap();
            let toi = Toi::object(case.broadcast.object.component);
            case.receive(&packet(toi, 6, &[], (sbn, esi), &[round; 64]));
        }
    }
    let plan = case.object.plan.as_ref().unwrap();
    // Two candidates for each of 80 symbols.
    assert_eq!(case.stats.data_pending, 160);
    assert!(plan.pending.octets() <= 160 * 160);
}

#[test]
fn one_block_is_decoded_at_a_time_and_a_failed_attempt_waits_for_one_more_symbol() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    (0..5).for_each(|segment| case.hear_tables(segment));
    // 20 symbols of each block, 10 of them repair symbols.
    for index in 20..60 {
        case.receive(&case.broadcast.data_packet(index));
    }
    assert_eq!(case.object.blocks_mut().next_decode(), None, "nothing is synced");
    case.object.blocks_mut().flush_complete_blocks();
    case.sync();
    let job = case.object.blocks_mut().next_decode().unwrap();
    assert_eq!((job.sbn, job.slots.len()), (Sbn(0), 20));
    assert_eq!(case.object.blocks_mut().next_decode(), None, "one at a time");
    case.object.blocks_mut().handle_decoded(Sbn(0), &DecodeOutcome::NeedsMore);
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().sbn, Sbn(1));
    case.object.blocks_mut().handle_decoded(Sbn(1), &DecodeOutcome::Done);
    case.object.blocks_mut().handle_block_done(Sbn(1));
    assert_eq!(case.object.blocks_mut().next_decode(), None, "no symbol came since");
    assert!(!case.object.blocks().has_enough());
    case.receive(&case.broadcast.data_packet(60));
    case.sync();
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().slots.len(), 21);
}

/// K symbols fail to determine a block once in a hundred times. If all that a block may hold had
/// arrived during that attempt, and counted as tried, no further one would ever follow.
#[test]
fn symbols_that_arrive_during_an_attempt_are_decoded_by_the_next_one() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    (0..5).for_each(|segment| case.hear_tables(segment));
    let per_block = |case: &mut Case, symbols: std::ops::Range<u64>| {
        for index in symbols {
            case.receive(&case.broadcast.data_packet(2 * index));
        }
        case.object.blocks_mut().flush_complete_blocks();
        case.object.log_mut().flush();
        case.sync();
    };
    per_block(&mut case, 0..20);
    let job = case.object.blocks_mut().next_decode().unwrap();
    assert_eq!((job.sbn, job.slots.len()), (Sbn(0), 20));
    per_block(&mut case, 20..40);
    assert_eq!(case.object.log().synced(Sbn(0)), 36, "more are not stored");
    case.object.blocks_mut().handle_decoded(Sbn(0), &DecodeOutcome::NeedsMore);
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().slots.len(), 36);
}

/// The storage may refuse the image of a block that holds all symbols that it may.
#[test]
fn a_full_block_is_attempted_again_after_as_many_symbols_as_it_has() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    (0..5).for_each(|segment| case.hear_tables(segment));
    for index in 0..36 {
        case.receive(&case.broadcast.data_packet(2 * index));
    }
    case.object.log_mut().flush();
    case.sync();
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().slots.len(), 36);
    let broken = crate::store::StorageError::while_doing("write")(std::io::Error::other("disk"));
    case.object.blocks_mut().handle_decoded(Sbn(0), &DecodeOutcome::Failed(broken));
    for count in 0..64 {
        assert_eq!(case.object.blocks_mut().next_decode(), None, "{count}");
        assert!(!case.object.blocks().is_due_again());
        case.receive(&case.broadcast.data_packet(2 * (count % 36)));
    }
    assert!(case.object.blocks().is_due_again());
    assert_eq!(case.object.blocks_mut().next_decode().unwrap().slots.len(), 36);
}

#[test]
fn a_lost_slot_is_missing_again() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    (0..3).for_each(|segment| case.hear_tables(segment));
    for index in 0..40 {
        case.receive(&case.broadcast.data_packet(index));
    }
    case.sync();
    let job = case.object.blocks_mut().next_decode().unwrap();
    let lost = DecodeOutcome::LostSlots(vec![job.slots[0]]);
    case.object.blocks_mut().handle_decoded(job.sbn, &lost);
    assert_eq!(case.object.log().synced(job.sbn), 19);
    case.receive(&case.broadcast.data_packet(0));
    assert_eq!(case.object.log().received(job.sbn), 20, "the lost one is taken again");
}

#[test]
fn tables_of_sixteen_segments_are_stored_and_the_least_recently_used_one_goes() {
    let mut case = Case::of(Broadcast::of_image(vec![0x5a; 64 * 300]));
    case.receive(&case.broadcast.header_packet());
    (0..16).for_each(|segment| case.hear_tables(segment));
    // Segment 0 is in use; segment 1 is the one to go for segment 16.
    case.receive(&case.broadcast.data_packet(0));
    case.hear_tables(16);
    let first_of = |segment: u64| segment * 16;
    for segment in [0].into_iter().chain(2..17) {
        case.receive(&case.broadcast.data_packet(first_of(segment) + 1));
    }
    assert_eq!((case.stats.data_accepted, case.stats.data_pending), (17, 0));
    case.receive(&case.broadcast.data_packet(first_of(1)));
    assert_eq!((case.stats.data_accepted, case.stats.data_pending), (17, 1));
}

/// Restores the tables that `from` has stored, as the next run does.
fn life_after(broadcast: Broadcast, tables: &[u8]) -> Case {
    let mut case = Case::of(broadcast);
    case.object.recover_tables(tables);
    case
}

/// Plays the file of table symbols.
fn tables_file(case: &mut Case) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some(output) = case.object.log_mut().poll_output() {
        if let LogOutput::Tables { offset, octets } = output {
            let start = usize::try_from(offset).unwrap();
            file.resize(file.len().max(start + octets.len()), 0);
            file[start..start + octets.len()].copy_from_slice(&octets);
        }
    }
    file
}

#[test]
fn a_run_after_a_power_cut_accepts_symbols_from_the_first_packet_on() {
    let mut case = Case::new();
    case.receive(&case.broadcast.header_packet());
    case.hear_tables(1);
    // Of the next one some symbols are here, and the others come after the cut.
    let next = case.broadcast.table_packets(2);
    case.receive(&next[0]);
    case.receive(&next[5]);
    let file = tables_file(&mut case);
    let mut case = life_after(case.broadcast, &file);
    case.receive(&case.broadcast.data_packet(16));
    assert_eq!((case.stats.data_accepted, case.stats.data_expired_unverified), (1, 0));
    case.receive(&case.broadcast.data_packet(32));
    assert_eq!((case.stats.data_accepted, case.stats.data_pending), (1, 1));
    case.receive(&next[1]);
    case.receive(&next[2]);
    assert_eq!(case.stats.data_accepted, 2);
    // Those that are here are not taken again.
    case.hear_tables(1);
    assert_eq!(case.stats.table_accepted, 2);
}

#[test]
fn stored_tables_of_another_plan_verify_nothing() {
    let mut other = Case::of(Broadcast::of_image(vec![7; 64 * 40]));
    other.receive(&other.broadcast.header_packet());
    other.hear_tables(0);
    let file = tables_file(&mut other);
    let mut case = life_after(Broadcast::small(), &file);
    case.receive(&case.broadcast.data_packet(0));
    assert_eq!(case.stats.data_expired_unverified, 1, "the header is not the pinned one");
    case.receive(&case.broadcast.header_packet());
    case.object.recover_tables(&file);
    case.receive(&case.broadcast.data_packet(0));
    assert_eq!((case.stats.data_accepted, case.stats.data_pending), (0, 1));
}
