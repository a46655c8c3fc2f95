//! A connection that reads streams page by page: never more at a time than is allowed, and less
//! where entries are large or the connection is slow.
//!
//! The size of entries is known only when they arrive. A request that brings more than is allowed,
//! or takes too long, is aborted with its connection, and the next one asks for less; after a quick
//! one the next asks for more. A single entry is waited for as long as any of it arrives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ::redis::{pipe, Pipeline, RedisError, Value};
use tokio::time::{sleep, timeout, Instant};

use super::ended::shown;
use super::entry::{entries, Entry};
use super::link::{self, Link, Meter, Unanswered};
use super::stream_page::{is_its_own, About, PageRequest, StreamPage};
use super::watermarks;
use crate::hub::{ReportedId, Source};
use crate::redis::context::HubContext;

/// Entries that the first request asks for, and that any request asks for at most.
const FIRST: usize = 256;
const MOST: usize = 4_096;
/// Streams that one request asks for at most, and entries of each that it should have room for.
const STREAMS: usize = 200;
const EACH: usize = 16;
/// A request that takes less than QUICK may be followed by a larger one, one that takes longer than
/// SLOW is followed by a smaller one, and one that takes longer than LATE is aborted.
const QUICK: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(2);
/// The first and the longest pause between attempts that fail.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
const PAUSE: Duration = Duration::from_secs(1);
/// How long a connection that is not needed is kept.
const IDLE: Duration = Duration::from_secs(10);

/// Why there is no answer.
enum Broken {
    /// It was more than is allowed, or took too long.
    TooMuch,
    /// Nothing arrived any more, or the connection failed.
    Unanswered(Unanswered),
}

/// Reads streams on a connection of its own.
pub struct Fetcher {
    joined: Rc<HubContext>,
    /// The subscriber's node, which is the one to ask: a former master has a past of its own.
    node: String,
    link: RefCell<Option<Link>>,
    used: Cell<Instant>,
    /// Entries that the next request asks for at most.
    pace: Cell<usize>,
    /// Consecutive attempts that failed, and why the last one did.
    failures: Cell<u32>,
    trouble: RefCell<Option<String>>,
}

impl Fetcher {
    /// Returns a fetcher without a connection, which is made when it is needed.
    pub fn new(joined: Rc<HubContext>, node: String) -> Fetcher {
        Fetcher {
            joined,
            node,
            link: RefCell::default(),
            used: Cell::new(Instant::now()),
            pace: Cell::new(FIRST),
            failures: Cell::new(0),
            trouble: RefCell::default(),
        }
    }

    /// Returns why nothing can be read at present, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Closes a connection that has not been needed for a while.
    pub fn rest(&self) {
        if self.used.get().elapsed() > IDLE {
            self.link.borrow_mut().take();
        }
    }

    /// Makes the connection, so that the first page does not have to wait for it.
    pub async fn open(&self) -> Result<(), String> {
        let link = self.connected().await?;
        let made = link.is_some();
        *self.link.borrow_mut() = link;
        match made {
            true => Ok(()),
            false => Err("no connection can be made to read streams on".to_owned()),
        }
    }

    /// Returns a page of each of the first of these streams, of at least one. A stream that cannot
    /// be read is its channel's problem; an error of the whole means that the node is not the right
    /// one.
    pub async fn pages(
        &self,
        ranges: &[PageRequest],
    ) -> Result<Vec<Result<StreamPage, RedisError>>, String> {
        loop {
            let (streams, each) = shares(self.pace.get(), ranges);
            let some = &ranges[..streams];
            let mut pipeline = pipe();
            for range in some {
                range.ask(&mut pipeline, each);
            }
            let Some(answers) = self.ask(&mut pipeline, streams * each).await? else { continue };
            let mut answers = answers.into_iter();
            let mut pages = Vec::with_capacity(streams);
            for range in some {
                let page = match answers.next() {
                    Some(Ok(answer)) => Ok(self.page(&answer, range.most(each), streams * each)),
                    Some(Err(error)) if is_its_own(&error) => Err(error),
                    Some(Err(error)) => return Err(shown(&error)),
                    None => Ok(StreamPage::default()),
                };
                let about = if range.about { answers.next() } else { None };
                let about = about.and_then(|about| About::read(&about.ok()?));
                let length = match if range.length { answers.next() } else { None } {
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
        let (names, source) = (&self.joined.names, self.joined.hub.source());
        if source != Source::Streams || channels.is_empty() {
            return Ok(vec![None; channels.len()]);
        }
        let mut marks = loop {
            let mut question = watermarks::query(names, channels);
            let Some(answers) = self.ask(&mut question, 1).await? else { continue };
            let answer = answers.into_iter().next();
            break watermarks::read(answer, channels.len()).map_err(|error| shown(&error))?;
        };
        let marked: Vec<usize> = (0..marks.len()).filter(|i| marks[*i].is_some()).collect();
        let mut rest = &marked[..];
        while !rest.is_empty() {
            let (streams, entries) = described_together(self.pace.get(), rest.len());
            let (some, others) = rest.split_at(streams);
            let mut question = pipe();
            for i in some {
                question.cmd("XINFO").arg("STREAM").arg(names.subject(channels[*i]));
            }
            let Some(answers) = self.ask(&mut question, entries).await? else { continue };
            for (i, answer) in some.iter().zip(answers) {
                marks[*i] = watermarks::not_void(marks[*i], answer);
            }
            rest = others;
        }
        Ok(marks)
    }

    /// Waits up to this time (ms) until one of these streams has entries after these ids, and
    /// returns a page of each. `None`: they cannot be waited for, because one of them is no stream,
    /// or because there are more streams than entries that can be read at a time.
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
            let Some(answers) = self.ask(&mut pipeline, keys.len() * each).await? else { continue };
            let streams = match answers.into_iter().next() {
                Some(Ok(Value::Map(streams))) => streams,
                Some(Err(error)) if is_its_own(&error) => return Ok(None),
                Some(Err(error)) => return Err(shown(&error)),
                _ => Vec::new(),
            };
            let of = |key: &[u8]| {
                let is = |name: &Value| matches!(name, Value::BulkString(name) if name == key);
                let answer = streams.iter().find(|(name, _)| is(name));
                answer.map(|(_, answer)| self.page(answer, each, keys.len() * each))
            };
            return Ok(Some(keys.iter().map(|(key, _)| of(key).unwrap_or_default()).collect()));
        }
    }

    fn page(&self, answer: &Value, asked: usize, in_all: usize) -> StreamPage {
        page(answer, asked, in_all, self.joined.longest() as u64)
    }

    /// Returns the answers; `None` if they are to be asked for again, or fewer of them.
    async fn ask(
        &self,
        pipeline: &mut Pipeline,
        entries: usize,
    ) -> Result<Option<Vec<Result<Value, RedisError>>>, String> {
        let Some(link) = self.connected().await? else { return Ok(None) };
        let meter = link.meter.clone();
        let (came, since) = (meter.came(), Instant::now());
        meter.allow(self.joined.most_of_page());
        pipeline.ignore_errors();
        let answer = answer(&link, pipeline, entries > 1).await;
        self.used.set(Instant::now());
        let broken = match answer {
            Ok(answers) => {
                let bytes = meter.came().wrapping_sub(came);
                let few = bytes < self.joined.most_of_page() / 2;
                self.pace.set(match meter.is_exhausted() {
                    // It arrived before it could be aborted, and some of it is left out.
                    true => smaller_pace(entries),
                    false => next_pace(self.pace.get(), entries, few, since.elapsed()),
                });
                *self.link.borrow_mut() = Some(link);
                self.failures.set(0);
                self.trouble.borrow_mut().take();
                return Ok(Some(answers));
            }
            Err(broken) => broken,
        };
        // What is still to arrive goes with the connection.
        drop(link);
        self.pace.set(smaller_pace(entries));
        match broken {
            Broken::TooMuch => {}
            Broken::Unanswered(Unanswered::Failed(error)) if error.code().is_some() => {
                return Err(shown(&error));
            }
            Broken::Unanswered(why) => self.fail(why.to_string()).await,
        }
        Ok(None)
    }

    /// Takes the connection out; `None` if it cannot be made now.
    async fn connected(&self) -> Result<Option<Link>, String> {
        let held = self.link.borrow_mut().take();
        if held.is_some() {
            return Ok(held);
        }
        let (joined, bounds) = (&self.joined, self.joined.bounds());
        match link::connect(&joined.address, &joined.names.clock(), None, &bounds).await {
            Ok(link) if link.address == self.node => Ok(Some(link)),
            Ok(link) => Err(format!("the hub is at {} and at {}", self.node, link.address)),
            Err(error) => {
                self.fail(error.to_string()).await;
                Ok(None)
            }
        }
    }

    /// Counts a failed attempt. The first one may have used a connection from before Redis went
    /// away, and is followed by another at once.
    async fn fail(&self, why: String) {
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        if failures > 0 {
            *self.trouble.borrow_mut() = Some(why);
            sleep((FIRST_PAUSE * (1 << (failures.min(6) - 1))).min(PAUSE)).await;
        }
    }
}

/// Returns how many of these streams one request asks for, and how many entries of each at most.
fn shares(pace: usize, ranges: &[PageRequest]) -> (usize, usize) {
    let streams = (pace / EACH).clamp(1, STREAMS).min(ranges.len());
    (streams, (pace / streams.max(1)).max(1))
}

/// Returns an answer of at most `asked` entries as a page, up to the first that was left out
/// because no more was allowed to a request for `in_all` entries of all its streams.
fn page(answer: &Value, asked: usize, in_all: usize, longest: u64) -> StreamPage {
    let came = match answer {
        Value::Array(list) => list.len(),
        _ => 0,
    };
    let mut entries = entries(answer);
    // The only entry of a request has the whole allowance. If it does not fit it never will.
    let is_to_come = |entry: &Entry| in_all > 1 && (1..=longest).contains(&entry.left_out);
    let whole = entries.iter().position(is_to_come).unwrap_or(entries.len());
    let more = came >= asked || whole < entries.len();
    entries.truncate(whole);
    StreamPage { entries, more, about: None, length: None }
}

/// Returns how many of these streams are described in one request, and how many entries that
/// brings: the first and the last of each. A single stream is waited for as a single entry is.
fn described_together(pace: usize, left: usize) -> (usize, usize) {
    let streams = (pace / 2).clamp(1, STREAMS).min(left);
    (streams, if streams == 1 { 1 } else { 2 * streams })
}

/// Returns how many entries are asked for after a request for this many that was too much.
fn smaller_pace(asked: usize) -> usize {
    (asked / 8).clamp(1, MOST)
}

/// Returns how many entries the next request asks for.
fn next_pace(pace: usize, asked: usize, few_bytes: bool, took: Duration) -> usize {
    if took > SLOW {
        (asked / 2).clamp(1, MOST)
    } else if took < QUICK && few_bytes {
        (pace * 2).min(MOST)
    } else {
        pace
    }
}

/// Returns the answer, unless it is aborted.
async fn answer(
    link: &Link,
    pipeline: &Pipeline,
    may_be_less: bool,
) -> Result<Vec<Result<Value, RedisError>>, Broken> {
    let answer = link.answer(async |connection| pipeline.query_async(connection).await);
    tokio::select! {
        biased;
        answer = answer => answer.map_err(Broken::Unanswered),
        () = too_much(&link.meter), if may_be_less => Err(Broken::TooMuch),
    }
}

/// Returns once an answer is more than is allowed, or takes too long.
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
    use crate::redis::stream_page::IdSpan;

    fn range(most: u64) -> PageRequest {
        PageRequest::of(Vec::new(), IdSpan::Newest, most)
    }

    #[test]
    fn many_streams_share_a_request_and_one_has_it_alone() {
        assert_eq!(shares(FIRST, &vec![range(1); 300]), (16, 16));
        assert_eq!(shares(MOST, &vec![range(1); 300]), (STREAMS, 20));
        assert_eq!(shares(MOST, &[range(1)]), (1, MOST));
        assert_eq!(shares(1, &vec![range(1); 300]), (1, 1));
        assert_eq!(shares(17, &vec![range(1); 300]), (1, 17));
    }

    #[test]
    fn fewer_streams_are_described_together_after_a_request_that_was_too_much() {
        let (mut pace, mut together) = (FIRST, Vec::new());
        while together.last() != Some(&1) {
            let (streams, entries) = described_together(pace, 500);
            together.push(streams);
            pace = smaller_pace(entries);
        }
        assert_eq!(together, [128, 16, 2, 1]);
        assert_eq!(described_together(1, 500), (1, 1));
        assert_eq!(described_together(MOST, 3), (3, 6));
    }

    #[test]
    fn an_entry_that_was_not_allowed_comes_later_unless_it_was_asked_for_alone() {
        let text = |text: &str| Value::BulkString(text.into());
        let entry =
            |id: &str, data| Value::Array(vec![text(id), Value::Array(vec![text("data"), data])]);
        let left_out = |bytes: &str| Value::BigNumber(bytes.into());
        let one = |bytes| Value::Array(vec![entry("5-0", left_out(bytes))]);
        // The last entry that is asked for of one stream among several.
        let first = page(&one("700"), 1, 200, 1_000);
        assert!(first.entries.is_empty() && first.more);
        let alone = page(&one("700"), 1, 1, 1_000);
        assert_eq!(alone.entries.first().map(|entry| entry.left_out), Some(700));
        let too_large = page(&one("1001"), 1, 200, 1_000);
        assert_eq!(too_large.entries.first().map(|entry| entry.left_out), Some(1_001));
        let some = Value::Array(vec![entry("5-0", text("x")), entry("6-0", left_out("700"))]);
        let some = page(&some, 16, 16, 1_000);
        assert!(some.entries.len() == 1 && some.more);
        assert_eq!((smaller_pace(256), smaller_pace(8), smaller_pace(1)), (32, 1, 1));
    }

    #[test]
    fn what_comes_quickly_is_followed_by_more_and_what_comes_slowly_by_less() {
        let (quick, slow) = (Duration::ZERO, Duration::from_secs(1));
        assert_eq!(next_pace(256, 256, true, quick), 512);
        assert_eq!(next_pace(MOST, 16, true, quick), MOST);
        assert_eq!(next_pace(256, 256, false, quick), 256);
        assert_eq!(next_pace(256, 200, true, slow), 100);
        assert_eq!(next_pace(256, 1, true, slow), 1);
    }
}
