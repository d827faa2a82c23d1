use std::{fs, path::Path};

use proto::ids::CampaignId;

use super::{args::campaign::plan_header, *};
use crate::campaign::verify::tests::Kit;

fn code(arguments: &[&str]) -> ExitCode {
    run(std::iter::once("dm-bridge").chain(arguments.iter().copied()))
}

fn exits(arguments: &[&str], expected: u8) {
    let found = code(arguments);
    assert_eq!(format!("{found:?}"), format!("{:?}", ExitCode::from(expected)), "{arguments:?}");
}

const VENDOR: &str = "01010101010101010101010101010101";
const CLASS: &str = "02020202020202020202020202020202";

fn enrol(data: &str, id: &str, expected: u8) {
    let url = "http://127.0.0.1:8080/dm";
    let arguments =
        ["device", "enrol", id, "--data", data, "--url", url, "--vendor", VENDOR, "--class", CLASS];
    exits(&arguments, expected);
}

#[test]
fn arguments_that_make_no_sense_exit_with_2_and_help_with_0() {
    Cli::try_parse_from(["dm-bridge", "serve", "--data", "x"]).unwrap();
    exits(&[], 2);
    exits(&["--help"], 0);
    exits(&["campaign", "create", "--help"], 0);
    exits(&["device", "enrol", "a b", "--data", "x"], 2);
    assert!(plan_header("0=x").is_ok());
    for wrong in ["x", "256=x", "=x", "-1=x"] {
        assert!(plan_header(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn profiles_are_listed_set_and_rejected_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("bridge");
    let data = data.to_str().unwrap();
    exits(&["profile", "list"], 0);
    exits(&["init", "--data", data], 0);
    exits(&["profile", "list", "--data", data, "--json"], 0);
    enrol(data, "LAB-0001", 0);
    exits(&["device", "profile", "LAB-0001", "minimal", "--data", data], 0);
    exits(&["device", "profile", "LAB-0001", "none-such", "--data", data], 2);
    exits(&["class", "set-profile", CLASS, "careful", "--data", data], 0);
    exits(&["class", "set-profile", CLASS, "none-such", "--data", data], 2);
    for verb in ["suspend", "resume"] {
        exits(&["device", verb, "LAB-0001", "--data", data, "--json"], 0);
        exits(&["device", verb, "LAB-0002", "--data", data], 6);
    }
}

#[test]
fn policy_nodes_are_set_by_name_and_an_unknown_name_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("bridge");
    let data = data.to_str().unwrap();
    exits(&["init", "--data", data], 0);
    enrol(data, "LAB-0001", 0);
    let set = |settings: &[&str], expected| {
        let device = ["device", "policy", "LAB-0001", "--data", data];
        exits(&[&device, settings].concat(), expected);
    };
    set(&["install=on-command", "consent=both", "thermal=-5"], 0);
    set(&["install=at-once", "--json"], 0);
    for wrong in [&[][..], &["colour=red"], &["install"], &["call="], &["call=a", "call=b"]] {
        set(wrong, 2);
    }
    exits(&["device", "policy", "LAB-0002", "call=ignore", "--data", data], 6);
    exits(&["device", "show", "LAB-0001", "--data", data], 0);
    let arguments = ["dm-bridge", "device", "policy", "a", "colour=red", "--data", data];
    let refused = Cli::try_parse_from(arguments).unwrap_err().to_string();
    assert!(refused.contains("`battery`, `memory`, `storage`"), "{refused}");
}

#[test]
fn secrets_are_rotated_and_do_not_open_with_the_key_of_another_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (data, keys) = (at("bridge"), at("keys"));
    exits(&["init", "--data", &data, "--secrets-key", &keys], 0);
    exits(&["init", "--data", &at("other")], 0);
    let rotate = |more: &[&str], expected| {
        exits(&[&["secrets", "rotate", "--data", &data], more].concat(), expected);
    };
    rotate(&["--secrets-key", &keys, "--json"], 0);
    rotate(&["--secrets-key", &keys, "--use-last-key"], 0);
    rotate(&["--secrets-key", &at("other/fleet.keys")], 3);
    rotate(&[], 3);
    assert!(!Path::new(&at("bridge/fleet.keys")).exists());
}

#[test]
fn components_are_listed_and_operations_are_queued_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("bridge");
    let data = data.to_str().unwrap();
    exits(&["init", "--data", data], 0);
    enrol(data, "LAB-0001", 0);
    exits(&["component", "list", "LAB-0001", "--data", data], 0);
    exits(&["component", "list", "LAB-0001", "--data", data, "--json"], 0);
    exits(&["component", "list", "LAB-0002", "--data", data], 6);
    exits(&["component", "activate", "LAB-0001", "player", "--data", data], 0);
    exits(&["component", "activate", "LAB-0001", "player", "--data", data], 7);
    exits(&["component", "remove-package", "LAB-0001", "player", "--data", data, "--json"], 0);
    for wrong in ["download", "download-install", "explode"] {
        exits(&["component", wrong, "LAB-0001", "player", "--data", data], 2);
    }
}

#[test]
fn a_fleet_is_created_once_and_devices_are_enrolled_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("bridge");
    let data = data.to_str().unwrap();
    exits(&["device", "list", "--data", data], 3);
    exits(&["init", "--data", data], 0);
    exits(&["init", "--data", data], 7);
    enrol(data, "LAB-0001", 0);
    enrol(data, "LAB-0001", 7);
    exits(&["device", "list", "--data", data, "--json"], 0);
    exits(&["device", "show", "LAB-0001", "--data", data], 0);
    exits(&["device", "show", "LAB-0002", "--data", data], 6);
    for policy in [Some("now"), Some("none"), None] {
        let verb = ["device", "update-requests", "LAB-0001", "--data", data];
        exits(&[&verb, policy.as_slice()].concat(), 0);
    }
    exits(&["device", "update-requests", "LAB-0001", "soon", "--data", data], 2);
    let object = ["device", "firmware-object", "LAB-0001", "--data", data];
    for place in [Some("./Vendor/Fota"), None] {
        exits(&[&object, place.as_slice()].concat(), 0);
    }
    for wrong in [".", "a//b", "./x?prop=Type", &"a/".repeat(12)] {
        exits(&[&object[..], &[wrong]].concat(), 2);
    }
    exits(&["device", "firmware-object", "LAB-0002", "./a", "--data", data], 6);
    exits(&["campaign", "status", "--data", data], 0);
    exits(&["campaign", "status", &"0".repeat(32), "--data", data], 6);
    exits(&["serve", "--data", data, "--listen", "0.0.0.0:0"], 8);
}

/// A kit whose dates are right for the clock of this machine.
fn current() -> Kit {
    let now = crate::shell::state::Clock.now().utc.seconds();
    let at = |seconds| proto::time::Utc::from_seconds(now + seconds);
    let mut kit = Kit::new();
    kit.root.expires = at(90_000);
    kit.manifest.expires = at(80_000);
    kit.campaign.latest_stop = at(50_000);
    kit.campaign.expires = at(60_000);
    kit.tie();
    kit
}

fn write_documents(folder: &Path, kit: &Kit) {
    let documents = kit.documents();
    fs::write(folder.join("root.env"), &documents.roots[0]).unwrap();
    fs::write(folder.join("manifest.env"), &documents.manifest).unwrap();
    fs::write(folder.join("campaign.env"), &documents.campaign).unwrap();
    fs::write(folder.join("0.header"), &kit.header).unwrap();
    fs::write(folder.join("token"), "a token of the carousel\n".replace(' ', "-")).unwrap();
}

fn create(folder: &Path, change: &[(&str, &str)], expected: u8) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mut pairs = vec![
        ("--data", path("bridge")),
        ("--campaign", path("campaign.env")),
        ("--manifest", path("manifest.env")),
        ("--plan-header", format!("0={}", path("0.header"))),
        ("--root", path("root.env")),
        ("--carousel", "http://127.0.0.1:9000".to_owned()),
        ("--carousel-token-file", path("token")),
        ("--group", "232.1.2.3".to_owned()),
        ("--port", "3400".to_owned()),
        ("--devices", "LAB-0001".to_owned()),
        ("--report-spread", "5".to_owned()),
    ];
    for (name, value) in change {
        pairs.iter_mut().find(|(other, _)| other == name).unwrap().1 = (*value).to_owned();
    }
    let flat = pairs.iter().flat_map(|(name, value)| [*name, value.as_str()]);
    exits(&["campaign", "create"].into_iter().chain(flat).collect::<Vec<_>>(), expected);
}

#[test]
fn each_bad_input_of_a_campaign_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = folder.join("bridge");
    let data = data.to_str().unwrap();
    exits(&["init", "--data", data], 0);
    enrol(data, "LAB-0001", 0);
    let kit = current();
    write_documents(folder, &kit);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();

    create(folder, &[("--group", "192.0.2.1")], 2);
    create(folder, &[("--group", "nonsense")], 2);
    create(folder, &[("--campaign", &path("missing"))], 6);
    create(folder, &[("--carousel-token-file", &path("missing"))], 6);
    create(folder, &[("--devices", "LAB-0002")], 6);
    create(folder, &[("--devices", &format!("@{}", path("missing")))], 6);
    create(folder, &[("--campaign", &path("manifest.env"))], 5);
    create(folder, &[("--plan-header", &format!("0={}", path("manifest.env")))], 5);
    create(folder, &[("--plan-header", &format!("4={}", path("0.header")))], 5);
    create(folder, &[("--report-spread", "601")], 8);
    fs::write(folder.join("ids"), "LAB-0001\n\n").unwrap();
    create(folder, &[("--devices", &format!("@{}", path("ids")))], 0);
    create(folder, &[], 7);

    let mut older = current();
    older.campaign.id = CampaignId([9; 16]);
    older.campaign.sequence = 4;
    let other = folder.join("older");
    fs::create_dir(&other).unwrap();
    write_documents(&other, &older);
    let file = |name: &str| other.join(name).to_str().unwrap().to_owned();
    let theirs = [
        ("--campaign", file("campaign.env")),
        ("--manifest", file("manifest.env")),
        ("--root", file("root.env")),
        ("--plan-header", format!("0={}", file("0.header"))),
    ];
    create(folder, &theirs.each_ref().map(|(name, value)| (*name, value.as_str())), 8);

    let id = kit.campaign.id.to_string();
    let start = |opens: &str, closes: &str, expected| {
        let arguments =
            ["campaign", "start", &id, "--data", data, "--opens", opens, "--closes", closes];
        exits(&arguments, expected);
    };
    start("soon", "+1h", 2);
    start("+1h", "+1m", 8);
    start("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", 8);
    start("now", "+1d", 8);
    start("now", "+1h", 0);
    exits(&["campaign", "status", &id, "--data", data, "--json"], 0);
    exits(&["campaign", "update-requests", &id, "later", "--data", data], 0);
    exits(&["campaign", "stop", &id, "--data", data], 0);
    exits(&["campaign", "stop", &"0".repeat(32), "--data", data], 6);
}

#[test]
fn the_network_of_a_proxy_is_ipv4_where_its_addresses_are() {
    let parsed = |network: &str| {
        let arguments = ["dm-bridge", "serve", "--data", "x", "--trusted-proxy", network];
        match Cli::try_parse_from(arguments).map(|cli| cli.verb) {
            Ok(args::Verb::Serve(serve)) => Ok(serve.trusted_proxy[0].to_string()),
            Ok(_) => panic!("another command"),
            Err(error) => Err(error.to_string()),
        }
    };
    for (network, expected) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:db8::/48", "2001:db8::/48"),
        ("::/0", "::/0"),
        ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
    ] {
        assert_eq!(parsed(network), Ok(expected.to_owned()), "{network}");
    }
    for (network, text) in [
        ("::ffff:10.0.0.0/64", "a prefix of 96 to 128"),
        ("10.0.0.1", "expected a network such as"),
        ("x", "expected a network such as"),
    ] {
        assert!(parsed(network).unwrap_err().contains(text), "{network}");
    }
}

#[test]
fn a_port_in_use_exits_with_7() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    exits(&["init", "--data", data], 0);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    exits(&["serve", "--data", data, "--listen", &address], 7);
}
