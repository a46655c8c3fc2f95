//! What claims say, and what refusals show of them.

use super::*;

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
        let rules = TokenRules { leeway, ..rules(&keys, &requirements) };
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
        let rules = TokenRules { kind: Some(wanted), ..rules(&keys, &requirements) };
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
fn the_error_log_says_by_how_much_a_token_is_early_or_late() {
    let why = |claims: &str| {
        let (keys, requirements) = (secret(), Requirements::default());
        let rules = rules(&keys, &requirements);
        rules.verify(hs256(HEADER, claims).as_bytes(), NOW).unwrap_err().why
    };
    let early = why(r#"{"exp":1767229300,"nbf":1767225605.5}"#);
    assert!(early.starts_with("not valid for another 5 s"), "{early}");
    let late = why(r#"{"exp":1767225592.5}"#);
    assert!(late.starts_with("expired 7 s ago"), "{late}");
}
