//! File delivery tables.

use proto::{
    fixtures::unsigned,
    flute::fdt::{FdtInstance, MAX_ATTRIBUTE_BYTES, MAX_BYTES, mbms, skipped::Skipped},
    ids::Toi,
};

/// Reads a document; what is written of it reads back equal.
pub fn run(document: &[u8]) {
    let Ok(instance) = FdtInstance::parse(document) else { return };
    assert!(document.len() <= MAX_BYTES);
    for file in &instance.files {
        assert!(file.toi != Toi::FDT);
        if let Ok(Some(oti)) = file.parameters(None) {
            assert!(oti.partition().total_symbols() > 0);
        }
    }
    let plain = without_mbms(instance);
    if plain.files.is_empty() {
        // All entries were skipped; a table without any is none.
        return;
    }
    let written = plain.to_xml();
    match FdtInstance::parse(written.as_bytes()) {
        Ok(again) => assert_eq!(again, plain, "{written}"),
        // Attributes of the instance are written at each file, and octets that
        // stood for themselves are written as entities: the limits may be passed by that.
        Err(error) => {
            let longest = written.split('"').map(str::len).max();
            let grown = written.len() > MAX_BYTES || longest > Some(MAX_ATTRIBUTE_BYTES);
            assert!(grown, "{error}: {written}");
        }
    }
}

/// The additions of 3GPP and the parts that were skipped are read and never written.
fn without_mbms(mut instance: FdtInstance) -> FdtInstance {
    instance.mbms = mbms::InstanceExtensions::default();
    instance.skipped = Skipped::default();
    instance.files.iter_mut().for_each(|file| file.mbms = mbms::FileExtensions::default());
    instance
}

/// Tables of ours, and one in the manner of MBMS.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mbms = r#"<?xml version="1.0" encoding="ISO-8859-1"?>
<FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT" xmlns:m="urn:3GPP:metadata:2007:MBMS:FLUTE:FDT"
  Expires="4200000000" Complete="true" Content-Type="video/mp4" FEC-OTI-FEC-Encoding-ID="0"
  FEC-OTI-Maximum-Source-Block-Length="64" FEC-OTI-Encoding-Symbol-Length="1400" m:FullFDT="true">
  <File TOI="1" Content-Location="http://a/&amp;&#x41;" Content-Length="10000"
   Content-MD5="1B2M2Y8AsgTpgAmY7PhCfg=="><m:Cache-Control><m:max-stale/></m:Cache-Control><m:Group>a</m:Group></File>
  <!-- a comment --><File TOI="340282366920938463463374607431768211455" Content-Location='b'
   Transfer-Length="77" Content-Encoding="gzip"/><Base-URL-1>x</Base-URL-1>
</FDT-Instance>"#;
    let ours = unsigned::session().documents.iter().map(|text| text.as_bytes().to_vec());
    ours.chain([mbms.as_bytes().to_vec()]).collect()
}
