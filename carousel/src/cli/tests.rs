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
struct Place(TempDir);

const HEX: &str = "000102030405060708090a0b0c0d0e0f";

impl Place {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_keys() -> Self {
        let place = Self::empty();
        place.run("trust init --dir @/keys").unwrap();
        let image: Vec<u8> = (0..20_000_u32).map(|i| (i * i % 253).to_le_bytes()[0]).collect();
        fs::write(place.path("image"), image).unwrap();
        place
    }

    fn with_package() -> Self {
        let place = Self::with_keys();
        place.run(&format!("{PACKAGE} --out @/pkg")).unwrap();
        place
    }

    fn with_campaign() -> Self {
        let place = Self::with_package();
        place.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 1.5").unwrap();
        place.run(&format!("{BUILD} --key @/keys/campaign.key --root @/keys/root.env")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command line in which `@` stands for the directory.
    fn run(&self, line: &str) -> Result<(), Failure> {
        let line = line.replace('@', self.0.path().to_str().unwrap());
        let arguments = std::iter::once("carousel").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(arguments)
            .map_err(|error| Exit::Usage.because(error.to_string()))?;
        dispatch(arguments.command)
    }

    fn refuses(&self, line: &str, exit: Exit, word: &str) {
        let failure = self.run(line).unwrap_err();
        assert_eq!(failure.exit(), exit, "{line}: {failure}");
        assert!(failure.to_string().contains(word), "{line}: {failure}");
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

/// Listens to a group on the loopback interface until nothing has come for a second.
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
fn what_is_aired_proves_itself_and_decodes_to_the_image() {
    let place = Place::with_campaign();
    let (port, listener) = listen(Ipv4Addr::new(239, 255, 71, 8));
    let air = format!("{AIR} --passes 1 --root @/keys/root.env --json");
    place
        .run(&air.replace("239.255.71.9", "239.255.71.8").replace("4001", &port.to_string()))
        .unwrap();
    let packets = listener.join().unwrap();
    let package = OpenPackage::open(&place.path("pkg"), None, clock::now().utc).unwrap();
    let aired = &package.objects[0];
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
    assert!(image == fs::read(place.path("image")).unwrap(), "the image is exact");
    assert_eq!(decoders.keys().next(), Some(&Sbn(0)));
}

#[test]
fn a_session_by_hand_goes_on_where_it_stopped_under_the_same_name() {
    let place = Place::with_campaign();
    place.run(&format!("{AIR} --passes 1 --json")).unwrap();
    let campaign = place.campaign().id;
    let first = package_dir::read_kept(&place.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!((first.place.passes, first.version), (1, 1));
    place.run(&format!("{AIR} --passes 1 --json")).unwrap();
    let second = package_dir::read_kept(&place.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!(second.tsi, first.tsi);
    assert_eq!(second.place.passes, 2);
    assert!(second.place.fdt_instance > first.place.fdt_instance);
    place.run(&format!("{AIR} --passes 1 --tsi 5 --json")).unwrap();
    let third = package_dir::read_kept(&place.path("pkg"), campaign).unwrap().unwrap();
    assert_eq!(third.tsi.0, 5);
}

#[test]
fn what_air_is_told_wrongly_is_refused_by_name() {
    let place = Place::with_campaign();
    let with = |from: &str, to: &str| AIR.replace(from, to);
    place.refuses(&with("239.255.71.9", "10.1.2.3"), Exit::Usage, "group 10.1.2.3 is no multicast");
    place.refuses(&with("4001", "0"), Exit::Usage, "port");
    place.refuses(&with("4001", "65536"), Exit::Usage, "port");
    place.refuses(&with("4M", "4"), Exit::Usage, "rate");
    place.refuses(&with("239.255.71.9", "ff3e::1"), Exit::Usage, "IPv6");
    place.refuses(&format!("{AIR} --tsi 0"), Exit::Usage, "tsi");
    place.refuses(&with("127.0.0.1", "192.0.2.77"), Exit::Policy, "source 192.0.2.77");
    let elsewhere = with("127.0.0.1", "192.0.2.77") + " --any-source";
    place.refuses(&elsewhere, Exit::Network, "192.0.2.77 is no address of this machine");
    let interface = with("127.0.0.1", "192.0.2.77") + " --source 127.0.0.1";
    place.refuses(&interface, Exit::Network, "interface 192.0.2.77");
    place.refuses(&with("@/pkg", "@/missing"), Exit::NotFound, "missing");
    let _lock = package_dir::lock(&place.path("pkg")).unwrap();
    place.refuses(AIR, Exit::Conflict, "on air already");
}

#[test]
fn a_campaign_outside_its_time_is_not_aired() {
    let place = Place::with_campaign();
    let now = clock::now().utc;
    let second = |offset: i64| Utc::from_seconds(now.seconds().checked_add_signed(offset).unwrap());
    place.replace_campaign(|campaign| campaign.not_before = second(3600));
    place.refuses(AIR, Exit::Policy, "does not begin before");
    place.replace_campaign(|campaign| {
        campaign.not_before = second(-20);
        campaign.latest_stop = second(-10);
    });
    place.refuses(AIR, Exit::Policy, "latest_stop");
    place.replace_campaign(|campaign| campaign.expires = second(-5));
    place.refuses(AIR, Exit::Policy, "the campaign expired");
}

#[test]
fn documents_that_were_changed_or_signed_by_others_are_refused() {
    let place = Place::with_campaign();
    let air = format!("{AIR} --root @/keys/root.env");
    for name in ["pkg/campaign.env", "pkg/manifest.env", "keys/root.env"] {
        let path = place.path(name);
        let good = fs::read(&path).unwrap();
        let mut changed = good.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, changed).unwrap();
        place.refuses(&air, Exit::Refused, "");
        fs::write(&path, good).unwrap();
    }
    let payload = place.campaign().emit().unwrap();
    let release = [place.key("release")];
    let envelope = documents::signed(DocumentKind::Campaign, payload, &release).unwrap();
    fs::write(place.path("pkg/campaign.env"), envelope).unwrap();
    place.refuses(&air, Exit::Refused, "0 of 1 needed signatures by campaign keys");
}

#[test]
fn a_plan_that_is_not_the_signed_one_is_refused() {
    let place = Place::with_campaign();
    let path = place.path("pkg/0.plan");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    place.refuses(AIR, Exit::Refused, "expected");
    fs::write(&path, &good[..100]).unwrap();
    place.refuses(AIR, Exit::Configuration, "0.plan");
    place.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 3").unwrap();
    place.refuses(AIR, Exit::Refused, "plan root");
    fs::remove_file(&path).unwrap();
    place.refuses(AIR, Exit::NotFound, "0.plan");
    place.run("plan @/pkg --symbol-size 64 --max-block-symbols 160 --factor 1.5").unwrap();
    assert_eq!(fs::read(&path).unwrap(), good, "the same image has the same plan");
}

// test: oma-003 5.5.1.6.1
#[test]
fn a_package_is_never_replaced_by_another() {
    let place = Place::with_package();
    let manifest = fs::read(place.path("pkg/manifest.env")).unwrap();
    place.refuses(&format!("{PACKAGE} --out @/pkg"), Exit::Conflict, "holds a package");
    assert_eq!(fs::read(place.path("pkg/manifest.env")).unwrap(), manifest);
}

#[test]
fn a_threshold_of_two_takes_two_keys() {
    let place = Place::with_package();
    place.run("key new --out @/keys/second.key").unwrap();
    let mut root = place.root();
    for role in [Role::Release, Role::Campaign] {
        let keys = root.roles.get_mut(&role).unwrap();
        keys.threshold = 2;
        keys.keys.push(place.key("second").public());
    }
    let payload = root.emit().unwrap();
    let envelope = documents::signed(DocumentKind::Root, payload, &[place.key("root")]).unwrap();
    fs::write(place.path("keys/root.env"), envelope).unwrap();
    let package = format!("{PACKAGE} --out @/pkg2");
    place.refuses(&package, Exit::Refused, "1 of 2 needed signatures by release keys");
    assert!(!place.path("pkg2/0.img").exists());
    place.run(&format!("{package} --key @/keys/second.key")).unwrap();

    place.run("plan @/pkg2 --symbol-size 64").unwrap();
    let build = BUILD.replace("@/pkg", "@/pkg2");
    let one = format!("{build} --key @/keys/campaign.key --root @/keys/root.env");
    place.refuses(&one, Exit::Refused, "1 of 2");
    place.run(&format!("{build} --out @/campaign")).unwrap();
    let sign = "--root @/keys/root.env --out @/pkg2/campaign.env";
    place.run(&format!("campaign sign @/campaign --key @/keys/campaign.key {sign}")).unwrap();
    let air = format!("{} --root @/keys/root.env", AIR.replace("@/pkg", "@/pkg2"));
    place.refuses(&air, Exit::Refused, "1 of 2 needed signatures by campaign keys");
    let again = format!("campaign sign @/pkg2/campaign.env --key @/keys/second.key {sign}");
    place.run(&again).unwrap();
    place.run(&format!("{air} --passes 1 --json")).unwrap();
    place.run("campaign inspect @/pkg2/campaign.env --json").unwrap();
    place.run("campaign inspect @/campaign").unwrap();
}

#[test]
fn images_and_keys_that_cannot_be_used_are_refused() {
    let place = Place::with_keys();
    let package = format!("{PACKAGE} --out @/pkg");
    let with = |from: &str, to: &str| package.replace(from, to);
    place.refuses(&with("@/image", "@/missing"), Exit::NotFound, "missing");
    fs::write(place.path("empty"), b"").unwrap();
    place.refuses(&with("@/image", "@/empty"), Exit::Configuration, "it is empty");
    place.refuses(&with("@/image", "@/keys"), Exit::Configuration, "no regular file");
    place.refuses(&with("release.key", "campaign.key"), Exit::Refused, "is a campaign key");
    place.refuses(&with("release.key", "root.env"), Exit::Configuration, "chmod 600");
    place.refuses(&with("root.env", "none.env"), Exit::NotFound, "none.env");
    place.refuses(&with("--sequence 4", "--sequence x"), Exit::Usage, "sequence");
    place.refuses(&with(HEX, "0001"), Exit::Usage, "hex digits");
    let long = "v".repeat(65);
    place.refuses(&with("--version 2.0", &format!("--version {long}")), Exit::Refused, "version");
    place.refuses(&format!("{package} --expires now"), Exit::Policy, "--expires");
    place.refuses(&format!("{package} --expires soon"), Exit::Usage, "--expires");
    let release = place.path("keys/release.key");
    fs::set_permissions(&release, fs::Permissions::from_mode(0o640)).unwrap();
    place.refuses(&package, Exit::Configuration, "release.key");
    assert!(!place.path("pkg/manifest.env").exists());
}

#[test]
fn keys_are_made_once_and_are_their_owners_alone() {
    let place = Place::with_keys();
    for name in ["root", "release", "campaign"] {
        let mode = fs::metadata(place.path(&format!("keys/{name}.key"))).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    place.refuses("trust init --dir @/keys", Exit::Conflict, "root.key");
    place.refuses("key new --out @/keys/root.key", Exit::Conflict, "root.key");
    place.run("key show @/keys/root.key --json").unwrap();
    place.refuses("key show @/image", Exit::Configuration, "image");
}

#[test]
fn a_plan_is_made_of_the_image_that_was_signed_alone() {
    let place = Place::with_package();
    place.refuses("plan @/pkg --factor 0.5", Exit::Usage, "--factor");
    place.refuses("plan @/pkg --symbol-size 64 --max-block-symbols 1", Exit::Policy, "symbols 2");
    place.refuses("plan @/pkg --threads 0", Exit::Usage, "threads");
    place.refuses("plan @/missing", Exit::NotFound, "manifest.env");
    let path = place.path("pkg/0.img");
    let mut image = fs::read(&path).unwrap();
    image[17] ^= 1;
    fs::write(&path, &image).unwrap();
    place.refuses("plan @/pkg", Exit::Refused, "not the one that the manifest was signed for");
    fs::write(&path, &image[1..]).unwrap();
    place.refuses("plan @/pkg", Exit::Refused, "the manifest says 20000");
    assert!(!place.path("pkg/0.plan").exists());
    assert!(!place.path("pkg/0.plan.new").exists());
}

#[test]
fn campaigns_that_could_not_be_aired_are_not_made() {
    let place = Place::with_package();
    let out = format!("{BUILD} --out @/campaign");
    place.refuses(&out, Exit::NotFound, "0.plan");
    place.run("plan @/pkg --symbol-size 64").unwrap();
    place.refuses(BUILD, Exit::Usage, "--out");
    let with = |from: &str, to: &str| out.replace(from, to);
    place.refuses(&with("+2h", "2020-01-01T00:00:00Z"), Exit::Policy, "--latest-stop lies in");
    place.refuses(&format!("{out} --not-before +3h"), Exit::Policy, "--latest-stop is not after");
    place.refuses(&with("+2h", "later"), Exit::Usage, "--latest-stop");
    let nine: String = (1..=9).map(|last| format!(" --source 192.0.2.{last}")).collect();
    place.refuses(&format!("{out}{nine}"), Exit::Refused, "sources");
    place.refuses(&format!("{out} --report-spread-max 604801"), Exit::Refused, "report_spread");
    place.run(&out).unwrap();
    let sign = "campaign sign @/campaign --root @/keys/root.env --out @/signed";
    place.refuses(&format!("{sign} --key @/keys/release.key"), Exit::Refused, "a release key");
    let manifest = sign.replace("@/campaign", "@/pkg/manifest.env") + " --key @/keys/campaign.key";
    place.refuses(&manifest, Exit::Refused, "expected a campaign");
    place.refuses("campaign inspect @/image", Exit::Configuration, "longer than");
    place.refuses("campaign inspect @/keys/release.key", Exit::Refused, "");
    assert!(!place.path("signed").exists());
}

#[test]
fn an_expired_manifest_is_not_put_into_a_campaign() {
    let place = Place::with_campaign();
    let envelope = fs::read(place.path("pkg/manifest.env")).unwrap();
    let mut manifest = Manifest::read(Envelope::parse(&envelope).unwrap().payload()).unwrap();
    manifest.not_before = Utc::from_seconds(1);
    manifest.expires = Utc::from_seconds(2) + YEAR;
    let payload = manifest.emit().unwrap();
    let keys = [place.key("release")];
    let envelope = documents::signed(DocumentKind::Manifest, payload, &keys).unwrap();
    fs::write(place.path("pkg/manifest.env"), envelope).unwrap();
    place.refuses(&format!("{BUILD} --out @/x"), Exit::Policy, "the manifest expired");
    place.refuses(AIR, Exit::Policy, "the manifest expired");
}

#[test]
fn a_component_is_signed_for_a_class_of_its_own() {
    let place = Place::with_package();
    place.run(&format!("{PACKAGE} --component player --out @/component")).unwrap();
    let classes = |package: &str| {
        let envelope = fs::read(place.path(package).join("manifest.env")).unwrap();
        Manifest::read(Envelope::parse(&envelope).unwrap().payload()).unwrap().classes
    };
    let [firmware] = classes("pkg")[..] else { panic!("one class") };
    let derived = proto::trust::component_class(firmware, &"player".parse().unwrap());
    assert_eq!(classes("component"), [derived]);
    place.refuses(&format!("{PACKAGE} --component a/b --out @/x"), Exit::Usage, "");
}

#[test]
fn what_serve_cannot_begin_with_is_refused() {
    let place = Place::with_keys();
    files::write_secret(&place.path("token"), b"0123456789abcdef\n").unwrap();
    fs::create_dir(place.path("data")).unwrap();
    let serve = "serve --data @/data --listen 127.0.0.1:0 --root @/keys/root.env \
        --token-file @/token --interface 127.0.0.1";
    let with = |from: &str, to: &str| serve.replace(from, to);
    place.refuses(&with("127.0.0.1:0", "0.0.0.0:0"), Exit::Policy, "--insecure-http");
    place.refuses(&with("@/data", "@/none"), Exit::NotFound, "none");
    place.refuses(&with("@/token", "@/none"), Exit::NotFound, "none");
    place.refuses(&with("root.env", "none.env"), Exit::NotFound, "none.env");
    let elsewhere = with("--interface 127.0.0.1", "--interface 192.0.2.77");
    place.refuses(&elsewhere, Exit::Network, "interface 192.0.2.77");
    let source = format!("{serve} --source 192.0.2.77");
    place.refuses(&source, Exit::Network, "source 192.0.2.77");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.refuses(&with("127.0.0.1:0", &address), Exit::Conflict, &address);
    fs::write(place.path("token"), b"short").unwrap();
    place.refuses(serve, Exit::Configuration, "shorter than 16");
    fs::set_permissions(place.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    place.refuses(serve, Exit::Configuration, "chmod 600");
}

#[test]
fn the_command_line_is_consistent_and_teaches() {
    use clap::CommandFactory as _;
    Arguments::command().debug_assert();
    assert!(Place::empty().run("air").unwrap_err().exit() == Exit::Usage);
}
