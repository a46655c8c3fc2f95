//! Error lines of connections that have given back their memory, in which nginx keeps a log of each:
//! they share one for each `error_log`, and it names the client that is being served at the moment.

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

/// What nginx's lines say that it was doing.
pub(super) const ACTION: &CStr = c"streaming events";

/// A client's address, as small as it can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerAddress {
    V4([u8; 4]),
    V6([u8; 16]),
    /// Not of the internet.
    Local,
}

/// For as long as it is kept, lines name a client.
pub(super) struct LoggedClient<'a> {
    /// Whom they named before.
    before: *mut PeerAddress,
    logged: PhantomData<&'a PeerAddress>,
}

/// Whom lines are about. Read and written by the thread of nginx's loop alone: an atomic, for that costs a
/// move where a thread's own variable costs a call, and every event to every client comes by.
static LOGGED_CLIENT: AtomicPtr<PeerAddress> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    static LOGS: RefCell<Vec<&'static mut ngx_log_t>> = const { RefCell::new(Vec::new()) };
}

impl PeerAddress {
    /// # Safety
    /// The connection is alive and has the address that nginx accepted it from.
    pub(super) unsafe fn of_connection(c: *mut ngx_connection_t) -> PeerAddress {
        // SAFETY: the caller vouches for the connection; the family says what the address is.
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
            // As nginx names them.
            PeerAddress::Local => f.write_str("unix:"),
        }
    }
}

impl<'a> LoggedClient<'a> {
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

/// The log that takes the place of this one. None where each connection has to keep its own: it is
/// debugged (`debug_connection`), or a reload may close the file under it (`master_process off`).
///
/// # Safety
/// `own` is a log of nginx, set up from an `error_log` of the configuration in force.
pub(super) unsafe fn shared_log(own: *const ngx_log_t) -> Option<NonNull<ngx_log_t>> {
    // SAFETY: the caller vouches for the log; the other is a plain number.
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
        // One for each error_log of the configuration, for as long as the process lives.
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

/// nginx calls this for the end of each line.
unsafe extern "C" fn name_client(_log: *mut ngx_log_t, buffer: *mut u8, len: usize) -> *mut u8 {
    guarded(buffer, || {
        // SAFETY: null, or a peer that a `LoggedClient` borrows, which takes it away when it goes.
        let Some(peer) = (unsafe { LOGGED_CLIENT.load(Relaxed).as_ref() }) else { return buffer };
        // SAFETY: nginx gives the place that is left of its line.
        let room = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
        let mut line = Cursor::new(room);
        // What does not fit is left out, as in any other line.
        let _ = write!(line, " while {}, client: {peer}", ACTION.to_string_lossy());
        buffer.wrapping_add(line.position() as usize)
    })
}
