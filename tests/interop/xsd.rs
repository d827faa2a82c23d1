//! Our tables against the schema of RFC 6726, by `xmllint`.

use std::{fs, path::Path, process::Command};

use carousel::{
    flute::fdt::FdtGenerator,
    unsigned::wire_profile::{FecOptions, FtiLocation, Profile, Scheme, oti_for},
};
use fumocast_tests::tools;
use proto::{
    fec::oti::Oti,
    flute::{
        alc::Packet,
        fdt::{FdtInstance, FileEntry, NAMESPACE, NAMESPACE_MBMS, mbms, skipped::Skipped},
    },
    ids::{Toi, Tsi},
};

use crate::peer::MOMENT;

const SCHEMA: &str = include_str!("rfc6726.xsd");

/// Validates a document by `xmllint`; returns its message when it is not valid.
fn validate(folder: &Path, namespace: &str, document: &str) -> Result<(), String> {
    let (schema, file) = (folder.join("schema.xsd"), folder.join("document.xml"));
    // FLUTE version 1 has the same elements and attributes in a namespace of its own.
    fs::write(&schema, SCHEMA.replace(NAMESPACE, namespace)).unwrap();
    fs::write(&file, document).unwrap();
    let mut xmllint = Command::new("xmllint");
    xmllint.args(["--nonet", "--noout", "--schema"]).args([&schema, &file]);
    let output = xmllint.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        // "Error validating": all other codes are of documents or schemas that cannot be read.
        Some(3) => Err(said),
        code => panic!("xmllint ends with {code:?}: {said}"),
    }
}

fn options(scheme: Scheme) -> FecOptions {
    FecOptions { scheme, symbol_size: 1024, max_block_symbols: 64 }
}

fn oti(scheme: Scheme) -> Oti {
    let wire_profile = Profile::Rfc6726.wire_profile(FtiLocation::Both);
    oti_for(300_001, options(scheme), &wire_profile).unwrap()
}

/// Returns an entry for each set of attributes that one can have.
fn every_entry() -> Vec<FileEntry> {
    let mut entries = Vec::new();
    for given in 0..1_u32 << 6 {
        let has = |bit: u32| given >> bit & 1 == 1;
        for oti in [None, Some(oti(Scheme::RaptorQ)), Some(oti(Scheme::NoCode))] {
            let toi = u128::try_from(entries.len()).unwrap() + 1;
            entries.push(FileEntry {
                // xmllint reads numbers of 24 digits at most.
                toi: Toi(toi << 70 | toi),
                content_location: "file:///a%20b/<&'\"é>.bin?x=1#y".to_owned(),
                content_length: has(0).then_some(u64::MAX),
                transfer_length: has(1).then_some(1),
                content_type: has(2).then(|| "text/plain; charset=\"a&b\"".to_owned()),
                content_encoding: has(3).then(|| "gzip".to_owned()),
                content_md5: has(4).then_some([0xfb; 16]),
                encoding_id: has(5).then(|| oti.map_or(129, |oti| oti.encoding_id())),
                oti,
                unnamed: None,
                mbms: mbms::FileExtensions::default(),
            });
        }
    }
    entries
}

fn table(complete: bool, files: Vec<FileEntry>) -> FdtInstance {
    let mbms = mbms::InstanceExtensions::default();
    let skipped = Skipped::default();
    FdtInstance { expires_ntp: 4_200_000_000, complete, files, mbms, skipped }
}

#[test]
fn a_table_with_any_set_of_attributes_is_valid_in_both_namespaces() {
    if !tools::found("xmllint") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for namespace in [NAMESPACE, NAMESPACE_MBMS] {
        for complete in [true, false] {
            let document = table(complete, every_entry()).to_xml_in(namespace);
            assert!(document.matches("<File ").count() == 192);
            assert_eq!(validate(folder.path(), namespace, &document), Ok(()));
        }
    }
}

#[test]
fn the_tables_of_plain_sessions_are_valid_in_their_own_namespace_alone() {
    if !tools::found("xmllint") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let namespaces = [(Profile::Rfc6726, NAMESPACE), (Profile::Mbms, NAMESPACE_MBMS)];
    for ((profile, namespace), (_, other)) in
        namespaces.into_iter().zip(namespaces.into_iter().rev())
    {
        for fti in [FtiLocation::Packet, FtiLocation::Fdt, FtiLocation::Both] {
            let wire_profile = profile.wire_profile(fti);
            let entries = [Scheme::RaptorQ, Scheme::NoCode].into_iter().zip(1..);
            let entries = entries.map(|(scheme, toi)| {
                let oti = oti_for(300_001, options(scheme), &wire_profile).unwrap();
                wire_profile.entry(Toi(toi), "files/a%20b.bin", oti, [0xfb; 16])
            });
            let issuer =
                FdtGenerator::with_profile(MOMENT, Tsi(7), entries.collect(), 0, wire_profile.fdt);
            let symbols = issuer.packets().iter().map(|packet| Packet::parse(packet).unwrap());
            let symbols = symbols.flat_map(|packet| packet.payload.unwrap().symbols);
            let document = String::from_utf8(symbols.copied().collect()).unwrap();
            assert_eq!(validate(folder.path(), namespace, &document), Ok(()), "{document}");
            validate(folder.path(), other, &document).unwrap_err();
        }
    }
}

#[test]
fn what_the_schema_forbids_is_not_valid() {
    if !tools::found("xmllint") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let entry = FileEntry::plain(Toi(1), "a", "text/plain", oti(Scheme::RaptorQ));
    let document = table(true, vec![entry]).to_xml();
    assert_eq!(validate(folder.path(), NAMESPACE, &document), Ok(()));
    for (what, instead) in [
        (" Expires=\"4200000000\"", ""),
        (" TOI=\"1\"", ""),
        (" TOI=\"1\"", " TOI=\"0\""),
        (" Content-Location=\"a\"", ""),
        (" Complete=\"true\"", " Complete=\"yes\""),
        ("Encoding-ID=\"6\"", "Encoding-ID=\"256\""),
        ("Specific-Info=\"", "Specific-Info=\"A"),
        ("<File ", "<file "),
    ] {
        let wrong = document.replace(what, instead);
        assert_ne!(wrong, document);
        let verdict = validate(folder.path(), NAMESPACE, &wrong);
        assert!(verdict.is_err(), "`{instead}` for `{what}`");
    }
}
