//! Opens a socket to a node: TCP, TLS, or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use ::redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{lookup_host, TcpSocket, TcpStream, UnixSocket, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::super::address::Host;
use super::spare_descriptors::lend;

/// How long it takes to notice that a peer has vanished.
const VANISHED: Duration = Duration::from_secs(5);

/// The address of a node.
#[derive(Clone)]
pub(super) enum NodeAddress {
    Host(Host),
    Unix(PathBuf),
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeAddress::Host(host) => write!(f, "{host}"),
            NodeAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A stream of bytes in both directions.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// Connects, over TLS if `tls` is set.
pub(super) async fn dial(peer: &NodeAddress, tls: bool) -> io::Result<Box<dyn ByteStream>> {
    Ok(match peer {
        NodeAddress::Unix(path) => Box::new(unix(path).await?),
        NodeAddress::Host(host) if tls => {
            let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(tls_config()?));
            Box::new(connector.connect(name, tcp(host).await?).await?)
        }
        NodeAddress::Host(host) => Box::new(tcp(host).await?),
    })
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    let lent = lend();
    let socket = UnixSocket::new_stream()?;
    drop(lent);
    socket.connect(path).await
}

/// Connects to the first of a host's addresses that accepts the connection.
async fn tcp(host: &Host) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    for address in look_up(host).await? {
        let socket = tcp_socket(address)?;
        tries.spawn(socket.connect(address));
    }
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(stream)) => return settled(stream),
            Ok(Err(error)) => failure = error,
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

async fn look_up(host: &Host) -> io::Result<impl Iterator<Item = SocketAddr> + '_> {
    let _lent = lend();
    lookup_host((&*host.name, host.port)).await
}

fn tcp_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let _lent = lend();
    if address.is_ipv6() {
        TcpSocket::new_v6()
    } else {
        TcpSocket::new_v4()
    }
}

fn settled(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(VANISHED)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(stream)
}

fn tls_config() -> io::Result<ClientConfig> {
    static PROVIDER: Once = Once::new();
    // rustls panics unless a provider of cryptography has been chosen. An error means that the
    // process already has one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut found = {
        let _lent = lend();
        rustls_native_certs::load_native_certs()
    };
    if let Some(error) = found.errors.pop() {
        return Err(io::Error::other(error));
    }
    let mut roots = RootCertStore::empty();
    for certificate in found.certs {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
