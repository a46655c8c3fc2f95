//! The body of a request, that nginx has read into memory or into its temporary file.

use super::guard::guarded;
use super::request::{Outcome, Request};
use nginx_sys::{
    ngx_buf_t, ngx_http_finalize_request, ngx_http_read_client_request_body, ngx_http_request_t,
};
use std::borrow::Cow;
use std::io;

/// What answers a request whose body has come.
pub trait WithBody {
    /// Gives the answer, whose outcome ends the request. `None`: it is answered later, through
    /// [`super::later::Later`].
    fn answer(request: &Request) -> Option<Outcome>;
}

impl Request {
    /// Has nginx read the body, then calls `H::answer`, at once or later. What it returns is for
    /// the handler to return.
    pub fn with_body<H: WithBody>(&self) -> Outcome {
        // SAFETY: the request is alive; nginx counts one more user until it is finalized.
        let status = unsafe { ngx_http_read_client_request_body(self.raw(), Some(arrived::<H>)) };
        if status >= 300 {
            return Outcome(status);
        }
        Outcome::DONE
    }

    /// The body's bytes. Fails when the temporary file cannot be read.
    pub fn body(&self) -> io::Result<Cow<'_, [u8]>> {
        // SAFETY: the request is alive.
        let body = unsafe { (*self.raw()).request_body };
        if body.is_null() {
            return Ok(Cow::Borrowed(&[]));
        }
        let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
        // SAFETY: nginx has set up the chain of what it has read.
        let mut link = unsafe { (*body).bufs };
        while !link.is_null() {
            // SAFETY: a link of that chain, which lives as long as the request.
            let buffer = unsafe { &*(*link).buf };
            append(&mut whole, buffer)?;
            // SAFETY: as above; the last link's `next` is null.
            link = unsafe { (*link).next };
        }
        Ok(whole)
    }
}

fn append<'r>(whole: &mut Cow<'r, [u8]>, buffer: &'r ngx_buf_t) -> io::Result<()> {
    if buffer.in_file() != 0 {
        return append_file(whole.to_mut(), buffer);
    }
    let length = (buffer.last as usize).saturating_sub(buffer.pos as usize);
    if length == 0 {
        return Ok(());
    }
    // SAFETY: what lies between the buffer's two marks is in the request's memory.
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
        // SAFETY: the piece has room for as many bytes as are asked for.
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
    // If it is answered later, the count that reading the body took is given back with the answer.
    let Some(Outcome(status)) = outcome else { return };
    // SAFETY: as above; this gives back the count that reading the body took.
    unsafe { ngx_http_finalize_request(r, status) };
}
