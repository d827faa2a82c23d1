//! Accounts of the devices at the management server.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// URL of the management server.
pub const URL: &str = "http://127.0.0.1/dm";
/// The nonce that every device is enrolled with.
pub const NONCE: [u8; 16] = [3; 16];

/// The random octets that the management server's password is made of.
pub const SERVER_SECRET: [u8; 32] = [33; 32];

/// Returns the password that a device was enrolled with.
pub fn password(number: usize) -> String {
    BASE64_STANDARD.encode(secret(number))
}

/// Returns the password of the management server.
pub fn server_password() -> String {
    BASE64_STANDARD.encode(SERVER_SECRET)
}

/// Returns the random octets that the password of a device is made of.
pub fn secret(number: usize) -> [u8; 32] {
    [u8::try_from(number).unwrap_or_default().wrapping_add(40); 32]
}
