//! What nginx has as macros, or only where it was configured so. In C: see macros.c.

use std::ffi::c_char;

use nginx_sys::{
    ngx_conf_t, ngx_connection_t, ngx_event_t, ngx_http_request_t, ngx_int_t, ngx_msec_t,
    ngx_queue_t, ngx_uint_t,
};

extern "C" {
    /// `ngx_add_timer`: calls the event's handler after `timer` ms.
    #[link_name = "ngx_sse_add_timer"]
    pub fn ngx_add_timer(event: *mut ngx_event_t, timer: ngx_msec_t);
    /// `ngx_del_timer`. The event's timer is set.
    #[link_name = "ngx_sse_del_timer"]
    pub fn ngx_del_timer(event: *mut ngx_event_t);
    /// `ngx_post_event`: calls the event's handler when the queue is worked through.
    #[link_name = "ngx_sse_post_event"]
    pub fn ngx_post_event(event: *mut ngx_event_t, queue: *mut ngx_queue_t);
    /// `ngx_delete_posted_event`. The event is in a queue.
    #[link_name = "ngx_sse_delete_posted_event"]
    pub fn ngx_delete_posted_event(event: *mut ngx_event_t);
    /// Whether the connection is encrypted: 1, or 0.
    pub fn ngx_sse_is_tls(c: *mut ngx_connection_t) -> ngx_uint_t;
    /// Whether TLS does not wait for one direction to go on with the other; also without TLS.
    pub fn ngx_sse_tls_is_quiet(c: *mut ngx_connection_t) -> ngx_uint_t;
    /// Frees the buffer in which TLS collects small pieces of a response, unless something is in it.
    pub fn ngx_sse_tls_free_buffer(c: *mut ngx_connection_t);
    /// Ends TLS, if there is any, without waiting for the other side.
    pub fn ngx_sse_tls_shutdown(c: *mut ngx_connection_t);
    /// The connection that carries a request of HTTP/2 along with others; null for other requests.
    pub fn ngx_sse_h2_connection(r: *mut ngx_http_request_t) -> *mut ngx_connection_t;
    /// Whether the body of a request over HTTP/2 is being discarded: 1, or 0.
    pub fn ngx_sse_h2_skips_data(r: *mut ngx_http_request_t) -> ngx_uint_t;
    /// Whether frames of a request over HTTP/2 wait in the queue of their connection: 1, or 0.
    pub fn ngx_sse_h2_has_queued_frames(r: *mut ngx_http_request_t) -> ngx_uint_t;
    /// Adds to the active connections of stub_status, where nginx has it.
    pub fn ngx_sse_stat_active(by: ngx_int_t);
    /// Adds to the connections of stub_status that nginx writes to, where nginx has it.
    pub fn ngx_sse_stat_writing(by: ngx_int_t);
    /// The name of a module of nginx that this nginx has and the one that was compiled for had not; null without
    /// any. Called while nginx reads its configuration.
    pub fn ngx_sse_compiled_without(cf: *mut ngx_conf_t) -> *const c_char;
}
