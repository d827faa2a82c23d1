//! Download descriptors of OMA Download 1.0 (`application/vnd.oma.dd+xml`), and the installation
//! notification that ends a download.

use quick_xml::escape::escape;

use super::{
    code::named_codes,
    message::{Limits, MessageError},
    xml,
};
use crate::wire::WireError;

/// The media type of a descriptor.
pub const MEDIA_TYPE: &str = "application/vnd.oma.dd+xml";

/// Octets of a descriptor at most.
pub const MAX_BYTES: usize = 64 * 1024;

const NAMESPACE: &str = "http://www.openmobilealliance.org/xmlns/dd";
const MAX_TEXT: usize = 1024;
/// Characters of a URI: a device keeps it over power cuts, in little room.
const MAX_URI: usize = 512;
const MAX_TYPES: usize = 16;
const LIMITS: Limits = Limits { message_bytes: MAX_BYTES, depth: 16, elements: 1024, commands: 0 };

/// A download descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Version of the descriptor; absent: `1.0`.
    pub version: Option<String>,
    /// Media types of the object, at least one.
    pub types: Vec<String>,
    /// Octets of the object.
    pub size: u64,
    /// Address of the object.
    pub object_uri: String,
    /// Address for the installation notification.
    pub install_notify_uri: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub vendor: Option<String>,
    /// For people.
    pub description: Option<String>,
}

impl Descriptor {
    /// Reads a descriptor; elements that are unknown are skipped.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is no descriptor or lacks what it must have.
    // spec: oma-dm 14 (DL 1.0)
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let unreadable = |error: MessageError| invalid(error, "a `media` element in XML");
        let text = xml::read::text(octets, &LIMITS).map_err(unreadable)?;
        let root = xml::read::elements(&text, &LIMITS, &check_root).map_err(unreadable)?;
        let mut found = Self::default();
        let mut size = None;
        for child in root.children {
            let text = child.content.as_text().map_err(unreadable)?.trim();
            store(&mut found, child.known_name(), text, &mut size)?;
        }
        found.size = size.ok_or_else(|| invalid("no size", "a size"))?;
        if found.types.is_empty() || found.object_uri.is_empty() {
            return Err(invalid("an incomplete descriptor", "type, size and objectURI"));
        }
        Ok(found)
    }

    /// Returns the document.
    #[must_use]
    pub fn emit(&self) -> String {
        let mut out =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<media xmlns=\"{NAMESPACE}\">\n");
        let mut line = |name: &str, text: &str| {
            out.push_str(&format!("  <{name}>{}</{name}>\n", escape(text)));
        };
        self.types.iter().for_each(|kind| line("type", kind));
        line("size", &self.size.to_string());
        line("objectURI", &self.object_uri);
        for (name, text) in [
            ("installNotifyURI", &self.install_notify_uri),
            ("DDVersion", &self.version),
            ("name", &self.name),
            ("vendor", &self.vendor),
            ("description", &self.description),
        ] {
            if let Some(text) = text {
                line(name, text);
            }
        }
        out.push_str("</media>\n");
        out
    }

    /// Returns whether this program reads descriptors of its version.
    #[must_use]
    pub fn is_understood(&self) -> bool {
        let version = self.version.as_deref().unwrap_or("1.0");
        version == "1" || version.starts_with("1.")
    }
}

/// The outcome of a download, as it is sent to `installNotifyURI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstallStatus(pub u16);

named_codes! {
    InstallStatus {
        SUCCESS = 900, "Success";
        INSUFFICIENT_MEMORY = 901, "Insufficient memory";
        USER_CANCELLED = 902, "User Cancelled";
        LOSS_OF_SERVICE = 903, "Loss of Service";
        ATTRIBUTE_MISMATCH = 905, "Attribute mismatch";
        INVALID_DESCRIPTOR = 906, "Invalid descriptor";
        INVALID_VERSION = 951, "Invalid DDVersion";
        DEVICE_ABORTED = 952, "Device Aborted";
        NOT_ACCEPTABLE = 953, "Non-Acceptable Content";
        LOADER_ERROR = 954, "Loader Error";
    }
}

impl InstallStatus {
    /// Returns the text of the standard.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self.own_text() {
            Some(text) => text,
            None => "Unknown",
        }
    }

    /// Returns the body of the notification.
    // spec: oma-dm 14.1 (install notification)
    #[must_use]
    pub fn emit(self) -> String {
        format!("{} {}\r\n", self.0, self.text())
    }

    /// Reads the body of a notification; the text after the number is for people.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it does not begin with a number of three digits.
    pub fn parse(body: &str) -> Result<Self, WireError> {
        let number = body.split_whitespace().next().unwrap_or_default();
        let code = number.parse().ok().filter(|code| (900..1000).contains(code));
        code.map(Self).ok_or_else(|| invalid(number, "a code such as 900"))
    }
}

// Descriptors of the field have other namespaces, or none.
fn check_root(name: &str, _namespace: Option<&str>) -> Result<(), MessageError> {
    match name {
        "media" => Ok(()),
        _ => Err(MessageError::NotSyncMl("its root element is another one".to_owned())),
    }
}

fn invalid(found: impl ToString, expected: &'static str) -> WireError {
    WireError::invalid("descriptor", found.to_string(), expected)
}

/// Stores the text of an element; unknown ones are skipped, and texts for people that are too long.
fn store(
    found: &mut Descriptor,
    name: &str,
    text: &str,
    size: &mut Option<u64>,
) -> Result<(), WireError> {
    let fits = !text.is_empty() && text.len() <= MAX_TEXT;
    let optional = fits.then(|| text.to_owned());
    match name {
        "DDVersion" => found.version = optional,
        "type" if found.types.len() < MAX_TYPES => found.types.extend(optional),
        "size" => *size = Some(text.parse().map_err(|_| invalid(text, "a number of octets"))?),
        "objectURI" | "installNotifyURI" if text.len() > MAX_URI => {
            return Err(invalid("a long URI", "at most 512 characters"));
        }
        "objectURI" => text.clone_into(&mut found.object_uri),
        "installNotifyURI" => found.install_notify_uri = optional,
        "name" => found.name = optional,
        "vendor" => found.vendor = optional,
        "description" => found.description = optional,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Descriptor {
        Descriptor {
            version: Some("1.0".to_owned()),
            types: vec!["application/vnd.fumocast.bundle".to_owned()],
            size: 4711,
            object_uri: "http://127.0.0.1/p?a=1&b=2".to_owned(),
            install_notify_uri: Some("http://127.0.0.1/n".to_owned()),
            name: Some("<Firmware> 2.0".to_owned()),
            vendor: Some("fumocast".to_owned()),
            description: None,
        }
    }

    // test: oma-dm 14
    #[test]
    fn a_descriptor_is_read_as_it_was_written_and_unknown_elements_are_skipped() {
        let text = full().emit();
        assert_eq!(Descriptor::parse(text.as_bytes()), Ok(full()));
        let more = text
            .replace("</media>", "<nextURL>x</nextURL><infoURL/><x><type>no</type></x></media>");
        assert_eq!(Descriptor::parse(more.as_bytes()), Ok(full()));
        let prefixed = "<dd:media xmlns:dd=\"x\"><dd:type>a/b</dd:type><dd:size> 7 </dd:size>\
                        <dd:objectURI>http://x/&amp;&#65;</dd:objectURI></dd:media>";
        let found = Descriptor::parse(prefixed.as_bytes()).unwrap();
        assert_eq!((found.size, found.object_uri.as_str()), (7, "http://x/&A"));
        assert!(found.is_understood());
    }

    // test: oma-dm 14
    #[test]
    fn a_descriptor_without_what_it_must_have_is_refused() {
        let text = full().emit();
        for lacking in ["type", "size", "objectURI"] {
            let open = text.find(&format!("<{lacking}>")).unwrap();
            let close = format!("</{lacking}>");
            let end = text.find(&close).unwrap() + close.len();
            let wrong = [&text[..open], &text[end..]].concat();
            assert!(Descriptor::parse(wrong.as_bytes()).is_err(), "{lacking}");
        }
        for wrong in [
            "",
            "media",
            "<other/>",
            "<a><type>x</type></a>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><media/>",
        ] {
            assert!(Descriptor::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let large = text.replace("4711", "many");
        assert!(Descriptor::parse(large.as_bytes()).is_err());
        let long = text.replace("http://127.0.0.1/p", &"x".repeat(513));
        assert!(Descriptor::parse(long.as_bytes()).is_err());
    }

    // test: oma-dm 8.2
    #[test]
    fn an_odd_part_costs_itself_and_not_the_descriptor() {
        let text = full().emit();
        let long = text.replace("fumocast</vendor>", &format!("{}</vendor>", "x".repeat(1025)));
        assert_eq!(Descriptor::parse(long.as_bytes()), Ok(Descriptor { vendor: None, ..full() }));
        for (from, to) in [
            ("?>", "?><!DOCTYPE media PUBLIC \"-//OMA//DTD DD 1.0//EN\" \"dd.dtd\">"),
            ("UTF-8", "US-ASCII"),
            ("</media>", "</media>\0<other>"),
            ("<size>", "<v:size xmlns:v=\"urn:v\">1</v:size><size>"),
            ("</media>", "<x><x><x><x><x><x><x><x><x/></x></x></x></x></x></x></x></x></media>"),
            ("</media>", &format!("<note>{}</note></media>", "x".repeat(5000))),
            ("<media ", "<media v:a=\"b\" "),
        ] {
            let odd = text.replacen(from, to, 1);
            assert_ne!(odd, text);
            assert_eq!(Descriptor::parse(odd.as_bytes()), Ok(full()), "{odd}");
        }
    }

    #[test]
    fn only_versions_of_the_first_kind_are_understood() {
        for (version, understood) in
            [(None, true), (Some("1.0"), true), (Some("1.1"), true), (Some("2.0"), false)]
        {
            let version = version.map(str::to_owned);
            assert_eq!(Descriptor { version, ..full() }.is_understood(), understood);
        }
    }

    // test: oma-dm 14.1
    #[test]
    fn an_outcome_is_a_number_and_its_text() {
        assert_eq!(InstallStatus::SUCCESS.emit(), "900 Success\r\n");
        for status in InstallStatus::NAMED {
            assert_eq!(InstallStatus::parse(&status.emit()), Ok(*status));
        }
        for wrong in ["", "Success", "200 OK", "9000"] {
            assert!(InstallStatus::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_are_too_strange(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = Descriptor::parse(&octets).is_ok();
        }

        #[test]
        fn every_prefix_is_refused(length in 0_usize..400) {
            let text = full().emit();
            let end = text.floor_char_boundary(length.min(text.len() - 9));
            prop_assert!(Descriptor::parse(&text.as_bytes()[..end]).is_err());
        }
    }
}
