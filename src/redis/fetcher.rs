//! A connection that reads streams page by page: never more at a time than is allowed, and less if
//! entries are large or the connection is slow.
//!
//! The size of entries is known only when they arrive. A request whose reply is too large or too
//! slow is aborted together with its connection, and the next one requests less; after a quick one,
//! the next requests more. A request for a single entry is not aborted as long as data arrives.

mod pace;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ::redis::{pipe, Pipeline, RedisError, Value};
use tokio::time::{sleep, timeout, Instant};

use pace::{described_together, next_pace, shares, smaller_pace};

use super::ended::shown;
use super::entry::{entries, Entry};
use super::link::{self, Link, Meter, Unanswered};
use super::stream_page::{is_its_own, About, PageRequest, StreamPage};
use super::watermarks;
use crate::hub::{ReportedId, Source};
use crate::redis::context::HubContext;

/// A request that takes longer than this is aborted.
const LATE: Duration = Duration::from_secs(2);
/// The first and the longest pause between attempts that fail.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
const PAUSE: Duration = Duration::from_secs(1);
/// How long a connection that is not needed is kept.
const IDLE: Duration = Duration::from_secs(10);

/// Why a request failed.
enum Broken {
    /// The reply was too large or too slow.
    TooMuch,
    /// Nothing arrived any more, or the connection failed.
    Unanswered(Unanswered),
}

/// Reads streams on a connection of its own.
pub struct Fetcher {
    context: Rc<HubContext>,
    /// The subscriber's node. Reading from a former master would return a different history.
    node: String,
    link: RefCell<Option<Link>>,
    used: Cell<Instant>,
    /// Maximum number of entries in the next request.
    pace: Cell<usize>,
    /// Number of consecutive failed attempts, and the reason of the last one.
    failures: Cell<u32>,
    trouble: RefCell<Option<String>>,
}

impl Fetcher {
    /// Returns a fetcher without a connection, which is made when it is needed.
    pub fn new(context: Rc<HubContext>, node: String) -> Fetcher {
        Fetcher {
            context,
            node,
            link: RefCell::default(),
            used: Cell::new(Instant::now()),
            pace: Cell::new(pace::FIRST),
            failures: Cell::new(0),
            trouble: RefCell::default(),
        }
    }

    /// Returns why nothing can be read at present, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Closes a connection that has not been needed for a while.
    pub fn close_idle(&self) {
        if self.used.get().elapsed() > IDLE {
            self.link.borrow_mut().take();
        }
    }

    /// Connects in advance, so that the first page does not have to wait for it.
    pub async fn open(&self) -> Result<(), String> {
        let link = self.connected().await?;
        let is_connected = link.is_some();
        *self.link.borrow_mut() = link;
        if is_connected {
            Ok(())
        } else {
            Err("cannot connect to read streams".to_owned())
        }
    }

    /// Returns a page of each of the first of these streams, of at least one. If a stream
    /// cannot be read, only its page is an error; an error of the whole means that the node is
    /// not the right one.
    pub async fn pages(
        &self,
        ranges: &[PageRequest],
    ) -> Result<Vec<Result<StreamPage, RedisError>>, String> {
        loop {
            let (streams, each) = shares(self.pace.get(), ranges);
            let some = &ranges[..streams];
            let mut pipeline = pipe();
            for range in some {
                range.add_to(&mut pipeline, each);
            }
            let Some(replies) = self.request(&mut pipeline, streams * each).await? else {
                continue;
            };
            let mut replies = replies.into_iter();
            let mut pages = Vec::with_capacity(streams);
            for range in some {
                let page = match replies.next() {
                    Some(Ok(reply)) => Ok(self.page(&reply, range.most(each), streams * each)),
                    Some(Err(error)) if is_its_own(&error) => Err(error),
                    Some(Err(error)) => return Err(shown(&error)),
                    None => Ok(StreamPage::default()),
                };
                let about = if range.about { replies.next() } else { None };
                let about = about.and_then(|about| About::read(&about.ok()?));
                let length = match if range.length { replies.next() } else { None } {
                    Some(Ok(Value::Int(length))) => u64::try_from(length).ok(),
                    _ => None,
                };
                pages.push(page.map(|page| StreamPage { about, length, ..page }));
            }
            return Ok(pages);
        }
    }

    /// Returns the low watermarks of these channels.
    pub async fn watermarks(&self, channels: &[&[u8]]) -> Result<Vec<Option<ReportedId>>, String> {
        let (names, source) = (&self.context.names, self.context.hub.source());
        if source != Source::Streams || channels.is_empty() {
            return Ok(vec![None; channels.len()]);
        }
        let mut marks = loop {
            let mut query = watermarks::query(names, channels);
            let Some(replies) = self.request(&mut query, 1).await? else { continue };
            let reply = replies.into_iter().next();
            break watermarks::read(reply, channels.len()).map_err(|error| shown(&error))?;
        };
        let marked: Vec<usize> = (0..marks.len()).filter(|i| marks[*i].is_some()).collect();
        let mut rest = &marked[..];
        while !rest.is_empty() {
            let (streams, entries) = described_together(self.pace.get(), rest.len());
            let (some, others) = rest.split_at(streams);
            let mut query = pipe();
            for i in some {
                query.cmd("XINFO").arg("STREAM").arg(names.subject(channels[*i]));
            }
            let Some(replies) = self.request(&mut query, entries).await? else { continue };
            for (i, reply) in some.iter().zip(replies) {
                marks[*i] = watermarks::not_void(marks[*i], reply);
            }
            rest = others;
        }
        Ok(marks)
    }

    /// Waits up to this time (ms) until one of these streams has entries after these ids, and
    /// returns a page of each. `None` if that is impossible, because one of the keys is not a
    /// stream, or there are more streams than entries that can be read at a time.
    pub async fn wait(
        &self,
        keys: &[(Vec<u8>, ReportedId)],
        ms: u64,
    ) -> Result<Option<Vec<StreamPage>>, String> {
        loop {
            let each = self.pace.get() / keys.len().max(1);
            if each == 0 {
                // One entry of each would be too much.
                return Ok(None);
            }
            let mut pipeline = pipe();
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(each).arg("BLOCK").arg(ms);
            read.arg("STREAMS");
            for (key, _) in keys {
                read.arg(key);
            }
            for (_, last) in keys {
                read.arg(last.to_string());
            }
            let Some(replies) = self.request(&mut pipeline, keys.len() * each).await? else {
                continue;
            };
            let streams = match replies.into_iter().next() {
                Some(Ok(Value::Map(streams))) => streams,
                Some(Err(error)) if is_its_own(&error) => return Ok(None),
                Some(Err(error)) => return Err(shown(&error)),
                _ => Vec::new(),
            };
            let of = |key: &[u8]| {
                let is = |name: &Value| matches!(name, Value::BulkString(name) if name == key);
                let reply = streams.iter().find(|(name, _)| is(name));
                reply.map(|(_, reply)| self.page(reply, each, keys.len() * each))
            };
            return Ok(Some(keys.iter().map(|(key, _)| of(key).unwrap_or_default()).collect()));
        }
    }

    fn page(&self, reply: &Value, asked: usize, in_all: usize) -> StreamPage {
        page(reply, asked, in_all, self.context.longest() as u64)
    }

    /// Returns the replies; `None` if the request must be repeated, perhaps for fewer entries.
    async fn request(
        &self,
        pipeline: &mut Pipeline,
        entries: usize,
    ) -> Result<Option<Vec<Result<Value, RedisError>>>, String> {
        let Some(link) = self.connected().await? else { return Ok(None) };
        let meter = link.meter.clone();
        let (received, since) = (meter.received(), Instant::now());
        meter.allow(self.context.most_of_page());
        pipeline.ignore_errors();
        let reply = reply(&link, pipeline, entries > 1).await;
        self.used.set(Instant::now());
        let broken = match reply {
            Ok(replies) => {
                let bytes = meter.received().wrapping_sub(received);
                let few = bytes < self.context.most_of_page() / 2;
                self.pace.set(if meter.is_exhausted() {
                    // It arrived before it could be aborted, and a part of it was skipped.
                    smaller_pace(entries)
                } else {
                    next_pace(self.pace.get(), entries, few, since.elapsed())
                });
                *self.link.borrow_mut() = Some(link);
                self.failures.set(0);
                self.trouble.borrow_mut().take();
                return Ok(Some(replies));
            }
            Err(broken) => broken,
        };
        // Dropping the connection discards the rest of the reply.
        drop(link);
        self.pace.set(smaller_pace(entries));
        match broken {
            Broken::TooMuch => {}
            Broken::Unanswered(why) => self.fail(why.to_string()).await,
        }
        Ok(None)
    }

    /// Takes the connection, or makes one; `None` if that fails now.
    async fn connected(&self) -> Result<Option<Link>, String> {
        let held = self.link.borrow_mut().take();
        if held.is_some() {
            return Ok(held);
        }
        let (context, bounds) = (&self.context, self.context.bounds());
        match link::connect(&context.address, &context.names.clock(), None, &bounds).await {
            Ok(link) if link.address == self.node => Ok(Some(link)),
            Ok(link) => Err(format!("the hub has moved from {} to {}", self.node, link.address)),
            Err(error) => {
                self.fail(error.to_string()).await;
                Ok(None)
            }
        }
    }

    /// Counts a failed attempt. The first one may have used a connection from before an outage,
    /// and is followed by another one at once.
    async fn fail(&self, why: String) {
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        if failures > 0 {
            *self.trouble.borrow_mut() = Some(why);
            sleep((FIRST_PAUSE * (1 << (failures.min(6) - 1))).min(PAUSE)).await;
        }
    }
}

/// Returns a reply of at most `asked` entries as a page, up to the first entry that was skipped
/// because a request for `in_all` entries of all its streams may not receive more.
fn page(reply: &Value, asked: usize, in_all: usize, longest: u64) -> StreamPage {
    let received = match reply {
        Value::Array(list) => list.len(),
        _ => 0,
    };
    let mut entries = entries(reply);
    // A single entry has the whole allowance of a request. If it does not fit, it never will.
    let is_to_come = |entry: &Entry| in_all > 1 && (1..=longest).contains(&entry.skipped);
    let whole = entries.iter().position(is_to_come).unwrap_or(entries.len());
    let more = received >= asked || whole < entries.len();
    entries.truncate(whole);
    StreamPage { entries, more, about: None, length: None }
}

/// Returns the reply, unless the request is aborted.
async fn reply(
    link: &Link,
    pipeline: &Pipeline,
    may_be_less: bool,
) -> Result<Vec<Result<Value, RedisError>>, Broken> {
    let reply = link.reply(async |connection| pipeline.query_async(connection).await);
    tokio::select! {
        biased;
        reply = reply => reply.map_err(Broken::Unanswered),
        () = too_much(&link.meter), if may_be_less => Err(Broken::TooMuch),
    }
}

/// Returns once an reply is more than is allowed, or takes too long.
async fn too_much(meter: &Meter) {
    let exhausted = async {
        while !meter.is_exhausted() {
            meter.exhausted().await;
        }
    };
    let _ = timeout(LATE, exhausted).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_not_allowed_comes_later_unless_it_was_asked_for_alone() {
        let text = |text: &str| Value::BulkString(text.into());
        let entry =
            |id: &str, data| Value::Array(vec![text(id), Value::Array(vec![text("data"), data])]);
        let skipped_length = |bytes: &str| Value::BigNumber(bytes.into());
        let one = |bytes| Value::Array(vec![entry("5-0", skipped_length(bytes))]);
        // The last entry that is asked for of one stream among several.
        let first = page(&one("700"), 1, 200, 1_000);
        assert!(first.entries.is_empty() && first.more);
        let alone = page(&one("700"), 1, 1, 1_000);
        assert_eq!(alone.entries.first().map(|entry| entry.skipped), Some(700));
        let too_large = page(&one("1001"), 1, 200, 1_000);
        assert_eq!(too_large.entries.first().map(|entry| entry.skipped), Some(1_001));
        let some = Value::Array(vec![entry("5-0", text("x")), entry("6-0", skipped_length("700"))]);
        let some = page(&some, 16, 16, 1_000);
        assert!(some.entries.len() == 1 && some.more);
    }

    #[test]
    fn a_page_has_more_after_it_if_it_is_as_long_as_was_asked() {
        let text = |text: &str| Value::BulkString(text.into());
        let entry =
            |id: &str, data| Value::Array(vec![text(id), Value::Array(vec![text("data"), data])]);
        let two = Value::Array(vec![entry("5-0", text("x")), entry("6-0", text("y"))]);
        let more = |asked| page(&two, asked, 10, 1_000).more;
        assert_eq!([1, 2, 3].map(more), [true, true, false]);
        assert!(!page(&Value::Nil, 1, 1, 1_000).more);
        // Of exactly the longest length, it has not been too large; of two entries, neither has the
        // whole allowance.
        let skipped =
            |bytes: &str| Value::Array(vec![entry("5-0", Value::BigNumber(bytes.into()))]);
        let is_to_come = |bytes, in_all| page(&skipped(bytes), 10, in_all, 1_000).more;
        assert_eq!([("1000", 2), ("1001", 2)].map(|(b, n)| is_to_come(b, n)), [true, false]);
        assert_eq!([("1", 2), ("1", 1)].map(|(b, n)| is_to_come(b, n)), [true, false]);
    }
}
