//! Elements to XML text.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::dm::{
    code::Format,
    encoding::{
        read::is_xml_char,
        write::{Form, Page, Sink},
    },
    message::{METINF_NAMESPACE, SYNCML_NAMESPACE},
};

/// A document in the making.
pub(in crate::dm) struct Text<S> {
    out: S,
}

impl<S: Sink> Text<S> {
    pub(in crate::dm) fn new(out: S) -> Self {
        let mut text = Self { out };
        text.push(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        text
    }

    fn push(&mut self, text: &str) {
        self.out.put(text.as_bytes());
    }

    fn start(&mut self, page: Page, name: &str) {
        self.push("<");
        self.push(name);
        let namespace = match page {
            Page::SyncMl if name == "SyncML" => SYNCML_NAMESPACE,
            Page::MetInf => METINF_NAMESPACE,
            Page::Ddf if name == "MgmtTree" => "syncml:dmddf1.2",
            Page::SyncMl | Page::Ddf => return,
        };
        self.push(" xmlns=\"");
        self.push(namespace);
        self.push("\"");
    }
}

impl<S: Sink> Form for Text<S> {
    type Document = S;

    // spec: oma-dm 2 (binary values in both forms)
    const OCTETS_FORMAT: Format = Format::B64;

    fn open(&mut self, page: Page, name: &'static str) {
        self.start(page, name);
        self.push(">");
    }

    fn close(&mut self, name: &'static str) {
        self.push("</");
        self.push(name);
        self.push(">");
    }

    fn empty(&mut self, page: Page, name: &'static str) {
        self.start(page, name);
        self.push("/>");
    }

    fn text(&mut self, text: &str) {
        if text.bytes().all(|c| matches!(c, b' '..=b'~') && !matches!(c, b'<' | b'>' | b'&')) {
            self.push(text);
            return;
        }
        for c in text.chars() {
            match c {
                '<' => self.push("&lt;"),
                '>' => self.push("&gt;"),
                '&' => self.push("&amp;"),
                // A reader may turn a bare one into a line feed.
                '\r' => self.push("&#13;"),
                c if is_xml_char(c) => self.push(c.encode_utf8(&mut [0; 4])),
                _ => self.push("\u{fffd}"),
            }
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        self.push(&BASE64_STANDARD.encode(octets));
    }

    fn finish(self) -> S {
        self.out
    }
}
