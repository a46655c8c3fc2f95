//! A fake Redis in the test's own thread: what it stores, its subscribers, and the faults that a
//! test wants.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{split, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::{spawn_local, JoinHandle};
use tokio::time::{sleep, Instant};

use super::resp::{take_command, Reply};
use super::store::{Store, StreamId};
use super::words::{is, text};
use crate::redis::keys::Keys;
use crate::sse::pattern::matches;

const MOMENT: Duration = Duration::from_millis(1);

/// What happens to a command instead of what it usually does.
#[derive(Clone)]
pub enum Fault {
    /// It is answered with this, and does nothing.
    Reply(Reply),
    /// It is never answered, nor is anything after it on its connection.
    Silence,
    /// It is carried out, but its connection is closed before the reply.
    CloseBehind,
    /// It is carried out, and answered when the fault is over.
    Hold,
    /// It is carried out when the fault is over.
    Wait,
}

/// A fault of the commands that begin with these words.
struct Planned {
    words: Vec<String>,
    fault: Fault,
    left: usize,
}

/// A connection of a client.
struct Connection {
    out: mpsc::UnboundedSender<Vec<u8>>,
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    tasks: [JoinHandle<()>; 2],
}

/// The state of the server.
#[derive(Default)]
pub struct State {
    pub store: Store,
    /// The ids that were returned for idempotency keys.
    pub repeats: BTreeMap<Vec<u8>, Vec<String>>,
    /// When each channel had its last event, and when that was first recorded (ms).
    pub last_events: BTreeMap<String, u64>,
    pub began: Option<u64>,
    /// The first words of all commands.
    pub commands: Vec<String>,
    pub password: Option<&'static str>,
    pub is_replica: bool,
    /// Channels and patterns that the user may not subscribe to.
    pub forbidden: BTreeSet<Vec<u8>>,
    /// The master that it names as a Sentinel.
    pub master: Option<u16>,
    /// The node that it names as the owner of all slots.
    pub owner: Option<u16>,
    /// The channel whose messages are lost.
    unheard: Option<Vec<u8>>,
    scripts: BTreeMap<String, String>,
    faults: Vec<Planned>,
    connections: BTreeMap<u64, Connection>,
    made: u64,
}

/// Where a fake Redis listens.
enum Place {
    /// What is written to a Unix socket can be read at once. Over TCP, it takes the machine a
    /// moment.
    Unix(PathBuf),
    Tcp(u16),
}

/// A fake Redis.
pub struct FakeRedis {
    pub state: Rc<RefCell<State>>,
    place: Place,
    listener: RefCell<Option<JoinHandle<()>>>,
}

impl FakeRedis {
    /// Starts a server on a Unix socket.
    pub async fn start() -> FakeRedis {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("nginx-sse-test-{}-{number}", std::process::id());
        FakeRedis::at(Place::Unix(std::env::temp_dir().join(name))).await
    }

    /// Starts a server on a free port. Its tests run with `run_with_tcp`.
    pub async fn start_tcp() -> FakeRedis {
        FakeRedis::at(Place::Tcp(0)).await
    }

    async fn at(place: Place) -> FakeRedis {
        let mut redis = FakeRedis { state: Rc::default(), place, listener: RefCell::default() };
        if let Some(port) = redis.resume().await {
            redis.place = Place::Tcp(port);
        }
        redis
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Unix(path) => format!("redis+unix://{}", path.display()),
            Place::Tcp(port) => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Unix(_) => panic!("it has no port"),
            Place::Tcp(port) => port,
        }
    }

    /// Accepts connections, also after `stop`. Returns the port.
    pub async fn resume(&self) -> Option<u16> {
        let state = self.state.clone();
        let (port, accept) = match &self.place {
            Place::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path).unwrap();
                let accept = async move {
                    while let Ok((socket, _)) = listener.accept().await {
                        connect(&state, socket);
                    }
                };
                (None, spawn_local(accept))
            }
            Place::Tcp(port) => {
                let listener = TcpListener::bind(("127.0.0.1", *port)).await.unwrap();
                let port = listener.local_addr().unwrap().port();
                let accept = async move {
                    while let Ok((socket, _)) = listener.accept().await {
                        connect(&state, socket);
                    }
                };
                (Some(port), spawn_local(accept))
            }
        };
        self.listener.replace(Some(accept));
        port
    }

    /// Stops accepting connections, and closes all of them.
    pub async fn stop(&self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            let _ = listener.await;
        }
        self.disconnect();
    }

    /// Closes all connections.
    pub fn disconnect(&self) {
        for (_, connection) in std::mem::take(&mut self.state.borrow_mut().connections) {
            connection.tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// Makes the next `times` commands that begin with these words fail.
    pub fn fault(&self, words: &str, fault: Fault, times: usize) {
        let words = words.split(' ').map(str::to_owned).collect();
        self.state.borrow_mut().faults.push(Planned { words, fault, left: times });
    }

    /// Makes such commands succeed again.
    pub fn repair(&self) {
        self.state.borrow_mut().faults.clear();
    }

    /// Publishes a plain message.
    pub fn plain(&self, channel: &str, data: &str) {
        self.state.borrow_mut().deliver(channel.as_bytes(), data.as_bytes());
    }

    /// Publishes a durable event, as the publish script does. Returns its id.
    pub fn publish(&self, channel: &str, data: &str) -> StreamId {
        self.state.borrow_mut().publish(&Keys::new(""), channel, b"", data.as_bytes())
    }

    /// Publishes a durable event whose message is lost. Returns its id.
    pub fn publish_unheard(&self, channel: &str, data: &str) -> StreamId {
        let subject = channel.as_bytes().to_vec();
        self.state.borrow_mut().unheard = Some(subject);
        let id = self.publish(channel, data);
        self.state.borrow_mut().unheard = None;
        id
    }

    /// Publishes bytes that look like a message of the publish script.
    pub fn forge(&self, channel: &str, token: &str, id: &str, data: &str) {
        self.plain(channel, &format!("\x01sse {token} {id} 0-0 0\n{data}"));
    }

    /// Adds an entry to a stream of an application, and notifies the subscribers of its key.
    pub fn append(&self, key: &str, data: &str) -> StreamId {
        let mut state = self.state.borrow_mut();
        let id = state.store.add(key.as_bytes(), None, &[b"data", data.as_bytes()]).unwrap();
        state.deliver(format!("__keyspace@0__:{key}").as_bytes(), b"xadd");
        id
    }

    /// Returns how many commands so far begin with these words.
    pub fn count(&self, words: &str) -> usize {
        self.state.borrow().commands.iter().filter(|command| command.starts_with(words)).count()
    }

    /// Returns the names and patterns that connections are subscribed to.
    pub fn subscriptions(&self) -> Vec<String> {
        let state = self.state.borrow();
        let of = |one: &Connection| -> Vec<String> {
            one.channels.iter().chain(&one.patterns).map(|name| text(name)).collect()
        };
        let mut all: Vec<String> = state.connections.values().flat_map(of).collect();
        all.sort();
        all
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        if let Place::Unix(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl State {
    /// Sends a message to the subscribers.
    pub fn deliver(&mut self, subject: &[u8], message: &[u8]) -> i64 {
        if self.unheard.as_deref() == Some(subject) {
            return 0;
        }
        let mut receivers = 0;
        let push = |words: &[&[u8]]| Reply::Push(words.iter().map(Reply::bulk).collect()).bytes();
        for connection in self.connections.values() {
            if connection.channels.contains(subject) {
                receivers += 1;
                let _ = connection.out.send(push(&[b"message", subject, message]));
            }
            for pattern in connection.patterns.iter().filter(|one| matches(one, subject)) {
                receivers += 1;
                let _ = connection.out.send(push(&[b"pmessage", pattern, subject, message]));
            }
        }
        receivers
    }

    /// Returns the fault of a command, if it has one.
    fn fault_of(&mut self, words: &[Vec<u8>]) -> Option<Fault> {
        let begins = |planned: &&mut Planned| {
            planned.left > 0
                && planned.words.len() <= words.len()
                && planned.words.iter().zip(words).all(|(wanted, word)| is(word, wanted))
        };
        let planned = self.faults.iter_mut().find(begins)?;
        planned.left -= 1;
        Some(planned.fault.clone())
    }

    fn is_held(&self, words: &[Vec<u8>]) -> bool {
        let is_hold = |planned: &&Planned| {
            matches!(planned.fault, Fault::Hold | Fault::Wait)
                && planned.words.iter().zip(words).all(|(wanted, word)| is(word, wanted))
        };
        self.faults.iter().any(|planned| is_hold(&planned))
    }

    fn run(&mut self, from: u64, words: &[Vec<u8>]) -> Vec<Reply> {
        let at = |index: usize| words.get(index).map(Vec::as_slice).unwrap_or_default();
        let name = text(&words[0]).to_uppercase();
        vec![match &*name {
            "HELLO" => self.greet(words),
            "CLIENT" | "SELECT" => Reply::Ok,
            "PING" => Reply::Simple("PONG"),
            "ROLE" if self.is_replica => Reply::Array(vec![Reply::bulk("slave")]),
            "ROLE" => Reply::Array(vec![Reply::bulk("master"), Reply::Int(0)]),
            "PUBLISH" => Reply::Int(self.deliver(at(1), at(2))),
            "SUBSCRIBE" | "PSUBSCRIBE"
                if words[1..].iter().any(|name| self.forbidden.contains(name)) =>
            {
                Reply::error("NOPERM No permissions to access a channel used as an argument")
            }
            "SUBSCRIBE" | "PSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" => {
                return self.change_subscription(from, &name.to_lowercase(), &words[1..]);
            }
            "SCRIPT" => {
                let hash = ::redis::Script::new(&text(at(2))).get_hash().to_owned();
                self.scripts.insert(hash.clone(), text(at(2)));
                Reply::bulk(hash)
            }
            "EVALSHA" => match self.scripts.get(&text(at(1))).cloned() {
                None => Reply::error("NOSCRIPT No matching script."),
                Some(script) => {
                    let keys = 3 + text(at(2)).parse::<usize>().unwrap();
                    self.run_script(&script, &words[3..keys], &words[keys..])
                }
            },
            "SENTINEL" => match self.master {
                Some(port) => Reply::list(["127.0.0.1".to_owned(), port.to_string()]),
                None => Reply::Nil,
            },
            "CLUSTER" if is(at(1), "KEYSLOT") => Reply::Int(7),
            "CLUSTER" => {
                let port = Reply::Int(self.owner.unwrap().into());
                let node = Reply::Array(vec![Reply::bulk("127.0.0.1"), port]);
                Reply::Array(vec![Reply::Array(vec![Reply::Int(0), Reply::Int(16_383), node])])
            }
            _ => match self.store.run(words) {
                Some(reply) => reply,
                None => Reply::Error(format!("ERR unknown command '{name}'")),
            },
        }]
    }

    fn greet(&self, words: &[Vec<u8>]) -> Reply {
        let auth = words.iter().position(|word| is(word, "AUTH"));
        match (self.password, auth.map(|at| &words[at + 2])) {
            (Some(_), None) => {
                Reply::error("NOAUTH HELLO must be called with the client already authenticated")
            }
            (Some(password), Some(given)) if given != password.as_bytes() => {
                Reply::error("WRONGPASS invalid username-password pair or user is disabled.")
            }
            _ => Reply::Map(vec![(Reply::bulk("proto"), Reply::Int(3))]),
        }
    }

    fn change_subscription(&mut self, from: u64, name: &str, subjects: &[Vec<u8>]) -> Vec<Reply> {
        let Some(connection) = self.connections.get_mut(&from) else { return Vec::new() };
        let is_pattern = name.starts_with('p');
        let set = if is_pattern { &mut connection.patterns } else { &mut connection.channels };
        let mut pushes = Vec::new();
        for subject in subjects {
            if name.contains("unsub") {
                set.remove(subject);
            } else {
                set.insert(subject.clone());
            }
            pushes.push(Reply::Push(vec![Reply::bulk(name), Reply::bulk(subject), Reply::Int(1)]));
        }
        pushes
    }
}

fn connect(state: &Rc<RefCell<State>>, socket: impl AsyncRead + AsyncWrite + 'static) {
    let (mut read, mut write) = split(socket);
    let (out, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
    let number = state.borrow().made;
    let (shared, replies) = (state.clone(), out.clone());
    let serve = async move {
        let mut bytes = Vec::new();
        loop {
            while let Some(words) = take_command(&mut bytes) {
                if !serve(&shared, number, &words, &replies).await {
                    shared.borrow_mut().close(number);
                    return;
                }
            }
            if read.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                shared.borrow_mut().close(number);
                return;
            }
        }
    };
    let send = async move {
        while let Some(bytes) = outgoing.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let tasks = [spawn_local(serve), spawn_local(send)];
    let mut state = state.borrow_mut();
    state.made += 1;
    let (channels, patterns) = Default::default();
    state.connections.insert(number, Connection { out, channels, patterns, tasks });
}

impl State {
    fn close(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            connection.tasks[1].abort();
        }
    }
}

/// Serves a command. Returns false if its connection is to be closed.
async fn serve(
    state: &Rc<RefCell<State>>,
    from: u64,
    words: &[Vec<u8>],
    out: &mpsc::UnboundedSender<Vec<u8>>,
) -> bool {
    let shown: Vec<String> = words.iter().take(3).map(|word| text(word)).collect();
    state.borrow_mut().commands.push(shown.join(" "));
    let fault = state.borrow_mut().fault_of(words);
    let replies = match fault {
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Reply(reply)) => vec![reply],
        Some(Fault::CloseBehind) => {
            state.borrow_mut().run(from, words);
            return false;
        }
        Some(Fault::Wait) => {
            while state.borrow().is_held(words) {
                sleep(MOMENT).await;
            }
            state.borrow_mut().run(from, words)
        }
        Some(Fault::Hold) => {
            let replies = state.borrow_mut().run(from, words);
            while state.borrow().is_held(words) {
                sleep(MOMENT).await;
            }
            replies
        }
        None if is(&words[0], "XREAD") => vec![read_streams(state, words).await],
        None => state.borrow_mut().run(from, words),
    };
    for reply in replies {
        let _ = out.send(reply.bytes());
    }
    true
}

async fn read_streams(state: &Rc<RefCell<State>>, words: &[Vec<u8>]) -> Reply {
    let until = Instant::now() + Duration::from_millis(text(&words[4]).parse().unwrap());
    loop {
        if let Some(reply) = state.borrow().store.read_streams(words) {
            return reply;
        }
        if Instant::now() >= until {
            return Reply::Nil;
        }
        sleep(MOMENT).await;
    }
}
