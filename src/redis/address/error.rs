//! Why a URL is invalid, in a sentence that repeats no part of the URL.

use std::fmt;

/// Why a URL is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It starts with none of the five schemes.
    Scheme,
    /// It contains white space or control characters.
    Blank,
    /// A host is missing, or empty in a list.
    NoHost,
    /// A host that cannot be a name or address.
    BadHost,
    /// Several hosts where one is expected.
    SeveralHosts,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The database is not a number that Redis accepts.
    Database,
    /// Redis Cluster has only database 0.
    ClusterDatabase,
    /// There is something other than a database number after the host.
    Path,
    /// The URL of Sentinels has no master name.
    NoMaster,
    /// The path of a Unix socket is not absolute.
    NoPath,
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    Percent,
    /// The user or password is not percent-encoded.
    Login,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "the URL does not begin with redis://, rediss://, redis+unix://, \
                 redis+sentinel://, or redis+cluster://"
            }
            Self::Blank => "the URL contains white space or a control character",
            Self::NoHost => "the URL has no host name",
            Self::BadHost => {
                "a host in the URL is neither a name nor an address (put IPv6 addresses in brackets)"
            }
            Self::SeveralHosts => {
                "the URL names several hosts, which only redis+sentinel:// and redis+cluster:// \
                 support"
            }
            Self::Port => "the port in the URL is not a number from 1 to 65535",
            Self::Database => "the database in the URL is not a number from 0 to 2147483647",
            Self::ClusterDatabase => "Redis Cluster supports only database 0",
            Self::Path => {
                "the URL has something other than a database number after the host"
            }
            Self::NoMaster => {
                "the URL has no master name: redis+sentinel://host:port/NAME"
            }
            Self::NoPath => "the URL has no absolute socket path: redis+unix:///path",
            Self::Percent => {
                "a % in the URL is not followed by two hexadecimal digits, or the result is not \
                 UTF-8"
            }
            Self::Login => {
                "the user or the password in the URL contains one of / ? # that is not \
                 percent-encoded"
            }
        })
    }
}

impl std::error::Error for AddressError {}
