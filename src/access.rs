//! Access tokens: JSON Web Tokens (RFC 7519) that are signed as described in RFC 7515 and 7518, the
//! keys that verify them, and what their claims allow.
//!
//! All of this is pure functions over bytes, which depend on neither nginx, a hub, nor a clock: the
//! time is an argument.
//!
//! - `base64`, `der`, `json`: encodings of keys and tokens
//! - `algorithm`, `key`, `key_file`: the algorithms, keys, and the files in which keys are stored
//! - `source`: how a request carries a token
//! - `token`, `claims`, `requirements`, `verify`: parses a token, and decides whether it is valid
//! - `expiry`: the time at which a permission ends
//! - `channel_claim`: the channels that a token allows

// This layer handles untrusted bytes.
#![warn(clippy::indexing_slicing)]

pub mod algorithm;
pub mod channel_claim;
pub mod claims;
pub mod expiry;
pub mod key;
pub mod key_file;
pub mod requirements;
pub mod source;
pub mod token;
pub mod verify;

mod base64;
mod der;
mod json;

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;
