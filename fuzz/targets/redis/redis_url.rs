//! A URL is refused, or leads to the same place when it is written again; nothing shows the
//! credentials.

use crate::redis::address::{Address, Topology};

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let address = match Address::parse(text) {
        Ok(address) => address,
        Err(error) => {
            // The sentence is one of a few, whatever the URL is.
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    check_place(&address);
    let shown = address.to_string();
    assert_eq!(format!("{address:?}"), format!("Address({shown})"));
    // What is shown is for messages: it is not percent-encoded.
    if !text.contains('%') && !shown.contains('@') {
        let again = Address::parse(&shown).unwrap();
        assert_eq!(
            (&again.topology, again.tls, again.db),
            (&address.topology, address.tls, address.db)
        );
        assert_eq!(again.identity(), address.identity());
    }
    check_login(text, &address);
}

fn check_place(address: &Address) {
    let is_host = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
    };
    let hosts = match &address.topology {
        Topology::Host(host) => std::slice::from_ref(host),
        Topology::Cluster(hosts) => hosts,
        Topology::Sentinel { sentinels, master } => {
            assert!(!master.is_empty() && !master.chars().any(char::is_control));
            sentinels
        }
        Topology::Unix(path) => {
            assert!(path.is_absolute() && !address.tls && !address.may_move());
            return;
        }
    };
    assert!(!hosts.is_empty() && hosts.iter().all(|host| is_host(&host.name) && host.port > 0));
    assert!(address.db <= i32::MAX as u32);
    assert_eq!(address.may_move(), !matches!(address.topology, Topology::Host(_)));
}

/// Checks that another password changes nothing of what is shown.
fn check_login(text: &str, address: &Address) {
    let (scheme, rest) = text.split_once("://").unwrap();
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    assert_eq!(address.login.is_some(), authority.contains('@'));
    let other = format!("{scheme}://us%65r:pass%20word@{hosts}{}", &rest[authority.len()..]);
    let other = Address::parse(&other).unwrap();
    let login = other.login.as_ref().unwrap();
    assert_eq!((login.user.as_deref(), &login.password[..]), (Some("user"), "pass word"));
    assert_eq!(format!("{login:?}"), "Login");
    assert_eq!((other.to_string(), other.identity()), (address.to_string(), address.identity()));
}
