//! `redis_source stream`: applications add to the channels' streams, and these are read.
//!
//! Redis tells of a stream that has grown where `notify-keyspace-events` says so. Where it does not, up
//! to 200 streams are waited for in one blocking command, on a connection of its own; more than that
//! would cost Redis too much (160 µs for 100 of them, 11 ms for 10,000, at each event), so they are
//! asked in turn.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, pipe, RedisError, Value};
use tokio::time::sleep;

use super::catch_up::{is_its_own, page};
use super::channels::State;
use super::joined::Level;
use super::joining::Subscribe;
use super::link::{self, Link};
use super::message::{entries, Entry};
use super::opening::{ahead, lost};
use super::session::{shown, Ended, Session};
use super::subscriptions::Done;
use crate::hub::{Arrival, How, NewEvent, ReportedId};

/// Streams that one blocking command waits for.
const MOST_BLOCKING: usize = 200;
/// How long such a command waits (ms): no longer than a new channel can wait to be among its streams.
const BLOCK: u64 = 200;
/// Streams that are asked in one go, and the pause before the next.
const TOGETHER: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// How it is learned that a stream has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Redis tells.
    Told,
    /// It has to be asked.
    Asked,
}

/// How far the reading of streams is.
pub struct Reading {
    way: Way,
    /// Channels whose streams have grown.
    grown: HashSet<Box<[u8]>>,
    /// A round is on its way.
    running: bool,
    /// The channels whose turn is still to come, if there are too many for one round.
    turn: Vec<Box<[u8]>>,
    blocking: Option<Link>,
    told_many: bool,
}

/// What a round of reading has brought.
pub struct Round {
    read: Vec<(Box<[u8]>, Vec<Entry>)>,
    blocking: Option<Link>,
}

impl Reading {
    /// Nothing is read yet.
    pub fn new(way: Way) -> Reading {
        let grown = HashSet::new();
        Reading { way, grown, running: false, turn: Vec::new(), blocking: None, told_many: false }
    }
}

impl Session {
    /// Learns what time it is in Redis, and whether that tells of streams which have grown.
    pub(super) async fn choose_way(&mut self) -> Result<(), Ended> {
        let connection = &mut self.link.connection;
        let time: Value = cmd("TIME").query_async(connection).await.map_err(lost)?;
        self.ahead = ahead(&time);
        let asked = cmd("CONFIG").arg("GET").arg("notify-keyspace-events").to_owned();
        let way = match asked.query_async::<Vec<(String, String)>>(connection).await {
            Ok(answer) if answer.iter().any(|(_, flags)| tells(flags)) => Way::Told,
            // Who may not see the configuration has to do without.
            Ok(_) => Way::Asked,
            Err(error) if error.code().is_some() => Way::Asked,
            Err(error) => return Err(lost(error)),
        };
        self.subscribe = if way == Way::Told { Subscribe::First } else { Subscribe::Not };
        self.reading = Reading::new(way);
        Ok(())
    }

    /// Any stream may have grown, unseen.
    pub(super) fn read_all_streams(&mut self) {
        self.reading.grown = self.channels.names().cloned().collect();
    }

    /// Redis tells that a stream has grown.
    pub(super) fn note_growth(&mut self, subject: &[u8]) {
        if let Some(name) = self.joined.channel_of(subject) {
            self.reading.grown.insert(name.into());
        }
    }

    /// Begins the next round, if it is time for one.
    pub(super) fn read_streams(&mut self) {
        if self.reading.running || self.joined.hub.source() != crate::hub::Source::Streams {
            return;
        }
        let channels = match self.reading.way {
            Way::Told => self.grown_in_step(),
            Way::Asked => self.next_in_turn(),
        };
        let last = |name: &[u8]| match self.channels.get(name)? {
            channel if matches!(channel.state, State::InStep) => Some(channel.last),
            _ => None,
        };
        let asked: Vec<(Box<[u8]>, ReportedId)> =
            channels.into_iter().filter_map(|name| Some((name.clone(), last(&name)?))).collect();
        if asked.is_empty() {
            return;
        }
        self.reading.running = true;
        self.spawn_round(asked);
    }

    /// The channels whose streams have grown. Those that are being caught up are read when they have been.
    fn grown_in_step(&mut self) -> Vec<Box<[u8]>> {
        let in_step = |name: &[u8]| {
            let channel = self.channels.get(name);
            channel.is_some_and(|channel| matches!(channel.state, State::InStep))
        };
        let grown = std::mem::take(&mut self.reading.grown);
        let (now, later): (Vec<_>, Vec<_>) = grown.into_iter().partition(|name| in_step(name));
        let known = later.into_iter().filter(|name| self.channels.get(name).is_some());
        self.reading.grown = known.collect();
        now
    }

    /// The channels whose turn it is to be asked.
    fn next_in_turn(&mut self) -> Vec<Box<[u8]>> {
        let all = self.channels.len();
        if all <= MOST_BLOCKING {
            return self.channels.names().cloned().collect();
        }
        if !self.reading.told_many {
            self.reading.told_many = true;
            self.joined.log(
                Level::Warn,
                format_args!(
                    "{} streams in Redis are asked in turn, because its \"notify-keyspace-events\" \
                     has no \"K\" with \"t\"; with these, events come at once",
                    all
                ),
            );
        }
        if self.reading.turn.is_empty() {
            self.reading.turn = self.channels.names().cloned().collect();
        }
        let rest = self.reading.turn.len().saturating_sub(TOGETHER);
        self.reading.turn.split_off(rest)
    }

    fn spawn_round(&mut self, asked: Vec<(Box<[u8]>, ReportedId)>) {
        let (mut connection, finished) = (self.link.connection.clone(), self.finished.clone());
        let joined = self.joined.clone();
        let blocking = self.reading.blocking.take();
        let waits = self.reading.way == Way::Asked && self.channels.len() <= MOST_BLOCKING;
        let turns = self.reading.way == Way::Asked && !waits;
        tokio::task::spawn_local(async move {
            let keys: Vec<(Vec<u8>, ReportedId)> =
                asked.iter().map(|(name, last)| (joined.key(name), *last)).collect();
            let names = asked.into_iter().map(|(name, _)| name);
            let result = if waits {
                let link = match blocking {
                    Some(link) => Ok(link),
                    None => link::connect(&joined.address, &joined.names.clock(), None).await,
                };
                match link {
                    Ok(mut link) => {
                        let read = wait(&mut link.connection, &keys).await;
                        read.map(|read| (read, Some(link))).map_err(|error| shown(&error))
                    }
                    Err(error) => Err(error.to_string()),
                }
            } else {
                let read = ask(&mut connection, &keys).await;
                read.map(|read| (read, None)).map_err(|error| shown(&error))
            };
            if turns {
                sleep(PAUSE).await;
            }
            let _ = finished.send(match result {
                Ok((read, blocking)) => {
                    Done::Read(Round { read: names.zip(read).collect(), blocking })
                }
                Err(why) => Done::Lost(why),
            });
        });
    }

    /// Appends what a round has brought, in the order of the numbers.
    pub(super) fn read_further(&mut self, round: Round) -> Result<(), Ended> {
        self.reading.running = false;
        self.reading.blocking = round.blocking;
        let mut arrivals = Vec::new();
        for (name, entries) in &round.read {
            let Some(channel) = self.channels.get_mut(&name[..]) else { continue };
            let had = channel.last;
            channel.last = entries.last().map_or(had, |entry| entry.id.max(had));
            if entries.len() >= super::catch_up::PAGE {
                self.reading.grown.insert(name.clone());
            }
            for entry in entries.iter().filter(|entry| entry.id > had) {
                let id = self.judged(name, entry.id);
                arrivals.push(Arrival {
                    channel: name,
                    how: How::Live(id),
                    event: NewEvent { event_type: &entry.event_type, data: &entry.data },
                    born: self.joined.now().mono,
                });
            }
        }
        // Stable: those that are not believed come last, as they do in their streams.
        arrivals.sort_by_key(|arrival| (arrival.how.stamp().is_none(), arrival.how.stamp()));
        self.append(&arrivals)
    }
}

/// What each of these streams has behind what is known of it.
async fn ask(
    connection: &mut MultiplexedConnection,
    keys: &[(Vec<u8>, ReportedId)],
) -> Result<Vec<Vec<Entry>>, RedisError> {
    let mut all = Vec::with_capacity(keys.len());
    for some in keys.chunks(TOGETHER) {
        let mut pipeline = pipe();
        for (key, last) in some {
            page(&mut pipeline, key, *last);
        }
        pipeline.ignore_errors();
        let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
        for answer in answers {
            all.push(match answer {
                Ok(answer) => entries(&answer),
                // It was a stream a moment ago; the next connection will tell.
                Err(error) if is_its_own(&error) => Vec::new(),
                Err(error) => return Err(error),
            });
        }
    }
    Ok(all)
}

/// The same, but waits for a while if none of them has anything.
async fn wait(
    connection: &mut MultiplexedConnection,
    keys: &[(Vec<u8>, ReportedId)],
) -> Result<Vec<Vec<Entry>>, RedisError> {
    let mut command = cmd("XREAD");
    command.arg("COUNT").arg(super::catch_up::PAGE).arg("BLOCK").arg(BLOCK).arg("STREAMS");
    for (key, _) in keys {
        command.arg(key);
    }
    for (_, last) in keys {
        command.arg(last.to_string());
    }
    let answer = match command.query_async::<Value>(connection).await {
        // One key that is no stream spoils the whole command.
        Err(error) if is_its_own(&error) => {
            sleep(PAUSE).await;
            return ask(connection, keys).await;
        }
        answer => answer?,
    };
    let read = match answer {
        Value::Map(streams) => streams,
        _ => Vec::new(),
    };
    let of = |key: &[u8]| {
        let found =
            read.iter().find(|(name, _)| matches!(name, Value::BulkString(name) if name == key));
        found.map(|(_, value)| entries(value)).unwrap_or_default()
    };
    Ok(keys.iter().map(|(key, _)| of(key)).collect())
}

/// Whether Redis tells of streams that have grown: K for the keys' channels, t (or A, all kinds) for
/// streams.
fn tells(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('t') || flags.contains('A'))
}
