//! Operator mistakes at the command line: each is a clear error with its exit code, and nothing
//! that was there is lost.
//!
//! Mistakes of devices (nonces, passwords, messages) are tested beside the management server;
//! full disks and damaged journals beside the receiver's storage.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::lab_program;

/// One mistake: the command line, the exit code, and what the message must name.
type Mistake<'a> = (&'a str, i32, &'a str);

#[test]
fn each_mistake_with_images_keys_and_documents_has_its_exit_code_and_names_what_is_wrong() {
    let site = Site::new();
    let package = "carousel package --version 2 --sequence 1 --root keys/root.env \
                   --vendor fa6b4a53d5ad5fdfbe9de663e4d41ffe \
                   --class 1492af1425695e48bf429b2d51f2ab45";
    let build = "carousel campaign build p --source 127.0.0.1 --sequence 1 --root keys/root.env";
    let mistakes: &[Mistake<'_>] = &[
        (&format!("{package} --image missing --key keys/release.key --out q"), 6, "missing"),
        (&format!("{package} --image keys --key keys/release.key --out q"), 3, "keys"),
        (&format!("{package} --image empty --key keys/release.key --out q"), 3, "empty"),
        (&format!("{package} --image image --key keys/campaign.key --out q"), 5, "release key"),
        (&format!("{package} --image image --key other/release.key --out q"), 5, "stranger"),
        (&format!("{package} --image image --key missing.key --out q"), 6, "missing.key"),
        ("carousel trust init --dir keys", 7, "already"),
        ("carousel plan missing", 6, "missing"),
        ("carousel plan p --symbol-size 4000", 2, "--symbol-size"),
        ("carousel plan p --max-block-symbols 1", 8, "at most 255 blocks"),
        (&format!("{build} --latest-stop 2020-01-01T00:00:00Z --key keys/campaign.key"), 8, "past"),
        (&format!("{build} --latest-stop tomorrow --key keys/campaign.key"), 2, "tomorrow"),
        (&format!("{build} --latest-stop +2h --key keys/release.key"), 5, "campaign key"),
        ("carousel campaign inspect p/manifest.env", 5, "campaign"),
        ("carousel no-such-command", 2, "no-such-command"),
    ];
    site.try_all(mistakes);
    assert!(site.run("carousel campaign inspect p/campaign.env").status.success());
}

#[test]
fn each_mistake_with_networks_has_its_exit_code_and_names_what_is_wrong() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let serve = "carousel serve --data . --root keys/root.env --token-file token";
    let air = "carousel air p --seconds 1";
    let mistakes: &[Mistake<'_>] = &[
        (&format!("{air} --group 10.1.2.3 --port 3400 --interface 127.0.0.1"), 2, "10.1.2.3"),
        (&format!("{air} --group 232.1.2.3 --port 0 --interface 127.0.0.1"), 2, "port"),
        (
            &format!(
                "{air} --group 232.1.2.3 --port 3400 --source 127.0.0.1 --interface 203.0.113.250"
            ),
            4,
            "203.0.113.250",
        ),
        (
            &format!("{air} --group 232.1.2.3 --port 3400 --interface 127.0.0.1 --source 10.9.8.7"),
            8,
            "10.9.8.7",
        ),
        (&format!("{serve} --listen {taken} --interface 127.0.0.1"), 7, "in use"),
        (&format!("{serve} --listen 0.0.0.0:0 --interface 127.0.0.1"), 8, "--insecure-http"),
        (&format!("dm-bridge serve --data b --listen {taken}"), 7, "in use"),
        ("dm-bridge serve --data b --listen 0.0.0.0:0", 8, "--insecure-http"),
        ("dm-bridge serve --data missing --listen 127.0.0.1:0", 3, "missing"),
        ("receiver run --config missing.toml", 3, "missing.toml"),
        ("receiver run --config other-interface.toml", 3, "203.0.113.250"),
        ("receiver run --config other-root.toml", 5, "root"),
        ("receiver status --config other-interface.toml", 6, "no agent runs"),
    ];
    site.try_all(mistakes);
}

#[test]
fn each_operator_mistake_has_its_exit_code_and_names_what_is_wrong() {
    let site = Site::new();
    let create = |campaign: &str, root: &str, group: &str, devices: &str| {
        format!(
            "dm-bridge campaign create --data b --campaign {campaign} --manifest p/manifest.env \
             --plan-header 0=p/0.header --root {root}/root.env --carousel http://127.0.0.1:9000 \
             --carousel-token-file token --group {group} --port 3400 --devices {devices}"
        )
    };
    let mut tampered = fs::read(site.path("p/campaign.env")).unwrap();
    tampered[60] ^= 1;
    fs::write(site.path("tampered.env"), tampered).unwrap();
    let mistakes: &[Mistake<'_>] = &[
        (&create("missing.env", "keys", "232.1.2.3", "all"), 6, "missing.env"),
        (&create("tampered.env", "keys", "232.1.2.3", "all"), 5, "not trusted"),
        (&create("p/campaign.env", "other", "232.1.2.3", "all"), 5, "not trusted"),
        (&create("p/campaign.env", "keys", "10.1.2.3", "all"), 2, "10.1.2.3"),
        (&create("p/campaign.env", "keys", "232.1.2.3", "LAB-9"), 6, "LAB-9"),
        ("dm-bridge device show LAB-9 --data b", 6, "LAB-9"),
        ("dm-bridge init --data b", 7, "exists"),
    ];
    site.try_all(mistakes);

    let created = site.run(&create("p/campaign.env", "keys", "232.1.2.3", "all"));
    assert!(created.status.success(), "{}", said(&created));
    let inspected = site.run("carousel campaign inspect p/campaign.env --json");
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let id = inspected["campaign_id"].as_str().unwrap();
    let start = |opens: &str, closes: &str| {
        format!("dm-bridge campaign start {id} --data b --opens {opens} --closes {closes}")
    };
    let mistakes: &[Mistake<'_>] = &[
        (&create("p/campaign.env", "keys", "232.1.2.3", "all"), 7, "exists"),
        (&start("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"), 8, "in the past"),
        (&start("+1m", "+9000h"), 8, "campaign ends"),
        (&start("+2m", "+1m"), 8, "not after"),
        (&start("tomorrow", "+1m"), 2, "tomorrow"),
    ];
    site.try_all(mistakes);
    assert!(site.run(&start("+1m", "+1h")).status.success());
}

#[test]
fn the_lab_passes_on_what_is_wrong_with_its_image() {
    let site = Site::new();
    let mistakes: &[Mistake<'_>] = &[
        ("lab --image missing --dir run-1", 6, "missing"),
        ("lab --image empty --dir run-2", 3, "empty"),
        ("lab --devices 1 --kills 2", 2, "--kills"),
        ("lab --loss 95", 2, "--loss"),
        ("lab --image image --dir keys", 3, "not empty"),
    ];
    site.try_all(mistakes);
}

/// A folder with keys, a signed package, and a fleet of one.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::write(site.path("image"), vec![7; 400_000]).unwrap();
        fs::write(site.path("empty"), "").unwrap();
        fs::write(site.path("token"), "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(site.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        for line in [
            "carousel trust init --dir keys",
            "carousel trust init --dir other",
            "carousel package --version 2 --sequence 1 --image image --out p \
             --key keys/release.key --root keys/root.env \
             --vendor fa6b4a53d5ad5fdfbe9de663e4d41ffe --class 1492af1425695e48bf429b2d51f2ab45",
            "carousel plan p",
            "carousel campaign build p --source 127.0.0.1 --latest-stop +2h --sequence 1 \
             --key keys/campaign.key --root keys/root.env",
            "dm-bridge init --data b",
        ] {
            let output = site.run(line);
            assert!(output.status.success(), "{line}: {}", said(&output));
        }
        site.enrol();
        site
    }

    /// Enrols a device, and makes configurations that are wrong in one field each.
    fn enrol(&self) {
        let enrolled = self.run(
            "dm-bridge device enrol LAB-1 --data b --url http://127.0.0.1:8080/dm \
             --vendor fa6b4a53d5ad5fdfbe9de663e4d41ffe --class 1492af1425695e48bf429b2d51f2ab45",
        );
        let enrolled = String::from_utf8(enrolled.stdout).unwrap();
        for (file, root, interface) in [
            ("other-interface.toml", "keys/root.env", "203.0.113.250"),
            ("other-root.toml", "image", "127.0.0.1"),
        ] {
            let local = format!(
                "[receiver]\ndata = \"d\"\ntrust_root = \"{root}\"\ninterface = \"{interface}\"\n\
                 installer_hook = [\"true\"]\n"
            );
            fs::write(self.path(file), format!("{enrolled}\n{local}")).unwrap();
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder().join(name)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(lab_program());
        let words: Vec<_> = line.split_whitespace().collect();
        let words = match words.strip_prefix(&["lab"]) {
            Some(words) => words,
            None => {
                command.arg("role");
                &words
            }
        };
        test_log::run(command.args(words).current_dir(self.folder()))
    }

    fn try_all(&self, mistakes: &[Mistake<'_>]) {
        test_log::collect_folder(self.folder());
        for (line, code, named) in mistakes {
            let output = self.run(line);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(*code), "{line}: {said}");
            assert!(said.contains(named), "`{named}` is not named by `{line}`: {said}");
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
