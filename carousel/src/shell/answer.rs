//! The output of a command.

use std::fmt::{Display, Write as _};

use proto_cli::output;
use serde_json::Value;

use crate::error::CliError;

/// Prints a result: one JSON object, or a line for each of its members.
///
/// # Errors
///
/// As [`print()`].
pub fn answer(json: bool, value: &Value) -> Result<(), CliError> {
    print(format_args!("{}\n", answer_text(json, value)))
}

/// Prints text to standard output. Without a reader the text is dropped.
///
/// # Errors
///
/// [`CliError`] when standard output fails otherwise, such as a full disk.
pub fn print(text: impl Display) -> Result<(), CliError> {
    output::print(text).map_err(|error| CliError::io("standard output", error))
}

fn answer_text(json: bool, value: &Value) -> String {
    let Value::Object(members) = value else { return value.to_string() };
    if json {
        return value.to_string();
    }
    let width = members.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in members {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = name.replace('_', " ");
        writeln!(text, "{name:width$}  {plain}").expect("a string takes all text");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_one_object_or_a_line_for_each_member() {
        let value = json!({"a_b": 1, "c": "text", "d": ["x"]});
        assert_eq!(answer_text(true, &value), r#"{"a_b":1,"c":"text","d":["x"]}"#);
        assert_eq!(answer_text(false, &value), "a b  1\nc    text\nd    [\"x\"]");
    }
}
