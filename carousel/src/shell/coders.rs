//! Symbols of plain files: source symbols from the file, repair symbols from coders that a thread
//! makes ready ahead of their time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, mpsc},
    thread,
};

use proto::{
    fec::{
        codec::BlockEncoder as _,
        oti::{Oti, RaptorQOti},
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

/// A file that is sent.
#[derive(Debug)]
pub struct SentFile {
    /// Where its octets lie.
    pub file: File,
    /// How it is cut.
    pub oti: Oti,
}

/// The symbols of a session's files.
///
/// Holds the coders that were asked for and no others: about two times their blocks, and what one
/// takes while it is made.
#[derive(Debug)]
pub struct FileSymbols {
    files: Arc<Vec<SentFile>>,
    wanted: BTreeSet<BlockName>,
    ready: BTreeMap<BlockName, Encoder>,
    orders: mpsc::Sender<BlockName>,
    made: mpsc::Receiver<(BlockName, io::Result<Encoder>)>,
}

impl FileSymbols {
    /// Starts the thread that makes coders.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the machine has no thread to give.
    pub fn start(files: Vec<SentFile>) -> Result<Self, Failure> {
        let files = Arc::new(files);
        let (orders, ordered) = mpsc::channel::<BlockName>();
        // One coder may wait to be taken; the next is made when that was.
        let (finished, made) = mpsc::sync_channel(0);
        let source = Arc::clone(&files);
        let work = move || {
            for name in ordered {
                if finished.send((name, coder(&source, name))).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("coder".into())
            .spawn(work)
            .map_err(|error| Failure::io("thread of the coder", error))?;
        Ok(Self { files, wanted: BTreeSet::new(), ready: BTreeMap::new(), orders, made })
    }

    /// Takes a coder that was made, if it is still wanted.
    fn take(&mut self, name: BlockName, coder: io::Result<Encoder>) -> io::Result<()> {
        if self.wanted.contains(&name) {
            self.ready.insert(name, coder?);
        }
        Ok(())
    }

    fn repair(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        if !self.wanted.contains(&name.block) {
            return Err(io::Error::other("a coder was not asked for in time"));
        }
        while !self.ready.contains_key(&name.block) {
            let made = self.made.recv().map_err(|_| io::Error::other("the coder has ended"))?;
            self.take(made.0, made.1)?;
        }
        let Esi(esi) = name.esi;
        let coder = self.ready.get(&name.block).expect("it was just waited for");
        coder.for_each_symbol(esi..esi + 1, &mut |_, made| {
            symbol.iter_mut().zip(made).for_each(|(to, from)| *to = *from);
        });
        Ok(())
    }
}

impl Symbols for FileSymbols {
    fn prepare(&mut self, coders: &[BlockName]) {
        let wanted: BTreeSet<_> = coders.iter().copied().collect();
        self.ready.retain(|name, _| wanted.contains(name));
        for name in coders.iter().filter(|name| !self.wanted.contains(name)) {
            // Without the thread `read` says what is wrong.
            self.orders.send(*name).ok();
        }
        self.wanted = wanted;
    }

    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        // The coder goes on to its next block as soon as one is taken off it.
        if let Ok((block, coder)) = self.made.try_recv() {
            self.take(block, coder)?;
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

fn coder(files: &[SentFile], name: BlockName) -> io::Result<Encoder> {
    let sent = files.get(name.file).ok_or(io::ErrorKind::NotFound)?;
    let Oti::RaptorQ(oti) = &sent.oti else {
        return Err(io::Error::other("only RaptorQ has repair symbols"));
    };
    let block = read_block(&sent.file, oti, name)?;
    Encoder::new(oti, name.sbn, &block).ok_or_else(|| io::Error::other("no such block"))
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
        (FileSymbols::start(vec![SentFile { file, oti }]).unwrap(), octets)
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
        let blocks = [0, 1, 2].map(|sbn| BlockName { file: 0, sbn: Sbn(sbn) });
        symbols.prepare(&blocks[1..]);
        let first = usize::try_from(oti.partition().first_symbol(Sbn(2)).unwrap()).unwrap() * 16;
        let encoder = Encoder::new(&oti, Sbn(2), &octets[first..]).unwrap();
        encoder.for_each_symbol(0..40, &mut |esi, expected| {
            let mut symbol = [0xff; 16];
            symbols.read(name(2, esi.0), &mut symbol).unwrap();
            assert_eq!(symbol, expected, "{esi:?}");
        });
        symbols.prepare(&blocks[..1]);
        symbols.read(name(0, 99), &mut [0; 16]).unwrap();
        assert_eq!(symbols.ready.keys().copied().collect::<Vec<_>>(), blocks[..1]);
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
