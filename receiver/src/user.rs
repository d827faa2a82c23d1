//! The device's user: the user interface, the required consent, and the contract of the user hook.
//!
//! | user interface | prompts |
//! | --- | --- |
//! | [`UserInterface::Absent`] | no user: no prompt can be displayed |
//! | [`UserInterface::Automatic`] | answered by the configuration |
//! | [`UserInterface::Interactive`] | answered by a person, through the terminal or a hook |
//!
//! The hook is a command of the integrator's. It is run with the verb `ask` or `tell`, receives a
//! [`HookQuestion`] as JSON on its standard input, and prints a [`HookAnswer`] as JSON in one line:
//!
//! ```text
//! {"contract":1,"about":"install","ask":"confirm","text":"Install version 2.0 now? …",
//!  "choices":[],"min_seconds":0,"max_seconds":300,"default":null,"max_length":null,
//!  "input":"any","echo":"visible"}
//! {"answer":"yes"}
//! ```
//!
//! Answers are `shown`, `yes`, `no`, `later`, `cancel`, `text` with `"text"`, `chosen` with
//! `"chosen":[1,3]`. A hook that fails, or prints something else, counts as "cannot be displayed".

pub(crate) mod prompts;

use std::time::Duration;

use proto::{
    dm::ui::{Answer, Echo, Input, Prompt, PromptKind},
    words,
};
use serde::{Deserialize, Serialize};

/// Version of the hook's contract, in the JSON that it receives.
pub const CONTRACT_VERSION: u32 = 1;

/// The longest and the default time that a prompt is displayed. A DM session waits for it, and no
/// server keeps a session for ever.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// The settings of the integrator about the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The user interface.
    pub front: UserInterface,
    /// The required consent, whatever the server requires.
    pub consent: Consent,
    /// The standing consent to all updates, which takes precedence.
    pub standing: StandingConsent,
    /// The time after which a deferred prompt is displayed again.
    pub ask_again: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            front: UserInterface::Absent,
            consent: Consent::None,
            standing: StandingConsent::Open,
            ask_again: Duration::from_secs(3600),
        }
    }
}

/// The user interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UserInterface {
    /// There is no user.
    #[default]
    Absent,
    /// The configuration answers.
    Automatic(AutoAnswer),
    /// A person answers.
    Interactive,
}

words! {
    /// The answer that the configuration gives.
    pub enum AutoAnswer: "answer" {
        /// Yes; of choices the proposed ones, or the first; as text the proposed one.
        Yes = "yes",
        /// No; every other prompt is cancelled.
        No = "no",
    }
}

impl AutoAnswer {
    /// Returns the answer to a question.
    #[must_use]
    pub fn answer(self, prompt: &Prompt) -> Answer {
        match (self, prompt.kind) {
            (_, PromptKind::Display) => Answer::Shown,
            (Self::Yes, PromptKind::Confirm) => Answer::Yes,
            (Self::No, PromptKind::Confirm) => Answer::No,
            (Self::Yes, PromptKind::SingleChoice) => {
                prompt.proposed().unwrap_or_else(|| Answer::Chosen(vec![1]))
            }
            (Self::Yes, PromptKind::TextInput | PromptKind::MultipleChoice) => {
                prompt.proposed().unwrap_or(Answer::Cancelled)
            }
            (
                Self::No,
                PromptKind::TextInput | PromptKind::SingleChoice | PromptKind::MultipleChoice,
            ) => Answer::Cancelled,
        }
    }
}

words! {
    /// The steps that require the user's consent.
    #[derive(Default)]
    pub enum Consent: "consent" {
        /// Nothing.
        #[default]
        None = "none",
        /// The installation.
        Install = "install",
        /// The download.
        Download = "download",
        /// Both.
        Both = "both",
    }
}

impl Consent {
    /// Returns whether the download requires consent.
    #[must_use]
    pub const fn covers_download(self) -> bool {
        matches!(self, Self::Download | Self::Both)
    }

    /// Returns whether the installation requires consent.
    #[must_use]
    pub const fn covers_install(self) -> bool {
        matches!(self, Self::Install | Self::Both)
    }
}

impl Consent {
    /// Returns the union of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let download = self.covers_download() || other.covers_download();
        let install = self.covers_install() || other.covers_install();
        match (download, install) {
            (true, true) => Self::Both,
            (true, false) => Self::Download,
            (false, true) => Self::Install,
            (false, false) => Self::None,
        }
    }
}

/// The user's consent to all updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StandingConsent {
    /// Nothing.
    #[default]
    Open,
    /// Yes to these steps.
    Given(Consent),
    /// No to these steps.
    Refused(Consent),
}

impl StandingConsent {
    /// Returns the answer to a step, if there is one.
    #[must_use]
    pub fn answer(self, covers: impl Fn(Consent) -> bool) -> Option<bool> {
        match self {
            Self::Given(about) if covers(about) => Some(true),
            Self::Refused(about) if covers(about) => Some(false),
            Self::Open | Self::Given(_) | Self::Refused(_) => None,
        }
    }
}

/// The purpose of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptPurpose {
    /// A prompt of the server in a DM session.
    Session,
    /// Consent to a download.
    Download,
    /// Consent to an installation.
    Install,
    /// Consent to show the inventory of software components.
    Inventory,
    /// The result of an operation.
    Result,
    /// The bootstrap of an account.
    Account,
    /// The standing consent, at enrolment.
    Enrolment,
}

/// A prompt on its way to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Distinguishes its answer from a late one.
    pub ticket: u64,
    /// The purpose.
    pub about: PromptPurpose,
    /// The prompt.
    pub prompt: Prompt,
    /// The time until it expires.
    pub wait: Duration,
}

/// The reply of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answer(Answer),
    /// Ask again later.
    Later,
}

/// The standard input of the hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookQuestion {
    /// [`CONTRACT_VERSION`].
    pub contract: u32,
    /// The purpose.
    pub about: PromptPurpose,
    /// The kind of answer.
    pub ask: PromptKind,
    /// The displayed text.
    pub text: String,
    /// The choices, numbered from 1.
    pub choices: Vec<String>,
    /// The least time for which it is displayed.
    pub min_seconds: u64,
    /// The time after which the answer is ignored.
    pub max_seconds: u64,
    /// The default, as the server writes it.
    pub default: Option<String>,
    /// Characters that a text may have.
    pub max_length: Option<usize>,
    /// The input that a text accepts.
    pub input: Input,
    /// The echo of a text.
    pub echo: Echo,
}

impl From<&Question> for HookQuestion {
    fn from(question: &Question) -> Self {
        let Question { about, prompt, wait, .. } = question;
        let options = &prompt.options;
        Self {
            contract: CONTRACT_VERSION,
            about: *about,
            ask: prompt.kind,
            text: prompt.text.clone(),
            choices: prompt.choices.clone(),
            min_seconds: options.min_display.unwrap_or_default().as_secs(),
            max_seconds: wait.as_secs(),
            default: options.default.clone(),
            max_length: options.max_length,
            input: options.input,
            echo: options.echo,
        }
    }
}

/// The output of the hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HookAnswer {
    /// The text was shown.
    Shown,
    /// Yes.
    Yes,
    /// No.
    No,
    /// Ask again later.
    Later,
    /// The user cancelled the prompt.
    Cancel,
    /// A text.
    Text {
        /// It.
        text: String,
    },
    /// Choices.
    Chosen {
        /// Their numbers, ascending.
        chosen: Vec<u32>,
    },
}

impl From<HookAnswer> for Reply {
    fn from(answer: HookAnswer) -> Self {
        Self::Answer(match answer {
            HookAnswer::Later => return Self::Later,
            HookAnswer::Shown => Answer::Shown,
            HookAnswer::Yes => Answer::Yes,
            HookAnswer::No => Answer::No,
            HookAnswer::Cancel => Answer::Cancelled,
            HookAnswer::Text { text } => Answer::Text(text),
            HookAnswer::Chosen { chosen } => Answer::Chosen(chosen),
        })
    }
}

/// Parses a typed line; `None` when it is no answer to the prompt.
#[must_use]
pub fn parse_answer(prompt: &Prompt, line: &str) -> Option<Reply> {
    let line = line.trim();
    let answer = match (prompt.kind, line) {
        (PromptKind::Display, _) => Answer::Shown,
        (_, "") => prompt.proposed()?,
        (PromptKind::Confirm, "y" | "yes") => Answer::Yes,
        (PromptKind::Confirm, "n" | "no") => Answer::No,
        (PromptKind::Confirm, "l" | "later") => return Some(Reply::Later),
        (
            PromptKind::Confirm | PromptKind::SingleChoice | PromptKind::MultipleChoice,
            "c" | "cancel",
        ) => Answer::Cancelled,
        (PromptKind::Confirm, _) => return None,
        (PromptKind::TextInput, text) => Answer::Text(text.to_owned()),
        (PromptKind::SingleChoice | PromptKind::MultipleChoice, numbers) => {
            let numbers = numbers.split([',', ' ']).filter(|word| !word.is_empty());
            Answer::Chosen(numbers.map(|word| word.parse().ok()).collect::<Option<_>>()?)
        }
    };
    prompt.takes(&answer).then_some(Reply::Answer(answer))
}

/// Returns what a person at a terminal reads.
#[must_use]
pub fn render(prompt: &Prompt) -> String {
    let mut text = format!("{}\n", sanitize(&prompt.text));
    for (number, choice) in (1..).zip(&prompt.choices) {
        text.push_str(&format!("  {number}. {}\n", sanitize(choice)));
    }
    text.push_str(match prompt.kind {
        PromptKind::Display => "",
        PromptKind::Confirm => "[yes / no / later / cancel] ",
        PromptKind::TextInput => "> ",
        PromptKind::SingleChoice => "[number / cancel] ",
        PromptKind::MultipleChoice => "[numbers / cancel] ",
    });
    text
}

/// A text from the network must not command the terminal.
fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proto::dm::ui::Options;

    use super::*;

    fn prompt(kind: PromptKind, parameters: &str) -> Prompt {
        Prompt {
            kind,
            text: "Which?".to_owned(),
            choices: vec!["a".to_owned(), "b".to_owned()],
            options: Options::parse(parameters),
        }
    }

    #[test]
    fn a_policy_answers_every_kind_of_question() {
        for (kind, parameters, yes, no) in [
            (PromptKind::Display, "", Answer::Shown, Answer::Shown),
            (PromptKind::Confirm, "DR=0", Answer::Yes, Answer::No),
            (PromptKind::TextInput, "", Answer::Cancelled, Answer::Cancelled),
            (PromptKind::TextInput, "DR=x", Answer::Text("x".to_owned()), Answer::Cancelled),
            (PromptKind::SingleChoice, "", Answer::Chosen(vec![1]), Answer::Cancelled),
            (PromptKind::SingleChoice, "DR=2", Answer::Chosen(vec![2]), Answer::Cancelled),
            (PromptKind::MultipleChoice, "DR=1-2", Answer::Chosen(vec![1, 2]), Answer::Cancelled),
        ] {
            let prompt = prompt(kind, parameters);
            assert_eq!(AutoAnswer::Yes.answer(&prompt), yes, "{kind:?}");
            assert_eq!(AutoAnswer::No.answer(&prompt), no, "{kind:?}");
            assert!(prompt.takes(&yes) && prompt.takes(&no), "{kind:?}");
        }
    }

    #[test]
    fn a_typed_line_is_an_answer_or_prompts_again() {
        let reply = |answer| Some(Reply::Answer(answer));
        for (kind, line, expected) in [
            (PromptKind::Confirm, "yes\n", reply(Answer::Yes)),
            (PromptKind::Confirm, "n", reply(Answer::No)),
            (PromptKind::Confirm, "later", Some(Reply::Later)),
            (PromptKind::Confirm, "cancel", reply(Answer::Cancelled)),
            (PromptKind::Confirm, "", None),
            (PromptKind::Confirm, "perhaps", None),
            (PromptKind::TextInput, "some text", reply(Answer::Text("some text".to_owned()))),
            (PromptKind::SingleChoice, "2", reply(Answer::Chosen(vec![2]))),
            (PromptKind::SingleChoice, "1,2", None),
            (PromptKind::SingleChoice, "3", None),
            (PromptKind::MultipleChoice, "1, 2", reply(Answer::Chosen(vec![1, 2]))),
            (PromptKind::MultipleChoice, "one", None),
            (PromptKind::Display, "", reply(Answer::Shown)),
        ] {
            assert_eq!(parse_answer(&prompt(kind, ""), line), expected, "{kind:?} {line}");
        }
        assert_eq!(parse_answer(&prompt(PromptKind::Confirm, "DR=0"), ""), reply(Answer::No));
    }

    #[test]
    fn a_text_of_the_network_does_not_command_the_terminal() {
        let mut prompt = prompt(PromptKind::SingleChoice, "");
        prompt.text = "red\u{1b}[31m".to_owned();
        let text = render(&prompt);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("  2. b\n"), "{text}");
    }

    #[test]
    fn the_hooks_json_is_the_documented_one() {
        let question = Question {
            ticket: 1,
            about: PromptPurpose::Install,
            prompt: Prompt::confirm("Now?"),
            wait: MAX_WAIT,
        };
        let json = serde_json::to_value(HookQuestion::from(&question)).unwrap();
        let expected = serde_json::json!({
            "contract": 1, "about": "install", "ask": "confirm", "text": "Now?", "choices": [],
            "min_seconds": 0, "max_seconds": 300, "default": null, "max_length": null,
            "input": "any", "echo": "visible",
        });
        assert_eq!(json, expected);
        for (text, reply) in [
            (r#"{"answer":"yes"}"#, Reply::Answer(Answer::Yes)),
            (r#"{"answer":"later"}"#, Reply::Later),
            (r#"{"answer":"text","text":"x"}"#, Reply::Answer(Answer::Text("x".to_owned()))),
            (r#"{"answer":"chosen","chosen":[1,3]}"#, Reply::Answer(Answer::Chosen(vec![1, 3]))),
        ] {
            let answer: HookAnswer = serde_json::from_str(text).unwrap();
            assert_eq!(Reply::from(answer), reply);
        }
        assert!(serde_json::from_str::<HookAnswer>(r#"{"answer":"maybe"}"#).is_err());
    }
}
