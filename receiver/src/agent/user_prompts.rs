//! Prompts to the user: one at a time, never during a call, each with a timeout; and the consent
//! that operations require.

use std::{collections::VecDeque, time::Duration};

use proto::{
    dm::{
        fumo::{Phase, ResultCode},
        ui::{Answer, Prompt},
    },
    time::{Mono, Now},
};

use super::{Agent, AgentState, Output};
use crate::{
    components::{InventoryAccess, InventoryConsent},
    suspension::InstallPolicy,
    user::{Consent, MAX_WAIT, PromptPurpose, Question, Reply, UserInterface},
};

/// Prompts that are queued behind the displayed one; a notice that does not fit is dropped.
const MAX_WAITING: usize = 8;

/// The displayed prompt and the queue behind it.
#[derive(Debug, Default)]
pub(super) struct PromptQueue {
    shown: Option<QueuedPrompt>,
    waiting: VecDeque<QueuedPrompt>,
    tickets: u64,
    /// Set during a voice call: nothing is displayed meanwhile.
    in_call: bool,
    /// Set once the user has agreed to a prompt of this DM session.
    pub(super) agreed: bool,
    /// The time of the next prompt for deferred consent.
    again: Option<Mono>,
}

#[derive(Debug)]
struct QueuedPrompt {
    question: Question,
    until: Mono,
}

/// The consent of the user to the operation in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ConsentGranted {
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
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Download => 1,
            Self::Install => 2,
        }
    }

    /// Returns the value of a number in the journal; the least for an unknown one.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Download,
            2 => Self::Install,
            _ => Self::Nothing,
        }
    }
}

impl PromptQueue {
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
    fn show_next(&mut self) -> Option<Question> {
        if self.in_call || self.shown.is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let question = next.question.clone();
        self.shown = Some(next);
        Some(question)
    }

    /// Removes an expired prompt. A notice does not expire: it waits for the end of a call.
    fn expired(&mut self, now: Mono) -> Option<Question> {
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

    fn deadline(&self) -> Option<Mono> {
        let ends = |waiting: &QueuedPrompt| waiting.question.about != PromptPurpose::Result;
        let waiting = self.waiting.iter().filter(|waiting| ends(waiting));
        let until = self.shown.iter().chain(waiting).map(|waiting| waiting.until).min();
        [until, self.again].into_iter().flatten().min()
    }

    pub(super) fn forget(&mut self, about: PromptPurpose) {
        self.waiting.retain(|waiting| waiting.question.about != about);
        self.shown.take_if(|waiting| waiting.question.about == about);
    }
}

impl Agent {
    // spec: oma-001 8.1.1.8
    /// Handles the user's answer to the prompt with this ticket; a late answer is dropped.
    pub fn handle_user_reply(&mut self, now: Now, ticket: u64, reply: Reply) {
        let is_shown = |waiting: &mut QueuedPrompt| waiting.question.ticket == ticket;
        if let Some(waiting) = self.state.prompts.shown.take_if(is_shown) {
            self.on_user_answer(now, &waiting.question, reply);
        }
        self.state.show_next_prompt();
        self.state.commit_if_dirty();
    }

    /// Records the begin or end of a voice call: no prompt is displayed meanwhile, and the
    /// displayed one stays.
    pub(super) fn set_in_call(&mut self, in_call: bool) {
        // spec: oma-003 6.1.4.10, oma-003 6.1.4.11 (a call is never in the way of a question)
        self.state.prompts.in_call = in_call;
        self.state.show_next_prompt();
    }

    /// Expires prompts, and prompts again for deferred consent.
    pub(super) fn poll_prompts(&mut self, now: Now) {
        while let Some(question) = self.state.prompts.expired(now.mono) {
            self.on_user_answer(now, &question, Reply::Answer(Answer::TimedOut));
        }
        if self.state.prompts.again.is_some_and(|again| again <= now.mono) {
            self.state.prompts.again = None;
            self.state.ask_for_consent(now);
        }
        self.state.show_next_prompt();
    }

    fn on_user_answer(&mut self, now: Now, question: &Question, reply: Reply) {
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
                self.state.prompts.agreed |= answer == Answer::Yes;
                let step = self.client.handle_user_answer(now, &mut self.state, &answer);
                self.handle_step(now, step);
            }
            PromptPurpose::Download => self.state.on_consent(now, ConsentGranted::Download, &reply),
            PromptPurpose::Install => self.state.on_consent(now, ConsentGranted::Install, &reply),
            PromptPurpose::Inventory => self.state.record_inventory_consent(&reply),
            PromptPurpose::Result | PromptPurpose::Account | PromptPurpose::Enrolment => {}
        }
    }

    pub(super) fn prompt_deadline(&self) -> Option<Mono> {
        self.state.prompts.deadline()
    }
}

impl AgentState {
    // spec: oma-001 8.1.1.7
    /// Prompts the user for the server; the answer follows later, or is that of the configuration.
    pub(super) fn ask(&mut self, now: Now, prompt: Prompt) -> Option<Answer> {
        match &self.config.user.front {
            UserInterface::Absent => Some(Answer::NoUser),
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&prompt);
                self.prompts.agreed |= answer == Answer::Yes;
                Some(answer)
            }
            UserInterface::Interactive => {
                self.prompts.push(now.mono, PromptPurpose::Session, prompt, MAX_WAIT);
                self.show_next_prompt();
                None
            }
        }
    }

    /// Returns the required consent: that of the device's own settings and of the server's policy.
    // spec: oma-003 6.1.4.14 (a server's policy adds questions and takes none away)
    pub(super) fn consent(&self) -> Consent {
        let user = &self.config.user;
        // The user interface may have been removed since the policy was set; nobody can be prompted
        // then.
        let wanted =
            (user.front != UserInterface::Absent).then_some(self.suspension.policy().consent());
        user.consent.and(wanted.unwrap_or_default())
    }

    /// Returns whether the operation may receive: it needs the user's consent where that is
    /// required.
    pub(super) fn download_allowed(&self) -> bool {
        let user = &self.config.user;
        let asked = || {
            self.persistent.consent >= ConsentGranted::Download || !self.consent().covers_download()
        };
        user.standing.answer(Consent::covers_download).unwrap_or_else(asked)
    }

    /// Returns whether the image may be installed.
    pub(super) fn install_allowed(&self) -> bool {
        let user = &self.config.user;
        let asked = || {
            self.persistent.consent >= ConsentGranted::Install || !self.consent().covers_install()
        };
        user.standing.answer(Consent::covers_install).unwrap_or_else(asked)
    }

    /// Applies a changed policy: drops prompts that are not required any more, and prompts for
    /// consent that is.
    pub(super) fn apply_policy(&mut self, now: Now) {
        if self.download_allowed() {
            self.prompts.forget(PromptPurpose::Download);
        }
        if self.install_allowed() {
            self.prompts.forget(PromptPurpose::Install);
        }
        let is_held = self.persistent.awaiting_update_exec
            && self.persistent.result == Some(ResultCode::DEFERRED);
        if is_held && self.suspension.policy().install() == InstallPolicy::AtOnce {
            (self.persistent.awaiting_update_exec, self.persistent.result) = (false, None);
            self.effects.mark_dirty();
            self.verify_image();
        } else if self.phase() == Phase::Deferred && self.install_allowed() {
            self.install(now);
        }
        self.show_next_prompt();
        self.resume_reception(now);
        self.ask_for_consent(now);
    }

    /// Prompts for the consent that the operation requires.
    // spec: oma-003 6.1.4.8, oma-003 6.1.4.14, oma-003 6.1.4.17, oma-003 5.5.1.6.4
    pub(super) fn ask_for_consent(&mut self, now: Now) {
        let Some(operation) = &self.operation else { return };
        let version = &self.named(&operation.accepted.manifest.firmware_version);
        let octets = operation.accepted.object.oti.parameters().transfer_length;
        let ready = matches!(self.phase(), Phase::Verified | Phase::Deferred);
        let (about, text) = if ready && !self.install_allowed() {
            (PromptPurpose::Install, install_text(version))
        } else if !ready && !self.download_allowed() {
            (PromptPurpose::Download, download_text(version, octets))
        } else {
            return;
        };
        if self.prompts.is_asking(about) {
            return;
        }
        let given = if ready { ConsentGranted::Install } else { ConsentGranted::Download };
        let covers = if ready { Consent::covers_install } else { Consent::covers_download };
        if self.config.user.standing.answer(covers) == Some(false) {
            self.on_consent(now, given, &Reply::Answer(Answer::No));
            return;
        }
        match &self.config.user.front {
            UserInterface::Absent => {}
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&Prompt::confirm(text));
                self.on_consent(now, given, &Reply::Answer(answer));
            }
            UserInterface::Interactive => {
                let wait = self.config.user.ask_again;
                self.prompts.push(now.mono, about, Prompt::confirm(text), wait);
                self.show_next_prompt();
            }
        }
    }

    // spec: oma-001 8.1.2.16
    /// Handles the user's decision. A no ends the operation; any other answer defers it.
    // spec: oma-003 5.5.1.5 (scheduling by the user)
    fn on_consent(&mut self, now: Now, given: ConsentGranted, reply: &Reply) {
        if self.operation.is_none() {
            return;
        }
        match reply {
            Reply::Answer(Answer::Yes) => {
                self.persistent.consent = self.persistent.consent.max(given);
                self.effects.mark_dirty();
                if given == ConsentGranted::Install {
                    self.install(now);
                } else {
                    self.resume_reception(now);
                }
            }
            Reply::Answer(Answer::No | Answer::Cancelled) => {
                self.complete(now, Phase::Refused, ResultCode::USER_CANCELLED);
            }
            Reply::Later
            | Reply::Answer(
                Answer::TimedOut
                | Answer::NotDisplayable
                | Answer::NoUser
                | Answer::Shown
                | Answer::Text(_)
                | Answer::Chosen(_),
            ) => self.prompts.again = Some(now.mono + self.config.user.ask_again),
        }
    }

    /// Notifies the user of the result of an operation.
    // spec: oma-003 6.1.4.13, oma-003 6.1.4.15, oma-003 5.5.1.6.6, oma-000 8.2.5.1
    pub(super) fn notify_result(&mut self, now: Now, phase: Phase, result: ResultCode) {
        self.prompts.forget(PromptPurpose::Download);
        self.prompts.forget(PromptPurpose::Install);
        self.prompts.again = None;
        let version = self.operation.as_ref().map(|it| &it.accepted.manifest.firmware_version);
        let version = version.map(|version| self.named(version));
        let (UserInterface::Interactive, Some(version)) = (&self.config.user.front, version) else {
            return;
        };
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
            | Phase::Incomplete => return,
        };
        self.prompts.push(now.mono, PromptPurpose::Result, Prompt::display(text), NOTICE_TIME);
        self.show_next_prompt();
    }

    /// Returns the version for display; that of a component follows its name.
    fn named(&self, version: &str) -> String {
        match &self.persistent.subject {
            Some(subject) => format!("{version} of {}", subject.package),
            None => version.to_owned(),
        }
    }

    // spec: oma-003 6.1.4.16 (the user's leave)
    /// Prompts for the consent to show the inventory to the server, unless that is decided.
    pub(super) fn ask_for_inventory_consent(&mut self, now: Now) {
        let is_open = self.persistent.inventory_consent == InventoryConsent::Undecided;
        if self.config.components != InventoryAccess::Asked || !is_open {
            return;
        }
        let prompt = Prompt::confirm(INVENTORY_TEXT.to_owned());
        match &self.config.user.front {
            UserInterface::Absent => {}
            UserInterface::Automatic(policy) => {
                let answer = policy.answer(&prompt);
                self.record_inventory_consent(&Reply::Answer(answer));
            }
            UserInterface::Interactive if self.prompts.is_asking(PromptPurpose::Inventory) => {}
            UserInterface::Interactive => {
                let wait = self.config.user.ask_again;
                self.prompts.push(now.mono, PromptPurpose::Inventory, prompt, wait);
                self.show_next_prompt();
            }
        }
    }

    /// Records the decision. Neither yes nor no leaves it open: the server's next access prompts
    /// again.
    fn record_inventory_consent(&mut self, reply: &Reply) {
        self.persistent.inventory_consent = match reply {
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
            ) => return,
        };
        self.effects.mark_dirty();
    }

    fn show_next_prompt(&mut self) {
        if let Some(question) = self.prompts.show_next() {
            self.effects.push_after_commit(Output::Prompt(question));
        }
    }
}

const INVENTORY_TEXT: &str = "May the server see which software components are installed on this \
     device? It learns their names, versions and whether they run, and nothing about you. Without \
     your leave it can still bring you updates.";

/// The longest time that a notice is displayed before the next prompt.
const NOTICE_TIME: Duration = Duration::from_secs(60);

// spec: oma-003 6.1.4.9, oma-003 6.1.4.12 (what follows from a yes is said)
fn download_text(version: &str, octets: u64) -> String {
    let mebibytes = octets.div_ceil(1 << 20);
    format!(
        "Receive the update to version {version} ({mebibytes} MiB)? The device stays usable. It \
         tells its server the result and its version and nothing about you."
    )
}

fn install_text(version: &str) -> String {
    format!(
        "Install version {version} now? It is signed by the device's maker, so that your warranty \
         stays as it is. The device may restart and cannot be used meanwhile, emergency calls \
         included. It tells its server the result and its version and nothing about you."
    )
}
