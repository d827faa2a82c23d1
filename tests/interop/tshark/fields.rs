//! The fields of a packet by tshark's names: what we read, and what tshark shows.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, process::Command};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::{Frame, Packet},
        ext::{CENC, FDT},
        fdt::{
            NAMESPACE, NAMESPACE_MBMS,
            store::{FdtEvent, FdtStore},
        },
        lct::Widths,
    },
    ids::Toi,
    pcap,
    time::Utc,
};
use serde::Deserialize;

/// Values by field, in the order of the packet.
pub(super) type Fields = BTreeMap<&'static str, Vec<String>>;

/// Every field that is compared.
const FIELDS: [&str; 36] = [
    "_ws.malformed",
    "_ws.expert.message",
    "ip.checksum.status",
    "udp.checksum.status",
    "alc.version",
    "rmt-lct.version",
    "rmt-lct.fsize.cci",
    "rmt-lct.fsize.tsi",
    "rmt-lct.fsize.toi",
    "rmt-lct.flags.sct_present",
    "rmt-lct.flags.ert_present",
    "rmt-lct.flags.close_session",
    "rmt-lct.flags.close_object",
    "rmt-lct.hlen",
    "rmt-lct.codepoint",
    "rmt-lct.cci",
    "rmt-lct.tsi",
    "rmt-lct.tsi64",
    "rmt-lct.toi",
    "rmt-lct.toi64",
    "rmt-lct.toi_extended",
    "rmt-lct.ext",
    "rmt-lct.hec.type",
    "rmt-lct.hec.len",
    "rmt-lct.flute_version",
    "rmt-lct.fdt_instance_id",
    "rmt-lct.cenc",
    "rmt-fec.encoding_id",
    "rmt-fec.sbn",
    "rmt-fec.esi",
    "rmt-fec.instance_id",
    "rmt-fec.fti.transfer_length",
    "rmt-fec.fti.encoding_symbol_length",
    "rmt-fec.fti.max_source_block_length",
    "rmt-fec.fti.num_blocks",
    "rmt-fec.fti.num_subblocks",
];
/// Fields beyond those of one packet's headers.
const MORE_FIELDS: [&str; 2] = ["rmt-fec.fti.alignment", "xml.tag"];

/// Returns what tshark shows of each packet.
pub(super) fn shown(capture: &Path) -> Vec<Fields> {
    #[derive(Deserialize)]
    struct Shown {
        #[serde(rename = "_source")]
        source: Source,
    }
    #[derive(Deserialize)]
    struct Source {
        layers: BTreeMap<String, Vec<String>>,
    }
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "json", "-r"]).arg(capture);
    // All packets, whatever their port; the codepoint names the FEC scheme; checksums are checked.
    tshark.args(["-d", "udp.port==1-65535,alc", "-o", "alc.lct.codepoint_as_fec_id:TRUE"]);
    tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    let names = || FIELDS.into_iter().chain(MORE_FIELDS);
    tshark.args(names().flat_map(|name| ["-e", name]));
    let output = tshark.output().expect("tshark is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let shown: Vec<Shown> = serde_json::from_slice(&output.stdout).expect("tshark writes JSON");
    let fields = |mut layers: BTreeMap<String, Vec<String>>| {
        names().filter_map(|name| Some((name, layers.remove(name)?))).collect()
    };
    shown.into_iter().map(|packet| fields(packet.source.layers)).collect()
}

/// Returns what our own parser reads of each packet.
pub(super) fn expected(capture: &Path) -> Vec<Fields> {
    let octets = std::fs::read(capture).expect("it was just written");
    let (format, records) = pcap::records(&octets).expect("it is a capture");
    let mut tables = FdtStore::default();
    let read = records.map(|record| {
        let record = record.expect("it is whole");
        let datagram = format.datagram(&record.header, record.frame).expect("it is UDP").payload;
        let mut fields = header(datagram);
        table(&mut tables, Utc(record.header.time_nanos / 1_000_000), datagram, &mut fields);
        fields
    });
    read.collect()
}

fn bytes_of(words: u8, half_word: bool) -> u8 {
    words * 4 + u8::from(half_word) * 2
}

fn header(datagram: &[u8]) -> Fields {
    let frame = Frame::parse(datagram).expect("our packets are well-formed");
    let header = frame.header;
    let Widths { tsi_words, toi_words, half_word } = header.widths;
    let (tsi_bytes, toi_bytes) = (bytes_of(tsi_words, half_word), bytes_of(toi_words, half_word));
    let mut fields: Fields = FIELDS.into_iter().map(|name| (name, Vec::new())).collect();
    let mut set = |name, value: String| drop(fields.insert(name, vec![value]));
    let digit = |flag: bool| u8::from(flag).to_string();
    set("ip.checksum.status", "1".into());
    set("udp.checksum.status", "1".into());
    set("alc.version", "1".into());
    set("rmt-lct.version", "1".into());
    set("rmt-lct.fsize.cci", ((header.congestion_words + 1) * 4).to_string());
    set("rmt-lct.fsize.tsi", tsi_bytes.to_string());
    set("rmt-lct.fsize.toi", toi_bytes.to_string());
    set("rmt-lct.flags.sct_present", "0".into());
    set("rmt-lct.flags.ert_present", "0".into());
    set("rmt-lct.flags.close_session", digit(header.close_session));
    set("rmt-lct.flags.close_object", digit(header.close_object));
    set("rmt-lct.hlen", (datagram.len() - frame.tail.len()).to_string());
    set("rmt-lct.codepoint", header.codepoint.to_string());
    let congestion = header.congestion.to_be_bytes();
    let skipped = 16 - 4 * (usize::from(header.congestion_words) + 1);
    set("rmt-lct.cci", hex(&congestion[skipped..]));
    let name = if tsi_bytes > 4 { "rmt-lct.tsi64" } else { "rmt-lct.tsi" };
    set(name, header.tsi.0.to_string());
    if let Some(Toi(toi)) = header.toi {
        let name = if toi_bytes > 4 { "rmt-lct.toi64" } else { "rmt-lct.toi" };
        set(name, (toi & u128::from(u64::MAX)).to_string());
        if toi_bytes > 8 {
            set("rmt-lct.toi_extended", (toi >> 64).to_string());
        }
    }
    extensions(&frame, &mut fields);
    payload(&frame, &mut fields);
    fields
}

fn extensions(frame: &Frame<'_>, fields: &mut Fields) {
    let found = frame.extensions;
    let kinds: Vec<_> = found.iter().map(|extension| extension.kind.to_string()).collect();
    if !kinds.is_empty() {
        fields.insert("rmt-lct.ext", vec![kinds.len().to_string()]);
    }
    let with_length = found.iter().filter(|extension| extension.kind < 128);
    let words = with_length.map(|extension| ((extension.content.len() + 2) / 4).to_string());
    fields.insert("rmt-lct.hec.len", words.collect());
    fields.insert("rmt-lct.hec.type", kinds);
    if found.find(FDT).is_some() {
        let header = found.fdt().expect("it is a whole word");
        fields.insert("rmt-lct.flute_version", vec![header.version.to_string()]);
        fields.insert("rmt-lct.fdt_instance_id", vec![header.instance_id.to_string()]);
    }
    if found.find(CENC).is_some() {
        // The octet behind the value, see the weak spots.
        fields.insert("rmt-lct.cenc", vec!["0".into()]);
    }
    let oti = found.fti(frame.header.codepoint).expect("our parameters are valid");
    let Some(oti) = oti else { return };
    let mut set = |name, value: u64| drop(fields.insert(name, vec![value.to_string()]));
    set("rmt-fec.fti.transfer_length", oti.transfer_length());
    set("rmt-fec.fti.encoding_symbol_length", oti.symbol_size().into());
    match oti {
        Oti::NoCode(oti) => {
            set("rmt-fec.instance_id", 0);
            set("rmt-fec.fti.max_source_block_length", oti.max_block_symbols().into());
        }
        Oti::RaptorQ(oti) => {
            let parameters = oti.parameters();
            set("rmt-fec.fti.num_blocks", parameters.source_blocks.into());
            set("rmt-fec.fti.num_subblocks", parameters.sub_blocks.into());
            set("rmt-fec.fti.alignment", parameters.alignment.into());
        }
    }
}

fn payload(frame: &Frame<'_>, fields: &mut Fields) {
    let Some(payload) = frame.payload().expect("our schemes are known") else { return };
    let mut set = |name, value: String| drop(fields.insert(name, vec![value]));
    set("rmt-fec.encoding_id", frame.header.codepoint.to_string());
    set("rmt-fec.sbn", payload.id.sbn.0.to_string());
    set("rmt-fec.esi", format!("{:#010x}", payload.id.esi.0));
}

/// Adds the tags of a table that one packet holds whole, written anew from what we read.
fn table(tables: &mut FdtStore, now: Utc, datagram: &[u8], fields: &mut Fields) {
    let packet = Packet::parse(datagram).expect("our packets are well-formed");
    let (Some(Toi::FDT), Some(payload)) = (packet.header.toi, packet.payload) else { return };
    let header = packet.extensions.fdt().expect("a table has EXT_FDT");
    let event = tables.handle_packet(now, &packet).expect("our tables are valid");
    let oti = packet.extensions.fti(packet.header.codepoint).expect("valid").expect("there");
    if oti.transfer_length() > u64::from(oti.symbol_size()) {
        // A part of a document is no XML, see the weak spots.
        fields.retain(|name, _| !name.starts_with("_ws."));
        return;
    }
    assert!(matches!(event, FdtEvent::Instance { .. } | FdtEvent::Repeated), "{event:?}");
    let namespace = if header.version == 1 { NAMESPACE_MBMS } else { NAMESPACE };
    let held = tables.instances(now).find(|held| held.id == header.instance_id);
    let written = held.expect("it was just read").instance.to_xml_in(namespace);
    assert_eq!(written.as_bytes(), payload.symbols, "we read all that stands there");
    fields.insert("xml.tag", tags(&written));
}

/// Returns the opening tags of a document.
fn tags(document: &str) -> Vec<String> {
    let tags = document.split_inclusive('>').map(str::trim_start);
    // Text in front of a closing tag stands in one piece with it.
    let is_opening =
        |tag: &&str| tag.starts_with('<') && !tag.starts_with("<?") && !tag.starts_with("</");
    tags.filter(is_opening).map(str::to_owned).collect()
}

fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        write!(text, "{octet:02x}").expect("a string takes all text");
    }
    text
}
