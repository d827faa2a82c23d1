//! A package inside a DM session that breaks off: what is held of it, and how it goes on.

use proto::dm::{
    code::StatusCode,
    encoding::Encoding,
    fumo::PackagePrefix,
    large::Chunker,
    syncml::{Command, CommandId, Item, Manage, Verb},
};
use proto::{ids::ComponentId, trust::bundle::BundleHead};

use super::*;

const WHOLE: &str = "./FwUpdate/Main/Update/PkgData";
const REMAINDER: &str = "./FwUpdate/Main/Ext/Package/Rest";
/// Characters of base64 in a piece: no multiple of four.
const PIECE: usize = 1_501;

fn bundle(device: &Device) -> Vec<u8> {
    let image = &device.broadcast.image;
    let (manifest, campaign) =
        (device.broadcast.manifest_envelope(), device.broadcast.campaign_envelope());
    let length = image.len() as u64;
    let head = BundleHead::emit(&manifest, &campaign, (ComponentId(0), length));
    [head, image.clone(), BundleHead::tail(length)].concat()
}

impl Device {
    fn begin_session(&mut self) {
        self.talks = true;
        // A device that starts has begun one.
        self.lose_session();
        self.agent.check_in(self.now);
        self.run();
    }

    /// Sends an object, or its first pieces; returns the statuses that they get.
    fn send(&mut self, uri: &str, octets: &[u8], pieces: usize) -> Vec<u16> {
        let mut cutter = Chunker::new(&Item::octets(uri, octets), Encoding::Xml);
        let mut codes = Vec::new();
        while !cutter.is_done() && codes.len() < pieces && self.post.is_some() {
            let fits = |item: &Item| item.data.as_ref().is_some_and(|data| data.len() <= PIECE);
            let piece = cutter.chunk(1, fits).unwrap();
            self.reply(vec![Command::Replace(Manage::new(CommandId::new(2), vec![piece]))]);
            if self.post.is_some() {
                let said = self.said();
                let status = said.statuses().find(|status| status.verb == Verb::Replace);
                codes.push(status.unwrap().code.0);
            }
        }
        codes
    }

    fn held(&self) -> Option<PackagePrefix> {
        self.agent.owners.partial_package()
    }

    /// The session is lost: its last message never brings an answer.
    fn lose_session(&mut self) {
        while self.post.take().is_some() {
            self.agent.handle_post_failure(self.now, TransportError::Network);
            self.run();
        }
        assert!(!self.agent.is_in_session());
    }

    fn piece_files(&self) -> usize {
        self.disk.files.keys().filter(|name| name.ends_with(".piece")).count()
    }

    /// Installs what is held, to see that it is the package.
    fn proves_whole(&mut self) {
        assert_eq!((self.agent.status().state, self.held()), (50, None));
        self.lose_session();
        let correlator = Some(Correlator("c-9".to_owned()));
        assert_eq!(self.agent.owners.update(self.now, correlator), StatusCode::ACCEPTED);
        self.agent.settle(self.now);
        self.run();
        let image = std::slice::from_ref(&self.broadcast.image);
        assert_eq!(self.installed, image);
        assert_eq!(self.piece_files(), 0, "the pieces have gone with the session's end");
    }
}

/// Octets that so many pieces make known.
fn known(pieces: usize) -> u64 {
    u64::try_from(pieces * PIECE / 4 * 3).unwrap()
}

// test: oma-dm 11.2
#[test]
fn a_package_whose_session_breaks_after_any_chunk_resumes_behind_the_synced_part() {
    let pieces = bundle(&Device::new()).len().div_ceil(3) * 4 / PIECE;
    assert!(pieces > 3, "{pieces}");
    for cut in 1..=pieces {
        for restarts in [false, true] {
            let mut device = Device::new();
            let package = bundle(&device);
            device.begin_session();
            assert_eq!(device.send(WHOLE, &package, cut), vec![213; cut]);
            device.lose_session();
            if restarts {
                device.restart();
            }
            let held = device.held().unwrap();
            assert_eq!(held.octets, known(cut));
            let remainder = held.remainder_of(&package).expect("it is the front of the package");
            // The remainder is interrupted too, once.
            device.begin_session();
            let codes = device.send(REMAINDER, remainder, 1);
            if codes == [213] {
                device.lose_session();
                let held = device.held().unwrap();
                assert!(held.octets > known(cut));
                let remainder = held.remainder_of(&package).unwrap().to_vec();
                device.begin_session();
                assert_eq!(
                    device.send(REMAINDER, &remainder, usize::MAX).last(),
                    Some(&200),
                    "{cut}"
                );
            }
            device.proves_whole();
        }
    }
}

#[test]
fn what_was_answered_is_held_wherever_the_power_goes() {
    let package = bundle(&Device::new());
    for outputs in 0.. {
        let mut device = Device::new();
        device.begin_session();
        device.power_left = Some(outputs);
        let answered = device.send(WHOLE, &package, 4).len();
        let is_over = !device.stopped;
        device.restart();
        let held = device.held();
        if answered > 0 && answered < 4 {
            let held = held.expect("a piece was answered");
            assert!(held.octets >= known(answered), "{outputs}");
        }
        let is_front = held.is_none_or(|held| held.remainder_of(&package).is_some());
        assert!(is_front, "{outputs}: {held:?}");
        if is_over {
            break;
        }
    }
}

#[test]
fn a_chunk_is_answered_once_it_is_synced() {
    let mut device = Device::new();
    device.begin_session();
    let mut piece = Item::octets(WHOLE, [7; 300]);
    piece.meta.get_or_insert_default().size = Some(1_000);
    piece.more_data = true;
    device.hear_reply(vec![Command::Replace(Manage::new(CommandId::new(2), vec![piece]))]);
    let Some(Output::Storage(StorageCommand::WriteOptionalFile(..))) =
        device.agent.poll_output(device.now)
    else {
        panic!()
    };
    let Some(Output::Storage(StorageCommand::Journal(write))) =
        device.agent.poll_output(device.now)
    else {
        panic!()
    };
    assert!(device.agent.poll_output(device.now).is_none(), "the storage has not answered");
    assert_eq!(device.held(), None);
    device.agent.handle_storage(device.now, Completion::OptionalFileWritten(Ok(())));
    device.agent.handle_storage(device.now, Completion::JournalWritten(write.generation));
    let Some(Output::Network(NetworkRequest::SendDmMessage(_))) =
        device.agent.poll_output(device.now)
    else {
        panic!()
    };
    assert_eq!(device.held().map(|held| held.octets), Some(300));
}

#[test]
fn a_chunk_without_room_costs_no_more_than_itself() {
    let mut device = Device::new();
    let package = bundle(&device);
    device.full_after = Some(2);
    device.begin_session();
    assert_eq!(device.send(WHOLE, &package, 4), [213; 4]);
    assert_eq!(device.held().unwrap().octets, known(2), "nothing fits behind a gap");
    device.lose_session();
    let remainder = device.held().unwrap().remainder_of(&package).unwrap().to_vec();
    device.begin_session();
    assert_eq!(device.send(REMAINDER, &remainder, 1), [213]);
    assert!(device.held().unwrap().octets > known(2), "there is room again");
    device.restart();
    let remainder = device.held().unwrap().remainder_of(&package).unwrap().to_vec();
    device.begin_session();
    assert_eq!(device.send(REMAINDER, &remainder, usize::MAX).last(), Some(&200));
    device.proves_whole();

    let mut full = Device::new();
    let package = bundle(&full);
    full.full_after = Some(0);
    full.begin_session();
    assert_eq!(full.send(WHOLE, &package, usize::MAX).last(), Some(&200), "memory is enough");
    full.proves_whole();
}

#[test]
fn another_package_starts_over_and_chunks_that_do_not_fit_are_rejected() {
    let package = bundle(&Device::new());
    let mut device = Device::new();
    device.begin_session();
    assert_eq!(device.send(REMAINDER, &package, usize::MAX).last(), Some(&404), "nothing is held");
    device.lose_session();
    device.begin_session();
    device.send(WHOLE, &package, 4);
    device.lose_session();
    device.begin_session();
    let other = vec![7; package.len()];
    device.send(WHOLE, &other, 2);
    let held = device.held().unwrap();
    assert_eq!((held.octets, held.remainder_of(&package)), (known(2), None));
    assert!(held.remainder_of(&other).is_some());
    device.lose_session();
    assert_eq!(device.piece_files(), 2);

    // A file that lost an octet, and all behind it, are not held.
    device.disk.files.get_mut("1.piece").unwrap().pop();
    device.restart();
    assert_eq!(device.held().unwrap().octets, known(1));
    assert!(!device.agent.files().contains(&"1.piece".to_owned()));

    // The remainder of another package is refused like any package that is not the signed one.
    device.begin_session();
    assert_eq!(device.send(REMAINDER, &package, usize::MAX).last(), Some(&200));
    assert_eq!((device.agent.status().state, device.held()), (10, None));
}

#[test]
fn no_more_is_stored_than_a_package_may_have_and_nothing_while_the_device_is_busy() {
    let package = bundle(&Device::new());
    let mut device = Device::new();
    device.agent.owners.config.limits.max_package_bytes = known(2);
    device.begin_session();
    assert_eq!(device.send(WHOLE, &package, 4), [213; 4]);
    assert_eq!(device.held().unwrap().octets, known(2));

    let mut busy = Device::new();
    busy.arm();
    busy.begin_session();
    assert_eq!(busy.send(WHOLE, &package, 2), [213; 2]);
    assert_eq!((busy.held(), busy.piece_files()), (None, 0));
}
