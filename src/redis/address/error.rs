//! Why a URL was refused, in a sentence that repeats nothing of it.

use std::fmt;

/// Why a URL was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It begins like none of the five.
    Scheme,
    /// White space or control characters in it.
    Blank,
    /// No host, or an empty one in a list.
    NoHost,
    /// Something that cannot be a host's name.
    BadHost,
    /// Several hosts where one is meant.
    SeveralHosts,
    /// Not a number from 1 to 65535.
    Port,
    /// Not a number that Redis takes.
    Database,
    /// Redis Cluster has only database 0.
    ClusterDatabase,
    /// More behind the host than belongs there.
    Path,
    /// A Sentinel's URL that names no master.
    NoMaster,
    /// A Unix socket's URL whose path is not absolute.
    NoPath,
    /// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
    Percent,
    /// A user or password that is not percent-encoded.
    Login,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "the URL begins with none of redis://, rediss://, redis+unix://, redis+sentinel:// \
                 and redis+cluster://"
            }
            Self::Blank => "the URL contains white space or a control character",
            Self::NoHost => "the URL lacks the name of a host",
            Self::BadHost => {
                "a host in the URL is neither a name nor an address (IPv6 stands in brackets)"
            }
            Self::SeveralHosts => {
                "the URL names several hosts, which only redis+sentinel:// and redis+cluster:// take"
            }
            Self::Port => "the port in the URL is not a number from 1 to 65535",
            Self::Database => "the database in the URL is not a number from 0 to 2147483647",
            Self::ClusterDatabase => "Redis Cluster has no database but 0",
            Self::Path => "the URL has more behind the host than the number of a database",
            Self::NoMaster => {
                "the URL lacks the name of the master: redis+sentinel://host:port/NAME"
            }
            Self::NoPath => "the URL lacks the absolute path of a socket: redis+unix:///path",
            Self::Percent => {
                "a % in the URL is not followed by two hexadecimal digits that give UTF-8"
            }
            Self::Login => {
                "the user or the password in the URL contains one of / ? # that is not \
                 percent-encoded"
            }
        })
    }
}

impl std::error::Error for AddressError {}
