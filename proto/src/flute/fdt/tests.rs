use proptest::prelude::*;

use super::{mbms::CacheControl, *};
use crate::fec::oti::{NoCodeOti, RaptorQOti, RaptorQParameters};

/// The document of the golden session; validated with the schema of RFC 6726.
pub(in crate::flute) const GOLDEN: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    "\n",
    r#"<FDT-Instance xmlns="urn:ietf:params:xml:ns:fdt" Expires="4200000000" Complete="true">"#,
    r#"<File TOI="1" Content-Location="file:///golden.bin" Content-Length="43" "#,
    r#"Content-Type="application/octet-stream" FEC-OTI-FEC-Encoding-ID="6" "#,
    r#"FEC-OTI-Encoding-Symbol-Length="16" FEC-OTI-Maximum-Source-Block-Length="3" "#,
    r#"FEC-OTI-Scheme-Specific-Info="AQABBA=="/></FDT-Instance>"#,
    "\n",
);

/// All that 3GPP adds, each in the namespace of its release.
const MBMS: &str = r#"<FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT"
        xmlns:a="urn:3GPP:metadata:2005:MBMS:FLUTE:FDT" xmlns:b="urn:3GPP:metadata:2007:MBMS:FLUTE:FDT"
        xmlns:c="urn:3GPP:metadata:2008:MBMS:FLUTE:FDT_ext" xmlns:d="urn:3gpp:metadata:2012:MBMS:FLUTE:FDT"
        xmlns:e="urn:3GPP:metadata:2009:MBMS:FLUTE:FDT_ext"
        xmlns:sv="urn:3gpp:metadata:2009:MBMS:schemaVersion" Expires="1" c:FullFDT="true"><File
        TOI="1" Content-Location="x" d:File-ETag="v&#49;" d:FEC-Redundancy-Level="20"
        e:Decryption-KEY-URI="k"><b:Cache-Control><b:Expires>7</b:Expires></b:Cache-Control>
        <sv:delimiter>0</sv:delimiter><d:Alternate-Content-Location-1 Availability-Time="?">
        <d:Alternate-Content-Location> one?a&amp;b </d:Alternate-Content-Location>
        <d:Alternate-Content-Location>two</d:Alternate-Content-Location>
        </d:Alternate-Content-Location-1><d:Alternate-Content-Location-2><d:Alternate-Content-Location>
        three</d:Alternate-Content-Location></d:Alternate-Content-Location-2>
        <a:Group>g</a:Group><Group><![CDATA[h]]></Group></File>
        <sv:schemaVersion>4</sv:schemaVersion><d:Base-URL-1>http://a/</d:Base-URL-1>
        <Group>all</Group><MBMS-Session-Identity-Expiry value="1">2</MBMS-Session-Identity-Expiry>
        </FDT-Instance>"#;

fn golden() -> FdtInstance {
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: 43,
        symbol_size: 16,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    });
    let oti = Oti::RaptorQ(oti.unwrap());
    let file = FileEntry::plain(Toi(1), "file:///golden.bin", "application/octet-stream", oti);
    FdtInstance {
        expires_ntp: 4_200_000_000,
        complete: true,
        files: vec![file],
        mbms: InstanceExtensions::default(),
    }
}

/// An instance with one file, whose attributes `extra` follow the required ones.
fn with_file(extra: &str) -> String {
    format!(
        r#"<FDT-Instance Expires="1"><File TOI="1" Content-Location="x" {extra}/></FDT-Instance>"#
    )
}

fn parse(document: &str) -> Result<FdtInstance, crate::wire::WireError> {
    FdtInstance::parse(document.as_bytes())
}

// test: rfc6726 3.4.2, rfc5052 6.2.4
#[test]
fn the_golden_document_is_read_and_written_octet_for_octet() {
    assert_eq!(GOLDEN.len(), 398);
    assert_eq!(golden().to_xml(), GOLDEN);
    assert_eq!(parse(GOLDEN), Ok(golden()));
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let document = GOLDEN.trim_end();
    for length in 0..document.len() {
        assert!(FdtInstance::parse(&document.as_bytes()[..length]).is_err(), "{length}");
    }
}

// test: rfc6726 3.4.2
#[test]
fn a_value_on_the_file_beats_that_on_the_instance() {
    let document = r#"<FDT-Instance Expires="1" Content-Type="text/plain" FEC-OTI-FEC-Encoding-ID="0"
        FEC-OTI-Encoding-Symbol-Length="10" FEC-OTI-Maximum-Source-Block-Length="4">
        <File TOI="1" Content-Location="a" Content-Length="95"/>
        <File TOI="2" Content-Location="b" Content-Length="95" Content-Type="x/y"
            FEC-OTI-Encoding-Symbol-Length="20"/></FDT-Instance>"#;
    let files = parse(document).unwrap().files;
    assert_eq!(files[0].content_type.as_deref(), Some("text/plain"));
    assert_eq!(files[0].oti, Some(Oti::NoCode(NoCodeOti::new(95, 10, 4).unwrap())));
    assert_eq!(files[1].content_type.as_deref(), Some("x/y"));
    assert_eq!(files[1].oti.unwrap().symbol_size(), 20);
}

// test: rfc6726 3.4.2, ts26346-mbms L.4
#[test]
fn foreign_elements_and_attributes_are_skipped() {
    let document = r#"<?xml version="1.0"?><!-- c --><f:FDT-Instance xmlns:f="urn:ietf:params:xml:ns:fdt"
        xmlns:m="urn:other" m:FullFDT="true" Expires="1" Unknown="?">
        <m:File TOI="9" Content-Location="not ours"/><m:Group>text &amp; more<![CDATA[<File/>]]></m:Group>
        <f:File TOI="7" Content-Location="a&amp;b" m:TOI="8"><m:Cache-Control><m:no-cache/></m:Cache-Control></f:File>
        <u:File TOI="5" Content-Location="undeclared"/>
        </f:FDT-Instance> "#;
    let instance = parse(document).unwrap();
    assert_eq!(instance.files.len(), 1);
    assert_eq!(instance.files[0].toi, Toi(7));
    assert_eq!(instance.files[0].content_location, "a&b");
    assert!(!instance.complete);
}

// test: rfc6726 3.4.2, ts26346-mbms L.4
#[test]
fn with_content_encoding_the_content_length_says_nothing_about_the_transfer() {
    let fec = r#"FEC-OTI-FEC-Encoding-ID="0" FEC-OTI-Encoding-Symbol-Length="10"
        FEC-OTI-Maximum-Source-Block-Length="4" Content-Encoding="gzip" Content-Length="95""#;
    assert_eq!(parse(&with_file(fec)).unwrap().files[0].oti, None);
    let with_length = format!(r#"{fec} Transfer-Length="50""#);
    let files = parse(&with_file(&with_length)).unwrap().files;
    assert_eq!(files[0].oti.unwrap().transfer_length(), 50);
    assert_eq!(files[0].transferred(), Some(50));
}

// test: ts26346-mbms 7.2.10, rfc6726 3.4.2
#[test]
fn what_3gpp_adds_is_read_in_its_namespaces_and_in_that_of_the_table() {
    let separate = MBMS;
    let namespace = "urn:3GPP:metadata:2022:FLUTE:FDT";
    let joined = ["a:", "b:", "c:", "d:", "e:"].iter().fold(separate.to_owned(), |text, prefix| {
        text.replace(&format!("<{prefix}"), "<")
            .replace(&format!("</{prefix}"), "</")
            .replace(&format!(" {prefix}"), " ")
    });
    let joined = joined.replacen("urn:IETF:metadata:2005:FLUTE:FDT", namespace, 1);
    for document in [separate.to_owned(), joined] {
        let instance = parse(&document).unwrap();
        assert!(instance.mbms.full, "{document}");
        assert_eq!(instance.mbms.groups, ["all"]);
        assert_eq!(instance.mbms.base_urls, ["http://a/"]);
        let file = &instance.files[0].mbms;
        assert_eq!(file.groups, ["g", "h"]);
        assert_eq!(file.cache, Some(CacheControl::Expires(7)));
        assert_eq!(file.etag.as_deref(), Some("v1"));
        assert_eq!(file.alternative_locations, ["one?a&b", "two", "three"]);
        assert_eq!((file.redundancy_percent, file.key_uri.as_deref()), (Some(20), Some("k")));
    }
}

// test: ts26346-mbms 7.2.10
#[test]
fn values_of_3gpp_are_limited_in_number_and_length() {
    let with = |groups: String| {
        let end = "/></FDT-Instance>";
        parse(&with_file("").replace(end, &format!(">{groups}</File></FDT-Instance>")))
    };
    assert!(with("<Group>g</Group>".repeat(mbms::MAX_VALUES)).is_ok());
    assert!(with("<Group>g</Group>".repeat(mbms::MAX_VALUES + 1)).is_err());
    let long = |length: usize| format!("<Group>{}</Group>", "&#103;".repeat(length));
    assert!(with(long(MAX_ATTRIBUTE_BYTES)).is_ok());
    assert!(with(long(MAX_ATTRIBUTE_BYTES + 1)).is_err());
    assert!(with("<Group>&own;</Group>".to_owned()).is_err());
}

// test: ts26346-mbms 7.2.10
#[test]
fn how_long_a_file_may_be_kept_is_one_of_three() {
    for (element, cache) in [
        ("<no-cache>true</no-cache>", Some(CacheControl::NoCache)),
        ("<no-cache/>", Some(CacheControl::NoCache)),
        ("<no-cache>false</no-cache>", None),
        ("<max-stale>1</max-stale>", Some(CacheControl::MaxStale)),
        ("<Expires>4294967295</Expires>", Some(CacheControl::Expires(u32::MAX))),
    ] {
        let document = with_file("").replace(
            "/></FDT-Instance>",
            &format!("><Cache-Control>{element}</Cache-Control></File></FDT-Instance>"),
        );
        assert_eq!(parse(&document).unwrap().files[0].mbms.cache, cache, "{element}");
    }
}

// test: rfc6726 3.4.2
#[test]
fn all_namespaces_that_flute_has_had_are_read() {
    for namespace in [
        Some(NAMESPACE),
        Some(NAMESPACE_MBMS),
        Some("http://www.example.com/flute"),
        Some("urn:3GPP:metadata:2022:FLUTE:FDT"),
        None,
    ] {
        let document = match namespace {
            Some(namespace) => golden().to_xml_in(namespace),
            None => golden().to_xml().replace(&format!(" xmlns=\"{NAMESPACE}\""), ""),
        };
        assert_eq!(parse(&document), Ok(golden()), "{namespace:?}");
    }
}

// test: rfc6726 5
#[test]
fn parameters_of_entry_and_packet_must_agree() {
    let own = golden().files.remove(0);
    let oti = own.oti;
    let other = Oti::NoCode(NoCodeOti::new(43, 16, 3).unwrap());
    assert_eq!(own.parameters(None), Ok(oti));
    assert_eq!(own.parameters(oti), Ok(oti));
    assert!(own.parameters(Some(other)).is_err());
    let bare = FileEntry { oti: None, encoding_id: None, ..own.clone() };
    assert_eq!(bare.parameters(None), Ok(None));
    assert_eq!(bare.parameters(Some(other)), Ok(Some(other)));
    let longer = Oti::NoCode(NoCodeOti::new(44, 16, 3).unwrap());
    assert!(bare.parameters(Some(longer)).is_err());
    let foreign = FileEntry { oti: None, encoding_id: Some(5), ..own };
    assert!(foreign.parameters(None).unwrap_err().to_string().contains("Reed-Solomon"));
}

#[test]
fn parameters_of_a_scheme_that_is_not_ours_are_left_alone() {
    let fec =
        r#"FEC-OTI-FEC-Encoding-ID="5" FEC-OTI-Encoding-Symbol-Length="10" Content-Length="9""#;
    let files = parse(&with_file(fec)).unwrap().files;
    assert_eq!((files[0].encoding_id, files[0].oti), (Some(5), None));
}

#[test]
fn parameters_that_are_not_valid_are_refused() {
    for (specific, symbol) in [
        ("AAABBA==", "16"),
        ("AQABBA==", "0"),
        ("AQABBA==", "65536"),
        ("AQABBA==", "18446744073709551616"),
        ("AQABBA==", "-1"),
        ("AQAB", "16"),
        ("?", "16"),
    ] {
        let fec = format!(
            r#"Content-Length="43" FEC-OTI-FEC-Encoding-ID="6"
            FEC-OTI-Encoding-Symbol-Length="{symbol}" FEC-OTI-Scheme-Specific-Info="{specific}""#
        );
        assert!(parse(&with_file(&fec)).is_err(), "{specific} {symbol}");
    }
}

// test: rfc6726 3.1, rfc6726 3.2, rfc6726 3.3, rfc6726 3.4.2
#[test]
fn what_the_schema_requires_must_be_there() {
    for document in [
        "",
        "<FDT-Instance/>",
        r#"<FDT-Instance Expires="1"/>"#,
        r#"<FDT-Instance><File TOI="1" Content-Location="x"/></FDT-Instance>"#,
        r#"<FDT-Instance Expires="x"><File TOI="1" Content-Location="x"/></FDT-Instance>"#,
        r#"<FDT-Instance Expires="1"><File Content-Location="x"/></FDT-Instance>"#,
        r#"<FDT-Instance Expires="1"><File TOI="0" Content-Location="x"/></FDT-Instance>"#,
        r#"<FDT-Instance Expires="1"><File TOI="1"/></FDT-Instance>"#,
        r#"<FDT-Instance Expires="1"><File TOI="1" Content-Location="x"/><File TOI="1"
            Content-Location="y"/></FDT-Instance>"#,
        r#"<FDT Expires="1"><File TOI="1" Content-Location="x"/></FDT>"#,
        r#"<x><FDT-Instance Expires="1"><File TOI="1" Content-Location="x"/></FDT-Instance></x>"#,
    ] {
        assert!(parse(document).is_err(), "{document}");
    }
    assert!(parse(&with_file("Complete=\"?\"")).is_ok());
    assert!(parse(&with_file("").replace("Expires", "Complete=\"?\" Expires")).is_err());
}

#[test]
fn document_types_entities_and_second_roots_are_refused() {
    let document = with_file("");
    assert!(parse(&format!("<!DOCTYPE x>{document}")).is_ok());
    assert!(parse(&format!("<!DOCTYPE x []>{document}")).is_err());
    assert!(parse(&format!("{document}{document}")).is_err());
    assert!(parse(&format!("{document}trailing")).is_err());
    assert!(parse(&format!("{document}&amp;")).is_err());
    assert!(parse(&with_file("Content-Type=\"&own;\"")).is_err());
    assert!(parse(&with_file("TOI=\"2\"")).is_err());
    assert!(FdtInstance::parse(b"\xff\xfe<").is_err());
}

#[test]
fn every_limit_holds_at_its_edge() {
    // The number of files is limited by their octets alone.
    let files: String =
        (1..=20_000).map(|toi| format!(r#"<File TOI="{toi}" Content-Location="x"/>"#)).collect();
    let many = format!(r#"<FDT-Instance Expires="1">{files}</FDT-Instance>"#);
    assert_eq!(parse(&many).unwrap().files.len(), 20_000);

    let attribute = |length: usize| with_file(&format!("Content-Type=\"{}\"", "y".repeat(length)));
    assert!(parse(&attribute(MAX_ATTRIBUTE_BYTES)).is_ok());
    assert!(parse(&attribute(MAX_ATTRIBUTE_BYTES + 1)).is_err());

    let attributes = |count: usize| {
        with_file(&(2..count).map(|index| format!("a{index}=\"\" ")).collect::<String>())
    };
    assert!(parse(&attributes(MAX_ATTRIBUTES)).is_ok());
    assert!(parse(&attributes(MAX_ATTRIBUTES + 1)).is_err());

    let nested = |depth: usize| {
        let inner = depth - 1;
        with_file("").replace(
            "</FDT-Instance>",
            &format!("{}{}</FDT-Instance>", "<e>".repeat(inner), "</e>".repeat(inner)),
        )
    };
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert!(parse(&nested(MAX_DEPTH + 1)).is_err());

    let padded = |length: usize| {
        let document = with_file("");
        format!("{document}{}", " ".repeat(length - document.len()))
    };
    assert!(parse(&padded(MAX_BYTES)).is_ok());
    assert!(parse(&padded(MAX_BYTES + 1)).is_err());
}

// test: ts26346-mbms 7.2.10
#[test]
fn an_mbms_table_says_which_schema_it_follows() {
    let instance = parse(MBMS).unwrap();
    let written = instance.to_xml_in(NAMESPACE_MBMS);
    let version = "/><sv:schemaVersion xmlns:sv=\"urn:3gpp:metadata:2009:MBMS:schemaVersion\">4</sv:schemaVersion></FDT-Instance>\n";
    assert!(written.ends_with(version), "{written}");
    let files = parse(&written).unwrap().files;
    let locations = |files: &[FileEntry]| -> Vec<String> {
        files.iter().map(|file| file.content_location.clone()).collect()
    };
    assert_eq!(locations(&files), locations(&instance.files));
    assert!(!instance.to_xml().contains("schemaVersion"));
}

proptest! {
    // test: rfc6726 3.4.2
    #[test]
    fn an_instance_survives_a_round_trip(
        location in "[ -~]{0,40}", media in prop::option::of("[ -~]{0,20}"),
        expires: u32, toi in 1_u128..1 << 112, digest: Option<[u8; 16]>, complete: bool,
    ) {
        let mut instance = golden();
        instance.expires_ntp = expires;
        instance.complete = complete;
        let file = &mut instance.files[0];
        file.toi = Toi(toi);
        file.content_location = location;
        file.content_type = media;
        file.content_md5 = digest;
        prop_assert_eq!(parse(&instance.to_xml()), Ok(instance));
    }

    #[test]
    fn whatever_arrives_the_answer_is_a_value(
        at in 0_usize..398, octet: u8, tail in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let mut document = GOLDEN.as_bytes().to_vec();
        document[at] = octet;
        document.splice(at..at, tail);
        if let Ok(instance) = FdtInstance::parse(&document) {
            prop_assert!(!instance.files.is_empty());
        }
    }

    #[test]
    fn a_damaged_table_with_everything_in_it_gives_a_value(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(), length in 0_usize..40,
    ) {
        let mut document = MBMS.as_bytes().to_vec();
        for (place, octet) in places {
            let place = place.index(document.len());
            document[place] = octet;
        }
        let start = cut.index(document.len());
        let end = (start + length).min(document.len());
        document.drain(start..end);
        if let Ok(instance) = FdtInstance::parse(&document) {
            prop_assert!(instance.mbms.groups.len() <= mbms::MAX_VALUES);
        }
    }

    #[test]
    fn a_table_of_any_elements_gives_a_value(
        body in "(<(File TOI=\"[0-9]\" Content-Location=\"x\"|Group|Cache-Control|no-cache|Expires|a:b|/File|/Group|/Cache-Control|/Expires)/?>|[a-z&;#0-9]{1,5}|<!\\[CDATA\\[x\\]\\]>|<!--x-->){0,12}"
    ) {
        let _read = parse(&format!(r#"<FDT-Instance Expires="1">{body}</FDT-Instance>"#));
    }
}
