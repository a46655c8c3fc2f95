//! Reads the streams that applications write (`redis_source stream`). With
//! `notify-keyspace-events`, Redis reports streams that have grown. Otherwise, one blocking command
//! waits for up to 200 streams, on a connection of its own. More would cost Redis too much (160 µs
//! for 100 streams, 11 ms for 10,000, at each event), so larger numbers are polled in turn.

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
/// How long such a command waits (ms). A new channel waits for the next command.
const BLOCK: u64 = 200;
/// Number of streams that are read with each heartbeat although Redis has reported nothing: the
/// setting may have been changed and changed back in between.
const AUDITED: usize = 500;
/// Number of streams that are polled together, and the pause before the next poll.
const TOGETHER: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// How new entries are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthSource {
    /// Through keyspace notifications.
    Notified,
    /// By polling.
    Polled,
}

impl GrowthSource {
    /// Evaluates Redis' reply to CONFIG GET. Without permission for it, streams are polled.
    fn read(reply: &Result<Value, RedisError>) -> GrowthSource {
        let text = |value: &Value| match value {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        let logged = match reply {
            Ok(Value::Map(settings)) => {
                settings.iter().any(|(_, flags)| reports_growth(&text(flags)))
            }
            Ok(Value::Array(words)) => {
                words.get(1).is_some_and(|flags| reports_growth(&text(flags)))
            }
            _ => false,
        };
        if logged {
            GrowthSource::Notified
        } else {
            GrowthSource::Polled
        }
    }
}

/// Whether a polling connection can switch to notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notifications {
    /// Yes, once Redis' setting permits it.
    Possible,
    /// It is subscribing to all streams.
    Subscribing,
    /// The user has no permission to subscribe.
    Forbidden,
}

/// The state of reading streams.
pub struct StreamReader {
    source: GrowthSource,
    notifications: Notifications,
    /// Channels with new entries.
    grown: HashSet<Box<[u8]>>,
    /// The round that is in progress.
    running: Option<Task>,
    /// The channels that are still to be read, if there are too many for one round.
    turn: Vec<Box<[u8]>>,
    fetcher: Rc<Fetcher>,
    many_logged: bool,
}

/// A channel, the id up to which its stream was read, and whether to request the stream's
/// description.
pub struct Unread {
    name: Box<[u8]>,
    last: ReportedId,
    describe: bool,
}

/// The result of a round.
pub struct Round {
    read: Vec<(Unread, StreamPage)>,
    /// Streams that did not fit into the request.
    left: Vec<Box<[u8]>>,
}

/// How far the streams are read that Redis has reported to have new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedGrowth {
    /// All are read, or Redis reports nothing.
    None,
    /// Some are to be read in the next round.
    Unread,
    /// They are being read.
    Reading,
}

impl StreamReader {
    /// Returns how far the reported streams are read.
    pub fn reported(&self) -> ReportedGrowth {
        if self.source == GrowthSource::Polled {
            ReportedGrowth::None
        } else if !self.grown.is_empty() {
            ReportedGrowth::Unread
        } else if self.running.is_some() {
            ReportedGrowth::Reading
        } else {
            ReportedGrowth::None
        }
    }

    /// Returns the initial state.
    pub fn new(source: GrowthSource, context: &Rc<HubContext>, node: &str) -> StreamReader {
        let fetcher = Rc::new(Fetcher::new(context.clone(), node.to_owned()));
        let grown = HashSet::new();
        StreamReader {
            source,
            notifications: Notifications::Possible,
            grown,
            running: None,
            turn: Vec::new(),
            fetcher,
            many_logged: false,
        }
    }
}

impl Session {
    /// Reads the time in Redis, and whether its notifications are enabled.
    pub(in crate::redis) async fn choose_growth_source(&mut self) -> Result<(), Ended> {
        let connection = &mut self.link.connection;
        let time: Value = cmd("TIME").query_async(connection).await.map_err(lost)?;
        let mut query = growth_query(&self.context);
        query.ignore_errors();
        let mut replies: Vec<Result<Value, RedisError>> =
            query.query_async(connection).await.map_err(lost)?;
        self.set_time(redis_epoch(&time, self.context.now()));
        let source = GrowthSource::read(&replies.pop().unwrap_or(Ok(Value::Nil)));
        self.subscribe =
            if source == GrowthSource::Notified { Subscribe::First } else { Subscribe::Not };
        self.reading = StreamReader::new(source, &self.context, &self.link.address);
        Ok(())
    }

    /// Marks all streams as possibly changed.
    pub(in crate::redis) fn read_all_streams(&mut self) {
        self.reading.grown = self.channels.names().cloned().collect();
    }

    /// Adds streams to the next round.
    pub(in crate::redis) fn read_soon(&mut self, names: impl IntoIterator<Item = Box<[u8]>>) {
        self.reading.grown.extend(names);
    }

    /// Handles a notification about a stream.
    pub(in crate::redis) fn note_growth(&mut self, subject: &[u8]) {
        let Some(name) = self.context.channel_of(subject) else { return };
        if self.channels.get(name).is_some() {
            self.reading.grown.insert(name.into());
            self.audit.changed.insert(name.into());
        }
    }

    /// Handles a change of Redis' setting, which a heartbeat has read. Each stream is read from
    /// its last entry on, so nothing is lost when the method changes.
    pub(in crate::redis) fn switch_growth_source(
        &mut self,
        reply: &Result<Value, RedisError>,
    ) -> Result<(), Ended> {
        match (self.reading.source, GrowthSource::read(reply)) {
            (GrowthSource::Notified, GrowthSource::Notified) => self.read_unreported(),
            (GrowthSource::Polled, GrowthSource::Polled) => {}
            (GrowthSource::Notified, GrowthSource::Polled) => {
                self.poll_streams();
                self.context.log(
                    LogLevel::Warn,
                    format_args!(
                        "Redis no longer reports new stream entries, because \
                         \"notify-keyspace-events\" lacks \"K\" or \"t\" now, or cannot be read; \
                         streams are polled instead"
                    ),
                );
            }
            (GrowthSource::Polled, GrowthSource::Notified) => self.subscribe_to_growth(),
        }
        Ok(())
    }

    fn poll_streams(&mut self) {
        self.subscribe = Subscribe::Not;
        self.reading.source = GrowthSource::Polled;
        self.reading.turn.clear();
        // It has just been logged.
        self.reading.many_logged = true;
    }

    /// Reads some streams about which nothing was reported, in turn.
    fn read_unreported(&mut self) {
        if self.reading.turn.is_empty() {
            self.reading.turn = self.channels.names().cloned().collect();
        }
        let rest = self.reading.turn.len().saturating_sub(AUDITED);
        self.reading.grown.extend(self.reading.turn.split_off(rest));
    }

    /// Subscribes to the notifications of all streams. They are polled until that is confirmed.
    fn subscribe_to_growth(&mut self) {
        if self.reading.notifications != Notifications::Possible || self.is_frozen() {
            return;
        }
        self.reading.notifications = Notifications::Subscribing;
        // From now on, new channels are subscribed to, too.
        self.subscribe = Subscribe::First;
        let names = self.channels.names().cloned().map(|name| (name, SyncState::Nothing));
        let names: Vec<_> = names.collect();
        let (subscriber, finished) = (self.channel_subscriber(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let mut forbidden = false;
            for some in names.chunks(SUBSCRIBED) {
                match subscriber.subscribe(some.to_vec()).await {
                    Ok((_, refused)) => forbidden |= !refused.names.is_empty(),
                    Err(error) => {
                        finished.report(Err(error.to_string()), Session::growth_subscribed);
                        return;
                    }
                }
            }
            finished.report(Ok(forbidden), Session::growth_subscribed);
        });
    }

    /// Handles the end of subscribing to all streams.
    pub(in crate::redis) async fn growth_subscribed(
        &mut self,
        forbidden: bool,
    ) -> Result<(), Ended> {
        if forbidden {
            self.reading.notifications = Notifications::Forbidden;
            self.subscribe = Subscribe::Not;
            return Ok(());
        }
        self.reading.notifications = Notifications::Possible;
        self.reading.source = GrowthSource::Notified;
        self.reading.turn.clear();
        self.read_all_streams();
        let what = format_args!("Redis reports new stream entries; streams are no longer polled");
        self.context.log(LogLevel::Notice, what);
        Ok(())
    }

    /// Starts the next round, if one is due.
    pub(in crate::redis) fn read_streams(&mut self) {
        if self.reading.running.is_some()
            || self.context.hub.source() != crate::hub::Source::Streams
        {
            return;
        }
        let grown = self.grown_in_sync();
        let (channels, how) = match self.reading.source {
            _ if !grown.is_empty() => (grown, ReadMode::Once),
            GrowthSource::Notified => return,
            GrowthSource::Polled if self.channels.len() <= MOST_BLOCKING => {
                (self.next_in_turn(), ReadMode::Wait)
            }
            GrowthSource::Polled => (self.next_in_turn(), ReadMode::InTurn),
        };
        let (table, audit) = (&self.channels, &mut self.audit);
        let unread = |name: Box<[u8]>| match table.get(&name)? {
            channel if matches!(channel.state, SubscriptionState::InSync) => {
                let describe = matches!(how, ReadMode::Once) && audit.is_due(&name);
                Some(Unread { last: channel.last, describe, name })
            }
            _ => None,
        };
        let asked: Vec<Unread> = channels.into_iter().filter_map(unread).collect();
        if asked.is_empty() {
            return;
        }
        if self.reading.grown.is_empty() {
            self.round_begins();
        }
        self.spawn_round(asked, how);
    }

    /// Removes and returns the channels with new entries. Those that are catching up are read
    /// afterwards.
    fn grown_in_sync(&mut self) -> Vec<Box<[u8]>> {
        let in_sync = |name: &[u8]| {
            let channel = self.channels.get(name);
            channel.is_some_and(|channel| matches!(channel.state, SubscriptionState::InSync))
        };
        let grown = std::mem::take(&mut self.reading.grown);
        let (now, later): (Vec<_>, Vec<_>) = grown.into_iter().partition(|name| in_sync(name));
        let known = later.into_iter().filter(|name| self.channels.get(name).is_some());
        self.reading.grown = known.collect();
        now
    }

    /// Returns the channels to poll next.
    fn next_in_turn(&mut self) -> Vec<Box<[u8]>> {
        let all = self.channels.len();
        if all <= MOST_BLOCKING {
            return self.channels.names().cloned().collect();
        }
        if !self.reading.many_logged {
            self.reading.many_logged = true;
            self.context.log(
                LogLevel::Warn,
                format_args!(
                    "{} streams in Redis are polled in turn, because \"notify-keyspace-events\" \
                     lacks \"K\" or \"t\"; with both, events arrive at once",
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

    fn spawn_round(&mut self, mut asked: Vec<Unread>, how: ReadMode) {
        let (fetcher, finished) = (self.reading.fetcher.clone(), self.finished.clone());
        let context = self.context.clone();
        self.reading.running = Some(Task::spawn(async move {
            let ranges: Vec<PageRequest> = asked.iter().map(|one| one.range(&context)).collect();
            let pages = match how {
                ReadMode::Wait => {
                    let key = |one: &Unread| (context.key(&one.name), one.last);
                    let keys: Vec<_> = asked.iter().map(key).collect();
                    wait(&fetcher, &keys, &ranges).await
                }
                ReadMode::Once => ask(&fetcher, &ranges).await,
                ReadMode::InTurn => {
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

    /// Appends the entries of a round, ordered by id.
    pub(in crate::redis) async fn read_further(&mut self, round: Round) -> Result<(), Ended> {
        self.reading.running = None;
        let mut is_complete = round.left.is_empty();
        self.reading.grown.extend(round.left);
        let mut steps = Vec::new();
        for (Unread { name, last: had, .. }, page) in &round.read {
            let Some(channel) = self.channels.get(name) else { continue };
            if channel.last != *had || !matches!(channel.state, SubscriptionState::InSync) {
                // It has caught up in the meantime.
                self.reading.grown.insert(name.clone());
                is_complete = false;
                continue;
            }
            let loss = match self.audit_page(name, page).await? {
                Readable::AfterCatchUp => continue,
                Readable::AroundLoss(up_to) => Some(up_to),
                Readable::Now => None,
            };
            if page.more {
                self.reading.grown.insert(name.clone());
                is_complete = false;
            }
            if let (Some(last), Some(channel)) = (page.entries.last(), self.channels.get_mut(name))
            {
                channel.last = last.id;
            }
            self.add_steps(&mut steps, name, page, (*had, loss));
        }
        // Stable: events with implausible ids are last, as in their streams.
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
        self.round_ended(is_complete);
        Ok(())
    }

    /// Adds the entries of a page after `had`, and a loss before, between, or after them; each with
    /// the id by which it is sorted, if that is believed.
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
            let born = self.context.now().time();
            let event = OrderedEvent::from_entry(name, entry, provenance, born);
            steps.push((event.entry_id(), LogStep::Event(event)));
        }
        steps.extend(lost_up_to.map(loss));
    }
}

/// How a round reads streams.
#[derive(Clone, Copy)]
enum ReadMode {
    /// They are known to have.
    Once,
    /// One after the other, for ever.
    InTurn,
    /// Until one has.
    Wait,
}

/// Reads the new entries of the first of these streams.
async fn ask(fetcher: &Fetcher, ranges: &[PageRequest]) -> Result<Vec<StreamPage>, String> {
    let pages = fetcher.pages(ranges).await?;
    // It was a stream a moment ago. The next connection will show what it is now.
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
    fn range(&self, context: &HubContext) -> PageRequest {
        let range = PageRequest::of(context.key(&self.name), IdSpan::After(self.last), u64::MAX);
        PageRequest { about: self.describe, ..range }
    }
}

/// Asks for the setting that `Way::read` judges, after something that any node but the right one
/// refuses.
pub(in crate::redis) fn growth_query(context: &HubContext) -> Pipeline {
    let mut ask = pipe();
    ask.cmd("EXISTS").arg(context.names.clock());
    ask.cmd("CONFIG").arg("GET").arg("notify-keyspace-events");
    ask
}

/// Whether Redis tells of streams that have grown: K for the keys' channels, t (or A, all kinds)
/// for streams.
fn reports_growth(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('t') || flags.contains('A'))
}
