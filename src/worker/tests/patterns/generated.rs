//! Randomly generated runs, compared with a plain list of all published events: several processes,
//! and clients that connect, disconnect, stop reading, and resume, in hubs with and without enough
//! memory.

use std::collections::{HashMap, VecDeque};

use super::*;

/// An event as it was published.
struct PublishedEvent {
    channel: String,
    text: String,
    position: u64,
    /// The step in which it was found to have been evicted.
    left: Option<usize>,
}

/// A client and everything it has received, over all of its streams.
struct Listener {
    /// Its channels, or its patterns as the hub knows them.
    names: Vec<Box<[u8]>>,
    /// It need not receive events up to this position.
    after: u64,
    /// What it received, with the step in which it did.
    received: Vec<(usize, String)>,
    stream: Option<(usize, StreamKey, Rc<RefCell<Wire>>)>,
    last_id: String,
}

struct PatternRun {
    hub: Hub,
    workers: Vec<Worker<Client>>,
    now: Now,
    random: fastrand::Rng,
    log: Vec<PublishedEvent>,
    listeners: Vec<Listener>,
    channels: usize,
    size: usize,
    steps: usize,
}

const PATTERNS: [&str; 8] = ["*", "c*", "c?", "*1", "d[0-4]*", "[^c]*", "c1*2", "e:*"];

impl PatternRun {
    fn new(seed: u64, bytes: usize, history: History, size: usize) -> PatternRun {
        let bench = bench(bytes, history);
        let mut workers = vec![bench.worker];
        workers.push(new_worker(&bench.hub, Some(1), 2, START));
        crate::hub::set_visit_steps([1024, 24, 70][seed as usize % 3]);
        crate::hub::set_turn_steps([16_384, 20, 70][seed as usize % 3]);
        let mut random = fastrand::Rng::with_seed(seed);
        let channels = *random.choice(&[3, 12, 60]).unwrap_or(&3);
        let (hub, log, listeners) = (bench.hub, Vec::new(), Vec::new());
        PatternRun { hub, workers, now: START, random, log, listeners, channels, size, steps: 0 }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..55 => self.publish(),
            55..65 => self.connect(),
            65..72 => self.disconnect(),
            72..80 => self.slow_down(),
            80..86 => self.read_on(),
            86..98 => {
                let worker = self.random.usize(0..self.workers.len());
                self.workers[worker].turn(self.now);
            }
            _ => {
                self.now.mono += 100;
                self.now.wall += self.random.u64(0..200);
                self.workers.iter_mut().for_each(|worker| _ = worker.tick(self.now));
            }
        }
        self.look();
    }

    /// Records what was received and what was evicted since the last step.
    fn look(&mut self) {
        self.steps += 1;
        for listener in &mut self.listeners {
            let Some((.., wire)) = &listener.stream else { continue };
            let bytes = std::mem::take(&mut wire.borrow_mut().bytes);
            let text = String::from_utf8_lossy(&bytes);
            if let Some(id) = text.lines().rev().find_map(|line| line.strip_prefix("id: ")) {
                listener.last_id = id.to_string();
            }
            listener
                .received
                .extend(received_in(&bytes).into_iter().map(|what| (self.steps, what)));
        }
        let mut retained = HashMap::new();
        for event in self.log.iter_mut().filter(|event| event.left.is_none()) {
            let there = retained
                .entry(event.channel.clone())
                .or_insert_with(|| self.hub.retained(event.channel.as_bytes()));
            if !there.contains(&event.position) {
                event.left = Some(self.steps);
            }
        }
    }

    fn publish(&mut self) {
        for _ in 0..*self.random.choice(&[1, 1, 3, 20]).unwrap_or(&1) {
            let channel = self.channel();
            let text = format!("{}:{:=<2$}", self.log.len(), "", self.random.usize(0..=self.size));
            let event = NewEvent { event_type: b"", data: text.as_bytes() };
            let worker = self.random.usize(0..self.workers.len());
            let worker = &mut self.workers[worker];
            worker.publish(channel.as_bytes(), &[event], None, self.now).unwrap();
            let position = self.hub.head();
            self.log.push(PublishedEvent { channel, text, position, left: None });
        }
    }

    fn channel(&mut self) -> String {
        let number = self.random.usize(0..self.channels);
        let kind = *self.random.choice(&["c", "d", "e:"]).unwrap_or(&"c");
        match number % 11 {
            10 => format!("{kind}{number:0>90}"),
            _ => format!("{kind}{number}"),
        }
    }

    /// Returns the channels or patterns of a new client.
    fn names(&mut self) -> Vec<Box<[u8]>> {
        let count = self.random.usize(1..=3);
        if self.random.u32(0..4) > 0 {
            let patterns = self.random.choose_multiple(PATTERNS, count);
            return patterns.iter().map(|pattern| name_of_pattern(pattern.as_bytes())).collect();
        }
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for _ in 0..count {
            let name = self.channel().into_bytes().into_boxed_slice();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Connects a new client, or one that resumes.
    fn connect(&mut self) {
        let away: Vec<usize> =
            (0..self.listeners.len()).filter(|i| self.listeners[*i].stream.is_none()).collect();
        let number = match self.random.choice(&away) {
            Some(number) if self.random.bool() => *number,
            _ if self.listeners.len() < 12 => {
                let names = self.names();
                let (after, last_id) = (self.hub.head(), String::new());
                let (received, stream) = (Vec::new(), None);
                self.listeners.push(Listener { names, after, received, stream, last_id });
                self.listeners.len() - 1
            }
            _ => return,
        };
        let listener = &mut self.listeners[number];
        let worker = self.random.usize(0..self.workers.len());
        let room = *self.random.choice(&[usize::MAX, usize::MAX, 3]).unwrap_or(&3);
        let wire = Rc::new(RefCell::new(Wire { room, ..Wire::default() }));
        let key = self.workers[worker].open(
            Client(wire.clone()),
            &Rc::new(settings()),
            &listener.names,
            ResumeRequest::from_id(listener.last_id.as_bytes()),
            self.now,
        );
        listener.stream = Some((worker, key.unwrap(), wire));
    }

    fn disconnect(&mut self) {
        let Some(i) = self.some_listener() else { return };
        let Some((worker, key, _)) = self.listeners[i].stream.take() else { return };
        self.workers[worker].close(key, End::Client);
    }

    fn slow_down(&mut self) {
        let Some(i) = self.some_listener() else { return };
        let Some((.., wire)) = &self.listeners[i].stream else { return };
        wire.borrow_mut().room = self.random.usize(0..5);
    }

    fn read_on(&mut self) {
        let Some(i) = self.some_listener() else { return };
        let room = *self.random.choice(&[usize::MAX, 2, 30]).unwrap_or(&2);
        self.give_room(i, room);
    }

    fn give_room(&mut self, listener: usize, room: usize) {
        let Some((worker, key, wire)) = &self.listeners[listener].stream else { return };
        wire.borrow_mut().room = room;
        self.workers[*worker].writable(*key, self.now);
    }

    fn some_listener(&mut self) -> Option<usize> {
        (!self.listeners.is_empty()).then(|| self.random.usize(0..self.listeners.len()))
    }

    /// Lets all clients read to the end, and checks that each has received every retained event.
    /// Returns the number of gap events.
    fn finish(mut self) -> usize {
        for i in 0..self.listeners.len() {
            self.give_room(i, usize::MAX);
        }
        for worker in &mut self.workers {
            while worker.turn(self.now) == Progress::More {}
        }
        self.look();
        let mut gaps = 0;
        for listener in std::mem::take(&mut self.listeners) {
            gaps += self.judge(listener);
        }
        self.hub.check();
        gaps
    }

    fn judge(&self, listener: Listener) -> usize {
        let matches = |channel: &str| {
            let subject = crate::sse::pattern::Subject::new(channel.as_bytes());
            listener.names.iter().any(|name| crate::hub::reaches(name, &subject))
        };
        let mine =
            |event: &&PublishedEvent| event.position > listener.after && matches(&event.channel);
        let mut expected: VecDeque<&PublishedEvent> = self.log.iter().filter(mine).collect();
        // The last step in which a gap event was received. It covers everything that was evicted
        // until then.
        let (mut reported, mut gaps) = (0, 0);
        let is_reported =
            |event: &PublishedEvent, reported| event.left.is_some_and(|left| left <= reported);
        for (step, what) in listener.received {
            if what == "sse.gap" {
                (reported, gaps) = (step, gaps + 1);
            } else if !what.starts_with("sse.") {
                assert!(
                    expected.iter().any(|event| event.text == what),
                    "{what} is a repetition, or of another channel"
                );
                while let Some(event) = expected.pop_front().filter(|event| event.text != what) {
                    assert!(
                        is_reported(event, reported),
                        "{} is missing before {what}",
                        event.text
                    );
                }
            }
        }
        for event in expected.iter().filter(|_| listener.stream.is_some()) {
            assert!(is_reported(event, reported), "{} is missing at the end", event.text);
        }
        gaps
    }
}

#[test]
fn with_enough_memory_nothing_is_lost_and_no_gap_is_sent() {
    for seed in 0..if cfg!(miri) { 1 } else { 10 } {
        let mut run = PatternRun::new(seed, 4 << 20, History { count: 10_000, age: 0 }, 60);
        for _ in 0..400 {
            run.step();
        }
        assert_eq!(run.finish(), 0, "{seed}");
    }
}

#[test]
fn in_a_full_zone_every_loss_causes_a_gap() {
    let mut gaps = 0;
    for seed in 0..if cfg!(miri) { 1 } else { 36 } {
        let count = [1, 10, 1_000][seed as usize % 3];
        let mut run = PatternRun::new(seed, 100 << 10, History { count, age: 0 }, 700);
        for _ in 0..400 {
            run.step();
        }
        gaps += run.finish();
    }
    assert!(gaps > 20, "{gaps}");
}
