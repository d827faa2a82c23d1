//! Elements to tokens.

use super::{
    UTF_8,
    global::{CONTENT, END, OPAQUE, STR_I, SWITCH_PAGE},
    tokens::Page,
};
use crate::dm::{
    code::Format,
    encoding::{is_xml_char, write::Form},
};

/// WBXML 1.2.
const VERSION: u8 = 2;
/// SyncML 1.2.
const SYNCML: u32 = 0x1201;

/// A document in the making.
pub(in crate::dm) struct Tokens {
    out: Vec<u8>,
    page: Page,
}

impl Tokens {
    /// Begins a SyncML document.
    pub(super) fn syncml() -> Self {
        let mut out = Vec::with_capacity(1024);
        out.push(VERSION);
        push_number(&mut out, SYNCML);
        push_number(&mut out, UTF_8);
        push_number(&mut out, 0);
        Self { out, page: Page::SyncMl }
    }

    /// Begins a document whose type has a name and no number.
    pub(in crate::dm) fn named(public_id: &str) -> Self {
        let mut out = vec![VERSION, 0, 0];
        push_number(&mut out, UTF_8);
        let name = public_id.as_bytes();
        push_number(&mut out, u32::try_from(name.len() + 1).unwrap_or(u32::MAX));
        out.extend_from_slice(name);
        out.push(0);
        Self { out, page: Page::SyncMl }
    }

    fn tag(&mut self, page: Page, name: &'static str, content: u8) {
        if page != self.page {
            self.out.extend([SWITCH_PAGE, page.number()]);
            self.page = page;
        }
        let token = page.token(name).expect("the writer names tags of its pages");
        self.out.push(token | content);
    }
}

/// Appends a number, seven bits in each octet.
pub(in crate::dm) fn push_number(out: &mut Vec<u8>, number: u32) {
    let groups = number.checked_ilog2().unwrap_or_default() / 7;
    for group in (0..=groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        let [.., bits] = (number >> (7 * group)).to_be_bytes();
        out.push(bits & 0x7f | more);
    }
}

/// Appends a text in place. It cannot hold what XML cannot carry, zero among it.
pub(in crate::dm) fn push_inline(out: &mut Vec<u8>, text: &str) {
    out.push(STR_I);
    if text.chars().all(is_xml_char) {
        out.extend_from_slice(text.as_bytes());
    } else {
        let kept = |c| if is_xml_char(c) { c } else { char::REPLACEMENT_CHARACTER };
        out.extend(text.chars().map(kept).collect::<String>().into_bytes());
    }
    out.push(0);
}

impl Form for Tokens {
    // spec: oma-dm 2 (binary values in both forms)
    const OCTETS_FORMAT: Format = Format::Bin;

    fn open(&mut self, page: Page, name: &'static str) {
        self.tag(page, name, CONTENT);
    }

    fn close(&mut self, _name: &'static str) {
        self.out.push(END);
    }

    fn empty(&mut self, page: Page, name: &'static str) {
        self.tag(page, name, 0);
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            push_inline(&mut self.out, text);
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        self.out.push(OPAQUE);
        push_number(&mut self.out, u32::try_from(octets.len()).unwrap_or(u32::MAX));
        self.out.extend_from_slice(octets);
    }

    fn finish(self) -> Vec<u8> {
        self.out
    }
}
