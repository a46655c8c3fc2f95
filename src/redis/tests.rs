//! Tests of the Redis thread as a whole, against a fake Redis and with a clock of their own: hours
//! pass in milliseconds, and no test waits for the machine.

mod barriers;
mod catching_up;
mod clocks;
mod delivery_before_losses;
mod doubts;
mod emptied_redis;
mod fake;
mod handover;
mod handover_of_channels;
mod history_age;
mod late_events;
mod locks;
mod nginx;
mod openings;
mod outages;
mod page_sizes;
mod patterns;
mod publishing;
mod random;
mod reading;
mod reconnections;
mod refusals;
mod removed_entries;
mod resp;
mod retiring;
mod runs;
mod scripts;
mod store;
mod streams;
mod subscription_table;
mod topologies;
mod unfinished;
mod users;
mod wakeups;
mod words;

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, Instant};

use crate::hub::{Now, Source};
use fake::{FakeRedis, Fault};
use nginx::{hub_at, Nginx, SharedHub, Streams};

/// The time at which each test starts, in ms since 1970.
const START: u64 = 1_700_000_000_000;
/// How long a test waits for something, on its own clock.
const LONGEST: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(1);
/// How far the clock goes on at a time while a test lets more than `LONG` ms pass.
const STRIDE: Duration = Duration::from_millis(20);
const LONG: u64 = 2_500;

thread_local! {
    /// How far this machine's clock is ahead of that of Redis (ms).
    static AHEAD: Cell<u64> = const { Cell::new(0) };
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static STEP: Cell<Duration> = const { Cell::new(MOMENT) };
}

/// Returns the milliseconds since the test started.
fn elapsed() -> u64 {
    STARTED.get().map_or(0, |started| started.elapsed().as_millis() as u64)
}

/// Returns the time in Redis since 1970 in ms.
fn wall() -> u64 {
    START + elapsed()
}

/// Returns the time on the test's clock.
fn now() -> Now {
    let mono = 1_000_000 + elapsed();
    Now { mono, mono_ns: 0, wall: wall() + AHEAD.get() }
}

/// Runs a test. Its clock stands still while anything can be done, and then goes on by 1 ms.
fn run(test: impl Future<Output = ()>) {
    run_with_pause(Duration::ZERO, test);
}

/// Runs a test with real connections of this machine, which get a moment of real time for each ms
/// of the clock of the test.
fn run_with_tcp(test: impl Future<Output = ()>) {
    run_with_pause(Duration::from_micros(100), test);
}

fn run_with_pause(pause: Duration, test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        STARTED.set(Some(Instant::now()));
        AHEAD.set(0);
        // Without this, the clock would jump to the next timeout while bytes are under way.
        tokio::task::spawn_local(async move {
            loop {
                sleep(STEP.get()).await;
                std::thread::sleep(pause);
            }
        });
        test.await;
    });
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < LONGEST, "it never happened that {what}");
        sleep(MOMENT).await;
    }
}

/// Opens streams of channel `a`, and perhaps of others, whose stream in Redis is being read: the
/// reply is held until `FakeRedis::repair`.
async fn open_while_held(redis: &FakeRedis, nginx: &Nginx, channels: &[&str]) -> Streams {
    const READ: &str = "XREVRANGE sse:{sse}:s:a";
    let before = redis.count(READ);
    redis.fault(READ, Fault::Hold, 1);
    let streams = nginx.open(channels);
    until("it is read", || redis.count(READ) > before).await;
    streams
}

/// Lets time pass.
async fn pass(ms: u64) {
    STEP.set(if ms > LONG { STRIDE } else { MOMENT });
    sleep(Duration::from_millis(ms)).await;
    STEP.set(MOMENT);
}

/// Starts a Redis, and returns it with a hub that is connected to it.
async fn stage(source: Source) -> (FakeRedis, SharedHub) {
    let redis = FakeRedis::start().await;
    let hub = hub_at(&redis.url(), source);
    (redis, hub)
}

/// Starts a Redis, and returns it with a process of a hub that is connected to it.
async fn connected(source: Source) -> (FakeRedis, Nginx) {
    let (redis, hub) = stage(source).await;
    let nginx = hub.process();
    nginx.is_up().await;
    (redis, nginx)
}
