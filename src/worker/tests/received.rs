//! The table of what a client receives, depending on what it has received before: `received.txt`
//! has a row for each kind of client and a column for each kind of event. A cell has a letter for
//! each frame that the client receives because of the event, and after `+` those that it receives
//! only after a while:
//!
//! - `e`: the event, with an id that the client has not received before
//! - `r`: the event, with the id that the client received last
//! - `g`: a gap event
//! - `o`: an open event
//! - `.`: nothing

use std::fmt::Write;

use super::with_redis::RedisSetup;
use super::*;
use crate::hub::{name_of_pattern, Loss, Membership, Provenance, RedisState};
use crate::sse::id::EntryId;

/// Longer than a stream waits for anything.
const LONG: u64 = 3_000;
/// The milliseconds of the id 0 in the table, and how far apart two ids are.
const FIRST: u64 = START.wall - 20_000;
const STEP: u64 = 25;
/// A time before every stream starts, and one after that.
const BEFORE: u64 = START.mono - 1;
const AFTER: u64 = START.mono + 50;

const TABLE: &str = include_str!("received.txt");

fn number(id: u64) -> EntryId {
    EntryId { ms: FIRST + id * STEP, seq: 0 }
}

/// The state of the channels when the client connects.
#[derive(Clone, Copy, Debug)]
enum State {
    /// In sync with Redis.
    InSync,
    /// Not in sync, so that the stream waits.
    Waiting,
    /// Redis is unreachable, so that the stream starts, and the channels are in sync later.
    Away,
}

/// What happens after the client has connected.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Live(u64),
    Plain,
    Missed(u64, u64),
    Earlier(u64, u64),
    Joining(u64, u64),
    Strayed(Option<u64>),
    /// Events with falling ids.
    Run,
    Lost(Loss),
    Deleted,
}

fn columns() -> Vec<(&'static str, Happens)> {
    use Happens::*;
    let lost = |id| Lost(Loss::UpTo(number(id)));
    vec![
        ("live300", Live(300)),
        ("live230", Live(230)),
        ("live160", Live(160)),
        ("live100", Live(100)),
        ("plain", Plain),
        ("miss300", Missed(300, AFTER)),
        ("miss230", Missed(230, BEFORE)),
        ("miss160", Missed(160, AFTER)),
        ("earl300", Earlier(300, AFTER)),
        ("earl230", Earlier(230, AFTER)),
        ("earl160", Earlier(160, AFTER)),
        ("old300", Earlier(300, BEFORE)),
        ("old160", Earlier(160, BEFORE)),
        ("join300", Joining(300, AFTER)),
        ("join230", Joining(230, BEFORE)),
        ("join160", Joining(160, BEFORE)),
        ("stray300", Strayed(Some(300))),
        ("stray160", Strayed(Some(160))),
        ("strayp", Strayed(None)),
        ("run", Run),
        ("lost220", lost(220)),
        ("lost300", lost(300)),
        ("restart", Lost(Loss::Everything)),
        ("deleted", Deleted),
    ]
}

/// A hub with events on the channels `a` and `b`.
struct Scene {
    setup: RedisSetup,
    members: Vec<(&'static str, Membership)>,
    state: State,
    /// The id of the plain message `p`.
    plain_id: String,
}

impl Scene {
    fn new(source: Source, state: State) -> Scene {
        let mut setup = RedisSetup::new(source, RedisState::Up, 7);
        for name in ["a", "b", "\0*"] {
            setup.catch_up(name, &[], Loss::Nothing);
        }
        let members = ["a", "b", "\0*"].map(|name| (name, setup.join(name))).to_vec();
        let mut scene = Scene { setup, members, state, plain_id: String::new() };
        scene.receive("a", Provenance::Live(number(100).into()), BEFORE);
        scene.receive("a", Provenance::Plain, BEFORE);
        let info = scene.setup.bench.hub.channel(b"a").unwrap().unwrap();
        scene.plain_id = info.last_id.unwrap().to_string();
        for (channel, id) in [("b", 170), ("b", 200), ("b", 150)] {
            scene.receive(channel, Provenance::Live(number(id).into()), BEFORE);
        }
        scene.receive("b", Provenance::Plain, BEFORE);
        match state {
            State::InSync => {}
            State::Waiting => scene.setup.connect(),
            State::Away => {
                scene.setup.bench.hub.set_link(scene.setup.fence, RedisState::Down).unwrap();
            }
        }
        scene
    }

    fn receive(&mut self, channel: &str, provenance: Provenance, born: u64) {
        let text =
            provenance.entry_id().map_or("p".into(), |id| ((id.ms - FIRST) / STEP).to_string());
        self.setup.ingest(channel, provenance, &text, born);
        self.setup.bench.settle();
    }

    fn happen(&mut self, what: Happens) {
        let judged = |id: u64| number(id).into();
        let provenance = match what {
            Happens::Live(id) => Provenance::Live(judged(id)),
            Happens::Plain => Provenance::Plain,
            Happens::Missed(id, _) => Provenance::Missed(judged(id)),
            Happens::Earlier(id, _) => Provenance::Earlier(judged(id)),
            Happens::Joining(id, _) => Provenance::Joining(judged(id)),
            Happens::Strayed(id) => Provenance::Strayed(id.map(judged)),
            Happens::Run => {
                for id in [300, 290, 310] {
                    self.receive("a", Provenance::Live(judged(id)), AFTER);
                }
                return self.receive("a", Provenance::Plain, AFTER);
            }
            Happens::Lost(loss) => {
                let (_, member) = self.members[0];
                let (hub, fence) = (&self.setup.bench.hub, self.setup.fence);
                let known = hub.sync_state(member).unwrap();
                hub.record_loss(fence, member, loss).unwrap();
                hub.caught_up(fence, member, known, loss).unwrap();
                return self.setup.bench.settle();
            }
            Happens::Deleted => {
                let now = self.setup.bench.now;
                self.setup.bench.hub.forget_channel(b"a", now).unwrap().unwrap();
                return self.receive("a", Provenance::Live(judged(300)), AFTER);
            }
        };
        let born = match what {
            Happens::Missed(_, born) | Happens::Earlier(_, born) | Happens::Joining(_, born) => {
                born
            }
            _ => AFTER,
        };
        if let (Happens::Missed(..), State::InSync) = (what, self.state) {
            // The channel loses its sync before, and is in sync afterwards.
            let (_, member) = self.members[0];
            self.setup.bench.hub.interrupt(self.setup.fence, member).unwrap();
            self.receive("a", provenance, born);
            return self.catch_up();
        }
        self.receive("a", provenance, born);
    }

    /// Catches all channels up.
    fn catch_up(&mut self) {
        let (hub, fence) = (self.setup.bench.hub.clone(), self.setup.fence);
        for (_, member) in &self.members {
            let known = hub.sync_state(*member).unwrap();
            hub.caught_up(fence, *member, known, Loss::Nothing).unwrap();
        }
        self.setup.bench.settle();
    }
}

/// Returns the frames after the first `from` bytes that a client has received, as letters. If
/// `named`, events are named by their data instead.
fn letters(wire: &Rc<RefCell<Wire>>, from: usize, named: bool) -> String {
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string)
    };
    let last = text[..from].split("\n\n").filter_map(|block| field(block, "id: ")).last();
    let (mut last, mut letters) = (last, String::new());
    for block in text[from..].split("\n\n") {
        let id = field(block, "id: ");
        match (field(block, "event: ").as_deref(), field(block, "data: ")) {
            (Some("sse.gap"), _) => letters.push('g'),
            (Some(_), _) => letters.push('o'),
            (None, Some(data)) if named => write!(letters, " {data}").unwrap(),
            (None, Some(_)) => letters.push(if id == last { 'r' } else { 'e' }),
            (None, None) => {}
        }
        last = id.or(last);
    }
    if letters.is_empty() {
        letters.push('.');
    }
    letters.trim().to_string()
}

/// Returns what a client of these channels receives: what it starts with, and then because of an
/// event.
fn cell(
    source: Source,
    state: State,
    (channels, client): (&[&str], &str),
    what: Happens,
) -> (String, String) {
    let mut scene = Scene::new(source, state);
    let replay = if client == "all" { Replay::All } else { Replay::Off };
    let ms = |id: u64| number(id).ms;
    let from = match client {
        "new" | "all" => String::new(),
        "own" => scene.plain_id.clone(),
        "foreign100" => format!("{}-0-9-5", ms(100)),
        "foreign250" => format!("{}-0-9-5", ms(250)),
        "unknown" => "x".into(),
        id => format!("{}-0", ms(id.parse().unwrap())),
    };
    let settings = StreamSettings { replay, ..settings() };
    let (_, wire) = scene.setup.bench.open(settings, channels, &from);
    let start = letters(&wire, 0, true);
    let received = |from| (wire.borrow().bytes.len(), letters(&wire, from, false));
    let begun = wire.borrow().bytes.len();
    if matches!(state, State::Away) {
        scene.setup.connect();
    }
    scene.happen(what);
    if !matches!(state, State::InSync) {
        scene.catch_up();
    }
    let (soon, mut cell) = received(begun);
    scene.setup.bench.pass_time(LONG);
    let (_, later) = received(soon);
    if later != "." {
        cell = format!("{cell}+{later}");
    }
    scene.setup.bench.hub.check();
    (start, cell)
}

/// Returns the rows of the table for a source of events.
fn rows(source: Source) -> Vec<String> {
    let pattern = name_of_pattern(b"*");
    let pattern = std::str::from_utf8(&pattern).unwrap();
    let clients = ["new", "all", "100", "200", "250", "own", "foreign100", "foreign250", "unknown"];
    let mut rows = Vec::new();
    for state in [State::InSync, State::Waiting, State::Away] {
        for (shown, channels) in [("a", &["a"][..]), ("a,b", &["a", "b"]), ("*", &[pattern])] {
            for client in clients {
                let mut row = format!("{source:?} {state:?} {shown} {client}:");
                let mut starts = Vec::new();
                for (_, what) in columns() {
                    let (start, cell) = cell(source, state, (channels, client), what);
                    write!(row, " {cell}").unwrap();
                    starts.push(start);
                }
                starts.dedup();
                assert_eq!(starts.len(), 1, "the start does not depend on what happens later");
                write!(row, " | {}", starts[0]).unwrap();
                rows.push(row);
            }
        }
    }
    rows
}

/// Compares rows with those of the table that begin with a prefix.
fn compare(prefix: &str, found: Vec<String>) {
    let header: Vec<&str> = columns().iter().map(|(name, _)| *name).collect();
    assert_eq!(TABLE.lines().next().unwrap(), header.join(" "));
    let expected: Vec<&str> = TABLE.lines().filter(|row| row.starts_with(prefix)).collect();
    let different: Vec<String> = found
        .iter()
        .enumerate()
        .filter(|(i, row)| expected.get(*i) != Some(&row.as_str()))
        .map(|(_, row)| row.clone())
        .collect();
    assert!(different.is_empty(), "rows that changed:\n{}", different.join("\n"));
    assert_eq!(found.len(), expected.len());
}

/// Returns the rows of a hub without Redis: what a client starts with, and what it receives when an
/// event is published on `a` and `b`, and when the events of `a` are deleted.
fn rows_alone() -> Vec<String> {
    let pattern = name_of_pattern(b"*");
    let pattern = std::str::from_utf8(&pattern).unwrap();
    let mut rows = Vec::new();
    for (shown, channels) in [("a", &["a"][..]), ("a,b", &["a", "b"]), ("*", &[pattern])] {
        for client in ["new", "all", "first", "last", "later", "foreign", "unknown"] {
            let mut bench = bench_of(1 << 19, HISTORY, Source::Alone, 7);
            let (mut first, mut last) = (String::new(), String::new());
            for (channel, data) in [("a", "1"), ("b", "2"), ("a", "3")] {
                last = bench.publish(channel, data);
                first = if first.is_empty() { last.clone() } else { first };
            }
            let from = match client {
                "first" => first,
                "last" => last,
                "later" => format!("{}-0-7", START.wall + LONG),
                "foreign" => format!("{}8", first.trim_end_matches('7')),
                "unknown" => "x".into(),
                _ => String::new(),
            };
            let replay = if client == "all" { Replay::All } else { Replay::Off };
            let (_, wire) = bench.open(StreamSettings { replay, ..settings() }, channels, &from);
            let mut row = format!("Alone InSync {shown} {client}:");
            let (start, mut from) = (letters(&wire, 0, true), wire.borrow().bytes.len());
            for data in ["a", "b", "deleted"] {
                if data == "deleted" {
                    bench.worker.forget_channel(b"a", bench.now).unwrap().unwrap();
                } else {
                    bench.publish(data, data);
                }
                bench.pass_time(100);
                write!(row, " {}", letters(&wire, from, false)).unwrap();
                from = wire.borrow().bytes.len();
            }
            bench.hub.check();
            rows.push(format!("{row} | {start}"));
        }
    }
    rows
}

#[test]
fn what_a_client_receives_without_redis_depends_on_what_it_has_received() {
    compare("Alone ", rows_alone());
}

#[test]
fn what_a_client_receives_of_pubsub_depends_on_what_it_has_received() {
    compare("PubSub ", rows(Source::PubSub));
}

#[test]
fn what_a_client_receives_of_streams_depends_on_what_it_has_received() {
    compare("Streams ", rows(Source::Streams));
}
