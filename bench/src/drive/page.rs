//! HTTP requests to a server over one persistent connection.

use crate::head::{self, Framing};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Connections tried until the wanted process accepts one.
const TRIES: usize = 200;

/// A persistent connection to a server.
pub struct Page {
    stream: TcpStream,
    /// Received bytes that are not part of a returned response.
    buffer: Vec<u8>,
}

/// A response.
pub struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Whether the body contains this text.
    pub fn contains(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }

    /// Returns the body, if the response has this status.
    pub fn body_of(self, status: u16) -> Result<Vec<u8>, String> {
        if self.status == status {
            return Ok(self.body);
        }
        let body = String::from_utf8_lossy(&self.body);
        Err(format!("unexpected response with status {}: {}", self.status, body.trim_end()))
    }
}

impl Page {
    pub fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(describe)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Opens a connection that this worker process accepts.
    pub fn open_in(port: u16, worker: u32) -> Result<Self, String> {
        for _ in 0..TRIES {
            let mut page = Self::open(port)?;
            if page.get("/pid")? == worker.to_string().as_bytes() {
                return Ok(page);
            }
        }
        Err(format!("worker {worker} accepts no connection"))
    }

    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.ask("GET", path, "", b"")?.body_of(200).map_err(|why| format!("{path}: {why}"))
    }

    /// Sends a request, with header lines if `headers` is not empty, and returns its response.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer, String> {
        self.send(method, path, headers, body)?;
        self.answer()
    }

    /// Sends a request, whose response is to be read with `answer`.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<(), String> {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.stream.write_all(&[head.as_bytes(), body].concat()).map_err(describe)
    }

    /// Sends several requests at once and checks that all responses have this status.
    pub fn pipeline(&mut self, requests: &str, count: usize, status: u16) -> Result<(), String> {
        self.stream.write_all(requests.as_bytes()).map_err(describe)?;
        (0..count).try_for_each(|_| self.answer()?.body_of(status).map(drop))
    }

    /// Reads the next response.
    pub fn answer(&mut self) -> Result<Answer, String> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let head = head::read(&self.buffer).map(|head| (head.status(), head.framing, head.len));
            match head {
                Some((status, Framing::Length(body), head)) if self.buffer.len() >= head + body => {
                    let rest = self.buffer.split_off(head + body);
                    let body = std::mem::replace(&mut self.buffer, rest).split_off(head);
                    return Ok(Answer { status, body });
                }
                Some((status, Framing::Chunked | Framing::Plain, _)) => {
                    return Err(format!("a response with status {status} has no length"));
                }
                Some(_) | None => {}
            }
            let len = self.stream.read(&mut bytes).map_err(describe)?;
            if len == 0 {
                return Err("the connection was closed before the response".into());
            }
            self.buffer.extend_from_slice(bytes.get(..len).unwrap_or_default());
        }
    }

    /// Turns the connection into a stream, after reading its response header.
    pub fn into_stream(mut self, path: &str) -> Result<TcpStream, String> {
        self.send("GET", path, "", b"")?;
        let mut head = [0; 256];
        let len = self.stream.read(&mut head).map_err(describe)?;
        if head.get(..len).unwrap_or_default().starts_with(b"HTTP/1.1 200") {
            Ok(self.stream)
        } else {
            Err(format!("the stream {path} does not open"))
        }
    }
}

fn describe(error: std::io::Error) -> String {
    format!("request failed: {error}")
}
