//! Their receiver and their sender, driven by one fixed moment.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, SystemTime},
};

use flute::{
    core::{Oti, UDPEndpoint},
    receiver::{self, MultiReceiver, writer::ObjectWriterBufferBuilder},
    sender::{Config, ObjectDesc, Sender, TransferConfig},
};
use proto::time::Utc;

/// The moment of every test: their sender repeats the FDT for each second that passes.
pub(crate) const MOMENT: Utc = Utc(1_800_000_000_000);

/// Returns [`MOMENT`] in the type of the crate.
pub(crate) fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(MOMENT.0)
}

fn endpoint() -> UDPEndpoint {
    UDPEndpoint::new(Some("192.0.2.10".to_owned()), "239.7.7.30".to_owned(), 40_100)
}

/// Their receiver, which keeps files in memory.
pub(crate) struct TheirReceiver {
    files: Rc<ObjectWriterBufferBuilder>,
    receiver: MultiReceiver,
}

impl TheirReceiver {
    /// Starts with its default limits but one: blocks that are sent interleaved may fill 64 MiB.
    pub(crate) fn new() -> Self {
        let object_max_cache_size = Some(64 << 20);
        Self::start(receiver::Config { object_max_cache_size, ..receiver::Config::default() })
    }

    /// Starts with its default limits: 10 MiB that are ahead of the block it writes.
    pub(crate) fn with_default_limits() -> Self {
        Self::start(receiver::Config::default())
    }

    fn start(config: receiver::Config) -> Self {
        let files = Rc::new(ObjectWriterBufferBuilder::new(true));
        let receiver = MultiReceiver::new(files.clone(), Some(config), false);
        Self { files, receiver }
    }

    /// Pushes one datagram; it must be to their liking.
    pub(crate) fn push(&mut self, datagram: &[u8]) {
        self.push_at(moment(), datagram);
    }

    /// Pushes one datagram at another moment than that of the tests.
    pub(crate) fn push_at(&mut self, now: SystemTime, datagram: &[u8]) {
        self.receiver.push(&endpoint(), datagram, now).expect("they take every packet");
    }

    /// Pushes datagrams, and returns the complete files by Content-Location.
    pub(crate) fn receive(mut self, datagrams: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
        datagrams.iter().for_each(|datagram| self.push(datagram));
        self.complete()
    }

    /// Returns how many files are complete.
    pub(crate) fn count(&self) -> usize {
        let objects = self.files.objects.borrow();
        objects.iter().map(|it| it.borrow()).filter(|it| it.complete && !it.error).count()
    }

    /// Returns the complete files by Content-Location.
    pub(crate) fn complete(&self) -> BTreeMap<String, Vec<u8>> {
        let objects = self.files.objects.borrow();
        let objects = objects.iter().map(|object| object.borrow());
        objects
            .filter(|object| object.complete && !object.error)
            .map(|object| (object.meta.content_location.clone(), object.data.clone()))
            .collect()
    }
}

/// Returns all packets that their sender makes of one transfer of `files`, the close packet last.
///
/// The FDT is sent without FEC; the files by `oti`.
pub(crate) fn their_packets(
    tsi: u64,
    config: &Config,
    oti: &Oti,
    files: &[(&str, &[u8])],
) -> Vec<Vec<u8>> {
    their_packets_at(moment(), tsi, config, oti, files)
}

/// Like [`their_packets`], at another moment than that of the tests.
pub(crate) fn their_packets_at(
    now: SystemTime,
    tsi: u64,
    config: &Config,
    oti: &Oti,
    files: &[(&str, &[u8])],
) -> Vec<Vec<u8>> {
    let fdt = Oti::new_no_code(1400, 64);
    let mut sender = Sender::new(endpoint(), tsi, &fdt, config);
    for (location, octets) in files {
        let transfer = TransferConfig { oti: Some(oti.clone()), ..TransferConfig::default() };
        let url = url::Url::parse(location).unwrap();
        let media_type = "application/octet-stream";
        let file =
            ObjectDesc::create_from_buffer(octets.to_vec(), media_type, &url, true, transfer);
        sender.add_object(0, file.unwrap()).unwrap();
    }
    sender.publish(now).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = sender.read(now) {
        packets.push(packet);
    }
    packets.push(sender.read_close_session(now));
    packets
}
