//! Sentinels: finds the current master, and notices a failover.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::Notify;

use super::super::address::{Address, Host};
use super::error::in_time;
use super::node::{self, Driver, NodeAddress};
use super::seeds::{first_link, share};
use super::{Bounds, Kind, Link, LinkError, Pushes, HOST, WORDS};

/// The channel on which Sentinels announce a new master.
const SWITCH: &str = "+switch-master";

/// How long a Sentinel may be silent before it is queried.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How long to wait if no Sentinel is available.
const NONE: Duration = Duration::from_secs(1);

/// Connects to the master that a Sentinel names, before and after connecting to it.
///
/// The master must confirm that it is one, because a Sentinel may be outdated. A master that was
/// replaced while it was stopped still believes to be one when it continues, until the Sentinels
/// make it a replica, and what it accepts until then is lost. So the Sentinel is queried again.
pub(super) async fn connect(
    address: &Address,
    sentinels: &[Host],
    master: &str,
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    let limit = share(sentinels.len());
    let connect_through = async |sentinel: &Host| {
        let host = query(address, sentinel, limit, master).await?;
        let link = node::master(address, &NodeAddress::Host(host), pushes.clone(), bounds).await?;
        confirm(address, sentinel, limit, master, link).await
    };
    first_link(sentinels, connect_through, "the URL names no Sentinel").await
}

/// Returns the link if its node is still the master for the Sentinel.
async fn confirm(
    address: &Address,
    sentinel: &Host,
    limit: Duration,
    master: &str,
    link: Link,
) -> Result<Link, LinkError> {
    let current = query(address, sentinel, limit, master).await?;
    if current.to_string() == link.address {
        return Ok(link);
    }
    let text = format!("{} was replaced as the master by {current}", link.address);
    Err(LinkError::new(Kind::NotReady, text))
}

/// Returns when a Sentinel reports a different master than `current`.
pub(super) async fn moved(address: &Address, sentinels: &[Host], master: &str, current: &str) {
    loop {
        for sentinel in sentinels {
            if listen(address, sentinel, master, current).await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(NONE).await;
    }
}

/// Listens to one Sentinel until it reports a different master, or fails.
async fn listen(
    address: &Address,
    sentinel: &Host,
    master: &str,
    current: &str,
) -> Result<(), LinkError> {
    let peer = sentinel.to_string();
    let of = |error: RedisError| LinkError::from_error(&peer, &error);
    let news = Arc::new(Notify::new());
    let pushes: Pushes = {
        let news = Arc::clone(&news);
        Arc::new(move |_| news.notify_one())
    };
    let (mut connection, _driver) = open(address, sentinel, HOST, Some(pushes)).await?;
    connection.subscribe(SWITCH).await.map_err(of)?;
    // The Sentinel is queried after each message, so that messages do not have to be parsed,
    // and once at the start, because a failover may have happened before the subscription.
    while master_of(&mut connection, &peer, master).await?.to_string() == current {
        let _ = tokio::time::timeout(ASK_AGAIN, news.notified()).await;
    }
    Ok(())
}

/// Asks a Sentinel for the address of the master, within `limit`.
async fn query(
    address: &Address,
    sentinel: &Host,
    limit: Duration,
    master: &str,
) -> Result<Host, LinkError> {
    let peer = sentinel.to_string();
    let ask = async {
        let (mut connection, _driver) = open(address, sentinel, limit, None).await?;
        master_of(&mut connection, &peer, master).await
    };
    in_time(limit, &peer, ask).await
}

/// Connects to a Sentinel without credentials, and if that is rejected, with those of Redis.
async fn open(
    address: &Address,
    sentinel: &Host,
    limit: Duration,
    pushes: Option<Pushes>,
) -> Result<(MultiplexedConnection, Driver), LinkError> {
    let bounds = Bounds::for_values(WORDS);
    let peer = NodeAddress::Host(sentinel.clone());
    let nobody = node::open(&peer, address.tls, None, 0, limit, pushes.clone(), &bounds).await;
    match (nobody, &address.login) {
        (Err(error), Some(login)) if error.kind == Kind::Auth => {
            node::open(&peer, address.tls, Some(login), 0, limit, pushes, &bounds).await
        }
        (result, _) => result,
    }
}

async fn master_of(
    connection: &mut MultiplexedConnection,
    peer: &str,
    master: &str,
) -> Result<Host, LinkError> {
    let mut query = cmd("SENTINEL");
    query.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let reply: Result<Option<(String, u16)>, _> = query.query_async(connection).await;
    match reply {
        Ok(Some((name, port))) => Ok(Host { name, port }),
        Ok(None) => {
            let text = format!("the Sentinel at {peer} does not know a master named {master}");
            Err(LinkError::new(Kind::Other, text))
        }
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
            Err(LinkError::new(Kind::Other, format!("{peer} is not a Sentinel")))
        }
        Err(error) => Err(LinkError::from_error(peer, &error)),
    }
}
