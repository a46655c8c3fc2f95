//! As much of HTTP/2 (RFC 9113) as idle clients of streams need: requests, parsing of frames, and
//! the replies that a server requires. Headers are written as HPACK literals without indexing; of
//! received headers, only the status is parsed.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header: length, type, flags, and stream.
const HEAD: usize = 9;
/// Maximum length of a payload, unless the receiver has announced a larger one.
const LONGEST: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method: GET` and `:scheme: http` in HPACK's static table.
const GET: u8 = 0x80 | 2;
const HTTP: u8 = 0x80 | 6;
/// Indexes of names in that table.
const AUTHORITY: usize = 1;
const PATH: usize = 4;
const ACCEPT: usize = 19;
/// `:status: 200` in that table.
const OK: u8 = 0x80 | 8;

/// Appends the connection preface.
pub fn open(out: &mut Vec<u8>) {
    out.extend_from_slice(PREFACE);
    frame(SETTINGS, 0, 0, &[], out);
}

/// Appends the request for an event stream.
pub fn request(stream: u32, host: &str, path: &str, out: &mut Vec<u8>) {
    let mut block = vec![GET, HTTP];
    literal(AUTHORITY, host, &mut block);
    literal(PATH, path, &mut block);
    literal(ACCEPT, "text/event-stream", &mut block);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block, out);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let [_, len @ ..] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a field without indexing, with its name as an index into the static table.
fn literal(name: usize, value: &str, block: &mut Vec<u8>) {
    integer(4, name, block);
    integer(7, value.len(), block);
    block.extend_from_slice(value.as_bytes());
}

/// Appends an integer; `bits` bits of its first byte are available for it, and the others are 0.
fn integer(bits: u32, value: usize, block: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        block.push(value as u8);
        return;
    }
    block.push(most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A received frame.
#[derive(Debug, PartialEq)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    payload: &'a [u8],
}

impl Frame<'_> {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Parses the first frame. Returns it and its length in bytes; `None` if it is incomplete.
fn first_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let &[a, b, c, kind, flags, _, _, _, _] = bytes.first_chunk::<HEAD>()?;
    let len = HEAD + u32::from_be_bytes([0, a, b, c]) as usize;
    Some((Frame { kind, flags, payload: bytes.get(HEAD..len)? }, len))
}

/// Whether the fields of a response begin with status 200, after any updates of the table's size.
fn is_ok(block: &[u8]) -> bool {
    block.iter().find(|byte| *byte >> 5 != 1) == Some(&OK)
}

/// The client's side of a connection.
#[derive(Default)]
pub struct Session {
    /// The received part of an incomplete frame.
    kept: Vec<u8>,
    /// Number of streams with a response header of status 200.
    pub opened: usize,
    /// Bytes of events and comments.
    pub data: usize,
}

impl Session {
    /// Processes received bytes and appends replies. Fails if the server has ended a stream or the
    /// connection, or violates the protocol.
    pub fn take(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<(), &'static str> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend_from_slice(bytes);
        let mut rest = kept.as_slice();
        while let Some((frame, len)) = first_frame(rest) {
            self.frame(&frame, reply)?;
            rest = rest.get(len..).unwrap_or_default();
        }
        if rest.len() > HEAD + LONGEST {
            return Err("the server sent a frame that is too long");
        }
        self.kept = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, reply: &mut Vec<u8>) -> Result<(), &'static str> {
        match frame.kind {
            HEADERS if !is_ok(frame.payload) => return Err("a stream was not answered with 200"),
            HEADERS | CONTINUATION => self.opened += usize::from(frame.has(END_HEADERS)),
            DATA => self.data += frame.payload.len(),
            SETTINGS if !frame.has(ACK) => self::frame(SETTINGS, ACK, 0, &[], reply),
            PING if !frame.has(ACK) => self::frame(PING, ACK, 0, frame.payload, reply),
            RST_STREAM => return Err("the server reset a stream"),
            GOAWAY => return Err("the server closed the connection"),
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.has(END_STREAM) {
            return Err("the server ended a stream");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(kind, flags, 1, payload, &mut bytes);
        bytes
    }

    #[test]
    fn integers_as_in_rfc_7541() {
        let written = |bits, value| {
            let mut block = Vec::new();
            integer(bits, value, &mut block);
            block
        };
        assert_eq!(written(5, 10), [10]);
        assert_eq!(written(5, 31), [31, 0]);
        assert_eq!(written(5, 1337), [31, 154, 10]);
        assert_eq!(written(7, 127), [127, 0]);
    }

    #[test]
    fn a_request() {
        let mut bytes = Vec::new();
        request(3, "localhost", "/s?c=7", &mut bytes);
        let block = b"\x82\x86\x01\x09localhost\x04\x06/s?c=7\x0f\x04\x11text/event-stream";
        let head = [0, 0, block.len() as u8, HEADERS, 5, 0, 0, 0, 3];
        assert_eq!(bytes, [&head, block.as_slice()].concat());
    }

    #[test]
    fn a_connection_begins_with_settings() {
        let mut bytes = Vec::new();
        open(&mut bytes);
        assert_eq!(
            bytes.strip_prefix(PREFACE),
            Some([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0].as_slice())
        );
    }

    #[test]
    fn frames_split_anywhere() {
        let bytes = [
            framed(SETTINGS, 0, &[0, 3, 0, 0, 0, 128]),
            framed(SETTINGS, ACK, &[]),
            framed(HEADERS, END_HEADERS, &[0x20, OK, 0x5f]),
            framed(DATA, 0, b": nothing\n\n"),
            framed(PING, 0, b"12345678"),
            framed(HEADERS, 0, &[OK]),
            framed(CONTINUATION, END_HEADERS, &[0x5f]),
            framed(DATA, 0, &[]),
        ]
        .concat();
        let mut answers = Vec::new();
        frame(SETTINGS, ACK, 0, &[], &mut answers);
        frame(PING, ACK, 0, b"12345678", &mut answers);
        for size in 1..=bytes.len() {
            let (mut session, mut reply) = (Session::default(), Vec::new());
            for part in bytes.chunks(size) {
                assert_eq!(session.take(part, &mut reply), Ok(()));
            }
            assert_eq!((session.opened, session.data), (2, 11), "in parts of {size}");
            assert_eq!(reply, answers, "in parts of {size}");
            assert!(session.kept.is_empty());
        }
    }

    #[test]
    fn what_ends_streams_is_told() {
        let take = |bytes: &[u8]| Session::default().take(bytes, &mut Vec::new());
        assert!(take(&framed(HEADERS, END_HEADERS, &[0x8d])).is_err());
        assert!(take(&framed(HEADERS, END_HEADERS | END_STREAM, &[OK])).is_err());
        assert!(take(&framed(DATA, END_STREAM, &[])).is_err());
        assert!(take(&framed(RST_STREAM, 0, &[0; 4])).is_err());
        assert!(take(&framed(GOAWAY, 0, &[0; 8])).is_err());
        assert!(take(&[0xff; HEAD + LONGEST + 1]).is_err());
    }
}
