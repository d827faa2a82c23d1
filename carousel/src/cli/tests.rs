//! The commands against real files and the loopback interface.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread,
    time::Duration,
};

use proto::{
    crypto::SigningKey,
    fec::{codec::BlockDecoder as _, raptorq_crate::Decoder},
    flute::alc::Packet,
    ids::{ComponentId, Sbn, Toi},
    time::Utc,
    trust::{Campaign, DocumentKind, Envelope, Manifest, Role, Root, plan::TableProof},
};
use tempfile::TempDir;

use super::*;
use crate::{
    package::documents::{self, YEAR},
    shell::{
        clock, files,
        package_dir::{self, OpenPackage},
    },
};

mod trust;

/// A directory with keys, an image, a package, its plan and a signed campaign.
struct Lab(TempDir);

const HEX: &str = "000102030405060708090a0b0c0d0e0f";

impl Lab {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_keys() -> Self {
        let lab = Self::empty();
        lab.run("trust init --dir @/keys").unwrap();
        let image: Vec<u8> = (0..20_000_u32).map(|i| (i * i % 253).to_le_bytes()[0]).collect();
        fs::write(lab.path("image"), image).unwrap();
        lab
    }

    fn with_package() -> Self {
        let lab = Self::with_keys();
        lab.run(&format!("{PACKAGE} --out @/pkg")).unwrap();
        lab
    }

    fn with_campaign() -> Self {
        let lab = Self::with_package();
        lab.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 1.5").unwrap();
        lab.run(&format!("{BUILD} --key @/keys/campaign.key --root @/keys/root.env")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command line in which `@` stands for the directory.
    fn run(&self, line: &str) -> Result<(), CliError> {
        let line = line.replace('@', self.0.path().to_str().unwrap());
        let arguments = std::iter::once("carousel").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(arguments)
            .map_err(|error| ExitCode::Usage.with_message(error.to_string()))?;
        dispatch(arguments.command)
    }

    fn refuses(&self, line: &str, exit: ExitCode, word: &str) {
        let error = self.run(line).unwrap_err();
        assert_eq!(error.exit_code(), exit, "{line}: {error}");
        assert!(error.to_string().contains(word), "{line}: {error}");
    }

    fn key(&self, role: &str) -> SigningKey {
        files::read_key(&self.path(&format!("keys/{role}.key"))).unwrap()
    }

    fn root(&self) -> Root {
        let envelope = fs::read(self.path("keys/root.env")).unwrap();
        Root::read(Envelope::parse(&envelope).unwrap().payload()).unwrap()
    }

    fn campaign(&self) -> Campaign {
        let envelope = fs::read(self.path("pkg/campaign.env")).unwrap();
        Campaign::read(Envelope::parse(&envelope).unwrap().payload()).unwrap()
    }

    /// Signs a changed campaign in place of the package's.
    fn replace_campaign(&self, change: impl FnOnce(&mut Campaign)) {
        let mut campaign = self.campaign();
        change(&mut campaign);
        let payload = campaign.emit().unwrap();
        let keys = [self.key("campaign")];
        let envelope = documents::signed(DocumentKind::Campaign, payload, &keys).unwrap();
        fs::write(self.path("pkg/campaign.env"), envelope).unwrap();
    }
}

const PACKAGE: &str = "package --image @/image --version 2.0 --vendor 000102030405060708090a0b0c0d0e0f \
    --class 000102030405060708090a0b0c0d0e0f --sequence 4 --key @/keys/release.key \
    --root @/keys/root.env";
const BUILD: &str = "campaign build @/pkg --source 127.0.0.1 --latest-stop +2h --sequence 1";
const AIR: &str = "air @/pkg --interface 127.0.0.1 --group 239.255.71.9 --port 4001 --rate 4M";

/// Receives from a group on the loopback interface until nothing has arrived for a second.
fn listen(group: Ipv4Addr) -> (u16, thread::JoinHandle<Vec<Vec<u8>>>) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = thread::spawn(move || {
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = socket.recv(&mut buffer) {
            packets.push(buffer[..length].to_vec());
            if Packet::parse(&buffer[..length]).unwrap().header.close_session {
                break;
            }
        }
        packets
    });
    (port, listener)
}

#[test]
fn packets_on_air_are_authentic_and_decode_to_the_image() {
    let lab = Lab::with_campaign();
    let (port, listener) = listen(Ipv4Addr::new(239, 255, 71, 8));
    let air = format!("{AIR} --passes 1 --root @/keys/root.env --json");
    lab.run(&air.replace("239.255.71.9", "239.255.71.8").replace("4001", &port.to_string()))
        .unwrap();
    let packets = listener.join().unwrap();
    let package = OpenPackage::open(&lab.path("pkg"), None, clock::now().utc).unwrap();
    let aired = &package.objects()[0];
    let header = proto::trust::plan::PlanHeader::parse(&aired.plan_header, &aired.object).unwrap();
    let mut decoders = BTreeMap::new();
    let mut proven = 0;
    for packet in &packets {
        let packet = Packet::parse(packet).unwrap();
        let (Some(toi), Some(payload)) = (packet.header.toi, packet.payload) else { continue };
        let (sbn, esi) = (payload.id.sbn, payload.id.esi);
        if toi == Toi::object(ComponentId(0)) {
            let decoder = decoders
                .entry(sbn)
                .or_insert_with(|| Decoder::new(&aired.object.oti, sbn).unwrap());
            // The last source symbols are left to the code.
            if esi.0 >= 20 {
                decoder.push(esi, payload.symbols);
            }
        } else if toi == Toi::tables(ComponentId(0)) {
            let proof = TableProof::parse(packet.extensions.auth().unwrap()).unwrap();
            let key = header.object_key();
            assert!(proof.leads_to(header.cap(), key, sbn, esi, payload.symbols));
            proven += 1;
        }
    }
    assert!(proven > 0);
    let mut image = Vec::new();
    for (sbn, decoder) in &mut decoders {
        image.extend(decoder.decode().unwrap_or_else(|| panic!("block {} is incomplete", sbn.0)));
    }
    image.truncate(20_000);
    assert_eq!(decoders.len(), aired.object.oti.partition().blocks() as usize);
    assert!(image == fs::read(lab.path("image")).unwrap(), "the image is exact");
    assert_eq!(decoders.keys().next(), Some(&Sbn(0)));
}

#[test]
fn a_session_by_hand_resumes_under_the_same_tsi() {
    let lab = Lab::with_campaign();
    lab.run(&format!("{AIR} --passes 1 --json")).unwrap();
    let campaign = lab.campaign().id;
    let first = package_dir::read_saved(&lab.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!((first.resume_point.passes, first.version), (1, 1));
    lab.run(&format!("{AIR} --passes 1 --json")).unwrap();
    let second = package_dir::read_saved(&lab.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!(second.tsi, first.tsi);
    assert_eq!(second.resume_point.passes, 2);
    assert!(second.resume_point.fdt_instance > first.resume_point.fdt_instance);
    lab.run(&format!("{AIR} --passes 1 --tsi 5 --json")).unwrap();
    let third = package_dir::read_saved(&lab.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!(third.tsi.0, 5);
}

#[test]
fn a_wrong_option_of_air_is_refused_by_name() {
    let lab = Lab::with_campaign();
    let with = |from: &str, to: &str| AIR.replace(from, to);
    lab.refuses(
        &with("239.255.71.9", "10.1.2.3"),
        ExitCode::Usage,
        "group 10.1.2.3 is no multicast",
    );
    lab.refuses(&with("4001", "0"), ExitCode::Usage, "port");
    lab.refuses(&with("4001", "65536"), ExitCode::Usage, "port");
    lab.refuses(&with("4M", "4"), ExitCode::Usage, "rate");
    lab.refuses(&with("239.255.71.9", "ff3e::1"), ExitCode::Usage, "IPv6");
    lab.refuses(&format!("{AIR} --tsi 0"), ExitCode::Usage, "tsi");
    lab.refuses(&with("127.0.0.1", "192.0.2.77"), ExitCode::Policy, "source 192.0.2.77");
    let elsewhere = with("127.0.0.1", "192.0.2.77") + " --any-source";
    lab.refuses(&elsewhere, ExitCode::Network, "192.0.2.77 is no address of this machine");
    let interface = with("127.0.0.1", "192.0.2.77") + " --source 127.0.0.1";
    lab.refuses(&interface, ExitCode::Network, "interface 192.0.2.77");
    lab.refuses(&with("@/pkg", "@/missing"), ExitCode::NotFound, "missing");
    let _lock = package_dir::lock(&lab.path("pkg")).unwrap();
    lab.refuses(AIR, ExitCode::Conflict, "on air already");
}

#[test]
fn a_campaign_outside_its_time_is_not_aired() {
    let lab = Lab::with_campaign();
    let now = clock::now().utc;
    let second = |offset: i64| Utc::from_seconds(now.seconds().checked_add_signed(offset).unwrap());
    lab.replace_campaign(|campaign| campaign.not_before = second(3600));
    lab.refuses(AIR, ExitCode::Policy, "does not begin before");
    lab.replace_campaign(|campaign| {
        campaign.not_before = second(-20);
        campaign.latest_stop = second(-10);
    });
    lab.refuses(AIR, ExitCode::Policy, "latest_stop");
    lab.replace_campaign(|campaign| campaign.expires = second(-5));
    lab.refuses(AIR, ExitCode::Policy, "the campaign expired");
}

#[test]
fn documents_that_were_changed_or_signed_by_others_are_refused() {
    let lab = Lab::with_campaign();
    let air = format!("{AIR} --root @/keys/root.env");
    for name in ["pkg/campaign.env", "pkg/manifest.env", "keys/root.env"] {
        let path = lab.path(name);
        let good = fs::read(&path).unwrap();
        let mut changed = good.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, changed).unwrap();
        lab.refuses(&air, ExitCode::Refused, "");
        fs::write(&path, good).unwrap();
    }
    let payload = lab.campaign().emit().unwrap();
    let release = [lab.key("release")];
    let envelope = documents::signed(DocumentKind::Campaign, payload, &release).unwrap();
    fs::write(lab.path("pkg/campaign.env"), envelope).unwrap();
    lab.refuses(&air, ExitCode::Refused, "0 of 1 needed signatures by campaign keys");
}

#[test]
fn a_plan_that_is_not_the_signed_one_is_refused() {
    let lab = Lab::with_campaign();
    let path = lab.path("pkg/0.plan");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    lab.refuses(AIR, ExitCode::Refused, "expected");
    fs::write(&path, &good[..100]).unwrap();
    lab.refuses(AIR, ExitCode::Configuration, "0.plan");
    lab.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 3").unwrap();
    lab.refuses(AIR, ExitCode::Refused, "plan root");
    fs::remove_file(&path).unwrap();
    lab.refuses(AIR, ExitCode::NotFound, "0.plan");
    lab.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 1.5").unwrap();
    assert_eq!(fs::read(&path).unwrap(), good, "the same image has the same plan");
}

#[test]
fn air_compares_a_plan_with_its_campaign_before_it_sends() {
    let lab = Lab::with_campaign();
    let (plan, runs) = (lab.path("pkg/0.plan"), lab.path("pkg/0.runs"));
    let good = fs::read(&plan).unwrap();
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(&plan, &changed).unwrap();
    let once = format!("{AIR} --passes 1 --json");
    lab.refuses(&once, ExitCode::Refused, "copy the package again");
    assert!(!runs.exists() && !lab.path("pkg/air.json").exists(), "nothing was sent");
    fs::write(&plan, &good).unwrap();
    lab.run(&once).unwrap();
    assert!(runs.exists());
}

#[test]
fn a_plan_that_changes_on_air_ends_with_an_error_and_is_compared_again() {
    let lab = Lab::with_campaign();
    lab.run(&format!("{AIR} --passes 1 --json")).unwrap();
    let (plan, runs) = (lab.path("pkg/0.plan"), lab.path("pkg/0.runs"));
    // The octets change, and neither the length, the time nor the inode: as a medium that decays.
    let times = fs::File::open(&plan).unwrap().metadata().unwrap().modified().unwrap();
    let mut octets = fs::read(&plan).unwrap();
    let last = octets.len() - 1;
    octets[last] ^= 1;
    fs::write(&plan, &octets).unwrap();
    fs::File::options().write(true).open(&plan).unwrap().set_modified(times).unwrap();
    lab.refuses(&format!("{AIR} --passes 1 --json"), ExitCode::Refused, "1 runs of 64 KiB");
    assert!(!runs.exists());
}

// test: oma-003 5.5.1.6.1
#[test]
fn a_package_is_never_replaced_by_another() {
    let lab = Lab::with_package();
    let manifest = fs::read(lab.path("pkg/manifest.env")).unwrap();
    lab.refuses(&format!("{PACKAGE} --out @/pkg"), ExitCode::Conflict, "holds a package");
    assert_eq!(fs::read(lab.path("pkg/manifest.env")).unwrap(), manifest);
}

#[test]
fn a_threshold_of_two_takes_two_keys() {
    let lab = Lab::with_package();
    lab.run("key new --out @/keys/second.key").unwrap();
    let mut root = lab.root();
    for role in [Role::Release, Role::Campaign] {
        let keys = root.roles.get_mut(&role).unwrap();
        keys.threshold = 2;
        keys.keys.push(lab.key("second").public());
    }
    let payload = root.emit().unwrap();
    let envelope = documents::signed(DocumentKind::Root, payload, &[lab.key("root")]).unwrap();
    fs::write(lab.path("keys/root.env"), envelope).unwrap();
    let package = format!("{PACKAGE} --out @/pkg2");
    lab.refuses(&package, ExitCode::Refused, "1 of 2 needed signatures by release keys");
    assert!(!lab.path("pkg2/0.img").exists());
    lab.run(&format!("{package} --key @/keys/second.key")).unwrap();

    lab.run("plan @/pkg2 --symbol-size 64").unwrap();
    let build = BUILD.replace("@/pkg", "@/pkg2");
    let one = format!("{build} --key @/keys/campaign.key --root @/keys/root.env");
    lab.refuses(&one, ExitCode::Refused, "1 of 2");
    lab.run(&format!("{build} --out @/campaign")).unwrap();
    let sign = "--root @/keys/root.env --out @/pkg2/campaign.env";
    lab.run(&format!("campaign sign @/campaign --key @/keys/campaign.key {sign}")).unwrap();
    let air = format!("{} --root @/keys/root.env", AIR.replace("@/pkg", "@/pkg2"));
    lab.refuses(&air, ExitCode::Refused, "1 of 2 needed signatures by campaign keys");
    let again = format!("campaign sign @/pkg2/campaign.env --key @/keys/second.key {sign}");
    lab.run(&again).unwrap();
    lab.run(&format!("{air} --passes 1 --json")).unwrap();
    lab.run("campaign inspect @/pkg2/campaign.env --json").unwrap();
    lab.run("campaign inspect @/campaign").unwrap();
}

#[test]
fn images_and_keys_that_cannot_be_used_are_refused() {
    let lab = Lab::with_keys();
    let package = format!("{PACKAGE} --out @/pkg");
    let with = |from: &str, to: &str| package.replace(from, to);
    lab.refuses(&with("@/image", "@/missing"), ExitCode::NotFound, "missing");
    fs::write(lab.path("empty"), b"").unwrap();
    lab.refuses(&with("@/image", "@/empty"), ExitCode::Configuration, "it is empty");
    lab.refuses(&with("@/image", "@/keys"), ExitCode::Configuration, "no regular file");
    let pipe = lab.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    lab.refuses(&with("@/image", "@/pipe"), ExitCode::Configuration, "no regular file");
    lab.refuses(&with("@/keys/root.env", "@/pipe"), ExitCode::Refused, "payload type");
    lab.refuses(&with("release.key", "campaign.key"), ExitCode::Refused, "is a campaign key");
    lab.refuses(&with("release.key", "root.env"), ExitCode::Configuration, "chmod 600");
    lab.refuses(&with("root.env", "none.env"), ExitCode::NotFound, "none.env");
    lab.refuses(&with("--sequence 4", "--sequence x"), ExitCode::Usage, "sequence");
    lab.refuses(&with(HEX, "0001"), ExitCode::Usage, "hex digits");
    let long = "v".repeat(65);
    lab.refuses(&with("--version 2.0", &format!("--version {long}")), ExitCode::Refused, "version");
    lab.refuses(&format!("{package} --expires now"), ExitCode::Policy, "--expires");
    lab.refuses(&format!("{package} --expires soon"), ExitCode::Usage, "--expires");
    let release = lab.path("keys/release.key");
    fs::set_permissions(&release, fs::Permissions::from_mode(0o640)).unwrap();
    lab.refuses(&package, ExitCode::Configuration, "release.key");
    assert!(!lab.path("pkg/manifest.env").exists());
}

#[test]
fn keys_are_made_once_and_are_their_owners_alone() {
    let lab = Lab::with_keys();
    for name in ["root", "release", "campaign"] {
        let mode = fs::metadata(lab.path(&format!("keys/{name}.key"))).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    lab.refuses("trust init --dir @/keys", ExitCode::Conflict, "root.key");
    lab.refuses("key new --out @/keys/root.key", ExitCode::Conflict, "root.key");
    lab.run("key show @/keys/root.key --json").unwrap();
    lab.refuses("key show @/image", ExitCode::Configuration, "image");
}

#[test]
fn a_plan_is_made_of_the_image_that_was_signed_alone() {
    let lab = Lab::with_package();
    lab.refuses("plan @/pkg --factor 0.5", ExitCode::Usage, "--factor");
    lab.refuses("plan @/pkg --symbol-size 64 --max-block-symbols 1", ExitCode::Policy, "symbols 2");
    lab.refuses("plan @/pkg --threads 0", ExitCode::Usage, "threads");
    lab.refuses("plan @/missing", ExitCode::NotFound, "manifest.env");
    let path = lab.path("pkg/0.img");
    let mut image = fs::read(&path).unwrap();
    image[17] ^= 1;
    fs::write(&path, &image).unwrap();
    lab.refuses("plan @/pkg", ExitCode::Refused, "not the one that the manifest was signed for");
    fs::write(&path, &image[1..]).unwrap();
    lab.refuses("plan @/pkg", ExitCode::Refused, "the manifest says 20000");
    assert!(!lab.path("pkg/0.plan").exists());
    assert!(!lab.path("pkg/0.plan.new").exists());
}

#[test]
fn campaigns_that_could_not_be_aired_are_not_made() {
    let lab = Lab::with_package();
    let out = format!("{BUILD} --out @/campaign");
    lab.refuses(&out, ExitCode::NotFound, "0.plan");
    lab.run("plan @/pkg --symbol-size 64").unwrap();
    lab.refuses(BUILD, ExitCode::Usage, "--out");
    let with = |from: &str, to: &str| out.replace(from, to);
    lab.refuses(&with("+2h", "2020-01-01T00:00:00Z"), ExitCode::Policy, "--latest-stop lies in");
    lab.refuses(&format!("{out} --not-before +3h"), ExitCode::Policy, "--latest-stop is not after");
    lab.refuses(&with("+2h", "later"), ExitCode::Usage, "--latest-stop");
    let nine: String = (1..=9).map(|last| format!(" --source 192.0.2.{last}")).collect();
    lab.refuses(&format!("{out}{nine}"), ExitCode::Refused, "sources");
    lab.refuses(&format!("{out} --report-spread-max 604801"), ExitCode::Refused, "report_spread");
    lab.run(&out).unwrap();
    let sign = "campaign sign @/campaign --root @/keys/root.env --out @/signed";
    lab.refuses(&format!("{sign} --key @/keys/release.key"), ExitCode::Refused, "a release key");
    let manifest = sign.replace("@/campaign", "@/pkg/manifest.env") + " --key @/keys/campaign.key";
    lab.refuses(&manifest, ExitCode::Refused, "expected a campaign");
    lab.refuses("campaign inspect @/image", ExitCode::Configuration, "longer than");
    lab.refuses("campaign inspect @/keys/release.key", ExitCode::Refused, "");
    assert!(!lab.path("signed").exists());
}

#[test]
fn an_expired_manifest_is_not_put_into_a_campaign() {
    let lab = Lab::with_campaign();
    let envelope = fs::read(lab.path("pkg/manifest.env")).unwrap();
    let mut manifest = Manifest::read(Envelope::parse(&envelope).unwrap().payload()).unwrap();
    manifest.not_before = Utc::from_seconds(1);
    manifest.expires = Utc::from_seconds(2) + YEAR;
    let payload = manifest.emit().unwrap();
    let keys = [lab.key("release")];
    let envelope = documents::signed(DocumentKind::Manifest, payload, &keys).unwrap();
    fs::write(lab.path("pkg/manifest.env"), envelope).unwrap();
    lab.refuses(&format!("{BUILD} --out @/x"), ExitCode::Policy, "the manifest expired");
    lab.refuses(AIR, ExitCode::Policy, "the manifest expired");
}

#[test]
fn a_component_is_signed_for_a_class_of_its_own() {
    let lab = Lab::with_package();
    lab.run(&format!("{PACKAGE} --component player --out @/component")).unwrap();
    let classes = |package: &str| {
        let envelope = fs::read(lab.path(package).join("manifest.env")).unwrap();
        Manifest::read(Envelope::parse(&envelope).unwrap().payload()).unwrap().classes
    };
    let [firmware] = classes("pkg")[..] else { panic!("one class") };
    let derived = proto::trust::component_class(firmware, &"player".parse().unwrap());
    assert_eq!(classes("component"), [derived]);
    lab.refuses(&format!("{PACKAGE} --component a/b --out @/x"), ExitCode::Usage, "");
}

#[test]
fn serve_refuses_wrong_options_by_name() {
    let lab = Lab::with_keys();
    files::write_secret(&lab.path("token"), b"0123456789abcdef\n").unwrap();
    fs::create_dir(lab.path("data")).unwrap();
    let serve = "serve --data @/data --listen 127.0.0.1:0 --root @/keys/root.env \
        --token-file @/token --interface 127.0.0.1";
    let with = |from: &str, to: &str| serve.replace(from, to);
    lab.refuses(&with("127.0.0.1:0", "0.0.0.0:0"), ExitCode::Policy, "--insecure-http");
    lab.refuses(&with("@/data", "@/none"), ExitCode::NotFound, "none");
    lab.refuses(&with("@/token", "@/none"), ExitCode::NotFound, "none");
    lab.refuses(&with("root.env", "none.env"), ExitCode::NotFound, "none.env");
    let elsewhere = with("--interface 127.0.0.1", "--interface 192.0.2.77");
    lab.refuses(&elsewhere, ExitCode::Network, "interface 192.0.2.77");
    let source = format!("{serve} --source 192.0.2.77");
    lab.refuses(&source, ExitCode::Network, "source 192.0.2.77");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    lab.refuses(&with("127.0.0.1:0", &address), ExitCode::Conflict, &address);
    fs::write(lab.path("token"), b"short").unwrap();
    lab.refuses(serve, ExitCode::Configuration, "shorter than 16");
    fs::set_permissions(lab.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    lab.refuses(serve, ExitCode::Configuration, "chmod 600");
}

#[test]
fn the_command_line_is_consistent_and_teaches() {
    use clap::CommandFactory as _;
    Arguments::command().debug_assert();
    assert!(Lab::empty().run("air").unwrap_err().exit_code() == ExitCode::Usage);
}
