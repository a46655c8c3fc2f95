//! JSON of tokens, parsed more strictly than usual: an object whose names are not distinct is
//! rejected, because parsers disagree about which of its values counts.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonValue {
    Null,
    Bool(bool),
    /// An integer of 64 bits, with or without a sign.
    Integer(i128),
    /// Any other number. Its digits are not retained.
    Float(f64),
    Text(String),
    List(Vec<JsonValue>),
    Object(JsonObject),
}

/// The members of a JSON object.
pub type JsonObject = BTreeMap<String, JsonValue>;

impl JsonValue {
    /// Returns the value as text, which identifies it: a string, an integer of 64 bits, or a
    /// boolean. Other values have no such text.
    pub fn text(&self) -> Option<String> {
        match self {
            JsonValue::Text(text) => Some(text.clone()),
            JsonValue::Integer(number) => Some(number.to_string()),
            JsonValue::Bool(value) => Some(value.to_string()),
            JsonValue::Null | JsonValue::Float(_) | JsonValue::List(_) | JsonValue::Object(_) => {
                None
            }
        }
    }
}

/// Parses an object. Returns `None` if the bytes are anything else.
pub fn parse_object(bytes: &[u8]) -> Option<JsonObject> {
    match serde_json::from_slice(bytes).ok()? {
        JsonValue::Object(object) => Some(object),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonValue, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// Builds a value.
struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<JsonValue, E> {
        Ok(JsonValue::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonValue, E> {
        Ok(JsonValue::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<JsonValue, E> {
        Ok(JsonValue::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(JsonValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonValue, A::Error> {
        let mut members = JsonObject::new();
        while let Some((name, value)) = map.next_entry::<String, JsonValue>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
        }
        Ok(JsonValue::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_at_every_depth() {
        assert!(parse_object(br#"{"a":1,"b":{"a":1}}"#).is_some());
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"a":2}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(parse_object(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn only_an_object_is_accepted() {
        for text in ["", "null", "[]", "1", "\"a\"", "{", "{}{}", "{} x", "{\"a\":1e400}", "{,}"] {
            assert_eq!(parse_object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_object(b"\xef\xbb\xbf{}"), None);
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}"), None);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(parse_object(deep.as_bytes()), None);
    }

    #[test]
    fn numbers_have_a_text_only_if_it_identifies_them() {
        let text =
            |json: &str| parse_object(format!("{{\"a\":{json}}}").as_bytes()).unwrap()["a"].text();
        assert_eq!(text("18446744073709551615"), Some("18446744073709551615".into()));
        assert_eq!(text("-9223372036854775808"), Some("-9223372036854775808".into()));
        for json in
            ["18446744073709551616", "-9223372036854775809", "1.0", "1e3", "null", "[1]", "{}"]
        {
            assert_eq!(text(json), None, "{json}");
        }
        assert_eq!(text("true"), Some("true".into()));
        assert_eq!(text("\"\""), Some(String::new()));
    }
}
