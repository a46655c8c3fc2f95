//! Connections whose streams have ended while their clients go on sending. A socket that is closed with
//! bytes that nobody has read resets its connection, and the client may lose the end of its response. So
//! only the direction to the client is closed at once; what comes from it is read and dropped, until it
//! closes its side or the time is over (`lingering_timeout`, `lingering_time`).

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

/// Reads from one client in one turn of the loop.
const READS: usize = 8;

/// What a lingering connection needs. It is the connection's `data`.
struct Ended {
    peer: PeerAddress,
    /// The time in nginx's ms when the connection is closed in any case.
    until: ngx_msec_t,
    /// The longest wait for more from the client, in ms.
    timeout: ngx_msec_t,
}

/// Whether bytes from the client wait in the kernel.
///
/// # Safety
/// The connection is alive.
pub(super) unsafe fn has_unread(c: *mut ngx_connection_t) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: the caller vouches for the connection; the number is a local.
    let asked = unsafe { libc::ioctl((*c).fd, libc::FIONREAD, &raw mut unread) };
    asked == 0 && unread > 0
}

/// Closes the direction to the client, after all that was sent, and drops what the client still sends.
///
/// # Safety
/// The connection is alive, has no request, and is the caller's to close; from now on it is not used by
/// the caller.
pub(super) unsafe fn begin(c: *mut ngx_connection_t, peer: PeerAddress, settings: &LeanSettings) {
    let logged = LoggedClient::enter(&peer);
    // SAFETY: the caller vouches for the connection, whose events live as long.
    unsafe {
        // From here on the client's bytes are of no interest, encrypted or not.
        macros::ngx_sse_tls_shutdown(c);
        let write = (*c).write;
        if bits::event::timer_set(write) != 0 {
            ngx_del_timer(write);
        }
        if libc::shutdown((*c).fd, libc::SHUT_WR) != 0 {
            return close_connection(c);
        }
        drop(logged);
        let ended = Ended {
            peer,
            until: ngx_current_msec.wrapping_add(settings.lingering_time as ngx_msec_t),
            timeout: settings.lingering_timeout as ngx_msec_t,
        };
        (*c).data = Box::into_raw(Box::new(ended)).cast();
        (*(*c).read).handler = Some(on_read);
        (*write).handler = Some(on_write);
        bits::connection::set_close(c, 0);
        bits::connection::set_idle(c, 0);
        // Where connections become scarce, nginx closes this one.
        ngx_reusable_connection(c, 1);
        drop_bytes(c);
    }
}

/// Drops what has come, and waits for more or closes the connection.
///
/// # Safety
/// The connection lingers.
unsafe fn drop_bytes(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection, whose data are what `begin` made.
    unsafe {
        let ended: *const Ended = (*c).data.cast();
        let left = (*ended).until.wrapping_sub(ngx_current_msec);
        if left as ngx_msec_int_t <= 0 {
            return close(c);
        }
        let read = (*c).read;
        let Some(recv) = (*c).recv else { return close(c) };
        let mut discarded = [0u8; 4096];
        let mut waits = false;
        for _ in 0..READS {
            match recv(c, discarded.as_mut_ptr(), discarded.len()) {
                got if got > 0 => {}
                again if again == NGX_AGAIN as isize => {
                    waits = true;
                    break;
                }
                _ => return close(c),
            }
        }
        if !waits {
            // Others first: a client that sends without end is read in turn with them.
            ngx_post_event(read, &raw mut ngx_posted_next_events);
        } else if ngx_handle_read_event(read, 0) != NGX_OK as ngx_int_t {
            return close(c);
        }
        ngx_add_timer(read, left.min((*ended).timeout));
    }
}

/// # Safety
/// The connection lingers; afterwards it is gone.
unsafe fn close(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection, whose data are what `begin` made.
    unsafe {
        let ended: Box<Ended> = Box::from_raw((*c).data.cast());
        let _logged = LoggedClient::enter(&ended.peer);
        close_connection(c);
    }
}

unsafe extern "C" fn on_read(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls with the event of a connection that lingers. The peer is copied, because
        // the connection may be gone before the last line is written.
        unsafe {
            let c: *mut ngx_connection_t = (*event).data.cast();
            if bits::event::timedout(event) != 0 || bits::connection::close(c) != 0 {
                return close(c);
            }
            let peer = (*(*c).data.cast::<Ended>()).peer;
            let _logged = LoggedClient::enter(&peer);
            drop_bytes(c);
        }
    });
}

unsafe extern "C" fn on_write(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of a connection that lingers. Where the loop tells of room for
    // as long as there is any, it is to stop that.
    unsafe { ngx_handle_write_event(event, 0) };
}
