//! A connection to the node that holds a hub: found, checked, and bounded in time.
//!
//! One attempt, which succeeds or says in a sentence why not; the caller decides when to try again.
//! No error shows a user or a password: of the server's own words only known ones are repeated,
//! since a Redis before 6 answers a greeting with what it was greeted with.

mod answer;
mod bounded;
mod cluster;
mod dial;
mod error;
mod node;
mod sentinel;
mod spare_descriptors;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::PushInfo;

use super::address::{Address, Topology};

pub use answer::Unanswered;
#[cfg(fuzzing)]
pub use bounded::Bounded;
pub use bounded::{left_out, Bounds, Meter};
pub use error::{is_elsewhere, is_not_ready, Kind, LinkError};
pub(super) use spare_descriptors::hold_spare;

use node::NodeAddress;

/// The longest time that one host may take to accept a connection and a login.
const HOST: Duration = Duration::from_secs(1);

/// The longest time that connecting may take, whatever the number of hosts.
const ALL: Duration = Duration::from_secs(3);

/// The longest time that an answer on a connection may take.
const RESPONSE: Duration = Duration::from_secs(2);

/// The longest word in which a node describes itself or others, in bytes, with a margin.
const WORDS: usize = 64 << 10;

/// How long each of `count` hosts may take that only report where the hub is, so that all can be
/// asked.
fn share(count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    ((ALL - HOST) / count).clamp(HOST / 5, HOST)
}

/// Takes what the server sends without being asked: messages, confirmations, and the end of the
/// connection. Called in the task that reads the socket, so it must be quick.
pub type Pushes = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection to a Redis that is a master and ready.
#[derive(Clone)]
pub struct Link {
    /// Speaks RESP3: commands and messages on one connection.
    pub connection: MultiplexedConnection,
    /// The address, for messages.
    pub address: String,
    /// A number that no other connection of this process has.
    pub made: u64,
    /// Counts what is received.
    pub meter: Arc<Meter>,
    /// Reads and writes the socket until the last clone is dropped.
    _driver: Arc<node::Driver>,
}

/// Connects to the node that holds the hub whose keys hash like `hub_key`, within three seconds.
pub async fn connect(
    address: &Address,
    hub_key: &[u8],
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    error::in_time(ALL, &address.to_string(), find(address, hub_key, pushes, bounds)).await
}

async fn find(
    address: &Address,
    hub_key: &[u8],
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    match &address.topology {
        Topology::Host(host) => {
            node::master(address, &NodeAddress::Host(host.clone()), pushes, bounds).await
        }
        Topology::Unix(path) => {
            node::master(address, &NodeAddress::Unix(path.clone()), pushes, bounds).await
        }
        Topology::Sentinel { sentinels, master } => {
            sentinel::connect(address, sentinels, master, pushes, bounds).await
        }
        Topology::Cluster(seeds) => cluster::connect(address, seeds, hub_key, pushes, bounds).await,
    }
}

/// Returns when a Sentinel reports another master than the one that the link leads to; never for
/// other addresses, and never because of an error.
pub async fn moved(address: &Address, link: &Link) {
    match &address.topology {
        Topology::Sentinel { sentinels, master } => {
            sentinel::moved(address, sentinels, master, &link.address).await;
        }
        _ => std::future::pending().await,
    }
}
