//! Prompts to the user: one at a time, never during a call, each with a timeout; and the consent
//! that operations require.

use std::{collections::VecDeque, time::Duration};

use proto::{
    dm::{
        fumo::{Phase, ResultCode},
        ui::{Answer, Prompt},
    },
    time::Mono,
};

use super::{Consent, MAX_WAIT, PromptPurpose, Question, Reply, Settings, UserInterface};
use crate::{
    components::{InventoryAccess, InventoryConsent},
    store::journal_state::JournalState,
};

/// Prompts that are queued behind the displayed one; a notice that does not fit is dropped.
const MAX_WAITING: usize = 8;
/// The longest time that a notice is displayed before the next prompt.
const NOTICE_TIME: Duration = Duration::from_secs(60);

/// The displayed prompt, the queue behind it, and the consent of the user.
#[derive(Debug)]
pub(crate) struct Prompts {
    settings: Settings,
    shown: Option<QueuedPrompt>,
    waiting: VecDeque<QueuedPrompt>,
    tickets: u64,
    /// Set during a voice call: nothing is displayed meanwhile.
    in_call: bool,
    /// Set once the user has agreed to a prompt of this DM session.
    agreed: bool,
    /// The time of the next prompt for deferred consent.
    again: Option<Mono>,
    /// The consent to the operation in progress.
    granted: ConsentGranted,
    /// The consent to show the inventory to the server.
    inventory: InventoryConsent,
}

#[derive(Debug)]
struct QueuedPrompt {
    question: Question,
    until: Mono,
}

/// The consent of the user to the operation in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum ConsentGranted {
    /// Nothing.
    #[default]
    Nothing,
    /// The download.
    Download,
    /// The installation too.
    Install,
}

impl ConsentGranted {
    /// Returns the number in the journal.
    const fn number(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Download => 1,
            Self::Install => 2,
        }
    }

    /// Returns the value of a number in the journal; the least for an unknown one.
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Download,
            2 => Self::Install,
            _ => Self::Nothing,
        }
    }
}

/// A queued prompt, or the consequence of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PromptEvent {
    /// A prompt is queued: it may be the next to display.
    Queued,
    /// The answer to a prompt of the server.
    Session(Answer),
    /// The answer to a request for consent.
    Consent(ConsentGranted, Reply),
    /// The user has decided who sees the inventory.
    InventoryDecided,
    /// Nothing.
    Nothing,
}

/// The decision of the user about a step of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsentDecision {
    /// Yes.
    Granted,
    /// No: the operation ends.
    Refused,
    /// Neither: the user is prompted again later.
    Deferred,
}

impl Prompts {
    /// Restores the consent of the user; prompts of an earlier run are gone.
    pub(crate) fn from_journal(settings: Settings, state: &JournalState) -> Self {
        Self {
            settings,
            shown: None,
            waiting: VecDeque::new(),
            tickets: 0,
            in_call: false,
            agreed: false,
            again: None,
            granted: ConsentGranted::from_number(state.consent),
            inventory: InventoryConsent::from_number(state.inventory_consent),
        }
    }

    /// Writes the consent into the journal.
    pub(crate) const fn write_journal(&self, state: &mut JournalState) {
        state.consent = self.granted.number();
        state.inventory_consent = self.inventory.number();
    }

    /// Begins a DM session: the user has agreed to nothing in it.
    pub(crate) const fn begin_session(&mut self) {
        self.agreed = false;
    }

    /// Begins an operation. A user who has just agreed to the server's prompt is not prompted
    /// again.
    pub(crate) const fn begin_operation(&mut self) {
        self.granted = if self.agreed { ConsentGranted::Download } else { ConsentGranted::Nothing };
    }

    /// Begins an operation of the user: the consent replaces the server's command.
    pub(crate) const fn begin_user_operation(&mut self) {
        self.granted = ConsentGranted::Install;
    }

    /// Withdraws the prompts and the consent of the operation that ends.
    pub(crate) fn end_operation(&mut self) {
        self.forget(PromptPurpose::Download);
        self.forget(PromptPurpose::Install);
        self.again = None;
        self.granted = ConsentGranted::Nothing;
    }

    fn push(&mut self, now: Mono, about: PromptPurpose, prompt: Prompt, longest: Duration) {
        if self.waiting.len() >= MAX_WAITING {
            return;
        }
        self.tickets += 1;
        let wait = prompt.options.max_wait.unwrap_or(longest).min(longest);
        let question = Question { ticket: self.tickets, about, prompt, wait };
        self.waiting.push_back(QueuedPrompt { question, until: now + wait });
    }

    fn is_asking(&self, about: PromptPurpose) -> bool {
        self.shown.iter().chain(&self.waiting).any(|waiting| waiting.question.about == about)
    }

    /// Returns the next prompt to display, unless one is displayed or a call is in progress.
    pub(crate) fn show_next(&mut self) -> Option<Question> {
        if self.in_call || self.shown.is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let question = next.question.clone();
        self.shown = Some(next);
        Some(question)
    }

    /// Removes an expired prompt. A notice does not expire: it waits for the end of a call.
    pub(crate) fn expired(&mut self, now: Mono) -> Option<Question> {
        let over = |waiting: &QueuedPrompt| waiting.until <= now;
        if self.shown.as_ref().is_some_and(over) {
            return self.shown.take().map(|waiting| waiting.question);
        }
        let place = self
            .waiting
            .iter()
            .position(|waiting| over(waiting) && waiting.question.about != PromptPurpose::Result)?;
        self.waiting.remove(place).map(|waiting| waiting.question)
    }

    /// Returns whether it is time to prompt again for deferred consent.
    pub(crate) fn asks_again(&mut self, now: Mono) -> bool {
        self.again.take_if(|again| *again <= now).is_some()
    }

    /// Returns the time of the next expiry or deferred prompt.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let ends = |waiting: &QueuedPrompt| waiting.question.about != PromptPurpose::Result;
        let waiting = self.waiting.iter().filter(|waiting| ends(waiting));
        let until = self.shown.iter().chain(waiting).map(|waiting| waiting.until).min();
        [until, self.again].into_iter().flatten().min()
    }

    /// Withdraws the prompts of a purpose.
    pub(crate) fn forget(&mut self, about: PromptPurpose) {
        self.waiting.retain(|waiting| waiting.question.about != about);
        self.shown.take_if(|waiting| waiting.question.about == about);
    }

    /// Records the begin of a voice call: no prompt is displayed meanwhile, and the displayed one
    /// stays.
    // spec: oma-003 6.1.4.10, oma-003 6.1.4.11 (a call is never in the way of a question)
    pub(crate) const fn call_began(&mut self) {
        self.in_call = true;
    }

    /// Records the end of a voice call.
    pub(crate) const fn call_ended(&mut self) {
        self.in_call = false;
    }

    // spec: oma-001 8.1.1.8
    /// Removes the displayed prompt with this ticket; a late answer finds none.
    pub(crate) fn take_shown(&mut self, ticket: u64) -> Option<Question> {
        let is_shown = |waiting: &mut QueuedPrompt| waiting.question.ticket == ticket;
        self.shown.take_if(is_shown).map(|waiting| waiting.question)
    }

    /// Handles the reply to a prompt that is not displayed any more.
    pub(crate) fn handle_reply(&mut self, question: &Question, reply: Reply) -> PromptEvent {
        let reply = match reply {
            Reply::Answer(answer) if !question.prompt.takes(&answer) => {
                Reply::Answer(Answer::Cancelled)
            }
            reply @ (Reply::Answer(_) | Reply::Later) => reply,
        };
        tracing::info!(about = ?question.about, "user answered");
        match question.about {
            PromptPurpose::Session => {
                let answer = match reply {
                    Reply::Answer(answer) => answer,
                    Reply::Later => Answer::Cancelled,
                };
                self.agreed |= answer == Answer::Yes;
                PromptEvent::Session(answer)
            }
            PromptPurpose::Download => PromptEvent::Consent(ConsentGranted::Download, reply),
            PromptPurpose::Install => PromptEvent::Consent(ConsentGranted::Install, reply),
            PromptPurpose::Inventory => self.record_inventory_consent(&reply),
            PromptPurpose::Result | PromptPurpose::Account | PromptPurpose::Enrolment => {
                PromptEvent::Nothing
            }
        }
    }

    /// Prompts the user for the server; the answer follows later, or is that of the configuration.
    // spec: oma-001 8.1.1.7
    pub(crate) fn ask_for_server(&mut self, now: Mono, prompt: Prompt) -> Option<Answer> {
        match &self.settings.front {
            UserInterface::Absent => Some(Answer::NoUser),
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&prompt);
                self.agreed |= answer == Answer::Yes;
                Some(answer)
            }
            UserInterface::Interactive => {
                self.push(now, PromptPurpose::Session, prompt, MAX_WAIT);
                None
            }
        }
    }

    /// Returns the required consent: that of the device's own settings and of the server's policy.
    // spec: oma-003 6.1.4.14 (a server's policy adds questions and takes none away)
    pub(crate) fn required(&self, policy: Consent) -> Consent {
        // The user interface may have been removed since the policy was set; nobody can be prompted
        // then.
        let wanted = (self.settings.front != UserInterface::Absent).then_some(policy);
        self.settings.consent.and(wanted.unwrap_or_default())
    }

    /// Returns whether the operation may receive: it needs the user's consent where that is
    /// required.
    pub(crate) fn download_allowed(&self, policy: Consent) -> bool {
        self.is_allowed(ConsentGranted::Download, policy)
    }

    /// Returns whether the image may be installed.
    pub(crate) fn install_allowed(&self, policy: Consent) -> bool {
        self.is_allowed(ConsentGranted::Install, policy)
    }

    fn is_allowed(&self, step: ConsentGranted, policy: Consent) -> bool {
        let covers = covers(step);
        let asked = || self.granted >= step || !covers(self.required(policy));
        self.settings.standing.answer(covers).unwrap_or_else(asked)
    }

    /// Returns whether the user has agreed to the installation.
    pub(crate) fn has_agreed_to_install(&self) -> bool {
        self.granted >= ConsentGranted::Install
    }

    /// Prompts for the consent to a step, unless that is in progress. The reply is that of the
    /// configuration, where it gives one.
    // spec: oma-003 6.1.4.8, oma-003 6.1.4.14, oma-003 6.1.4.17, oma-003 5.5.1.6.4
    pub(crate) fn ask_for_consent(
        &mut self,
        now: Mono,
        step: ConsentGranted,
        text: String,
    ) -> PromptEvent {
        let install = step == ConsentGranted::Install;
        let about = if install { PromptPurpose::Install } else { PromptPurpose::Download };
        if self.is_asking(about) {
            return PromptEvent::Nothing;
        }
        if self.settings.standing.answer(covers(step)) == Some(false) {
            return PromptEvent::Consent(step, Reply::Answer(Answer::No));
        }
        match &self.settings.front {
            UserInterface::Absent => PromptEvent::Nothing,
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&Prompt::confirm(text));
                PromptEvent::Consent(step, Reply::Answer(answer))
            }
            UserInterface::Interactive => {
                self.push(now, about, Prompt::confirm(text), self.settings.ask_again);
                PromptEvent::Queued
            }
        }
    }

    /// Records the reply about a step. Neither yes nor no defers the operation.
    // spec: oma-001 8.1.2.16
    // spec: oma-003 5.5.1.5 (scheduling by the user)
    pub(crate) fn record_consent(
        &mut self,
        now: Mono,
        step: ConsentGranted,
        reply: &Reply,
    ) -> ConsentDecision {
        match reply {
            Reply::Answer(Answer::Yes) => {
                self.granted = self.granted.max(step);
                ConsentDecision::Granted
            }
            Reply::Answer(Answer::No | Answer::Cancelled) => ConsentDecision::Refused,
            Reply::Later
            | Reply::Answer(
                Answer::TimedOut
                | Answer::NotDisplayable
                | Answer::NoUser
                | Answer::Shown
                | Answer::Text(_)
                | Answer::Chosen(_),
            ) => {
                self.again = Some(now + self.settings.ask_again);
                ConsentDecision::Deferred
            }
        }
    }

    /// Notifies the user of the result of an operation on a version.
    // spec: oma-003 6.1.4.13, oma-003 6.1.4.15, oma-003 5.5.1.6.6, oma-000 8.2.5.1
    pub(crate) fn notify_result(
        &mut self,
        now: Mono,
        version: &str,
        (phase, result): (Phase, ResultCode),
    ) -> PromptEvent {
        if self.settings.front != UserInterface::Interactive {
            return PromptEvent::Nothing;
        }
        let text = match phase {
            Phase::Confirmed => format!("Version {version} is installed."),
            Phase::Failed => {
                let why = result.text();
                format!("Version {version} was not installed: {why}. The device works as before.")
            }
            Phase::Idle
            | Phase::Armed
            | Phase::Receiving
            | Phase::Suspended
            | Phase::Assembled
            | Phase::Verified
            | Phase::Deferred
            | Phase::HandedOver
            | Phase::Reported
            | Phase::Missed
            | Phase::Expired
            | Phase::Disarmed
            | Phase::Refused
            | Phase::Incomplete => return PromptEvent::Nothing,
        };
        self.push(now, PromptPurpose::Result, Prompt::display(text), NOTICE_TIME);
        PromptEvent::Queued
    }

    /// Returns whether the server sees the inventory; `None` on a device without components.
    pub(crate) fn shows_inventory(&self, access: InventoryAccess) -> Option<bool> {
        match access {
            InventoryAccess::Absent => None,
            InventoryAccess::Asked => Some(self.inventory == InventoryConsent::Given),
            InventoryAccess::Granted => Some(true),
        }
    }

    /// Prompts for the consent to show the inventory to the server, unless that is decided.
    // spec: oma-003 6.1.4.16 (the user's leave)
    pub(crate) fn ask_for_inventory_consent(
        &mut self,
        now: Mono,
        access: InventoryAccess,
    ) -> PromptEvent {
        let is_open = self.inventory == InventoryConsent::Undecided;
        if access != InventoryAccess::Asked || !is_open {
            return PromptEvent::Nothing;
        }
        let prompt = Prompt::confirm(INVENTORY_TEXT.to_owned());
        match &self.settings.front {
            UserInterface::Absent => PromptEvent::Nothing,
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&prompt);
                self.record_inventory_consent(&Reply::Answer(answer))
            }
            UserInterface::Interactive if self.is_asking(PromptPurpose::Inventory) => {
                PromptEvent::Nothing
            }
            UserInterface::Interactive => {
                self.push(now, PromptPurpose::Inventory, prompt, self.settings.ask_again);
                PromptEvent::Queued
            }
        }
    }

    /// Records the decision. Neither yes nor no leaves it open: the server's next access prompts
    /// again.
    fn record_inventory_consent(&mut self, reply: &Reply) -> PromptEvent {
        self.inventory = match reply {
            Reply::Answer(Answer::Yes) => InventoryConsent::Given,
            Reply::Answer(Answer::No | Answer::Cancelled) => InventoryConsent::Denied,
            Reply::Later
            | Reply::Answer(
                Answer::TimedOut
                | Answer::NotDisplayable
                | Answer::NoUser
                | Answer::Shown
                | Answer::Text(_)
                | Answer::Chosen(_),
            ) => return PromptEvent::Nothing,
        };
        PromptEvent::InventoryDecided
    }
}

fn covers(step: ConsentGranted) -> fn(Consent) -> bool {
    match step {
        ConsentGranted::Install => Consent::covers_install,
        ConsentGranted::Nothing | ConsentGranted::Download => Consent::covers_download,
    }
}

const INVENTORY_TEXT: &str = "May the server see which software components are installed on this \
     device? It learns their names, versions and whether they run, and nothing about you. Without \
     your leave it can still bring you updates.";

/// Returns the request for consent to a download.
// spec: oma-003 6.1.4.9, oma-003 6.1.4.12 (what follows from a yes is said)
pub(crate) fn download_text(version: &str, octets: u64) -> String {
    let mebibytes = octets.div_ceil(1 << 20);
    format!(
        "Receive the update to version {version} ({mebibytes} MiB)? The device stays usable. It \
         tells its server the result and its version and nothing about you."
    )
}

/// Returns the request for consent to an installation.
pub(crate) fn install_text(version: &str) -> String {
    format!(
        "Install version {version} now? It is signed by the device's maker, so that your warranty \
         stays as it is. The device may restart and cannot be used meanwhile, emergency calls \
         included. It tells its server the result and its version and nothing about you."
    )
}
