//! FEC parameters: every scheme's form on the wire, the blocks that follow from them, the codecs.

use proto::{
    fec::{
        codec::{BlockDecoder, BlockEncoder as _},
        is_supported, nocode,
        other_schemes::{UnsupportedOti, scheme_name},
        oti::{NoCodeOti, Oti, RAPTORQ_MAX_BLOCK_SYMBOLS, RaptorQOti},
        partition::Partition,
        raptorq_crate,
    },
    fixtures::packet::raptorq,
    flute::{alc::PayloadId, ext::ExtensionWriter, lct::Extensions},
    ids::{Esi, Sbn},
    wire::Reader,
};

use crate::script::Script;

/// Largest block whose symbols are really decoded.
const MAX_DECODED_SYMBOLS: u64 = 64;

/// Reads parameters of a scheme; with those that are valid, blocks are cut and symbols decoded.
pub fn run(octets: &[u8]) {
    let mut script = Script::new(octets);
    let encoding_id = script.u8();
    let content = script.take(14);
    foreign(encoding_id, content);
    let mut extension = vec![64, 4];
    extension.extend(content);
    extension.resize(16, 0);
    let Ok(extensions) = Extensions::new(&extension) else { return };
    let Ok(Some(oti)) = extensions.fti(encoding_id) else { return };
    assert!(is_supported(encoding_id) && oti.encoding_id() == encoding_id);
    write_again(&oti);
    blocks(&oti.partition(), oti.transfer_length().div_ceil(oti.symbol_size().into()));
    match oti {
        Oti::NoCode(oti) => {
            let again =
                NoCodeOti::new(oti.transfer_length(), oti.symbol_size(), oti.max_block_symbols());
            assert_eq!(again, Ok(oti));
        }
        Oti::RaptorQ(oti) => {
            assert_eq!(RaptorQOti::from_bytes(oti.octets()), Ok(oti));
            assert!(oti.partition().largest() <= RAPTORQ_MAX_BLOCK_SYMBOLS);
            assert_eq!(u64::from(oti.total_symbols()), oti.partition().total_symbols());
        }
    }
    decode(&oti, &mut script);
}

fn foreign(encoding_id: u8, content: &[u8]) {
    if let Ok(Some(oti)) = UnsupportedOti::parse(encoding_id, content) {
        assert!(!is_supported(encoding_id) && scheme_name(encoding_id).is_some());
        assert!(oti.transfer_length < 1 << 48 && !oti.to_string().is_empty());
    }
    let mut input = Reader::new(content);
    if let Ok(id) = PayloadId::parse(encoding_id, &mut input) {
        let mut written = Vec::new();
        assert_eq!(id.emit(encoding_id, &mut written), Ok(()));
        assert!(content.starts_with(&written));
    }
}

fn write_again(oti: &Oti) {
    let mut written = Vec::new();
    ExtensionWriter::new(&mut written).fti(oti);
    let again = Extensions::new(&written).and_then(|extensions| extensions.fti(oti.encoding_id()));
    assert_eq!(again, Ok(Some(*oti)));
}

/// Blocks follow one another without a gap, and differ by one symbol at most.
fn blocks(partition: &Partition, symbols: u64) {
    assert_eq!(partition.total_symbols(), symbols);
    let count = partition.blocks();
    assert_eq!(partition.symbols_of(Sbn(count)), None);
    assert_eq!(partition.first_symbol(Sbn(count)), None);
    let edges = [0, 1, partition.larger_blocks(), count / 2, count.saturating_sub(2)];
    for sbn in edges.into_iter().filter(|sbn| sbn + 1 < count) {
        let first = partition.first_symbol(Sbn(sbn)).expect("a block");
        let own = partition.symbols_of(Sbn(sbn)).expect("a block");
        assert!((partition.smallest()..=partition.largest()).contains(&own));
        assert_eq!(partition.first_symbol(Sbn(sbn + 1)), Some(first + u64::from(own)));
    }
    assert!(partition.largest() - partition.smallest() <= 1);
}

/// Gives a decoder symbols that are wrong in every way, then all true ones.
fn decode(oti: &Oti, script: &mut Script<'_>) {
    let partition = oti.partition();
    if partition.total_symbols() > MAX_DECODED_SYMBOLS || oti.symbol_size() > 256 {
        return;
    }
    let length = usize::try_from(oti.transfer_length()).expect("a short object");
    let octets: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
    let sbn = Sbn(u32::from(script.u8()) % partition.blocks());
    let size = usize::from(oti.symbol_size());
    let first = partition.first_symbol(sbn).expect("a block");
    let symbols = partition.symbols_of(sbn).expect("a block");
    let from = usize::try_from(first).expect("few") * size;
    let to = (from + usize::try_from(symbols).expect("few") * size).min(length);
    let block = octets.get(from..to).expect("a block of the object");
    let mut hostile = decoder(oti, sbn);
    while !script.is_over() {
        let esi = Esi(script.u32() >> (script.u8() & 31));
        hostile.push(esi, script.datagram());
        let _ = hostile.decode();
    }
    let mut honest = decoder(oti, sbn);
    let mut push = |esi: Esi, symbol: &[u8]| honest.push(esi, symbol);
    match oti {
        Oti::NoCode(oti) => nocode::Encoder::new(oti, sbn, block)
            .expect("a block")
            .for_each_symbol(0..symbols, &mut push),
        Oti::RaptorQ(oti) => raptorq_crate::Encoder::new(oti, sbn, block)
            .expect("a block")
            .for_each_symbol(1..symbols + 4, &mut push),
    }
    let solved = honest.decode().expect("it had more than K symbols, or all");
    assert!(solved.starts_with(block));
}

fn decoder(oti: &Oti, sbn: Sbn) -> Box<dyn BlockDecoder> {
    match oti {
        Oti::NoCode(oti) => Box::new(nocode::Decoder::new(oti, sbn).expect("a block")),
        Oti::RaptorQ(oti) => Box::new(raptorq_crate::Decoder::new(oti, sbn).expect("a block")),
    }
}

/// Parameters of every scheme, small ones with symbols.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let written = |oti: Oti| {
        let mut extension = Vec::new();
        ExtensionWriter::new(&mut extension).fti(&oti);
        let mut seed = vec![oti.encoding_id()];
        seed.extend(extension.get(2..).unwrap_or_default());
        seed
    };
    let symbol = [0, 0, 0, 0, 1, 0, 0, 16].into_iter().chain([7; 16]);
    let with_symbols = |oti: Oti| written(oti).into_iter().chain(symbol.clone()).collect();
    let nocode = |f, t, b| Oti::NoCode(NoCodeOti::new(f, t, b).expect("valid parameters"));
    let raptorq = |f, t, z, n, al| Oti::RaptorQ(raptorq(f, t, z, n, al));
    let mut seeds: Vec<Vec<u8>> = vec![
        with_symbols(raptorq(43, 16, 1, 1, 4)),
        with_symbols(raptorq(400, 32, 3, 2, 4)),
        with_symbols(nocode(150, 16, 3)),
        written(raptorq(942_574_504_275, 65_535, 255, 1, 1)),
        written(nocode(1 << 40, 65_535, 65_536)),
    ];
    seeds
        .extend([1, 2, 5, 128, 129].map(|id| vec![id, 0, 0, 0, 1, 0, 0, 0, 8, 5, 0, 0, 64, 0, 80]));
    seeds
}
