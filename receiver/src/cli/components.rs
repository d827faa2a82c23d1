//! `receiver components`: the installed components, as the installer lists them.

use anyhow::anyhow;
use serde_json::Value;

use super::{ConfigArgs, Failure, ask, exit, print};
use crate::shell::control::{Answer, Request};

pub(super) fn run(config: &ConfigArgs, json: bool) -> Result<u8, Failure> {
    let Answer::Status { status } = ask(&config.load()?, &Request::Status)? else {
        return Ok(exit::DONE);
    };
    let Some(components) = status.get("components").and_then(Value::as_array) else {
        let error = anyhow!(
            "no list of components: `receiver.components` is `none`, or the installer hook does not list them"
        );
        return Err(Failure { code: exit::NOT_FOUND, error });
    };
    if json {
        print(format_args!("{}\n", Value::from(components.clone())))?;
        return Ok(exit::DONE);
    }
    if components.is_empty() {
        print("no components are installed\n")?;
    }
    print(components.iter().map(|component| line(component) + "\n").collect::<String>())?;
    Ok(exit::DONE)
}

fn line(component: &Value) -> String {
    let text = |field| component.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_active = component.get("active").and_then(Value::as_bool) == Some(true);
    let state = if is_active { "active" } else { "inactive" };
    format!("{} {} {state} {}", text("id"), text("version"), text("name")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_a_line() {
        let line = |text: &str| line(&serde_json::from_str(text).unwrap());
        let player = r#"{"id":"player","version":"2","active":true,"name":"Player"}"#;
        assert_eq!(line(player), "player 2 active Player");
        assert_eq!(line(r#"{"id":"game","version":"1","active":false}"#), "game 1 inactive");
    }
}
