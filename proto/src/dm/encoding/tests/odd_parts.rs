//! Messages with one odd part: everything else is as without it.

use super::*;
use crate::dm::wbxml::global::{CONTENT, END, OPAQUE, STR_I, SWITCH_PAGE};

/// Elements that no standard knows, and one that only looks like a known one.
const ODD_ELEMENTS: [&str; 6] = [
    "<Odd/>",
    "<Odd>1<Odd a='b'>x &amp; y</Odd></Odd>",
    "<Odd><CmdID>odd</CmdID><Item/></Odd>",
    "<v:Data xmlns:v='urn:v'>odd</v:Data>",
    "<Get xmlns='urn:v'><CmdID>1</CmdID></Get>",
    "<MgmtTree xmlns='urn:v'><v:Status/></MgmtTree>",
];

/// The same in tokens; each leaves the code page as it was.
const ODD_TOKENS: [&[u8]; 8] = [
    &[0x3f],
    &[0x7f, STR_I, b'x', 0, 0x3e, END],
    &[0xbf, 0x05, STR_I, b'x', 0, 0x85, END],
    &[0xff, 0x05, OPAQUE, 1, 0xff, END, STR_I, b'x', 0, END],
    &[0x43, 0x05, STR_I, b'x', 0, END],
    &[0x40, b'x', 0],
    &[0x80, 0x81, 0x00],
    &[0xc2],
];

/// Returns the places of an XML message where an element may stand: behind each tag inside the root.
fn places_in_text(text: &str) -> Vec<usize> {
    let root = text.find("<SyncML").unwrap();
    let all = text.match_indices('>').map(|(place, _)| place + 1);
    all.filter(|place| *place > root && *place < text.len()).collect()
}

/// Returns the places of start tags where an attribute may stand.
fn places_of_attributes(text: &str) -> Vec<usize> {
    let starts = text.match_indices('<').map(|(place, _)| place);
    let tags = starts.filter(|place| !matches!(text.as_bytes()[place + 1], b'/' | b'?'));
    let end = |place: usize| place + text[place..].find(['>', ' ', '/']).unwrap();
    tags.map(end).collect()
}

/// Returns the places of a WBXML message of ours where a token may stand, each with its code page.
fn places_in_tokens(octets: &[u8]) -> Vec<(usize, u8)> {
    let (mut places, mut place, mut page, mut depth) = (Vec::new(), 5, 0, 0);
    loop {
        match octets[place] {
            SWITCH_PAGE => {
                page = octets[place + 1];
                place += 1;
            }
            END => depth -= 1,
            STR_I => place += octets[place..].iter().position(|octet| *octet == 0).unwrap(),
            OPAQUE => {
                let mut length = 0;
                loop {
                    place += 1;
                    length = length << 7 | usize::from(octets[place] & 0x7f);
                    if octets[place] & 0x80 == 0 {
                        break;
                    }
                }
                place += length;
            }
            tag => depth += usize::from(tag & CONTENT != 0),
        }
        place += 1;
        if depth == 0 {
            return places;
        }
        places.push((place, page));
    }
}

/// Removes what was rejected as unknown, also from groups.
fn remove_unknown(commands: &mut Vec<Command>) {
    commands.retain(
        |command| !matches!(command, Command::Rejected(it) if matches!(it.verb, Verb::Other(_))),
    );
    for command in commands {
        if let Command::Sequence(group) | Command::Atomic(group) = command {
            remove_unknown(&mut group.commands);
        }
    }
}

/// Checks that commands are those expected, at most one of which was rejected; returns how many were.
fn check_commands(found: &[Command], expected: &[Command]) -> usize {
    assert_eq!(found.len(), expected.len(), "{found:?} for {expected:?}");
    let check = |(found, expected): (&Command, &Command)| match (found, expected) {
        (Command::Rejected(it), _) => {
            assert_eq!(it.verb, expected.verb());
            assert!(it.id == expected.id() || it.id == CommandId::ABSENT, "{it:?}");
            1
        }
        (Command::Sequence(found), Command::Sequence(expected))
        | (Command::Atomic(found), Command::Atomic(expected)) => {
            assert_eq!((found.id, &found.meta), (expected.id, &expected.meta));
            check_commands(&found.commands, &expected.commands)
        }
        _ => {
            assert_eq!(found, expected);
            0
        }
    };
    let rejected = found.iter().zip(expected).map(check).sum();
    assert!(rejected <= 1, "{found:?}");
    rejected
}

/// Checks that a message with an odd part is the expected one but for that part.
fn check_odd(encoding: Encoding, odd: &[u8], expected: &Message) {
    let limits = Limits { depth: 24, ..Limits::default() };
    let mut found = encoding.parse(odd, &limits).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(odd));
    });
    remove_unknown(&mut found.commands);
    assert_eq!(found.header, expected.header);
    assert_eq!(found.is_final, expected.is_final);
    check_commands(&found.commands, &expected.commands);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    // test: oma-dm 8.2 (unknown elements)
    #[test]
    fn an_unknown_element_anywhere_costs_at_most_its_own_command(
        message in message(),
        place in any::<prop::sample::Index>(),
    ) {
        let text = String::from_utf8(Encoding::Xml.emit(&message)).unwrap();
        let place = *place.get(&places_in_text(&text));
        for element in ODD_ELEMENTS {
            let odd = [&text[..place], element, &text[place..]].concat();
            check_odd(Encoding::Xml, odd.as_bytes(), &as_text(&message));
        }
    }

    // test: oma-dm 8.2 (elements of vendors)
    #[test]
    fn an_attribute_of_a_vendor_anywhere_costs_nothing(
        message in message(),
        place in any::<prop::sample::Index>(),
    ) {
        let text = String::from_utf8(Encoding::Xml.emit(&message)).unwrap();
        let place = *place.get(&places_of_attributes(&text));
        for attribute in [" odd='1>0'", " v:odd=\"&lt;\"", " xmlns:v='urn:v'"] {
            let odd = [&text[..place], attribute, &text[place..]].concat();
            let found = Encoding::Xml.parse(odd.as_bytes(), &Limits::default());
            prop_assert_eq!(found, Ok(as_text(&message)), "{}", odd);
        }
    }

    // test: oma-dm 8.2 (unknown tokens)
    #[test]
    fn an_unknown_token_anywhere_costs_at_most_its_own_command(
        message in message(),
        place in any::<prop::sample::Index>(),
    ) {
        let octets = Encoding::Wbxml.emit(&message);
        let (place, page) = *place.get(&places_in_tokens(&octets));
        let other_page = [SWITCH_PAGE, 9, 0x45, STR_I, b'x', 0, END, SWITCH_PAGE, page];
        for token in ODD_TOKENS.into_iter().chain([other_page.as_slice()]) {
            let odd = [&octets[..place], token, &octets[place..]].concat();
            check_odd(Encoding::Wbxml, &odd, &message);
        }
    }

    // test: oma-dm 8.2 (a malformed command)
    #[test]
    fn a_malformed_command_among_others_costs_itself(
        message in message(),
        place in any::<prop::sample::Index>(),
        odd in prop::sample::select(vec![
            "<Get><CmdID>odd</CmdID></Get>",
            "<Exec><CmdID>odd</CmdID><Item><Target/></Item></Exec>",
            "<Alert><Data>1200</Data></Alert>",
            "<Status><CmdID>odd</CmdID><Data>200</Data></Status>",
            "<Replace><CmdID>odd</CmdID><Item/><Meta/><Meta/></Replace>",
        ]),
    ) {
        let text = String::from_utf8(Encoding::Xml.emit(&message)).unwrap();
        let body = text.find("<SyncBody>").map(|place| place + "<SyncBody>".len());
        // Before the first command, or behind the last one.
        let places = [body, text.rfind("</SyncBody>"), text.rfind("<Final/>")];
        let places: Vec<usize> = places.into_iter().flatten().collect();
        prop_assume!(!places.is_empty());
        let place = *place.get(&places);
        let odd = [&text[..place], odd, &text[place..]].concat();
        let mut found = Encoding::Xml.parse(odd.as_bytes(), &Limits::default()).unwrap();
        found.commands.retain(|command| !matches!(command, Command::Rejected(_)));
        prop_assert_eq!(found, as_text(&message));
    }
}
