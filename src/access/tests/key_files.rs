//! Files with keys, and files that are refused.

use super::*;

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
    // Others are skipped.
    let parameters = "-----BEGIN DH PARAMETERS-----\nMAYCAQUCAQI=\n-----END DH PARAMETERS-----\n";
    assert!(matches!(refused(parameters), KeyFileError::NoKeys(_)));
    assert_eq!(refused(r#"{"keys":[{"kty":"EC","d":"AA"}]}"#), KeyFileError::PrivateKey);
    assert_eq!(refused(include_str!("rsa-1024.pem")), KeyFileError::Weak);
    let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(64));
    assert_eq!(refused(&many), KeyFileError::TooManyKeys);
    let many = |count| include_str!("ed25519.pem").repeat(count);
    assert_eq!(refused(&many(65)), KeyFileError::TooManyKeys);
    assert_eq!(trusted(many(64).as_bytes(), KeyFormat::Recognized, &[]).len(), 64);
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
    assert!(key_file::parse(&vec![b'a'; key_file::MAX_BYTES], KeyFormat::Secret, &[]).is_ok());
    let large = vec![b'a'; key_file::MAX_BYTES + 1];
    let parsed = key_file::parse(&large, KeyFormat::Secret, &[]);
    assert_eq!(parsed.unwrap_err(), KeyFileError::TooLarge);
}

#[test]
fn one_odd_key_does_not_spoil_a_set() {
    let rsa = RSA_JWK.trim_end();
    let jwks = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"secp256k1"}},{{"kty":"RSA","use":"enc","n":"AQ","e":"AQ"}},
            {{"kty":"OKP","crv":"Ed25519","x":"AA"}},
            {{"kty":"RSA","alg":"RSA-OAEP","n":"{n}","e":"AQAB"}},
            {{"kty":"oct","k":"AA","kid":5}},
            {{"kty":"oct","k":"AA","key_ops":["sign"]}},7,{rsa}]}}"#,
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
        // No key, although it begins like one.
        ("{abc", "{abc"),
        (r#"{"a":1}"#, r#"{"a":1}"#),
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
