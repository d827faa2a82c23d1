//! Data that crosses a boundary, as types: octets in, octets out, no clock, no socket, no file.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] | the cursor over untrusted octets and its error |
//! | [`words!`] | macro for enums with a text for each value |
//! | [`ids`], [`time`] | identifiers, UTC and monotonic times, as distinct types |
//! | [`peer`] | addresses of peers as they are counted |
//! | [`crypto`] | SHA-256, Ed25519, AES-256-GCM, random numbers, constant-time comparison |
//! | [`fec`] | FEC parameters, block partitioning, the codecs |
//! | [`flute`] | LCT, ALC and FDT: the packets on air |
//! | [`sap`] | announcements of sessions |
//! | [`sdp`] | session descriptions: the parameters for a receiver to join |
//! | [`pcap`] | packet captures, and the datagrams in them |
//! | [`dm`] | OMA DM: SyncML messages, authentication, alerts, bootstrap, FUMO, SCOMO |
//! | [`trust`] | signed documents, and the hash plan that authenticates packets |
//! | [`tune_in`] | the `fumocast:` URL and the window |
//! | [`control`] | messages between dm-bridge and carousel |
//! | `markup` | XML as peers write it: encoding, document type, references |
//! | `fixtures` | keys, documents and packets for tests, behind the feature `fixtures` |
//!
//! # Tolerances
//!
//! An odd part of a document costs itself, and no more. A tolerance of one reader is one of all
//! readers of its kind, by the same code:
//!
//! | odd part | answer | readers | code |
//! | --- | --- | --- | --- |
//! | encoding: BOM, UTF-16, ISO 8859-1, another one declared than is used | read | all of XML: SyncML, TNDS, descriptors, FDT | `markup::decode` |
//! | document type without declarations | skipped; its DTD is not fetched | all of XML | `markup::check_document_type` |
//! | document type with declarations, entities beyond those of XML | document refused: they could expand | all of XML | `markup` |
//! | processing instructions, comments, attributes of vendors | skipped | all of XML | `dm::xml`, `flute::fdt` |
//! | octets after the root element | not read | SyncML, TNDS, descriptors | `dm::xml` |
//! | elements of another namespace, whatever their name | skipped | all of XML | `dm::xml`, `flute::fdt` |
//! | namespaces that are not declared | taken for those of the document | SyncML, TNDS, descriptors | `dm::xml` |
//! | unknown elements | skipped | SyncML, TNDS, descriptors, FDT | `dm::encoding`, `flute::fdt` |
//! | WBXML: unknown tags, attributes, pages, extensions, processing instructions | skipped | SyncML, TNDS, provisioning documents | `dm::wbxml` |
//! | WBXML: octets after the root element | not read | SyncML, TNDS, provisioning documents | `dm::wbxml` |
//! | WBXML: public identifier by the string table, of any version; charset | read; texts end at a zero | SyncML, TNDS, provisioning documents | `dm::wbxml::head` |
//! | parameter of a provisioning document with an unknown token | parameter left out | provisioning documents | `dm::bootstrap::prov` |
//! | unknown or malformed command | a Status of its own, the others are carried out | SyncML, both sides | [`dm::syncml::Rejected`] |
//! | identifiers that are words | repeated as they are, up to 32 octets | SyncML, both sides | [`dm::identifier`] |
//! | Status or Results without CmdID, Status without Cmd | read by their references | SyncML, both sides | `dm::encoding` |
//! | another VerDTD or VerProto | 505 or 513 for the header | SyncML, both sides | `dm::encoding` |

pub mod base64_text;
pub mod control;
pub mod crypto;
pub mod dm;
pub mod fec;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod flute;
pub mod ids;
mod markup;
pub mod pcap;
pub mod peer;
pub mod sap;
pub mod sdp;
pub mod time;
pub mod trust;
pub mod tune_in;
pub mod wire;

mod words;
