//! Request bodies: read completely, into memory or nginx's temporary file, or discarded.
//!
//! A handler that returns a status that `error_page` may redirect must not discard the body. Only
//! functions that send a response do.

mod unannounced;

use super::bits;
use super::guard::guarded;
use super::macros;
use super::pool::{bytes, NoMemory};
use super::request::{Outcome, Request};
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_discard_request_body, ngx_http_finalize_request,
    ngx_http_read_client_request_body, ngx_http_request_t, ngx_int_t, ngx_uint_t, NGX_OK,
};
use std::borrow::Cow;
use std::io;

/// A function that nginx calls once it has read a body.
type Handler = unsafe extern "C" fn(*mut ngx_http_request_t);

/// A handler for requests whose body was read.
pub trait WithBody {
    /// Sends the response and returns the outcome that ends the request, or `None` if a
    /// [`super::deferred::DeferredResponse`] sends it later.
    fn answer(request: &Request) -> Option<Outcome>;

    /// Responds to a request whose body can no longer be read completely.
    fn refuse_partial(request: &Request) -> Outcome;
}

/// Why a body is not available.
#[derive(Debug)]
pub enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// The temporary file cannot be read.
    Unreadable(io::Error),
}

impl Request {
    /// Reads the body, then calls `H::answer`, at once or later. Returns what the handler has to
    /// return to nginx.
    ///
    /// If the client has not announced the length, no more than `limit` bytes and one buffer of
    /// nginx are read; `body(limit)` then fails with `TooLarge`.
    ///
    /// Another location may have read the body before this one, without buffering, or discarded it.
    /// nginx would then report what is left as the body.
    pub fn with_body<H: WithBody>(&self, limit: usize) -> Outcome {
        if self.has_lost_body() {
            return H::refuse_partial(self);
        }
        let handler: Handler = match self.announced_length() {
            Some(_) => arrived::<H>,
            None => match self.read_unbuffered(limit) {
                Ok(()) => unannounced::arrived_in_part::<H>,
                Err(NoMemory) => return Outcome::status(500),
            },
        };
        // SAFETY: the request is alive; nginx counts one more user until it is finalized.
        let status = unsafe { ngx_http_read_client_request_body(self.raw(), Some(handler)) };
        if status >= 300 {
            return Outcome(status);
        }
        Outcome::DONE
    }

    /// Returns the length of the body in bytes, if the client announced it (`Content-Length`).
    pub fn announced_length(&self) -> Option<u64> {
        // SAFETY: the request is alive.
        let header = unsafe { (*self.raw()).headers_in.content_length };
        // SAFETY: an element of the list of headers, or null.
        let text = unsafe { header.as_ref().map(|header| bytes(&header.value)) };
        text.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok())
    }

    /// Returns whether a part of the body was discarded or passed on before, or has not arrived and
    /// will not be read.
    fn has_lost_body(&self) -> bool {
        // SAFETY: the request is alive.
        let r = unsafe { &*self.raw() };
        let announced = self.announced_length().unwrap_or(0);
        // SAFETY: as above.
        let (chunked, discards) = unsafe {
            (bits::headers_in::chunked(&r.headers_in) != 0, bits::request::discard_body(r) != 0)
        };
        if announced == 0 && !chunked {
            return false;
        }
        if self.is_reading_body() || discards || self.skips_data() {
            return true;
        }
        // SAFETY: nginx has set it up, or it is null.
        let Some(body) = (unsafe { r.request_body.as_ref() }) else {
            // It was not read. Discarding decrements the length.
            return !chunked && u64::try_from(r.headers_in.content_length_n) != Ok(announced);
        };
        if body.post_handler.is_none() && !body.chunked.is_null() {
            // nginx created it to discard a chunked body.
            return true;
        }
        let whole = match r.headers_in.content_length_n {
            unknown if unknown < 0 => body.received,
            known => known,
        };
        body.rest > 0 || (length(body.bufs) as i128) < i128::from(whole)
    }

    /// Returns whether the body of a request over HTTP/2 is being discarded.
    fn skips_data(&self) -> bool {
        // SAFETY: the request is alive, and so is its stream, if it has one.
        unsafe { macros::ngx_sse_h2_skips_data(self.raw()) != 0 }
    }

    /// Returns the body if it has at most `most` bytes.
    pub fn body(&self, most: usize) -> Result<Cow<'_, [u8]>, BodyError> {
        // SAFETY: the request is alive.
        let body = unsafe { (*self.raw()).request_body };
        if body.is_null() {
            return Ok(Cow::Borrowed(&[]));
        }
        // SAFETY: nginx has set up the chain of buffers that it has read.
        let mut link = unsafe { (*body).bufs };
        if self.exceeds_limit() || self.is_reading_body() || length(link) > most as u64 {
            return Err(BodyError::TooLarge);
        }
        let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
        while !link.is_null() {
            // SAFETY: a link of that chain, which lives as long as the request.
            let buffer = unsafe { &*(*link).buf };
            append(&mut whole, buffer).map_err(BodyError::Unreadable)?;
            // SAFETY: as above; the last link's `next` is null.
            link = unsafe { (*link).next };
        }
        Ok(whole)
    }

    /// Discards the body, including what arrives later, before a response that ends the request.
    pub(super) fn discard_body(&self) {
        let r = self.raw();
        // SAFETY: the request is alive.
        unsafe {
            if (*r).headers_out.status >= REFUSED {
                // As in nginx's own error responses: a client that waits for 100 (Continue) sends
                // no body.
                bits::request::set_expect_tested(r, 1);
            }
            if ngx_http_discard_request_body(r) != NGX_OK as ngx_int_t {
                bits::request::set_keepalive(r, 0);
            }
        }
    }

    /// Discards the body of a request that is answered with a stream, before any header of the
    /// response is set. The handler returns any outcome other than `OK` to nginx.
    ///
    /// nginx discards the rest of a body for `lingering_timeout` at most, and then closes the
    /// connection. Meanwhile, it does not check whether the client has disconnected. So the stream
    /// reads the rest (`output::incoming`). It does not know where the body ends, so the connection
    /// cannot be used for another request.
    pub fn discard_body_of_stream(&self) -> Outcome {
        let r = self.raw();
        // SAFETY: the request is alive. nginx has counted itself as a user of the request.
        unsafe {
            let status = ngx_http_discard_request_body(r);
            if status == NGX_OK as ngx_int_t && bits::request::discard_body(r) != 0 {
                bits::request::set_discard_body(r, 0);
                bits::request::set_count(r, bits::request::count(r) - 1);
                bits::request::set_keepalive(r, 0);
                bits::request::set_lingering_close(r, 1);
            }
            Outcome(status)
        }
    }
}

/// The lowest status that does not mean success.
const REFUSED: ngx_uint_t = 300;

/// Returns the number of bytes in the buffers of a body.
fn length(mut link: *mut ngx_chain_t) -> u64 {
    let mut length = 0u64;
    while !link.is_null() {
        // SAFETY: a link of the chain of a body, which nginx has set up.
        let buffer = unsafe { &*(*link).buf };
        length = length.saturating_add(size(buffer));
        // SAFETY: as above; the last link's `next` is null.
        link = unsafe { (*link).next };
    }
    length
}

/// Returns the number of bytes in a buffer of a body.
fn size(buffer: &ngx_buf_t) -> u64 {
    // SAFETY: the buffer is alive.
    if unsafe { bits::buf::in_file(buffer) } != 0 {
        return u64::try_from(buffer.file_last - buffer.file_pos).unwrap_or(0);
    }
    (buffer.last as usize).saturating_sub(buffer.pos as usize) as u64
}

fn append<'r>(whole: &mut Cow<'r, [u8]>, buffer: &'r ngx_buf_t) -> io::Result<()> {
    // SAFETY: the buffer is alive.
    if unsafe { bits::buf::in_file(buffer) } != 0 {
        return append_file(whole.to_mut(), buffer);
    }
    let length = (buffer.last as usize).saturating_sub(buffer.pos as usize);
    if length == 0 {
        return Ok(());
    }
    // SAFETY: the bytes from `pos` to `last` are in the request's memory.
    let piece = unsafe { std::slice::from_raw_parts(buffer.pos.cast_const(), length) };
    if whole.is_empty() {
        *whole = Cow::Borrowed(piece);
    } else {
        whole.to_mut().extend_from_slice(piece);
    }
    Ok(())
}

fn append_file(whole: &mut Vec<u8>, buffer: &ngx_buf_t) -> io::Result<()> {
    // SAFETY: a buffer in a file has the file, which is open as long as the request lives.
    let descriptor = unsafe { (*buffer.file).fd };
    let mut at = buffer.file_pos;
    let mut piece = vec![0u8; 65_536];
    while at < buffer.file_last {
        let wanted = piece.len().min(usize::try_from(buffer.file_last - at).unwrap_or(usize::MAX));
        // SAFETY: the piece is at least as long as the requested number of bytes.
        let got = unsafe { libc::pread(descriptor, piece.as_mut_ptr().cast(), wanted, at) };
        match usize::try_from(got) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                whole.extend_from_slice(piece.get(..count).unwrap_or_default());
                at += got as i64;
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

unsafe extern "C" fn arrived<H: WithBody>(r: *mut ngx_http_request_t) {
    let failed = Outcome::status(500);
    let outcome = guarded(Some(failed), || {
        // SAFETY: nginx calls this with the request whose body it has read.
        unsafe { Request::from_raw(r) }.map_or(Some(failed), |request| H::answer(&request))
    });
    // If the response is deferred, it also releases the reference that reading the body has taken.
    let Some(Outcome(status)) = outcome else { return };
    // SAFETY: as above; this releases the reference that reading the body has taken.
    unsafe { ngx_http_finalize_request(r, status) };
}
