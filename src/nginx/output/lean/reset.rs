//! Resets a connection that has timed out, as nginx does with `reset_timedout_connection`.

use nginx_sys::ngx_connection_t;

/// Makes the kernel discard unsent bytes and reset the connection when it is closed.
pub(super) fn set_reset_on_close(c: *mut ngx_connection_t) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: callers have checked that the connection is alive; the option is a local. If it
    // cannot be set, the connection is closed without a reset.
    unsafe { libc::setsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
}
