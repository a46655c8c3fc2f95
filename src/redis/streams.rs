//! `redis_source stream`: applications add to the channels' streams, and these are read.
//!
//! Redis tells of a stream that has grown where `notify-keyspace-events` says so. Where it does not, up
//! to 200 streams are waited for in one blocking command, on a connection of its own; more than that
//! would cost Redis too much (160 µs for 100 of them, 11 ms for 10,000, at each event), so they are
//! asked in turn.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, pipe, Pipeline, RedisError, Value};
use tokio::time::sleep;

use super::catch_up::{is_its_own, page};
use super::channels::State;
use super::heartbeat::Answers;
use super::joined::{Joined, Level};
use super::joining::Subscribe;
use super::link::{self, Link};
use super::message::{entries, Entry};
use super::opening::{ahead, lost};
use super::session::{shown, Ended, Session};
use super::subscriptions::{Done, TOGETHER as SUBSCRIBED};
use crate::hub::{Arrival, How, Knowledge, NewEvent, ReportedId};

/// Streams that one blocking command waits for.
const MOST_BLOCKING: usize = 200;
/// How long such a command waits (ms): no longer than a new channel can wait to be among its streams.
const BLOCK: u64 = 200;
/// Streams that are read with each heartbeat although Redis has reported nothing of them: the setting may
/// have been changed and changed back in between.
const AUDITED: usize = 500;
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

impl Way {
    /// By Redis' answer to CONFIG GET. If it may not be asked, it has to be taken for one that does not
    /// report.
    fn read(answer: &Result<Value, RedisError>) -> Way {
        let text = |value: &Value| match value {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        let told = match answer {
            Ok(Value::Map(settings)) => settings.iter().any(|(_, flags)| tells(&text(flags))),
            Ok(Value::Array(words)) => words.get(1).is_some_and(|flags| tells(&text(flags))),
            _ => false,
        };
        if told {
            Way::Told
        } else {
            Way::Asked
        }
    }
}

/// Whether a connection that reads streams by asking may come to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Yes, once Redis' setting says so.
    Possible,
    /// It subscribes to all streams.
    Subscribing,
    /// Its user may not subscribe.
    Forbidden,
}

/// How far the reading of streams is.
pub struct Reading {
    way: Way,
    telling: Telling,
    /// Channels whose streams have grown.
    grown: HashSet<Box<[u8]>>,
    /// Those of them that Redis has reported since they last had something.
    noted: HashSet<Box<[u8]>>,
    /// A round is on its way.
    running: bool,
    /// The channels whose turn is still to come, if there are too many for one round.
    turn: Vec<Box<[u8]>>,
    blocking: Option<Link>,
    told_many: bool,
}

/// A channel, and how far its stream was read.
type Unread = (Box<[u8]>, ReportedId);

/// What a round of reading has brought.
pub struct Round {
    read: Vec<(Unread, Vec<Entry>)>,
    blocking: Option<Link>,
}

impl Reading {
    /// Nothing is read yet.
    pub fn new(way: Way) -> Reading {
        let grown = HashSet::new();
        Reading {
            way,
            telling: Telling::Possible,
            grown,
            noted: HashSet::new(),
            running: false,
            turn: Vec::new(),
            blocking: None,
            told_many: false,
        }
    }
}

impl Session {
    /// Learns what time it is in Redis, and whether that tells of streams which have grown.
    pub(super) async fn choose_way(&mut self) -> Result<(), Ended> {
        let connection = &mut self.link.connection;
        let time: Value = cmd("TIME").query_async(connection).await.map_err(lost)?;
        self.ahead = ahead(&time);
        let mut question = ask_way(&self.joined);
        question.ignore_errors();
        let mut answers: Answers = question.query_async(connection).await.map_err(lost)?;
        let way = Way::read(&answers.pop().unwrap_or(Ok(Value::Nil)));
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
        let Some(name) = self.joined.channel_of(subject) else { return };
        if self.channels.get(name).is_some() {
            self.reading.grown.insert(name.into());
            self.reading.noted.insert(name.into());
        }
    }

    /// Somebody may have changed Redis' setting: by the answer to a heartbeat, streams are read in the way
    /// that it allows. Each is read on from its last entry, so nothing is lost between the two.
    pub(super) fn switch_way(&mut self, answer: &Result<Value, RedisError>) -> Result<(), Ended> {
        match (self.reading.way, Way::read(answer)) {
            (Way::Told, Way::Told) => self.audit(),
            (Way::Asked, Way::Asked) => {}
            (Way::Told, Way::Asked) => {
                self.ask_streams();
                self.joined.log(
                    Level::Warn,
                    format_args!(
                        "Redis does not report any more which streams have grown, as its \
                         \"notify-keyspace-events\" has lost \"K\" or \"t\", or may not be read; \
                         they are asked instead"
                    ),
                );
            }
            (Way::Asked, Way::Told) => self.subscribe_to_growth(),
        }
        Ok(())
    }

    fn ask_streams(&mut self) {
        self.subscribe = Subscribe::Not;
        self.reading.way = Way::Asked;
        self.reading.turn.clear();
        // One line about it is enough.
        self.reading.told_many = true;
    }

    /// Reads some streams of which nothing was reported, in turn.
    fn audit(&mut self) {
        if self.reading.turn.is_empty() {
            self.reading.turn = self.channels.names().cloned().collect();
        }
        let rest = self.reading.turn.len().saturating_sub(AUDITED);
        self.reading.grown.extend(self.reading.turn.split_off(rest));
    }

    /// Subscribes to the news of all streams. They are asked until that is confirmed.
    fn subscribe_to_growth(&mut self) {
        if self.reading.telling != Telling::Possible || self.is_frozen() {
            return;
        }
        self.reading.telling = Telling::Subscribing;
        // What is joined from now on is subscribed to as well.
        self.subscribe = Subscribe::First;
        let names = self.channels.names().cloned().map(|name| (name, Knowledge::Nothing));
        let names: Vec<_> = names.collect();
        let (mut joining, finished) = (self.joining(self.subscribe), self.finished.clone());
        tokio::task::spawn_local(async move {
            let mut forbidden = false;
            for some in names.chunks(SUBSCRIBED) {
                match joining.allowed(some.to_vec()).await {
                    Ok((_, refused)) => forbidden |= !refused.names.is_empty(),
                    Err(error) => {
                        let _ = finished.send(Done::Lost(shown(&error)));
                        return;
                    }
                }
            }
            let _ = finished.send(Done::Subscribed { forbidden });
        });
    }

    /// All streams are subscribed to, unless that is forbidden.
    pub(super) fn subscribed_to_growth(&mut self, forbidden: bool) {
        if forbidden {
            self.reading.telling = Telling::Forbidden;
            self.subscribe = Subscribe::Not;
            return;
        }
        self.reading.telling = Telling::Possible;
        self.reading.way = Way::Told;
        self.reading.turn.clear();
        self.reading.blocking = None;
        self.read_all_streams();
        let what =
            format_args!("Redis reports which streams have grown; they are not asked any more");
        self.joined.log(Level::Notice, what);
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
        let asked: Vec<Unread> =
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

    fn spawn_round(&mut self, asked: Vec<Unread>) {
        let (mut connection, finished) = (self.link.connection.clone(), self.finished.clone());
        let joined = self.joined.clone();
        let blocking = self.reading.blocking.take();
        let waits = self.reading.way == Way::Asked && self.channels.len() <= MOST_BLOCKING;
        let turns = self.reading.way == Way::Asked && !waits;
        tokio::task::spawn_local(async move {
            let keys: Vec<(Vec<u8>, ReportedId)> =
                asked.iter().map(|(name, last)| (joined.key(name), *last)).collect();
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
                    Done::Read(Round { read: asked.into_iter().zip(read).collect(), blocking })
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
        for ((name, had), entries) in &round.read {
            let Some(channel) = self.channels.get_mut(&name[..]) else { continue };
            if channel.last != *had || !matches!(channel.state, State::InStep) {
                // It was caught up meanwhile.
                self.reading.grown.insert(name.clone());
                continue;
            }
            let Some(last) = entries.last() else {
                self.asking.empty.extend(self.reading.noted.remove(name).then(|| name.clone()));
                continue;
            };
            channel.last = last.id;
            self.reading.noted.remove(name);
            if entries.len() >= super::catch_up::PAGE {
                self.reading.grown.insert(name.clone());
            }
            for entry in entries.iter().filter(|entry| entry.id > *had) {
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

/// Asks for the setting that `Way::read` judges, after something that any node but the right one refuses.
pub(super) fn ask_way(joined: &Joined) -> Pipeline {
    let mut ask = pipe();
    ask.cmd("EXISTS").arg(joined.names.clock());
    ask.cmd("CONFIG").arg("GET").arg("notify-keyspace-events");
    ask
}

/// Whether Redis tells of streams that have grown: K for the keys' channels, t (or A, all kinds) for
/// streams.
fn tells(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('t') || flags.contains('A'))
}
