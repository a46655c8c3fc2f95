//! The error log of connections whose pool has been freed. nginx keeps each connection's log in its
//! pool. These connections share one log for each `error_log`, which names the client that is being
//! served.

use crate::nginx::guard::guarded;
use nginx_sys::{
    ngx_connection_t, ngx_log_t, ngx_process, sockaddr, sockaddr_in, NGX_LOG_DEBUG_CONNECTION,
    NGX_PROCESS_WORKER,
};
use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt;
use std::io::{Cursor, Write};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// The action in log lines, after "while".
pub(super) const ACTION: &CStr = c"streaming events";

/// A client's address, in as few bytes as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerAddress {
    V4([u8; 4]),
    V6([u8; 16]),
    /// A Unix domain socket.
    Local,
}

/// Makes lines in the shared logs name a client until this is dropped.
pub(super) struct LoggedClient<'a> {
    /// The client that they named before.
    before: *mut PeerAddress,
    logged: PhantomData<&'a PeerAddress>,
}

/// The client that lines in the shared logs name. Only the event loop's thread uses it. It is an
/// atomic and not a thread-local variable because it is written for every event to every client,
/// and accessing a thread-local variable of a shared library is a function call.
static LOGGED_CLIENT: AtomicPtr<PeerAddress> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// The shared logs, one for each `error_log` of the configuration.
    static LOGS: RefCell<Vec<&'static mut ngx_log_t>> = const { RefCell::new(Vec::new()) };
}

impl PeerAddress {
    /// Returns the client's address of a connection.
    ///
    /// # Safety
    /// The connection is alive, and its pool has not been freed.
    pub(super) unsafe fn of_connection(c: *mut ngx_connection_t) -> PeerAddress {
        // SAFETY: the caller vouches for the connection; the family determines the address's type.
        unsafe {
            let address: *const sockaddr = (*c).sockaddr;
            if address.is_null() {
                return PeerAddress::Local;
            }
            match i32::from((*address).sa_family) {
                libc::AF_INET => {
                    let address: *const sockaddr_in = address.cast();
                    PeerAddress::V4((*address).sin_addr.s_addr.to_ne_bytes())
                }
                libc::AF_INET6 => {
                    let address: *const libc::sockaddr_in6 = address.cast();
                    PeerAddress::V6((*address).sin6_addr.s6_addr)
                }
                _ => PeerAddress::Local,
            }
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PeerAddress::V4(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)).fmt(f),
            PeerAddress::V6(bytes) => IpAddr::V6(Ipv6Addr::from(bytes)).fmt(f),
            // As in nginx's own lines.
            PeerAddress::Local => f.write_str("unix:"),
        }
    }
}

impl<'a> LoggedClient<'a> {
    /// Makes lines name this client.
    pub(super) fn enter(peer: &'a PeerAddress) -> LoggedClient<'a> {
        let before = LOGGED_CLIENT.load(Relaxed);
        LOGGED_CLIENT.store(ptr::from_ref(peer).cast_mut(), Relaxed);
        LoggedClient { before, logged: PhantomData }
    }
}

impl Drop for LoggedClient<'_> {
    fn drop(&mut self) {
        LOGGED_CLIENT.store(self.before, Relaxed);
    }
}

/// Returns the shared log that replaces a connection's own log, or `None` if the connection must
/// keep its own: because it is debugged (`debug_connection`), or because a reload may close the
/// log's file while this process is running (`master_process off`).
///
/// # Safety
/// `own` is a log of the current configuration.
pub(super) unsafe fn shared_log(own: *const ngx_log_t) -> Option<NonNull<ngx_log_t>> {
    // SAFETY: the caller vouches for the log; `ngx_process` is an integer.
    let (own, process) = unsafe { (&*own, ngx_process) };
    let debugged = own.log_level & NGX_LOG_DEBUG_CONNECTION as usize != 0;
    if debugged || process as u32 != NGX_PROCESS_WORKER {
        return None;
    }
    LOGS.with(|logs| {
        let mut logs = logs.try_borrow_mut().ok()?;
        if let Some(same) = logs.iter_mut().find(|log| writes_as(log, own)) {
            return Some(NonNull::from(&mut **same));
        }
        let mut log = *own;
        log.connection = 0;
        log.handler = Some(name_client);
        log.data = std::ptr::null_mut();
        log.action = ACTION.as_ptr().cast_mut().cast();
        // Never freed: there is one for each error_log of the configuration.
        logs.push(Box::leak(Box::new(log)));
        logs.last_mut().map(|log| NonNull::from(&mut **log))
    })
}

/// Whether two logs write the same lines to the same places.
fn writes_as(one: &ngx_log_t, other: &ngx_log_t) -> bool {
    one.file == other.file
        && one.next == other.next
        && one.log_level == other.log_level
        && one.wdata == other.wdata
        && one.writer.map(|writer| writer as usize) == other.writer.map(|writer| writer as usize)
}

/// The handler of the shared logs: nginx calls it to complete each line.
unsafe extern "C" fn name_client(_log: *mut ngx_log_t, buffer: *mut u8, len: usize) -> *mut u8 {
    guarded(buffer, || {
        // SAFETY: null, or an address that a `LoggedClient` borrows; dropping that clears the
        // pointer.
        let Some(peer) = (unsafe { LOGGED_CLIENT.load(Relaxed).as_ref() }) else { return buffer };
        // SAFETY: nginx passes the rest of its line buffer.
        let room = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
        let mut line = Cursor::new(room);
        // Text that does not fit is cut off, as in any other line.
        let _ = write!(line, " while {}, client: {peer}", ACTION.to_string_lossy());
        buffer.wrapping_add(line.position() as usize)
    })
}
