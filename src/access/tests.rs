//! Valid tokens of every algorithm, and attacks: each has to be refused.

mod claims;
mod key_files;
mod signatures;

use super::algorithm::Algorithm;
use super::base64::tests::encode_url;
use super::key_file::{self, KeyFileError, KeyFormat};
use super::requirements::Requirements;
use super::verify::{KeyUsage, RefusalReason, TokenRefusal, TokenRules, TrustedKey};
use ring::hmac;

const RSA_PEM: &str = include_str!("tests/rsa.pem");
const RSA_JWK: &str = include_str!("tests/rsa.jwk");
const RSA_TOKENS: &str = include_str!("tests/rsa-tokens.txt");
const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// 2026-01-01, in ms since 1970.
const NOW: u64 = 1_767_225_600_000;
const CLAIMS: &str = r#"{"sub":"alice","exp":1767225660}"#;

fn trusted(file: &[u8], format: KeyFormat, algorithms: &[Algorithm]) -> Vec<TrustedKey> {
    let file = key_file::parse(file, format, algorithms).unwrap();
    file.keys.into_iter().map(|key| TrustedKey { key, issuer: None, usage: None }).collect()
}

fn secret() -> Vec<TrustedKey> {
    trusted(SECRET, KeyFormat::Secret, &[])
}

/// Rules that require nothing but a valid signature and time.
fn rules<'a>(keys: &'a [TrustedKey], requirements: &'a Requirements) -> TokenRules<'a> {
    TokenRules { keys, usage: KeyUsage::Subscribe, requirements, kind: None, leeway: 0 }
}

fn verified(keys: &[TrustedKey], token: &str) -> Result<String, TokenRefusal> {
    let requirements = Requirements::default();
    let rules = rules(keys, &requirements);
    rules.verify(token.as_bytes(), NOW).map(|claims| claims.text("sub").unwrap_or_default())
}

fn reason(keys: &[TrustedKey], token: &str) -> RefusalReason {
    verified(keys, token).unwrap_err().reason
}

fn signed(header: &str, claims: &str) -> String {
    format!("{}.{}", encode_url(header.as_bytes()), encode_url(claims.as_bytes()))
}

/// A token that is signed with this secret.
fn hmac_token(secret: &[u8], header: &str, claims: &str) -> String {
    let signed = signed(header, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", encode_url(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

fn hs256(header: &str, claims: &str) -> String {
    hmac_token(SECRET, header, claims)
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn tokens_of_every_algorithm_are_verified() {
    assert_eq!(verified(&secret(), &hs256(HEADER, CLAIMS)), Ok("alice".into()));
    for line in RSA_TOKENS.lines() {
        let (name, token) = line.split_once(' ').unwrap();
        let algorithm = Algorithm::from_name(name).unwrap();
        for file in [RSA_PEM, RSA_JWK, include_str!("tests/rsa-pkcs1.pem")] {
            let keys = trusted(file.as_bytes(), KeyFormat::Recognized, &[algorithm]);
            assert_eq!(verified(&keys, token), Ok("alice".into()), "{name}");
        }
    }
    for (pem, token) in [
        (include_str!("tests/p256.pem"), include_str!("tests/p256-token.txt")),
        (include_str!("tests/p384.pem"), include_str!("tests/p384-token.txt")),
        (include_str!("tests/ed25519.pem"), include_str!("tests/ed25519-token.txt")),
    ] {
        let keys = trusted(pem.as_bytes(), KeyFormat::Recognized, &[]);
        assert_eq!(verified(&keys, token.trim_end()), Ok("alice".into()), "{pem}");
        let flipped = token.trim_end().replacen('.', ".e", 1);
        assert!(verified(&keys, &flipped).is_err());
    }
    for (name, with) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        let signed = signed(&format!(r#"{{"alg":"{name}"}}"#), CLAIMS);
        let tag = hmac::sign(&hmac::Key::new(with, SECRET), signed.as_bytes());
        let token = format!("{signed}.{}", encode_url(tag.as_ref()));
        let keys = trusted(SECRET, KeyFormat::Secret, &[Algorithm::from_name(name).unwrap()]);
        assert_eq!(verified(&keys, &token), Ok("alice".into()), "{name}");
        assert_eq!(reason(&secret(), &token), RefusalReason::Algorithm, "{name}");
    }
}

#[test]
fn tokens_of_other_libraries_are_verified() {
    // npm's jose 5, with a set of keys.
    let keys = trusted(include_bytes!("tests/jose.jwks"), KeyFormat::Recognized, &[]);
    for token in include_str!("tests/jose-tokens.txt").lines() {
        assert_eq!(verified(&keys, token), Ok("bob".into()), "{token}");
    }
    // lcobucci/jwt 5, whose times have fractions of a second (t/tokens/issuers/lcobucci.php).
    let keys = trusted(include_bytes!("tests/lcobucci.jwks"), KeyFormat::Recognized, &[]);
    for token in include_str!("tests/lcobucci-tokens.txt").lines() {
        assert_eq!(verified(&keys, token), Ok("bob".into()), "{token}");
    }
    // PyJWT 2, with several keys in one file, and with fractions of a second.
    let algorithms = [Algorithm::Rs512, Algorithm::Es256, Algorithm::EdDsa];
    let keys = trusted(include_bytes!("tests/pyjwt.pem"), KeyFormat::Recognized, &algorithms);
    for token in include_str!("tests/pyjwt-tokens.txt").lines() {
        assert_eq!(verified(&keys, token), Ok("bob".into()), "{token}");
    }
}

#[test]
fn header_members_that_change_the_meaning_are_refused() {
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""b64":false,"crit":["b64"]"#,
        r#""b64":false"#,
        r#""zip":"DEF""#,
        r#""enc":"A128GCM""#,
        r#""typ":1"#,
        r#""alg":"HS256""#,
    ] {
        let token = hs256(&format!(r#"{{"alg":"HS256",{member}}}"#), CLAIMS);
        assert_eq!(reason(&secret(), &token), RefusalReason::Malformed, "{member}");
    }
}

#[test]
fn other_forms_of_a_token_are_refused() {
    let token = hs256(HEADER, CLAIMS);
    let (header, rest) = token.split_once('.').unwrap();
    let (payload, tag) = rest.split_once('.').unwrap();
    let longest = format!("{token}{}", "A".repeat(8193 - token.len()));
    let padded = |len: usize| {
        let claims = format!("{}{}", CLAIMS, " ".repeat(len));
        hs256(HEADER, &claims)
    };
    // Four characters encode three bytes.
    let fits = (6_000..).map(padded).take_while(|token| token.len() <= 8192).last().unwrap();
    assert!(fits.len() > 8190);
    assert_eq!(verified(&secret(), &fits), Ok("alice".into()));
    for changed in [
        String::new(),
        ".".into(),
        "..".into(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{tag}"),
        format!("{token}.{tag}.{tag}"),
        format!("{token}="),
        format!("{header}=.{payload}.{tag}"),
        format!("{header}.{payload}==.{tag}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{header} .{payload}.{tag}"),
        format!("{header}.{payload}.{tag}\n"),
        format!("{header}.{payload}.+/+/"),
        format!("{header}..{tag}"),
        format!(".{payload}.{tag}"),
        format!("{}.{payload}.{tag}", encode_url(b"[]")),
        format!("{}.{payload}.{tag}", encode_url(b"null")),
        format!("{}.{payload}.{tag}", encode_url(b"HS256")),
        format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{tag}"}}"#),
        longest,
    ] {
        assert_eq!(reason(&secret(), &changed), RefusalReason::Malformed, "{changed}");
    }
    // The last digit of a tag of 32 bytes has two bits that do not belong to a byte.
    let last = tag.as_bytes()[tag.len() - 1];
    let spare = char::from(last + 1);
    let changed = format!("{header}.{payload}.{}{spare}", &tag[..tag.len() - 1]);
    assert!(verified(&secret(), &changed).is_err());
}
