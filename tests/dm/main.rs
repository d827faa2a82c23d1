//! DM sessions between the real client and the real server, and their messages through the tools
//! of others.
//!
//! | module | holds |
//! | --- | --- |
//! | `transcripts` | snapshots of DM sessions |
//! | `shapes` | whole sessions of scripted devices of other shapes |
//! | `components` | software components, as snapshots |
//! | `odd_parts` | sessions whose messages have odd parts on their way |
//! | `tools` | every message through `wbxml2xml`, `xml2wbxml` and `tshark` |
//! | `harness` | client, device, server and store in one process, no sockets |
//! | `device` | a device that records what the session does to it |
//! | `message_text` | messages as text for people |
//! | `foreign` | devices and servers of others, with accounts of their own |
//! | `tls` | certificates, over real sockets |
//! | `user_code` | proofs of bootstrap documents, against a second implementation |

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]

#[cfg(test)]
mod components;
#[cfg(test)]
mod device;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod message_text;
#[cfg(test)]
mod odd_parts;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod transcripts;
#[cfg(test)]
mod user_code;
