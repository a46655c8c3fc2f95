//! Tests of a worker, with sockets that accept as much as a test allows, and a hub in ordinary
//! memory.

mod ahead;
mod beginnings;
mod bounded;
mod catching_up;
mod delivery;
mod ends;
mod figures;
#[cfg(not(miri))]
mod locked;
mod moving;
mod patterns;
mod permissions;
#[cfg(not(miri))]
mod received;
mod runs;
mod runs_with_redis;
mod since;
mod users;
mod with_redis;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::hub::{format, Counter, History, Plan, Region, Source};

pub(super) const START: Now = Now { mono: 1_000, mono_ns: 0, wall: 1_700_000_000_000 };

/// What one client has received, and how many more frames its socket accepts before it blocks.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    room: usize,
    sends: usize,
    dead: bool,
    /// Whether its response is interrupted by a reset.
    resets: bool,
}

struct Client(Rc<RefCell<Wire>>);

impl Socket for Client {
    fn is_interrupted_by_reset(&self) -> bool {
        self.0.borrow().resets
    }

    fn send(&mut self, batch: &Batch) -> Sent {
        let mut wire = self.0.borrow_mut();
        if wire.dead {
            return Sent::Failed;
        }
        wire.sends += 1;
        // At least one frame is always accepted, as the trait requires.
        let taken = batch.frames().len().min(wire.room.max(1));
        for frame in &batch.frames()[..taken] {
            wire.bytes.extend_from_slice(frame.body());
        }
        wire.room = wire.room.saturating_sub(taken);
        if wire.room == 0 {
            Sent::Blocked { taken }
        } else {
            Sent::All
        }
    }
}

struct NoWakers;

impl Wakers for NoWakers {
    fn wake(&self, _waker: usize) {}
}

struct Bench {
    hub: Hub,
    worker: Worker<Client>,
    now: Now,
}

fn bench(bytes: usize, history: History) -> Bench {
    bench_of(bytes, history, Source::Alone, 7)
}

/// Creates a hub for tests of a part of the worker. One of its four slots is claimed.
pub(super) fn small_hub() -> Hub {
    bench(1 << 18, HISTORY).hub
}

fn bench_with_large_events() -> Bench {
    bench_of_size(1 << 20, 32 << 20, HISTORY, Source::Alone, 7)
}

fn bench_of(bytes: usize, history: History, source: Source, tag: u32) -> Bench {
    bench_of_size(1 << 10, bytes, history, source, tag)
}

fn bench_of_size(
    max_event: usize,
    bytes: usize,
    history: History,
    source: Source,
    tag: u32,
) -> Bench {
    let region = Region::in_memory(bytes);
    let plan = Plan { bytes, slots: 4, max_event, history, runs: History::NONE, source };
    format(&region, &plan, tag, START).unwrap();
    let hub = Hub::attach(region).unwrap();
    let worker = new_worker(&hub, Some(0), 1, START);
    Bench { hub, worker, now: START }
}

thread_local! {
    /// The time that workers read when events have been delivered.
    static DELIVERED_AT: Cell<MonotonicTime> = const { Cell::new(MonotonicTime::from_ms(0)) };
}

fn new_worker(hub: &Hub, waker: Option<usize>, seed: u64, now: Now) -> Worker<Client> {
    let presence = Presence::default();
    Worker::new(hub.clone(), &NoWakers, waker, presence, seed, now, || DELIVERED_AT.get())
}

fn settings() -> StreamSettings {
    StreamSettings {
        replay: Replay::Off,
        heartbeat: Some(15_000),
        retry: Jittered { base: 3_000, jitter: 0 },
        open_event: Some((*b"sse.open").into()),
        gap_event: Some((*b"sse.gap").into()),
        slow_client: SlowClient::Skip,
        naming: Naming::ByType,
        max_age: None,
        expiry_event: None,
        reconnect: Reconnect::Cut,
        max_subscribers: 0,
        finished: Finished::NoContent,
        unknown_channel: UnknownChannel::Wait,
    }
}

impl Bench {
    /// Returns a page of a listing.
    fn list(&self, prefix: &[u8], from: u64, limit: usize) -> crate::hub::ListingPage {
        let mut listing = crate::hub::Listing::new(prefix.to_vec(), from, limit);
        std::iter::repeat_with(|| self.hub.list(&mut listing).unwrap())
            .find_map(|page| page)
            .unwrap()
    }

    fn open(
        &mut self,
        settings: StreamSettings,
        channels: &[&str],
        id: &str,
    ) -> (StreamKey, Rc<RefCell<Wire>>) {
        self.request(settings, channels, ResumeRequest::from_id(id.as_bytes()))
    }

    fn request(
        &mut self,
        settings: StreamSettings,
        channels: &[&str],
        request: ResumeRequest<'_>,
    ) -> (StreamKey, Rc<RefCell<Wire>>) {
        let wire = Rc::new(RefCell::new(Wire { room: usize::MAX, ..Wire::default() }));
        let names: Vec<Box<[u8]>> = channels.iter().map(|name| name.as_bytes().into()).collect();
        let client = Client(wire.clone());
        let key = self.worker.open(client, &Rc::new(settings), &names, request, self.now).unwrap();
        self.settle();
        (key, wire)
    }

    fn publish(&mut self, channel: &str, data: &str) -> String {
        let event = NewEvent { event_type: b"", data: data.as_bytes() };
        let published = self.worker.publish(channel.as_bytes(), &[event], None, self.now).unwrap();
        published.ids[0].to_string()
    }

    /// Publishes these events and finishes the run.
    fn finish(&mut self, channel: &str, data: &[&str]) -> Vec<String> {
        let new = |data| NewEvent { event_type: b"", data };
        let events: Vec<_> = data.iter().map(|data| new(data.as_bytes())).collect();
        let published =
            self.worker.publish_and_finish(channel.as_bytes(), &events, None, self.now).unwrap();
        published.ids.iter().map(ToString::to_string).collect()
    }

    fn settle(&mut self) {
        while self.worker.turn(self.now) == Progress::More {}
    }

    fn pass_time(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono += 100;
            self.now.wall += 100;
            self.worker.tick(self.now);
            self.settle();
        }
    }
}

/// Returns the data that a client has received, and the types of the module's own events.
fn received(wire: &Rc<RefCell<Wire>>) -> Vec<String> {
    received_in(&wire.borrow().bytes)
}

fn received_in(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut received = Vec::new();
    for block in text.split("\n\n") {
        let line =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string);
        match (line("event: "), line("data: ")) {
            (Some(event), _) => received.push(event),
            (None, Some(data)) => received.push(data),
            (None, None) => {}
        }
    }
    received
}

fn last_id(wire: &Rc<RefCell<Wire>>) -> String {
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_string()
}

const HISTORY: History = History { count: 10, age: 600_000 };
