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
            self, DocumentType, Fault, Strings,
            global::{
                ATTRIBUTES, CONTENT, END, ENTITY, LITERAL, PROCESSING_INSTRUCTION, STR_I, STR_T,
                SWITCH_PAGE,
            },
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
    numbers: &[0x0b],
    name: "-//WAPFORUM//DTD PROV 1.0//EN",
    family: "-//WAPFORUM//DTD PROV 1",
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
const STARTS: [(u8, u8, &str, &str); 110] = [
    (0, 0x51, "type", "PXLOGICAL"), (0, 0x52, "type", "PXPHYSICAL"), (0, 0x53, "type", "PORT"),
    (0, 0x54, "type", "VALIDITY"), (0, 0x55, "type", "NAPDEF"), (0, 0x56, "type", "BOOTSTRAP"),
    (0, 0x57, "type", "VENDORCONFIG"), (0, 0x58, "type", "CLIENTIDENTITY"),
    (0, 0x59, "type", "PXAUTHINFO"), (0, 0x5a, "type", "NAPAUTHINFO"), (0, 0x5b, "type", "ACCESS"),
    (0, 0x45, "version", ""), (0, 0x46, "version", "1.0"), (0, 0x50, "type", ""),
    (0, 0x05, "name", ""), (0, 0x06, "value", ""), (0, 0x07, "name", "NAME"),
    (0, 0x08, "name", "NAP-ADDRESS"), (0, 0x09, "name", "NAP-ADDRTYPE"),
    (0, 0x0a, "name", "CALLTYPE"), (0, 0x0b, "name", "VALIDUNTIL"), (0, 0x0c, "name", "AUTHTYPE"),
    (0, 0x0d, "name", "AUTHNAME"), (0, 0x0e, "name", "AUTHSECRET"), (0, 0x0f, "name", "LINGER"),
    (0, 0x10, "name", "BEARER"), (0, 0x11, "name", "NAPID"), (0, 0x12, "name", "COUNTRY"),
    (0, 0x13, "name", "NETWORK"), (0, 0x14, "name", "INTERNET"), (0, 0x15, "name", "PROXY-ID"),
    (0, 0x16, "name", "PROXY-PROVIDER-ID"), (0, 0x17, "name", "DOMAIN"),
    (0, 0x18, "name", "PROVURL"), (0, 0x19, "name", "PXAUTH-TYPE"), (0, 0x1a, "name", "PXAUTH-ID"),
    (0, 0x1b, "name", "PXAUTH-PW"), (0, 0x1c, "name", "STARTPAGE"), (0, 0x1d, "name", "BASAUTH-ID"),
    (0, 0x1e, "name", "BASAUTH-PW"), (0, 0x1f, "name", "PUSHENABLED"), (0, 0x20, "name", "PXADDR"),
    (0, 0x21, "name", "PXADDRTYPE"), (0, 0x22, "name", "TO-NAPID"), (0, 0x23, "name", "PORTNBR"),
    (0, 0x24, "name", "SERVICE"), (0, 0x25, "name", "LINKSPEED"), (0, 0x26, "name", "DNLINKSPEED"),
    (0, 0x27, "name", "LOCAL-ADDR"), (0, 0x28, "name", "LOCAL-ADDRTYPE"),
    (0, 0x29, "name", "CONTEXT-ALLOW"), (0, 0x2a, "name", "TRUST"), (0, 0x2b, "name", "MASTER"),
    (0, 0x2c, "name", "SID"), (0, 0x2d, "name", "SOC"), (0, 0x2e, "name", "WSP-VERSION"),
    (0, 0x2f, "name", "PHYSICAL-PROXY-ID"), (0, 0x30, "name", "CLIENT-ID"),
    (0, 0x31, "name", "DELIVERY-ERR-SDU"), (0, 0x32, "name", "DELIVERY-ORDER"),
    (0, 0x33, "name", "TRAFFIC-CLASS"), (0, 0x34, "name", "MAX-SDU-SIZE"),
    (0, 0x35, "name", "MAX-BITRATE-UPLINK"), (0, 0x36, "name", "MAX-BITRATE-DNLINK"),
    (0, 0x37, "name", "RESIDUAL-BER"), (0, 0x38, "name", "SDU-ERROR-RATIO"),
    (0, 0x39, "name", "TRAFFIC-HANDL-PRIO"), (0, 0x3a, "name", "TRANSFER-DELAY"),
    (0, 0x3b, "name", "GUARANTEED-BITRATE-UPLINK"), (0, 0x3c, "name", "GUARANTEED-BITRATE-DNLINK"),
    (0, 0x3d, "name", "PXADDR-FQDN"), (0, 0x3e, "name", "PROXY-PW"),
    (0, 0x3f, "name", "PPGAUTH-TYPE"), (0, 0x47, "name", "PULLENABLED"),
    (0, 0x48, "name", "DNS-ADDR"), (0, 0x49, "name", "MAX-NUM-RETRY"),
    (0, 0x4a, "name", "FIRST-RETRY-TIMEOUT"), (0, 0x4b, "name", "REREG-THRESHOLD"),
    (0, 0x4c, "name", "T-BIT"), (0, 0x4e, "name", "AUTH-ENTITY"), (0, 0x4f, "name", "SPI"),
    (1, 0x53, "type", "PORT"), (1, 0x58, "type", "CLIENTIDENTITY"),
    (1, 0x55, "type", "APPLICATION"), (1, 0x56, "type", "APPADDR"), (1, 0x57, "type", "APPAUTH"),
    (1, 0x59, "type", "RESOURCE"), (1, 0x50, "type", ""), (1, 0x05, "name", ""),
    (1, 0x06, "value", ""), (1, 0x07, "name", "NAME"), (1, 0x14, "name", "INTERNET"),
    (1, 0x1c, "name", "STARTPAGE"), (1, 0x22, "name", "TO-NAPID"), (1, 0x23, "name", "PORTNBR"),
    (1, 0x24, "name", "SERVICE"), (1, 0x2e, "name", "AACCEPT"), (1, 0x2f, "name", "AAUTHDATA"),
    (1, 0x30, "name", "AAUTHLEVEL"), (1, 0x31, "name", "AAUTHNAME"),
    (1, 0x32, "name", "AAUTHSECRET"), (1, 0x33, "name", "AAUTHTYPE"), (1, 0x34, "name", "ADDR"),
    (1, 0x35, "name", "ADDRTYPE"), (1, 0x36, "name", "APPID"), (1, 0x37, "name", "APROTOCOL"),
    (1, 0x38, "name", "PROVIDER-ID"), (1, 0x39, "name", "TO-PROXY"), (1, 0x3a, "name", "URI"),
    (1, 0x3b, "name", "RULE"),
];

/// Values: page, token, text. The last ones are read and not written.
#[rustfmt::skip]
const TEXTS: [(u8, u8, &str); 71] = [
    (0, 0x85, "IPV4"), (0, 0x86, "IPV6"), (0, 0x87, "E164"), (0, 0x88, "ALPHA"), (0, 0x89, "APN"),
    (0, 0x8a, "SCODE"), (0, 0x8b, "TETRA-ITSI"), (0, 0x8c, "MAN"), (0, 0x90, "ANALOG-MODEM"),
    (0, 0x91, "V.120"), (0, 0x92, "V.110"), (0, 0x93, "X.31"), (0, 0x94, "BIT-TRANSPARENT"),
    (0, 0x95, "DIRECT-ASYNCHRONOUS-DATA-SERVICE"), (0, 0x9a, "PAP"), (0, 0x9b, "CHAP"),
    (0, 0x9c, "HTTP-BASIC"), (0, 0x9d, "HTTP-DIGEST"), (0, 0x9e, "WTLS-SS"), (0, 0x9f, "MD5"),
    (0, 0xa2, "GSM-USSD"), (0, 0xa3, "GSM-SMS"), (0, 0xa4, "ANSI-136-GUTS"),
    (0, 0xa5, "IS-95-CDMA-SMS"), (0, 0xa6, "IS-95-CDMA-CSD"), (0, 0xa7, "IS-95-CDMA-PACKET"),
    (0, 0xa8, "ANSI-136-CSD"), (0, 0xa9, "ANSI-136-GPRS"), (0, 0xaa, "GSM-CSD"),
    (0, 0xab, "GSM-GPRS"), (0, 0xac, "AMPS-CDPD"), (0, 0xad, "PDC-CSD"), (0, 0xae, "PDC-PACKET"),
    (0, 0xaf, "IDEN-SMS"), (0, 0xb0, "IDEN-CSD"), (0, 0xb1, "IDEN-PACKET"),
    (0, 0xb2, "FLEX/REFLEX"), (0, 0xb3, "PHS-SMS"), (0, 0xb4, "PHS-CSD"), (0, 0xb5, "TRETRA-SDS"),
    (0, 0xb6, "TRETRA-PACKET"), (0, 0xb7, "ANSI-136-GHOST"), (0, 0xb8, "MOBITEX-MPAK"),
    (0, 0xb9, "CDMA2000-1X-SIMPLE-IP"), (0, 0xba, "CDMA2000-1X-MOBILE-IP"),
    (0, 0xc5, "AUTOBAUDING"), (0, 0xca, "CL-WSP"), (0, 0xcb, "CO-WSP"), (0, 0xcc, "CL-SEC-WSP"),
    (0, 0xcd, "CO-SEC-WSP"), (0, 0xce, "CL-SEC-WTA"), (0, 0xcf, "CO-SEC-WTA"),
    (0, 0xd0, "OTA-HTTP-TO"), (0, 0xd1, "OTA-HTTP-TLS-TO"), (0, 0xd2, "OTA-HTTP-PO"),
    (0, 0xd3, "OTA-HTTP-TLS-PO"), (0, 0xe0, "AAA"), (0, 0xe1, "HA"), (1, 0x86, "IPV6"),
    (1, 0x87, "E164"), (1, 0x88, "ALPHA"), (1, 0x8d, "APPSRV"), (1, 0x8e, "OBEX"), (1, 0x90, ","),
    (1, 0x91, "HTTP-"), (1, 0x92, "BASIC"), (1, 0x93, "DIGEST"), (1, 0x80, ","), (1, 0x81, "HTTP-"),
    (1, 0x82, "BASIC"), (1, 0x83, "DIGEST"),
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
    let root = loop {
        let token = parser.reader.u8("token")?;
        if let Token::Element(element) = parser.token(token)? {
            break element;
        }
    };
    if root.kind != Kind::Document {
        return Err(wrong("another root element"));
    }
    let mut whole = Characteristic::default();
    if root.has_content {
        parser.content(&mut whole, 0)?;
    }
    Ok(whole.children)
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
    strings: Strings<'a>,
    tag_page: u8,
    attribute_page: u8,
    elements: usize,
}

/// A token of the content, with what belongs to it.
enum Token {
    End,
    /// Something between elements that is none.
    Skipped,
    Element(Element),
}

/// The start of an element.
struct Element {
    kind: Kind,
    attributes: Attributes,
    has_content: bool,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Document,
    Characteristic,
    Parameter,
    Unknown,
}

/// Attributes of an element that are known.
#[derive(Default)]
struct Attributes {
    named: Vec<(&'static str, String)>,
    /// Set when a token was unknown, or a value is none.
    is_odd: bool,
}

impl Attributes {
    /// Returns the value of an attribute, unless one of them could not be read.
    fn get(&self, wanted: &str) -> Option<String> {
        let named = self.named.iter().find(|(name, _)| *name == wanted);
        named.filter(|_| !self.is_odd).map(|(_, value)| value.clone())
    }
}

impl Parser<'_> {
    /// Reads what belongs to a token.
    fn token(&mut self, token: u8) -> Result<Token, WireError> {
        match token {
            END => return Ok(Token::End),
            SWITCH_PAGE => self.tag_page = self.reader.u8("code page")?,
            PROCESSING_INSTRUCTION => wbxml::skip_attributes(&mut self.reader).map_err(plain)?,
            token if wbxml::is_global(token) => {
                wbxml::skip_value(&mut self.reader, token).map_err(plain)?;
            }
            token => return self.element(token).map(Token::Element),
        }
        Ok(Token::Skipped)
    }

    fn element(&mut self, token: u8) -> Result<Element, WireError> {
        let kind = match (token & !(CONTENT | ATTRIBUTES), self.tag_page) {
            (LITERAL, _) => match &*self.table_string()? {
                "wap-provisioningdoc" => Kind::Document,
                "characteristic" => Kind::Characteristic,
                "parm" => Kind::Parameter,
                _ => Kind::Unknown,
            },
            (ROOT, 0 | 1) => Kind::Document,
            (CHARACTERISTIC, 0 | 1) => Kind::Characteristic,
            (PARAMETER, 0 | 1) => Kind::Parameter,
            _ => Kind::Unknown,
        };
        let has_attributes = token & ATTRIBUTES != 0;
        let attributes = if has_attributes { self.attributes()? } else { Attributes::default() };
        Ok(Element { kind, attributes, has_content: token & CONTENT != 0 })
    }

    /// Reads the content of an element to its end; what is odd costs its parameter or its group.
    // spec: oma-dm 8.2 (unknown tokens)
    fn content(&mut self, parent: &mut Characteristic, depth: usize) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(wrong("too many elements"));
        }
        loop {
            let token = self.reader.u8("token")?;
            let element = match self.token(token)? {
                Token::End => return Ok(()),
                Token::Skipped => continue,
                Token::Element(element) => element,
            };
            self.elements += 1;
            if self.elements > MAX_ELEMENTS {
                return Err(wrong("too many elements"));
            }
            let mut inside = Characteristic::default();
            if element.has_content {
                self.content(&mut inside, depth + 1)?;
            }
            match element.kind {
                Kind::Characteristic => {
                    if let Some(kind) = element.attributes.get("type") {
                        parent.children.push(Characteristic { kind, ..inside });
                    }
                }
                Kind::Parameter => {
                    if let Some(name) = element.attributes.get("name") {
                        parent.parameters.push((name, element.attributes.get("value")));
                    }
                }
                Kind::Document | Kind::Unknown => {}
            }
        }
    }

    fn attributes(&mut self) -> Result<Attributes, WireError> {
        let mut attributes = Attributes::default();
        loop {
            let token = self.reader.u8("attribute")?;
            match token {
                END => return Ok(attributes),
                SWITCH_PAGE => self.attribute_page = self.reader.u8("code page")?,
                LITERAL => {
                    let name = self.table_string()?;
                    let known = ["name", "value", "type"].into_iter().find(|it| *it == name);
                    attributes.named.push((known.unwrap_or_default(), String::new()));
                }
                token if token >= VALUES || wbxml::is_global(token) => {
                    let more = self.value(token)?;
                    let more = more.filter(|more| more.chars().all(is_xml_char));
                    match (attributes.named.last_mut(), more) {
                        (Some((_, value)), Some(more))
                            if value.len() + more.len() <= MAX_LENGTH =>
                        {
                            value.push_str(&more);
                        }
                        _ => attributes.is_odd = true,
                    }
                }
                token => {
                    let page = self.attribute_page;
                    match STARTS.iter().find(|it| (it.0, it.1) == (page, token)) {
                        Some((_, _, name, value)) => {
                            attributes.named.push((name, (*value).to_owned()));
                        }
                        None => attributes.is_odd = true,
                    }
                }
            }
        }
    }

    /// Reads a part of a value; `None` when it stands for nothing that is known.
    fn value(&mut self, token: u8) -> Result<Option<String>, WireError> {
        let text = |token| {
            let page = self.attribute_page;
            let text = TEXTS.iter().find(|it| (it.0, it.1) == (page, token));
            text.map(|it| it.2.to_owned())
        };
        Ok(match token {
            // Some writers number values of page 1 like tokens that are the same on all pages. What
            // refers to a table that is not there is such a value.
            0x80..STR_T if self.attribute_page == 1 => text(token),
            STR_T if self.attribute_page == 1 && self.strings.has_no_table() => text(token),
            STR_I => Some(self.strings.inline(&mut self.reader).map_err(plain)?.into_owned()),
            STR_T => Some(self.table_string()?),
            ENTITY => char::from_u32(wbxml::number(&mut self.reader, "entity")?).map(String::from),
            token if wbxml::is_global(token) => {
                wbxml::skip_value(&mut self.reader, token).map_err(plain)?;
                None
            }
            _ => text(token),
        })
    }

    fn table_string(&mut self) -> Result<String, WireError> {
        let place = wbxml::number(&mut self.reader, "place in the string table")?;
        self.strings.at(place).map(Into::into).map_err(plain)
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
        // Some readers know the values of accounts alone, which are those of this page.
        match TEXTS.iter().find(|it| it.2 == value && it.0 == self.page) {
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

    /// An access with a login, and a proxy, as operators put them beside an account.
    const ACCESS: &[u8] = b"\xc6\x55\x01\
        \x87\x11\x06\x03net\0\x01\x87\x10\x06\xab\x01\x87\x08\x06\x03apn\0\x01\x87\x09\x06\x89\x01\
        \x87\x14\x01\
        \xc6\x5a\x01\x87\x0c\x06\x9a\x01\x87\x0d\x06\x03u\0\x01\x87\x0e\x06\x03p\0\x01\x01\
        \xc6\x54\x01\x87\x12\x06\x03262\0\x01\x01\x01\
        \xc6\x51\x01\x87\x15\x06\x03px\0\x01\xc6\x52\x01\x87\x2f\x06\x03a\0\x01\x87\x21\x06\x85\x01\
        \xc6\x53\x01\x87\x23\x06\x038080\0\x01\x87\x24\x06\xcb\x01\x01\x01\x01";

    /// Returns the document of the unrelated encoder with these octets in front of its account.
    fn with(octets: &[u8]) -> Vec<u8> {
        let (head, account) = THEIRS.split_at(7);
        [head, octets, account].concat()
    }

    // test: oma-dm 9.1
    #[test]
    fn an_access_with_a_login_and_a_proxy_are_read_beside_an_account() {
        let read = parse(&with(ACCESS)).unwrap();
        let [access, proxy, account] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!(std::slice::from_ref(account), parse(THEIRS).unwrap());
        let named = [("NAPID", "net"), ("BEARER", "GSM-GPRS"), ("NAP-ADDRESS", "apn")];
        for (name, value) in named.into_iter().chain([("NAP-ADDRTYPE", "APN")]) {
            assert!(access.parameters.contains(&parameter(name, value)), "{access:?}");
        }
        assert!(access.parameters.contains(&("INTERNET".to_owned(), None)));
        let [login, validity] = access.children.as_slice() else { panic!("{access:?}") };
        assert_eq!(login.kind, "NAPAUTHINFO");
        let pairs = [("AUTHTYPE", "PAP"), ("AUTHNAME", "u"), ("AUTHSECRET", "p")];
        assert_eq!(login.parameters, pairs.map(|(name, value)| parameter(name, value)));
        assert_eq!(validity.parameters, [parameter("COUNTRY", "262")]);
        let physical = &proxy.children[0];
        let pairs = [("PHYSICAL-PROXY-ID", "a"), ("PXADDRTYPE", "IPV4")];
        assert_eq!(physical.parameters, pairs.map(|(name, value)| parameter(name, value)));
        assert_eq!(physical.children[0].parameters[1], parameter("SERVICE", "CO-WSP"));
        assert_eq!(parse(&emit(&read)), Ok(read));
    }

    // test: oma-dm 9.1
    #[test]
    fn both_numbers_of_the_values_of_an_account_are_read() {
        for (tokens, value) in [
            (&b"\x93"[..], "DIGEST"),
            (b"\x83", "DIGEST"),
            (b"\x82", "BASIC"),
            (b"\x81\x82", "HTTP-BASIC"),
            (b"\x91\x92\x80\x93", "HTTP-BASIC,DIGEST"),
        ] {
            let group = [b"\xc6\x00\x01\x57\x01\x87\x33\x06", tokens, b"\x01\x01\0\0"].concat();
            let read = parse(&with(&group)).unwrap();
            assert_eq!(read[0].parameters, [parameter("AAUTHTYPE", value)]);
        }
    }

    // test: oma-dm 8.2 (unknown tokens)
    #[test]
    fn an_odd_token_costs_its_parameter_and_not_the_document() {
        let others = parse(THEIRS).unwrap();
        for odd in [
            &b"\x87\x4d\x06\x03x\0\x01"[..],
            b"\x87\x07\x06\xff\x01",
            b"\x87\x03x\0\x01",
            b"\x87\x07\x06\x03\x07\0\x01",
            b"\x87\x07\x06\x40x\0\x01",
            b"\x87\x00\x07\x05\x06\x00\x00\x01",
            b"\x07",
            b"\x46\x01",
            b"\x3f",
            b"\x7f\x03x\0\x01",
            b"\xff\x05\x03x\0\x01\x87\x07\x06\x03no\0\x01\x01",
            b"\x00\x05\x86\x50\x03x\0\x01\x00\x00",
            b"\x43\x05\x03x\0\x01",
            b"\xc3\x01\xff",
        ] {
            let group = [b"\xc6\x55\x01\x87\x11\x06\x03net\0\x01", odd, b"\x01"].concat();
            let read = parse(&with(&group)).unwrap_or_else(|error| panic!("{error}: {odd:x?}"));
            assert_eq!(read[0].parameters, [parameter("NAPID", "net")], "{odd:x?}");
            assert_eq!(read[1..], others, "{odd:x?}");
        }
        let of_root = with(b"\x87\x11\x06\x03net\0\x01");
        for document in [of_root, [THEIRS, b"\0\0trailing"].concat()] {
            assert_eq!(parse(&document).as_ref(), Ok(&others));
        }
        let named = [b"\x03\0\0\x6a\x1f-//WAPFORUM//DTD PROV 1.1//EN\0\0", &THEIRS[4..]].concat();
        assert_eq!(parse(&named), Ok(others));
    }

    // test: oma-dm 8.2 (unknown tokens)
    #[test]
    fn names_from_the_string_table_are_read() {
        let table = b"characteristic\0parm\0type\0name\0value\0";
        let head =
            [b"\x03\x0b\x6a".as_slice(), &[u8::try_from(table.len()).unwrap()], table].concat();
        let body =
            b"\x45\xc4\x00\x04\x14\x03A\0\x01\x84\x0f\x04\x19\x03N\0\x04\x1e\x83\x19\x01\x01\x01";
        let read = parse(&[head.as_slice(), body].concat()).unwrap();
        assert_eq!((read[0].kind.as_str(), read.len()), ("A", 1));
        assert_eq!(read[0].parameters, [parameter("N", "name")]);
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
