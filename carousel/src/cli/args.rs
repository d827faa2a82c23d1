//! What the command line understands.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use proto::{
    ids::{ClassId, PackageId, VendorId},
    trust::Role,
};

use crate::shell::{air::AirOrder, announce::AnnounceOrder, send::SendOrder, serve::ServeOrder};

/// Puts signed firmware on the air: one transmission for a whole fleet.
///
/// A package is made once: `package` copies and signs the image, `plan` makes every symbol that
/// will ever go on air, `campaign build` and `campaign sign` say on which devices it may be put and
/// within which limits. `air` sends it by hand, `serve` when the management server says so.
///
/// Exit codes: 0 ok, 2 usage, 3 configuration, 4 network, 5 signature or digest refused, 6 not
/// found, 7 conflict, 8 refused by policy, 75 incomplete but resumable, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "carousel", version)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make and rotate the root that everything is checked against; sign with keys or tokens
    ///
    /// A root names the keys of three roles (root, release, campaign) and how many of each must
    /// sign. Version N+1 is believed by those who hold N when the thresholds of both have signed.
    ///
    /// A lab, with one key for each role:
    ///
    ///   carousel trust init --dir keys
    ///
    /// A fleet: the public halves come from people with tokens, and signatures go back and forth:
    ///
    ///   carousel trust create --add root=alice.pem --add root=bob.pem --add root=carol.pem \
    ///       --threshold root=2 --add release=HEX --add campaign=HEX --out 1.root.env
    ///   carousel trust to-sign 1.root.env --out 1.root.octets
    ///   pkcs11-tool --sign --mechanism EDDSA --input-file 1.root.octets --output-file alice.sig
    ///   carousel trust add-signature 1.root.env --public-key alice.pem --signature alice.sig
    ///
    /// A key was stolen: take it out of the next root, which both sets of root keys sign:
    ///
    ///   carousel trust rotate 1.root.env --remove campaign=KEYID --add campaign=new.pem \
    ///       --out 2.root.env
    ///   carousel trust sign 2.root.env --root 1.root.env --key alice.key --key bob.key
    ///   carousel trust inspect 2.root.env --root 1.root.env
    ///
    /// Devices are brought the roots that they lack: `dm-bridge campaign create --root 2.root.env
    /// --root 1.root.env`.
    #[command(verbatim_doc_comment)]
    Trust {
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Make a signing key, or show whose a key is
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a package of an image: copy it, sign its manifest
    Package(PackageOrder),
    /// Make every symbol of a package's images in sending order, and hash them
    Plan(PlanOrder),
    /// Put the documents and an image of a package into one file, for unicast and local media
    ///
    /// A tar of manifest.env, campaign.env and N.img: `dm-bridge campaign create --package` serves
    /// it to devices that cannot hear the broadcast, `receiver import` takes it from a stick.
    Bundle(BundleOrder),
    /// Make, sign and read campaigns
    Campaign {
        #[command(subcommand)]
        command: CampaignCommand,
    },
    /// Put a package on the air by hand
    Air(AirOrder),
    /// Send plain files to any FLUTE receiver: for labs, unsigned
    ///
    /// Nothing proves to a receiver who sent a plain file; devices in the field take packages
    /// (`package`, `plan`, `campaign`, `air`). With RaptorQ the first pass sends the files, each
    /// later one nothing but repair symbols that were never sent before, so that a receiver which
    /// came late or lost packets gains from all that it hears.
    ///
    /// Order: rows of one symbol of each block of each file, so that a burst of losses costs all
    /// blocks alike. Repair symbols are made ahead, block by block, as many as --memory holds; a
    /// block is coded anew for each batch, so a high rate wants much memory or a fast machine.
    ///
    /// Example, on one machine:
    ///
    ///   receiver listen --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --out /tmp/in --once
    ///   carousel send firmware.bin --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --passes 2
    #[command(verbatim_doc_comment)]
    Send(SendOrder),
    /// Print what a receiver must know to join a session, and announce it by SAP
    ///
    /// Takes the options that the session is sent with, and prints a session description (SDP) that
    /// `receiver listen --sdp FILE` and other receivers take. With --sap it is also sent to the
    /// group on which sessions are announced (224.2.127.254, for groups in 239/8 239.255.255.255,
    /// port 9875), every 200 to 400 seconds as RFC 2974 has it, and withdrawn at the end.
    ///
    /// Example, for the session of the example of `send`:
    ///
    ///   carousel announce --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --tsi 7 > lab.sdp
    ///   receiver listen --sdp lab.sdp --interface 127.0.0.1 --out /tmp/in --once
    ///   carousel send firmware.bin --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --tsi 7
    #[command(verbatim_doc_comment)]
    Announce(AnnounceOrder),
    /// Wait for the management server's orders and keep the windows it names
    Serve(ServeOrder),
}

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Make one key for each role and a root that names them, for a lab
    Init(TrustInit),
    /// Make root 1 of public keys; signed by the keys that are at hand
    Create(TrustCreate),
    /// Make the root that follows: other keys, thresholds, floor or epoch
    Rotate(TrustRotate),
    /// Print exactly the octets that a token must sign, and whose signatures are wanted
    ToSign(ToSign),
    /// Take a signature back that a token made; it is checked before it is added
    AddSignature(AddSignature),
    /// Sign a root, a manifest or a campaign with key files
    Sign(TrustSign),
    /// Show a document, who has signed it and who must; with --root, exit 5 unless it is enough
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(super) struct BundleOrder {
    /// The package, with its signed campaign
    pub(super) dir: PathBuf,
    /// Where the bundle goes
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Which component
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) component: u8,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What a root says.
#[derive(Debug, Args)]
pub(super) struct RootTerms {
    /// Key that a role gets: 64 hex digits or a file (PEM, DER); may be repeated
    #[arg(long, value_name = "ROLE=KEY", value_parser = super::keys::of_role)]
    pub(super) add: Vec<(Role, String)>,
    /// How many keys of a role must sign; may be repeated [default: unchanged, first 1]
    #[arg(long, value_name = "ROLE=N", value_parser = super::keys::role_threshold)]
    pub(super) threshold: Vec<(Role, u32)>,
    /// Lowest sequence that devices accept; within an epoch it only rises
    #[arg(long)]
    pub(super) floor: Option<u64>,
    /// When the next root must have been made: RFC 3339 or +3650d
    #[arg(long, default_value = "+3650d")]
    pub(super) expires: String,
    /// Root key that signs at once; may be repeated
    #[arg(long)]
    pub(super) key: Vec<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustCreate {
    #[command(flatten)]
    pub(super) terms: RootTerms,
    /// File for the root; must not exist
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct TrustRotate {
    /// The root in force
    pub(super) current: PathBuf,
    #[command(flatten)]
    pub(super) terms: RootTerms,
    /// Id of a key that a role loses; may be repeated
    #[arg(long, value_name = "ROLE=KEYID", value_parser = super::keys::of_role)]
    pub(super) remove: Vec<(Role, String)>,
    /// Void all that was signed before and count sequences anew: the answer to a stolen key that
    /// signed the highest sequence
    #[arg(long)]
    pub(super) new_epoch: bool,
    /// File for the next root; must not exist
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ToSign {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Root that says whose signatures are wanted; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the octets, as they are; without it they are printed in base64
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddSignature {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Public key of the signer: 64 hex digits or a file (PEM, DER)
    #[arg(long, value_name = "KEY")]
    pub(super) public_key: String,
    /// File with the signature: 64 octets, in hex or base64
    #[arg(long, value_name = "FILE")]
    pub(super) signature: PathBuf,
    /// Root that says who may sign; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the result [default: in place]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustSign {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Private key (PKCS#8, mode 0600 or 0400); may be repeated
    #[arg(long, required = true)]
    pub(super) key: Vec<PathBuf>,
    /// Root that says who may sign; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the result [default: in place]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Root that says who must sign; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustInit {
    /// Directory for root.key, release.key, campaign.key (mode 0600) and root.env
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make an Ed25519 key (PKCS#8, mode 0600)
    New {
        /// File to write; must not exist
        #[arg(long)]
        out: PathBuf,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the id and the public half of a key
    Show {
        /// Private key, or a public one: PEM, DER, hex
        file: PathBuf,
        /// Print the public key as PEM, as `openssl pkey -pubout` does
        #[arg(long, conflicts_with = "json")]
        pem: bool,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct PackageOrder {
    /// Firmware image
    #[arg(long)]
    pub(super) image: PathBuf,
    /// Version of the firmware, shown and reported
    #[arg(long)]
    pub(super) version: String,
    /// Vendor id, 32 hex digits
    #[arg(long)]
    pub(super) vendor: VendorId,
    /// Class of devices that may take it, 32 hex digits; may be repeated
    #[arg(long, required = true)]
    pub(super) class: Vec<ClassId>,
    /// The image is a software component of this identifier, not firmware: the manifest names
    /// classes derived from it and from `--class`
    #[arg(long, value_name = "PKGID")]
    pub(super) component: Option<PackageId>,
    /// Counts up with every release of this class
    #[arg(long)]
    pub(super) sequence: u64,
    /// Lowest sequence that devices accept once this release has confirmed itself
    #[arg(long, default_value_t = 0)]
    pub(super) floor: u64,
    /// When the package may no longer be used: RFC 3339 or +365d
    #[arg(long, default_value = "+365d")]
    pub(super) expires: String,
    /// Release key; repeated where the root wants several
    #[arg(long, required_unless_present = "unsigned")]
    pub(super) key: Vec<PathBuf>,
    /// Leave the manifest to be signed by tokens: `trust to-sign` and `trust add-signature`
    #[arg(long, conflicts_with = "key")]
    pub(super) unsigned: bool,
    /// Root document that names the release keys
    #[arg(long)]
    pub(super) root: PathBuf,
    /// Package directory to make
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanOrder {
    /// Package directory
    pub(super) dir: PathBuf,
    /// Octets of a symbol
    #[arg(long, default_value_t = 1408)]
    pub(super) symbol_size: u16,
    /// Largest source block that every device can decode
    #[arg(long, default_value_t = 8192)]
    pub(super) max_block_symbols: u32,
    /// Symbols to make, in units of the image's own
    #[arg(long, default_value_t = 2.0)]
    pub(super) factor: f64,
    /// Loss in percent at which symbol tables still arrive
    #[arg(long, default_value_t = 30)]
    pub(super) loss_budget: u8,
    /// Threads that code; each needs about four source blocks of memory [default: one a core, at most 4]
    #[arg(long)]
    pub(super) threads: Option<NonZeroUsize>,
    /// Answer with one JSON array
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CampaignCommand {
    /// Make a campaign of a planned package
    Build(CampaignBuild),
    /// Sign a campaign, or add a signature to a signed one
    Sign(CampaignSign),
    /// Show what a campaign says and who signed it
    Inspect {
        /// Campaign, signed or not
        file: PathBuf,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("result").required(true).multiple(true).args(["out", "key"])))]
pub(super) struct CampaignBuild {
    /// Package directory, with its plans
    pub(super) dir: PathBuf,
    /// Address that an image server sends from; may be repeated
    #[arg(long, required = true)]
    pub(super) source: Vec<IpAddr>,
    /// Earliest moment on air: RFC 3339, now, +10m, +2h
    #[arg(long, default_value = "now")]
    pub(super) not_before: String,
    /// Latest moment on air
    #[arg(long)]
    pub(super) latest_stop: String,
    /// Counts up with every campaign of this class
    #[arg(long)]
    pub(super) sequence: u64,
    /// Seconds over which devices may be asked to spread their reports
    #[arg(long, default_value_t = 3600)]
    pub(super) report_spread_max: u32,
    /// File for the unsigned campaign
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Campaign key: sign at once into DIR/campaign.env; repeated where the root wants several
    #[arg(long)]
    pub(super) key: Vec<PathBuf>,
    /// Root document, to check the key's role before it signs
    #[arg(long, requires = "key")]
    pub(super) root: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CampaignSign {
    /// Campaign, signed or not
    pub(super) file: PathBuf,
    /// Campaign key
    #[arg(long)]
    pub(super) key: PathBuf,
    /// Root document that names the campaign keys
    #[arg(long)]
    pub(super) root: PathBuf,
    /// File for the signed campaign
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
