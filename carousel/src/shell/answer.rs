//! The output of a command.

use std::fmt::Write as _;

use serde_json::Value;

/// Prints a result: one JSON object, or a line for each of its members.
pub fn answer(json: bool, value: &Value) {
    println!("{}", answer_text(json, value));
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
