//! The routes of prompts and their answers.

use proto::{
    dm::{
        fumo::{Phase, ResultCode},
        ui::{Answer, Prompt},
    },
    time::Now,
};

use super::{Agent, AgentState, Output};
use crate::{
    suspension::InstallPolicy,
    user::{
        PromptPurpose, Question, Reply,
        prompts::{ConsentDecision, ConsentGranted, PromptEvent, download_text, install_text},
    },
};

impl Agent {
    /// Handles the user's answer to the prompt with this ticket; a late answer is dropped.
    pub fn handle_user_reply(&mut self, now: Now, ticket: u64, reply: Reply) {
        if let Some(question) = self.state.prompts.take_shown(ticket) {
            self.on_user_answer(now, &question, reply);
        }
        self.state.show_next_prompt();
        self.state.commit_if_dirty();
    }

    /// Expires prompts, and prompts again for deferred consent.
    pub(super) fn poll_prompts(&mut self, now: Now) {
        while let Some(question) = self.state.prompts.expired(now.mono) {
            self.on_user_answer(now, &question, Reply::Answer(Answer::TimedOut));
        }
        if self.state.prompts.asks_again(now.mono) {
            self.state.ask_for_consent(now);
        }
        self.state.show_next_prompt();
    }

    fn on_user_answer(&mut self, now: Now, question: &Question, reply: Reply) {
        match self.state.prompts.handle_reply(question, reply) {
            PromptEvent::Session(answer) => {
                let step = self.client.handle_user_answer(now, &mut self.state, &answer);
                self.handle_step(now, step);
            }
            event => self.state.handle_prompt_event(now, event),
        }
    }
}

impl AgentState {
    pub(super) fn handle_prompt_event(&mut self, now: Now, event: PromptEvent) {
        match event {
            PromptEvent::Queued => self.show_next_prompt(),
            PromptEvent::Consent(step, reply) => self.on_consent(now, step, &reply),
            PromptEvent::InventoryDecided => self.effects.mark_dirty(),
            PromptEvent::Session(_) | PromptEvent::Nothing => {}
        }
    }

    /// Prompts the user for the server.
    pub(super) fn ask(&mut self, now: Now, prompt: Prompt) -> Option<Answer> {
        let answer = self.prompts.ask_for_server(now.mono, prompt);
        if answer.is_none() {
            self.show_next_prompt();
        }
        answer
    }

    /// Returns whether the operation may receive.
    pub(super) fn download_allowed(&self) -> bool {
        self.prompts.download_allowed(self.suspension.policy().consent())
    }

    /// Returns whether the image may be installed.
    pub(super) fn install_allowed(&self) -> bool {
        self.prompts.install_allowed(self.suspension.policy().consent())
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
        let at_once = self.suspension.policy().install() == InstallPolicy::AtOnce;
        if at_once && self.update.release_deferred() {
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
    pub(super) fn ask_for_consent(&mut self, now: Now) {
        let Some(accepted) = self.update.accepted() else { return };
        let octets = accepted.object.oti.parameters().transfer_length;
        let version = &self.update.displayed_version().unwrap_or_default();
        let ready = self.update.is_verified();
        let (step, text) = if ready && !self.install_allowed() {
            (ConsentGranted::Install, install_text(version))
        } else if !ready && !self.download_allowed() {
            (ConsentGranted::Download, download_text(version, octets))
        } else {
            return;
        };
        let event = self.prompts.ask_for_consent(now.mono, step, text);
        self.handle_prompt_event(now, event);
    }

    /// Handles the user's decision. A no ends the operation; any other answer defers it.
    fn on_consent(&mut self, now: Now, step: ConsentGranted, reply: &Reply) {
        if !self.update.is_armed() {
            return;
        }
        match self.prompts.record_consent(now.mono, step, reply) {
            ConsentDecision::Granted => {
                self.effects.mark_dirty();
                if step == ConsentGranted::Install {
                    self.install(now);
                } else {
                    self.resume_reception(now);
                }
            }
            ConsentDecision::Refused => {
                self.complete(now, Phase::Refused, ResultCode::USER_CANCELLED);
            }
            ConsentDecision::Deferred => {}
        }
    }

    /// Withdraws the prompts of an operation that ends, and notifies the user of its result.
    pub(super) fn notify_result(&mut self, now: Now, phase: Phase, result: ResultCode) {
        self.prompts.end_operation();
        if let Some(version) = self.update.displayed_version() {
            let event = self.prompts.notify_result(now.mono, &version, (phase, result));
            self.handle_prompt_event(now, event);
        }
    }

    pub(super) fn show_next_prompt(&mut self) {
        if let Some(question) = self.prompts.show_next() {
            self.effects.push_after_commit(Output::Prompt(question));
        }
    }
}
