//! TCP sockets as load and floor want them, and what one read or write of them said.

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size, set_tcp_nodelay};
use rustix::net::{
    self, bind, connect, ipproto, socket_with, AddressFamily, RecvFlags, SendFlags, SocketFlags,
    SocketType,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Clients of one source address: well below the ports that it has.
const PER_SOURCE: usize = 10_000;

/// What an attempt to read or write came to.
pub enum Moved {
    Bytes(usize),
    /// Not now.
    Wait,
    /// The other side has ended it, or broken it.
    End,
}

/// How a client's socket differs from an ordinary one.
#[derive(Clone, Copy, PartialEq)]
pub enum Buffer {
    Ordinary,
    /// Takes little, so that a client that does not read is soon noticed by the server.
    Small,
}

/// Begins to connect the client of that number; when the server is on this machine, from the
/// loopback address that is its turn.
pub fn dial(to: SocketAddr, number: usize, buffer: Buffer) -> Result<OwnedFd, Errno> {
    let fd = client(to, number, SocketFlags::NONBLOCK)?;
    if buffer == Buffer::Small {
        set_socket_recv_buffer_size(&fd, 4096)?;
    }
    match connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}

/// Connects the client of that number, and waits for it; writes wait, and so may reads.
pub fn connect_from(to: SocketAddr, number: usize) -> Result<OwnedFd, Errno> {
    let fd = client(to, number, SocketFlags::empty())?;
    connect(&fd, &to)?;
    Ok(fd)
}

/// The socket of the client of that number.
fn client(to: SocketAddr, number: usize, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let fd = tcp(to, flags)?;
    // Ends with a reset: a benchmark that leaves a million sockets behind cannot be run twice.
    set_socket_linger(&fd, Some(Duration::ZERO))?;
    if let Some(source) = source(to.ip(), number) {
        bind(&fd, &SocketAddr::new(source, 0))?;
    }
    Ok(fd)
}

/// Connects for publishing; writes wait, reads do not.
pub fn connect_waiting(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = tcp(to, SocketFlags::empty())?;
    connect(&fd, &to)?;
    set_tcp_nodelay(&fd, true)?;
    Ok(fd)
}

/// The address that client `number` comes from: 127.0.0.1, then 127.0.0.2 and so on.
fn source(to: IpAddr, number: usize) -> Option<IpAddr> {
    if !to.is_loopback() || !to.is_ipv4() {
        return None;
    }
    let place = u16::try_from(1 + number / PER_SOURCE).ok()?;
    let [high, low] = place.to_be_bytes();
    Some(Ipv4Addr::new(127, 0, high, low).into())
}

fn tcp(to: SocketAddr, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = flags | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// Reads what is there, without waiting.
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> Moved {
    match net::recv(fd, buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => Moved::End,
        Ok((len, _)) => Moved::Bytes(len),
        Err(Errno::AGAIN | Errno::INTR) => Moved::Wait,
        Err(_) => Moved::End,
    }
}

/// Writes what fits, without waiting.
pub fn send(fd: impl AsFd, bytes: &[u8]) -> Moved {
    match net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(len) => Moved::Bytes(len),
        Err(Errno::AGAIN | Errno::INTR) => Moved::Wait,
        Err(_) => Moved::End,
    }
}

/// Writes everything, however long that takes.
pub fn send_waiting(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match net::send(&fd, bytes, SendFlags::NOSIGNAL) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
