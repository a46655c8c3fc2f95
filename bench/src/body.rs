//! Parses an event stream as one client receives it: first chunks, then lines, then events of the
//! benchmark. It allocates nothing, however the bytes are split into reads.

use crate::event::{self, Stamp, STAMP};
use memchr::memchr;

const DATA: &[u8] = b"data: ";
const RETRY: &[u8] = b"retry: ";
/// Only this many bytes of a line are looked at.
const START: usize = DATA.len() + STAMP;

/// The chunked framing is invalid.
#[derive(Debug, PartialEq)]
pub struct Malformed;

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// Not chunked: all bytes belong to the stream.
    Identity,
    Size,
    SizeEnd,
    Data,
    DataEnd,
    End,
}

/// The state of parsing one stream.
pub struct Body {
    at: At,
    /// Bytes left of the chunk, or its size while that is being parsed.
    left: u32,
    line: Line,
    /// The event whose data line has been read but whose blank line has not, and the length of its
    /// data.
    open: Option<(Stamp, usize)>,
    /// The last `retry` in ms.
    retry: Option<u32>,
}

/// A line that was cut by the end of a read.
struct Line {
    start: [u8; START],
    len: usize,
}

impl Body {
    pub fn new(chunked: bool) -> Self {
        let at = if chunked { At::Size } else { At::Identity };
        Self { at, left: 0, line: Line { start: [0; START], len: 0 }, open: None, retry: None }
    }

    /// Whether the last chunk has been read.
    pub fn ended(&self) -> bool {
        self.at == At::End
    }

    /// Returns how long the client is to wait before it reconnects, in ms, if the server has said so.
    pub fn retry(&self) -> Option<u32> {
        self.retry
    }

    /// Parses received bytes. Calls `found` with each complete event and the size of its data.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(Stamp, usize),
    ) -> Result<(), Malformed> {
        while let Some(&first) = bytes.first() {
            if matches!(self.at, At::Identity | At::Data) {
                let len = match self.at {
                    At::Data => bytes.len().min(self.left as usize),
                    _ => bytes.len(),
                };
                let (data, rest) = bytes.split_at(len);
                self.lines(data, &mut found);
                bytes = rest;
                if self.at == At::Data {
                    self.left -= len as u32;
                    self.at = if self.left == 0 { At::DataEnd } else { At::Data };
                }
                continue;
            }
            self.frame(first)?;
            bytes = bytes.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    /// Parses one byte of the chunked framing.
    fn frame(&mut self, byte: u8) -> Result<(), Malformed> {
        match (self.at, byte) {
            (At::Size, b'\r') => self.at = At::SizeEnd,
            (At::Size, _) => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                self.left = self.left.checked_mul(16).ok_or(Malformed)? + digit;
            }
            (At::SizeEnd, b'\n') => self.at = if self.left == 0 { At::End } else { At::Data },
            (At::DataEnd, b'\r') => {}
            (At::DataEnd, b'\n') => self.at = At::Size,
            (At::End, b'\r' | b'\n') => {}
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn lines(&mut self, mut data: &[u8], found: &mut impl FnMut(Stamp, usize)) {
        while let Some(end) = memchr(b'\n', data) {
            let (line, rest) = data.split_at(end);
            data = rest.get(1..).unwrap_or_default();
            if self.line.len == 0 {
                self.line(line, line.len(), found);
                continue;
            }
            self.line.keep(line);
            let whole = std::mem::replace(&mut self.line.len, 0);
            let start = self.line.start;
            self.line(start.get(..whole).unwrap_or(&start), whole, found);
        }
        self.line.keep(data);
    }

    /// Processes a line, given its length and its first [`START`] bytes, or all of it if it is
    /// shorter.
    fn line(&mut self, start: &[u8], len: usize, found: &mut impl FnMut(Stamp, usize)) {
        if matches!(start, b"" | b"\r") {
            if let Some((stamp, size)) = self.open.take() {
                found(stamp, size);
            }
        } else if let Some(stamp) = start.strip_prefix(DATA).and_then(event::read) {
            self.open = Some((stamp, len - DATA.len()));
        } else if let Some(retry) = start.strip_prefix(RETRY).and_then(number) {
            self.retry = Some(retry);
        }
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

impl Line {
    fn keep(&mut self, more: &[u8]) {
        if let Some(room) = self.start.get_mut(self.len..) {
            let len = room.len().min(more.len());
            room[..len].copy_from_slice(&more[..len]);
        }
        self.len += more.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 77;

    fn stream(events: u32, size: usize) -> Vec<u8> {
        let mut out = b"c\r\nretry: 300\n:\r\n2\r\n:\n\r\n".to_vec();
        for number in 0..events {
            let stamp = Stamp { run: RUN, channel: 3, lane: 1, number, due: 9 };
            let mut frame = b"data: ".to_vec();
            event::write(&stamp, size, &mut frame);
            frame.extend_from_slice(b"\nid: 1-2-3\n\n");
            out.extend_from_slice(format!("{:x}\r\n", frame.len()).as_bytes());
            out.extend_from_slice(&frame);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    #[test]
    fn however_the_bytes_are_cut() {
        let bytes = stream(5, 200);
        for cut in 1..bytes.len() {
            let mut body = Body::new(true);
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                body.take(part, |stamp, size| seen.push((stamp.number, size))).unwrap();
            }
            assert_eq!(seen, (0..5).map(|number| (number, 200)).collect::<Vec<_>>(), "{cut}");
            assert!(body.ended());
            assert_eq!(body.retry(), Some(300));
        }
    }

    #[test]
    fn bad_framing_is_told() {
        assert_eq!(Body::new(true).take(b"data: x\n\n", |_, _| ()), Err(Malformed));
        assert_eq!(Body::new(true).take(b"2\r\nabcd", |_, _| ()), Err(Malformed));
        assert_eq!(Body::new(true).take(b"fffffffff\r\n", |_, _| ()), Err(Malformed));
    }
}
