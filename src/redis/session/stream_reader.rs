//! Reads the streams that applications write (`redis_source stream`). With
//! `notify-keyspace-events`, Redis reports streams that have grown. Otherwise, one blocking command
//! waits for up to 200 streams, on a connection of its own. More would cost Redis too much (160 µs
//! for 100 streams, 11 ms for 10,000, at each event), so larger numbers are polled in turn.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use ::redis::{cmd, RedisError, Value};
use tokio::time::sleep;

use crate::hub::{Loss, Provenance, ReportedId};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::lost;
use crate::redis::ended::Ended;
use crate::redis::fetcher::Fetcher;
use crate::redis::ordered_event::{LogStep, OrderedEvent};
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::growth_source::{growth_query, GrowthSource, Notifications};
use crate::redis::session::stream_audit::Readable;
use crate::redis::session::Session;
use crate::redis::stream_page::{IdSpan, PageRequest, StreamPage};
use crate::redis::subscribe::Subscribe;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::redis::task::Task;
use crate::sse::id::EntryId;

/// Streams that one blocking command waits for.
const MOST_BLOCKING: usize = 200;
/// How long such a command waits (ms). A new channel waits for the next command.
const BLOCK: u64 = 200;
/// Number of streams that are polled together, and the pause before the next poll.
const TOGETHER: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// The state of reading streams.
pub struct StreamReader {
    pub(super) source: GrowthSource,
    pub(super) notifications: Notifications,
    /// Channels with new entries.
    pub(super) grown: HashSet<Box<[u8]>>,
    /// The round that is in progress.
    running: Option<Task>,
    /// The channels that are still to be read, if there are too many for one round.
    pub(super) turn: Vec<Box<[u8]>>,
    fetcher: Rc<Fetcher>,
    pub(super) many_logged: bool,
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
                let is_needed = channel.counter.needs_description();
                let describe = match how {
                    ReadMode::Once => audit.is_due(&name) || is_needed,
                    ReadMode::InTurn => is_needed,
                    // XREAD returns no descriptions.
                    ReadMode::Wait => false,
                };
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
        for (asked, page) in &round.read {
            let Unread { name, last: had, .. } = asked;
            let Some(channel) = self.channels.get_mut(name) else { continue };
            if !asked.is_answered_by(channel, page) {
                self.reading.grown.insert(name.clone());
                is_complete = false;
                continue;
            }
            if asked.describe && page.about.is_none() && !page.entries.is_empty() {
                channel.counter.is_not_described();
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
    /// Returns whether a page can be used. Otherwise, it is requested once more: the channel has
    /// caught up in the meantime, or the page has to be read together with a description.
    fn is_answered_by(&self, channel: &FollowedChannel, page: &StreamPage) -> bool {
        let is_current =
            channel.last == self.last && matches!(channel.state, SubscriptionState::InSync);
        let is_described = self.describe || page.entries.is_empty();
        is_current && (is_described || !channel.counter.needs_description())
    }

    fn range(&self, context: &HubContext) -> PageRequest {
        let range = PageRequest::of(context.key(&self.name), IdSpan::After(self.last), u64::MAX);
        PageRequest { about: self.describe, ..range }
    }
}
