//! Options from a TOML file: file, then environment, then flags, the later ones winning.
//!
//! ```toml
//! # carousel serve --config FILE
//! data = "/var/lib/carousel"
//! listen = "127.0.0.1:8090"
//! rate = "40M"
//! insecure-http = true
//! ```

use std::{ffi::OsString, path::Path};

use toml::{Table, Value};

use crate::{
    error::{CliError, ExitCode},
    shell::files,
};

/// Octets of a configuration file at most.
const MAX_CONFIGURATION_BYTES: u64 = 64 * 1024;

/// Returns the arguments with those options added that the file of `--config` names and that
/// neither the arguments nor the environment set.
///
/// # Errors
///
/// [`CliError`] when the file cannot be read, is no TOML, or holds something else than options.
pub(super) fn with_file(
    arguments: Vec<OsString>,
    in_environment: impl Fn(&str) -> bool,
) -> Result<Vec<OsString>, CliError> {
    let Some(path) = config_path(&arguments) else { return Ok(arguments) };
    let path = Path::new(&path);
    let wrong =
        |text: String| ExitCode::Configuration.with_message(format!("{}: {text}", path.display()));
    let text = String::from_utf8(files::read(path, MAX_CONFIGURATION_BYTES)?);
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut all = arguments;
    for (name, value) in table {
        let option = format!("--{}", name.replace('_', "-"));
        if in_environment(&variable(&option)) || is_given(&all, &option) {
            continue;
        }
        match value {
            Value::String(value) => all.push(format!("{option}={value}").into()),
            Value::Integer(value) => all.push(format!("{option}={value}").into()),
            Value::Boolean(true) => all.push(option.into()),
            Value::Boolean(false) => {}
            Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                return Err(wrong(format!("{name} is {}, expected an option", value.type_str())));
            }
        }
    }
    Ok(all)
}

/// Returns the environment variable of an option.
fn variable(option: &str) -> String {
    let name = option.trim_start_matches('-').replace('-', "_").to_uppercase();
    format!("CAROUSEL_{name}")
}

fn config_path(arguments: &[OsString]) -> Option<OsString> {
    let mut remaining = arguments.iter();
    while let Some(argument) = remaining.next() {
        if argument == "--config" {
            return remaining.next().cloned();
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

fn is_given(arguments: &[OsString], option: &str) -> bool {
    arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
        argument.strip_prefix(option).is_some_and(|tail| tail.is_empty() || tail.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn merged(file: &str, arguments: &str, variables: &[&str]) -> Result<String, CliError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("carousel.toml");
        fs::write(&path, file).unwrap();
        let line = format!("carousel serve --config {} {arguments}", path.display());
        let arguments = line.split_whitespace().map(OsString::from).collect();
        let all = with_file(arguments, |name| variables.contains(&name))?;
        let all: Vec<_> = all.iter().skip(4).map(|argument| argument.to_str().unwrap()).collect();
        Ok(all.join(" "))
    }

    #[test]
    fn flags_beat_the_environment_and_that_the_file() {
        let file = "data = \"d\"\nrate = \"1M\"\nttl = 3\ninsecure_http = true\njson = false";
        assert_eq!(
            merged(file, "--rate=2M", &["CAROUSEL_DATA"]).unwrap(),
            "--rate=2M --insecure-http --ttl=3"
        );
        assert_eq!(
            merged(file, "--rate 2M --ttl 1", &[]).unwrap(),
            "--rate 2M --ttl 1 --data=d --insecure-http"
        );
    }

    #[test]
    fn a_file_that_is_no_configuration_is_refused() {
        for file in ["data =", "data = [1]", "[serve]\ndata = \"d\"", "ttl = 1.5"] {
            assert_eq!(
                merged(file, "", &[]).unwrap_err().exit_code(),
                ExitCode::Configuration,
                "{file}"
            );
        }
        let missing = ["carousel", "--config=/none/x"].map(OsString::from).to_vec();
        assert_eq!(with_file(missing, |_| false).unwrap_err().exit_code(), ExitCode::NotFound);
    }
}
