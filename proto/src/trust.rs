//! Signed documents, and the hash plan that authenticates packets.
