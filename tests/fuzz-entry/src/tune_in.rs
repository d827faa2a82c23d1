//! The tune-in URL.

use proto::tune_in::TuneIn;

/// Reads a URL, and writes it again.
pub fn run(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else { return };
    let Ok(tune_in) = text.parse::<TuneIn>() else { return };
    let written = tune_in.to_string();
    assert_eq!(written.parse(), Ok(tune_in), "{written}");
}

/// The vector and its relatives.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let vector = "fumocast://232.1.2.3:3400/7?s=192.0.2.1&c=000102030405060708090a0b0c0d0e0f\
                  &h=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    [
        vector.to_owned(),
        format!("{vector}&o=9"),
        vector.replace("232.1.2.3", "[ff3e::1]").replace("192.0.2.1", "[2001:db8::1]"),
    ]
    .map(String::into_bytes)
    .into()
}
