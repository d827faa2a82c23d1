//! `receiver check-in`: a DM session at once, and what the server makes of a request for an update.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;

use super::{ConfigArgs, Failure, ask, exit};
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
    /// Ask for an update on behalf of the device.
    #[arg(long, conflicts_with = "user_request")]
    device_request: bool,
    /// Ask for an update on behalf of the user, whom the server then owes an answer.
    #[arg(long)]
    user_request: bool,
    /// The firmware object that the request is about, such as ./FwUpdate/Main [default: all].
    #[arg(value_name = "URI")]
    object: Option<String>,
    /// A text of the vendor's that goes with the request.
    #[arg(long, value_name = "TEXT", default_value = "")]
    text: String,
    /// Wait so long for what becomes of the request; 0: do not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Answer with one JSON object.
    #[arg(long)]
    json: bool,
}

// spec: oma-004 FWUPDATE-C-001, oma-000 8.2.1.user, oma-003 5.5.1.5.2 (a client-initiated update)
pub(super) fn run(arguments: &CheckInArgs) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    let asker = match (arguments.device_request, arguments.user_request) {
        (true, _) => "device",
        (false, true) => "user",
        (false, false) if arguments.object.is_some() => {
            let error = anyhow!("a URI goes with --device-request or --user-request");
            return Err(Failure { code: exit::USAGE, error });
        }
        (false, false) => return ask(&config, &Request::CheckIn).map(|_| exit::DONE),
    };
    let request = Request::AskForUpdate {
        asker: asker.to_owned(),
        object: arguments.object.clone(),
        data: arguments.text.clone(),
    };
    ask(&config, &request)?;
    let outcome = wait_for_outcome(&config, Duration::from_secs(arguments.wait))?;
    if arguments.json {
        println!("{outcome}");
    } else {
        print!("{}", outcome_text(&outcome));
    }
    Ok(exit_code(&outcome))
}

/// Asks the running device again and again, as a person would; it answers at once each time.
fn wait_for_outcome(config: &Config, longest: Duration) -> Result<Value, Failure> {
    let end = Clock.now().mono + longest;
    loop {
        let Answer::Status { status } = ask(config, &Request::Status)? else {
            let error = anyhow!("the receiver gave no status");
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
        "update" => "the server has an update and gives it to this device",
        "later" => "the server has noted the request; nothing is to be done at present",
        "unsupported" => "this server does not support this device",
        "refused" => "the server does not take such requests",
        _ => "the server has not answered yet",
    };
    let said = request.get("said").and_then(Value::as_str);
    said.map_or_else(|| format!("{text}\n"), |said| format!("{text}\nthe server says: {said}\n"))
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

    #[test]
    fn what_became_of_a_request_is_said_in_words_and_by_the_exit_code() {
        for (outcome, code, word) in [
            ("update", 0, "gives it to this device"),
            ("later", 0, "noted"),
            ("unsupported", 8, "this server does not support this device"),
            ("refused", 8, "does not take"),
            ("waiting", 4, "not answered"),
        ] {
            let request = json!({"outcome": outcome, "said": "hello"});
            assert_eq!(exit_code(&request), code, "{outcome}");
            let text = outcome_text(&request);
            assert!(text.contains(word) && text.contains("the server says: hello"), "{text}");
        }
        assert_eq!(exit_code(&Value::Null), 4);
    }
}
