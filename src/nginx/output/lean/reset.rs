//! What nginx does besides when it closes a connection that has timed out: a reset.

use nginx_sys::ngx_connection_t;

/// Has the kernel forget what it has not sent when the connection is closed.
pub(super) fn set_reset_on_close(c: *mut ngx_connection_t) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: callers have seen that the connection is alive; the option is a local. Where it
    // cannot be set the connection is closed as any other.
    unsafe { libc::setsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
}
