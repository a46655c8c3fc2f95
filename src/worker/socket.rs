//! The way of frames to a client: what the worker asks of a connection, and the batch it hands over.

use std::cell::OnceCell;

use bytes::{Bytes, BytesMut};

use crate::sse::frame::Frame;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it went to the kernel, and more may come.
    All,
    /// The first `taken` frames (at least one) are the socket's business now: gone, or kept until
    /// the client reads. `Worker::writable` is called when what it kept is gone.
    Blocked {
        /// Frames that the socket has taken.
        taken: usize,
    },
    /// The connection is dead.
    Failed,
}

/// One client's connection, as the worker sees it.
pub trait Socket {
    /// Takes frames in order, in as few system calls as it can. Called only while it keeps nothing
    /// of an earlier batch.
    fn send(&mut self, batch: &Batch) -> Sent;

    /// Reads a little of what `send` needs, so that it is in the processor's cache by then.
    fn warm(&self) -> usize {
        0
    }
}

/// Frames that go to a client together; many clients may get the same batch.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Vec<Frame>,
    body_len: usize,
    chunks: OnceCell<Bytes>,
    bodies: OnceCell<Bytes>,
}

impl Batch {
    /// A batch of these frames.
    pub fn of(frames: Vec<Frame>) -> Batch {
        let body_len = frames.iter().map(|frame| frame.body().len()).sum();
        Batch { frames, body_len, ..Batch::default() }
    }

    /// Bytes of all frames without chunked framing.
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// The frames.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// All frames as HTTP/1.1 chunks in one piece of memory: joined once, for all clients.
    pub fn chunks(&self) -> &Bytes {
        self.chunks.get_or_init(|| match self.frames.as_slice() {
            [only] => only.chunk().clone(),
            frames => join(frames.iter().map(|frame| &frame.chunk()[..])),
        })
    }

    /// All frames without chunked framing, in one piece of memory.
    pub fn bodies(&self) -> &Bytes {
        self.bodies.get_or_init(|| match self.frames.as_slice() {
            [only] => only.body_bytes(),
            frames => join(frames.iter().map(|frame| frame.body())),
        })
    }

    /// How many frames the first `len` bytes of `chunks` (or `bodies`) complete, and how many bytes
    /// of the next one are among them.
    pub fn split(&self, len: usize, size: impl Fn(&Frame) -> usize) -> (usize, usize) {
        let mut rest = len;
        for (whole, frame) in self.frames.iter().enumerate() {
            let size = size(frame);
            if rest < size {
                return (whole, rest);
            }
            rest -= size;
        }
        (self.frames.len(), 0)
    }
}

fn join<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let mut joined = BytesMut::with_capacity(parts.clone().map(<[u8]>::len).sum());
    parts.for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}
