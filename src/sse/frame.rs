//! Frames: complete pieces of an event stream that can be sent to any number of clients.
//!
//! The worker builds a frame once per event; its streams share it by reference count. One
//! allocation holds the bytes as an HTTP/1.1 chunk and, inside it, without chunked framing for
//! HTTP/1.0 and HTTP/2. In an event, `id` comes last, so that no client takes the id of an event
//! that was cut off. A frame never begins with a BOM and has no line end but LF.

use super::event_type;
use super::id::Id;
use bytes::Bytes;

const CRLF: &[u8] = b"\r\n";

/// A piece of an event stream that is sent as a whole. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Frame {
    chunk: Bytes,
    body_at: usize,
    body_len: usize,
}

impl Frame {
    /// Returns the frame of an event: its type unless empty, its data, its id, and a blank line.
    ///
    /// `encoded_data` is the output of `data::encode`. A type that does not fit on one line is
    /// omitted: publishing rejects such types, and if one got through it must not become fields of
    /// its own.
    pub fn event(event_type: &[u8], encoded_data: &[u8], id: &Id) -> Frame {
        let event_type = match memchr::memchr3(b'\r', b'\n', 0, event_type) {
            Some(_) => &[],
            None => event_type,
        };
        let type_len = match event_type.len() {
            0 => 0,
            len => b"event: ".len() + len + 1,
        };
        let id_len = b"id: ".len() + id.text_len() + 1;
        build(type_len + encoded_data.len() + id_len + 1, |out| {
            if !event_type.is_empty() {
                out.extend_from_slice(b"event: ");
                out.extend_from_slice(event_type);
                out.push(b'\n');
            }
            out.extend_from_slice(encoded_data);
            out.extend_from_slice(b"id: ");
            id.write(out);
            out.extend_from_slice(b"\n\n");
        })
    }

    /// Returns the frame of an event with this type added, unless it has one. A type that
    /// publishers may not use is not added.
    pub fn named(self, event_type: &[u8]) -> Frame {
        if self.body().starts_with(b"event: ") || event_type::check(event_type).is_err() {
            return self;
        }
        let body = self.body();
        build(b"event: ".len() + event_type.len() + 1 + body.len(), |out| {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(event_type);
            out.push(b'\n');
            out.extend_from_slice(body);
        })
    }

    /// Returns the frame of an event with its id replaced.
    #[expect(clippy::indexing_slicing, reason = "`at` was found in the same bytes")]
    pub fn with_id(self, id: &Id) -> Frame {
        let body = self.body();
        let Some(at) = memchr::memmem::rfind(body, b"id: ") else { return self };
        let (head, len) = (&body[..at], at + b"id: ".len() + id.text_len() + 2);
        build(len, |out| {
            out.extend_from_slice(head);
            out.extend_from_slice(b"id: ");
            id.write(out);
            out.extend_from_slice(b"\n\n");
        })
    }

    /// Returns a frame of these bytes. If `body` is empty the frame has no bytes at all, because an
    /// empty chunk would mean the end of the response.
    pub fn raw(body: &[u8]) -> Frame {
        if body.is_empty() {
            return Frame { chunk: Bytes::new(), body_at: 0, body_len: 0 };
        }
        build(body.len(), |out| out.extend_from_slice(body))
    }

    /// Returns one frame with the bytes of all these frames.
    pub fn joined(frames: &[Frame]) -> Frame {
        if let [only] = frames {
            return only.clone();
        }
        let len = frames.iter().map(|frame| frame.body_len).sum();
        if len == 0 {
            return Frame::raw(b"");
        }
        build(len, |out| frames.iter().for_each(|frame| out.extend_from_slice(frame.body())))
    }

    /// Returns the frame as one HTTP/1.1 chunk (RFC 9112, 7.1).
    pub fn chunk(&self) -> &Bytes {
        &self.chunk
    }

    /// Returns the frame without chunked framing.
    pub fn body(&self) -> &[u8] {
        self.chunk.get(self.body_at..self.body_at + self.body_len).unwrap_or_default()
    }

    /// Returns the frame without chunked framing, sharing the frame's memory.
    pub fn body_bytes(&self) -> Bytes {
        self.chunk.slice(self.body_at..self.body_at + self.body_len)
    }
}

/// Returns the first frame of a stream: the reconnection time in ms, and a comment so that proxies
/// forward a first byte.
pub fn opening(retry_ms: u64) -> Frame {
    Frame::raw(format!("retry: {retry_ms}\n:\n").as_bytes())
}

/// Returns a comment that shows that the connection is alive. It has no blank line, which some
/// clients would take for an empty event.
pub fn heartbeat() -> Frame {
    Frame::raw(b":\n")
}

/// Returns the last frame before a planned end: the reconnection time in ms. A client applies
/// `retry` as soon as it has read the line. There is no blank line, which some clients would take
/// for an empty event.
pub fn final_retry(retry_ms: u64) -> Frame {
    Frame::raw(format!("retry: {retry_ms}\n:\n").as_bytes())
}

/// Returns the event that gives a new stream an id, so that it can resume before its first event.
pub fn open_event(name: &[u8], id: &Id) -> Frame {
    Frame::event(name, b"data: {}\n", id)
}

/// Returns the event that reports that events after the id `after`, as sent by the client, are
/// lost. Bytes other than printable ASCII are left out.
pub fn gap_event(name: &[u8], after: &[u8], id: &Id) -> Frame {
    let mut data = Vec::with_capacity(after.len() + 32);
    data.extend_from_slice(b"data: {\"after\":\"");
    for &byte in after.iter().filter(|byte| matches!(byte, b' '..=b'~')) {
        if matches!(byte, b'"' | b'\\') {
            data.push(b'\\');
        }
        data.push(byte);
    }
    data.extend_from_slice(b"\"}\n");
    Frame::event(name, &data, id)
}

/// Builds a frame: writes the chunk framing around a body of `body_len` bytes, which must not be 0.
fn build(body_len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let digits = (usize::BITS - body_len.leading_zeros()).div_ceil(4);
    let body_at = digits as usize + CRLF.len();
    let mut chunk = Vec::with_capacity(body_at + body_len + CRLF.len());
    for digit in (0..digits).rev().map(|place| (body_len >> (4 * place)) as u8 & 15) {
        chunk.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    chunk.extend_from_slice(CRLF);
    write(&mut chunk);
    debug_assert_eq!(chunk.len(), body_at + body_len);
    chunk.extend_from_slice(CRLF);
    Frame { chunk: Bytes::from(chunk), body_at, body_len }
}

#[cfg(test)]
mod tests {
    use super::super::id::EntryId;
    use super::*;
    use proptest::prelude::*;

    const ID: Id = Id::Durable(EntryId { ms: 7, seq: 0 });

    #[test]
    fn an_event_has_type_data_and_id_in_this_order() {
        let frame = Frame::event(b"trade", b"data: first line\ndata: second line\n", &ID);
        let body = b"event: trade\ndata: first line\ndata: second line\nid: 7-0\n\n";
        assert_eq!(frame.body(), body);
        assert_eq!(frame.chunk(), [&b"39\r\n"[..], body, b"\r\n"].concat().as_slice());
    }

    #[test]
    fn an_event_without_a_type_has_no_event_line() {
        assert_eq!(Frame::event(b"", b"data: \n", &ID).body(), b"data: \nid: 7-0\n\n");
    }

    #[test]
    fn a_type_of_several_lines_is_left_out() {
        for name in [&b"a\rid: evil"[..], b"a\ndata: x", b"a\0"] {
            assert_eq!(Frame::event(name, b"data: \n", &ID).body(), b"data: \nid: 7-0\n\n");
        }
    }

    #[test]
    fn an_empty_frame_has_no_last_chunk() {
        let frame = Frame::raw(b"");
        assert!(frame.chunk().is_empty() && frame.body().is_empty());
        assert!(frame.body_bytes().is_empty());
        assert!(Frame::joined(&[]).chunk().is_empty());
        assert!(Frame::joined(&[frame.clone(), frame]).chunk().is_empty());
    }

    #[test]
    fn frames_that_are_joined_are_one_chunk() {
        let (one, other) = (Frame::raw(b"one"), Frame::raw(b"twothree"));
        assert_eq!(
            Frame::joined(&[one.clone(), other]).chunk(),
            b"b\r\nonetwothree\r\n".as_slice()
        );
        assert_eq!(Frame::joined(&[one]).chunk(), b"3\r\none\r\n".as_slice());
    }

    #[test]
    fn the_frames_beside_events() {
        assert_eq!(opening(3000).body(), b"retry: 3000\n:\n");
        assert_eq!(heartbeat().chunk(), b"2\r\n:\n\r\n".as_slice());
        assert_eq!(final_retry(0).body(), b"retry: 0\n:\n");
        let open = b"event: sse.open\ndata: {}\nid: 7-0\n\n";
        assert_eq!(open_event(b"sse.open", &ID).body(), open);
    }

    #[test]
    fn a_gap_event_has_the_id_as_json() {
        let data = |after: &[u8]| {
            let frame = gap_event(b"sse.gap", after, &ID);
            let text = String::from_utf8_lossy(frame.body()).into_owned();
            let inner = text.strip_prefix("event: sse.gap\ndata: ");
            inner.and_then(|text| text.strip_suffix("\nid: 7-0\n\n")).unwrap_or("").to_string()
        };
        assert_eq!(data(b"6-0"), r#"{"after":"6-0"}"#);
        assert_eq!(data(b""), r#"{"after":""}"#);
        assert_eq!(data(b"a\"b\\c"), r#"{"after":"a\"b\\c"}"#);
        assert_eq!(data(b"\r\nid: evil\0\x7f\xc3\xa9 ~"), r#"{"after":"id: evil ~"}"#);
    }

    proptest! {
        #[test]
        fn the_body_lies_inside_one_chunk(body in prop::collection::vec(any::<u8>(), 1..5000)) {
            let frame = Frame::raw(&body);
            let head = format!("{:x}\r\n", body.len());
            let chunk = [head.as_bytes(), body.as_slice(), b"\r\n"].concat();
            prop_assert_eq!(frame.chunk(), chunk.as_slice());
            prop_assert_eq!(frame.body(), body.as_slice());
            let shared = frame.body_bytes();
            prop_assert_eq!(shared.as_ptr(), frame.body().as_ptr());
            prop_assert_eq!(&shared, body.as_slice());
        }
    }
}
