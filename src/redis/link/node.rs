//! One node: connected to, let in, asked whether it can hold the hub.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, SendError};
use ::redis::io::tcp::{socket2, TcpSettings};
use ::redis::{
    cmd, AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, Value,
};

use super::super::address::{Address, Host, Login};
use super::error::in_time;
use super::{Kind, Link, LinkError, Pushes, HOST, RESPONSE};

/// How long a peer that has vanished goes unnoticed.
const VANISHED: Duration = Duration::from_secs(5);

/// Connections that this process has made.
static MADE: AtomicU64 = AtomicU64::new(1);

/// Where a node is.
#[derive(Clone)]
pub(super) enum Spot {
    Host(Host),
    Unix(PathBuf),
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spot::Host(host) => write!(f, "{host}"),
            Spot::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Connects to a node that must be a master and ready.
pub(super) async fn master(
    address: &Address,
    spot: &Spot,
    pushes: Option<Pushes>,
) -> Result<Link, LinkError> {
    let login = address.login.as_ref();
    let mut connection = open(spot, address.tls, login, address.db, HOST, pushes).await?;
    let spot = spot.to_string();
    in_time(HOST, &spot, check(&mut connection, &spot)).await?;
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    Ok(Link { connection, address: spot, made })
}

/// Connects to a node, whatever it is, within `limit`.
pub(super) async fn open(
    spot: &Spot,
    tls: bool,
    login: Option<&Login>,
    db: u32,
    limit: Duration,
    pushes: Option<Pushes>,
) -> Result<MultiplexedConnection, LinkError> {
    let of = |error: RedisError| LinkError::of(&spot.to_string(), &error);
    let info = information(spot, tls, login, db).map_err(of)?;
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(RESPONSE));
    if let Some(pushes) = pushes {
        config = config.set_push_sender(move |push| {
            pushes(push);
            Ok::<(), SendError>(())
        });
    }
    let client = Client::open(info).map_err(of)?;
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(of)
}

fn information(
    spot: &Spot,
    tls: bool,
    login: Option<&Login>,
    db: u32,
) -> Result<ConnectionInfo, RedisError> {
    let addr = match spot {
        Spot::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Spot::Host(Host { name, port }) if tls => {
            install_provider();
            let (host, port) = (name.clone(), *port);
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        }
        Spot::Host(Host { name, port }) => ConnectionAddr::Tcp(name.clone(), *port),
    };
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
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(VANISHED)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(VANISHED);
    Ok(addr.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// Without a provider of cryptography that was chosen, rustls panics.
fn install_provider() {
    static ONCE: Once = Once::new();
    // An error says that the process has one already, which will do.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// Whether the node is a master that serves.
async fn check(connection: &mut MultiplexedConnection, spot: &str) -> Result<(), LinkError> {
    let of = |error: RedisError| LinkError::of(spot, &error);
    // A node that is loading answers the two below, but not this.
    let _: Value = cmd("PING").query_async(connection).await.map_err(of)?;
    match cmd("ROLE").query_async::<Value>(connection).await {
        Ok(role) if !is_master(&role) => {
            Err(LinkError::new(Kind::NotReady, format!("{spot} is a replica")))
        }
        // A user that may not ask finds out when it writes.
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
