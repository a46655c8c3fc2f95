//! Overwrites secret arguments of a request in everything that nginx would log.

use super::pool::{bytes, copied, NoMemory};
use super::request::Request;
use crate::access::source;
use nginx_sys::ngx_str_t;

impl Request {
    /// Overwrites the values of all arguments with this name with asterisks, in the request line
    /// and in the address (`$request`, `$request_uri`, `$args`).
    ///
    /// The query string itself is not written, because it may be part of the configuration. If it
    /// is in neither of the two, the request gets a copy that is masked.
    pub fn mask_argument(&mut self, name: &[u8]) -> Result<(), NoMemory> {
        // SAFETY: the request is alive, and nothing else refers to it, because it is borrowed
        // mutably.
        let r = unsafe { &mut *self.raw() };
        for text in [&mut r.request_line, &mut r.unparsed_uri] {
            if !text.data.is_null() {
                // SAFETY: both are in the request's own memory; no other reference to these bytes
                // exists during the call.
                let text = unsafe { std::slice::from_raw_parts_mut(text.data, text.len) };
                source::mask_argument(text, name);
            }
        }
        if is_part(&r.args, &r.request_line) || is_part(&r.args, &r.unparsed_uri) {
            return Ok(());
        }
        // SAFETY: the query string is in the memory of the request or of the configuration.
        let mut copy = unsafe { bytes(&r.args) }.to_vec();
        if source::mask_in_query(&mut copy, name) {
            // SAFETY: the pool is the request's.
            r.args = unsafe { copied(r.pool, &copy) }?;
        }
        Ok(())
    }
}

/// Whether a string is a part of another one, in the same memory.
fn is_part(part: &ngx_str_t, whole: &ngx_str_t) -> bool {
    let (start, end) = (whole.data as usize, whole.data as usize + whole.len);
    part.data as usize >= start && part.data as usize + part.len <= end
}
