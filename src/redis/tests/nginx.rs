//! A process of nginx without nginx: a hub, its Redis thread, which runs in the test's own, and a
//! worker that has streams.

use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_local, JoinHandle, LocalSet};
use tokio::time::{sleep, Instant};

use super::{now, until, MOMENT};
use crate::hub::{
    format, name_of_pattern, Counter, Elsewhere, History, Hub, Membership, PatternReplay, Plan,
    Received, RedisState, Region, ReplayCursor, Resume, Runs, SlotClaim, Source, Wakers,
};
use crate::redis::address::Address;
use crate::redis::context::{HubContext, LogLevel, Outbox, SharedWakers, ThreadEvent};
use crate::redis::keys::Keys;
use crate::redis::phase::Phase;
use crate::redis::publisher::PublisherRequest;
use crate::redis::refusal::Refusal;
use crate::redis::script::{Command, PublishCommand, PublishTarget, ScriptResult};
use crate::redis::thread;
use crate::sse::data;
use crate::sse::finish::RunAfterwards;

/// Wakers that write to sockets in place of eventfds.
#[derive(Default)]
pub struct Sockets {
    all: Mutex<Vec<UnixStream>>,
    are_exhausted: bool,
}

impl Sockets {
    /// Returns wakers all of which are taken.
    pub fn exhausted() -> Sockets {
        Sockets { are_exhausted: true, ..Sockets::default() }
    }
}

impl Wakers for Sockets {
    fn wake(&self, waker: usize) {
        let _ = self.all.lock().unwrap()[waker].write(&[1; 8]);
    }
}

impl SharedWakers for Sockets {
    fn claim(&self) -> std::io::Result<(usize, std::fs::File)> {
        if self.are_exhausted {
            return Err(std::io::Error::other("all wakers are taken"));
        }
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let mut all = self.all.lock().unwrap();
        all.push(near);
        Ok((all.len() - 1, OwnedFd::from(far).into()))
    }
}

/// A hub in memory, as its processes share it.
#[derive(Clone)]
pub struct SharedHub {
    pub hub: Hub,
    pub wakers: &'static Sockets,
    address: String,
}

/// A process of nginx.
pub struct Nginx {
    pub hub: Hub,
    pub worker: SlotClaim,
    pub outbox: Arc<Outbox>,
    wakers: &'static Sockets,
    phase: watch::Sender<Phase>,
    requests: mpsc::UnboundedSender<(usize, PublisherRequest)>,
    thread: JoinHandle<()>,
    is_stopped: Rc<Cell<bool>>,
    seen: Mutex<Vec<ThreadEvent>>,
}

/// Creates a hub that is connected to this URL.
pub fn hub_at(address: &str, source: Source) -> SharedHub {
    hub_of(address, source, 1 << 20, History { count: 100, age: 0 })
}

/// Creates such a hub of this size and with this history.
pub fn hub_of(address: &str, source: Source, bytes: usize, history: History) -> SharedHub {
    let region = Region::in_memory(bytes);
    let plan = Plan { bytes, slots: 8, max_event: 4096, history, runs: History::NONE, source };
    format(&region, &plan, 7, now()).unwrap();
    let hub = Hub::attach(region).unwrap();
    SharedHub { hub, wakers: Box::leak(Box::default()), address: address.to_owned() }
}

/// Returns a hub as the thread of a process sees it, and the outbox of that process.
pub fn context_of(shared: &SharedHub) -> (HubContext, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(|| {}));
    let context = HubContext {
        name: "test".to_owned(),
        hub: shared.hub.clone(),
        wakers: shared.wakers,
        address: Address::parse(&shared.address).unwrap(),
        names: Keys::new(""),
        clock: now,
        outbox: outbox.clone(),
    };
    (context, outbox)
}

impl SharedHub {
    /// Starts a process.
    pub fn process(&self) -> Nginx {
        let (context, outbox) = context_of(self);
        let (phase, watched) = watch::channel(Phase::Serving);
        let (requests, inbound) = mpsc::unbounded_channel();
        let is_stopped = Rc::new(Cell::new(false));
        let thread = spawn_local(process(vec![(0, context)], watched, inbound, is_stopped.clone()));
        let worker = self.hub.claim_slot().unwrap();
        let (hub, wakers, seen) = (self.hub.clone(), self.wakers, Mutex::default());
        Nginx { hub, worker, outbox, wakers, phase, requests, thread, seen, is_stopped }
    }
}

/// Runs the thread of a process with all its tasks, except while it is stopped.
async fn process(
    hubs: Vec<(usize, HubContext)>,
    phase: watch::Receiver<Phase>,
    requests: mpsc::UnboundedReceiver<(usize, PublisherRequest)>,
    is_stopped: Rc<Cell<bool>>,
) {
    let tasks = LocalSet::new();
    let mut running = pin!(tasks.run_until(thread::run(hubs, phase, requests)));
    let mut nap = pin!(sleep(MOMENT));
    poll_fn(|context| {
        if is_stopped.get() {
            nap.as_mut().reset(Instant::now() + MOMENT);
            return nap.as_mut().poll(context);
        }
        running.as_mut().poll(context)
    })
    .await;
}

/// The streams of a process on some channels, or on a pattern.
pub struct Streams {
    pub hub: Hub,
    worker: SlotClaim,
    pub members: Vec<Membership>,
    /// The pattern, as the hub names it.
    pattern: Option<Vec<u8>>,
}

impl Nginx {
    /// Opens streams.
    pub fn open(&self, channels: &[&str]) -> Streams {
        let names: Vec<Vec<u8>> = channels.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.open_all(names)
    }

    /// Opens a stream of a pattern.
    pub fn open_pattern(&self, pattern: &str) -> Streams {
        let name = name_of_pattern(pattern.as_bytes()).into_vec();
        Streams { pattern: Some(name.clone()), ..self.open_all(vec![name]) }
    }

    fn open_all(&self, names: Vec<Vec<u8>>) -> Streams {
        let mut members = Vec::new();
        for name in names {
            let member = self.hub.join(self.worker, &name, now()).unwrap();
            self.hub.set_streams(self.worker, member, 1);
            if let Some(holder) = self.hub.request_sync(member).unwrap() {
                self.hub.wake(&[holder], now(), self.wakers);
            }
            members.push(member);
        }
        Streams { hub: self.hub.clone(), worker: self.worker, members, pattern: None }
    }

    /// Opens streams, and waits until their channels are in sync.
    pub async fn follow(&self, channels: &[&str]) -> Streams {
        let streams = self.open(channels);
        until("the channels are in sync", || streams.are_in_sync()).await;
        streams
    }

    /// Opens a stream of a pattern, and waits until it is in sync.
    pub async fn follow_pattern(&self, pattern: &str) -> Streams {
        let streams = self.open_pattern(pattern);
        until("the pattern is in sync", || streams.are_in_sync()).await;
        streams
    }

    /// Wakes the process that holds the subscription.
    pub fn wake_holder(&self) {
        self.hub.wake(&[self.hub.holder_slot().unwrap()], now(), self.wakers);
    }

    /// Waits until the hub is connected.
    pub async fn is_up(&self) {
        until("the hub is connected", || self.hub.link() == RedisState::Up).await;
    }

    /// Returns the texts of a channel's events, in their order.
    pub fn texts(&self, channel: &str) -> Vec<String> {
        let texts = self.hub.retained_texts(channel.as_bytes());
        texts.into_iter().map(|(_, text)| text).collect()
    }

    /// Waits until a channel has this many events, and returns their texts.
    pub async fn receives(&self, channel: &str, count: usize) -> Vec<String> {
        until("events arrive", || self.texts(channel).len() >= count).await;
        self.texts(channel)
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.hub.stats().counter(counter)
    }

    fn read_outbox(&self) {
        self.seen.lock().unwrap().extend(self.outbox.take());
    }

    /// Returns the log lines so far of at least this importance.
    pub fn lines(&self) -> Vec<String> {
        self.read_outbox();
        let seen = self.seen.lock().unwrap();
        let lines = seen.iter().filter_map(|event| match event {
            ThreadEvent::Log(LogLevel::Info, _) => None,
            ThreadEvent::Log(_, text) => Some(text.clone()),
            _ => None,
        });
        lines.collect()
    }

    /// Returns how many log lines of any level contain this.
    pub fn logged(&self, part: &str) -> usize {
        self.read_outbox();
        let is = |event: &&ThreadEvent| match event {
            ThreadEvent::Log(_, text) => text.contains(part),
            _ => false,
        };
        self.seen.lock().unwrap().iter().filter(is).count()
    }

    /// Returns whether the thread has reported that it has given up the subscription.
    pub fn has_retired(&self) -> bool {
        self.read_outbox();
        self.seen.lock().unwrap().iter().any(|event| matches!(event, ThreadEvent::Retired))
    }

    /// Publishes an event, and waits for the result.
    pub async fn publish(&self, channel: &str, data: &str) -> Result<ScriptResult, Refusal> {
        self.run(publish_command(channel, data, None)).await
    }

    /// Runs a command, and waits for the result.
    pub async fn run(&self, command: Command) -> Result<ScriptResult, Refusal> {
        let ticket = self.send(command);
        until("the publish is answered", || self.result_of(ticket).is_some()).await;
        self.result_of(ticket).unwrap()
    }

    /// Sends a command to the thread, and returns the number of its result.
    pub fn send(&self, command: Command) -> u64 {
        let ticket = fastrand::u64(..);
        self.requests.send((0, PublisherRequest { ticket, command })).unwrap();
        ticket
    }

    pub fn result_of(&self, wanted: u64) -> Option<Result<ScriptResult, Refusal>> {
        self.read_outbox();
        self.seen.lock().unwrap().iter().find_map(|event| match event {
            ThreadEvent::Published { ticket, result } if *ticket == wanted => Some(result.clone()),
            _ => None,
        })
    }

    /// Makes the process quit: it hands the subscription over first.
    pub fn retire(&self) {
        self.retire_within(Duration::from_secs(60));
    }

    /// Makes the process quit. It reads channels that are catching up for this long at most before
    /// it hands the subscription over.
    pub fn retire_within(&self, patience: Duration) {
        self.phase.send_replace(Phase::Retiring { patience });
    }

    /// Makes the process stop at once, and waits for its end.
    pub async fn stop(self) {
        self.phase.send_replace(Phase::Stopping);
        self.thread.await.unwrap();
        self.hub.release_slot(self.worker);
    }

    /// Stops the thread, as SIGSTOP does, or makes it continue.
    pub fn pause(&self, is_stopped: bool) {
        self.is_stopped.set(is_stopped);
    }

    /// Ends the thread between two steps, as if it were killed.
    pub async fn kill(self) {
        self.thread.abort();
        let _ = self.thread.await;
    }
}

impl Streams {
    pub fn are_in_sync(&self) -> bool {
        self.hub.in_sync(&self.members)
    }

    fn resumed_pattern(&self, name: &[u8], resume: &Resume) -> (usize, Vec<String>) {
        let begun = self.hub.begin_pattern_replay(&[name.into()], resume, now()).unwrap();
        begun.cursor.map(|mut replay| self.replayed_pattern(&mut replay)).unwrap_or_default()
    }

    /// Returns what streams of the pattern receive that have been open since the log ended here.
    pub fn received_through_pattern_since(&self, head: u64) -> (usize, Vec<String>) {
        let names = vec![self.pattern.clone().unwrap().into()];
        let until = self.hub.end_unless_catching_up(&names).unwrap();
        let received = Received::merged_after(head, Elsewhere::Nothing);
        self.replayed_pattern(&mut PatternReplay::since(received, until, names))
    }

    fn replayed_pattern(&self, replay: &mut PatternReplay) -> (usize, Vec<String>) {
        let (mut gaps, mut texts) = (0, Vec::new());
        loop {
            let batch = self.hub.replay_patterns(replay, 100, usize::MAX, now()).unwrap();
            let Some(batch) = batch else { continue };
            if batch.gap.is_some() {
                gaps += 1;
                replay.gap_sent();
            }
            for event in &batch.events {
                texts.push(String::from_utf8(data::decode(event.event.data())).unwrap());
                replay.delivered(event);
            }
            if batch.done {
                return (gaps, texts);
            }
        }
    }

    /// Ends the streams.
    pub fn close(self) {
        for member in self.members {
            self.hub.set_streams(self.worker, member, 0);
            self.hub.leave(member).unwrap();
        }
    }

    /// Returns the id with which a page would be rendered now.
    pub fn position(&self) -> String {
        self.hub.resume_point().unwrap().to_string()
    }

    /// Returns what a client with this id receives first: the number of gap events, and the texts.
    pub fn resumed(&self, id: &str) -> (usize, Vec<String>) {
        if let Some(pattern) = &self.pattern {
            return self.resumed_pattern(pattern, &Resume::From(id.into()));
        }
        let (gaps, events) = self.resumed_events(id);
        (gaps, events.into_iter().map(|(text, _)| text).collect())
    }

    /// Returns the same for channels, with the id of each event.
    pub fn resumed_events(&self, id: &str) -> (usize, Vec<(String, String)>) {
        self.received(&Resume::From(id.into()))
    }

    /// Returns the texts that a client without an id receives first.
    pub fn history(&self) -> Vec<String> {
        let (_, events) = self.received(&Resume::Fresh { newest: 100 });
        events.into_iter().map(|(text, _)| text).collect()
    }

    fn received(&self, resume: &Resume) -> (usize, Vec<(String, String)>) {
        let begun = self.hub.begin(&self.members, resume, Runs::Joined, now()).unwrap();
        begun.cursor.map(|mut cursor| self.replayed_events(&mut cursor)).unwrap_or_default()
    }

    /// Returns what a replay finds: the number of gap events, and the texts and ids.
    pub fn replayed_events(&self, cursor: &mut ReplayCursor) -> (usize, Vec<(String, String)>) {
        let (mut gaps, mut events) = (0, Vec::new());
        loop {
            let Some(batch) = self.hub.replay(cursor, 100, usize::MAX, now()).unwrap() else {
                continue;
            };
            gaps += usize::from(batch.gap.is_some());
            cursor.gap_sent(&batch);
            for event in &batch.events {
                let text = String::from_utf8(data::decode(event.event.data())).unwrap();
                events.push((text, event.event.id(&self.hub).to_string()));
                cursor.delivered(event);
            }
            if batch.done {
                return (gaps, events);
            }
        }
    }
}

/// Returns a command that publishes an event.
pub fn publish_command(channel: &str, data: &str, key: Option<&str>) -> Command {
    let names = Keys::new("");
    let key = key.map(|key| (names.key(channel.as_bytes(), key.as_bytes()), 120_000));
    Command::Publish(PublishCommand {
        key: names.stream(channel.as_bytes()),
        events: vec![(Vec::new(), data.as_bytes().to_vec())],
        run: RunAfterwards::Open,
        idempotency: key,
        source: PublishTarget::Pubsub,
    })
}
