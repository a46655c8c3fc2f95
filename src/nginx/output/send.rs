//! Sends bytes to a connection past nginx's filters, for streams with and without a request, in one
//! call to the kernel or the TLS library, and keeps what was not accepted.

use super::filters::{count_fitting, PIECE};
use super::SendPath;
use crate::nginx::macros;
use crate::sse::frame::Frame;
use crate::worker::Batch;
use bytes::Bytes;
use nginx_sys::{ngx_connection_t, NGX_AGAIN};

/// Maximum number of bytes that are passed to a TLS library in one call: one record (RFC 8446,
/// section 5.1). The library does not report how much of a longer piece was sent.
const RECORD: usize = 16 * 1024;

/// What bytes are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// The socket, which may accept a part of the bytes.
    Plain,
    /// A TLS library, which accepts a record or nothing, and must then be given the same bytes
    /// again.
    Tls,
}

impl Transport {
    /// Returns the transport of a connection.
    ///
    /// # Safety
    /// The connection is alive.
    pub(super) unsafe fn for_connection(c: *mut ngx_connection_t) -> Transport {
        // SAFETY: the caller vouches for the connection.
        if unsafe { macros::ngx_sse_is_tls(c) } != 0 {
            Transport::Tls
        } else {
            Transport::Plain
        }
    }

    /// Whether a batch may be sent in one piece. Over TLS, a piece must be kept completely if the
    /// client does not accept it, so its size is limited.
    fn fits(self, path: SendPath, batch: &Batch) -> bool {
        self == Transport::Plain || batch.frames().len() == 1 || joined(batch, path).len() <= PIECE
    }
}

/// How much of a batch the kernel has accepted.
pub(super) enum Written {
    /// All of it.
    All,
    /// Some frames, the last of them possibly in part. The rest must be sent before anything else.
    Part {
        /// The number of frames that were sent completely or in part.
        taken: usize,
        /// The part of these frames that was not sent.
        rest: Bytes,
    },
}

/// Sends a batch in one call to the kernel; over TLS, a large batch is sent in pieces. The caller
/// keeps the rest of a frame that was sent in part. The frames after it are not sent.
pub(super) fn send_batch(
    c: *mut ngx_connection_t,
    transport: Transport,
    path: SendPath,
    batch: &Batch,
) -> Result<Written, ()> {
    if transport.fits(path, batch) {
        return send_piece(c, transport, path, batch);
    }
    let mut sent = 0;
    while let Some(rest) = batch.frames().get(sent..).filter(|rest| !rest.is_empty()) {
        let piece = Batch::from_frames(rest.get(..count_fitting(rest)).unwrap_or(rest).to_vec());
        match send_piece(c, transport, path, &piece)? {
            Written::All => sent += piece.frames().len(),
            Written::Part { taken, rest } => {
                return Ok(Written::Part { taken: sent + taken, rest })
            }
        }
    }
    Ok(Written::All)
}

fn send_piece(
    c: *mut ngx_connection_t,
    transport: Transport,
    path: SendPath,
    batch: &Batch,
) -> Result<Written, ()> {
    let bytes = joined(batch, path);
    let sent = write(c, transport, bytes)?;
    if sent == bytes.len() {
        return Ok(Written::All);
    }
    if transport == Transport::Tls {
        return Ok(Written::Part { taken: batch.frames().len(), rest: remainder(bytes, sent) });
    }
    let (whole, part) = batch.split(sent, |frame| frame_bytes(frame, path).len());
    let Some(frame) = batch.frames().get(whole) else { return Ok(Written::All) };
    if whole > 0 && part == 0 {
        return Ok(Written::Part { taken: whole, rest: Bytes::new() });
    }
    // A slice of the frame, so that the batch's memory is freed.
    Ok(Written::Part { taken: whole + 1, rest: frame_bytes(frame, path).slice(part..) })
}

/// Returns what follows the first `sent` bytes. An empty result keeps no memory alive.
pub(super) fn remainder(bytes: &Bytes, sent: usize) -> Bytes {
    match bytes.slice(sent..) {
        rest if rest.is_empty() => Bytes::new(),
        rest => rest,
    }
}

fn joined(batch: &Batch, path: SendPath) -> &Bytes {
    match path {
        SendPath::Bodies => batch.bodies(),
        _ => batch.chunks(),
    }
}

fn frame_bytes(frame: &Frame, path: SendPath) -> Bytes {
    match path {
        SendPath::Bodies => frame.body_bytes(),
        _ => frame.chunk().clone(),
    }
}

/// Writes bytes until no more are accepted. Returns how many were, or an error if the connection is
/// dead.
pub(super) fn write(
    c: *mut ngx_connection_t,
    transport: Transport,
    bytes: &[u8],
) -> Result<usize, ()> {
    if transport == Transport::Plain || bytes.len() <= RECORD {
        return write_once(c, bytes);
    }
    let mut taken = 0;
    for record in bytes.chunks(RECORD) {
        let sent = write_once(c, record)?;
        taken += sent;
        if sent < record.len() {
            break;
        }
    }
    Ok(taken)
}

/// Writes bytes with one call to the kernel or the TLS library. Returns how many were accepted, or
/// an error if the connection is dead.
fn write_once(c: *mut ngx_connection_t, bytes: &[u8]) -> Result<usize, ()> {
    if bytes.is_empty() {
        return Ok(0);
    }
    // SAFETY: callers have checked that the connection is alive; nginx only reads the bytes.
    let sent = unsafe {
        let send = (*c).send.ok_or(())?;
        send(c, bytes.as_ptr().cast_mut(), bytes.len())
    };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent.min(bytes.len())),
        Err(_) if sent == NGX_AGAIN as isize => Ok(0),
        Err(_) => Err(()),
    }
}

/// Frees the buffer in which nginx collects small TLS records. nginx allocates it again when it is
/// needed.
pub(super) fn free_tls_buffer(c: *mut ngx_connection_t) {
    // SAFETY: callers have checked that the connection is alive.
    unsafe { macros::ngx_sse_tls_free_buffer(c) };
}
