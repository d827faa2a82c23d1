//! The arguments of the command line.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use proto::{
    ids::{ClassId, PackageId, VendorId},
    trust::Role,
};

use crate::shell::{air::AirArgs, announce::AnnounceArgs, send::SendArgs, serve::ServeArgs};

/// Broadcast signed firmware: one transmission for a whole fleet.
///
/// A package is made once: `package` copies and signs the image, `plan` encodes every symbol that
/// will be sent, `campaign build` and `campaign sign` release it for devices within limits. `air`
/// sends it by hand, `serve` in the windows that the management server requests.
///
/// Exit codes: 0 done, 2 usage, 3 configuration, 4 network, 5 signature or digest rejected, 6 not
/// found, 7 conflict, 8 rejected by policy, 75 incomplete, resumable, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "carousel", version)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make and rotate the root of trust; sign with keys or tokens
    ///
    /// A root names the keys of three roles (root, release, campaign) and how many of each must
    /// sign. Devices with version N accept version N+1 when the thresholds of both have signed.
    ///
    /// A lab, with one key for each role:
    ///
    ///   carousel trust init --dir keys
    ///
    /// A fleet: people with tokens hold the keys, and send public keys and signatures:
    ///
    ///   carousel trust create --add root=alice.pem --add root=bob.pem --add root=carol.pem \
    ///       --threshold root=2 --add release=HEX --add campaign=HEX --out 1.root.env
    ///   carousel trust to-sign 1.root.env --out 1.root.octets
    ///   pkcs11-tool --sign --mechanism EDDSA --input-file 1.root.octets --output-file alice.sig
    ///   carousel trust add-signature 1.root.env --public-key alice.pem --signature alice.sig
    ///
    /// A key was stolen: remove it from the next root, which both sets of root keys sign:
    ///
    ///   carousel trust rotate 1.root.env --remove campaign=KEYID --add campaign=new.pem \
    ///       --out 2.root.env
    ///   carousel trust sign 2.root.env --root 1.root.env --key alice.key --key bob.key
    ///   carousel trust inspect 2.root.env --root 1.root.env
    ///
    /// Devices receive the roots that they lack: `dm-bridge campaign create --root 2.root.env
    /// --root 1.root.env`.
    #[command(verbatim_doc_comment)]
    Trust {
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Make a signing key, or show its id
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a package of an image: copy it, sign its manifest
    Package(PackageArgs),
    /// Encode every symbol of a package's images in sending order, and hash them
    Plan(PlanArgs),
    /// Put the documents and an image of a package into one file, for unicast and local media
    ///
    /// A tar of manifest.env, campaign.env and N.img: `dm-bridge campaign create --package` serves
    /// it to devices that cannot receive the broadcast, `receiver import` reads it from a stick.
    Bundle(BundleArgs),
    /// Make, sign and read campaigns
    Campaign {
        #[command(subcommand)]
        command: CampaignCommand,
    },
    /// Put a package on the air by hand
    Air(AirArgs),
    /// Send unsigned files to any FLUTE receiver, for labs
    ///
    /// Nothing authenticates the sender of these files; devices in the field use packages
    /// (`package`, `plan`, `campaign`, `air`). With RaptorQ the first pass sends the files, each
    /// later one only repair symbols that were never sent before, so that each of them is useful to
    /// a receiver which joined late or lost packets.
    ///
    /// Order: rows of one symbol of each block of each file, so that a burst of losses costs all
    /// blocks alike. Repair symbols are encoded ahead, block by block, as many as --memory holds; a
    /// block is encoded anew for each batch, so a high rate needs much memory or a fast machine.
    ///
    /// Example, on one machine:
    ///
    ///   receiver listen --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --out in --once
    ///   carousel send image.bin --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --passes 2
    #[command(verbatim_doc_comment)]
    Send(SendArgs),
    /// Print the description of a session, and announce it by SAP
    ///
    /// Use the options that the session is sent with; the session description (SDP) is for
    /// `receiver listen --sdp FILE` and other receivers. With --sap it is also sent to the group on
    /// which sessions are announced (224.2.127.254, for groups in 239/8 239.255.255.255, port
    /// 9875), every 200 to 400 seconds as RFC 2974 has it, and withdrawn at the end.
    ///
    /// Example, for the session of the example of `send`:
    ///
    ///   carousel announce --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --tsi 7 > lab.sdp
    ///   receiver listen --sdp lab.sdp --interface 127.0.0.1 --out in --once
    ///   carousel send image.bin --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --tsi 7
    #[command(verbatim_doc_comment)]
    Announce(AnnounceArgs),
    /// Serve the control API, and air packages in their windows
    Serve(ServeArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Make one key for each role and a root that names them, for a lab
    Init(TrustInitArgs),
    /// Make root 1 of public keys, signed by the given keys
    Create(TrustCreateArgs),
    /// Make the next root, with other keys, thresholds, floor or epoch
    Rotate(TrustRotateArgs),
    /// Print exactly the octets that a token must sign, and the required signers
    ToSign(ToSignArgs),
    /// Add a signature that a token made, after checking it
    AddSignature(AddSignatureArgs),
    /// Sign a root, a manifest or a campaign with key files
    Sign(TrustSignArgs),
    /// Show a document and its signatures; with --root, exit 5 when signatures are missing
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The package, with its signed campaign
    pub(super) dir: PathBuf,
    /// File for the bundle
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Number of the component
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) component: u8,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// The content of a root.
#[derive(Debug, Args)]
pub(super) struct RootArgs {
    /// Key to add to a role: 64 hex digits or a file (PEM, DER); may be repeated
    #[arg(long, value_name = "ROLE=KEY", value_parser = super::keys::of_role)]
    pub(super) add: Vec<(Role, String)>,
    /// Number of keys of a role that must sign; may be repeated [default: unchanged, first 1]
    #[arg(long, value_name = "ROLE=N", value_parser = super::keys::role_threshold)]
    pub(super) threshold: Vec<(Role, u32)>,
    /// Lowest sequence that devices accept; within an epoch it only rises
    #[arg(long)]
    pub(super) floor: Option<u64>,
    /// Expiry, by which the next root must exist: RFC 3339 or +3650d
    #[arg(long, default_value = "+3650d")]
    pub(super) expires: String,
    /// Root key to sign with; may be repeated
    #[arg(long)]
    pub(super) key: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustCreateArgs {
    #[command(flatten)]
    pub(super) terms: RootArgs,
    /// File for the root; must not exist
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct TrustRotateArgs {
    /// The root in force
    pub(super) current: PathBuf,
    #[command(flatten)]
    pub(super) terms: RootArgs,
    /// Id of a key to remove from a role; may be repeated
    #[arg(long, value_name = "ROLE=KEYID", value_parser = super::keys::of_role)]
    pub(super) remove: Vec<(Role, String)>,
    /// Void all earlier signatures and count sequences anew, after a stolen key signed the highest
    /// sequence
    #[arg(long)]
    pub(super) new_epoch: bool,
    /// File for the next root; must not exist
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ToSignArgs {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Root that names the required signers; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the octets, as they are [default: print them in base64]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddSignatureArgs {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Public key of the signer: 64 hex digits or a file (PEM, DER)
    #[arg(long, value_name = "KEY")]
    pub(super) public_key: String,
    /// File with the signature: 64 octets, in hex or base64
    #[arg(long, value_name = "FILE")]
    pub(super) signature: PathBuf,
    /// Root that names the permitted signers; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the result [default: in place]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustSignArgs {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Private key (PKCS#8, mode 0600 or 0400); may be repeated
    #[arg(long, required = true)]
    pub(super) key: Vec<PathBuf>,
    /// Root that names the permitted signers; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// File for the result [default: in place]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Root, manifest or campaign
    pub(super) file: PathBuf,
    /// Root that names the required signers; for a root, the one before it
    #[arg(long)]
    pub(super) root: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrustInitArgs {
    /// Directory for root.key, release.key, campaign.key (mode 0600) and root.env
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Print one JSON object
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
        /// Print one JSON object
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
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct PackageArgs {
    /// Firmware image
    #[arg(long)]
    pub(super) image: PathBuf,
    /// Version of the firmware, shown and reported
    #[arg(long)]
    pub(super) version: String,
    /// Vendor id, 32 hex digits
    #[arg(long)]
    pub(super) vendor: VendorId,
    /// Class of devices that may install it, 32 hex digits; may be repeated
    #[arg(long, required = true)]
    pub(super) class: Vec<ClassId>,
    /// Identifier of a software component, when the image is not firmware; the manifest then names
    /// classes derived from it and from `--class`
    #[arg(long, value_name = "PKGID")]
    pub(super) component: Option<PackageId>,
    /// Sequence number; rises with every release of this class
    #[arg(long)]
    pub(super) sequence: u64,
    /// Lowest sequence that devices accept once this release has confirmed itself
    #[arg(long, default_value_t = 0)]
    pub(super) floor: u64,
    /// Expiry of the package: RFC 3339 or +365d
    #[arg(long, default_value = "+365d")]
    pub(super) expires: String,
    /// Release key; repeated where the root requires several
    #[arg(long, required_unless_present = "unsigned")]
    pub(super) key: Vec<PathBuf>,
    /// Leave the manifest unsigned, for tokens: `trust to-sign` and `trust add-signature`
    #[arg(long, conflicts_with = "key")]
    pub(super) unsigned: bool,
    /// Root document that names the release keys
    #[arg(long)]
    pub(super) root: PathBuf,
    /// Package directory to make
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
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
    /// Encoder threads; each needs memory for four source blocks [default: one a core, at most 4]
    #[arg(long)]
    pub(super) threads: Option<NonZeroUsize>,
    /// Print one JSON array
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CampaignCommand {
    /// Make a campaign of a planned package
    Build(CampaignBuildArgs),
    /// Sign a campaign, or add a signature to a signed one
    Sign(CampaignSignArgs),
    /// Show a campaign and its signatures
    Inspect {
        /// Campaign, signed or not
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("result").required(true).multiple(true).args(["out", "key"])))]
pub(super) struct CampaignBuildArgs {
    /// Package directory, with its plans
    pub(super) dir: PathBuf,
    /// Source address of an image server; may be repeated
    #[arg(long, required = true)]
    pub(super) source: Vec<IpAddr>,
    /// Earliest moment on air: RFC 3339, now, +10m, +2h
    #[arg(long, default_value = "now")]
    pub(super) not_before: String,
    /// Latest moment on air
    #[arg(long)]
    pub(super) latest_stop: String,
    /// Sequence number; rises with every campaign of this class
    #[arg(long)]
    pub(super) sequence: u64,
    /// Upper limit in seconds for the spread of reports
    #[arg(long, default_value_t = 3600)]
    pub(super) report_spread_max: u32,
    /// File for the unsigned campaign
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Campaign key to sign with, into DIR/campaign.env; repeated where the root requires several
    #[arg(long)]
    pub(super) key: Vec<PathBuf>,
    /// Root document, to check the role of the key
    #[arg(long, requires = "key")]
    pub(super) root: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CampaignSignArgs {
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
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
