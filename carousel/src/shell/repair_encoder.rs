//! Symbols of unsigned files: source symbols from the file, repair symbols from a thread that
//! encodes them ahead of their time.
//!
//! ```text
//! rows of the schedule ──►          one symbol of each block in a row
//! block 0   ▇▇▇▇▇▇▇▇▇▇▁▁▁▁
//! block 1   ▇▇▇▇▇▇▁▁▁▁▁▁▁▁          encoded and not sent yet
//! block 2   ▇▇▁▁▁▁▁▁▁▁▁▁▁▁ ◄─ next  the block is read and encoded, and yields a batch
//! ```
//!
//! A repair symbol needs the whole block and the solution of its equations, several times the
//! block's octets. A session of many blocks cannot hold that of all of them, but it can hold some
//! symbols of each. So one block at a time is encoded, for a batch that is as long as memory
//! allows. First batches differ in length, so that buffers run empty one after the other: the
//! encoder has steady work, and half of the memory of a batch is in use on average.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, mpsc},
    thread,
};

use proto::{
    fec::{
        codec::BlockEncoder as _,
        oti::{Oti, RAPTORQ_ESI_LIMIT, RaptorQOti},
        raptorq_crate::Encoder,
    },
    ids::Esi,
};

use crate::{
    error::CliError,
    unsigned::{
        Symbols,
        schedule::{BlockName, SymbolName},
    },
};

/// Encoding a block needs about this many times its octets.
const ENCODER_BLOCKS: u64 = 5;

/// Symbols of a batch at least, however short memory is.
const MIN_BATCH: u64 = 16;

/// Symbols for which the start of an encoder for a small file pays off.
const USEFUL_BATCH: u64 = 1024;

/// Symbols that are allocated and freed together.
const CHUNK: usize = 16;

/// A file that is sent.
#[derive(Debug)]
pub struct SentFile {
    /// The open file.
    pub file: File,
    /// Its FEC parameters.
    pub oti: Oti,
}

/// The symbols of a session's files.
#[derive(Debug)]
pub struct FileSymbols {
    files: Arc<Vec<SentFile>>,
    memory_bytes: u64,
    buffers: BTreeMap<BlockName, SymbolBuffer>,
    requests: mpsc::Sender<BatchRequest>,
    made: mpsc::Receiver<(BatchRequest, io::Result<EncodedBatch>)>,
}

/// A request for repair symbols of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BatchRequest {
    block: BlockName,
    first: u32,
    count: u32,
}

/// Symbols in sending order, a few in each chunk.
type EncodedBatch = VecDeque<Vec<u8>>;

/// The encoded symbols of one block that wait for their rows.
#[derive(Debug)]
struct SymbolBuffer {
    symbol_size: usize,
    /// The id after the last one.
    first_repair: u32,
    batch: u32,
    /// At so few symbols the buffer is refilled.
    refill_below: usize,
    chunks: EncodedBatch,
    /// Id of the first symbol in `chunks`, and its offset in the first of them.
    next: u32,
    at: usize,
    buffered: usize,
    requested: Option<BatchRequest>,
}

impl FileSymbols {
    /// Starts the thread that encodes repair symbols, within about `memory_bytes`.
    ///
    /// # Errors
    ///
    /// [`CliError`] when no thread can be started.
    pub fn start(files: Vec<SentFile>, memory_bytes: u64) -> Result<Self, CliError> {
        let files = Arc::new(files);
        let (requests, requested) = mpsc::channel::<BatchRequest>();
        // One batch may wait to be received; only then is the next encoded.
        let (finished, made) = mpsc::sync_channel(0);
        let source = Arc::clone(&files);
        let work = move || {
            for request in requested {
                if finished.send((request, make(&source, request))).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("encoder".into())
            .spawn(work)
            .map_err(|error| CliError::io("thread of the encoder", error))?;
        Ok(Self { files, memory_bytes, buffers: BTreeMap::new(), requests, made })
    }

    /// Adds an encoded batch to its buffer.
    fn receive(
        &mut self,
        (request, made): (BatchRequest, io::Result<EncodedBatch>),
    ) -> io::Result<()> {
        if let Some(buffer) = self.buffers.get_mut(&request.block)
            && buffer.requested == Some(request)
        {
            buffer.requested = None;
            buffer.buffered += usize::try_from(request.count).unwrap_or_default();
            buffer.chunks.append(&mut made?);
        }
        Ok(())
    }

    fn repair(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        loop {
            let buffer = self.buffers.get_mut(&name.block);
            let buffer =
                buffer.ok_or_else(|| io::Error::other("no repair symbols were prepared"))?;
            if buffer.read_symbol(name.esi, symbol) {
                self.refill(name.block);
                return Ok(());
            }
            self.refill(name.block);
            let made = self.made.recv().map_err(|_| io::Error::other("the encoder has ended"))?;
            self.receive(made)?;
        }
    }

    /// Requests more of a block whose buffer runs empty.
    fn refill(&mut self, block: BlockName) {
        let Some(buffer) = self.buffers.get_mut(&block) else { return };
        if buffer.requested.is_none() && buffer.buffered <= buffer.refill_below {
            let request = buffer.request(block, buffer.batch);
            // Without the thread the next `recv` fails.
            self.requests.send(request).ok();
        }
    }

    /// Returns the part of a block that a batch has, so that all batches fit into memory.
    fn slice(&self, first: &[SymbolName]) -> BatchSlice {
        let octets = |name: &SymbolName| self.block(name.block).map_or(0, |(_, octets)| octets);
        let largest = first.iter().map(octets).max().unwrap_or(0);
        let all: u64 = first.iter().map(octets).sum();
        // A quarter is for the program, and for memory unused between the batches.
        let memory = self.memory_bytes - self.memory_bytes / 4;
        let usable = memory.saturating_sub(ENCODER_BLOCKS * largest);
        // Half of each batch on average, an eighth more when it is refilled, and one batch that
        // waits to be received.
        BatchSlice { usable, needed: all / 2 + all / 8 + largest }
    }

    /// Returns the source symbols and the octets of a block.
    fn block(&self, name: BlockName) -> Option<(u64, u64)> {
        let oti = &self.files.get(name.file)?.oti;
        let symbols = u64::from(oti.partition().symbols_of(name.sbn)?);
        Some((symbols, symbols * u64::from(oti.symbol_size())))
    }
}

/// `usable` octets of `needed` ones.
#[derive(Debug, Clone, Copy)]
struct BatchSlice {
    usable: u64,
    needed: u64,
}

impl BatchSlice {
    /// Returns the symbols of a batch of a block of `symbols` ones.
    fn batch(self, symbols: u64) -> u64 {
        let fits = u128::from(symbols) * u128::from(self.usable) / u128::from(self.needed.max(1));
        let fits = u64::try_from(fits).unwrap_or(u64::MAX);
        fits.min(symbols.max(USEFUL_BATCH)).max(MIN_BATCH)
    }
}

impl SymbolBuffer {
    /// Copies a symbol out; returns whether it was there.
    fn read_symbol(&mut self, Esi(esi): Esi, symbol: &mut [u8]) -> bool {
        if esi != self.next {
            // Another place of the sequence: buffered and requested symbols are of no use.
            self.chunks.clear();
            (self.next, self.at, self.buffered, self.requested) = (esi, 0, 0, None);
        }
        let Some(chunk) = self.chunks.front() else { return false };
        let Some(made) = chunk.get(self.at..self.at + self.symbol_size) else { return false };
        symbol.iter_mut().zip(made).for_each(|(to, from)| *to = *from);
        self.at += self.symbol_size;
        if self.at >= chunk.len() {
            self.chunks.pop_front();
            self.at = 0;
        }
        self.buffered -= 1;
        self.next = self.after(esi);
        true
    }

    /// Records a request: the symbols after the buffered ones, to the last id at most.
    fn request(&mut self, block: BlockName, count: u32) -> BatchRequest {
        let buffered = u32::try_from(self.buffered).unwrap_or(u32::MAX);
        let end = self.next.saturating_add(buffered);
        let first = if end >= RAPTORQ_ESI_LIMIT { self.first_repair } else { end };
        let request = BatchRequest { block, first, count: count.min(RAPTORQ_ESI_LIMIT - first) };
        self.requested = Some(request);
        request
    }

    const fn after(&self, esi: u32) -> u32 {
        if esi + 1 < RAPTORQ_ESI_LIMIT { esi + 1 } else { self.first_repair }
    }
}

impl Symbols for FileSymbols {
    fn prepare(&mut self, first: &[SymbolName]) {
        self.buffers.clear();
        let slice = self.slice(first);
        let all: u64 = first.iter().filter_map(|name| self.block(name.block)).map(|it| it.1).sum();
        let mut passed = 0;
        for name in first {
            let Some((symbols, octets)) = self.block(name.block) else { continue };
            passed += octets;
            let batch = slice.batch(symbols);
            let begin = (batch * passed).div_ceil(all.max(1)).max(MIN_BATCH);
            let count = |symbols: u64| u32::try_from(symbols).unwrap_or(u32::MAX);
            let oti = self.files.get(name.block.file).map(|sent| &sent.oti);
            let mut buffer = SymbolBuffer {
                symbol_size: oti.map_or(0, |oti| usize::from(oti.symbol_size())),
                first_repair: oti.map_or(0, |oti| oti.partition().largest()),
                batch: count(batch),
                refill_below: usize::try_from(batch / 8).unwrap_or_default(),
                chunks: VecDeque::new(),
                next: name.esi.0,
                at: 0,
                buffered: 0,
                requested: None,
            };
            self.requests.send(buffer.request(name.block, count(begin))).ok();
            self.buffers.insert(name.block, buffer);
        }
    }

    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        // The encoder continues with its next block as soon as a batch is received.
        if let Ok(made) = self.made.try_recv() {
            self.receive(made)?;
        }
        let file = self.files.get(name.block.file).ok_or(io::ErrorKind::NotFound)?;
        let partition = file.oti.partition();
        if partition.symbols_of(name.block.sbn).is_none_or(|symbols| name.esi.0 >= symbols) {
            return self.repair(name, symbol);
        }
        let first = partition.first_symbol(name.block.sbn).ok_or(io::ErrorKind::NotFound)?;
        let offset = (first + u64::from(name.esi.0)) * u64::from(file.oti.symbol_size());
        read_padded(&file.file, file.oti.transfer_length(), offset, symbol)
    }
}

/// Fills `octets` from `offset` on, with zeros behind the end of the object.
fn read_padded(file: &File, length: u64, offset: u64, octets: &mut [u8]) -> io::Result<()> {
    let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (data, padding) = octets.split_at_mut(left.min(octets.len()));
    padding.fill(0);
    file.read_exact_at(data, offset)
}

fn make(files: &[SentFile], request: BatchRequest) -> io::Result<EncodedBatch> {
    let sent = files.get(request.block.file).ok_or(io::ErrorKind::NotFound)?;
    let Oti::RaptorQ(oti) = &sent.oti else {
        return Err(io::Error::other("only RaptorQ has repair symbols"));
    };
    let no_such_block = || io::Error::other("no such block");
    let octets = read_block(&sent.file, oti, request.block)?;
    let encoder = Encoder::new(oti, request.block.sbn, &octets).ok_or_else(no_such_block)?;
    drop(octets);
    let mut made = EncodedBatch::new();
    encoder.for_each_symbol(request.first..request.first + request.count, &mut |_, symbol| {
        let room = CHUNK * symbol.len();
        if made.back().is_none_or(|chunk| chunk.len() >= room) {
            made.push_back(Vec::with_capacity(room));
        }
        made.back_mut().into_iter().for_each(|chunk| chunk.extend_from_slice(symbol));
    });
    Ok(made)
}

fn read_block(file: &File, oti: &RaptorQOti, name: BlockName) -> io::Result<Vec<u8>> {
    let partition = oti.partition();
    let size = u64::from(oti.parameters().symbol_size);
    let first = partition.first_symbol(name.sbn).ok_or(io::ErrorKind::NotFound)?;
    let symbols = partition.symbols_of(name.sbn).ok_or(io::ErrorKind::NotFound)?;
    let octets = usize::try_from(u64::from(symbols) * size).map_err(io::Error::other)?;
    let mut block = vec![0; octets];
    read_padded(file, oti.parameters().transfer_length, first * size, &mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind};

    use proto::{
        fec::oti::{NoCodeOti, RaptorQParameters},
        ids::Sbn,
    };

    use super::*;

    const LENGTH: u64 = 1000;

    fn symbols(oti: Oti) -> (FileSymbols, Vec<u8>) {
        let octets: Vec<u8> = (0..LENGTH).map(|at| at.to_le_bytes()[0] ^ 0x55).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, &octets).unwrap();
        let file = File::open(path).unwrap();
        (FileSymbols::start(vec![SentFile { file, oti }], 1 << 20).unwrap(), octets)
    }

    fn name(sbn: u32, esi: u32) -> SymbolName {
        SymbolName { block: BlockName { file: 0, sbn: Sbn(sbn) }, esi: Esi(esi) }
    }

    fn raptorq() -> RaptorQOti {
        RaptorQOti::new(RaptorQParameters {
            transfer_length: LENGTH,
            symbol_size: 16,
            source_blocks: 3,
            sub_blocks: 1,
            alignment: 8,
        })
        .unwrap()
    }

    #[test]
    fn symbols_are_those_of_the_codec() {
        let oti = raptorq();
        let (mut symbols, octets) = symbols(Oti::RaptorQ(oti));
        symbols.memory_bytes = 0;
        symbols.prepare(&[name(1, 30), name(2, 21)]);
        let first = usize::try_from(oti.partition().first_symbol(Sbn(2)).unwrap()).unwrap() * 16;
        let encoder = Encoder::new(&oti, Sbn(2), &octets[first..]).unwrap();
        // Source symbols, then more repair symbols than three batches have.
        encoder.for_each_symbol(0..100, &mut |esi, expected| {
            let mut symbol = [0xff; 16];
            symbols.read(name(2, esi.0), &mut symbol).unwrap();
            assert_eq!(symbol, expected, "{esi:?}");
        });
        let error = symbols.read(name(0, 99), &mut [0; 16]).unwrap_err();
        assert!(error.to_string().contains("prepared"), "{error}");
    }

    #[test]
    fn another_place_of_the_sequence_and_its_end_are_reached() {
        let oti = raptorq();
        let (mut symbols, octets) = symbols(Oti::RaptorQ(oti));
        symbols.prepare(&[name(0, 21)]);
        let size = usize::try_from(oti.partition().symbols_of(Sbn(0)).unwrap()).unwrap() * 16;
        let encoder = Encoder::new(&oti, Sbn(0), &octets[..size]).unwrap();
        let last = RAPTORQ_ESI_LIMIT - 1;
        for esi in [500, 501, last - 1, last, 21, 22, 60] {
            let mut symbol = [0; 16];
            symbols.read(name(0, esi), &mut symbol).unwrap();
            encoder.for_each_symbol(esi..esi + 1, &mut |_, expected| assert_eq!(symbol, expected));
        }
    }

    #[test]
    fn what_is_held_fits_into_memory() {
        let block = |sbn| name(sbn, 21);
        let (mut symbols, _) = symbols(Oti::RaptorQ(raptorq()));
        // Three blocks of 21 symbols: five blocks for the encoder, and a third of what is needed.
        symbols.memory_bytes = (5 * 21 * 16 + (63 * 16 * 5 / 8 + 21 * 16) / 3) * 4 / 3;
        let slice = symbols.slice(&[block(0), block(1), block(2)]);
        assert!(slice.usable * 3 <= slice.needed, "{slice:?}");
        assert_eq!(BatchSlice { usable: 100, needed: 300 }.batch(9000), 3000);
        assert_eq!(BatchSlice { usable: 900, needed: 300 }.batch(9000), 9000);
        assert_eq!(BatchSlice { usable: 900, needed: 300 }.batch(9), 27);
        assert_eq!(BatchSlice { usable: 0, needed: 300 }.batch(9000), MIN_BATCH);
        symbols.prepare(&[block(0), block(1), block(2)]);
        for buffer in symbols.buffers.values() {
            assert!(
                u64::from(buffer.batch) <= MIN_BATCH && buffer.requested.is_some(),
                "{buffer:?}"
            );
        }
    }

    #[test]
    fn no_code_reads_the_file() {
        let (mut symbols, octets) = symbols(Oti::NoCode(NoCodeOti::new(LENGTH, 600, 9).unwrap()));
        let mut symbol = [9; 600];
        symbols.read(name(0, 1), &mut symbol).unwrap();
        assert_eq!((&symbol[..400], &symbol[400..]), (&octets[600..], &[0; 200][..]));
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let oti = Oti::NoCode(NoCodeOti::new(LENGTH + 600, 600, 9).unwrap());
        let error = symbols(oti).0.read(name(0, 2), &mut [0; 600]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
