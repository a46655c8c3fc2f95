//! Connects to one node, logs in, and checks that it can hold the hub.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, SendError};
use ::redis::{
    cmd, AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, Value,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::address::{Address, Login};
use super::bounded::{Bounded, Bounds};
use super::dial::dial;
use super::error::in_time;
use super::{Kind, Link, LinkError, Pushes, HOST, RESPONSE};

pub(super) use super::dial::NodeAddress;

/// Number of connections that this process has made.
static MADE: AtomicU64 = AtomicU64::new(1);

/// The task that reads and writes a connection's socket. Dropping it closes the connection.
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    fn of(driver: impl Future<Output = ()> + Send + 'static) -> Driver {
        Driver(tokio::spawn(driver))
    }

    /// Returns whether the task has ended, because the connection was closed.
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to a node that must be a master and ready.
pub(super) async fn master(
    address: &Address,
    peer: &NodeAddress,
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    let login = address.login.as_ref();
    let (mut connection, driver) =
        open(peer, address.tls, login, address.db, HOST, pushes, bounds).await?;
    let peer = peer.to_string();
    in_time(HOST, &peer, check(&mut connection, &peer)).await?;
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let meter = bounds.meter.clone();
    Ok(Link { connection, address: peer, made, meter, driver: Arc::new(driver) })
}

/// Connects to a node of any kind, within `limit`.
pub(super) async fn open(
    peer: &NodeAddress,
    tls: bool,
    login: Option<&Login>,
    db: u32,
    limit: Duration,
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<(MultiplexedConnection, Driver), LinkError> {
    let of = |error: RedisError| LinkError::from_error(&peer.to_string(), &error);
    let mut config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE));
    if let Some(pushes) = pushes {
        config = config.set_push_sender(move |push| {
            pushes(push);
            Ok::<(), SendError>(())
        });
    }
    let opened = timeout(limit, async {
        let socket = Bounded::new(dial(peer, tls).await?, bounds.clone());
        let settings = settings(login, db);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&settings, socket, config).await?;
        Ok::<_, RedisError>((connection, Driver::of(driver)))
    });
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    opened.await.unwrap_or_else(late).map_err(of)
}

fn settings(login: Option<&Login>, db: u32) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .set_db(db.into());
    if let Some(login) = login {
        settings = settings.set_password(&login.password);
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
    }
    settings
}

/// Whether the node is a master that serves.
async fn check(connection: &mut MultiplexedConnection, peer: &str) -> Result<(), LinkError> {
    let of = |error: RedisError| LinkError::from_error(peer, &error);
    // A node that is loading its data replies to the two commands below, but not to this one.
    let _: Value = cmd("PING").query_async(connection).await.map_err(of)?;
    match cmd("ROLE").query_async::<Value>(connection).await {
        Ok(role) if !is_master(&role) => {
            Err(LinkError::new(Kind::NotReady, format!("{peer} is a replica")))
        }
        // Without the permission, a replica is noticed at the first write.
        Err(error) if error.code() != Some("NOPERM") => Err(of(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_master(role: &Value) -> bool {
    let Value::Array(role) = role else {
        return false;
    };
    match role.first() {
        Some(Value::BulkString(name)) => name == b"master",
        Some(Value::SimpleString(name)) => name == "master",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_known_by_its_role() {
        let role = |name: Value| Value::Array(vec![name, Value::Int(0)]);
        assert!(is_master(&role(Value::BulkString(b"master".to_vec()))));
        assert!(is_master(&role(Value::SimpleString("master".into()))));
        assert!(!is_master(&role(Value::BulkString(b"slave".to_vec()))));
        assert!(!is_master(&role(Value::SimpleString("slave".into()))));
        assert!(!is_master(&role(Value::Int(1))) && !is_master(&Value::Array(Vec::new())));
        assert!(!is_master(&Value::BulkString(b"master".to_vec())));
    }
}
