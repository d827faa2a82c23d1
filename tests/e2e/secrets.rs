//! What must stay secret does, whatever is logged: the lab at its most talkative, and a search of
//! everything that was said for every secret that was used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proto::crypto::SigningKey;

use crate::lab_program;

#[test]
fn no_secret_of_a_run_is_in_any_log() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = Command::new(lab_program())
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .args(["--size", "512KiB", "--rate", "4M", "--devices", "2", "--unarmed", "1"])
        .args(["--loss", "5", "--kills", "1", "--forge", "1", "--seed", "5", "--json"])
        .args(["--bridge-down", "--dir"])
        .arg(&run)
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let secrets = secrets(&run);
    assert!(secrets.len() >= 3 + 2 + 2 * 3, "only {} secrets were found", secrets.len());
    let mut logs = vec![(PathBuf::from("what the lab said"), said)];
    files(&run.join("logs"), &mut logs);
    let octets: usize = logs.iter().map(|(_, log)| log.len()).sum();
    assert!(octets > 50_000, "the logs are hardly talkative: {octets} octets");
    for (name, secret) in &secrets {
        for form in forms(secret) {
            for (path, log) in &logs {
                let found = log.windows(form.len()).any(|window| window == form);
                assert!(!found, "{name} is in {}", path.display());
            }
        }
    }
}

/// Returns every secret of a run with its name: private keys, tokens, passwords, nonces.
fn secrets(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut secrets = Vec::new();
    let mut all = Vec::new();
    files(run, &mut all);
    for (path, octets) in all {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let shown = path.display().to_string();
        if name.ends_with(".key") {
            let key = SigningKey::from_pkcs8(&octets).unwrap();
            // The seed is the last string of 32 octets before the public key.
            let seed = octets.windows(32).find(|seed| {
                octets.windows(34).any(|part| part[..2] == [4, 32] && part[2..] == **seed)
            });
            secrets.push((format!("{shown} of {:?}", key.public()), seed.unwrap().to_vec()));
        } else if name.ends_with(".token") {
            secrets.push((shown, octets.trim_ascii().to_vec()));
        } else if name.ends_with(".toml") {
            let config: toml::Table = String::from_utf8(octets).unwrap().parse().unwrap();
            collect(&shown, &toml::Value::Table(config), &mut secrets);
        }
    }
    secrets
}

/// Takes every text whose name says that it is a secret.
fn collect(place: &str, value: &toml::Value, secrets: &mut Vec<(String, Vec<u8>)>) {
    let Some(table) = value.as_table() else { return };
    for (name, value) in table {
        let place = format!("{place} {name}");
        let secret =
            ["password", "secret", "nonce", "token"].iter().any(|word| name.contains(word));
        match value.as_str() {
            Some(text) if secret => secrets.push((place, text.as_bytes().to_vec())),
            Some(_) | None => collect(&place, value, secrets),
        }
    }
}

/// Returns the forms in which octets get into a text: as they are, hex, base64, and each of these
/// decoded when the secret is text itself.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose as coding};
    let mut raw = vec![secret.to_vec()];
    if let Ok(text) = str::from_utf8(secret) {
        raw.extend(coding::STANDARD.decode(text).ok().filter(|octets| octets.len() >= 12));
        let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
        let octets: Option<Vec<u8>> =
            pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        raw.extend(octets.filter(|octets| octets.len() >= 12));
    }
    let mut forms = Vec::new();
    for octets in raw {
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        forms.push(hex.to_uppercase().into_bytes());
        forms.push(hex.into_bytes());
        forms.push(coding::STANDARD_NO_PAD.encode(&octets).into_bytes());
        forms.push(coding::URL_SAFE_NO_PAD.encode(&octets).into_bytes());
        // As `{:?}` writes octets.
        forms.push(format!("{octets:?}").trim_matches(['[', ']']).as_bytes().to_vec());
        forms.push(octets);
    }
    forms
}

fn files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            // Not the sockets of devices.
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn a_secret_is_looked_for_in_every_form() {
    let forms = forms(b"000102030405060708090a0b0c0d0e0f");
    for wanted in
        [&b"000102030405060708090a0b0c0d0e0f"[..], b"AAECAwQFBgcICQoLDA0ODw", b"0, 1, 2, 3"]
    {
        let found = forms.iter().any(|form| form.windows(wanted.len()).any(|part| part == wanted));
        assert!(found, "{}", String::from_utf8_lossy(wanted));
    }
}
