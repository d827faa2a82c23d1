//! Large objects: one item's data over several messages, cut by one side and joined by the other.
//!
//! ```text
//! message 1   Replace: Meta Size=total, Data, MoreData   ->  213, Alert 1222
//! message 2   Replace: Data, MoreData                    ->  213, Alert 1222
//! message 3   Replace: Data                              ->  200; or 424 when the sizes differ
//! ```
//!
//! Size counts what stands in the messages: octets in WBXML, characters of base64 in XML.

use super::{
    code::{Format, StatusCode},
    encoding::Encoding,
    syncml::{Data, Item, Meta, Verb},
};

/// Returns the octets of an item's data as they stand in a message of a form: what MaxObjSize limits,
/// in one message or in several.
// spec: oma-dm 2.1 (MaxObjSize)
#[must_use]
pub fn object_size(item: &Item, encoding: Encoding) -> u64 {
    let length = match (&item.data, encoding) {
        // In base64.
        (Some(Data::Octets(octets)), Encoding::Xml) => octets.len().div_ceil(3) * 4,
        (Some(data), Encoding::Xml | Encoding::Wbxml) => data.len(),
        (None, _) => 0,
    };
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Joins the chunks of at most one object.
#[derive(Debug, Clone, Default)]
pub struct Reassembler {
    open: Option<Open>,
    /// An object of which a chunk was rejected and more may follow.
    rejected: Option<Rejected>,
}

#[derive(Debug, Clone)]
struct Rejected {
    verb: Verb,
    /// Its addresses.
    item: Item,
    code: StatusCode,
}

impl Rejected {
    fn new(verb: Verb, item: &Item, code: StatusCode) -> Self {
        Self { verb, item: addresses_of(item), code }
    }

    /// Returns whether an item is a further chunk: an object that is sent anew in chunks has a size.
    fn is_continued_by(&self, verb: Verb, item: &Item) -> bool {
        let begins = item.more_data && item.meta.as_ref().is_some_and(|meta| meta.size.is_some());
        self.verb == verb && self.item == addresses_of(item) && !begins
    }
}

fn addresses_of(item: &Item) -> Item {
    Item { target: item.target.clone(), source: item.source.clone(), ..Item::default() }
}

#[derive(Debug, Clone)]
struct Open {
    verb: Verb,
    first: Item,
    size: u64,
    data: Data,
    /// Length of the data that [`Reassembler::take_new`] has returned; `usize::MAX` once it cannot.
    reported: usize,
}

impl Reassembler {
    /// Returns whether an object has begun and not ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether no further chunk is awaited, of an object or of a rejected one.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.open.is_none() && self.rejected.is_none()
    }

    /// Drops an object whose end is not `item`; returns its item, whose addresses go into an
    /// Alert 1225. Call it before [`Self::push`], and with `None` when a message ends in which no
    /// chunk arrived.
    // spec: oma-dm 2.1 (no end of data)
    pub fn interrupted_by(&mut self, verb: Verb, item: Option<&Item>) -> Option<Item> {
        let goes_on = |open: &Open| {
            item.is_some_and(|item| {
                open.verb == verb
                    && open.first.target_uri() == item.target_uri()
                    && open.first.source_uri() == item.source_uri()
            })
        };
        self.rejected
            .take_if(|rejected| !item.is_some_and(|item| rejected.is_continued_by(verb, item)));
        let lost = self.open.take_if(|open| !goes_on(open))?;
        Some(addresses_of(&lost.first))
    }

    /// Adds an item or a chunk of one; returns the item when it is complete. An object of more than
    /// `limit` octets is rejected: by the size that its first chunk announces, or, in one piece, by
    /// its own. The chunks after a rejected one are rejected with it: the last one is no value.
    ///
    /// # Errors
    ///
    /// The status of the item instead: 213 for a stored chunk.
    // spec: oma-dm 2.1 (chunks, their size, and its mismatch)
    pub fn push(&mut self, verb: Verb, item: &Item, limit: u64) -> Result<Item, StatusCode> {
        if let Some(rejected) = self.rejected.take()
            && rejected.is_continued_by(verb, item)
        {
            let code = rejected.code;
            self.rejected = item.more_data.then_some(rejected);
            return Err(code);
        }
        let pushed = self.join(verb, item, limit);
        if let Err(code) = pushed
            && item.more_data
            && self.open.is_none()
        {
            self.rejected = Some(Rejected::new(verb, item, code));
        }
        pushed
    }

    fn join(&mut self, verb: Verb, item: &Item, limit: u64) -> Result<Item, StatusCode> {
        let Some(mut open) = self.open.take() else { return self.begin(verb, item, limit) };
        if let Some(data) = &item.data {
            append(&mut open.data, data);
        }
        let length = u64::try_from(open.data.len()).unwrap_or(u64::MAX);
        if length > open.size || (!item.more_data && length < open.size) {
            return Err(StatusCode::SIZE_MISMATCH);
        }
        if item.more_data {
            self.open = Some(open);
            return Err(StatusCode::CHUNK_ACCEPTED);
        }
        let format = open.first.meta.as_ref().and_then(|meta| meta.format.clone());
        let data = Some(of_format(open.data, format.as_ref()));
        Ok(Item { data, more_data: false, ..open.first })
    }

    /// Returns the octets of the open object since the last call, as far as its format permits
    /// before its end: of base64, groups of four characters without line breaks.
    pub fn take_new(&mut self) -> Option<Vec<u8>> {
        let open = self.open.as_mut()?;
        let format = open.first.meta.as_ref().and_then(|meta| meta.format.as_ref());
        let (from, to) = (open.reported, open.data.len());
        // Data that cannot be reported once is not tried again with each chunk.
        open.reported = usize::MAX;
        let left = to.checked_sub(from)?;
        let (octets, to) = match &open.data {
            Data::Octets(octets) if format == Some(&Format::Bin) => {
                (octets.get(from..to)?.to_vec(), to)
            }
            Data::Text(text) if format == Some(&Format::B64) => {
                let to = to - left % 4;
                let data = Some(Data::from(text.get(from..to)?));
                let meta = open.first.meta.clone();
                (Item { data, meta, ..Item::default() }.to_bytes().ok()?, to)
            }
            Data::Octets(_) | Data::Text(_) => return None,
        };
        open.reported = to;
        Some(octets)
    }

    fn begin(&mut self, verb: Verb, item: &Item, limit: u64) -> Result<Item, StatusCode> {
        if !item.more_data {
            let length = item.data.as_ref().map_or(0, Data::len);
            let fits = u64::try_from(length).is_ok_and(|length| length <= limit);
            return if fits { Ok(item.clone()) } else { Err(StatusCode::TOO_LARGE) };
        }
        let Some(size) = item.meta.as_ref().and_then(|meta| meta.size) else {
            return Err(StatusCode::SIZE_REQUIRED);
        };
        if size > limit {
            return Err(StatusCode::TOO_LARGE);
        }
        let data = item.data.clone().unwrap_or_else(|| Data::Text(String::new()));
        if u64::try_from(data.len()).unwrap_or(u64::MAX) > size {
            return Err(StatusCode::SIZE_MISMATCH);
        }
        let first = Item { data: None, ..item.clone() };
        self.open = Some(Open { verb, first, size, data, reported: 0 });
        Err(StatusCode::CHUNK_ACCEPTED)
    }
}

/// Appends a chunk. Text whose last chunk ends inside a character is octets until the next chunk.
fn append(data: &mut Data, more: &Data) {
    match (&mut *data, more) {
        (Data::Text(text), Data::Text(more)) => text.push_str(more),
        (Data::Octets(octets), Data::Octets(more)) => octets.extend_from_slice(more),
        (Data::Octets(octets), Data::Text(more)) => octets.extend_from_slice(more.as_bytes()),
        (Data::Text(text), Data::Octets(more)) => {
            let mut octets = std::mem::take(text).into_bytes();
            octets.extend_from_slice(more);
            *data = Data::Octets(octets);
        }
    }
}

/// Returns complete data as text, unless its format is that of octets.
fn of_format(data: Data, format: Option<&Format>) -> Data {
    match data {
        Data::Octets(octets) if format != Some(&Format::Bin) => {
            String::from_utf8(octets).map_or_else(|e| Data::Octets(e.into_bytes()), Data::Text)
        }
        data @ (Data::Text(_) | Data::Octets(_)) => data,
    }
}

/// Cuts an item into chunks.
#[derive(Debug, Clone)]
pub struct Chunker {
    /// The item without its data.
    item: Item,
    data: Data,
    offset: usize,
}

impl Chunker {
    /// Takes an item apart for messages of a form.
    #[must_use]
    pub fn new(item: &Item, encoding: Encoding) -> Self {
        let item = item.clone();
        let (meta, data) = match (item.data, encoding) {
            (Some(Data::Octets(octets)), Encoding::Xml) => {
                let meta = item.meta.unwrap_or_default();
                let meta = Some(Meta { format: Some(Format::B64), ..meta });
                (meta, Data::Text(crate::base64_text::encode(&octets)))
            }
            (Some(data), Encoding::Xml | Encoding::Wbxml) => (item.meta, data),
            (None, _) => (item.meta, Data::Text(String::new())),
        };
        Self { item: Item { meta, data: None, more_data: false, ..item }, data, offset: 0 }
    }

    /// Returns whether nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.offset >= self.data.len()
    }

    /// Returns the octets of the whole item.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.data.len()).unwrap_or(u64::MAX)
    }

    /// Returns the largest chunk for which `fits` holds, and moves on; `None` when not even
    /// `least` octets fit.
    pub fn chunk(&mut self, least: usize, mut fits: impl FnMut(&Item) -> bool) -> Option<Item> {
        let left = self.data.len() - self.offset;
        let (mut good, mut bad) = (0, left.saturating_add(1));
        // The size grows with the chunk, so that halving finds the largest.
        let mut probe = left;
        while good < bad - 1 {
            if fits(&self.cut(probe)) {
                good = probe;
            } else {
                bad = probe;
            }
            probe = good + (bad - good) / 2;
        }
        let end = self.boundary(good);
        if end - self.offset < least.min(left).max(1) {
            return None;
        }
        let chunk = self.cut(good);
        self.offset = end;
        Some(chunk)
    }

    fn cut(&self, length: usize) -> Item {
        let end = self.boundary(length);
        let data = match &self.data {
            Data::Text(text) => Data::from(text.get(self.offset..end).unwrap_or_default()),
            Data::Octets(octets) => {
                Data::Octets(octets.get(self.offset..end).unwrap_or_default().to_vec())
            }
        };
        let meta = self.item.meta.clone().unwrap_or_default();
        let size = (self.offset == 0).then(|| self.size());
        Item {
            meta: Some(Meta { size, ..meta }),
            data: Some(data),
            more_data: end < self.data.len(),
            ..self.item.clone()
        }
    }

    /// The end of a chunk of at most `length` octets that cuts no character.
    fn boundary(&self, length: usize) -> usize {
        let end = self.offset.saturating_add(length).min(self.data.len());
        match &self.data {
            Data::Text(text) => text.floor_char_boundary(end),
            Data::Octets(_) => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: Result<Item, StatusCode> = Err(StatusCode::CHUNK_ACCEPTED);

    fn chunk(text: &str, size: Option<u64>, more_data: bool) -> Item {
        let mut item = Item::text("./a", text);
        item.meta.get_or_insert_default().size = size;
        Item { more_data, ..item }
    }

    fn push(reassembler: &mut Reassembler, item: &Item) -> Result<Item, StatusCode> {
        reassembler.push(Verb::Replace, item, 10)
    }

    // test: oma-dm 2.1
    #[test]
    fn the_last_chunk_after_a_rejected_one_is_no_value() {
        let chunk = |size: Option<u64>, data: &str, more_data| Item {
            meta: Some(Meta { size, ..Meta::format(Format::Chr) }),
            data: Some(data.into()),
            more_data,
            ..Item::target("./a")
        };
        for (first, code) in [
            (chunk(None, "abc", true), StatusCode::SIZE_REQUIRED),
            (chunk(Some(2), "abc", true), StatusCode::SIZE_MISMATCH),
            (chunk(Some(999), "abc", true), StatusCode::TOO_LARGE),
        ] {
            let mut objects = Reassembler::default();
            let mut push = |verb, item: &Item| {
                assert_eq!(objects.interrupted_by(verb, Some(item)), None);
                objects.push(verb, item, 100)
            };
            assert_eq!(push(Verb::Replace, &first), Err(code));
            assert_eq!(push(Verb::Replace, &chunk(None, "def", true)), Err(code));
            assert_eq!(push(Verb::Replace, &chunk(None, "ghi", false)), Err(code));
            let whole = chunk(None, "xyz", false);
            assert_eq!(push(Verb::Replace, &whole), Ok(whole.clone()));
            assert_eq!(push(Verb::Replace, &first), Err(code));
            let again = chunk(Some(6), "abc", true);
            assert_eq!(push(Verb::Replace, &again), Err(StatusCode::CHUNK_ACCEPTED));
            let joined = push(Verb::Replace, &chunk(None, "def", false)).unwrap();
            assert_eq!(joined.data_text(), Some("abcdef"));
            assert_eq!(push(Verb::Replace, &first), Err(code));
            assert_eq!(push(Verb::Add, &whole), Ok(whole.clone()), "another command");
            assert!(objects.is_idle());
        }
    }

    // test: oma-dm 2.1
    #[test]
    fn an_object_over_three_messages_is_joined() {
        let mut reassembler = Reassembler::default();
        assert_eq!(push(&mut reassembler, &chunk("abc", Some(8), true)), CHUNK);
        assert!(reassembler.is_open());
        assert_eq!(push(&mut reassembler, &chunk("def", None, true)), CHUNK);
        let item = push(&mut reassembler, &chunk("gh", None, false)).unwrap();
        assert_eq!((item.data_text(), item.more_data), (Some("abcdefgh"), false));
        assert!(!reassembler.is_open());
    }

    // test: oma-dm 2.1
    #[test]
    fn a_size_that_does_not_match_is_refused_and_nothing_is_kept() {
        for (chunks, code) in [
            (&[("abc", Some(8), true), ("de", None, false)][..], 424),
            (&[("abc", Some(4), true), ("de", None, true)], 424),
            (&[("abcde", Some(4), true)], 424),
            (&[("abc", None, true)], 411),
            (&[("abc", Some(11), true)], 413),
        ] {
            let mut reassembler = Reassembler::default();
            let mut last = CHUNK;
            for (text, size, more) in chunks {
                assert_eq!(last, CHUNK);
                last = push(&mut reassembler, &chunk(text, *size, *more));
            }
            assert_eq!(last, Err(StatusCode(code)), "{chunks:?}");
            assert!(!reassembler.is_open());
        }
        assert_eq!(push(&mut Reassembler::default(), &chunk("abc", Some(10), true)), CHUNK);
    }

    // test: oma-dm 2.1
    #[test]
    fn another_item_ends_an_unfinished_object() {
        let mut reassembler = Reassembler::default();
        let first = chunk("abc", Some(8), true);
        assert_eq!(push(&mut reassembler, &first), CHUNK);
        assert_eq!(reassembler.interrupted_by(Verb::Replace, Some(&first)), None);
        let other = Item::text("./b", "x");
        let lost = reassembler.interrupted_by(Verb::Replace, Some(&other)).unwrap();
        assert_eq!((lost.target_uri(), lost.data_text()), (Some("./a"), None));
        assert_eq!(reassembler.interrupted_by(Verb::Replace, Some(&other)), None);
        assert_eq!(push(&mut reassembler, &first), CHUNK);
        assert!(reassembler.interrupted_by(Verb::Add, Some(&first)).is_some());
        assert_eq!(push(&mut reassembler, &first), CHUNK);
        assert!(reassembler.interrupted_by(Verb::Replace, None).is_some());
    }

    #[test]
    fn new_octets_of_an_object_are_returned_once_and_as_far_as_they_are_known() {
        let octets: Vec<u8> = (0..=200).collect();
        for (encoding, exact) in [(Encoding::Wbxml, true), (Encoding::Xml, false)] {
            let mut chunker = Chunker::new(&Item::octets("./a", octets.as_slice()), encoding);
            let (mut reassembler, mut reported, mut came) = (Reassembler::default(), Vec::new(), 0);
            assert_eq!(reassembler.take_new(), None);
            while !chunker.is_done() {
                let fits = |item: &Item| item.data.as_ref().is_some_and(|it| it.len() <= 7);
                let chunk = chunker.chunk(1, fits).unwrap();
                came += 7;
                if reassembler.push(Verb::Replace, &chunk, 1000) == CHUNK {
                    reported.extend(reassembler.take_new().unwrap());
                    let known = if exact { came } else { came / 4 * 3 };
                    assert_eq!(reported, octets[..known], "{encoding}");
                    assert_eq!(reassembler.take_new(), Some(Vec::new()));
                }
            }
            assert_eq!(reassembler.take_new(), None);
        }
        let mut wrapped = Item::octets("./a", []);
        let meta = wrapped.meta.get_or_insert_default();
        (meta.format, meta.size) = (Some(Format::B64), Some(100));
        (wrapped.data, wrapped.more_data) = (Some("AAAA\nAAA".into()), true);
        let mut reassembler = Reassembler::default();
        for _ in 0..2 {
            assert_eq!(reassembler.push(Verb::Replace, &wrapped, 1000), CHUNK);
            assert_eq!(reassembler.take_new(), None);
        }
    }

    #[test]
    fn a_character_may_be_cut_by_the_other_side() {
        let mut reassembler = Reassembler::default();
        let mut first = chunk("", Some(4), true);
        first.data = Some(Data::Octets(vec![b'a', 0xc3]));
        assert_eq!(push(&mut reassembler, &first), CHUNK);
        first.data = Some(Data::Octets(vec![0xa4, b'b']));
        first.more_data = false;
        let item = push(&mut reassembler, &first).unwrap();
        assert_eq!(item.data_text(), Some("aäb"));
    }

    #[test]
    fn a_piece_that_is_too_small_is_not_worth_a_message() {
        let item = Item::text("./a", "abcdefgh");
        let mut chunker = Chunker::new(&item, Encoding::Xml);
        let short = |limit| move |item: &Item| item.data_text().is_some_and(|t| t.len() <= limit);
        assert_eq!(chunker.chunk(4, short(3)), None);
        assert_eq!(chunker.chunk(4, short(5)).unwrap().data_text(), Some("abcde"));
        assert_eq!(chunker.chunk(4, short(5)).unwrap().data_text(), Some("fgh"), "the last may be");
        assert!(chunker.is_done());
    }

    proptest! {
        #[test]
        fn what_is_cut_is_joined_again(
            text in "[a-zäß€]{1,60}",
            octets in any::<bool>(),
            wbxml in any::<bool>(),
            limit in 4_usize..40,
        ) {
            let encoding = if wbxml { Encoding::Wbxml } else { Encoding::Xml };
            let item = if octets {
                Item::octets("./a", text.as_bytes())
            } else {
                Item::text("./a", text.as_str())
            };
            let mut chunker = Chunker::new(&item, encoding);
            let mut reassembler = Reassembler::default();
            let mut whole = None;
            while !chunker.is_done() {
                prop_assert_eq!(whole.clone(), None);
                let fits = |item: &Item| item.data.as_ref().is_some_and(|it| it.len() <= limit);
                let chunk = chunker.chunk(1, fits).unwrap();
                prop_assert_eq!(reassembler.interrupted_by(Verb::Replace, Some(&chunk)), None);
                match reassembler.push(Verb::Replace, &chunk, 1000) {
                    Ok(item) => whole = Some(item),
                    Err(code) => prop_assert_eq!(code, StatusCode::CHUNK_ACCEPTED),
                }
            }
            let whole = whole.unwrap();
            prop_assert_eq!(whole.to_bytes().unwrap(), text.as_bytes());
        }
    }
}
