//! Provisioning documents (PROV 1.0) in WBXML: characteristics with parameters.
//!
//! ```text
//! wap-provisioningdoc version="1.0"
//!   characteristic type="APPLICATION"
//!     parm name="APPID" value="w7"
//!     characteristic type="APPADDR" …
//! ```
//!
//! Names and values that have tokens are written as tokens; attribute pages switch apart from tag
//! pages.

use crate::{
    dm::{
        encoding::read::is_xml_char,
        message::MessageError,
        wbxml::{
            self, DocumentType, Fault,
            global::{ATTRIBUTES, CONTENT, END, ENTITY, OPAQUE, STR_I, STR_T, SWITCH_PAGE},
            push_inline, push_number,
        },
    },
    wire::{Reader, WireError},
};

/// A characteristic: a group of parameters, and of groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Characteristic {
    /// Its type, as `APPLICATION`.
    pub kind: String,
    /// Its parameters: name, and value where there is one.
    pub parameters: Vec<(String, Option<String>)>,
    /// The groups inside.
    pub children: Vec<Self>,
}

/// Octets that a document may have.
const MAX_LENGTH: usize = 4096;
/// Groups inside one another.
const MAX_DEPTH: usize = 8;
/// Groups and parameters in all.
const MAX_ELEMENTS: usize = 256;

const DOCUMENT: DocumentType = DocumentType {
    number: Some(0x0b),
    name: "-//WAPFORUM//DTD PROV 1.0//EN",
    root: "wap-provisioningdoc",
};

const VERSION: u8 = 3;
const UTF_8: u32 = 106;
const ROOT: u8 = 0x05;
const CHARACTERISTIC: u8 = 0x06;
const PARAMETER: u8 = 0x07;
const VERSION_1_0: u8 = 0x46;
/// Tokens from here on are values.
const VALUES: u8 = 0x80;

/// Starts of attributes: page, token, name, and what the value begins with.
// spec: oma-dm 9.1 (tokens of provisioning documents)
#[rustfmt::skip]
const STARTS: [(u8, u8, &str, &str); 52] = [
    (0, 0x05, "name", ""), (0, 0x06, "value", ""),
    (0, 0x07, "name", "NAME"), (0, 0x08, "name", "NAP-ADDRESS"),
    (0, 0x09, "name", "NAP-ADDRTYPE"), (0, 0x10, "name", "BEARER"),
    (0, 0x11, "name", "NAPID"), (0, 0x15, "name", "PROXY-ID"),
    (0, 0x1c, "name", "STARTPAGE"), (0, 0x20, "name", "PXADDR"),
    (0, 0x21, "name", "PXADDRTYPE"), (0, 0x22, "name", "TO-NAPID"),
    (0, 0x23, "name", "PORTNBR"), (0, 0x24, "name", "SERVICE"),
    (0, 0x45, "version", ""), (0, 0x46, "version", "1.0"),
    (0, 0x50, "type", ""), (0, 0x51, "type", "PXLOGICAL"),
    (0, 0x52, "type", "PXPHYSICAL"), (0, 0x53, "type", "PORT"),
    (0, 0x54, "type", "VALIDITY"), (0, 0x55, "type", "NAPDEF"),
    (0, 0x56, "type", "BOOTSTRAP"), (0, 0x57, "type", "VENDORCONFIG"),
    (0, 0x58, "type", "CLIENTIDENTITY"), (0, 0x59, "type", "PXAUTHINFO"),
    (0, 0x5a, "type", "NAPAUTHINFO"), (0, 0x5b, "type", "ACCESS"),
    (1, 0x55, "type", "APPLICATION"), (1, 0x56, "type", "APPADDR"),
    (1, 0x57, "type", "APPAUTH"), (1, 0x58, "type", "CLIENTIDENTITY"),
    (1, 0x59, "type", "RESOURCE"), (1, 0x53, "type", "PORT"), (1, 0x50, "type", ""),
    (1, 0x05, "name", ""), (1, 0x06, "value", ""), (1, 0x07, "name", "NAME"),
    (1, 0x23, "name", "PORTNBR"), (1, 0x22, "name", "TO-NAPID"),
    (1, 0x2e, "name", "AACCEPT"), (1, 0x2f, "name", "AAUTHDATA"),
    (1, 0x30, "name", "AAUTHLEVEL"), (1, 0x31, "name", "AAUTHNAME"),
    (1, 0x32, "name", "AAUTHSECRET"), (1, 0x33, "name", "AAUTHTYPE"),
    (1, 0x34, "name", "ADDR"), (1, 0x35, "name", "ADDRTYPE"),
    (1, 0x36, "name", "APPID"), (1, 0x37, "name", "APROTOCOL"),
    (1, 0x38, "name", "PROVIDER-ID"), (1, 0x39, "name", "TO-PROXY"),
];

/// Values: page, token, text.
#[rustfmt::skip]
const TEXTS: [(u8, u8, &str); 19] = [
    (0, 0x85, "IPV4"), (0, 0x86, "IPV6"), (0, 0x87, "E164"), (0, 0x88, "ALPHA"), (0, 0x89, "APN"),
    (0, 0x9a, "PAP"), (0, 0x9b, "CHAP"), (0, 0x9c, "HTTP-BASIC"), (0, 0x9d, "HTTP-DIGEST"),
    (0, 0xab, "GSM-GPRS"),
    (1, 0x86, "IPV6"), (1, 0x87, "E164"), (1, 0x88, "ALPHA"), (1, 0x8d, "APPSRV"),
    (1, 0x8e, "OBEX"), (1, 0x90, ","), (1, 0x91, "HTTP-"), (1, 0x92, "BASIC"),
    (1, 0x93, "DIGEST"),
];

/// Reads a document.
///
/// # Errors
///
/// [`WireError`] names what is at fault. Whatever the octets are, there is no panic.
pub fn parse(octets: &[u8]) -> Result<Vec<Characteristic>, WireError> {
    if octets.len() > MAX_LENGTH {
        let found = format!("{} octets long", octets.len());
        return Err(WireError::invalid("provisioning document", found, "at most 4,096 octets"));
    }
    let mut reader = Reader::new(octets);
    let strings = wbxml::head(&mut reader, &DOCUMENT).map_err(plain)?;
    let mut parser = Parser { reader, strings, tag_page: 0, attribute_page: 0, elements: 0 };
    match parser.token()? {
        token if token & !(CONTENT | ATTRIBUTES) == ROOT => {
            if token & ATTRIBUTES != 0 {
                parser.attributes()?;
            }
            let mut root = Characteristic::default();
            if token & CONTENT != 0 {
                parser.content(&mut root, 0)?;
            }
            if !root.parameters.is_empty() {
                return Err(wrong("a parameter outside of all characteristics"));
            }
            parser.reader.finish("the document")?;
            Ok(root.children)
        }
        _ => Err(wrong("another root element")),
    }
}

fn wrong(found: &str) -> WireError {
    WireError::invalid("provisioning document", found, "characteristics with parameters")
}

fn plain(fault: Fault) -> WireError {
    match fault {
        Fault::Octets(error) => error,
        Fault::Message(error) => wrong(&MessageError::to_string(&error)),
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    strings: &'a [u8],
    tag_page: u8,
    attribute_page: u8,
    elements: usize,
}

impl Parser<'_> {
    /// The next token of a tag; both pages know the same three.
    fn token(&mut self) -> Result<u8, WireError> {
        loop {
            match self.reader.u8("token")? {
                SWITCH_PAGE => self.tag_page = self.page()?,
                token => return Ok(token),
            }
        }
    }

    fn page(&mut self) -> Result<u8, WireError> {
        match self.reader.u8("code page")? {
            page @ 0..=1 => Ok(page),
            page => Err(WireError::invalid("code page", page, "0 or 1")),
        }
    }

    fn content(&mut self, parent: &mut Characteristic, depth: usize) -> Result<(), WireError> {
        loop {
            let token = self.token()?;
            if token == END {
                return Ok(());
            }
            self.elements += 1;
            if self.elements > MAX_ELEMENTS || depth >= MAX_DEPTH {
                return Err(wrong("too many elements"));
            }
            let attributes = if token & ATTRIBUTES == 0 { Vec::new() } else { self.attributes()? };
            let of = |wanted: &str| {
                let named = attributes.iter().find(|(name, _)| *name == wanted);
                named.map(|(_, value)| value.clone())
            };
            match token & !(CONTENT | ATTRIBUTES) {
                CHARACTERISTIC => {
                    let kind = of("type").ok_or_else(|| wrong("a characteristic without type"))?;
                    let mut child = Characteristic { kind, ..Characteristic::default() };
                    if token & CONTENT != 0 {
                        self.content(&mut child, depth + 1)?;
                    }
                    parent.children.push(child);
                }
                PARAMETER if token & CONTENT == 0 => {
                    let name = of("name").ok_or_else(|| wrong("a parameter without name"))?;
                    parent.parameters.push((name, of("value")));
                }
                _ => return Err(wrong("another element")),
            }
        }
    }

    fn attributes(&mut self) -> Result<Vec<(&'static str, String)>, WireError> {
        let mut attributes: Vec<(&'static str, String)> = Vec::new();
        loop {
            let token = self.reader.u8("attribute")?;
            match token {
                END => return Ok(attributes),
                SWITCH_PAGE => self.attribute_page = self.page()?,
                STR_I | STR_T | ENTITY | OPAQUE | VALUES.. => {
                    let more = self.value(token)?;
                    if !more.chars().all(is_xml_char) {
                        return Err(wrong("a character that XML cannot carry"));
                    }
                    let (_, value) = attributes.last_mut().ok_or_else(|| wrong("a lone value"))?;
                    value.push_str(&more);
                    if value.len() > MAX_LENGTH {
                        return Err(wrong("a long value"));
                    }
                }
                _ => {
                    let page = self.attribute_page;
                    let start = STARTS.iter().find(|it| (it.0, it.1) == (page, token));
                    let (_, _, name, value) = start.ok_or_else(|| wrong("another attribute"))?;
                    attributes.push((name, (*value).to_owned()));
                }
            }
        }
    }

    fn value(&mut self, token: u8) -> Result<String, WireError> {
        match token {
            STR_I => wbxml::inline_string(&mut self.reader).map(str::to_owned).map_err(plain),
            STR_T => {
                let place = wbxml::number(&mut self.reader, "place in the string table")?;
                wbxml::table_string(self.strings, place).map(str::to_owned).map_err(plain)
            }
            ENTITY => {
                let code = wbxml::number(&mut self.reader, "entity")?;
                char::from_u32(code).map(String::from).ok_or_else(|| wrong("an odd entity"))
            }
            _ => {
                let page = self.attribute_page;
                let text = TEXTS.iter().find(|it| (it.0, it.1) == (page, token));
                text.map(|it| it.2.to_owned()).ok_or_else(|| wrong("another value"))
            }
        }
    }
}

/// Writes a document. Characters that XML cannot carry become U+FFFD.
#[must_use]
pub fn emit(characteristics: &[Characteristic]) -> Vec<u8> {
    let mut out = vec![VERSION];
    push_number(&mut out, 0x0b);
    push_number(&mut out, UTF_8);
    push_number(&mut out, 0);
    out.extend([ROOT | CONTENT | ATTRIBUTES, VERSION_1_0, END]);
    let mut writer = Writer { out, page: 0 };
    characteristics.iter().for_each(|it| writer.characteristic(it));
    writer.out.push(END);
    writer.out
}

struct Writer {
    out: Vec<u8>,
    page: u8,
}

impl Writer {
    fn characteristic(&mut self, characteristic: &Characteristic) {
        self.out.push(CHARACTERISTIC | CONTENT | ATTRIBUTES);
        self.attribute("type", &characteristic.kind);
        self.out.push(END);
        for (name, value) in &characteristic.parameters {
            self.out.push(PARAMETER | ATTRIBUTES);
            self.attribute("name", name);
            if let Some(value) = value {
                self.attribute("value", value);
            }
            self.out.push(END);
        }
        characteristic.children.iter().for_each(|child| self.characteristic(child));
        self.out.push(END);
    }

    /// Writes an attribute by its longest start token, on the current page if possible.
    fn attribute(&mut self, name: &str, value: &str) {
        let here = self.page;
        let best = |whole: &str| {
            let fits = |it: &&(u8, u8, &str, &str)| it.2 == name && it.3 == whole;
            STARTS.iter().filter(fits).min_by_key(|it| it.0 != here)
        };
        if let Some((page, token, ..)) = best(value).filter(|_| !value.is_empty()) {
            self.on(*page, *token);
            return;
        }
        if let Some((page, token, ..)) = best("") {
            self.on(*page, *token);
        }
        match TEXTS.iter().filter(|it| it.2 == value).min_by_key(|it| it.0 != self.page) {
            Some((page, token, _)) => self.on(*page, *token),
            None => push_inline(&mut self.out, value),
        }
    }

    fn on(&mut self, page: u8, token: u8) {
        if page != self.page {
            self.out.extend([SWITCH_PAGE, page]);
            self.page = page;
        }
        self.out.push(token);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The output of libwbxml's `xml2wbxml -n` for an account.
    const THEIRS: &[u8] = b"\x03\x0b\x6a\x00\xc5\x46\x01\
        \xc6\x00\x01\x55\x01\x87\x36\x00\x00\x06\x03w7\0\x01\x87\x00\x01\x38\x00\x00\x06\x03srv\0\x01\
        \x87\x07\x06\x03Name\0\x01\x87\x05\x03INIT\0\x01\
        \xc6\x00\x01\x56\x01\x87\x34\x00\x00\x06\x03http://x/dm\0\x01\
        \x87\x00\x01\x35\x00\x00\x06\x03URI\0\x01\
        \xc6\x53\x01\x87\x23\x06\x0380\0\x01\x01\x01\
        \xc6\x00\x01\x57\x01\x87\x30\x00\x00\x06\x00\x01\x8d\x01\
        \x87\x33\x00\x00\x06\x00\x01\x93\x01\x01\x01\x01";

    fn parameter(name: &str, value: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(value.to_owned()))
    }

    // test: oma-dm 9.1
    #[test]
    fn the_document_of_an_unrelated_encoder_is_read() {
        let read = parse(THEIRS).unwrap();
        let application = &read[0];
        assert_eq!(application.kind, "APPLICATION");
        let (init, named) = application.parameters.split_last().unwrap();
        assert_eq!(
            named,
            [parameter("APPID", "w7"), parameter("PROVIDER-ID", "srv"), parameter("NAME", "Name")]
        );
        assert_eq!(init, &("INIT".to_owned(), None));
        let [address, auth] = application.children.as_slice() else { panic!("{application:?}") };
        assert_eq!(address.kind, "APPADDR");
        assert_eq!(address.children[0].kind, "PORT");
        assert_eq!(address.children[0].parameters, [parameter("PORTNBR", "80")]);
        assert_eq!(
            auth.parameters,
            [parameter("AAUTHLEVEL", "APPSRV"), parameter("AAUTHTYPE", "DIGEST")]
        );
        assert_eq!(parse(&emit(&read)), Ok(read));
    }

    #[test]
    fn depth_and_elements_are_bounded() {
        let mut nested = Characteristic { kind: "A".to_owned(), ..Characteristic::default() };
        for _ in 0..7 {
            nested = Characteristic {
                kind: "A".to_owned(),
                children: vec![nested],
                ..Characteristic::default()
            };
        }
        assert!(parse(&emit(std::slice::from_ref(&nested))).is_ok());
        let deeper =
            Characteristic { kind: "A".to_owned(), children: vec![nested], ..Default::default() };
        assert!(parse(&emit(&[deeper])).is_err());
        let many = |count| Characteristic {
            kind: "A".to_owned(),
            parameters: vec![("NAME".to_owned(), None); count],
            ..Characteristic::default()
        };
        assert!(parse(&emit(&[many(255)])).is_ok());
        assert!(parse(&emit(&[many(256)])).is_err());
    }

    fn characteristic() -> impl Strategy<Value = Characteristic> {
        let known = prop::sample::select(vec!["APPLICATION", "PORT", "BOOTSTRAP", "APPAUTH"]);
        let name = prop_oneof![
            prop::sample::select(vec!["NAME", "ADDR", "PORTNBR", "AAUTHTYPE"])
                .prop_map(str::to_owned),
            "[A-Z]{1,8}",
        ];
        let value = prop_oneof![
            prop::sample::select(vec!["IPV4", "E164", "APPSRV", "NAME"]).prop_map(str::to_owned),
            "[ -~ä]{0,12}",
        ];
        let parameters = proptest::collection::vec((name, proptest::option::of(value)), 0..4);
        (known, parameters).prop_recursive(2, 6, 2, |inner| inner).prop_map(|(kind, parameters)| {
            Characteristic { kind: kind.to_owned(), parameters, children: Vec::new() }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            outer in characteristic(),
            inner in proptest::collection::vec(characteristic(), 0..4),
        ) {
            let document = vec![Characteristic { children: inner, ..outer }];
            prop_assert_eq!(parse(&emit(&document)), Ok(document));
        }

        #[test]
        fn no_change_of_one_octet_and_no_prefix_panics(
            place in 0..THEIRS.len(),
            octet in any::<u8>(),
        ) {
            let mut octets = THEIRS.to_vec();
            octets[place] = octet;
            drop(parse(&octets));
            drop(parse(&octets[..place]));
        }
    }
}
