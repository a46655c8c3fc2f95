//! A connection to the node that holds a hub: found, checked, and bounded in time. Each call makes
//! one attempt; an error is one sentence, and the caller decides when to retry. Errors never
//! contain a user or password: only known texts of the server are repeated, because a Redis before
//! 6 echoes the arguments of HELLO.

mod bounded;
mod cluster;
mod dial;
mod error;
mod node;
mod reply;
mod seeds;
mod sentinel;
mod spare_descriptors;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::PushInfo;

use super::address::{Address, Topology};

#[cfg(fuzzing)]
pub use bounded::Bounded;
pub use bounded::{skipped_length, Bounds, Meter};
pub use error::{is_elsewhere, is_not_ready, Kind, LinkError};
pub use reply::Unanswered;
pub(super) use spare_descriptors::hold_spare;

use node::NodeAddress;

/// How long one host may take to accept a connection and a login.
const HOST: Duration = Duration::from_secs(1);

/// How long connecting may take, whatever the number of hosts.
const ALL: Duration = Duration::from_secs(3);

/// How long a reply on a connection may take.
const RESPONSE: Duration = Duration::from_secs(2);

/// Maximum length in bytes of a value in which a node describes itself or others, with a margin.
const WORDS: usize = 64 << 10;

/// Receives the server's pushes: messages, confirmations, and the end of the connection. Called in
/// the task that reads the socket, so it must be quick.
pub type Pushes = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection to a Redis master that is ready.
#[derive(Clone)]
pub struct Link {
    /// Uses RESP3: commands and messages on one connection.
    pub connection: MultiplexedConnection,
    /// The address, for messages.
    pub address: String,
    /// The number of the connection, which is unique in this process.
    pub made: u64,
    /// Counts the received bytes.
    pub meter: Arc<Meter>,
    /// Reads and writes the socket until the last clone is dropped.
    driver: Arc<node::Driver>,
}

impl Link {
    /// Returns whether the connection has been closed, so that no further command can be sent.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }
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

/// Returns when a Sentinel reports a different master than that of the link; never for other
/// addresses, and never because of an error.
pub async fn moved(address: &Address, link: &Link) {
    match &address.topology {
        Topology::Sentinel { sentinels, master } => {
            sentinel::moved(address, sentinels, master, &link.address).await;
        }
        _ => std::future::pending().await,
    }
}
