//! nginx's macros and code that depends on nginx's configure options. Implemented in macros.c.

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
    /// `ngx_post_event`: calls the event's handler when nginx processes the queue.
    #[link_name = "ngx_sse_post_event"]
    pub fn ngx_post_event(event: *mut ngx_event_t, queue: *mut ngx_queue_t);
    /// `ngx_delete_posted_event`. The event is in a queue.
    #[link_name = "ngx_sse_delete_posted_event"]
    pub fn ngx_delete_posted_event(event: *mut ngx_event_t);
    /// Returns 1 if the connection uses TLS, and 0 otherwise.
    pub fn ngx_sse_is_tls(c: *mut ngx_connection_t) -> ngx_uint_t;
    /// Returns 1 if TLS is not waiting to read before it can write, or the reverse, or if there is
    /// no TLS; 0 otherwise.
    pub fn ngx_sse_tls_is_quiet(c: *mut ngx_connection_t) -> ngx_uint_t;
    /// Frees the buffer in which nginx collects small TLS records, unless it contains data.
    pub fn ngx_sse_tls_free_buffer(c: *mut ngx_connection_t);
    /// Shuts TLS down, if it is used, without waiting for the client.
    pub fn ngx_sse_tls_shutdown(c: *mut ngx_connection_t);
    /// Returns the connection that an HTTP/2 request shares with others; null for other requests.
    pub fn ngx_sse_h2_connection(r: *mut ngx_http_request_t) -> *mut ngx_connection_t;
    /// Returns 1 if the body of an HTTP/2 request is being discarded, and 0 otherwise.
    pub fn ngx_sse_h2_skips_data(r: *mut ngx_http_request_t) -> ngx_uint_t;
    /// Returns 1 if frames of an HTTP/2 request are queued on its connection, and 0 otherwise.
    pub fn ngx_sse_h2_has_queued_frames(r: *mut ngx_http_request_t) -> ngx_uint_t;
    /// Adds to the active connections of stub_status, if nginx has that module.
    pub fn ngx_sse_stat_active(by: ngx_int_t);
    /// Adds to the connections of stub_status that nginx is writing to, if nginx has that module.
    pub fn ngx_sse_stat_writing(by: ngx_int_t);
    /// Returns 1 if the response to a main request is read from an upstream, nginx neither stores
    /// nor caches it, and the upstream does not ask for buffering; 0 otherwise.
    pub fn ngx_sse_is_live_from_upstream(r: *mut ngx_http_request_t) -> ngx_uint_t;
    /// Makes nginx pass the upstream's response on as it arrives. The request has an upstream.
    pub fn ngx_sse_upstream_unbuffer(r: *mut ngx_http_request_t);
    /// Replaces the timeout for reading the upstream's response, if it is not longer than
    /// `longest`, for this request only. The request has an upstream. Times are in ms.
    pub fn ngx_sse_upstream_set_read_timeout(
        r: *mut ngx_http_request_t,
        longest: ngx_msec_t,
        timeout: ngx_msec_t,
    ) -> ngx_int_t;
    /// Returns the name of a module that this nginx has, but that the nginx for which this library
    /// was compiled did not have; null if there is none. Must be called while nginx reads its
    /// configuration.
    pub fn ngx_sse_compiled_without(cf: *mut ngx_conf_t) -> *const c_char;
}
