//! Hosts that only report where the hub is: they are queried one after the other.

use std::time::Duration;

use super::super::address::Host;
use super::error::more_informative;
use super::{Kind, Link, LinkError, ALL, HOST};

/// Returns how long each of `count` hosts may take that only report where the hub is, so that all
/// can be queried.
pub(super) fn share(count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    ((ALL - HOST) / count).clamp(HOST / 5, HOST)
}

/// Returns the first link to which one of these hosts leads, or the most informative error; `none`
/// describes the error that there are no hosts.
pub(super) async fn first_link(
    hosts: &[Host],
    connect_through: impl AsyncFn(&Host) -> Result<Link, LinkError>,
    none: &str,
) -> Result<Link, LinkError> {
    let mut failure = None;
    for host in hosts {
        match connect_through(host).await {
            Ok(link) => return Ok(link),
            Err(error) => failure = more_informative(failure, error),
        }
    }
    Err(failure.unwrap_or_else(|| LinkError::new(Kind::Other, none.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hosts_can_be_queried_before_connecting_takes_too_long() {
        assert_eq!([0, 1, 2].map(share), [HOST; 3]);
        assert_eq!(share(4), (ALL - HOST) / 4);
        assert_eq!([10, 11, usize::MAX].map(share), [HOST / 5; 3]);
    }
}
