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

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_claim_is_found_at_its_path() {
        let claims = claims(r#"{"a":{"b":{"c":"x"},"n":5},"a.b":"y","l":[{"b":"z"}],"t":true}"#);
        let at = |path: &[&str]| claims.text_at(path);
        assert_eq!(at(&["a", "b", "c"]), Some("x".into()));
        assert_eq!(at(&["a", "n"]), Some("5".into()));
        assert_eq!(at(&["a.b"]), Some("y".into()));
        assert_eq!((claims.text("t"), claims.text("a")), (Some("true".into()), None));
        for path in [
            &["a"][..],
            &["a", "b"],
            &["a", "b", "c", "d"],
            &["b"],
            &["l", "0", "b"],
            &["a", "x"],
            &[],
        ] {
            assert_eq!(at(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_claim_that_is_null_is_not_there() {
        let claims = claims(r#"{"a":null,"b":false,"c":{}}"#);
        assert_eq!(["a", "b", "c", "d"].map(|name| claims.has(name)), [false, true, true, false]);
        assert!(claims.has_any("b", &["x", "false"]) && !claims.has_any("c", &["{}"]));
    }

    #[test]
    fn times_are_in_milliseconds() {
        let claims = claims(r#"{"exp":1.5,"nbf":2,"iat":9007199254740993}"#);
        assert_eq!((claims.expires, claims.not_before), (Some(1_500), Some(2_000)));
        assert_eq!(claims.issued, Some((1 << 53) * 1_000));
    }
}
