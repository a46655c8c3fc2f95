//! The claims of a token.

use super::json::{self, JsonObject, JsonValue};

/// Times beyond this many seconds since 1970 are treated as this one, which a floating-point number
/// can still represent exactly.
const MAX_SECONDS: f64 = (1u64 << 53) as f64;

/// The claims of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    all: JsonObject,
    /// When the token expires, in ms since 1970.
    pub expires: Option<u64>,
    /// When the token becomes valid, in ms since 1970.
    pub not_before: Option<u64>,
    /// When the token was issued, in ms since 1970.
    pub issued: Option<u64>,
}

impl Claims {
    /// Parses claims. Returns `None` if they are not a JSON object, or if a registered claim has
    /// another form than it must have.
    pub fn parse(bytes: &[u8]) -> Option<Claims> {
        let all = json::parse_object(bytes)?;
        let is_text = |name: &str| matches!(all.get(name), None | Some(JsonValue::Text(_)));
        if !is_text("sub") || !is_text("iss") {
            return None;
        }
        let time = |name: &str| match all.get(name) {
            None => Some(None),
            Some(JsonValue::Integer(seconds)) => milliseconds(*seconds as f64).map(Some),
            Some(JsonValue::Float(seconds)) => milliseconds(*seconds).map(Some),
            Some(_) => None,
        };
        let (expires, not_before, issued) = (time("exp")?, time("nbf")?, time("iat")?);
        Some(Claims { expires, not_before, issued, all })
    }

    /// Returns the claim at a path: `["realm", "access"]` is `claims["realm"]["access"]`.
    pub(in crate::access) fn at(&self, path: &[impl AsRef<str>]) -> Option<&JsonValue> {
        let (last, objects) = path.split_last()?;
        let object = objects.iter().try_fold(&self.all, |object, name| {
            match object.get(name.as_ref())? {
                JsonValue::Object(inner) => Some(inner),
                _ => None,
            }
        })?;
        object.get(last.as_ref())
    }

    /// Returns the text of the claim at a path, if it is a string, an integer of 64 bits, or a
    /// boolean.
    pub fn text_at(&self, path: &[impl AsRef<str>]) -> Option<String> {
        self.at(path)?.text()
    }

    /// Returns the text of a claim; see `text_at`.
    pub fn text(&self, name: &str) -> Option<String> {
        self.text_at(&[name])
    }

    /// Whether a claim is one of these values, or an array that contains one of them.
    pub fn has_any(&self, name: &str, values: &[impl AsRef<str>]) -> bool {
        let is_value = |claim: &JsonValue| {
            claim.text().is_some_and(|text| values.iter().any(|value| value.as_ref() == text))
        };
        match self.all.get(name) {
            Some(JsonValue::List(list)) => list.iter().any(is_value),
            Some(claim) => is_value(claim),
            None => false,
        }
    }

    /// Whether a claim is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|claim| *claim != JsonValue::Null)
    }
}

/// Converts seconds since 1970. Returns `None` if they are negative.
fn milliseconds(seconds: f64) -> Option<u64> {
    let is_valid = seconds.is_finite() && seconds >= 0.0;
    is_valid.then(|| (seconds.min(MAX_SECONDS) * 1000.0) as u64)
}
