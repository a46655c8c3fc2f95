//! TCP sockets for load and floor, and single reads and writes on them.

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size, set_tcp_nodelay};
use rustix::net::{
    self, bind, connect, ipproto, socket_with, AddressFamily, RecvFlags, SendFlags, SocketFlags,
    SocketType,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Clients per source address: well below the number of its ports.
const PER_SOURCE: usize = 10_000;

/// The result of an attempt to read or write.
pub enum Moved {
    Bytes(usize),
    /// Not possible now.
    Wait,
    /// The peer has closed or reset the connection.
    End,
}

/// The size of a client's receive buffer.
#[derive(Clone, Copy, PartialEq)]
pub enum Buffer {
    Ordinary,
    /// Small, so that the server soon notices a client that does not read.
    Small,
}

/// Starts to connect client `number`. If the server is on this machine, the client uses one of the
/// loopback addresses in turn.
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

/// Connects client `number`, and waits for that. Writes block, and reads may.
pub fn connect_from(to: SocketAddr, number: usize) -> Result<OwnedFd, Errno> {
    let fd = client(to, number, SocketFlags::empty())?;
    connect(&fd, &to)?;
    Ok(fd)
}

/// Creates the socket of client `number`.
fn client(to: SocketAddr, number: usize, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let fd = tcp(to, flags)?;
    // Close with a reset: a benchmark that leaves a million sockets in TIME_WAIT cannot be
    // repeated.
    set_socket_linger(&fd, Some(Duration::ZERO))?;
    if let Some(source) = source(to.ip(), number) {
        bind(&fd, &SocketAddr::new(source, 0))?;
    }
    Ok(fd)
}

/// Connects for publishing. Writes block, reads do not.
pub fn connect_waiting(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = tcp(to, SocketFlags::empty())?;
    connect(&fd, &to)?;
    set_tcp_nodelay(&fd, true)?;
    Ok(fd)
}

/// Returns the source address of client `number`: 127.0.0.1, then 127.0.0.2, and so on.
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

/// Reads what is available, without waiting.
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
