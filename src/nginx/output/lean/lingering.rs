//! Lingering close: closes the connection of an ended stream whose client is still sending. If a
//! socket with unread bytes is closed, the kernel resets the connection, and the client may lose
//! the end of the response. So only the direction to the client is shut down at first. Input is
//! read and discarded until the client closes its direction, or until `lingering_timeout` or
//! `lingering_time` has passed. Compare nginx's `ngx_http_set_lingering_close`.

use super::client_log::{LoggedClient, PeerAddress};
use super::close_connection;
use super::settings::LeanSettings;
use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::macros::{self, ngx_add_timer, ngx_del_timer, ngx_post_event};
use nginx_sys::{
    ngx_connection_t, ngx_current_msec, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event,
    ngx_int_t, ngx_msec_int_t, ngx_msec_t, ngx_posted_next_events, ngx_reusable_connection,
    NGX_AGAIN, NGX_OK,
};

/// Number of reads from one client in one turn of the event loop.
const READS: usize = 8;

/// The state of a lingering connection: the connection's `data`.
struct LingeringState {
    peer: PeerAddress,
    /// When the connection is closed in any case, in ms of nginx's clock.
    until: ngx_msec_t,
    /// Maximum time to wait for more input, in ms.
    timeout: ngx_msec_t,
}

/// Whether the kernel has unread bytes from the client.
///
/// # Safety
/// The connection is alive.
pub(super) unsafe fn has_unread(c: *mut ngx_connection_t) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: the caller vouches for the connection; the number is a local.
    let result = unsafe { libc::ioctl((*c).fd, libc::FIONREAD, &raw mut unread) };
    result == 0 && unread > 0
}

/// Shuts down the direction to the client, and discards input until the connection is closed.
///
/// # Safety
/// The connection is alive and has no request. The caller is its only user, and does not use it any
/// more.
pub(super) unsafe fn begin(c: *mut ngx_connection_t, peer: PeerAddress, settings: &LeanSettings) {
    let logged = LoggedClient::enter(&peer);
    // SAFETY: the caller vouches for the connection, whose events live as long.
    unsafe {
        // From now on, input is discarded without decrypting it.
        macros::ngx_sse_tls_shutdown(c);
        let write = (*c).write;
        if bits::event::timer_set(write) != 0 {
            ngx_del_timer(write);
        }
        if libc::shutdown((*c).fd, libc::SHUT_WR) != 0 {
            return close_connection(c);
        }
        drop(logged);
        let state = LingeringState {
            peer,
            until: ngx_current_msec.wrapping_add(settings.lingering_time as ngx_msec_t),
            timeout: settings.lingering_timeout as ngx_msec_t,
        };
        (*c).data = Box::into_raw(Box::new(state)).cast();
        (*(*c).read).handler = Some(on_read);
        (*write).handler = Some(on_write);
        bits::connection::set_close(c, 0);
        bits::connection::set_idle(c, 0);
        // nginx closes reusable connections when it runs out of connections.
        ngx_reusable_connection(c, 1);
        discard_input(c);
    }
}

/// Discards input that has arrived, and waits for more or closes the connection.
///
/// # Safety
/// The connection is lingering.
unsafe fn discard_input(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection, whose `data` were set by `begin`.
    unsafe {
        let state: *const LingeringState = (*c).data.cast();
        let left = (*state).until.wrapping_sub(ngx_current_msec);
        if left as ngx_msec_int_t <= 0 {
            return close(c);
        }
        let read = (*c).read;
        let Some(recv) = (*c).recv else { return close(c) };
        let mut discarded = [0u8; 4096];
        let mut is_drained = false;
        for _ in 0..READS {
            match recv(c, discarded.as_mut_ptr(), discarded.len()) {
                got if got > 0 => {}
                again if again == NGX_AGAIN as isize => {
                    is_drained = true;
                    break;
                }
                _ => return close(c),
            }
        }
        if !is_drained {
            // Continue in the next turn, so that a client that sends without end does not delay
            // others.
            ngx_post_event(read, &raw mut ngx_posted_next_events);
        } else if ngx_handle_read_event(read, 0) != NGX_OK as ngx_int_t {
            return close(c);
        }
        ngx_add_timer(read, left.min((*state).timeout));
    }
}

/// Closes the connection.
///
/// # Safety
/// The connection is lingering. It is not used afterwards.
unsafe fn close(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection, whose `data` were set by `begin`.
    unsafe {
        let state: Box<LingeringState> = Box::from_raw((*c).data.cast());
        let _logged = LoggedClient::enter(&state.peer);
        close_connection(c);
    }
}

unsafe extern "C" fn on_read(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls this with the event of a lingering connection. The address is copied
        // because log lines may follow after the state is freed.
        unsafe {
            let c: *mut ngx_connection_t = (*event).data.cast();
            if bits::event::timedout(event) != 0 || bits::connection::close(c) != 0 {
                return close(c);
            }
            let peer = (*(*c).data.cast::<LingeringState>()).peer;
            let _logged = LoggedClient::enter(&peer);
            discard_input(c);
        }
    });
}

unsafe extern "C" fn on_write(event: *mut ngx_event_t) {
    // SAFETY: nginx calls this with the event of a lingering connection. A level-triggered event
    // loop would otherwise report the writable socket in every turn.
    unsafe { ngx_handle_write_event(event, 0) };
}
