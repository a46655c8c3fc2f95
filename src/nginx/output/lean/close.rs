//! What nginx does besides when it closes a connection with its request: TLS's goodbye, a reset for
//! who timed out, the figures of stub_status.

use nginx_sys::{ngx_atomic_t, ngx_connection_t, ngx_int_t, NGX_AGAIN};
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::OnceLock;

/// Ends TLS, if there is any, without waiting for the other side.
///
/// # Safety
/// The connection is alive.
pub(super) unsafe fn say_goodbye(c: *mut ngx_connection_t) {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: the caller vouches for the connection.
    unsafe {
        if !(*c).ssl.is_null() {
            (*(*c).ssl).set_no_wait_shutdown(1);
            if nginx_sys::ngx_ssl_shutdown(c) == NGX_AGAIN as ngx_int_t {
                // There is no room for the goodbye. Without one, its memory is given back at once.
                (*c).set_error(1);
                nginx_sys::ngx_ssl_shutdown(c);
            }
        }
    }
    #[cfg(not(ngx_feature = "http_ssl"))]
    let _ = c;
}

/// Has the kernel forget what it has not sent when the connection is closed.
pub(super) fn leave_nothing(c: *mut ngx_connection_t) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: callers have seen that the connection is alive; the option is a local. Where it
    // cannot be set the connection is closed as any other.
    unsafe { libc::setsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
}

/// Keeps the figures of nginx's stub_status true, where nginx was built with it.
pub(super) fn count(counter: &'static CStr, by: isize) {
    static ACTIVE: OnceLock<usize> = OnceLock::new();
    static WRITING: OnceLock<usize> = OnceLock::new();
    let cell = if counter == c"ngx_stat_active" { &ACTIVE } else { &WRITING };
    let found = *cell.get_or_init(|| {
        // SAFETY: the name is a C string; nginx's binary exports its variables.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, counter.as_ptr()) as usize }
    });
    let Some(place) = NonNull::new(found as *mut *mut ngx_atomic_t) else { return };
    // SAFETY: nginx's variable points to an atomic number in shared memory.
    unsafe {
        let number = *place.as_ptr();
        if !number.is_null() {
            AtomicIsize::from_ptr(number.cast()).fetch_add(by, Ordering::Relaxed);
        }
    }
}
