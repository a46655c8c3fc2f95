//! Attacks on the signature, and on the choice of the key and the algorithm.

use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
};

use super::*;

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
    let der = crate::access::base64::decode_any(
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
    let ec = trusted(include_bytes!("p256.pem"), KeyFormat::Recognized, &[]);
    assert_eq!(reason(&ec, tokens[0].1), RefusalReason::Algorithm);
}

#[test]
fn a_changed_rsa_signature_is_refused() {
    let keys = trusted(RSA_PEM.as_bytes(), KeyFormat::Recognized, &[]);
    let token = RSA_TOKENS.lines().next().unwrap().split_once(' ').unwrap().1;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = crate::access::base64::decode_url(signature.as_bytes()).unwrap();
    let mut longer = signature.clone();
    longer.push(0);
    let zero_first = [&[0], signature.as_slice()].concat();
    for changed in [&signature[1..], &signature[..255], &longer, &zero_first, &[0; 256], &[]] {
        let token = format!("{signed}.{}", encode_url(changed));
        assert_eq!(reason(&keys, &token), RefusalReason::Signature, "{}", changed.len());
    }
    let small = trusted(include_bytes!("rsa-e3.pem"), KeyFormat::Recognized, &[]);
    let forged = include_str!("rsa-e3-forged.txt").trim_end();
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
    let keys = trusted(include_bytes!("ed25519.pem"), KeyFormat::Recognized, &[]);
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
fn tokens_and_keys_may_use_either_name_of_eddsa() {
    let document = signature::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = signature::Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let public = encode_url(pair.public_key().as_ref());
    for member in ["", r#","alg":"EdDSA""#, r#","alg":"Ed25519""#] {
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{public}"{member}}}"#);
        let keys = trusted(jwk.as_bytes(), KeyFormat::Recognized, &[]);
        for name in ["EdDSA", "Ed25519"] {
            let signed = signed(&format!(r#"{{"alg":"{name}"}}"#), CLAIMS);
            let token = format!("{signed}.{}", encode_url(pair.sign(signed.as_bytes()).as_ref()));
            assert_eq!(verified(&keys, &token), Ok("alice".into()), "{name}, {member}");
        }
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
