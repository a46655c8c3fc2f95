//! The requests that the floor supports, and its prepared responses.

use crate::head::{self, Framing};

/// As long as the response header of nginx with this module.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\nServer: floor\r\n\
    Date: Sat, 22 Nov 2025 10:00:00 GMT\r\nContent-Type: text/event-stream\r\n\
    Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\
    Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n\r\n\
    e\r\nretry: 3000\n:\n\r\n";
pub const CREATED: &str = "HTTP/1.1 201 Created\r\nServer: floor\r\n\
    Date: Sat, 22 Nov 2025 10:00:00 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}";
pub const FILE: &str = "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Length: 5\r\n\r\nfile\n";
pub const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nServer: floor\r\nContent-Length: 0\r\n\r\n";

/// A client's request.
#[derive(Debug, PartialEq)]
pub enum Request<'a> {
    /// The request is incomplete.
    Part,
    Stream(u32),
    Publish(u32, &'a [u8]),
    File,
    Unknown,
}

/// Parses a request: `GET /s?c=N`, `POST /p?c=N` or `GET /file`.
pub fn read(bytes: &[u8]) -> Request<'_> {
    let Some(head) = head::read(bytes) else { return Request::Part };
    let mut words = head.first_line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, channel) = target.split_once("?c=").unwrap_or((target, "0"));
    match (method, path, channel.parse()) {
        ("GET", "/s", Ok(channel)) => Request::Stream(channel),
        ("POST", "/p", Ok(channel)) => {
            let Framing::Length(len) = head.framing else { return Request::Unknown };
            let data = bytes.get(head.len..head.len + len);
            data.map_or(Request::Part, |data| Request::Publish(channel, data))
        }
        ("GET", "/file", _) => Request::File,
        _ => Request::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(read(b"GET /s?c=12 HTTP/1.1\r\n\r\n"), Request::Stream(12));
        assert_eq!(read(b"GET /s?c=12 HTTP/1.1\r\n"), Request::Part);
        let publish = b"POST /p?c=3 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(read(publish), Request::Publish(3, b"hi"));
        assert_eq!(read(&publish[..publish.len() - 1]), Request::Part);
        assert_eq!(read(b"GET /file HTTP/1.1\r\n\r\n"), Request::File);
        assert_eq!(read(b"GET /x HTTP/1.1\r\n\r\n"), Request::Unknown);
    }

    #[test]
    fn the_first_chunk_is_whole() {
        let mut body = crate::body::Body::new(true);
        let head = head::read(STREAM.as_bytes()).unwrap();
        assert_eq!(head.framing, Framing::Chunked);
        assert_eq!(body.take(&STREAM.as_bytes()[head.len..], |_, _| ()), Ok(()));
    }
}
