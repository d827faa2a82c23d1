//! Keys that are not here: roots, manifests and campaigns signed by a token, and roots rotated.

use super::*;
use crate::key_file;

/// A token: it is given octets and answers a signature.
struct Token(SigningKey);

impl Token {
    fn new() -> Self {
        Self(SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).unwrap())
    }

    fn id(&self) -> String {
        self.0.public().key_id()
    }

    fn public(&self) -> String {
        format!("{:?}", self.0.public())
    }

    /// Signs what `to-sign` wrote for a document; lays the signature down beside it.
    fn sign(&self, place: &Place, file: &str, root: &str) -> Result<(), Failure> {
        place.run(&format!("trust to-sign {file} {root} --out @/octets --json"))?;
        let octets = fs::read(place.path("octets")).unwrap();
        let signature = self.0.sign(&octets).map(|octet| format!("{octet:02x}")).concat();
        fs::write(place.path("signature"), signature).unwrap();
        let key = self.public();
        place.run(&format!(
            "trust add-signature {file} {root} --public-key {key} --signature @/signature"
        ))
    }
}

fn read_root(place: &Place, name: &str) -> Vec<u8> {
    fs::read(place.path(name)).unwrap()
}

#[test]
fn tokens_make_a_root_of_two_of_three_and_rotate_it_without_a_key_here() {
    let place = Place::empty();
    let [a, b, c, d] = [(); 4].map(|()| Token::new());
    let release = Token::new();
    fs::write(place.path("b.pem"), key_file::public_pem(&b.0.public())).unwrap();
    let others = format!("--add release={0} --add campaign={0}", release.public());
    let (one, three) = (a.public(), c.public());
    place
        .run(&format!(
            "trust create --add root={one} --add root=@/b.pem --add root={three} \
             --threshold root=2 {others} --out @/1.root"
        ))
        .unwrap();
    assert!(Root::from_factory(&read_root(&place, "1.root")).is_err(), "nobody has signed");
    a.sign(&place, "@/1.root", "").unwrap();
    a.sign(&place, "@/1.root", "").unwrap();
    assert!(Root::from_factory(&read_root(&place, "1.root")).is_err(), "one has signed twice");
    let stranger = d.sign(&place, "@/1.root", "").unwrap_err();
    assert_eq!(stranger.exit(), Exit::Refused);
    c.sign(&place, "@/1.root", "").unwrap();
    let first = Root::from_factory(&read_root(&place, "1.root")).unwrap();

    // The first token was lost.
    let (lost, fresh) = (a.id(), d.public());
    place
        .run(&format!(
            "trust rotate @/1.root --remove root={lost} --add root={fresh} --floor 9 --out @/2.root"
        ))
        .unwrap();
    b.sign(&place, "@/2.root", "--root @/1.root").unwrap();
    d.sign(&place, "@/2.root", "--root @/1.root").unwrap();
    let second = read_root(&place, "2.root");
    assert!(Root::successor(&first, &second).is_err(), "one of root 1 has signed");
    place.refuses("trust inspect @/2.root --root @/1.root", Exit::Refused, "missing");
    c.sign(&place, "@/2.root", "--root @/1.root").unwrap();
    place.run("trust inspect @/2.root --root @/1.root --json").unwrap();
    let second = Root::successor(&first, &read_root(&place, "2.root")).unwrap();
    assert_eq!((second.version, second.sequence_floor), (2, 9));
    assert!(!second.keys(Role::Root).keys.contains(&a.0.public()));
}

#[test]
fn tokens_sign_a_manifest_and_a_campaign_and_the_package_is_aired() {
    let place = Place::empty();
    let [root, release, operator] = [(); 3].map(|()| Token::new());
    fs::write(place.path("image"), [7; 5000]).unwrap();
    let (one, two, three) = (root.public(), release.public(), operator.public());
    place
        .run(&format!(
            "trust create --add root={one} --add release={two} --add campaign={three} --out @/root"
        ))
        .unwrap();
    root.sign(&place, "@/root", "").unwrap();
    let package = PACKAGE.replace("--key @/keys/release.key", "--unsigned");
    place.run(&format!("{} --out @/pkg", package.replace("@/keys/root.env", "@/root"))).unwrap();
    let refused = operator.sign(&place, "@/pkg/manifest.env", "--root @/root").unwrap_err();
    assert!(refused.to_string().contains("release keys of root 1"), "{refused}");
    release.sign(&place, "@/pkg/manifest.env", "--root @/root").unwrap();
    place.run("plan @/pkg --symbol-size 64").unwrap();
    place.run(&format!("{BUILD} --out @/pkg/campaign.env")).unwrap();
    let air = format!("{AIR} --root @/root --passes 1 --json");
    place.refuses(&air, Exit::Refused, "campaign");
    operator.sign(&place, "@/pkg/campaign.env", "--root @/root").unwrap();
    place.run("trust inspect @/pkg/campaign.env --root @/root").unwrap();
    place.run("trust inspect @/pkg/manifest.env --root @/root --json").unwrap();
    place.run(&air).unwrap();
}

#[test]
fn a_signature_over_other_octets_is_not_taken() {
    let place = Place::with_package();
    let release = Token(place.key("release"));
    let octets = fs::read(place.path("pkg/manifest.env")).unwrap();
    fs::write(place.path("signature"), release.0.sign(&octets)).unwrap();
    let key = release.public();
    let add = format!(
        "trust add-signature @/pkg/manifest.env --public-key {key} --signature @/signature"
    );
    place.refuses(&add, Exit::Refused, "is not one of key");
    fs::write(place.path("signature"), b"no signature").unwrap();
    place.refuses(&add, Exit::Configuration, "expected 64 octets");
    let file = format!("--public-key {key}");
    place.refuses(&add.replace(&file, "--public-key @/image"), Exit::Configuration, "image");
    assert_eq!(fs::read(place.path("pkg/manifest.env")).unwrap(), octets, "as it was");
}

#[test]
fn key_files_sign_what_is_rotated_and_pem_keys_do() {
    let place = Place::with_keys();
    place.run("key new --out @/second.key").unwrap();
    let rotate = "trust rotate @/keys/root.env --add root=@/second.key --threshold root=2 \
        --out @/2.root --key @/keys/root.key";
    place.run(rotate).unwrap();
    place.refuses(rotate, Exit::Conflict, "2.root");
    place.run("trust sign @/2.root --root @/keys/root.env --key @/second.key --json").unwrap();
    let first = Root::from_factory(&read_root(&place, "keys/root.env")).unwrap();
    assert!(Root::successor(&first, &read_root(&place, "2.root")).is_ok());
    let sign = "trust sign @/2.root --root @/keys/root.env --key @/keys/release.key";
    place.refuses(sign, Exit::Refused, "none of root 2 and root 1");
    place.refuses("trust sign @/image --key @/second.key", Exit::Configuration, "longer than");
    place.run("trust rotate @/2.root --new-epoch --out @/3.root").unwrap();
    let third = read_root(&place, "3.root");
    let third = Root::read(Envelope::parse(&third).unwrap().payload()).unwrap();
    assert_eq!((third.version, third.epoch), (3, 2));
    place.run("key show @/second.key --pem").unwrap();
}

#[test]
fn what_makes_no_root_is_refused_by_name() {
    let place = Place::with_keys();
    let rotate = |rest: &str| format!("trust rotate @/keys/root.env {rest} --out @/2.root");
    place.refuses(&rotate("--threshold root=2"), Exit::Usage, "the role has 1 keys");
    place.refuses(&rotate("--add owner=@/keys/root.key"), Exit::Usage, "the roles are");
    place.refuses(&rotate("--add root"), Exit::Usage, "ROLE=VALUE");
    place.refuses(&rotate("--threshold root=x"), Exit::Usage, "ROLE=NUMBER");
    place.refuses(&rotate("--remove root=0011"), Exit::NotFound, "no root key 0011");
    place.refuses(&rotate("--add root=@/none"), Exit::NotFound, "none");
    place.refuses(&rotate("--expires now"), Exit::Policy, "--expires");
    place.refuses(&rotate("--key @/keys/release.key"), Exit::Refused, "none of root 2");
    let create = "trust create --add root=@/keys/root.key --out @/1.root";
    place.refuses(create, Exit::Usage, "no release key");
    let campaign = rotate("").replace("root.env", "root.key");
    place.refuses(&campaign, Exit::Refused, "root.key");
    assert!(!place.path("2.root").exists() && !place.path("1.root").exists());
}
