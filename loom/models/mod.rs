//! Models of what the processes of a hub do without its lock. They run the module's own code: what
//! is a thread here is a process there.

pub mod ring;
pub mod slot;
pub mod wakeup;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::hub::layout::{header, Layout};
use crate::hub::memory::region::WORD;
use crate::hub::{format, EventCopy, History, Hub, NewEvent, Now, Plan, Region, Source};

/// The number of blocks of a model's hub, and with it of the entries of its ring.
pub const BLOCKS: usize = 16;
pub const RING: u64 = 4;

const NOW: Now = Now { mono: 1_000, mono_ns: 0, wall: 1_700_000_000_000 };
/// When the events of `NOW` have expired.
const LATER: Now = Now { mono: 10_000, mono_ns: 0, wall: 1_700_000_009_000 };

/// The outcomes of a model's executions: how many there were, and whether both possible results of
/// a race have occurred.
#[derive(Default)]
pub struct Outcomes {
    executions: AtomicUsize,
    first: AtomicUsize,
}

impl Outcomes {
    /// Records an execution and which of the two results it had.
    fn record(&self, is_first: bool) {
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.first.fetch_add(usize::from(is_first), Ordering::Relaxed);
    }
}

/// Tries all executions of a model.
fn explore(model: impl Fn(&Outcomes) + Send + Sync + 'static) {
    explore_within(None, model);
}

/// Tries the executions of a model in which threads are preempted at most `preemptions` times.
fn explore_within(preemptions: Option<usize>, model: impl Fn(&Outcomes) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    let outcomes = Arc::new(Outcomes::default());
    let seen = outcomes.clone();
    builder.check(move || model(&seen));
    let executions = outcomes.executions.load(Ordering::Relaxed);
    let first = outcomes.first.load(Ordering::Relaxed);
    eprintln!("{executions} executions, {first} with the first result");
    assert!(0 < first && first < executions, "there was no race");
}

/// Creates a hub of a few blocks and with one slot, for one execution.
fn hub() -> Hub {
    let slots = 1;
    let bytes = Layout::new(BLOCKS, slots).words() * WORD;
    let region = Region::in_memory(bytes);
    let history = History { count: 1, age: 5_000 };
    let plan =
        Plan { bytes, slots, max_event: 64, history, runs: History::NONE, source: Source::Alone };
    format(&region, &plan, 7, NOW).unwrap();
    // Every execution has to be the same but for the threads.
    region.set(header::SEED, 1);
    let hub = Hub::attach(region).unwrap();
    assert_eq!(hub.layout.ring as u64, RING);
    hub
}

/// A handle of another process to the same hub.
fn other_process(hub: &Hub) -> Hub {
    Hub::attach(hub.region.clone()).unwrap()
}

/// Publishes an event whose data is its position.
fn publish(hub: &Hub, channel: &[u8]) {
    publish_at(hub, channel, NOW);
}

fn publish_at(hub: &Hub, channel: &[u8], now: Now) {
    let position = (hub.head() + 1).to_string();
    let event = NewEvent { event_type: b"", data: position.as_bytes() };
    hub.publish(channel, &[event], None, now).unwrap();
}

/// Returns the position that an event has as its data.
fn data(copied: &EventCopy) -> u64 {
    let text = std::str::from_utf8(copied.data()).unwrap();
    text.trim().strip_prefix("data: ").unwrap().parse().unwrap()
}
