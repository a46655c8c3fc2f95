//! The state of a fake Redis, and what commands do to it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::redis::tests::resp::Reply;
use crate::redis::tests::store::Store;
use crate::redis::tests::words::{is, text};
use crate::sse::pattern::matches;

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
pub struct Planned {
    pub words: Vec<String>,
    pub fault: Fault,
    pub left: usize,
}

/// A connection of a client.
pub struct Connection {
    pub out: mpsc::UnboundedSender<Vec<u8>>,
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    pub tasks: [JoinHandle<()>; 2],
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
    pub unheard: Option<Vec<u8>>,
    pub scripts: BTreeMap<String, String>,
    pub faults: Vec<Planned>,
    pub connections: BTreeMap<u64, Connection>,
    pub made: u64,
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
    pub fn fault_of(&mut self, words: &[Vec<u8>]) -> Option<Fault> {
        let begins = |planned: &&mut Planned| {
            planned.left > 0
                && planned.words.len() <= words.len()
                && planned.words.iter().zip(words).all(|(wanted, word)| is(word, wanted))
        };
        let planned = self.faults.iter_mut().find(begins)?;
        planned.left -= 1;
        Some(planned.fault.clone())
    }

    pub fn is_held(&self, words: &[Vec<u8>]) -> bool {
        let is_hold = |planned: &&Planned| {
            matches!(planned.fault, Fault::Hold | Fault::Wait)
                && planned.words.iter().zip(words).all(|(wanted, word)| is(word, wanted))
        };
        self.faults.iter().any(|planned| is_hold(&planned))
    }

    pub fn run(&mut self, from: u64, words: &[Vec<u8>]) -> Vec<Reply> {
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
