//! `receiver check-in`: a DM session at once, with or without an update request.

use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{ConfigArgs, Failure, ask, exit, print};
use crate::{
    config::Config,
    shell::{
        clock::Clock,
        control::{Answer, Request},
    },
};

#[derive(Debug, Args)]
pub(super) struct CheckInArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Request an update on behalf of the user, who then gets an answer, or of the device
    #[arg(long, value_enum, value_name = "INITIATOR")]
    on_behalf_of: Option<Initiator>,
    /// FUMO object of the request, such as ./FwUpdate/Main [default: all]
    #[arg(value_name = "URI")]
    object: Option<String>,
    /// Vendor-specific text of the request
    #[arg(long, value_name = "TEXT", default_value = "")]
    text: String,
    /// Seconds to wait for the server's decision; 0 returns at once
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Initiator of an update request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Initiator {
    /// The user
    User,
    /// The device
    Device,
}

// spec: oma-004 FWUPDATE-C-001, oma-000 8.2.1.user, oma-003 5.5.1.5.2 (a client-initiated update)
pub(super) fn run(arguments: &CheckInArgs) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    let initiator = match arguments.on_behalf_of {
        Some(Initiator::Device) => "device",
        Some(Initiator::User) => "user",
        None if arguments.object.is_some() => {
            let error = anyhow!("a URI requires --on-behalf-of");
            return Err(Failure { code: exit::USAGE, error });
        }
        None => return ask(&config, &Request::CheckIn).map(|_| exit::DONE),
    };
    let request = Request::RequestUpdate {
        initiator: initiator.to_owned(),
        object: arguments.object.clone(),
        data: arguments.text.clone(),
    };
    ask(&config, &request)?;
    let outcome = wait_for_outcome(&config, Duration::from_secs(arguments.wait))?;
    if arguments.json {
        print(format_args!("{outcome}\n"))?;
    } else {
        print(outcome_text(&outcome))?;
    }
    Ok(exit_code(&outcome))
}

/// Polls the status of the running agent until the server has decided.
fn wait_for_outcome(config: &Config, longest: Duration) -> Result<Value, Failure> {
    let end = Clock.now().mono + longest;
    loop {
        let Answer::Status { status } = ask(config, &Request::Status)? else {
            let error = anyhow!("the agent sent no status");
            return Err(Failure { code: exit::NETWORK, error });
        };
        let request = status.get("request").cloned().unwrap_or(Value::Null);
        if outcome(&request) != "waiting" || Clock.now().mono >= end {
            return Ok(request);
        }
        Clock.pause(STEP);
    }
}

fn outcome(request: &Value) -> &str {
    request.get("outcome").and_then(Value::as_str).unwrap_or("waiting")
}

fn outcome_text(request: &Value) -> String {
    let text = match outcome(request) {
        "update" => "the server grants an update",
        "later" => "the server accepted the request; an update may follow later",
        "unsupported" => "the server does not support this device",
        "refused" => "the server rejects such requests",
        _ => "the server has not decided yet",
    };
    let server_text = request.get("server_text").and_then(Value::as_str);
    let message = server_text.map(|message| format!("message of the server: {message}\n"));
    format!("{text}\n{}", message.unwrap_or_default())
}

fn exit_code(request: &Value) -> u8 {
    match outcome(request) {
        "update" | "later" => exit::DONE,
        "unsupported" | "refused" => exit::POLICY,
        _ => exit::NETWORK,
    }
}

const STEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dm::update_request::RequestOutcome;

    #[test]
    fn the_decision_on_a_request_is_shown_in_words_and_by_the_exit_code() {
        for (decision, word, code, text) in [
            (RequestOutcome::Update, "update", 0, "grants an update"),
            (RequestOutcome::Later, "later", 0, "may follow later"),
            (RequestOutcome::Unsupported, "unsupported", 8, "does not support this device"),
            (RequestOutcome::Refused, "refused", 8, "rejects"),
            (RequestOutcome::Waiting, "waiting", 4, "not decided"),
        ] {
            let request = json!({"outcome": decision, "server_text": "hello"});
            assert_eq!(outcome(&request), word);
            assert_eq!(exit_code(&request), code, "{word}");
            let shown = outcome_text(&request);
            assert!(
                shown.contains(text) && shown.contains("message of the server: hello"),
                "{shown}"
            );
        }
        assert_eq!(exit_code(&Value::Null), 4);
    }
}
