//! `redis_source stream`: applications add to the channels' streams, and these are read.
//!
//! Redis tells of a stream that has grown where `notify-keyspace-events` says so. Where it does
//! not, up to 200 streams are waited for in one blocking command, on a connection of its own; more
//! than that would cost Redis too much (160 µs for 100 of them, 11 ms for 10,000, at each event),
//! so they are asked in turn.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use ::redis::{cmd, pipe, Pipeline, RedisError, Value};
use tokio::time::sleep;

use crate::hub::{Loss, Provenance, ReportedId, SyncState};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::lost;
use crate::redis::ended::Ended;
use crate::redis::fetcher::Fetcher;
use crate::redis::ordered_event::{LogStep, OrderedEvent};
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::stream_audit::Readable;
use crate::redis::session::subscriptions::TOGETHER as SUBSCRIBED;
use crate::redis::session::Session;
use crate::redis::stream_page::{IdSpan, PageRequest, StreamPage};
use crate::redis::subscribe::Subscribe;
use crate::redis::subscription_table::SubscriptionState;
use crate::redis::task::Task;
use crate::sse::id::EntryId;

/// Streams that one blocking command waits for.
const MOST_BLOCKING: usize = 200;
/// How long such a command waits (ms): no longer than a new channel can wait to be among its
/// streams.
const BLOCK: u64 = 200;
/// Streams that are read with each heartbeat although Redis has reported nothing of them: the
/// setting may have been changed and changed back in between.
const AUDITED: usize = 500;
/// Streams that are asked in one go, and the pause before the next.
const TOGETHER: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// How it is learned that a stream has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthSource {
    /// Redis tells.
    Told,
    /// It has to be asked.
    Asked,
}

impl GrowthSource {
    /// By Redis' answer to CONFIG GET. If it may not be asked, it has to be taken for one that does
    /// not report.
    fn read(answer: &Result<Value, RedisError>) -> GrowthSource {
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
            GrowthSource::Told
        } else {
            GrowthSource::Asked
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
pub struct StreamReader {
    way: GrowthSource,
    telling: Telling,
    /// Channels whose streams have grown.
    grown: HashSet<Box<[u8]>>,
    /// A round that is on its way.
    running: Option<Task>,
    /// The channels whose turn is still to come, if there are too many for one round.
    turn: Vec<Box<[u8]>>,
    fetcher: Rc<Fetcher>,
    told_many: bool,
}

/// A channel, how far its stream was read, and whether Redis is to describe the stream as well.
pub struct Unread {
    name: Box<[u8]>,
    last: ReportedId,
    describe: bool,
}

/// What a round of reading has brought.
pub struct Round {
    read: Vec<(Unread, StreamPage)>,
    /// Streams whose turn has not come.
    left: Vec<Box<[u8]>>,
}

impl StreamReader {
    /// Nothing is read yet.
    pub fn new(way: GrowthSource, joined: &Rc<HubContext>, node: &str) -> StreamReader {
        let fetcher = Rc::new(Fetcher::new(joined.clone(), node.to_owned()));
        let grown = HashSet::new();
        StreamReader {
            way,
            telling: Telling::Possible,
            grown,
            running: None,
            turn: Vec::new(),
            fetcher,
            told_many: false,
        }
    }
}

impl Session {
    /// Learns what time it is in Redis, and whether that tells of streams which have grown.
    pub(in crate::redis) async fn choose_way(&mut self) -> Result<(), Ended> {
        let connection = &mut self.link.connection;
        let time: Value = cmd("TIME").query_async(connection).await.map_err(lost)?;
        self.redis_epoch = redis_epoch(&time, self.joined.now());
        let mut question = ask_way(&self.joined);
        question.ignore_errors();
        let mut answers: Vec<Result<Value, RedisError>> =
            question.query_async(connection).await.map_err(lost)?;
        let way = GrowthSource::read(&answers.pop().unwrap_or(Ok(Value::Nil)));
        self.subscribe = if way == GrowthSource::Told { Subscribe::First } else { Subscribe::Not };
        self.reading = StreamReader::new(way, &self.joined, &self.link.address);
        Ok(())
    }

    /// Any stream may have grown, unseen.
    pub(in crate::redis) fn read_all_streams(&mut self) {
        self.reading.grown = self.channels.names().cloned().collect();
    }

    /// Has these streams read with the next round.
    pub(in crate::redis) fn read_soon(&mut self, names: impl IntoIterator<Item = Box<[u8]>>) {
        self.reading.grown.extend(names);
    }

    /// Redis tells that a stream has grown.
    pub(in crate::redis) fn note_growth(&mut self, subject: &[u8]) {
        let Some(name) = self.joined.channel_of(subject) else { return };
        if self.channels.get(name).is_some() {
            self.reading.grown.insert(name.into());
            self.audit.changed.insert(name.into());
        }
    }

    /// Somebody may have changed Redis' setting: by the answer to a heartbeat, streams are read in
    /// the way that it allows. Each is read on from its last entry, so nothing is lost between the
    /// two.
    pub(in crate::redis) fn switch_way(
        &mut self,
        answer: &Result<Value, RedisError>,
    ) -> Result<(), Ended> {
        match (self.reading.way, GrowthSource::read(answer)) {
            (GrowthSource::Told, GrowthSource::Told) => self.read_unreported(),
            (GrowthSource::Asked, GrowthSource::Asked) => {}
            (GrowthSource::Told, GrowthSource::Asked) => {
                self.ask_streams();
                self.joined.log(
                    LogLevel::Warn,
                    format_args!(
                        "Redis does not report any more which streams have grown, as its \
                         \"notify-keyspace-events\" has lost \"K\" or \"t\", or may not be read; \
                         they are asked instead"
                    ),
                );
            }
            (GrowthSource::Asked, GrowthSource::Told) => self.subscribe_to_growth(),
        }
        Ok(())
    }

    fn ask_streams(&mut self) {
        self.subscribe = Subscribe::Not;
        self.reading.way = GrowthSource::Asked;
        self.reading.turn.clear();
        // One line about it is enough.
        self.reading.told_many = true;
    }

    /// Reads some streams of which nothing was reported, in turn.
    fn read_unreported(&mut self) {
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
        let names = self.channels.names().cloned().map(|name| (name, SyncState::Nothing));
        let names: Vec<_> = names.collect();
        let (joining, finished) = (self.joining(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let mut forbidden = false;
            for some in names.chunks(SUBSCRIBED) {
                match joining.allowed(some.to_vec()).await {
                    Ok((_, refused)) => forbidden |= !refused.names.is_empty(),
                    Err(error) => {
                        finished.report(Err(error.to_string()), Session::subscribed_to_growth);
                        return;
                    }
                }
            }
            finished.report(Ok(forbidden), Session::subscribed_to_growth);
        });
    }

    /// All streams are subscribed to, unless that is forbidden.
    pub(in crate::redis) async fn subscribed_to_growth(
        &mut self,
        forbidden: bool,
    ) -> Result<(), Ended> {
        if forbidden {
            self.reading.telling = Telling::Forbidden;
            self.subscribe = Subscribe::Not;
            return Ok(());
        }
        self.reading.telling = Telling::Possible;
        self.reading.way = GrowthSource::Told;
        self.reading.turn.clear();
        self.read_all_streams();
        let what =
            format_args!("Redis reports which streams have grown; they are not asked any more");
        self.joined.log(LogLevel::Notice, what);
        Ok(())
    }

    /// Begins the next round, if it is time for one.
    pub(in crate::redis) fn read_streams(&mut self) {
        if self.reading.running.is_some() || self.joined.hub.source() != crate::hub::Source::Streams
        {
            return;
        }
        let grown = self.grown_in_step();
        let (channels, how) = match self.reading.way {
            _ if !grown.is_empty() => (grown, Ask::Once),
            GrowthSource::Told => return,
            GrowthSource::Asked if self.channels.len() <= MOST_BLOCKING => {
                (self.next_in_turn(), Ask::Wait)
            }
            GrowthSource::Asked => (self.next_in_turn(), Ask::InTurn),
        };
        let (table, audit) = (&self.channels, &mut self.audit);
        let unread = |name: Box<[u8]>| match table.get(&name)? {
            channel if matches!(channel.state, SubscriptionState::InStep) => {
                let describe = matches!(how, Ask::Once) && audit.is_due(&name);
                Some(Unread { last: channel.last, describe, name })
            }
            _ => None,
        };
        let asked: Vec<Unread> = channels.into_iter().filter_map(unread).collect();
        if asked.is_empty() {
            return;
        }
        self.spawn_round(asked, how);
    }

    /// The channels whose streams have grown. Those that are being caught up are read when they
    /// have been.
    fn grown_in_step(&mut self) -> Vec<Box<[u8]>> {
        let in_step = |name: &[u8]| {
            let channel = self.channels.get(name);
            channel.is_some_and(|channel| matches!(channel.state, SubscriptionState::InStep))
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
                LogLevel::Warn,
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

    fn spawn_round(&mut self, mut asked: Vec<Unread>, how: Ask) {
        let (fetcher, finished) = (self.reading.fetcher.clone(), self.finished.clone());
        let joined = self.joined.clone();
        self.reading.running = Some(Task::spawn(async move {
            let ranges: Vec<PageRequest> = asked.iter().map(|one| one.range(&joined)).collect();
            let pages = match how {
                Ask::Wait => {
                    let key = |one: &Unread| (joined.key(&one.name), one.last);
                    let keys: Vec<_> = asked.iter().map(key).collect();
                    wait(&fetcher, &keys, &ranges).await
                }
                Ask::Once => ask(&fetcher, &ranges).await,
                Ask::InTurn => {
                    sleep(PAUSE).await;
                    ask(&fetcher, &ranges).await
                }
            };
            let round = pages.map(|pages| {
                let left = asked.split_off(pages.len().min(asked.len()));
                let left = left.into_iter().map(|one| one.name).collect();
                Round { read: asked.into_iter().zip(pages).collect(), left }
            });
            finished.report(round, Session::read_further);
        }));
    }

    /// Appends what a round has brought, in the order of the numbers.
    pub(in crate::redis) async fn read_further(&mut self, round: Round) -> Result<(), Ended> {
        self.reading.running = None;
        self.reading.grown.extend(round.left);
        let mut steps = Vec::new();
        for (Unread { name, last: had, .. }, page) in &round.read {
            let Some(channel) = self.channels.get(name) else { continue };
            if channel.last != *had || !matches!(channel.state, SubscriptionState::InStep) {
                // It was caught up meanwhile.
                self.reading.grown.insert(name.clone());
                continue;
            }
            let loss = match self.audit_page(name, page).await? {
                Readable::AfterCatchUp => continue,
                Readable::AroundLoss(up_to) => Some(up_to),
                Readable::Now => None,
            };
            if page.more {
                self.reading.grown.insert(name.clone());
            }
            if let (Some(last), Some(channel)) = (page.entries.last(), self.channels.get_mut(name))
            {
                channel.last = last.id;
            }
            self.add_steps(&mut steps, name, page, (*had, loss));
        }
        // Stable: those that are not believed come last, as they do in their streams.
        steps.sort_by_key(|(id, _)| (id.is_none(), *id));
        let lost = steps.iter().filter_map(|(_, step)| match step {
            LogStep::Loss(name, missing) => Some((*name, *missing)),
            LogStep::Event(_) => None,
        });
        let lost: Vec<_> = lost.collect();
        self.append_steps(steps.into_iter().map(|(_, step)| step)).await?;
        for (name, missing) in lost {
            self.announce_loss(name, missing).await?;
        }
        Ok(())
    }

    /// Adds the entries of a page after `had`, and a loss before, between, or after them; each with the id by
    /// which it is sorted, if that is believed.
    fn add_steps<'m>(
        &mut self,
        steps: &mut Vec<(Option<EntryId>, LogStep<'m>)>,
        name: &'m [u8],
        page: &'m StreamPage,
        (had, mut lost_up_to): (ReportedId, Option<ReportedId>),
    ) {
        let latest = self.latest();
        let loss = |up_to: ReportedId| {
            let id = up_to.checked(latest);
            (id, LogStep::Loss(name, id.map_or(Loss::Everything, Loss::UpTo)))
        };
        for entry in self.readable(name, &page.entries) {
            if entry.id <= had {
                continue;
            }
            steps.extend(lost_up_to.take_if(|up_to| entry.id > *up_to).map(loss));
            let provenance = Provenance::Live(self.judged(name, entry.id));
            let born = self.joined.now().time();
            let event = OrderedEvent::from_entry(name, entry, provenance, born);
            steps.push((event.entry_id(), LogStep::Event(event)));
        }
        steps.extend(lost_up_to.map(loss));
    }
}

/// How streams are asked whether they have grown.
#[derive(Clone, Copy)]
enum Ask {
    /// They are known to have.
    Once,
    /// One after the other, for ever.
    InTurn,
    /// Until one has.
    Wait,
}

/// What the first of these streams have behind what is known of them.
async fn ask(fetcher: &Fetcher, ranges: &[PageRequest]) -> Result<Vec<StreamPage>, String> {
    let pages = fetcher.pages(ranges).await?;
    // It was a stream a moment ago; the next connection will tell.
    Ok(pages.into_iter().map(|page| page.unwrap_or_default()).collect())
}

/// The same, but waits for a while if none of them has anything.
async fn wait(
    fetcher: &Fetcher,
    keys: &[(Vec<u8>, ReportedId)],
    ranges: &[PageRequest],
) -> Result<Vec<StreamPage>, String> {
    match fetcher.wait(keys, BLOCK).await? {
        Some(pages) => Ok(pages),
        // One key that is no stream spoils the whole command, and large entries of many are too
        // much.
        None => {
            sleep(PAUSE).await;
            ask(fetcher, ranges).await
        }
    }
}

impl Unread {
    fn range(&self, joined: &HubContext) -> PageRequest {
        let range = PageRequest::of(joined.key(&self.name), IdSpan::After(self.last), u64::MAX);
        PageRequest { about: self.describe, ..range }
    }
}

/// Asks for the setting that `Way::read` judges, after something that any node but the right one
/// refuses.
pub(in crate::redis) fn ask_way(joined: &HubContext) -> Pipeline {
    let mut ask = pipe();
    ask.cmd("EXISTS").arg(joined.names.clock());
    ask.cmd("CONFIG").arg("GET").arg("notify-keyspace-events");
    ask
}

/// Whether Redis tells of streams that have grown: K for the keys' channels, t (or A, all kinds)
/// for streams.
fn tells(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('t') || flags.contains('A'))
}
