//! The form of a token: a JSON Web Signature in compact serialization (RFC 7515).

use super::algorithm::Algorithm;
use super::base64::decode_url;
use super::json::{self, JsonValue};

/// Maximum length of a token in bytes.
pub const MAX_LEN: usize = 8192;

/// Members of a header that change what the token means. They are not supported, and a token that
/// has one is not valid.
const UNSUPPORTED: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// A token whose signature has not been verified.
#[derive(Debug)]
pub struct JsonWebToken<'t> {
    /// The bytes that are signed.
    pub signed: &'t [u8],
    /// The claims, decoded.
    pub payload: Vec<u8>,
    /// The signature, decoded.
    pub signature: Vec<u8>,
    /// The `alg` of the header.
    pub algorithm: Algorithm,
    /// The `kid` of the header: the key that has signed the token.
    pub key_id: Option<String>,
    /// The `typ` of the header.
    pub kind: Option<String>,
}

/// Why bytes are not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFormError {
    /// They do not have the form of a token.
    Malformed,
    /// The header names no supported algorithm.
    Algorithm,
}

impl<'t> JsonWebToken<'t> {
    /// Parses a token.
    pub fn parse(text: &'t [u8]) -> Result<JsonWebToken<'t>, TokenFormError> {
        JsonWebToken::parts(text).ok_or(TokenFormError::Malformed)?
    }

    /// Parses a token. Returns `None` if it is malformed.
    fn parts(text: &'t [u8]) -> Option<Result<JsonWebToken<'t>, TokenFormError>> {
        if text.len() > MAX_LEN {
            return None;
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let signed = text.get(..header.len() + 1 + payload.len())?;
        let header = json::parse_object(&decode_url(header)?)?;
        let (payload, signature) = (decode_url(payload)?, decode_url(signature)?);
        if UNSUPPORTED.iter().any(|name| header.contains_key(*name)) {
            return None;
        }
        let text = |name: &str| match header.get(name) {
            None => Some(None),
            Some(JsonValue::Text(text)) => Some(Some(text.clone())),
            Some(_) => None,
        };
        let (key_id, kind) = (text("kid")?, text("typ")?);
        let algorithm = match header.get("alg") {
            Some(JsonValue::Text(name)) => Algorithm::from_name(name),
            _ => None,
        };
        let Some(algorithm) = algorithm else { return Some(Err(TokenFormError::Algorithm)) };
        Some(Ok(JsonWebToken { signed, payload, signature, algorithm, key_id, kind }))
    }

    /// Whether the token is of a kind (`typ`), regardless of case and of the prefix `application/`.
    pub fn is_of_kind(&self, wanted: &str) -> bool {
        self.kind.as_deref().is_some_and(|kind| bare(kind).eq_ignore_ascii_case(bare(wanted)))
    }
}

/// Returns a media type without the prefix `application/`, which a header may omit.
fn bare(kind: &str) -> &str {
    const PREFIX: &str = "application/";
    match kind.get(..PREFIX.len()) {
        Some(start) if start.eq_ignore_ascii_case(PREFIX) => {
            kind.get(PREFIX.len()..).unwrap_or_default()
        }
        _ => kind,
    }
}
