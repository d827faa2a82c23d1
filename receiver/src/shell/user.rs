//! User prompts at the terminal, or by the integrator's hook.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use proto::dm::ui::{Answer, PromptKind};

use super::installer::{Hook, HookExit};
use crate::{
    config::Receiver,
    user::{self, HookAnswer, HookQuestion, Question, Reply, parse_answer, render},
};

/// Output device for prompts.
#[derive(Debug, Clone)]
pub enum Prompter {
    /// None: there is no user, or the configuration answers.
    None,
    /// Standard input and output.
    Terminal(Terminal),
    /// The integrator's hook.
    Hook(Hook),
}

impl Prompter {
    /// Opens the configured prompter.
    #[must_use]
    pub fn open(settings: &Receiver) -> Self {
        match &settings.user_hook {
            Some(command) => Self::Hook(Hook::new(command.clone())),
            None if settings.user.front == user::UserInterface::Interactive => {
                Self::Terminal(Terminal::open())
            }
            None => Self::None,
        }
    }

    /// Shows a prompt. Blocks until there is an answer, or the time for it has passed.
    #[must_use]
    pub fn prompt(&self, question: &Question) -> Reply {
        match self {
            Self::None => Reply::Answer(Answer::NotDisplayable),
            Self::Terminal(terminal) => terminal.prompt(question),
            Self::Hook(hook) => prompt_hook(hook, question),
        }
    }
}

/// The terminal; one thread reads its lines until the program ends.
#[derive(Debug, Clone)]
pub struct Terminal {
    lines: Arc<Mutex<mpsc::Receiver<String>>>,
}

impl Terminal {
    /// Starts to read standard input.
    #[must_use]
    pub fn open() -> Self {
        Self::reading(io::BufReader::new(io::stdin()))
    }

    fn reading(mut input: impl io::BufRead + Send + 'static) -> Self {
        let (sender, lines) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(
                (&mut input).take(LINE_BYTES).read_line(&mut line),
                Ok(octets) if octets > 0
            ) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { lines: Arc::new(Mutex::new(lines)) }
    }

    fn prompt(&self, question: &Question) -> Reply {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Input from before the prompt does not answer it.
        while lines.try_recv().is_ok() {}
        prompt_terminal(&lines, question)
    }
}

fn prompt_terminal(lines: &mpsc::Receiver<String>, question: &Question) -> Reply {
    loop {
        let mut out = io::stdout();
        let printed = out.write_all(render(&question.prompt).as_bytes()).and_then(|()| out.flush());
        if printed.is_err() {
            return Reply::Answer(Answer::NotDisplayable);
        }
        if question.prompt.kind == PromptKind::Display {
            return Reply::Answer(Answer::Shown);
        }
        match lines.recv_timeout(question.wait) {
            Ok(line) => {
                if let Some(reply) = parse_answer(&question.prompt, &line) {
                    return reply;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => return Reply::Answer(Answer::TimedOut),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Reply::Answer(Answer::NotDisplayable);
            }
        }
    }
}

fn prompt_hook(hook: &Hook, question: &Question) -> Reply {
    let verb = if question.prompt.kind == PromptKind::Display { "tell" } else { "ask" };
    let json =
        serde_json::to_vec(&HookQuestion::from(question)).expect("a question is serialisable");
    let ran = hook.run(&[OsStr::new(verb)], &json, question.wait.max(MIN_TIME));
    match ran {
        Ok((HookExit::Done, output)) => {
            let line = output.split(|octet| *octet == b'\n').next().unwrap_or_default();
            match serde_json::from_slice::<HookAnswer>(line) {
                Ok(answer) => answer.into(),
                Err(_) if verb == "tell" => Reply::Answer(Answer::Shown),
                Err(error) => {
                    tracing::warn!(%error, "user hook printed no answer");
                    Reply::Answer(Answer::NotDisplayable)
                }
            }
        }
        Ok((HookExit::TimedOut, _)) => Reply::Answer(Answer::TimedOut),
        Ok((exit, _)) => {
            tracing::warn!(?exit, "user hook failed");
            Reply::Answer(Answer::NotDisplayable)
        }
        Err(error) => {
            tracing::warn!(%error, "user hook cannot be started");
            Reply::Answer(Answer::NotDisplayable)
        }
    }
}

const LINE_BYTES: u64 = 4096;
const MIN_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proto::dm::ui::Prompt;

    use super::*;
    use crate::user::PromptPurpose;

    fn question(prompt: Prompt) -> Question {
        Question { ticket: 1, about: PromptPurpose::Install, prompt, wait: Duration::from_secs(20) }
    }

    fn hook(script: &str) -> Prompter {
        Prompter::Hook(Hook::new(vec!["/bin/sh".into(), "-c".into(), script.into(), "hook".into()]))
    }

    // test: oma-dm 4.1 (a hook)
    #[test]
    fn the_hook_gets_the_question_and_returns_the_answer() {
        let script = r#"test "$1" = ask && grep -q '"text":"Now?"' && echo '{"answer":"later"}'"#;
        assert_eq!(hook(script).prompt(&question(Prompt::confirm("Now?"))), Reply::Later);
        let shown = Reply::Answer(Answer::Shown);
        assert_eq!(hook("test $1 = tell").prompt(&question(Prompt::display("Done"))), shown);
    }

    #[test]
    fn a_hook_that_fails_counts_as_not_displayable() {
        let failed = Reply::Answer(Answer::NotDisplayable);
        for script in ["exit 1", "echo yes", "true", "echo '{\"answer\":\"perhaps\"}'"] {
            assert_eq!(hook(script).prompt(&question(Prompt::confirm("Now?"))), failed, "{script}");
        }
        let absent = Prompter::Hook(Hook::new(vec!["/nonexistent".into()]));
        assert_eq!(absent.prompt(&question(Prompt::confirm("Now?"))), failed);
    }

    #[test]
    fn the_terminal_prompts_until_the_line_is_an_answer() {
        let (keys, lines) = mpsc::channel();
        for line in ["perhaps\n", "yes\n", "later\n"] {
            keys.send(line.to_owned()).unwrap();
        }
        let question = question(Prompt::confirm("Now?"));
        assert_eq!(prompt_terminal(&lines, &question), Reply::Answer(Answer::Yes));
        assert_eq!(prompt_terminal(&lines, &question), Reply::Later);
        let at_once = Question { wait: Duration::ZERO, ..question };
        assert_eq!(prompt_terminal(&lines, &at_once), Reply::Answer(Answer::TimedOut));
    }

    #[test]
    fn a_closed_terminal_shows_no_prompt() {
        let front = Prompter::Terminal(Terminal::reading(io::BufReader::new(io::empty())));
        let gone = Reply::Answer(Answer::NotDisplayable);
        assert_eq!(front.prompt(&question(Prompt::confirm("Now?"))), gone);
        assert_eq!(Prompter::None.prompt(&question(Prompt::confirm("Now?"))), gone);
    }
}
