//! The URL of the `redis` directive: the address of Redis, and the credentials.
//!
//! It may contain a password, so `Display` and `Debug` omit the user and the password, and no error
//! repeats a part of the URL.

mod error;

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

pub use error::AddressError;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name or address; IPv6 without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// How the Redis of a hub is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// At this host.
    Host(Host),
    /// At this Unix socket.
    Unix(PathBuf),
    /// These Sentinels report the master with this name.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<Host>,
        /// The name of the master.
        master: String,
    },
    /// These nodes report the cluster's node that owns the hub's slot.
    Cluster(Vec<Host>),
}

/// The credentials, which nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user; `None` is Redis' default user.
    pub user: Option<String>,
    /// The password; may be empty.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// A checked URL of `redis`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// How Redis is found.
    pub topology: Topology,
    /// Whether connections use TLS.
    pub tls: bool,
    /// The number of the database.
    pub db: u32,
    /// The credentials; `None` if no login is needed.
    pub login: Option<Login>,
}

impl Address {
    /// Parses a URL.
    ///
    /// ```text
    /// redis://[user[:password]@]host[:port][/db]       rediss:// the same over TLS
    /// redis+unix://[user[:password]@]/path[?db=N]
    /// redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/master[/db]
    /// redis+cluster://[user[:password]@]host[:port][,host[:port]...]
    /// ```
    ///
    /// `rediss+sentinel` and `rediss+cluster` use TLS for every host.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(AddressError::Blank);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let (tls, scheme) = match scheme.strip_prefix("rediss") {
            Some(kind) if kind != "+unix" => (true, kind),
            _ => (false, scheme.strip_prefix("redis").ok_or(AddressError::Scheme)?),
        };
        if !matches!(scheme, "" | "+unix" | "+sentinel" | "+cluster") {
            return Err(AddressError::Scheme);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(self::login(login)?), hosts),
            None if path.contains('@') && scheme != "+unix" => return Err(AddressError::Login),
            None => (None, authority),
        };
        let (topology, db) = match scheme {
            "+unix" => unix(hosts, path)?,
            "+sentinel" => sentinel(hosts, path)?,
            "+cluster" => cluster(hosts, path)?,
            _ => single(hosts, path)?,
        };
        Ok(Address { topology, tls, db, login })
    }

    /// Whether the hub may move to another node: with Sentinels and in a cluster.
    pub fn may_move(&self) -> bool {
        matches!(self.topology, Topology::Sentinel { .. } | Topology::Cluster(_))
    }

    /// Returns a hash of the URL without its credentials, which is the same in every process.
    pub fn identity(&self) -> u64 {
        fingerprint(self.to_string().as_bytes())
    }
}

/// Returns the FNV-1a hash of bytes, which does not depend on the compiler's version.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.topology {
            Topology::Host(host) => write!(f, "{scheme}://{host}")?,
            Topology::Unix(path) => {
                write!(f, "{scheme}+unix://{}", path.display())?;
                return if self.db == 0 { Ok(()) } else { write!(f, "?db={}", self.db) };
            }
            Topology::Sentinel { sentinels, master } => {
                write!(f, "{scheme}+sentinel://{}/{master}", Listed(sentinels))?;
            }
            Topology::Cluster(seeds) => write!(f, "{scheme}+cluster://{}", Listed(seeds))?,
        }
        if self.db == 0 {
            Ok(())
        } else {
            write!(f, "/{}", self.db)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

struct Listed<'a>(&'a [Host]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

fn single(hosts: &str, path: &str) -> Result<(Topology, u32), AddressError> {
    if hosts.contains(',') {
        return Err(AddressError::SeveralHosts);
    }
    Ok((Topology::Host(host(hosts, PORT)?), database(path)?))
}

fn unix(hosts: &str, path: &str) -> Result<(Topology, u32), AddressError> {
    let (path, db) = match path.split_once('?') {
        Some((path, query)) => (path, query.strip_prefix("db=").ok_or(AddressError::Path)?),
        None => (path, "0"),
    };
    let path = decoded(path)?;
    if !hosts.is_empty() || path.ends_with('/') || !Path::new(&path).is_absolute() {
        return Err(AddressError::NoPath);
    }
    Ok((Topology::Unix(path.into()), number(db).ok_or(AddressError::Database)?))
}

fn sentinel(hosts: &str, path: &str) -> Result<(Topology, u32), AddressError> {
    let sentinels = self::hosts(hosts, SENTINEL_PORT)?;
    let path = path.strip_prefix('/').ok_or(AddressError::NoMaster)?;
    let (name, db) = path.split_at(path.find('/').unwrap_or(path.len()));
    let master = decoded(name)?;
    if master.is_empty() || name.contains(['?', '#']) || master.chars().any(char::is_control) {
        return Err(AddressError::NoMaster);
    }
    Ok((Topology::Sentinel { sentinels, master }, database(db)?))
}

fn cluster(hosts: &str, path: &str) -> Result<(Topology, u32), AddressError> {
    match database(path)? {
        0 => Ok((Topology::Cluster(self::hosts(hosts, PORT)?), 0)),
        _ => Err(AddressError::ClusterDatabase),
    }
}

fn login(text: &str) -> Result<Login, AddressError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    Ok(Login { user, password: decoded(password)? })
}

fn hosts(text: &str, port: u16) -> Result<Vec<Host>, AddressError> {
    text.split(',').map(|part| host(part, port)).collect()
}

fn host(text: &str, default: u16) -> Result<Host, AddressError> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or(AddressError::BadHost)?;
            name.parse::<Ipv6Addr>().map_err(|_| AddressError::BadHost)?;
            (name, port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !name.bytes().all(of_name) || port.matches(':').count() > 1 {
                return Err(AddressError::BadHost);
            }
            (name, port)
        }
    };
    if name.is_empty() {
        return Err(AddressError::NoHost);
    }
    let port = match port.strip_prefix(':') {
        Some(port) => number(port).and_then(|port| port.try_into().ok()).filter(|&port| port > 0),
        None => port.is_empty().then_some(default),
    };
    Ok(Host { name: name.to_string(), port: port.ok_or(AddressError::Port)? })
}

/// Returns the number in `/db`; zero if there is none.
fn database(path: &str) -> Result<u32, AddressError> {
    match path.strip_prefix('/') {
        None if path.is_empty() => Ok(0),
        Some("") => Ok(0),
        Some(db) if !db.contains(['/', '?', '#']) => number(db).ok_or(AddressError::Database),
        _ => Err(AddressError::Path),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok())??;
    i32::try_from(number).is_ok().then_some(number)
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let parts = text.split('%').skip(1).map(str::as_bytes);
    let is_hex =
        |part: &[u8]| part.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !parts.into_iter().all(is_hex) {
        return Err(AddressError::Percent);
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Percent)?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
