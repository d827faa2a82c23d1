//! The server's package: its messages are executed, over a prompt to the user and in chunks.

use proto::dm::{
    large::Reassembler,
    syncml::{Message, Status},
    ui::Answer,
};

use super::{
    command::OutboundCommand,
    context::Context,
    execution::{Execution, Executor, SpaceLeft},
};

/// The package that the server sends.
#[derive(Debug)]
pub(super) struct InboundPackage {
    /// The execution that waits for the user's answer, and the status of its header.
    waiting: Option<(Execution, Box<Status>)>,
    /// The inbound large object.
    reassembler: Reassembler,
    max_object_bytes: u64,
    is_final: bool,
}

/// Progress of the execution of a message.
pub(super) enum Progress {
    /// The user has to answer first.
    WaitsForUser,
    /// The server aborted the session.
    Aborted,
    /// All commands are done.
    Done {
        /// Status of the header of the message.
        header: Box<Status>,
        /// Statuses and results of its commands.
        answers: Vec<OutboundCommand>,
    },
}

impl InboundPackage {
    pub(super) fn new(max_object_bytes: u64) -> Self {
        Self {
            waiting: None,
            reassembler: Reassembler::default(),
            max_object_bytes,
            is_final: true,
        }
    }

    /// Returns whether an execution waits for the user's answer.
    pub(super) const fn is_waiting_for_user(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns whether the server's package is complete.
    pub(super) const fn is_final(&self) -> bool {
        self.is_final
    }

    /// Records that a message ends the server's package, or does not.
    pub(super) const fn set_final(&mut self, is_final: bool) {
        self.is_final = is_final;
    }

    /// Executes the commands of a message; `header` is the status of its header.
    pub(super) fn execute(
        &mut self,
        context: &mut Context<'_>,
        message: &Message,
        header: Box<Status>,
        space: SpaceLeft,
    ) -> Progress {
        let mut execution = Execution::new(message.header.message_id, &message.commands);
        self.executor(context, &mut execution, space).run();
        self.finish(execution, header)
    }

    /// Resumes the execution that waits for the user's answer.
    pub(super) fn on_user_answer(
        &mut self,
        context: &mut Context<'_>,
        answer: &Answer,
        space: SpaceLeft,
    ) -> Progress {
        let Some((mut execution, header)) = self.waiting.take() else {
            return Progress::WaitsForUser;
        };
        self.executor(context, &mut execution, space).on_user_answer(answer);
        self.finish(execution, header)
    }

    /// Abandons the execution that waits for the user; returns the status of its header.
    pub(super) fn abandon(&mut self, context: &mut Context<'_>) -> Option<Box<Status>> {
        let (execution, header) = self.waiting.take()?;
        execution.abandon(context);
        Some(header)
    }

    fn executor<'a>(
        &'a mut self,
        context: &'a mut Context<'_>,
        execution: &'a mut Execution,
        space: SpaceLeft,
    ) -> Executor<'a> {
        Executor::new(context, execution, &mut self.reassembler, self.max_object_bytes, space)
    }

    fn finish(&mut self, execution: Execution, header: Box<Status>) -> Progress {
        if execution.aborted() {
            return Progress::Aborted;
        }
        if execution.is_asking() {
            self.waiting = Some((execution, header));
            return Progress::WaitsForUser;
        }
        Progress::Done { header, answers: execution.into_answers(&mut self.reassembler) }
    }
}
