//! Elements to XML text.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::dm::{
    code::Format,
    encoding::{METINF_NAMESPACE, SYNCML_NAMESPACE, is_xml_char, write::Form},
    wbxml::tokens::Page,
};

/// A document in the making.
pub(in crate::dm) struct Text {
    out: String,
}

impl Text {
    pub(in crate::dm) fn new() -> Self {
        let mut out = String::with_capacity(2048);
        out.push_str(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        Self { out }
    }

    fn start(&mut self, page: Page, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        let namespace = match page {
            Page::SyncMl if name == "SyncML" => SYNCML_NAMESPACE,
            Page::MetInf => METINF_NAMESPACE,
            Page::Ddf if name == "MgmtTree" => "syncml:dmddf1.2",
            Page::SyncMl | Page::Ddf => return,
        };
        self.out.push_str(" xmlns=\"");
        self.out.push_str(namespace);
        self.out.push('"');
    }
}

impl Form for Text {
    // spec: oma-dm 2 (binary values in both forms)
    const OCTETS_FORMAT: Format = Format::B64;

    fn open(&mut self, page: Page, name: &'static str) {
        self.start(page, name);
        self.out.push('>');
    }

    fn close(&mut self, name: &'static str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn empty(&mut self, page: Page, name: &'static str) {
        self.start(page, name);
        self.out.push_str("/>");
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                // A reader may turn a bare one into a line feed.
                '\r' => self.out.push_str("&#13;"),
                c if is_xml_char(c) => self.out.push(c),
                _ => self.out.push(char::REPLACEMENT_CHARACTER),
            }
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        BASE64_STANDARD.encode_string(octets, &mut self.out);
    }

    fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}
