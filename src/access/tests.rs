//! Valid tokens of every algorithm, and attacks: each has to be refused.

use super::algorithm::Algorithm;
use super::base64::tests::encode_url;
use super::key_file::{self, KeyFileError, KeyFormat};
use super::requirements::Requirements;
use super::verify::{KeyUsage, RefusalReason, TokenRefusal, TokenRules, TrustedKey};
use ring::rand::SystemRandom;
use ring::signature::{
    EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
};
use ring::{hmac, signature};

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

fn verified(keys: &[TrustedKey], token: &str) -> Result<String, TokenRefusal> {
    let requirements = Requirements::default();
    let rules = TokenRules {
        keys,
        usage: KeyUsage::Subscribe,
        requirements: &requirements,
        kind: None,
        leeway: 0,
    };
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
    // PyJWT 2, with several keys in one file, and with fractions of a second.
    let algorithms = [Algorithm::Rs512, Algorithm::Es256, Algorithm::EdDsa];
    let keys = trusted(include_bytes!("tests/pyjwt.pem"), KeyFormat::Recognized, &algorithms);
    for token in include_str!("tests/pyjwt-tokens.txt").lines() {
        assert_eq!(verified(&keys, token), Ok("bob".into()), "{token}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let signed = signed(&format!(r#"{{"alg":"{name}"}}"#), CLAIMS);
        assert_eq!(reason(&secret(), &format!("{signed}.")), RefusalReason::Algorithm, "{name}");
    }
    for header in
        ["{}", r#"{"alg":null}"#, r#"{"alg":1}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":"hs256"}"#]
    {
        assert_eq!(reason(&secret(), &hs256(header, CLAIMS)), RefusalReason::Algorithm, "{header}");
    }
    let signed = signed(HEADER, CLAIMS);
    assert_eq!(reason(&secret(), &format!("{signed}.")), RefusalReason::Signature);
    assert_eq!(reason(&secret(), &signed), RefusalReason::Malformed);
}

/// The key is public, so a key must not be used as a secret.
#[test]
fn a_public_key_is_no_secret() {
    let der = super::base64::decode_any(
        RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect::<String>().as_bytes(),
    );
    let der = der.unwrap();
    let keys = trusted(RSA_PEM.as_bytes(), KeyFormat::Recognized, &[]);
    for secret in [RSA_PEM.as_bytes(), RSA_PEM.trim_end().as_bytes(), &der, RSA_JWK.as_bytes(), b""]
    {
        let token = hmac_token(secret, HEADER, CLAIMS);
        assert_eq!(reason(&keys, &token), RefusalReason::Algorithm);
    }
    for public in [
        RSA_PEM.as_bytes(),
        &der,
        RSA_JWK.as_bytes(),
        b"ssh-rsa AAAA",
        b"-----BEGIN CERTIFICATE-----",
    ] {
        let refused = key_file::parse(public, KeyFormat::Secret, &[]).unwrap_err();
        assert_eq!(refused, KeyFileError::NotASecret);
    }
    let encoded = encode_url(&der);
    let refused = key_file::parse(encoded.as_bytes(), KeyFormat::Base64Secret, &[]).unwrap_err();
    assert_eq!(refused, KeyFileError::NotASecret);
}

#[test]
fn a_key_is_used_with_its_own_algorithms_only() {
    let tokens: Vec<(&str, &str)> =
        RSA_TOKENS.lines().map(|line| line.split_once(' ').unwrap()).collect();
    for (trusted_name, _) in &tokens {
        let algorithm = Algorithm::from_name(trusted_name).unwrap();
        let keys = trusted(RSA_PEM.as_bytes(), KeyFormat::Recognized, &[algorithm]);
        for (name, token) in tokens.iter().filter(|(name, _)| name != trusted_name) {
            assert_eq!(reason(&keys, token), RefusalReason::Algorithm, "{name} {trusted_name}");
        }
    }
    let ec = trusted(include_bytes!("tests/p256.pem"), KeyFormat::Recognized, &[]);
    assert_eq!(reason(&ec, tokens[0].1), RefusalReason::Algorithm);
}

#[test]
fn a_changed_rsa_signature_is_refused() {
    let keys = trusted(RSA_PEM.as_bytes(), KeyFormat::Recognized, &[]);
    let token = RSA_TOKENS.lines().next().unwrap().split_once(' ').unwrap().1;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = super::base64::decode_url(signature.as_bytes()).unwrap();
    let mut longer = signature.clone();
    longer.push(0);
    let zero_first = [&[0], signature.as_slice()].concat();
    for changed in [&signature[1..], &signature[..255], &longer, &zero_first, &[0; 256], &[]] {
        let token = format!("{signed}.{}", encode_url(changed));
        assert_eq!(reason(&keys, &token), RefusalReason::Signature, "{}", changed.len());
    }
    let small = trusted(include_bytes!("tests/rsa-e3.pem"), KeyFormat::Recognized, &[]);
    let forged = include_str!("tests/rsa-e3-forged.txt").trim_end();
    assert_eq!(reason(&small, forged), RefusalReason::Signature);
}

#[test]
fn a_changed_ecdsa_signature_is_refused() {
    let random = SystemRandom::new();
    let pair = |with| {
        let document = EcdsaKeyPair::generate_pkcs8(with, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(with, document.as_ref(), &random).unwrap()
    };
    let pair_of: EcdsaKeyPair = pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let point = pair_of.public_key().as_ref();
    let jwk = format!(
        r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#,
        encode_url(&point[1..33]),
        encode_url(&point[33..])
    );
    let keys = trusted(jwk.as_bytes(), KeyFormat::Recognized, &[]);
    let signed = signed(r#"{"alg":"ES256"}"#, CLAIMS);
    let with = |signature: &[u8]| format!("{signed}.{}", encode_url(signature));
    let valid = pair_of.sign(&random, signed.as_bytes()).unwrap();
    let valid = valid.as_ref();
    assert_eq!(verified(&keys, &with(valid)), Ok("alice".into()));
    // The order of the group.
    let n: Vec<u8> =
        [0xffffffff00000000u64, 0xffffffffffffffff, 0xbce6faada7179e84, 0xf3b9cac2fc632551]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
    let (r, s) = valid.split_at(32);
    let longer = [valid, &[0]].concat();
    let zeros = [0; 32];
    for changed in [
        &[0; 64][..],
        &[r, zeros.as_slice()].concat(),
        &[zeros.as_slice(), s].concat(),
        &[n.as_slice(), s].concat(),
        &[r, n.as_slice()].concat(),
        &[0xff; 64],
        &[s, r].concat(),
        &valid[..63],
        &longer,
        &[],
    ] {
        assert_eq!(reason(&keys, &with(changed)), RefusalReason::Signature, "{changed:?}");
    }
    let asn1: EcdsaKeyPair = pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let signature = asn1.sign(&random, signed.as_bytes()).unwrap();
    assert_eq!(reason(&keys, &with(signature.as_ref())), RefusalReason::Signature);
}

#[test]
fn keys_in_a_token_are_not_used() {
    let random = SystemRandom::new();
    let document = signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = signature::Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let jwk = format!(
        r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#,
        encode_url(pair.public_key().as_ref())
    );
    let keys = trusted(include_bytes!("tests/ed25519.pem"), KeyFormat::Recognized, &[]);
    for member in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"http://127.0.0.1:1/keys""#.into(),
        r#""x5u":"http://127.0.0.1:1/keys","x5c":["AA"]"#.into(),
    ] {
        let signed = signed(&format!(r#"{{"alg":"EdDSA",{member}}}"#), CLAIMS);
        let token = format!("{signed}.{}", encode_url(pair.sign(signed.as_bytes()).as_ref()));
        assert_eq!(reason(&keys, &token), RefusalReason::Signature, "{member}");
        let own = trusted(jwk.as_bytes(), KeyFormat::Recognized, &[]);
        assert_eq!(verified(&own, &token), Ok("alice".into()), "{member}");
    }
}

#[test]
fn a_kid_only_chooses_among_keys() {
    let jwks = format!(
        r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{}"}},{{"kty":"oct","kid":"b","k":"{}"}}]}}"#,
        encode_url(SECRET),
        encode_url(b"another secret"),
    );
    let keys = trusted(jwks.as_bytes(), KeyFormat::Recognized, &[]);
    let token = |kid: &str| hs256(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), CLAIMS);
    assert_eq!(verified(&keys, &token("\"a\"")), Ok("alice".into()));
    assert_eq!(reason(&keys, &token("\"b\"")), RefusalReason::Signature);
    let long = format!("\"{}\"", "a".repeat(5000));
    for kid in ["\"/dev/null\"", "\"' OR 1=1 --\"", "\"a\\u0000\"", "\"\"", &long] {
        assert_eq!(reason(&keys, &token(kid)), RefusalReason::Key, "{kid}");
        let empty = hmac_token(b"", &format!(r#"{{"alg":"HS256","kid":{kid}}}"#), CLAIMS);
        assert_eq!(reason(&keys, &empty), RefusalReason::Key, "{kid}");
    }
    assert_eq!(reason(&keys, &hs256(HEADER, CLAIMS)), RefusalReason::Key);
    for kid in ["1", "null", "[]", "{}"] {
        assert_eq!(reason(&keys, &token(kid)), RefusalReason::Malformed, "{kid}");
    }
    // The key that verifies this token is the fifth.
    let many: Vec<TrustedKey> = (0..4)
        .flat_map(|number| trusted(format!("{number}").as_bytes(), KeyFormat::Secret, &[]))
        .chain(secret())
        .collect();
    assert_eq!(reason(&many, &hs256(HEADER, CLAIMS)), RefusalReason::Signature);
    assert_eq!(verified(&many[1..], &hs256(HEADER, CLAIMS)), Ok("alice".into()));
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

#[test]
fn malformed_claims_are_refused() {
    let deep = format!(r#"{{"exp":9e9,"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    for claims in [
        "",
        "null",
        "[]",
        "1",
        "\"exp\"",
        "{",
        "{}x",
        r#"{"exp":9e9,"exp":9e9}"#,
        r#"{"exp":9e9,"sub":"a","sub":"b"}"#,
        &deep,
        r#"{"exp":"9000000000"}"#,
        r#"{"exp":1e400}"#,
        r#"{"exp":-1}"#,
        r#"{"exp":null}"#,
        r#"{"exp":[9e9]}"#,
        r#"{"exp":true}"#,
        r#"{"exp":9e9,"nbf":"1"}"#,
        r#"{"exp":9e9,"iat":-1}"#,
        r#"{"exp":9e9,"sub":1}"#,
        r#"{"exp":9e9,"sub":["a"]}"#,
        r#"{"exp":9e9,"iss":["a"]}"#,
    ] {
        assert_eq!(reason(&secret(), &hs256(HEADER, claims)), RefusalReason::Malformed, "{claims}");
    }
}

#[test]
fn a_token_is_valid_in_its_time() {
    let with_leeway = |claims: &str, leeway: u64| {
        let (keys, requirements) = (secret(), Requirements::default());
        let rules = TokenRules {
            keys: &keys,
            usage: KeyUsage::Subscribe,
            requirements: &requirements,
            kind: None,
            leeway,
        };
        rules.verify(hs256(HEADER, claims).as_bytes(), NOW).map_err(|refusal| refusal.reason)
    };
    let check = |claims: &str, leeway| with_leeway(claims, leeway).map(|_| ());
    for claims in [r#"{"exp":1767225600}"#, r#"{"exp":0}"#, r#"{"exp":1767225599.999}"#] {
        assert_eq!(check(claims, 0), Err(RefusalReason::Expired), "{claims}");
    }
    for claims in [
        r#"{"exp":1767225601}"#,
        r#"{"exp":1767225600.5}"#,
        r#"{"exp":1.767225601e9}"#,
        r#"{"exp":9223372036854775808}"#,
        r#"{"exp":1e300}"#,
        r#"{"exp":1767225601,"nbf":1767225600}"#,
    ] {
        assert_eq!(check(claims, 0), Ok(()), "{claims}");
    }
    assert_eq!(check(r#"{"exp":1767225590}"#, 10_000), Err(RefusalReason::Expired));
    assert_eq!(check(r#"{"exp":1767225591}"#, 10_000), Ok(()));
    let ahead = r#"{"exp":1767225700,"nbf":1767225610}"#;
    assert_eq!(check(ahead, 0), Err(RefusalReason::NotYet));
    assert_eq!(check(ahead, 10_000), Ok(()));
    assert_eq!(check(r#"{"exp":1767225700,"nbf":1e300}"#, 300_000), Err(RefusalReason::NotYet));
    assert_eq!(check(r#"{"sub":"alice"}"#, 0), Err(RefusalReason::Claim));
    assert_eq!(with_leeway(r#"{"exp":1e300}"#, 0).unwrap().expires, Some((1 << 53) * 1000));
}

#[test]
fn a_key_verifies_tokens_of_its_issuer_and_use_only() {
    let mut keys = secret();
    keys[0].issuer = Some("https://a.example".into());
    let token = |iss: &str| hs256(HEADER, &format!(r#"{{"iss":"{iss}","exp":9e9,"sub":"x"}}"#));
    assert_eq!(verified(&keys, &token("https://a.example")), Ok("x".into()));
    for iss in ["https://a.example/", "https://a.exampl", "", "HTTPS://a.example"] {
        assert_eq!(reason(&keys, &token(iss)), RefusalReason::Key, "{iss}");
    }
    assert_eq!(reason(&keys, &hs256(HEADER, CLAIMS)), RefusalReason::Key);
    // A key of another issuer.
    keys.extend(trusted(b"another secret", KeyFormat::Secret, &[]));
    keys[1].issuer = Some("https://b.example".into());
    let claims = r#"{"iss":"https://a.example","exp":9e9}"#;
    let token = hmac_token(b"another secret", HEADER, claims);
    assert_eq!(reason(&keys, &token), RefusalReason::Signature);

    let mut keys = secret();
    keys[0].usage = Some(KeyUsage::Publish);
    assert_eq!(reason(&keys, &hs256(HEADER, CLAIMS)), RefusalReason::Algorithm);
}

#[test]
fn the_type_is_compared_without_its_prefix() {
    let (keys, requirements) = (secret(), Requirements::default());
    let of_kind = |wanted: &str, header: &str| {
        let rules = TokenRules {
            keys: &keys,
            usage: KeyUsage::Subscribe,
            requirements: &requirements,
            kind: Some(wanted),
            leeway: 0,
        };
        rules.verify(hs256(header, CLAIMS).as_bytes(), NOW).is_ok()
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "APPLICATION/at+JWT"] {
        assert!(of_kind("at+jwt", &format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), "{typ}");
    }
    for typ in ["JWT", "", "application/", "x/at+jwt"] {
        assert!(!of_kind("at+jwt", &format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), "{typ}");
    }
    assert!(!of_kind("at+jwt", r#"{"alg":"HS256"}"#));
}

#[test]
fn a_refusal_shows_the_subject_only_if_the_signature_is_valid() {
    let why = |token: &str| verified(&secret(), token).unwrap_err().why;
    let claims = r#"{"exp":1767225588,"iss":"i\n","sub":"bob"}"#;
    assert_eq!(why(&hs256(HEADER, claims)), "expired 12 s ago, iss i\\n, sub bob");
    assert_eq!(why(&hmac_token(b"x", HEADER, claims)), "signature is invalid, iss i\\n");
}

#[test]
fn unusable_key_files_are_refused() {
    let refused =
        |file: &str| key_file::parse(file.as_bytes(), KeyFormat::Recognized, &[]).unwrap_err();
    assert_eq!(refused(""), KeyFileError::Empty);
    assert_eq!(refused(" \n"), KeyFileError::Empty);
    assert_eq!(refused("a secret"), KeyFileError::UnknownFormat);
    assert_eq!(refused("{"), KeyFileError::UnknownFormat);
    assert_eq!(refused(r#"{"keys":1}"#), KeyFileError::UnknownFormat);
    assert!(matches!(refused(r#"{"keys":[]}"#), KeyFileError::NoKeys(_)));
    assert!(matches!(refused("{}"), KeyFileError::NoKeys(_)));
    assert_eq!(
        refused("-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"),
        KeyFileError::PrivateKey
    );
    assert_eq!(refused("-----BEGIN EC PRIVATE KEY-----\n"), KeyFileError::PrivateKey);
    assert_eq!(refused("-----BEGIN CERTIFICATE-----\n"), KeyFileError::Certificate);
    assert_eq!(refused(r#"{"keys":[{"kty":"EC","d":"AA"}]}"#), KeyFileError::PrivateKey);
    assert_eq!(refused(include_str!("tests/rsa-1024.pem")), KeyFileError::Weak);
    let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(64));
    assert_eq!(refused(&many), KeyFileError::TooManyKeys);
    assert_eq!(
        key_file::parse(RSA_PEM.as_bytes(), KeyFormat::Recognized, &[Algorithm::Es256])
            .unwrap_err(),
        KeyFileError::DoesNotFit
    );
    for empty in ["", "\n", "\r\n"] {
        let parsed = key_file::parse(empty.as_bytes(), KeyFormat::Secret, &[]);
        assert_eq!(parsed.unwrap_err(), KeyFileError::Empty);
    }
    let parsed = key_file::parse(b"a b", KeyFormat::Base64Secret, &[]);
    assert_eq!(parsed.unwrap_err(), KeyFileError::NotBase64);
    let large = vec![b'a'; key_file::MAX_BYTES + 1];
    let parsed = key_file::parse(&large, KeyFormat::Secret, &[]);
    assert_eq!(parsed.unwrap_err(), KeyFileError::TooLarge);
}

#[test]
fn one_odd_key_does_not_spoil_a_set() {
    let rsa = RSA_JWK.trim_end();
    let jwks = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"secp256k1"}},{{"kty":"RSA","use":"enc","n":"AQ","e":"AQ"}},
            {{"kty":"OKP","crv":"Ed25519","x":"AA"}},{{"kty":"RSA","alg":"RSA-OAEP","n":"{n}","e":"AQAB"}},
            {{"kty":"oct","k":"AA","kid":5}},{{"kty":"oct","k":"AA","key_ops":["sign"]}},7,{rsa}]}}"#,
        n = encode_url(&[0xff; 256]),
    );
    let file = key_file::parse(jwks.as_bytes(), KeyFormat::Recognized, &[]).unwrap();
    assert_eq!(file.keys.len(), 1);
    assert_eq!(file.keys[0].id.as_deref(), Some("r1"));
    assert_eq!(file.skipped.len(), 5, "{:?}", file.skipped);
    assert!(file.skipped[0].starts_with("key 1 "), "{:?}", file.skipped);
}

#[test]
fn a_secret_ends_before_one_line_break() {
    for (file, secret) in [
        ("abc", "abc"),
        ("abc\n", "abc"),
        ("abc\r\n", "abc"),
        ("abc\n\n", "abc\n"),
        ("a bc ", "a bc "),
    ] {
        let keys = trusted(file.as_bytes(), KeyFormat::Secret, &[]);
        assert_eq!(
            verified(&keys, &hmac_token(secret.as_bytes(), HEADER, CLAIMS)),
            Ok("alice".into())
        );
    }
    let keys = trusted(b"YWJj\n", KeyFormat::Base64Secret, &[]);
    assert_eq!(verified(&keys, &hmac_token(b"abc", HEADER, CLAIMS)), Ok("alice".into()));
}
