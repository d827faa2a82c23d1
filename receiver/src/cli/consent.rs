//! `receiver consent`: the standing consent of the user.

use anyhow::anyhow;
use clap::Args;
use proto::dm::ui::Answer;
use serde_json::json;

use super::{ConfigArgs, Failure, account, exit, print};
use crate::{
    shell::{clock::Clock, consent, user::Prompter},
    store::StorageError,
    update::consent::{Record, question},
    user::{self, Consent, MAX_WAIT, PromptPurpose, Question, Reply},
};

#[derive(Debug, Args)]
pub(super) struct ConsentArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Steps that the consent covers: download, install or both
    #[arg(long, default_value = "both", value_name = "STEPS")]
    about: Consent,
    /// Show the stored consent, without a prompt
    #[arg(long, conflicts_with = "withdraw")]
    show: bool,
    /// Remove the stored consent: each update is prompted for again
    #[arg(long)]
    withdraw: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ConsentArgs) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    let storage = |error: StorageError| Failure {
        code: exit::RESUMABLE,
        error: anyhow!(error).context("cannot store the consent"),
    };
    if arguments.show {
        let stored = consent::read(&config.receiver.data);
        let record =
            stored.map_err(|error| Failure { code: exit::CONFIGURATION, error: anyhow!(error) })?;
        return print_result(arguments.json, record.as_ref());
    }
    let directory = account::open(&config.receiver)?;
    if arguments.withdraw {
        directory.remove_consent().map_err(storage)?;
        return print_result(arguments.json, None);
    }
    let server_id = &config.server.server_id;
    let reply = ask(
        &config.receiver.user.front,
        &Prompter::open(&config.receiver),
        server_id,
        arguments.about,
    );
    let agreed = match reply {
        Reply::Answer(Answer::Yes) => true,
        Reply::Answer(Answer::No | Answer::Cancelled) => false,
        Reply::Later | Reply::Answer(_) => {
            let error = anyhow!(
                "no answer from the user, nothing is stored; the prompt goes to `receiver.user_interface`"
            );
            return Err(Failure { code: exit::RESUMABLE, error });
        }
    };
    let record = Record::new(server_id, arguments.about, agreed, Clock.now().utc);
    directory.write_consent(&record.emit()).map_err(storage)?;
    print_result(arguments.json, Some(&record))?;
    Ok(if agreed { exit::DONE } else { exit::POLICY })
}

fn ask(
    interface: &user::UserInterface,
    prompter: &Prompter,
    server_id: &str,
    about: Consent,
) -> Reply {
    let prompt = question(server_id, about);
    match interface {
        user::UserInterface::Absent => Reply::Answer(Answer::NoUser),
        user::UserInterface::Automatic(policy) => Reply::Answer(policy.answer(&prompt)),
        user::UserInterface::Interactive => prompter.prompt(&Question {
            ticket: 1,
            about: PromptPurpose::Enrolment,
            prompt,
            wait: MAX_WAIT,
        }),
    }
}

fn print_result(as_json: bool, record: Option<&Record>) -> Result<u8, Failure> {
    if as_json {
        print(format_args!("{}\n", json!({ "consent": record })))?;
        return Ok(exit::DONE);
    }
    match record {
        None => print("no standing consent is stored\n")?,
        Some(record) => {
            let Record { server_id, about, question, .. } = record;
            let answer = if record.agreed { "yes" } else { "no" };
            print(format_args!(
                "server    {server_id}\nabout     {about}\nanswer    {answer}\nasked     {question}\n"
            ))?;
        }
    }
    Ok(exit::DONE)
}
