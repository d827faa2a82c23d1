//! Asks the user: at the terminal, or by the integrator's hook.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use proto::dm::ui::{Answer, Kind};

use super::installer::{Hook, HookExit};
use crate::{
    config::Local,
    user::{self, HookAnswer, HookQuestion, Question, Reply, shown, typed},
};

/// The way to the user.
#[derive(Debug, Clone)]
pub enum Front {
    /// There is none, or the configuration answers.
    None,
    /// Standard input and output.
    Terminal(Terminal),
    /// The integrator's hook.
    Hook(Hook),
}

impl Front {
    /// Opens the way that the configuration says.
    #[must_use]
    pub fn open(local: &Local) -> Self {
        match &local.user_hook {
            Some(command) => Self::Hook(Hook::new(command.clone())),
            None if local.user.front == user::Front::Asked => Self::Terminal(Terminal::open()),
            None => Self::None,
        }
    }

    /// Asks. Blocks until there is an answer or nobody waits for it any more.
    #[must_use]
    pub fn ask(&self, question: &Question) -> Reply {
        match self {
            Self::None => Reply::Answer(Answer::NotDisplayable),
            Self::Terminal(terminal) => terminal.ask(question),
            Self::Hook(hook) => ask_hook(hook, question),
        }
    }
}

/// The terminal: one thread reads lines for as long as the program runs.
#[derive(Debug, Clone)]
pub struct Terminal {
    lines: Arc<Mutex<mpsc::Receiver<String>>>,
}

impl Terminal {
    /// Begins to read standard input.
    #[must_use]
    pub fn open() -> Self {
        Self::reading(io::BufReader::new(io::stdin()))
    }

    fn reading(mut input: impl io::BufRead + Send + 'static) -> Self {
        let (sender, lines) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(
                (&mut input).take(LINE_OCTETS).read_line(&mut line),
                Ok(octets) if octets > 0
            ) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { lines: Arc::new(Mutex::new(lines)) }
    }

    fn ask(&self, question: &Question) -> Reply {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // What was typed before the question is no answer to it.
        while lines.try_recv().is_ok() {}
        converse(&lines, question)
    }
}

fn converse(lines: &mpsc::Receiver<String>, question: &Question) -> Reply {
    loop {
        let mut out = io::stdout();
        let printed = out.write_all(shown(&question.prompt).as_bytes()).and_then(|()| out.flush());
        if printed.is_err() {
            return Reply::Answer(Answer::NotDisplayable);
        }
        if question.prompt.kind == Kind::Display {
            return Reply::Answer(Answer::Shown);
        }
        match lines.recv_timeout(question.wait) {
            Ok(line) => {
                if let Some(reply) = typed(&question.prompt, &line) {
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

fn ask_hook(hook: &Hook, question: &Question) -> Reply {
    let verb = if question.prompt.kind == Kind::Display { "tell" } else { "ask" };
    let json = serde_json::to_vec(&HookQuestion::from(question)).expect("a question is plain data");
    let ran = hook.run(&[OsStr::new(verb)], &json, question.wait.max(LEAST_TIME));
    match ran {
        Ok((HookExit::Done, output)) => {
            let line = output.split(|octet| *octet == b'\n').next().unwrap_or_default();
            match serde_json::from_slice::<HookAnswer>(line) {
                Ok(answer) => answer.into(),
                Err(_) if verb == "tell" => Reply::Answer(Answer::Shown),
                Err(error) => {
                    tracing::warn!(%error, "the user hook gave no answer");
                    Reply::Answer(Answer::NotDisplayable)
                }
            }
        }
        Ok((HookExit::TimedOut, _)) => Reply::Answer(Answer::TimedOut),
        Ok((exit, _)) => {
            tracing::warn!(?exit, "the user hook failed");
            Reply::Answer(Answer::NotDisplayable)
        }
        Err(error) => {
            tracing::warn!(%error, "the user cannot be asked");
            Reply::Answer(Answer::NotDisplayable)
        }
    }
}

const LINE_OCTETS: u64 = 4096;
const LEAST_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proto::dm::ui::Prompt;

    use super::*;
    use crate::user::About;

    fn question(prompt: Prompt) -> Question {
        Question { ticket: 1, about: About::Install, prompt, wait: Duration::from_secs(20) }
    }

    fn hook(script: &str) -> Front {
        Front::Hook(Hook::new(vec!["/bin/sh".into(), "-c".into(), script.into(), "hook".into()]))
    }

    // test: oma-dm 4.1 (a hook)
    #[test]
    fn the_hook_gets_the_question_and_gives_the_answer() {
        let script = r#"test "$1" = ask && grep -q '"text":"Now?"' && echo '{"answer":"later"}'"#;
        assert_eq!(hook(script).ask(&question(Prompt::confirm("Now?"))), Reply::Later);
        let shown = Reply::Answer(Answer::Shown);
        assert_eq!(hook("test $1 = tell").ask(&question(Prompt::display("Done"))), shown);
    }

    #[test]
    fn a_hook_that_fails_could_not_show_the_question() {
        let failed = Reply::Answer(Answer::NotDisplayable);
        for script in ["exit 1", "echo yes", "true", "echo '{\"answer\":\"perhaps\"}'"] {
            assert_eq!(hook(script).ask(&question(Prompt::confirm("Now?"))), failed, "{script}");
        }
        let absent = Front::Hook(Hook::new(vec!["/nonexistent".into()]));
        assert_eq!(absent.ask(&question(Prompt::confirm("Now?"))), failed);
    }

    #[test]
    fn a_person_at_the_terminal_is_asked_until_the_line_is_an_answer() {
        let (keys, lines) = mpsc::channel();
        for line in ["perhaps\n", "yes\n", "later\n"] {
            keys.send(line.to_owned()).unwrap();
        }
        let question = question(Prompt::confirm("Now?"));
        assert_eq!(converse(&lines, &question), Reply::Answer(Answer::Yes));
        assert_eq!(converse(&lines, &question), Reply::Later);
        let at_once = Question { wait: Duration::ZERO, ..question };
        assert_eq!(converse(&lines, &at_once), Reply::Answer(Answer::TimedOut));
    }

    #[test]
    fn a_terminal_that_is_gone_shows_nothing() {
        let front = Front::Terminal(Terminal::reading(io::BufReader::new(io::empty())));
        let gone = Reply::Answer(Answer::NotDisplayable);
        assert_eq!(front.ask(&question(Prompt::confirm("Now?"))), gone);
        assert_eq!(Front::None.ask(&question(Prompt::confirm("Now?"))), gone);
    }
}
