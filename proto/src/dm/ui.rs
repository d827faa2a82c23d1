//! User interaction: the alerts 1100 to 1104 to the user of a device, and the answers.
//!
//! ```text
//! Alert 1101   Item 1: MINDT=10&MAXDT=60&DR=1   Item 2: "Update now?"      -> 200, 304, 214 or 408
//! Alert 1103   Item 1: parameters               Item 2: text   Items 3…    -> 200 + the number chosen
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    code::{AlertCode, Format, StatusCode},
    syncml::{Alert, CommandId, Item, Meta},
};

/// Characters of a text, a choice or a default that can be shown.
pub const MAX_TEXT: usize = 2048;
/// Choices that can be shown.
pub const MAX_CHOICES: usize = 64;

/// A question to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Kind of the answer.
    pub kind: PromptKind,
    /// Text to show.
    pub text: String,
    /// Choices, numbered from 1; empty unless it is a choice.
    pub choices: Vec<String>,
    /// Its parameters.
    pub options: Options,
}

/// The kind of answer to a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptKind {
    /// None: the text is shown (1100).
    Display,
    /// Yes or no (1101).
    Confirm,
    /// A text (1102).
    TextInput,
    /// One of the choices (1103).
    SingleChoice,
    /// Any of the choices (1104).
    MultipleChoice,
}

/// The parameters of the first item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// MINDT: the shortest display time of the text.
    pub min_display: Option<Duration>,
    /// MAXDT: the longest time for the answer.
    pub max_wait: Option<Duration>,
    /// DR: the proposed answer. For a confirmation `1` or `0`, for choices numbers such as `2-3`.
    pub default: Option<String>,
    /// MAXLEN: characters of a text input.
    pub max_length: Option<usize>,
    /// IT: the permitted content of a text input.
    pub input: Input,
    /// ET: the visibility of a text input.
    pub echo: Echo,
}

/// The permitted content of a text input.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// Any characters (A).
    #[default]
    Any,
    /// Digits, signs and points (N).
    Number,
    /// `DDMMYYYY` (D).
    Date,
    /// `hhmmss` (T).
    Time,
    /// A telephone number (P).
    Phone,
    /// An IP address (I).
    Address,
}

/// The visibility of a text input while it is written.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    /// It is (T).
    #[default]
    Visible,
    /// It is not (P).
    Hidden,
}

/// The answer to a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The text was shown.
    Shown,
    /// Yes.
    Yes,
    /// No.
    No,
    /// This text.
    Text(String),
    /// These choices, by their numbers.
    Chosen(Vec<u32>),
    /// The user cancelled the prompt.
    Cancelled,
    /// The user did not answer in time.
    TimedOut,
    /// The prompt cannot be displayed.
    NotDisplayable,
    /// There is no user.
    NoUser,
}

impl Answer {
    /// Returns the status of the alert, and what it carries.
    // spec: oma-dm 4.1 (answers)
    #[must_use]
    pub fn status(&self) -> (StatusCode, Vec<Item>) {
        let item = |text: String| Item { data: Some(text.as_str().into()), ..Item::default() };
        match self {
            Self::Shown | Self::Yes => (StatusCode::OK, Vec::new()),
            Self::No => (StatusCode::NOT_MODIFIED, Vec::new()),
            Self::Text(text) => (StatusCode::OK, vec![item(text.clone())]),
            Self::Chosen(numbers) => {
                (StatusCode::OK, numbers.iter().map(|number| item(number.to_string())).collect())
            }
            Self::Cancelled => (StatusCode::CANCELLED, Vec::new()),
            Self::TimedOut => (StatusCode::TIMED_OUT, Vec::new()),
            Self::NotDisplayable => (StatusCode::NOT_DISPLAYABLE, Vec::new()),
            Self::NoUser => (StatusCode::NOT_SUPPORTED, Vec::new()),
        }
    }
}

impl PromptKind {
    const ALL: [(Self, AlertCode); 5] = [
        (Self::Display, AlertCode::DISPLAY),
        (Self::Confirm, AlertCode::CONFIRM),
        (Self::TextInput, AlertCode::TEXT_INPUT),
        (Self::SingleChoice, AlertCode::SINGLE_CHOICE),
        (Self::MultipleChoice, AlertCode::MULTIPLE_CHOICE),
    ];

    const fn is_choice(self) -> bool {
        matches!(self, Self::SingleChoice | Self::MultipleChoice)
    }

    /// Returns the code of its alert.
    #[must_use]
    pub const fn alert(self) -> AlertCode {
        match self {
            Self::Display => AlertCode::DISPLAY,
            Self::Confirm => AlertCode::CONFIRM,
            Self::TextInput => AlertCode::TEXT_INPUT,
            Self::SingleChoice => AlertCode::SINGLE_CHOICE,
            Self::MultipleChoice => AlertCode::MULTIPLE_CHOICE,
        }
    }
}

impl Prompt {
    /// Returns a question for yes or no.
    #[must_use]
    pub fn confirm(text: impl Into<String>) -> Self {
        Self::plain(PromptKind::Confirm, text)
    }

    /// Returns a text that needs no answer.
    #[must_use]
    pub fn display(text: impl Into<String>) -> Self {
        Self::plain(PromptKind::Display, text)
    }

    fn plain(kind: PromptKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), choices: Vec::new(), options: Options::default() }
    }

    /// Reads an alert of the codes 1100 to 1104.
    ///
    /// # Errors
    ///
    /// The status of the alert: 406 for another code, 412 when a part is missing, 416 when
    /// it is too much to show.
    // spec: oma-dm 4.1 (parameters, text, choices)
    pub fn from_alert(alert: &Alert) -> Result<Self, StatusCode> {
        let kind = PromptKind::ALL.into_iter().find(|(_, code)| *code == alert.code);
        let (kind, _) = kind.ok_or(StatusCode::NOT_SUPPORTED)?;
        let (parameters, remaining) = alert.items.split_first().ok_or(StatusCode::INCOMPLETE)?;
        let (text, choices) = remaining.split_first().ok_or(StatusCode::INCOMPLETE)?;
        let shown = |item: &Item| item.data_text().map(str::to_owned).ok_or(StatusCode::INCOMPLETE);
        let choices = if kind.is_choice() {
            choices.iter().map(shown).collect::<Result<Vec<_>, _>>()?
        } else {
            Vec::new()
        };
        if kind.is_choice() && choices.is_empty() {
            return Err(StatusCode::INCOMPLETE);
        }
        let text = shown(text)?;
        let too_long = std::iter::once(&text).chain(&choices).any(|text| text.len() > MAX_TEXT);
        if too_long || choices.len() > MAX_CHOICES {
            return Err(StatusCode::NOT_DISPLAYABLE);
        }
        let options = Options::parse(parameters.data_text().unwrap_or_default());
        Ok(Self { kind, text, choices, options })
    }

    /// Returns the alert.
    #[must_use]
    pub fn to_alert(&self, id: CommandId) -> Alert {
        let item = |text: &str| Item {
            meta: Some(Meta::format(Format::Chr)),
            data: Some(text.into()),
            ..Item::default()
        };
        let parameters =
            Item { data: Some(self.options.emit().as_str().into()), ..Item::default() };
        let mut items = vec![parameters, item(&self.text)];
        items.extend(self.choices.iter().map(|choice| item(choice)));
        Alert { id, code: self.kind.alert(), correlator: None, items }
    }

    /// Returns whether an answer is one that the question can have.
    #[must_use]
    pub fn takes(&self, answer: &Answer) -> bool {
        match (self.kind, answer) {
            (_, Answer::Cancelled | Answer::TimedOut | Answer::NotDisplayable | Answer::NoUser)
            | (PromptKind::Display, Answer::Shown)
            | (PromptKind::Confirm, Answer::Yes | Answer::No) => true,
            (PromptKind::TextInput, Answer::Text(text)) => self.options.takes(text),
            (PromptKind::SingleChoice, Answer::Chosen(numbers)) => {
                numbers.len() == 1 && self.has(numbers)
            }
            (PromptKind::MultipleChoice, Answer::Chosen(numbers)) => self.has(numbers),
            (_, Answer::Shown | Answer::Yes | Answer::No | Answer::Text(_) | Answer::Chosen(_)) => {
                false
            }
        }
    }

    fn has(&self, numbers: &[u32]) -> bool {
        let is_there = |number: &u32| {
            usize::try_from(*number).is_ok_and(|n| (1..=self.choices.len()).contains(&n))
        };
        numbers.iter().all(is_there) && numbers.is_sorted_by(|one, next| one < next)
    }

    /// Returns the default answer of the server, if it is a possible one.
    #[must_use]
    pub fn proposed(&self) -> Option<Answer> {
        let default = self.options.default.as_deref()?;
        let numbers = || default.split('-').map(|number| number.parse().ok()).collect();
        let answer = match self.kind {
            PromptKind::Display => return None,
            PromptKind::Confirm if default == "1" => Answer::Yes,
            PromptKind::Confirm if default == "0" => Answer::No,
            PromptKind::Confirm => return None,
            PromptKind::TextInput => Answer::Text(default.to_owned()),
            PromptKind::SingleChoice | PromptKind::MultipleChoice => {
                let numbers: Option<Vec<u32>> = numbers();
                Answer::Chosen(numbers?)
            }
        };
        self.takes(&answer).then_some(answer)
    }
}

impl Options {
    /// Reads `A=b&C=d`. What is unknown or makes no sense is skipped, so that nothing here can be
    /// wrong.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for (name, value) in text.trim().split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decoded(value);
            let seconds = || value.parse().ok().map(|s: u32| Duration::from_secs(s.into()));
            match name.trim() {
                "MINDT" => options.min_display = seconds().or(options.min_display),
                "MAXDT" => options.max_wait = seconds().or(options.max_wait),
                "DR" if value.len() <= MAX_TEXT => options.default = Some(value),
                "MAXLEN" => options.max_length = value.parse().ok().or(options.max_length),
                "IT" => options.input = Input::from_letter(&value).unwrap_or(options.input),
                "ET" => options.echo = Echo::from_letter(&value).unwrap_or(options.echo),
                _ => {}
            }
        }
        options
    }

    /// Writes what differs from the defaults.
    #[must_use]
    pub fn emit(&self) -> String {
        let seconds = |duration: Duration| duration.as_secs().to_string();
        [
            ("MINDT", self.min_display.map(seconds)),
            ("MAXDT", self.max_wait.map(seconds)),
            ("DR", self.default.as_deref().map(encoded)),
            ("MAXLEN", self.max_length.map(|length| length.to_string())),
            ("IT", (self.input != Input::Any).then(|| self.input.letter().to_owned())),
            ("ET", (self.echo == Echo::Hidden).then(|| "P".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
        .collect::<Vec<_>>()
        .join("&")
    }

    fn takes(&self, text: &str) -> bool {
        let fits = text.chars().count() <= self.max_length.unwrap_or(MAX_TEXT).min(MAX_TEXT);
        let digits =
            |length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_digit());
        fits && match self.input {
            Input::Any => !text.chars().any(|c| c.is_control()),
            Input::Number => text.chars().all(|c| c.is_ascii_digit() || "+-.,".contains(c)),
            Input::Date => digits(8),
            Input::Time => digits(6),
            Input::Phone => text.chars().all(|c| c.is_ascii_digit() || "+*#pw- ".contains(c)),
            Input::Address => text.parse::<std::net::IpAddr>().is_ok(),
        }
    }
}

impl Input {
    const ALL: [Self; 6] =
        [Self::Any, Self::Number, Self::Date, Self::Time, Self::Phone, Self::Address];

    const fn letter(self) -> &'static str {
        match self {
            Self::Any => "A",
            Self::Number => "N",
            Self::Date => "D",
            Self::Time => "T",
            Self::Phone => "P",
            Self::Address => "I",
        }
    }

    fn from_letter(letter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|input| input.letter() == letter)
    }
}

impl Echo {
    fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "T" => Some(Self::Visible),
            "P" => Some(Self::Hidden),
            _ => None,
        }
    }
}

/// Decodes percent-encoding; other characters stand for themselves.
fn decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut remaining = text.as_bytes();
    while let Some((first, after)) = remaining.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                octets.push(code);
                remaining = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => octets.push(b' '),
            (octet, _) => octets.push(*octet),
        }
        remaining = after;
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prompt(kind: PromptKind, parameters: &str, choices: &[&str]) -> Prompt {
        Prompt {
            kind,
            text: "Which?".to_owned(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            options: Options::parse(parameters),
        }
    }

    // test: oma-dm 4.1
    #[test]
    fn all_parameters_are_read_and_unknown_ones_skipped() {
        let text = "MINDT=10&MAXDT=60&DR=a%20b+c%26&MAXLEN=9&IT=N&ET=P&XX=1&nonsense&MINDT=x&IT=Q";
        let options = Options::parse(text);
        let expected = Options {
            min_display: Some(Duration::from_secs(10)),
            max_wait: Some(Duration::from_secs(60)),
            default: Some("a b c&".to_owned()),
            max_length: Some(9),
            input: Input::Number,
            echo: Echo::Hidden,
        };
        assert_eq!(options, expected);
        assert_eq!(Options::parse(&options.emit()), options);
        assert_eq!(Options::parse(""), Options::default());
        assert_eq!(Options::default().emit(), "");
    }

    // test: oma-dm 4.1
    #[test]
    fn an_alert_of_each_kind_is_read_as_it_was_written() {
        for (kind, choices) in [
            (PromptKind::Display, &[][..]),
            (PromptKind::Confirm, &[]),
            (PromptKind::TextInput, &[]),
            (PromptKind::SingleChoice, &["a", "b"]),
            (PromptKind::MultipleChoice, &["a", "b", "c"]),
        ] {
            let asked = prompt(kind, "MAXDT=5", choices);
            let alert = asked.to_alert(CommandId::new(4));
            assert!(alert.code.is_user_interaction());
            assert_eq!(Prompt::from_alert(&alert), Ok(asked));
        }
    }

    // test: oma-dm 4.1
    #[test]
    fn an_alert_that_lacks_a_part_or_is_too_much_is_refused() {
        let asked = |items: usize, kind: PromptKind| {
            let mut alert = prompt(kind, "", &["a"]).to_alert(CommandId::new(1));
            alert.items.truncate(items);
            Prompt::from_alert(&alert)
        };
        assert_eq!(asked(0, PromptKind::Confirm), Err(StatusCode::INCOMPLETE));
        assert_eq!(asked(1, PromptKind::Confirm), Err(StatusCode::INCOMPLETE));
        assert!(asked(2, PromptKind::Confirm).is_ok());
        assert_eq!(asked(2, PromptKind::SingleChoice), Err(StatusCode::INCOMPLETE));
        let mut long = Prompt::display("x".repeat(MAX_TEXT));
        assert!(Prompt::from_alert(&long.to_alert(CommandId::new(1))).is_ok());
        long.text.push('x');
        assert_eq!(Prompt::from_alert(&long.to_alert(CommandId::new(1))), Err(StatusCode(416)));
        let many = prompt(PromptKind::SingleChoice, "", &["a"; MAX_CHOICES + 1]);
        assert_eq!(Prompt::from_alert(&many.to_alert(CommandId::new(1))), Err(StatusCode(416)));
        let mut other = long.to_alert(CommandId::new(1));
        other.code = AlertCode::GENERIC;
        assert_eq!(Prompt::from_alert(&other), Err(StatusCode::NOT_SUPPORTED));
    }

    // test: oma-dm 4.1
    #[test]
    fn every_answer_has_its_status() {
        for (answer, code, data) in [
            (Answer::Shown, 200, &[][..]),
            (Answer::Yes, 200, &[]),
            (Answer::No, 304, &[]),
            (Answer::Text("x y".to_owned()), 200, &["x y"]),
            (Answer::Chosen(vec![2]), 200, &["2"]),
            (Answer::Chosen(vec![1, 3]), 200, &["1", "3"]),
            (Answer::Cancelled, 214, &[]),
            (Answer::TimedOut, 408, &[]),
            (Answer::NotDisplayable, 416, &[]),
            (Answer::NoUser, 406, &[]),
        ] {
            let (status, items) = answer.status();
            let texts: Vec<_> = items.iter().filter_map(Item::data_text).collect();
            assert_eq!((status.0, texts.as_slice()), (code, data), "{answer:?}");
        }
    }

    #[test]
    fn only_answers_that_fit_the_question_are_taken() {
        let text = |parameters: &str, answer: &str| {
            prompt(PromptKind::TextInput, parameters, &[]).takes(&Answer::Text(answer.to_owned()))
        };
        for (parameters, good, bad) in [
            ("MAXLEN=3", "äöü", "äöüx"),
            ("IT=N", "-1.5", "one"),
            ("IT=D", "31122026", "3112202"),
            ("IT=T", "235959", "23:59"),
            ("IT=P", "+49 123#", "call"),
            ("IT=I", "2001:db8::1", "1.2.3"),
            ("IT=A", "any thing", "bell\u{7}"),
        ] {
            assert!(text(parameters, good) && !text(parameters, bad), "{parameters}");
        }
        let one = prompt(PromptKind::SingleChoice, "", &["a", "b"]);
        let some = prompt(PromptKind::MultipleChoice, "", &["a", "b"]);
        for (numbers, fits_one, fits_some) in [
            (vec![], false, true),
            (vec![1], true, true),
            (vec![2], true, true),
            (vec![0], false, false),
            (vec![3], false, false),
            (vec![1, 2], false, true),
            (vec![2, 1], false, false),
            (vec![1, 1], false, false),
        ] {
            let answer = Answer::Chosen(numbers);
            assert_eq!((one.takes(&answer), some.takes(&answer)), (fits_one, fits_some));
        }
        assert!(!one.takes(&Answer::Yes) && one.takes(&Answer::Cancelled));
    }

    #[test]
    fn the_proposed_answer_is_one_that_can_be_given() {
        for (kind, parameters, answer) in [
            (PromptKind::Confirm, "DR=1", Some(Answer::Yes)),
            (PromptKind::Confirm, "DR=0", Some(Answer::No)),
            (PromptKind::Confirm, "DR=2", None),
            (PromptKind::TextInput, "DR=x", Some(Answer::Text("x".to_owned()))),
            (PromptKind::TextInput, "DR=xyz&MAXLEN=2", None),
            (PromptKind::SingleChoice, "DR=2", Some(Answer::Chosen(vec![2]))),
            (PromptKind::SingleChoice, "DR=4", None),
            (PromptKind::MultipleChoice, "DR=2-3", Some(Answer::Chosen(vec![2, 3]))),
            (PromptKind::MultipleChoice, "DR=2-x", None),
            (PromptKind::Display, "DR=1", None),
            (PromptKind::Confirm, "", None),
        ] {
            assert_eq!(
                prompt(kind, parameters, &["a", "b", "c"]).proposed(),
                answer,
                "{parameters}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_parameters_are_too_strange(text in ".{0,60}") {
            let options = Options::parse(&text);
            prop_assert_eq!(Options::parse(&options.emit()), options);
        }
    }
}
