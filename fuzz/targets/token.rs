//! A token that is accepted is valid in every respect, whatever its claims look like, and a text that
//! is parsed as a token has no other spelling.

use crate::access::key::{KeyMaterial, TokenKey};
use crate::access::requirements::Requirements;
use crate::access::token::{JsonWebToken, MAX_LEN};
use crate::access::verify::{KeyUsage, TokenRules, TrustedKey};
use ring::hmac;

/// 2026-01-01, in ms since 1970.
const NOW: u64 = 1_767_225_600_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes....";

pub fn run(input: &[u8]) {
    parse(input);
    verify(input);
}

/// Parses any bytes as a token.
fn parse(input: &[u8]) {
    let Ok(token) = JsonWebToken::parse(input) else { return };
    assert!(input.len() <= MAX_LEN);
    assert_eq!(input.iter().filter(|byte| **byte == b'.').count(), 2);
    let spelled = |bytes: &[u8]| encoded(bytes).into_bytes();
    let signed = std::str::from_utf8(token.signed).unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    assert_eq!(payload.as_bytes(), spelled(&token.payload));
    assert_eq!(input[signed.len() + 1..], spelled(&token.signature));
}

/// Verifies a token that has any bytes as its claims.
fn verify(claims: &[u8]) {
    let signed = format!("{}.{}", encoded(br#"{"alg":"HS256"}"#), encoded(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    let token = format!("{signed}.{}", encoded(tag.as_ref()));
    let material = KeyMaterial::Secret(SECRET.into());
    let key = TokenKey { id: None, algorithms: vec![material.default_algorithm()], material };
    let (keys, requirements) =
        ([TrustedKey { key, issuer: None, usage: None }], Requirements::default());
    let rules = TokenRules {
        keys: &keys,
        usage: KeyUsage::Subscribe,
        requirements: &requirements,
        kind: None,
        leeway: 0,
    };
    match rules.verify(token.as_bytes(), NOW) {
        Ok(accepted) => {
            assert!(accepted.expires.is_some_and(|time| time > NOW));
            assert!(accepted.not_before.is_none_or(|time| time <= NOW));
            let known: serde_json::Value = serde_json::from_slice(claims).unwrap();
            assert_eq!(
                known.get("sub").and_then(|sub| sub.as_str()),
                accepted.text("sub").as_deref()
            );
        }
        Err(refused) => assert!(refused.why.is_ascii(), "{}", refused.why),
    }
}

/// Encodes base64url without padding.
fn encoded(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(digits[(bits >> (18 - 6 * index)) as usize & 63]));
        }
    }
    text
}
