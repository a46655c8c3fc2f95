//! The client's side of Redis' protocol, as far as the benchmark needs it: every reply is a single
//! value.

use memchr::memmem;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Maximum time for a reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reply.
#[derive(Debug, PartialEq)]
pub enum Reply<'a> {
    /// A number, a status, or bytes.
    Value(&'a [u8]),
    Error(&'a [u8]),
}

/// Appends a command.
pub fn write(words: &[&[u8]], out: &mut Vec<u8>) {
    header(b'*', words.len(), out);
    for word in words {
        header(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{count}\r\n");
}

/// Parses a reply. Returns it and its length in bytes; `None` if it is incomplete.
pub fn read(bytes: &[u8]) -> Option<(Reply<'_>, usize)> {
    let end = memmem::find(bytes, b"\r\n")?;
    let (kind, line) = bytes.get(..end)?.split_first()?;
    let after = end + 2;
    match kind {
        b'$' => {
            let len = std::str::from_utf8(line).ok()?.parse().unwrap_or(0);
            let value = bytes.get(after..after + len)?;
            let whole = after + len + 2;
            (bytes.len() >= whole).then_some((Reply::Value(value), whole))
        }
        b'-' => Some((Reply::Error(line), after)),
        _ => Some((Reply::Value(line), after)),
    }
}

/// A connection for commands whose replies are awaited.
pub struct RedisConnection(TcpStream);

impl RedisConnection {
    pub fn open(to: SocketAddr) -> Result<Self, String> {
        let describe = |error: std::io::Error| format!("redis: {error}");
        let stream = TcpStream::connect(to).map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(describe)?;
        Ok(Self(stream))
    }

    pub fn ask(&mut self, words: &[&str]) -> Result<String, String> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let (mut command, mut answer, mut buffer) = (Vec::new(), Vec::new(), [0; 8192]);
        write(&words, &mut command);
        self.0.write_all(&command).map_err(|error| format!("redis: {error}"))?;
        loop {
            match self.0.read(&mut buffer).map_err(|error| format!("redis: {error}"))? {
                0 => return Err("redis: the connection ended".into()),
                len => answer.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            }
            match read(&answer) {
                Some((Reply::Value(value), _)) => {
                    return Ok(String::from_utf8_lossy(value).into_owned())
                }
                Some((Reply::Error(why), _)) => {
                    return Err(format!("redis: {}", String::from_utf8_lossy(why)))
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let mut out = Vec::new();
        write(&[b"PUBLISH", b"7", b""], &mut out);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$1\r\n7\r\n$0\r\n\r\n");
    }

    #[test]
    fn answers() {
        assert_eq!(read(b":12\r\n+OK"), Some((Reply::Value(b"12"), 5)));
        assert_eq!(read(b"+OK\r"), None);
        assert_eq!(read(b"$3\r\n1-0\r\n:1\r\n"), Some((Reply::Value(b"1-0"), 9)));
        assert_eq!(read(b"$3\r\n1-0\r"), None);
        assert_eq!(read(b"-ERR no\r\n"), Some((Reply::Error(b"ERR no"), 9)));
    }
}
