//! Symbols of plain files: source symbols from the file, repair symbols from a thread that makes
//! them ahead of their time.
//!
//! ```text
//! rows of the schedule ──►          one symbol of each block in a row
//! block 0   ▇▇▇▇▇▇▇▇▇▇▁▁▁▁
//! block 1   ▇▇▇▇▇▇▁▁▁▁▁▁▁▁          what is made and not sent yet
//! block 2   ▇▇▁▁▁▁▁▁▁▁▁▁▁▁ ◄─ next  the block is read, coded, and yields a batch; the coder goes
//! ```
//!
//! To make a repair symbol takes the whole block and the solution of its equations, several times
//! the block's octets. A session of many blocks cannot hold that of all of them, but it can hold
//! some symbols of each. So one block at a time is coded, for a batch that is as long as memory
//! allows. First batches differ in length, so that blocks run dry one after the other: the coder
//! has steady work, and half of what a batch takes is in use on the average.

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
    failure::Failure,
    plain::{
        Symbols,
        schedule::{BlockName, SymbolName},
    },
};

/// A block is coded in about this many times its octets.
const CODER_BLOCKS: u64 = 5;

/// Symbols of a batch at least, however short memory is.
const MIN_BATCH: u64 = 16;

/// Symbols for which a small file's coder is worth its start.
const USEFUL_BATCH: u64 = 1024;

/// Symbols that lie in memory together, and leave it together.
const CHUNK: usize = 16;

/// A file that is sent.
#[derive(Debug)]
pub struct SentFile {
    /// Where its octets lie.
    pub file: File,
    /// How it is cut.
    pub oti: Oti,
}

/// The symbols of a session's files.
#[derive(Debug)]
pub struct FileSymbols {
    files: Arc<Vec<SentFile>>,
    memory_octets: u64,
    stocks: BTreeMap<BlockName, Stock>,
    orders: mpsc::Sender<Order>,
    made: mpsc::Receiver<(Order, io::Result<Made>)>,
}

/// Repair symbols of a block to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    block: BlockName,
    first: u32,
    count: u32,
}

/// Symbols in sending order, a few in each piece.
type Made = VecDeque<Vec<u8>>;

/// What is there of one block.
#[derive(Debug)]
struct Stock {
    symbol_size: usize,
    /// Where ids begin again once all were sent.
    first_repair: u32,
    batch: u32,
    /// A stock of so few symbols is filled up.
    low: usize,
    chunks: Made,
    /// Id of the first symbol in `chunks`, and its place in the first of them.
    next: u32,
    at: usize,
    held: usize,
    ordered: Option<Order>,
}

impl FileSymbols {
    /// Starts the thread that makes repair symbols, within about `memory_octets`.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the machine has no thread to give.
    pub fn start(files: Vec<SentFile>, memory_octets: u64) -> Result<Self, Failure> {
        let files = Arc::new(files);
        let (orders, ordered) = mpsc::channel::<Order>();
        // One batch may wait to be taken; the next is made when that was.
        let (finished, made) = mpsc::sync_channel(0);
        let source = Arc::clone(&files);
        let work = move || {
            for order in ordered {
                if finished.send((order, make(&source, order))).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("coder".into())
            .spawn(work)
            .map_err(|error| Failure::io("thread of the coder", error))?;
        Ok(Self { files, memory_octets, stocks: BTreeMap::new(), orders, made })
    }

    /// Takes a batch that was made.
    fn take(&mut self, (order, made): (Order, io::Result<Made>)) -> io::Result<()> {
        if let Some(stock) = self.stocks.get_mut(&order.block)
            && stock.ordered == Some(order)
        {
            stock.ordered = None;
            stock.held += usize::try_from(order.count).unwrap_or_default();
            stock.chunks.append(&mut made?);
        }
        Ok(())
    }

    fn repair(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        loop {
            let stock = self.stocks.get_mut(&name.block);
            let stock = stock.ok_or_else(|| io::Error::other("no repair symbols were prepared"))?;
            if stock.give(name.esi, symbol) {
                self.fill(name.block);
                return Ok(());
            }
            self.fill(name.block);
            let made = self.made.recv().map_err(|_| io::Error::other("the coder has ended"))?;
            self.take(made)?;
        }
    }

    /// Orders more of a block that runs dry.
    fn fill(&mut self, block: BlockName) {
        let Some(stock) = self.stocks.get_mut(&block) else { return };
        if stock.ordered.is_none() && stock.held <= stock.low {
            let order = stock.order(block, stock.batch);
            // Without the thread the next `recv` says what is wrong.
            self.orders.send(order).ok();
        }
    }

    /// Returns the part of a block that a batch has, so that all batches fit into memory.
    fn share(&self, first: &[SymbolName]) -> Share {
        let octets = |name: &SymbolName| self.block(name.block).map_or(0, |(_, octets)| octets);
        let largest = first.iter().map(octets).max().unwrap_or(0);
        let all: u64 = first.iter().map(octets).sum();
        // A quarter is for the program, and for what lies unused between the batches.
        let memory = self.memory_octets - self.memory_octets / 4;
        let usable = memory.saturating_sub(CODER_BLOCKS * largest);
        // Half of each batch on the average, an eighth more when it is filled up, and one batch
        // that waits to be taken.
        Share { usable, wanted: all / 2 + all / 8 + largest }
    }

    /// Returns the source symbols and the octets of a block.
    fn block(&self, name: BlockName) -> Option<(u64, u64)> {
        let oti = &self.files.get(name.file)?.oti;
        let symbols = u64::from(oti.partition().symbols_of(name.sbn)?);
        Some((symbols, symbols * u64::from(oti.symbol_size())))
    }
}

/// `usable` octets of `wanted` ones.
#[derive(Debug, Clone, Copy)]
struct Share {
    usable: u64,
    wanted: u64,
}

impl Share {
    /// Returns the symbols of a batch of a block of `symbols` ones.
    fn batch(self, symbols: u64) -> u64 {
        let fits = u128::from(symbols) * u128::from(self.usable) / u128::from(self.wanted.max(1));
        let fits = u64::try_from(fits).unwrap_or(u64::MAX);
        fits.min(symbols.max(USEFUL_BATCH)).max(MIN_BATCH)
    }
}

impl Stock {
    /// Copies a symbol out; returns whether it was there.
    fn give(&mut self, Esi(esi): Esi, symbol: &mut [u8]) -> bool {
        if esi != self.next {
            // Another place of the sequence: what is there, or on its way, is of no use.
            self.chunks.clear();
            (self.next, self.at, self.held, self.ordered) = (esi, 0, 0, None);
        }
        let Some(chunk) = self.chunks.front() else { return false };
        let Some(made) = chunk.get(self.at..self.at + self.symbol_size) else { return false };
        symbol.iter_mut().zip(made).for_each(|(to, from)| *to = *from);
        self.at += self.symbol_size;
        if self.at >= chunk.len() {
            self.chunks.pop_front();
            self.at = 0;
        }
        self.held -= 1;
        self.next = self.after(esi);
        true
    }

    /// Notes what is ordered: the symbols behind those that are there, to the last id at most.
    fn order(&mut self, block: BlockName, count: u32) -> Order {
        let held = u32::try_from(self.held).unwrap_or(u32::MAX);
        let end = self.next.saturating_add(held);
        let first = if end >= RAPTORQ_ESI_LIMIT { self.first_repair } else { end };
        let order = Order { block, first, count: count.min(RAPTORQ_ESI_LIMIT - first) };
        self.ordered = Some(order);
        order
    }

    const fn after(&self, esi: u32) -> u32 {
        if esi + 1 < RAPTORQ_ESI_LIMIT { esi + 1 } else { self.first_repair }
    }
}

impl Symbols for FileSymbols {
    fn prepare(&mut self, first: &[SymbolName]) {
        self.stocks.clear();
        let share = self.share(first);
        let all: u64 = first.iter().filter_map(|name| self.block(name.block)).map(|it| it.1).sum();
        let mut passed = 0;
        for name in first {
            let Some((symbols, octets)) = self.block(name.block) else { continue };
            passed += octets;
            let batch = share.batch(symbols);
            let begin = (batch * passed).div_ceil(all.max(1)).max(MIN_BATCH);
            let count = |symbols: u64| u32::try_from(symbols).unwrap_or(u32::MAX);
            let oti = self.files.get(name.block.file).map(|sent| &sent.oti);
            let mut stock = Stock {
                symbol_size: oti.map_or(0, |oti| usize::from(oti.symbol_size())),
                first_repair: oti.map_or(0, |oti| oti.partition().largest()),
                batch: count(batch),
                low: usize::try_from(batch / 8).unwrap_or_default(),
                chunks: VecDeque::new(),
                next: name.esi.0,
                at: 0,
                held: 0,
                ordered: None,
            };
            self.orders.send(stock.order(name.block, count(begin))).ok();
            self.stocks.insert(name.block, stock);
        }
    }

    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        // The coder goes on to its next block as soon as a batch is taken off it.
        if let Ok(made) = self.made.try_recv() {
            self.take(made)?;
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

fn make(files: &[SentFile], order: Order) -> io::Result<Made> {
    let sent = files.get(order.block.file).ok_or(io::ErrorKind::NotFound)?;
    let Oti::RaptorQ(oti) = &sent.oti else {
        return Err(io::Error::other("only RaptorQ has repair symbols"));
    };
    let no_such_block = || io::Error::other("no such block");
    let octets = read_block(&sent.file, oti, order.block)?;
    let encoder = Encoder::new(oti, order.block.sbn, &octets).ok_or_else(no_such_block)?;
    drop(octets);
    let mut made = Made::new();
    encoder.for_each_symbol(order.first..order.first + order.count, &mut |_, symbol| {
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
        symbols.memory_octets = 0;
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
        // Three blocks of 21 symbols: the coder's five blocks, and a third of what is wanted.
        symbols.memory_octets = (5 * 21 * 16 + (63 * 16 * 5 / 8 + 21 * 16) / 3) * 4 / 3;
        let share = symbols.share(&[block(0), block(1), block(2)]);
        assert!(share.usable * 3 <= share.wanted, "{share:?}");
        assert_eq!(Share { usable: 100, wanted: 300 }.batch(9000), 3000);
        assert_eq!(Share { usable: 900, wanted: 300 }.batch(9000), 9000);
        assert_eq!(Share { usable: 900, wanted: 300 }.batch(9), 27);
        assert_eq!(Share { usable: 0, wanted: 300 }.batch(9000), MIN_BATCH);
        symbols.prepare(&[block(0), block(1), block(2)]);
        for stock in symbols.stocks.values() {
            assert!(u64::from(stock.batch) <= MIN_BATCH && stock.ordered.is_some(), "{stock:?}");
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
