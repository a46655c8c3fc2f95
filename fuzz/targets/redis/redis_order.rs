//! A channel's messages and its stream in Redis under any schedule: messages are lost, entries are trimmed and
//! deleted, pages are small, and messages arrive while pages are read. Each event comes once and in order, and
//! one that never comes is followed by a gap event, which is where an event is missing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::fuzz::input::Input;
use crate::hub::{History, Latest, Loss, Now, ReportedId, Source, SyncState};
use crate::redis::catch_up::{CatchUp, FetchPolicy, Fetched};
use crate::redis::entry::Entry;
use crate::redis::message::{Durable, Message};
use crate::redis::message_order::{
    classify, ChannelOrder, DeliveryMode, MessageAction, Released, WaitingOrder,
};
use crate::redis::session::settle::read_up_to;
use crate::redis::stream_page::{IdSpan, PageRequest, StreamPage};
use crate::sse::id::EntryId;

/// The stream, and the messages that have been sent and have not arrived.
#[derive(Default)]
struct Redis {
    /// Ids of entries, and the id before each.
    entries: BTreeMap<u64, u64>,
    newest: u64,
    sent: VecDeque<(u64, u64)>,
}

/// A stream that is being read, and the messages that wait for it.
struct Reading {
    catch_up: CatchUp,
    waiting: Vec<(u64, u64)>,
    arrived_before: usize,
}

/// What the holder of the subscription does.
#[derive(Default)]
struct Holder {
    last: u64,
    reading: Option<Reading>,
    log: Vec<Step>,
}

/// What is appended to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Event(u64),
    Gap,
    /// All that was read may be of another stream.
    Restart,
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (mut redis, mut holder) = (Redis::default(), Holder::default());
    while !input.is_spent() {
        match input.below(8) {
            0..3 => redis.publish(true),
            3 => redis.publish(false),
            4 => redis.remove(input.below(8)),
            5 => redis.trim(input.below(4)),
            6 => holder.take(&mut redis),
            _ => holder.read(&mut redis, 1 + input.below(3)),
        }
    }
    // Everything arrives, and then one more message, before which nothing is missing any more.
    redis.publish(true);
    while !redis.sent.is_empty() || holder.reading.is_some() {
        holder.take(&mut redis);
        holder.read(&mut redis, 2);
    }
    check(&holder.log, redis.newest);
}

/// Every event up to `newest` is in the log, in order, or followed by a gap.
fn check(log: &[Step], newest: u64) {
    let ids = log.iter().filter_map(|step| match step {
        Step::Event(id) => Some(*id),
        Step::Gap | Step::Restart => None,
    });
    let ids: Vec<u64> = ids.collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "not in order: {log:?}");
    assert_eq!(ids.last(), Some(&newest), "the last one is missing: {log:?}");
    let came: BTreeSet<u64> = ids.iter().copied().collect();
    let is_missing = |id: &u64| !came.contains(id);
    for (index, step) in log.iter().enumerate() {
        let before = log[..index].iter().rev().find_map(Step::event).unwrap_or(0);
        let next = log[index..].iter().find_map(Step::event).unwrap_or(newest + 1);
        if *step == Step::Gap {
            assert!((before + 1..next).any(|id| is_missing(&id)), "a gap at {next}: {log:?}");
        }
    }
    for missing in (1..newest).filter(is_missing) {
        let is_after = |step: &Step| step.event().is_some_and(|id| id > missing);
        let at = log.iter().position(is_after).unwrap_or(log.len());
        // Directly before the next event, or among what was read together with that.
        let is_told = log[at.saturating_sub(1)..].iter().any(|step| step.event().is_none());
        assert!(is_told, "{missing} is missing, and nobody noticed: {log:?}");
    }
}

impl Step {
    fn event(&self) -> Option<u64> {
        match self {
            Step::Event(id) => Some(*id),
            Step::Gap | Step::Restart => None,
        }
    }
}

impl Redis {
    fn publish(&mut self, is_received: bool) {
        let prev = self.newest;
        self.newest += 1;
        self.entries.insert(self.newest, prev);
        if is_received {
            self.sent.push_back((self.newest, prev));
        }
    }

    fn remove(&mut self, number: usize) {
        let id = self.entries.keys().rev().nth(number).copied();
        id.map(|id| self.entries.remove(&id));
    }

    fn trim(&mut self, number: usize) {
        for _ in 0..number {
            self.entries.pop_first();
        }
    }

    fn page(&self, range: &PageRequest, most: usize) -> StreamPage {
        let IdSpan::After(after) = range.span else { panic!("it reads on from what it has") };
        let all = self.entries.iter().filter(|(ms, _)| id(**ms) > after);
        let mut entries: Vec<Entry> = all.map(|(ms, prev)| entry(*ms, *prev)).collect();
        let more = entries.len() >= most;
        entries.truncate(most);
        let length = range.length.then_some(self.entries.len() as u64);
        StreamPage { entries, more, about: None, length }
    }
}

impl Holder {
    /// Takes the next message.
    fn take(&mut self, redis: &mut Redis) {
        let Some((of, prev)) = redis.sent.pop_front() else { return };
        let message = message(of, prev);
        let order = match self.reading {
            Some(_) => ChannelOrder::CatchingUp { is_matched: false },
            None => ChannelOrder::InSync(id(self.last)),
        };
        match classify(&message, order, DeliveryMode::Alone, false) {
            MessageAction::Append(_) => self.append(of),
            MessageAction::Wait => {
                let reading = self.reading.as_mut().expect("a message waits only for a stream");
                reading.waiting.push((of, prev));
            }
            MessageAction::CatchUp | MessageAction::StartOver => self.interrupt(vec![(of, prev)]),
            other => panic!("{other:?} of a message that is in order"),
        }
    }

    fn append(&mut self, of: u64) {
        self.last = self.last.max(of);
        self.log.push(Step::Event(of));
    }

    fn interrupt(&mut self, waiting: Vec<(u64, u64)>) {
        let last = id(self.last);
        let entry = Some(last).filter(|_| self.last > 0);
        let catch_up = CatchUp::new(Vec::new(), SyncState::Interrupted(last), entry);
        self.reading = Some(Reading { catch_up, arrived_before: waiting.len(), waiting });
    }

    /// Reads a page of the stream, and takes the messages that were sent before.
    fn read(&mut self, redis: &mut Redis, most: usize) {
        let Some(reading) = &self.reading else { return };
        let page = redis.page(&reading.catch_up.range(terms()), most);
        while !redis.sent.is_empty() {
            self.take(redis);
        }
        let Some(reading) = &mut self.reading else { return };
        let (fetched, done) = reading.catch_up.take(page, terms());
        match fetched.missing {
            Loss::Nothing => {}
            Loss::UpTo(_) => self.log.push(Step::Gap),
            Loss::Everything => self.log.push(Step::Restart),
        }
        self.log.extend(fetched.entries.iter().map(|entry| Step::Event(entry.id.ms())));
        if done {
            let missing = reading.catch_up.missing();
            self.settle(Fetched { missing, ..fetched });
        }
    }

    fn settle(&mut self, fetched: Fetched) {
        let Some(reading) = self.reading.take() else { return };
        let known = reading.catch_up.known();
        self.last = read_up_to(id(self.last), known, &fetched).ms();
        let messages: Vec<_> =
            reading.waiting.iter().map(|(of, prev)| message(*of, *prev)).collect();
        let ids = messages.iter().map(Message::id);
        let mut order = WaitingOrder::new(ids, reading.arrived_before, &fetched, id(self.last));
        for (index, message) in messages.iter().enumerate() {
            match order.release(message) {
                Released::AlreadyRead => {}
                Released::Append(_) => self.append(reading.waiting[index].0),
                Released::AppendAfterLoss(..) => {
                    self.log.push(Step::Gap);
                    self.append(reading.waiting[index].0);
                }
                Released::ReadAgain => return self.interrupt(reading.waiting[index..].to_vec()),
            }
        }
    }
}

fn terms() -> FetchPolicy {
    FetchPolicy {
        history: History { count: 1_000, age: 0 },
        runs: History::NONE,
        source: Source::PubSub,
        now: 1_000_000,
        latest: Latest::here(Now { wall: 1_000_000, ..Now::default() }),
        room: usize::MAX,
        kept: usize::MAX,
    }
}

fn id(ms: u64) -> ReportedId {
    EntryId { ms, seq: 0 }.into()
}

fn entry(ms: u64, prev: u64) -> Entry {
    let (event_type, data) = (Vec::new(), Vec::new());
    Entry { id: id(ms), prev: Some(id(prev)), number: None, event_type, data, skipped: 0 }
}

fn message(ms: u64, prev: u64) -> Message<'static> {
    let nothing = || Cow::Borrowed(&b""[..]);
    let (id, prev) = (id(ms), id(prev));
    Message::Durable(Durable { id, prev, event_type: nothing(), data: nothing() })
}
