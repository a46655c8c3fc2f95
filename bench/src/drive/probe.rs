//! Somebody else on the same server: fetches a small file now and then over a kept connection, and
//! records how long that took. In a thread of the driver, which otherwise sleeps, so that the wait
//! is the server's and not the generator's.

use crate::head::{self, Framing};
use crate::histogram::Histogram;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(10);

/// A probe that runs.
pub struct Probe {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Histogram, String>>,
}

impl Probe {
    pub fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        Self { over, thread: std::thread::spawn(move || fetch_until(&flag, port)) }
    }

    pub fn finish(self) -> Result<Histogram, String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probe broke")?
    }
}

fn fetch_until(over: &AtomicBool, port: u16) -> Result<Histogram, String> {
    let mut histogram = Histogram::new();
    let told = |error: std::io::Error| format!("the file could not be fetched: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(told)?;
    while !over.load(Ordering::Relaxed) {
        let since = Instant::now();
        fetch(&mut stream)?;
        histogram.add(since.elapsed().as_nanos() as u64);
        std::thread::sleep(EVERY);
    }
    Ok(histogram)
}

fn fetch(stream: &mut TcpStream) -> Result<(), String> {
    let told = |error: std::io::Error| format!("the file could not be fetched: {error}");
    stream.write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(told)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer).map_err(told)?;
        answer.extend_from_slice(buffer.get(..len).unwrap_or_default());
        let head = head::read(&answer).map(|head| (head.status(), head.framing, head.len));
        match head {
            Some((200, Framing::Length(body), head)) if answer.len() >= head + body => {
                return Ok(())
            }
            Some((200, ..)) | None if len > 0 => {}
            _ => return Err("the file was not answered with 200".into()),
        }
    }
}
