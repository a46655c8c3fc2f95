//! Pages of a server, fetched over one kept connection.

use crate::head::{self, Framing};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Connections that are tried until one is with the wanted process.
const TRIES: usize = 200;

/// See above.
pub struct Page(TcpStream);

impl Page {
    pub fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(told)?;
        Ok(Self(stream))
    }

    /// A connection that this worker process has accepted.
    pub fn open_in(port: u16, worker: u32) -> Result<Self, String> {
        for _ in 0..TRIES {
            let mut page = Self::open(port)?;
            if page.get("/pid")? == worker.to_string().as_bytes() {
                return Ok(page);
            }
        }
        Err(format!("worker {worker} takes no connection"))
    }

    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).map_err(told)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let len = self.0.read(&mut buffer).map_err(told)?;
            answer.extend_from_slice(buffer.get(..len).unwrap_or_default());
            let head = head::read(&answer).map(|head| (head.status(), head.framing, head.len));
            match head {
                Some((200, Framing::Length(body), head)) if answer.len() >= head + body => {
                    return Ok(answer.split_off(head));
                }
                Some((200, ..)) | None if len > 0 => {}
                _ => return Err(format!("{path} was not answered with 200")),
            }
        }
    }
}

fn told(error: std::io::Error) -> String {
    format!("a page could not be fetched: {error}")
}
