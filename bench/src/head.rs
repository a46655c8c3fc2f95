//! Heads of HTTP/1.1 messages, as far as the benchmark needs them: the end, the first line, and the
//! framing of the body. Both sides write ordinary heads.

use memchr::memmem;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    Chunked,
    Length(usize),
    /// Until the end of the connection, or no body.
    Plain,
}

/// The head of a message.
#[derive(Debug, PartialEq)]
pub struct Head<'a> {
    pub first_line: &'a str,
    pub framing: Framing,
    /// Length of the head in bytes, including its blank line.
    pub len: usize,
}

impl Head<'_> {
    /// Returns the status of a response; 0 if there is none.
    pub fn status(&self) -> u16 {
        let mut words = self.first_line.split(' ');
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// Parses a head; `None` if it is incomplete.
pub fn read(bytes: &[u8]) -> Option<Head<'_>> {
    let len = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(bytes.get(..len)?).unwrap_or_default();
    let mut lines = text.split("\r\n");
    let first_line = lines.next().unwrap_or_default();
    let mut framing = Framing::Plain;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            framing = value.trim().parse().map_or(Framing::Plain, Framing::Length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        }
    }
    Some(Head { first_line, framing, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = read(b"HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\nbody").unwrap();
        assert_eq!((head.status(), head.framing, head.len), (201, Framing::Length(12), 44));
        let head = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((head.status(), head.framing), (200, Framing::Chunked));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(read(b"\xff\r\n\r\n").unwrap().status(), 0);
    }
}
