//! However a connection's bytes are cut into pieces, and however much room the reader has: a value
//! that is too long is left out, and everything else arrives as it was sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use crate::fuzz::input::Input;
use crate::redis::link::{Bounded, Bounds};

/// Values up to this length are never left out for their sum.
const SHORT: usize = 64;
/// The longest header of a value.
const MAX_HEADER: usize = 32;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let longest = input.below(128);
    let allowed = (input.byte() & 1 == 1).then(|| 4 * input.below(256));
    let (pieces, room) = (1 + input.below(64), 1 + input.below(64));
    let bytes = input.rest();

    let bounds = Bounds::for_values(longest);
    if let Some(allowed) = allowed {
        bounds.meter.allow(allowed);
    }
    let passed = received(bounds.clone(), bytes, pieces, room);
    assert_eq!(passed, reference(bytes, longest, allowed));
    assert_eq!(bounds.meter.received(), bytes.len());
    assert!(passed.len() <= bytes.len());
}

/// A socket that delivers its bytes in pieces of one size.
struct Socket<'a> {
    bytes: &'a [u8],
    pieces: usize,
}

impl AsyncRead for Socket<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let some = self.bytes.len().min(self.pieces).min(out.remaining());
        let (piece, rest) = self.bytes.split_at(some);
        out.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

fn received(bounds: Bounds, bytes: &[u8], pieces: usize, room: usize) -> Vec<u8> {
    let mut bounded = Bounded::new(Socket { bytes, pieces }, bounds);
    let mut context = Context::from_waker(Waker::noop());
    let (mut all, mut space) = (Vec::new(), vec![0; room]);
    loop {
        let mut out = ReadBuf::new(&mut space);
        let Poll::Ready(Ok(())) = Pin::new(&mut bounded).poll_read(&mut context, &mut out) else {
            panic!("the socket always has something, or has ended");
        };
        if out.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(out.filled());
    }
}

/// What the reader receives of all these bytes.
fn reference(bytes: &[u8], longest: usize, mut allowed: Option<usize>) -> Vec<u8> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(first) = rest.first() {
        let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        if !b"$=!".contains(first) || end.unwrap_or(rest.len()) > MAX_HEADER {
            let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
            all.extend_from_slice(line);
            rest = behind;
            continue;
        }
        // A header that is cut off is kept until it is complete.
        let Some(end) = end else {
            if rest.len() == MAX_HEADER {
                all.extend_from_slice(rest);
            }
            return all;
        };
        let (header, behind) = rest.split_at(end);
        rest = behind;
        let digits = header.get(1..header.len() - 2).unwrap_or_default();
        let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
        let Some((length, with_end)) = length.and_then(|it| Some((it, it.checked_add(2)?))) else {
            all.extend_from_slice(header);
            continue;
        };
        let (value, behind) = rest.split_at(with_end.min(rest.len()));
        rest = behind;
        if length <= longest && is_allowed(length, &mut allowed) {
            all.extend_from_slice(&[header, value].concat());
        } else {
            all.extend_from_slice(&[b"(", &header[1..]].concat());
        }
    }
    all
}

fn is_allowed(length: usize, allowed: &mut Option<usize>) -> bool {
    let Some(left) = allowed.filter(|_| length > SHORT) else { return true };
    *allowed = Some(left.checked_sub(length).unwrap_or(0));
    length <= left
}
