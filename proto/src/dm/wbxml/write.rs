//! Elements to tokens.

use super::{
    UTF_8,
    global::{CONTENT, END, OPAQUE, STR_I, SWITCH_PAGE},
    tokens::Page,
};
use crate::dm::{
    code::Format,
    encoding::write::{Form, Sink},
    message::is_xml_char,
};

/// WBXML 1.2.
const VERSION: u8 = 2;
/// SyncML 1.2.
const SYNCML: u32 = 0x1201;

/// A document in the making.
pub(in crate::dm) struct Tokens<S> {
    out: S,
    page: Page,
}

impl<S: Sink> Tokens<S> {
    /// Begins a SyncML document.
    pub(super) fn syncml(mut out: S) -> Self {
        out.put(&[VERSION]);
        push_number(&mut out, SYNCML);
        push_number(&mut out, UTF_8);
        push_number(&mut out, 0);
        Self { out, page: Page::SyncMl }
    }

    /// Begins a document whose type has a name and no number.
    pub(in crate::dm) fn named(mut out: S, public_id: &str) -> Self {
        out.put(&[VERSION, 0, 0]);
        push_number(&mut out, UTF_8);
        let name = public_id.as_bytes();
        push_number(&mut out, u32::try_from(name.len() + 1).unwrap_or(u32::MAX));
        out.put(name);
        out.put(&[0]);
        Self { out, page: Page::SyncMl }
    }

    fn tag(&mut self, page: Page, name: &'static str, content: u8) {
        if page != self.page {
            self.out.put(&[SWITCH_PAGE, page.number()]);
            self.page = page;
        }
        let token = page.token(name).expect("the writer names tags of its pages");
        self.out.put(&[token | content]);
    }
}

/// Appends a number, seven bits in each octet.
pub(in crate::dm) fn push_number(out: &mut impl Sink, number: u32) {
    let groups = number.checked_ilog2().unwrap_or_default() / 7;
    for group in (0..=groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        let [.., bits] = (number >> (7 * group)).to_be_bytes();
        out.put(&[bits & 0x7f | more]);
    }
}

/// Appends a text in place. It cannot hold what XML cannot carry, zero among it.
pub(in crate::dm) fn push_inline(out: &mut impl Sink, text: &str) {
    out.put(&[STR_I]);
    if text.chars().all(is_xml_char) {
        out.put(text.as_bytes());
    } else {
        let kept = |c| if is_xml_char(c) { c } else { char::REPLACEMENT_CHARACTER };
        out.put(text.chars().map(kept).collect::<String>().as_bytes());
    }
    out.put(&[0]);
}

impl<S: Sink> Form for Tokens<S> {
    type Document = S;

    // spec: oma-dm 2 (binary values in both forms)
    const OCTETS_FORMAT: Format = Format::Bin;

    fn open(&mut self, page: Page, name: &'static str) {
        self.tag(page, name, CONTENT);
    }

    fn close(&mut self, _name: &'static str) {
        self.out.put(&[END]);
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
        self.out.put(&[OPAQUE]);
        push_number(&mut self.out, u32::try_from(octets.len()).unwrap_or(u32::MAX));
        self.out.put(octets);
    }

    fn finish(self) -> S {
        self.out
    }
}
