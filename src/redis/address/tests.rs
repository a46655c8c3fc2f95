use super::*;
use proptest::prelude::*;

fn shown(text: &str) -> String {
    Address::parse(text).map_or_else(|err| err.to_string(), |address| address.to_string())
}

fn login_of(text: &str) -> (Option<String>, String) {
    let login = Address::parse(text).expect("a URL").login.expect("a login");
    (login.user, login.password)
}

#[test]
fn all_schemes_are_parsed() {
    for (text, expected) in [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://127.0.0.1:7000/", "redis://127.0.0.1:7000"),
        ("REDIS://cache-1.example_x:7000/3", "redis://cache-1.example_x:7000/3"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("rediss://u:p@[fe80::1]:6380/2", "rediss://[fe80::1]:6380/2"),
        ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ("redis+unix://:p@/run/a%20b?db=4", "redis+unix:///run/a b?db=4"),
        ("redis+sentinel://a/main", "redis+sentinel://a:26379/main"),
        ("redis+sentinel://a,b:7,[::1]/main/5", "redis+sentinel://a:26379,b:7,[::1]:26379/main/5"),
        ("redis+cluster://u:p@a,b:7", "redis+cluster://a:6379,b:7"),
        ("rediss+cluster://a/0", "rediss+cluster://a:6379"),
        ("rediss+sentinel://a/m", "rediss+sentinel://a:26379/m"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn invalid_urls_are_rejected_with_a_sentence() {
    use AddressError::*;
    for (text, error) in [
        ("", Scheme),
        ("localhost:6379", Scheme),
        ("http://localhost", Scheme),
        ("redis+tls://localhost", Scheme),
        ("rediss+unix:///run/redis.sock", Scheme),
        ("redis://local host", Blank),
        ("redis://localhost\n", Blank),
        ("redis://", NoHost),
        ("redis://:6379", NoHost),
        ("redis+cluster://a,,b", NoHost),
        ("redis://::1", BadHost),
        ("redis://[::1", BadHost),
        ("redis://[localhost]", BadHost),
        ("redis://b\u{fc}cher", BadHost),
        ("redis://a,b", SeveralHosts),
        ("redis://a:", Port),
        ("redis://a:0", Port),
        ("redis://a:65536", Port),
        ("redis://a:+1", Port),
        ("redis://[::1]7", Port),
        ("redis://a/x", Database),
        ("redis://a/-1", Database),
        ("redis://a/2147483648", Database),
        ("redis://a/0/1", Path),
        ("redis://a?db=1", Path),
        ("redis://a/1#x", Path),
        ("redis+cluster://a/1", ClusterDatabase),
        ("redis+sentinel://a", NoMaster),
        ("redis+sentinel://a/", NoMaster),
        ("redis+sentinel://a/m?x", NoMaster),
        ("redis+sentinel://a/m/x", Database),
        ("redis+unix://", NoPath),
        ("redis+unix://run/redis.sock", NoPath),
        ("redis+unix:///", NoPath),
        ("redis+unix:///a?x=1", Path),
        ("redis+unix:///a?db=x", Database),
        ("redis://u:%zz@a", Percent),
        ("redis://u:%f@a", Percent),
        ("redis://u:%ff@a", Percent),
        ("redis://u:pa/ss@a", Login),
        ("redis://u:pa?ss@a", Login),
    ] {
        assert_eq!(Address::parse(text), Err(error), "{text}");
        let said = error.to_string();
        assert!(said.contains(' ') && !said.contains("  "), "{said}");
    }
}

#[test]
fn user_and_password_are_decoded() {
    let some = |user: &str, password: &str| (Some(user.to_string()), password.to_string());
    assert_eq!(login_of("redis://u:p@a"), some("u", "p"));
    assert_eq!(login_of("redis://u@a"), some("u", ""));
    assert_eq!(login_of("redis://:p@a"), (None, "p".to_string()));
    assert_eq!(login_of("redis://u%40x:p%3A%2F%25%C3%A9@a"), some("u@x", "p:/%é"));
    assert_eq!(login_of("redis://u:a:b@c@a"), some("u", "a:b@c"));
    let login = Address::parse("redis://u:p@a").expect("a URL").login;
    assert_eq!(format!("{login:?}"), "Some(Login)");
}

#[test]
fn identity_is_where_it_leads() {
    let identity = |text: &str| Address::parse(text).expect("a URL").identity();
    assert_eq!(identity("redis://u:p@a"), identity("redis://a:6379/0"));
    assert_ne!(identity("redis://a"), identity("redis://a/1"));
    assert_ne!(identity("redis://a"), identity("redis://b"));
    assert_ne!(identity("redis+sentinel://a/m"), identity("redis+sentinel://a/n"));
    assert_eq!(identity("redis://127.0.0.1:6379"), 0x975b_0317_104c_1ffe);
}

proptest! {
    #[test]
    fn a_password_is_never_shown(
        form in 0usize..5, junk in "[a-z0-9:/@?#,%\\[\\]. é]{0,12}",
    ) {
        let scheme = ["redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster"][form];
        for text in [
            format!("{scheme}://user:SECRET{junk}@host/name"),
            format!("{scheme}://user:{junk}SECRET@host/name"),
            format!("{scheme}://SECRET@host{junk}/name"),
        ] {
            let result = Address::parse(&text);
            let (debug, display) = match &result {
                Ok(address) => (format!("{result:?}"), address.to_string()),
                Err(error) => (format!("{result:?}"), error.to_string()),
            };
            // A path or a master's name that holds it is no password.
            let in_path = text.split_once("://").is_some_and(|(_, rest)| {
                rest.find('/').is_some_and(|slash| slash < rest.find("SECRET").unwrap_or(0))
            });
            prop_assert!(in_path || !(debug + &display).contains("SECRET"));
        }
    }

    #[test]
    fn what_is_shown_reads_the_same(text in "rediss?(\\+sentinel|\\+cluster)?://[a-z.]{1,3}(:[0-9]{1,4})?(,b)?(/m)?(/[0-9])?") {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
    }
}

#[test]
fn a_hub_may_move_with_sentinels_and_in_a_cluster() {
    let may_move = |text: &str| Address::parse(text).expect("a URL").may_move();
    assert!(may_move("redis+sentinel://a/m") && may_move("rediss+cluster://a"));
    assert!(!may_move("redis://a") && !may_move("redis+unix:///a"));
}
