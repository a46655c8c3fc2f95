//! The interface between the worker and a connection: what the worker asks of it, and the batches
//! that it sends.

use std::cell::OnceCell;

use bytes::{Bytes, BytesMut};

use crate::sse::frame::Frame;

/// The result of sending a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel accepted everything, and more can be sent.
    All,
    /// The socket has taken responsibility for the first `taken` frames (at least one): they are
    /// sent, or stored until the client reads. `Worker::writable` is called when the stored bytes
    /// have been sent.
    Blocked {
        /// Number of frames accepted.
        taken: usize,
    },
    /// The connection is broken.
    Failed,
}

/// A client's connection, as the worker sees it.
pub trait Socket {
    /// Sends frames in order, in as few system calls as possible. Called only when no bytes of an
    /// earlier batch are stored.
    fn send(&mut self, batch: &Batch) -> Sent;

    /// Reads a little of the memory that `send` needs, to bring it into the processor's cache. The
    /// returned value has no meaning.
    fn prefetch(&self) -> usize {
        0
    }

    /// Returns whether the client may discard what it has not read yet when its response is
    /// interrupted, because that resets a stream of HTTP/2 or HTTP/3.
    fn is_interrupted_by_reset(&self) -> bool {
        false
    }
}

/// Frames that are sent together. Many clients may receive the same batch.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Vec<Frame>,
    body_len: usize,
    chunks: OnceCell<Bytes>,
    bodies: OnceCell<Bytes>,
}

impl Batch {
    /// Creates a batch of these frames.
    pub fn from_frames(frames: Vec<Frame>) -> Batch {
        let body_len = frames.iter().map(|frame| frame.body().len()).sum();
        Batch { frames, body_len, ..Batch::default() }
    }

    /// Returns the length of all frames in bytes, without chunked framing.
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// Returns the frames, in order.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Returns all frames as HTTP/1.1 chunks in one piece of memory, joined once for all clients.
    pub fn chunks(&self) -> &Bytes {
        self.chunks.get_or_init(|| match self.frames.as_slice() {
            [only] => only.chunk().clone(),
            frames => join(frames.iter().map(|frame| &frame.chunk()[..])),
        })
    }

    /// Returns all frames without chunked framing in one piece of memory, joined once for all
    /// clients.
    pub fn bodies(&self) -> &Bytes {
        self.bodies.get_or_init(|| match self.frames.as_slice() {
            [only] => only.body_bytes(),
            frames => join(frames.iter().map(|frame| frame.body())),
        })
    }

    /// Returns how many frames are complete within the first `len` bytes of `chunks` (or `bodies`),
    /// and how many bytes of the next frame those include.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::frame;

    #[test]
    fn a_partly_sent_batch_is_split_into_whole_frames_and_the_rest() {
        let frames = vec![frame::final_retry(0), frame::heartbeat(), frame::final_retry(0)];
        let batch = Batch::from_frames(frames);
        let [first, second, third] = [0, 1, 2].map(|i: usize| batch.frames()[i].body().len());
        let split = |len| batch.split(len, |frame| frame.body().len());
        assert_eq!((split(0), split(1), split(first - 1)), ((0, 0), (0, 1), (0, first - 1)));
        assert_eq!((split(first), split(first + 1)), ((1, 0), (1, 1)));
        assert_eq!(split(first + second + third - 1), (2, third - 1));
        assert_eq!((split(batch.body_len()), batch.body_len()), ((3, 0), first + second + third));
        assert_eq!(
            (batch.bodies().len(), batch.chunks().len() > batch.body_len()),
            (batch.body_len(), true)
        );
    }
}
