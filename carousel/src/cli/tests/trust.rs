//! Keys that are not here: roots, manifests and campaigns signed by a token, and roots rotated.

use super::*;
use crate::key_file;
use proto::fixtures::documents::random_key;

/// A token: it signs octets.
struct Token(SigningKey);

impl Token {
    fn new() -> Self {
        Self(random_key())
    }

    fn id(&self) -> String {
        self.0.public().key_id()
    }

    fn public(&self) -> String {
        format!("{:?}", self.0.public())
    }

    /// Signs the octets that `to-sign` wrote for a document; writes the signature beside them.
    fn sign(&self, lab: &Lab, file: &str, root: &str) -> Result<(), CliError> {
        lab.run(&format!("trust to-sign {file} {root} --out @/octets --json"))?;
        let octets = fs::read(lab.path("octets")).unwrap();
        let signature = self.0.sign(&octets).map(|octet| format!("{octet:02x}")).concat();
        fs::write(lab.path("signature"), signature).unwrap();
        let key = self.public();
        lab.run(&format!(
            "trust add-signature {file} {root} --public-key {key} --signature @/signature"
        ))
    }
}

fn read_root(lab: &Lab, name: &str) -> Vec<u8> {
    fs::read(lab.path(name)).unwrap()
}

#[test]
fn tokens_make_a_root_of_two_of_three_and_rotate_it_without_a_key_here() {
    let lab = Lab::empty();
    let [a, b, c, d] = [(); 4].map(|()| Token::new());
    let release = Token::new();
    fs::write(lab.path("b.pem"), key_file::public_pem(&b.0.public())).unwrap();
    let others = format!("--add release={0} --add campaign={0}", release.public());
    let (one, three) = (a.public(), c.public());
    lab.run(&format!(
        "trust create --add root={one} --add root=@/b.pem --add root={three} \
             --threshold root=2 {others} --out @/1.root"
    ))
    .unwrap();
    assert!(Root::from_factory(&read_root(&lab, "1.root")).is_err(), "nobody has signed");
    a.sign(&lab, "@/1.root", "").unwrap();
    a.sign(&lab, "@/1.root", "").unwrap();
    assert!(Root::from_factory(&read_root(&lab, "1.root")).is_err(), "one has signed twice");
    let stranger = d.sign(&lab, "@/1.root", "").unwrap_err();
    assert_eq!(stranger.exit_code(), ExitCode::Refused);
    c.sign(&lab, "@/1.root", "").unwrap();
    let first = Root::from_factory(&read_root(&lab, "1.root")).unwrap();

    // The first token was lost.
    let (lost, fresh) = (a.id(), d.public());
    lab.run(&format!(
        "trust rotate @/1.root --remove root={lost} --add root={fresh} --floor 9 --out @/2.root"
    ))
    .unwrap();
    b.sign(&lab, "@/2.root", "--root @/1.root").unwrap();
    d.sign(&lab, "@/2.root", "--root @/1.root").unwrap();
    let second = read_root(&lab, "2.root");
    assert!(Root::successor(&first, &second).is_err(), "one of root 1 has signed");
    lab.refuses("trust inspect @/2.root --root @/1.root", ExitCode::Refused, "missing");
    c.sign(&lab, "@/2.root", "--root @/1.root").unwrap();
    lab.run("trust inspect @/2.root --root @/1.root --json").unwrap();
    let second = Root::successor(&first, &read_root(&lab, "2.root")).unwrap();
    assert_eq!((second.version, second.sequence_floor), (2, 9));
    assert!(!second.keys(Role::Root).keys.contains(&a.0.public()));
}

#[test]
fn tokens_sign_a_manifest_and_a_campaign_and_the_package_is_aired() {
    let lab = Lab::empty();
    let [root, release, operator] = [(); 3].map(|()| Token::new());
    fs::write(lab.path("image"), [7; 5000]).unwrap();
    let (one, two, three) = (root.public(), release.public(), operator.public());
    lab.run(&format!(
        "trust create --add root={one} --add release={two} --add campaign={three} --out @/root"
    ))
    .unwrap();
    root.sign(&lab, "@/root", "").unwrap();
    let package = PACKAGE.replace("--key @/keys/release.key", "--unsigned");
    lab.run(&format!("{} --out @/pkg", package.replace("@/keys/root.env", "@/root"))).unwrap();
    let refused = operator.sign(&lab, "@/pkg/manifest.env", "--root @/root").unwrap_err();
    assert!(refused.to_string().contains("release keys of root 1"), "{refused}");
    release.sign(&lab, "@/pkg/manifest.env", "--root @/root").unwrap();
    lab.run("plan @/pkg --symbol-size 64").unwrap();
    lab.run(&format!("{BUILD} --out @/pkg/campaign.env")).unwrap();
    let air = format!("{AIR} --root @/root --passes 1 --json");
    lab.refuses(&air, ExitCode::Refused, "campaign");
    operator.sign(&lab, "@/pkg/campaign.env", "--root @/root").unwrap();
    lab.run("trust inspect @/pkg/campaign.env --root @/root").unwrap();
    lab.run("trust inspect @/pkg/manifest.env --root @/root --json").unwrap();
    lab.run(&air).unwrap();
}

#[test]
fn a_signature_over_other_bytes_is_not_taken() {
    let lab = Lab::with_package();
    let release = Token(lab.key("release"));
    let octets = fs::read(lab.path("pkg/manifest.env")).unwrap();
    fs::write(lab.path("signature"), release.0.sign(&octets)).unwrap();
    let key = release.public();
    let add = format!(
        "trust add-signature @/pkg/manifest.env --public-key {key} --signature @/signature"
    );
    lab.refuses(&add, ExitCode::Refused, "is not one of key");
    fs::write(lab.path("signature"), b"no signature").unwrap();
    lab.refuses(&add, ExitCode::Configuration, "expected 64 octets");
    let file = format!("--public-key {key}");
    lab.refuses(&add.replace(&file, "--public-key @/image"), ExitCode::Configuration, "image");
    assert_eq!(fs::read(lab.path("pkg/manifest.env")).unwrap(), octets, "as it was");
}

#[test]
fn key_files_sign_what_is_rotated_and_pem_keys_do() {
    let lab = Lab::with_keys();
    lab.run("key new --out @/second.key").unwrap();
    let rotate = "trust rotate @/keys/root.env --add root=@/second.key --threshold root=2 \
        --out @/2.root --key @/keys/root.key";
    lab.run(rotate).unwrap();
    lab.refuses(rotate, ExitCode::Conflict, "2.root");
    lab.run("trust sign @/2.root --root @/keys/root.env --key @/second.key --json").unwrap();
    let first = Root::from_factory(&read_root(&lab, "keys/root.env")).unwrap();
    assert!(Root::successor(&first, &read_root(&lab, "2.root")).is_ok());
    let sign = "trust sign @/2.root --root @/keys/root.env --key @/keys/release.key";
    lab.refuses(sign, ExitCode::Refused, "none of root 2 and root 1");
    lab.refuses("trust sign @/image --key @/second.key", ExitCode::Configuration, "longer than");
    lab.run("trust rotate @/2.root --new-epoch --out @/3.root").unwrap();
    let third = read_root(&lab, "3.root");
    let third = Root::read(Envelope::parse(&third).unwrap().payload()).unwrap();
    assert_eq!((third.version, third.epoch), (3, 2));
    lab.run("key show @/second.key --pem").unwrap();
}

#[test]
fn what_makes_no_root_is_refused_by_name() {
    let lab = Lab::with_keys();
    let rotate = |options: &str| format!("trust rotate @/keys/root.env {options} --out @/2.root");
    lab.refuses(&rotate("--threshold root=2"), ExitCode::Usage, "the role has 1 keys");
    lab.refuses(&rotate("--add owner=@/keys/root.key"), ExitCode::Usage, "role is owner");
    lab.refuses(&rotate("--add root"), ExitCode::Usage, "ROLE=VALUE");
    lab.refuses(&rotate("--threshold root=x"), ExitCode::Usage, "ROLE=NUMBER");
    lab.refuses(&rotate("--remove root=0011"), ExitCode::NotFound, "no root key 0011");
    lab.refuses(&rotate("--add root=@/none"), ExitCode::NotFound, "none");
    lab.refuses(&rotate("--expires now"), ExitCode::Policy, "--expires");
    lab.refuses(&rotate("--key @/keys/release.key"), ExitCode::Refused, "none of root 2");
    let create = "trust create --add root=@/keys/root.key --out @/1.root";
    lab.refuses(create, ExitCode::Usage, "no release key");
    let campaign = rotate("").replace("root.env", "root.key");
    lab.refuses(&campaign, ExitCode::Refused, "root.key");
    assert!(!lab.path("2.root").exists() && !lab.path("1.root").exists());
}
