//! A DM client on a connection of its own, with as little work as can be.
//!
//! The first session reads what it is answered and becomes a [`Script`]; the others say the same with
//! another device's words and compare the answers octet by octet.

use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use memchr::memmem;
use proto::{
    crypto::random,
    dm::{
        auth::Secret,
        encoding::{self, Encoding},
        syncml::Command,
    },
    fixtures::device::{Client, ScriptedDevice, Tree},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Returns the id of a device.
pub(crate) fn id(number: u32) -> String {
    format!("LOAD-{number:06}")
}

/// Credentials of a device.
pub(crate) struct Keys {
    secret: Secret,
    nonce: Vec<u8>,
}

/// Holds one whole session of a client that reads what it is answered.
///
/// # Errors
///
/// When it does not go as it should.
pub(crate) async fn session(
    http: &mut Http,
    number: u32,
    keys: &mut Keys,
    encoding: Encoding,
) -> anyhow::Result<Script> {
    let mut device = scripted(number, keys);
    let mut words = vec![
        (Word::Id, device.client.id.clone()),
        (Word::Session, device.client.session.clone()),
        (Word::Digest, keys.digest()),
    ];
    let mut said = Vec::new();
    let mut path = "/dm".to_owned();
    let mut message = device.first_with(&keys.nonce);
    for _ in 0..MOST_MESSAGES {
        let octets = encoding.emit(&message);
        let answered = http.post(&path, encoding.media_type(), &octets).await?;
        let answer = encoding.parse(&answered, &encoding::Limits::default())?;
        said.push((octets, answered));
        let Some(Command::Status(header)) = answer.commands.first() else {
            bail!("an answer without a status")
        };
        ensure!(header.code.is_success(), "the header was answered {}", header.code);
        if let Some(challenge) = &header.challenge {
            keys.nonce = challenge.nonce()?;
            words.push((Word::Nonce, BASE64_STANDARD.encode(&keys.nonce)));
        }
        if let Some(credential) = &answer.header.credential {
            words.push((Word::Proof, credential.data.clone()));
        }
        if let Some(address) = &answer.header.respond_to {
            let (_, tail) = address.split_once("/dm").context("an address at /dm")?;
            path = format!("/dm{tail}");
            words.push((Word::Path, path.clone()));
        }
        match device.answer(&answer) {
            Some(next) => message = next,
            None => {
                let of = |octets| Octets::of(octets, &words);
                let pairs = said.into_iter().map(|(asked, answered)| (of(asked), of(answered)));
                return Ok(Script { encoding, exchanges: pairs.collect() });
            }
        }
    }
    bail!("the session does not end")
}

/// A session that was held, to be held again by others.
pub(crate) struct Script {
    encoding: Encoding,
    /// The request, and the response.
    exchanges: Vec<(Octets, Octets)>,
}

/// Fields that differ from session to session. Each has the same length in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Of the device.
    Id,
    /// Its number for the session.
    Session,
    /// Its credential.
    Digest,
    /// Made by the server: what the next session is proved with.
    Nonce,
    /// The credential of the server.
    Proof,
    /// URL of the next message.
    Path,
}

/// A message, and where its words are.
struct Octets {
    octets: Vec<u8>,
    places: Vec<(Word, Range<usize>)>,
}

impl Octets {
    fn of(octets: Vec<u8>, words: &[(Word, String)]) -> Self {
        let places = words.iter().flat_map(|(word, text)| {
            let found = memmem::find_iter(&octets, text);
            found.map(|place| (*word, place..place + text.len()))
        });
        let mut places: Vec<_> = places.collect();
        places.sort_unstable_by_key(|(_, place)| place.start);
        // A short word may be there by chance, inside of a long one.
        let mut done = 0;
        places.retain(|(_, place)| {
            let stays = place.start >= done;
            done = done.max(place.end);
            stays
        });
        Self { octets, places }
    }

    /// Returns the message with a device's own words.
    fn with(&self, words: &Words) -> Vec<u8> {
        let mut octets = self.octets.clone();
        for (word, place) in &self.places {
            if let (Some(found), Some(own)) = (octets.get_mut(place.clone()), words.get(*word)) {
                found.copy_from_slice(own.as_bytes());
            }
        }
        octets
    }

    /// Compares an answer with this one, but for what the server makes for each device: that is
    /// given to `take`.
    fn compare(
        &self,
        answer: &[u8],
        words: &Words,
        mut take: impl FnMut(Word, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut same = answer.len() == self.octets.len();
        let mut done = 0;
        for (word, place) in &self.places {
            let found = answer.get(place.clone()).unwrap_or_default();
            match words.get(*word) {
                Some(own) => same &= own.as_bytes() == found,
                None => take(*word, found)?,
            }
            same &= answer.get(done..place.start) == self.octets.get(done..place.start);
            done = place.end;
        }
        same &= answer.get(done..) == self.octets.get(done..);
        ensure!(
            same,
            "another answer: {}\nexpected, but for the words of the device: {}",
            String::from_utf8_lossy(answer),
            String::from_utf8_lossy(&self.octets)
        );
        Ok(())
    }
}

/// The words of a device.
struct Words {
    id: String,
    session: String,
    digest: String,
}

impl Words {
    /// Returns a device's own word; `None` for those that the server makes.
    fn get(&self, word: Word) -> Option<&str> {
        match word {
            Word::Id => Some(&self.id),
            Word::Session => Some(&self.session),
            Word::Digest => Some(&self.digest),
            Word::Nonce | Word::Proof | Word::Path => None,
        }
    }
}

impl Script {
    /// Returns the octets of each request and its response.
    pub(crate) fn sizes(&self) -> Vec<(usize, usize)> {
        let sizes =
            |(asked, answered): &(Octets, Octets)| (asked.octets.len(), answered.octets.len());
        self.exchanges.iter().map(sizes).collect()
    }

    /// Holds the session with the words of another device.
    ///
    /// # Errors
    ///
    /// When an answer differs.
    pub(crate) async fn play(
        &self,
        http: &mut Http,
        number: u32,
        keys: &mut Keys,
    ) -> anyhow::Result<()> {
        let words = Words { id: id(number), session: session_id(), digest: keys.digest() };
        let mut path = "/dm".to_owned();
        for (asked, answered) in &self.exchanges {
            let answer = http.post(&path, self.encoding.media_type(), &asked.with(&words)).await?;
            answered.compare(&answer, &words, |word, found| {
                match word {
                    Word::Nonce => keys.nonce = BASE64_STANDARD.decode(found)?,
                    Word::Path => path = String::from_utf8(found.to_vec())?,
                    Word::Id | Word::Session | Word::Digest | Word::Proof => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Keys {
    /// Returns the credentials of a device, with the nonce of its next session.
    pub(crate) const fn new(secret: Secret, nonce: Vec<u8>) -> Self {
        Self { secret, nonce }
    }

    fn digest(&self) -> String {
        self.secret.digest(&self.nonce)
    }
}

/// Four digits, of which the first is in no token, as these are lower-case.
fn session_id() -> String {
    let [high, low] = random::<2>();
    format!("{:X}", u16::from_be_bytes([high, low]) | 0xF000)
}

/// Returns a device that answers each question with a version.
pub(crate) fn scripted(number: u32, keys: &Keys) -> ScriptedDevice {
    let info = [
        ("./DevInfo/Man", "fumocast"),
        ("./DevInfo/Mod", "load"),
        ("./DevInfo/DmV", "1.2"),
        ("./DevInfo/Lang", "en"),
    ];
    ScriptedDevice {
        client: Client {
            id: id(number),
            secret: keys.secret.clone(),
            url: URL.to_owned(),
            info: info.map(|(node, value)| (node, value.to_owned())).to_vec(),
            session: session_id(),
            message: 0,
            tree: Tree::default(),
        },
        values: vec![(String::new(), "1.0".to_owned())],
        ..ScriptedDevice::new("", "")
    }
}

/// Octets in both directions.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection, with as little work on our side as can be.
pub(crate) struct Http {
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
}

impl Http {
    /// Returns the client's end of a connection.
    pub(crate) fn new(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Sends a request and returns the body of the response.
    ///
    /// # Errors
    ///
    /// When it is none of status 200, or the connection ends.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        let length = body.len();
        let mut request = head(path, kind, length).into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{head}");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("an answer without a length")?
            .trim()
            .parse()?;
        while self.buffer.len() < length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        }
        Ok(self.buffer.drain(..length).collect())
    }
}

/// Returns the head of a request with a body of this length.
pub(crate) fn head(path: &str, kind: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: l\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// The URL of the server, in the headers of messages.
pub(crate) const URL: &str = "http://127.0.0.1/dm";
/// A session that needs more does not end.
const MOST_MESSAGES: u32 = 16;
