//! Bounds what a connection receives: a value that is too long is read from the socket and
//! discarded, and replaced by a number, which is its length.
//!
//! The codec keeps a whole reply in memory before it returns any of it, and never shrinks its
//! buffer. Any publisher can send a message of 512 MB, and a page of a stream is as large as its
//! entries. So the bound must be in front of the codec, where the length of a value is known from
//! its header.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use ::redis::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes that are read from the socket at a time.
const CHUNK: usize = 16 << 10;
/// Maximum length of a value's header: a type, 20 digits, and the end of the line.
const MAX_HEADER: usize = 32;
/// Values up to this length are never skipped: ids, names of fields, words of status.
const SHORT: usize = 64;

/// How much a connection may receive.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Maximum length of a value in bytes.
    pub longest: usize,
    /// Counts the received bytes, and those that are still allowed.
    pub meter: Arc<Meter>,
}

impl Bounds {
    /// Limits the length of every value, and nothing else.
    pub fn for_values(longest: usize) -> Bounds {
        Bounds { longest, meter: Arc::default() }
    }
}

/// Counts the bytes that a connection receives.
#[derive(Debug)]
pub struct Meter {
    came: AtomicUsize,
    allowed: AtomicUsize,
    exhausted: Notify,
}

impl Default for Meter {
    /// Everything is allowed.
    fn default() -> Meter {
        Meter {
            came: AtomicUsize::new(0),
            allowed: AtomicUsize::new(usize::MAX),
            exhausted: Notify::new(),
        }
    }
}

impl Meter {
    /// Returns the bytes received since the connection was made; the count wraps around.
    pub fn received(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// From now on, allows values of this many bytes in total. Further values are skipped,
    /// except for short ones.
    pub fn allow(&self, bytes: usize) {
        self.allowed.store(bytes, Ordering::Relaxed);
    }

    /// Whether a value was skipped because no more is allowed.
    pub fn is_exhausted(&self) -> bool {
        self.allowed.load(Ordering::Relaxed) == 0
    }

    /// Waits until a value is skipped because no more is allowed.
    pub async fn exhausted(&self) {
        self.exhausted.notified().await;
    }

    fn count(&self, bytes: usize) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether a value of this many bytes is still allowed.
    fn allows(&self, bytes: usize) -> bool {
        let allowed = self.allowed.load(Ordering::Relaxed);
        if allowed == usize::MAX || bytes <= SHORT {
            return true;
        }
        if bytes > allowed {
            // Shorter ones are not allowed either: the entries after it would have a gap before
            // them.
            self.allowed.store(0, Ordering::Relaxed);
            self.exhausted.notify_one();
            return false;
        }
        self.allowed.store(allowed - bytes, Ordering::Relaxed);
        true
    }
}

/// Returns the length of a value that was skipped, if this number replaces one.
pub fn skipped_length(value: &Value) -> Option<u64> {
    match value {
        // Redis replies to none of our commands with such a number.
        Value::BigNumber(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// A socket whose reader never sees a value that is too long.
pub struct Bounded<S> {
    socket: S,
    filter: Filter,
    chunk: Box<[u8]>,
    /// The part of the chunk that has been read from the socket and not been examined.
    from: usize,
    to: usize,
}

impl<S> Bounded<S> {
    /// Wraps a socket.
    pub fn new(socket: S, bounds: Bounds) -> Bounded<S> {
        let chunk = vec![0; CHUNK].into_boxed_slice();
        Bounded { socket, filter: Filter::new(bounds), chunk, from: 0, to: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Bounded { socket, filter, chunk, from, to } = self.get_mut();
        let before = out.filled().len();
        loop {
            *from += filter.pass(&chunk[*from..*to], out);
            if out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(chunk);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut read))?;
            (*from, *to) = (0, read.filled().len());
            filter.bounds.meter.count(*to);
            if *to == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// The state of the protocol's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    Start,
    /// In the header of a value, which is kept until it is complete.
    Header,
    /// In a line without a length.
    Line,
    /// In a value, of which this many bytes are left.
    Given(usize),
    /// In a value that is skipped, of which this many bytes are left.
    Skipped(usize),
}

/// Decides what passes to the reader.
struct Filter {
    bounds: Bounds,
    at: At,
    header: Vec<u8>,
    /// How much of the header was passed to the reader, once it is complete.
    given: Option<usize>,
}

impl Filter {
    fn new(bounds: Bounds) -> Filter {
        Filter { bounds, at: At::Start, header: Vec::with_capacity(MAX_HEADER), given: None }
    }

    /// Passes bytes on, as far as the reader has room. Returns how many were consumed.
    fn pass(&mut self, bytes: &[u8], out: &mut ReadBuf<'_>) -> usize {
        let mut done = 0;
        while out.remaining() > 0 {
            if let Some(given) = self.given {
                let rest = &self.header[given..];
                let some = rest.len().min(out.remaining());
                out.put_slice(&rest[..some]);
                self.given = Some(given + some).filter(|given| *given < self.header.len());
                continue;
            }
            let rest = &bytes[done..];
            let Some(first) = rest.first() else { break };
            done += match self.at {
                At::Start if matches!(first, b'$' | b'=' | b'!') => {
                    self.header.clear();
                    self.at = At::Header;
                    0
                }
                At::Start => {
                    self.at = At::Line;
                    0
                }
                At::Header => self.read_header(rest),
                At::Line => {
                    let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
                    let some = end.unwrap_or(rest.len()).min(out.remaining());
                    out.put_slice(&rest[..some]);
                    if end == Some(some) {
                        self.at = At::Start;
                    }
                    some
                }
                At::Given(left) => {
                    let some = left.min(rest.len()).min(out.remaining());
                    out.put_slice(&rest[..some]);
                    self.at = if some == left { At::Start } else { At::Given(left - some) };
                    some
                }
                At::Skipped(left) => {
                    let some = left.min(rest.len());
                    self.at = if some == left { At::Start } else { At::Skipped(left - some) };
                    some
                }
            };
        }
        done
    }

    /// Adds to the header, and evaluates it once it is complete. Returns how many bytes belonged to
    /// it.
    fn read_header(&mut self, bytes: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let some = end.unwrap_or(bytes.len()).min(MAX_HEADER - self.header.len());
        self.header.extend_from_slice(&bytes[..some]);
        if end == Some(some) {
            self.at = self.judge();
            self.given = Some(0);
        } else if self.header.len() == MAX_HEADER {
            // This is not a header. The codec reports that.
            self.at = At::Line;
            self.given = Some(0);
        }
        some
    }

    /// Decides what to do with the value whose header is complete. The header of a value that
    /// is skipped becomes that of a number, its length.
    fn judge(&mut self) -> At {
        let digits = self.header.get(1..self.header.len().saturating_sub(2)).unwrap_or_default();
        let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        // No value, or something that the codec will not understand.
        let Some(length): Option<usize> = length else { return At::Start };
        let Some(with_end) = length.checked_add(2) else { return At::Start };
        if length <= self.bounds.longest && self.bounds.meter.allows(length) {
            return At::Given(with_end);
        }
        self.header[0] = b'(';
        At::Skipped(with_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the reader sees of these bytes, in pieces of these sizes.
    fn passed(bounds: Bounds, bytes: &[u8], pieces: usize, room: usize) -> Vec<u8> {
        let mut filter = Filter::new(bounds);
        let mut all = Vec::new();
        for piece in bytes.chunks(pieces) {
            let mut done = 0;
            loop {
                let mut space = vec![0; room];
                let mut out = ReadBuf::new(&mut space);
                done += filter.pass(&piece[done..], &mut out);
                let idle = out.filled().is_empty();
                all.extend_from_slice(out.filled());
                if done == piece.len() && idle {
                    break;
                }
            }
        }
        all
    }

    fn long(length: usize) -> String {
        format!("${length}\r\n{}\r\n", "\r\n$9".repeat(length)[..length].to_owned())
    }

    #[test]
    fn a_value_that_is_too_long_becomes_its_length() {
        let bytes = format!("*3\r\n$2\r\nab\r\n{}{}+OK\r\n", long(100), long(99));
        for (pieces, room) in [(1, 1), (1, 100), (7, 3), (1000, 1000), (1000, 1)] {
            let passed = passed(Bounds::for_values(99), bytes.as_bytes(), pieces, room);
            let expected = format!("*3\r\n$2\r\nab\r\n(100\r\n{}+OK\r\n", long(99));
            assert_eq!(String::from_utf8_lossy(&passed), expected, "{pieces} {room}");
        }
    }

    #[test]
    fn what_is_no_value_passes_as_it_is() {
        let texts = [
            "+OK\r\n-ERR a $5\r\n:7\r\n_\r\n#t\r\n,1.5\r\n*-1\r\n$-1\r\n*0\r\n",
            "$nonsense\r\n+OK\r\n",
            "$99999999999999999999999999999999999999\r\n",
            "$18446744073709551615\r\n",
            "\n\n$\n$\r\n",
        ];
        for text in texts {
            for pieces in [1, 5, 1000] {
                let passed = passed(Bounds::for_values(10), text.as_bytes(), pieces, 1000);
                assert_eq!(String::from_utf8_lossy(&passed), text, "{pieces}");
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_passed_on_and_not_kept() {
        let bytes = [b"$".to_vec(), vec![b'1'; 10 * MAX_HEADER]].concat();
        for pieces in [1, MAX_HEADER - 1, MAX_HEADER, MAX_HEADER + 1] {
            let passed = passed(Bounds::for_values(10), &bytes, pieces, 1_000);
            assert!(passed.len() >= bytes.len() - MAX_HEADER, "{pieces}: {}", passed.len());
            assert!(bytes.starts_with(&passed));
        }
    }

    #[test]
    fn values_beyond_the_allowance_are_skipped_unless_they_are_short() {
        let bounds = Bounds::for_values(1000);
        bounds.meter.allow(250);
        let bytes = format!("{}{}{}{}{}", long(100), long(100), long(100), long(64), long(65));
        let passed = passed(bounds.clone(), bytes.as_bytes(), 50, 50);
        let expected = format!("{}{}(100\r\n{}(65\r\n", long(100), long(100), long(64));
        assert_eq!(String::from_utf8_lossy(&passed), expected);
        bounds.meter.allow(65);
        assert!(bounds.meter.allows(65) && !bounds.meter.allows(65));
    }

    #[test]
    fn the_length_is_known_to_who_reads_the_answer() {
        assert_eq!(skipped_length(&Value::BigNumber(b"200000000".to_vec())), Some(200_000_000));
        assert_eq!(skipped_length(&Value::BulkString(b"200000000".to_vec())), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            lengths in proptest::collection::vec(0usize..200, 0..8),
            pieces in 1usize..50,
            room in 1usize..50,
        ) {
            let bytes: String = lengths.iter().map(|length| long(*length)).collect();
            let whole = passed(Bounds::for_values(100), bytes.as_bytes(), 10_000, 10_000);
            let split = passed(Bounds::for_values(100), bytes.as_bytes(), pieces, room);
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), pieces in 1usize..20) {
            passed(Bounds::for_values(5), &bytes, pieces, 7);
        }
    }

    #[test]
    fn a_meter_counts_all_bytes_and_is_exhausted_by_what_was_skipped() {
        let meter = Meter::default();
        meter.count(3);
        meter.count(4);
        assert_eq!((meter.received(), meter.is_exhausted()), (7, false));
        meter.allow(100);
        assert!(meter.allows(99) && !meter.is_exhausted() && meter.allows(64));
        assert!(!meter.allows(65) && meter.is_exhausted() && meter.allows(64));
    }
}
