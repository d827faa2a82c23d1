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
        skipped: Skipped::default(),
    }
}

/// An instance with one file, whose attributes `extra` follow the required ones.
fn with_file(extra: &str) -> String {
    format!(
        r#"<FDT-Instance Expires="1"><File TOI="1" Content-Location="x" {extra}/></FDT-Instance>"#
    )
}

/// Returns the reasons of what was left out of an instance.
fn reasons(instance: &FdtInstance) -> Vec<String> {
    instance.skipped.parts.iter().map(ToString::to_string).collect()
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
    let groups = |groups: String| {
        let instance = with(groups).unwrap();
        (instance.files[0].mbms.groups.len(), instance.skipped.details)
    };
    assert_eq!(groups("<Group>g</Group>".repeat(mbms::MAX_VALUES)), (mbms::MAX_VALUES, 0));
    assert_eq!(groups("<Group>g</Group>".repeat(mbms::MAX_VALUES + 1)), (mbms::MAX_VALUES, 1));
    let long = |length: usize| format!("<Group>{}</Group>", "&#103;".repeat(length));
    assert_eq!(groups(long(MAX_ATTRIBUTE_BYTES)), (1, 0));
    assert_eq!(groups(long(MAX_ATTRIBUTE_BYTES + 1)), (0, 1));
    assert_eq!(groups("<Group>&own;</Group><Group>g</Group>".to_owned()), (1, 1));
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

/// Returns whether the only entry of a document is skipped.
fn is_skipped(document: &str) -> bool {
    let instance = parse(document).unwrap();
    instance.files.is_empty() && instance.skipped.entries == 1
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
        assert!(is_skipped(&with_file(&fec)), "{specific} {symbol}");
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
        r#"<FDT Expires="1"><File TOI="1" Content-Location="x"/></FDT>"#,
        r#"<x><FDT-Instance Expires="1"><File TOI="1" Content-Location="x"/></FDT-Instance></x>"#,
    ] {
        assert!(parse(document).is_err(), "{document}");
    }
    assert!(parse(&with_file("Complete=\"?\"")).is_ok());
    for entry in [
        r#"<File Content-Location="x"/>"#,
        r#"<File TOI="0" Content-Location="x"/>"#,
        r#"<File TOI="1"/>"#,
    ] {
        // The instance announces something all the same.
        let instance =
            parse(&format!("<FDT-Instance Expires=\"1\">{entry}</FDT-Instance>")).unwrap();
        assert_eq!((instance.files.len(), instance.skipped.entries), (0, 1), "{entry}");
    }
}

#[test]
fn an_expiry_that_cannot_be_read_is_named_as_it_is() {
    for (expires, named) in [
        ("4200000000.5", "Expires is 4200000000.5"),
        ("18038862642462720000", "Expires is 18038862642462720000"),
        ("x", "Expires is x"),
    ] {
        let document = format!(
            "<FDT-Instance Expires=\"{expires}\"><File TOI=\"1\" Content-Location=\"x\"/></FDT-Instance>"
        );
        let reason = parse(&document).unwrap_err().to_string();
        assert!(reason.starts_with(named), "{reason}");
    }
}

fn entry_with(attributes: &str) -> FdtInstance {
    parse(&format!(
        "<FDT-Instance Expires=\"1\" Content-Encoding=\"gzip\">\
         <File TOI=\"1\" Content-Location=\"x\" {attributes}/></FDT-Instance>"
    ))
    .unwrap()
}

#[test]
fn lengths_that_contradict_each_other_cost_the_entry_unless_it_is_encoded() {
    for (attributes, fits) in [
        (r#"Content-Encoding="identity" Content-Length="7" Transfer-Length="7""#, true),
        (r#"Content-Encoding="identity" Content-Length="8" Transfer-Length="7""#, false),
        (r#"Content-Encoding="" Content-Length="6" Transfer-Length="7""#, false),
        (r#"Content-Length="8" Transfer-Length="7""#, true),
    ] {
        let instance = entry_with(attributes);
        assert_eq!(instance.files.len(), usize::from(fits), "{attributes}");
        let reasons: Vec<_> = instance.skipped.parts.iter().map(ToString::to_string).collect();
        let named = "the entry of TOI 1 is skipped: Content-Length is ";
        assert!(reasons.iter().all(|reason| reason.starts_with(named)), "{reasons:?}");
    }
}

#[test]
fn an_encoding_that_is_none_leaves_the_content_length_that_of_the_object() {
    for (name, length) in
        [("identity", Some(7)), ("", Some(7)), ("null", Some(7)), ("br", None), ("gzip", None)]
    {
        let instance = entry_with(&format!("Content-Encoding=\"{name}\" Content-Length=\"7\""));
        assert_eq!(instance.files[0].transferred(), length, "{name}");
    }
}

#[test]
fn base64_may_have_white_space_inside() {
    let instance =
        entry_with("Content-MD5=\" 1B2M2Y8AsgTp&#10;gAmY7PhCfg == \" Content-Encoding=\"\"");
    let empty = [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04];
    assert_eq!(instance.files[0].content_md5.unwrap()[..8], empty);
}

#[test]
fn entities_of_a_document_and_text_that_is_none_are_refused() {
    let document = with_file("");
    for subset in ["[<!ENTITY own \"x\">]", "SYSTEM \"x.dtd\" [ ]", "PUBLIC 'x' \"y\" []"] {
        let refused = parse(&format!("<!DOCTYPE FDT-Instance {subset}>{document}")).unwrap_err();
        assert!(refused.to_string().contains("declarations of its own"), "{refused}");
    }
    assert!(FdtInstance::parse(b"\xff\xfe<").is_err());
}

// test: rfc6726 3.4.2
#[test]
fn a_document_type_and_octets_around_the_root_cost_nothing() {
    let document = with_file("");
    let expected = parse(&document).unwrap().files;
    for (around, noted) in [
        (format!("<?xml version='1.0' encoding='US-ASCII'?><!DOCTYPE FDT-Instance>{document}"), 0),
        (format!("<!DOCTYPE FDT-Instance SYSTEM \"fdt.dtd\">{document}"), 0),
        (format!("<!-- a --><?b c?>{document}<!-- d -->\r\n"), 0),
        (format!("{document}{document}"), 1),
        (format!("{document}trailing"), 1),
        (format!("{document}\0\0\0"), 1),
        (format!("{document}</x>"), 1),
        (format!("{document}<"), 1),
        (format!("{document}&amp;"), 1),
        (format!("leading{document}"), 1),
    ] {
        let instance = parse(&around).unwrap();
        assert_eq!(instance.files, expected, "{around}");
        assert_eq!((instance.skipped.entries, instance.skipped.details), (0, noted), "{around}");
    }
    let after = reasons(&parse(&format!("{document}trailing")).unwrap());
    assert!(after[0].contains("expected nothing behind the root element"), "{after:?}");
}

/// An instance with three entries, of which the second is `odd`.
fn around(odd: &str) -> String {
    format!(
        r#"<FDT-Instance Expires="1"><File TOI="1" Content-Location="a"/>{odd}<File TOI="3"
            Content-Location="c"><Group>g</Group></File></FDT-Instance>"#
    )
}

// test: rfc6726 3.4.2
#[test]
fn an_entry_that_cannot_be_read_costs_itself_and_is_named() {
    let long = "x".repeat(MAX_ATTRIBUTE_BYTES + 1);
    let long = format!("<File TOI='2' Content-Location='{long}'/>");
    for (odd, reason) in [
        ("<File Content-Location='b'/>", "entry 2 is skipped: TOI is absent"),
        ("<File TOI='0' Content-Location='b'/>", "TOI 0 is skipped: TOI is 0"),
        ("<File TOI='1' Content-Location='b'/>", "TOI 1 is skipped: TOI is 1"),
        ("<File TOI='x' Content-Location='b'/>", "entry 2 is skipped: TOI is x"),
        ("<File TOI='2'/>", "TOI 2 is skipped: Content-Location is absent"),
        (
            "<File TOI='2' Content-Location='b' Content-MD5='d41d8cd98f00b204e9800998ecf8427e'/>",
            "expected 16 octets in base64",
        ),
        ("<File TOI='2' Content-Location='b' Content-MD5='!'/>", "Content-MD5 is !"),
        ("<File TOI='2' Content-Location='b' Content-Length='many'/>", "Content-Length is many"),
        ("<File TOI='2' Content-Location='&own;'/>", "TOI 2 is skipped: attribute"),
        ("<File TOI='2' Content-Location='b' TOI='4'/>", "TOI 2 is skipped: attribute"),
        ("<File TOI='2' Content-Location=b/>", "TOI 2 is skipped: attribute"),
        ("<File TOI='2' Content-Location='b' FEC-OTI-FEC-Encoding-ID='999'/>", "at most 255"),
        (
            "<File TOI='2' Content-Location='b' Content-Length='9' FEC-OTI-FEC-Encoding-ID='0'
              FEC-OTI-Encoding-Symbol-Length='0' FEC-OTI-Maximum-Source-Block-Length='1'/>",
            "symbol length E is 0",
        ),
        (&long, "attribute is 8193, the limit is 8192"),
        ("<File TOI='x' Content-Location='b'><Group>not of a</Group></File>", "TOI is x"),
    ] {
        let instance = parse(&around(odd)).unwrap();
        let tois: Vec<u128> = instance.files.iter().map(|file| file.toi.0).collect();
        assert_eq!(tois, [1, 3], "{odd}");
        let groups: Vec<_> = instance.files.iter().map(|file| file.mbms.groups.len()).collect();
        assert_eq!(groups, [0, 1], "{odd}");
        assert_eq!((instance.skipped.entries, instance.skipped.details), (1, 0), "{odd}");
        assert!(reasons(&instance)[0].contains(reason), "{odd}: {:?}", reasons(&instance));
    }
    let alone = parse("<FDT-Instance Expires='1'><File TOI='2'/></FDT-Instance>").unwrap();
    assert!(reasons(&alone)[0].contains("Content-Location"), "{:?}", reasons(&alone));
}

// test: rfc6726 3.4.2, ts26346-mbms 7.2.10
#[test]
fn a_detail_that_cannot_be_read_costs_no_entry() {
    for (odd, noted) in [
        ("<File TOI='2' Content-Location='b' FEC-Redundancy-Level='much'/>", 1),
        ("<File TOI='2' Content-Location='b' vendor='&own;' v:w='&own;' xmlns:v='urn:v'/>", 0),
        ("<File TOI='2' Content-Location='b'><Group>&own;</Group></File>", 1),
        ("<File TOI='2' Content-Location='b'>&own;</File>", 0),
        (
            "<File TOI='2' Content-Location='b'><Cache-Control><Expires>?</Expires></Cache-Control></File>",
            1,
        ),
        (
            "<File TOI='2' Content-Location='b'><e><e><e><e><e><e><e/></e></e></e></e></e></e></File>",
            1,
        ),
    ] {
        let instance = parse(&around(odd)).unwrap();
        let tois: Vec<u128> = instance.files.iter().map(|file| file.toi.0).collect();
        assert_eq!(tois, [1, 2, 3], "{odd}");
        assert_eq!((instance.skipped.entries, instance.skipped.details), (0, noted), "{odd}");
    }
    for odd in
        ["Complete='?'", "FEC-OTI-FEC-Encoding-ID='x'", "Content-Type=plain", "FullFDT='maybe'"]
    {
        let document = around("").replacen("Expires=\"1\"", &format!("{odd} Expires=\"1\""), 1);
        let instance = parse(&document).unwrap();
        assert_eq!((instance.files.len(), instance.skipped.details), (2, 1), "{odd}");
        assert!(!instance.complete && instance.skipped.entries == 0);
    }
}

#[test]
fn octets_that_are_no_text_cost_the_entry_they_stand_in() {
    for declaration in
        ["", "<?xml version='1.0' encoding='US-ASCII'?>", "<?xml version='1.0' encoding='KOI8-R'?>"]
    {
        let odd = "<File TOI='2' Content-Location='b' Content-Type='@'/>";
        let document = format!("{declaration}{}", around(odd));
        let octets: Vec<u8> =
            document.bytes().map(|octet| if octet == b'@' { 0xe9 } else { octet }).collect();
        let instance = FdtInstance::parse(&octets).unwrap();
        assert_eq!(instance.files.len(), 2, "{declaration}");
        let reason = &reasons(&instance)[0];
        assert!(reason.contains("expected UTF-8 or ISO 8859-1"), "{reason}");
        assert!(!declaration.contains("KOI8") || reason.contains("koi8-r"), "{reason}");
    }
}

// test: rfc6726 5
#[test]
fn where_no_scheme_is_named_the_codepoint_names_it() {
    let attributes = r#"FEC-OTI-Encoding-Symbol-Length="16" FEC-OTI-Maximum-Source-Block-Length="3"
        FEC-OTI-Scheme-Specific-Info="AQABBA==" Content-Length="43""#;
    let entry = parse(&with_file(attributes)).unwrap().files.remove(0);
    assert_eq!((entry.encoding_id, entry.oti), (None, None));
    assert_eq!(entry.parameters_under(6), Ok(golden().files[0].oti));
    let no_code = Oti::NoCode(NoCodeOti::new(43, 16, 3).unwrap());
    assert_eq!(entry.parameters_under(0), Ok(Some(no_code)));
    assert_eq!(entry.parameters_under(5), Ok(None));
    let without_length = attributes.replace("Content-Length", "Unknown");
    let without_length = parse(&with_file(&without_length)).unwrap().files.remove(0);
    assert_eq!(without_length.parameters_under(0), Ok(None));
    let without_block = attributes.replace("FEC-OTI-Maximum", "Unknown");
    assert_eq!(parse(&with_file(&without_block)).unwrap().files[0].parameters_under(0), Ok(None));
    let zero = attributes.replace("=\"16\"", "=\"0\"");
    assert!(parse(&with_file(&zero)).unwrap().files[0].parameters_under(0).is_err());
    let named = format!("{attributes} FEC-OTI-FEC-Encoding-ID=\"6\"");
    assert_eq!(parse(&with_file(&named)).unwrap().files[0].parameters_under(0), Ok(None));
    let written = FdtInstance { files: vec![entry.clone()], ..golden() };
    assert_eq!(parse(&written.to_xml()).unwrap().files, [entry]);
}

#[test]
fn every_limit_holds_at_its_edge() {
    // The number of files is limited by their octets alone.
    let files: String =
        (1..=20_000).map(|toi| format!(r#"<File TOI="{toi}" Content-Location="x"/>"#)).collect();
    let many = format!(r#"<FDT-Instance Expires="1">{files}</FDT-Instance>"#);
    assert_eq!(parse(&many).unwrap().files.len(), 20_000);

    let attribute = |length: usize| with_file(&format!("Content-Type=\"{}\"", "y".repeat(length)));
    assert!(parse(&attribute(MAX_ATTRIBUTE_BYTES)).unwrap().skipped.is_empty());
    assert!(is_skipped(&attribute(MAX_ATTRIBUTE_BYTES + 1)));

    let attributes = |count: usize| {
        with_file(&(2..count).map(|index| format!("a{index}=\"\" ")).collect::<String>())
    };
    assert!(parse(&attributes(MAX_ATTRIBUTES)).is_ok());
    assert!(is_skipped(&attributes(MAX_ATTRIBUTES + 1)));

    let nested = |depth: usize| {
        let inner = depth - 1;
        with_file("").replace(
            "</FDT-Instance>",
            &format!("{}{}</FDT-Instance>", "<e>".repeat(inner), "</e>".repeat(inner)),
        )
    };
    assert!(parse(&nested(MAX_DEPTH)).unwrap().skipped.is_empty());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)).unwrap().skipped.details, 1);
    assert_eq!(parse(&nested(256)).unwrap().skipped.details, 1);
    assert!(parse(&nested(257)).is_err());

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

    // test: rfc6726 3.4.2
    #[test]
    fn one_odd_part_leaves_the_other_entries(
        places in prop::collection::btree_set(1_u128..9, 2..6), which in any::<prop::sample::Index>(),
        name in prop::sample::select(vec![
            "TOI", "Content-Location", "Content-Length", "Transfer-Length", "Content-MD5",
            "FEC-OTI-FEC-Encoding-ID", "FEC-OTI-Encoding-Symbol-Length", "Content-Encoding",
            "FEC-OTI-Scheme-Specific-Info", "FEC-Redundancy-Level", "vendor", "v:vendor",
        ]),
        value in "[ -%'-;=?-~]{0,30}|&[a-z]{1,5};|\\PC{0,9}",
        element in prop::option::of("<(v:e|e|Group|File|Cache-Control|v:File) a=\"[a-z&;]{0,4}\"/>"),
    ) {
        let odd = which.index(places.len());
        let plain = |toi: &u128| format!(r#"<File TOI="{toi}" Content-Location="{toi}" Content-Length="9" "#);
        let entries = places.iter().enumerate().map(|(at, toi)| match at == odd {
            false => plain(toi) + "/>",
            true => {
                let value = value.replace(['"', '<'], "");
                let text = plain(toi).replace(&format!(" {name}="), " replaced=");
                let element = element.clone().unwrap_or_default();
                format!("{text} {name}=\"{value}\">{element}</File>")
            }
        });
        let document = format!(
            r#"<FDT-Instance xmlns="urn:ietf:params:xml:ns:fdt" xmlns:v="urn:v" Expires="1">{}</FDT-Instance>"#,
            entries.collect::<String>()
        );
        let instance = parse(&document).unwrap();
        let others = places.iter().enumerate().filter(|(at, _)| *at != odd).map(|(_, toi)| *toi);
        for toi in others {
            // What the odd entry claims for itself first is another's no more.
            let found = instance.files.iter().any(|file| file.toi == Toi(toi));
            prop_assert!(found, "{toi}: {document}");
        }
        let read = u64::try_from(instance.files.len()).unwrap();
        prop_assert_eq!(read + instance.skipped.entries, u64::try_from(places.len()).unwrap());
    }

    #[test]
    fn whatever_arrives_the_answer_is_a_value(
        at in 0_usize..398, octet: u8, tail in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let mut document = GOLDEN.as_bytes().to_vec();
        document[at] = octet;
        document.splice(at..at, tail);
        if let Ok(instance) = FdtInstance::parse(&document) {
            prop_assert!(!instance.files.is_empty() || instance.skipped.entries > 0);
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
