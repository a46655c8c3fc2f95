//! A fake Redis in the test's own thread: what it stores, its subscribers, and the faults that a
//! test wants.

mod connection;
mod state;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, UnixListener};
use tokio::task::{spawn_local, JoinHandle};

use super::store::StreamId;
use super::words::text;
use crate::redis::keys::Keys;
use connection::connect;
use state::{Connection, Planned};
pub use state::{Fault, State};

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

    /// Ends the faults of the commands that begin with these words.
    pub fn end_fault(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        self.state.borrow_mut().faults.retain(|planned| planned.words != words);
    }

    /// Ends all faults.
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

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.state.borrow().connections.len()
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
