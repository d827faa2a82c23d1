//! `receiver consent`: asks the user once, and keeps the answer.

use anyhow::anyhow;
use clap::Args;
use proto::dm::ui::Answer;
use serde_json::json;

use super::{ConfigArgs, Failure, account, exit};
use crate::{
    consent::{Record, question},
    shell::{clock::Clock, consent, user::Front},
    symbols::StorageError,
    user::{self, About, Consent, MAX_WAIT, Question, Reply},
};

#[derive(Debug, Args)]
pub(super) struct ConsentArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What the user is asked about: download, install or both.
    #[arg(long, default_value = "both", value_name = "STEPS")]
    about: Consent,
    /// Show what the user has said, and ask nothing.
    #[arg(long, conflicts_with = "withdraw")]
    show: bool,
    /// Forget what the user has said: each update is asked about again.
    #[arg(long)]
    withdraw: bool,
    /// Answer with one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ConsentArgs) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    let storage = |error: StorageError| Failure {
        code: exit::RESUMABLE,
        error: anyhow!(error).context("cannot keep the consent"),
    };
    if arguments.show {
        let kept = consent::read(&config.local.data);
        let record =
            kept.map_err(|error| Failure { code: exit::CONFIGURATION, error: anyhow!(error) })?;
        return Ok(tell(arguments.json, record.as_ref()));
    }
    let directory = account::open(&config.local)?;
    if arguments.withdraw {
        directory.remove_consent().map_err(storage)?;
        return Ok(tell(arguments.json, None));
    }
    let server_id = &config.server.server_id;
    let reply =
        ask(&config.local.user.front, &Front::open(&config.local), server_id, arguments.about);
    let agreed = match reply {
        Reply::Answer(Answer::Yes) => true,
        Reply::Answer(Answer::No | Answer::Cancelled) => false,
        Reply::Later | Reply::Answer(_) => {
            let error =
                anyhow!("the user gave no answer, and nothing is kept; who asks is `local.user`");
            return Err(Failure { code: exit::RESUMABLE, error });
        }
    };
    let record = Record::new(server_id, arguments.about, agreed, Clock.now().utc);
    directory.write_consent(&record.emit()).map_err(storage)?;
    tell(arguments.json, Some(&record));
    Ok(if agreed { exit::DONE } else { exit::POLICY })
}

fn ask(front: &user::Front, way: &Front, server_id: &str, about: Consent) -> Reply {
    let prompt = question(server_id, about);
    match front {
        user::Front::Absent => Reply::Answer(Answer::NoUser),
        user::Front::Policy(policy) => Reply::Answer(policy.answer(&prompt)),
        user::Front::Asked => {
            way.ask(&Question { ticket: 1, about: About::Enrolment, prompt, wait: MAX_WAIT })
        }
    }
}

fn tell(as_json: bool, record: Option<&Record>) -> u8 {
    if as_json {
        println!("{}", json!({ "consent": record }));
        return exit::DONE;
    }
    match record {
        None => println!("The user has not been asked for a standing consent."),
        Some(record) => {
            let answer = if record.agreed { "yes" } else { "no" };
            println!("server    {}", record.server_id);
            println!("about     {}", record.about);
            println!("answer    {answer}");
            println!("asked     {}", record.question);
        }
    }
    exit::DONE
}
