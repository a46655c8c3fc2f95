//! Sentinels: where the master is, and when it is another.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::Notify;

use super::super::address::{Address, Host};
use super::error::{in_time, more_telling};
use super::node::{self, Driver, NodeAddress};
use super::{share, Bounds, Kind, Link, LinkError, Pushes, HOST, WORDS};

/// The channel on which Sentinels tell of a new master.
const SWITCH: &str = "+switch-master";

/// How long nothing is heard before a Sentinel is asked again, and so whether it is alive.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How long to wait when no Sentinel can be listened to.
const NONE: Duration = Duration::from_secs(1);

/// Connects to the master, which must itself say that it is one: a Sentinel may be behind.
pub(super) async fn connect(
    address: &Address,
    sentinels: &[Host],
    master: &str,
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    let limit = share(sentinels.len());
    let mut failure = None;
    for sentinel in sentinels {
        let spot = NodeAddress::Host(sentinel.clone());
        let asked = in_time(limit, &spot.to_string(), ask(address, sentinel, limit, master)).await;
        let tried = match asked {
            Ok(host) => {
                node::master(address, &NodeAddress::Host(host), pushes.clone(), bounds).await
            }
            Err(error) => Err(error),
        };
        match tried {
            Ok(link) => return Ok(link),
            Err(error) => failure = more_telling(failure, error),
        }
    }
    Err(failure.unwrap_or_else(|| LinkError::new(Kind::Other, "there is no Sentinel".into())))
}

/// Returns when a Sentinel tells of another master than `current`.
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

/// Listens to one Sentinel until it tells of another master, or fails.
async fn listen(
    address: &Address,
    sentinel: &Host,
    master: &str,
    current: &str,
) -> Result<(), LinkError> {
    let spot = sentinel.to_string();
    let of = |error: RedisError| LinkError::of(&spot, &error);
    let news = Arc::new(Notify::new());
    let pushes: Pushes = {
        let news = Arc::clone(&news);
        Arc::new(move |_| news.notify_one())
    };
    let (mut connection, _driver) = open(address, sentinel, HOST, Some(pushes)).await?;
    connection.subscribe(SWITCH).await.map_err(of)?;
    // Asked after each news, whatever it was, so that nothing of what Sentinels say is parsed; the
    // first time because it may have happened before the subscription.
    while master_of(&mut connection, &spot, master).await?.to_string() == current {
        let _ = tokio::time::timeout(ASK_AGAIN, news.notified()).await;
    }
    Ok(())
}

async fn ask(
    address: &Address,
    sentinel: &Host,
    limit: Duration,
    master: &str,
) -> Result<Host, LinkError> {
    let (mut connection, _driver) = open(address, sentinel, limit, None).await?;
    master_of(&mut connection, &sentinel.to_string(), master).await
}

/// Connects to a Sentinel: as nobody, and if that is refused as who we are to Redis.
async fn open(
    address: &Address,
    sentinel: &Host,
    limit: Duration,
    pushes: Option<Pushes>,
) -> Result<(MultiplexedConnection, Driver), LinkError> {
    let bounds = Bounds::of_values(WORDS);
    let spot = NodeAddress::Host(sentinel.clone());
    let nobody = node::open(&spot, address.tls, None, 0, limit, pushes.clone(), &bounds).await;
    match (nobody, &address.login) {
        (Err(error), Some(login)) if error.kind == Kind::Auth => {
            node::open(&spot, address.tls, Some(login), 0, limit, pushes, &bounds).await
        }
        (result, _) => result,
    }
}

async fn master_of(
    connection: &mut MultiplexedConnection,
    spot: &str,
    master: &str,
) -> Result<Host, LinkError> {
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer: Result<Option<(String, u16)>, _> = question.query_async(connection).await;
    match answer {
        Ok(Some((name, port))) => Ok(Host { name, port }),
        Ok(None) => {
            let text = format!("the Sentinel at {spot} knows no master of the name {master}");
            Err(LinkError::new(Kind::Other, text))
        }
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
            Err(LinkError::new(Kind::Other, format!("{spot} is no Sentinel")))
        }
        Err(error) => Err(LinkError::of(spot, &error)),
    }
}
