//! Processes that publish, read, and listen, and are killed at random moments, many of them while
//! they hold the lock. A reader that lives sees every event that was acknowledged, once, complete,
//! and in its writer's order.
//!
//! The processes are this test program again, started with an environment that makes them children.
//! They run until they are killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::random::Random;
use super::*;

/// The variable with a child's parameters: the file of the hub, its number, and whether it may
/// outrun the reader.
const CHILD: &str = "HUB_TEST_CHILD";
/// The words after the hub in the file: the reader's position, and the number of each child's last
/// accepted publish.
const BOARD: usize = 4096;
const CHANNELS: [&str; 3] = ["one", "two", "three"];

/// The time since a day in 2023, which is the same in all processes.
fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = since.as_millis() as u64;
    Now { mono: wall - 1_700_000_000_000, mono_ns: 0, wall }
}

/// A hub in a file, and the words after it.
struct Shared {
    hub: Hub,
    board: Region,
}

fn map(path: &PathBuf) -> (Region, Region) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len() as usize;
    let whole = Region::from_file(&file, bytes);
    let board = BOARD * WORD;
    (whole.part(0, bytes - board), whole.part(bytes - board, board))
}

fn open(path: &PathBuf) -> Shared {
    let (region, board) = map(path);
    Shared { hub: Hub::attach(region).unwrap(), board }
}

/// Returns the data of a writer's event, which no other writer creates. `rest` events of its batch
/// follow it.
fn data_of(writer: usize, seq: u64, rest: usize) -> String {
    let mut random = Random::new(writer as u64 * 1_000_003 + seq);
    let size = random.of(&[0, 20, 100, 400, 2_500]);
    let filler = format!("{:x}.", random.next());
    format!("{writer} {seq} {rest} {}", filler.repeat(size / filler.len()))
}

/// Does what workers do, until it is killed.
fn work(path: &PathBuf, writer: usize, paced: bool) {
    let Shared { hub, board } = open(path);
    let mut random = Random::new(writer as u64);
    let claim = hub.claim_slot();
    let mut members = Vec::new();
    if let Some(claim) = claim {
        let join = |name: &str| patiently(|| hub.join(claim, name.as_bytes(), now()));
        members = CHANNELS.map(join).into();
    }
    let mut seq = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        // As far behind as the ring and the zone allow, so that nothing has to be lost.
        if paced && hub.head().saturating_sub(board.get(0)) > 200 {
            std::thread::yield_now();
            continue;
        }
        match random.below(20) {
            0 => drop(hub.reap_dead()),
            1 => drop(hub.sweep(now())),
            2 if !members.is_empty() => {
                let beginning =
                    hub.begin(&members, &Resume::From(b"x".into()), Runs::Joined, now());
                if let Some(mut cursor) = beginning.ok().and_then(|beginning| beginning.cursor) {
                    drop(hub.slice_of(&mut cursor, 10, 100_000, now()));
                }
            }
            3 => {
                if let Some(Ok(member)) = claim.map(|claim| hub.join(claim, b"passing", now())) {
                    hub.leave(member).unwrap_or_default();
                }
            }
            _ => {
                let count = random.of(&[1, 1, 1, 4]);
                let texts: Vec<String> = (0..count)
                    .map(|i| data_of(writer, seq + i as u64 + 1, count - i - 1))
                    .collect();
                let new: Vec<NewEvent<'_>> =
                    texts.iter().map(|text| event(text.as_bytes())).collect();
                let channel = random.of(&CHANNELS);
                if hub.publish(channel.as_bytes(), &new, None, now()).is_ok() {
                    seq += count as u64;
                    board.set(16 + writer, seq);
                }
            }
        }
    }
}

#[test]
fn a_child_of_another_test() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let given: Vec<&str> = given.split(' ').collect();
    work(&PathBuf::from(given[0]), given[1].parse().unwrap(), given[2] == "paced");
}

fn start(path: &std::path::Path, writer: usize, pace: &str) -> Child {
    let test = concat!(module_path!(), "::a_child_of_another_test");
    let (_, test) = test.split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{} {writer} {pace}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A stream of all channels, as a worker keeps it: live without the lock, and replayed if it is
/// behind.
struct Reader {
    members: Vec<Membership>,
    at: u64,
    gaps: usize,
    behind: usize,
    /// The last event of each writer that was seen.
    seen: BTreeMap<usize, LastRead>,
    /// At or before this position, events were reported as lost.
    reported: u64,
}

#[derive(Clone, Copy, Default)]
struct LastRead {
    position: u64,
    seq: u64,
    /// How many events of its batch had to follow.
    rest: usize,
}

impl Reader {
    fn turn(&mut self, hub: &Hub) {
        let mut copied = EventCopy::default();
        while self.at < hub.head() {
            let whole = hub
                .descriptor(self.at + 1)
                .is_some_and(|descriptor| hub.copy(descriptor, now(), &mut copied));
            if !whole {
                return self.catch_up(hub);
            }
            self.take(&copied, self.at + 1);
            self.at += 1;
        }
    }

    fn catch_up(&mut self, hub: &Hub) {
        self.behind += 1;
        let until = hub.head();
        let mut cursor = ReplayCursor::since(
            Received::at(self.at, Elsewhere::Nothing),
            until,
            self.members.iter().copied(),
        );
        loop {
            let slice = patiently(|| hub.slice_of(&mut cursor, 10, 100_000, now()));
            if slice.gap.is_some() {
                self.gaps += 1;
                self.reported = hub.head();
                cursor.gap_sent(&slice);
            }
            for found in &slice.events {
                self.take(&found.event, found.event.place.position);
                cursor.delivered(found);
            }
            if slice.done {
                self.at = until;
                return;
            }
        }
    }

    fn take(&mut self, copied: &EventCopy, position: u64) {
        assert_eq!(copied.place.position, position.max(self.at + 1));
        let text = text(copied);
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().ok());
        let mut number = || numbers.next().flatten().unwrap_or_else(|| panic!("torn: {text}"));
        let (writer, seq, rest) = (number() as usize, number(), number() as usize);
        assert!(text == data_of(writer, seq, rest), "torn: {text}");
        let last = self.seen.insert(writer, LastRead { position, seq, rest }).unwrap_or_default();
        if seq != last.seq + 1 {
            // Events that were reported as lost may be between others that were not.
            assert!(last.position < self.reported, "{seq} of {writer} came after {}", last.seq);
            assert!(seq > last.seq);
        } else if last.position > 0 {
            assert!(last.rest == 0 || rest + 1 == last.rest, "a batch in pieces");
        }
    }
}

/// How long children are started and killed, which HUB_TEST_SECONDS can extend.
fn duration() -> Duration {
    let given = std::env::var("HUB_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(given.map_or(1_500, |seconds: u64| seconds * 1_000))
}

struct Killing {
    path: PathBuf,
    shared: Shared,
    reader: Reader,
    claim: SlotClaim,
    pace: &'static str,
    children: Vec<(usize, Child)>,
    started: usize,
}

impl Killing {
    fn new(name: &str, bytes: usize, history: History, pace: &'static str) -> Killing {
        let path = std::env::temp_dir().join(format!("hub-test-{name}-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len((bytes + BOARD * WORD) as u64).unwrap();
        let (region, board) = map(&path);
        let plan = Plan {
            bytes,
            slots: 8,
            max_event: 4096,
            history,
            runs: History::NONE,
            source: Source::Alone,
        };
        format(&region, &plan, 7, now()).unwrap();
        let hub = Hub::attach(region).unwrap();
        let claim = hub.claim_slot().unwrap();
        let join = |name: &str| hub.join(claim, name.as_bytes(), now()).unwrap();
        let members = CHANNELS.map(join).into();
        let seen = BTreeMap::new();
        let reader = Reader { members, at: 0, gaps: 0, behind: 0, seen, reported: 0 };
        let shared = Shared { hub, board };
        Killing { path, shared, reader, claim, pace, children: Vec::new(), started: 0 }
    }

    fn read(&mut self) {
        self.reader.turn(&self.shared.hub);
        self.shared.board.set(0, self.reader.at);
    }

    /// Starts and kills children during the whole test, and reads in the meantime.
    fn run(&mut self) {
        let mut random = Random::new(self.started as u64);
        let end = Instant::now() + duration();
        while Instant::now() < end {
            while self.children.len() < 3 && self.started < BOARD - 16 {
                self.children.push((self.started, start(&self.path, self.started, self.pace)));
                self.started += 1;
            }
            let pause = Instant::now() + Duration::from_micros(5_000 + random.below(20_000));
            while Instant::now() < pause {
                self.read();
            }
            let number = random.below(self.children.len() as u64) as usize;
            self.kill(number);
            if random.below(4) == 0 {
                self.shared.hub.check();
            }
        }
        while !self.children.is_empty() {
            self.kill(0);
        }
        self.read();
        self.shared.hub.check();
    }

    fn kill(&mut self, number: usize) {
        let (_, mut child) = self.children.swap_remove(number);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Checks that no process is left: all slots can be claimed.
    fn all_slots_are_free_again(&self) {
        let hub = &self.shared.hub;
        let mut died = 0;
        while hub.reap_dead() {
            died += 1;
        }
        assert!(died <= 1, "a slot that dies again and again");
        let claims: Vec<SlotClaim> = std::iter::from_fn(|| hub.claim_slot()).collect();
        assert_eq!(claims.len(), hub.slots() - 1);
        assert!(claims.iter().all(|claim| claim.slot != self.claim.slot));
    }
}

impl Drop for Killing {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
        drop(std::fs::remove_file(&self.path));
    }
}

#[test]
fn killed_processes_lose_nothing_that_was_acknowledged() {
    let history = History { count: 100, age: 0 };
    let mut killing = Killing::new("paced", 4 << 20, history, "paced");
    killing.run();
    let (hub, reader) = (&killing.shared.hub, &killing.reader);
    let mut acknowledged = 0;
    for writer in 0..killing.started {
        let counted = killing.shared.board.get(16 + writer);
        let seen = reader.seen.get(&writer).copied().unwrap_or_default();
        assert!(seen.seq >= counted, "{writer}: {counted} published, read up to {}", seen.seq);
        assert_eq!(seen.rest, 0, "a part of a batch");
        acknowledged += counted;
    }
    assert_eq!((reader.gaps, reader.behind), (0, 0));
    assert!(acknowledged > 100, "{acknowledged}");
    eprintln!(
        "{} children, {acknowledged} events acknowledged, {} deaths with the lock in hand",
        killing.started,
        hub.stats().counter(Counter::Repairs)
    );
    killing.all_slots_are_free_again();
}

#[test]
fn killed_processes_leave_the_hub_intact_during_constant_eviction() {
    let least = Plan::minimum_bytes(8, 4096);
    let mut killing = Killing::new("full", least, History { count: 10, age: 100 }, "unpaced");
    killing.run();
    let stats = killing.shared.hub.stats();
    assert!(stats.counter(Counter::Evicted) > 0);
    eprintln!(
        "{} children, {} events, {} gaps, {} times behind, {} deaths with the lock in hand",
        killing.started,
        killing.shared.hub.head(),
        killing.reader.gaps,
        killing.reader.behind,
        stats.counter(Counter::Repairs)
    );
    killing.all_slots_are_free_again();
}
