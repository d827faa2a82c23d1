//! DM sessions between the real client and the real server, and their messages through the tools
//! of others.
//!
//! | module | holds |
//! | --- | --- |
//! | `transcripts` | what both sides say, as snapshots |
//! | `components` | software components, as snapshots |
//! | `tools` | every message through `wbxml2xml`, `xml2wbxml` and `tshark` |
//! | `talk` | client, device, server and store in one process, no sockets |
//! | `device` | a device that writes down what the session does to it |
//! | `paper` | messages as text for people |
//! | `tls` | certificates, over real sockets |

#[cfg(test)]
mod components;
#[cfg(test)]
mod device;
#[cfg(test)]
mod paper;
#[cfg(test)]
mod talk;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod transcripts;
