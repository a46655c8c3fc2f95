//! One connection of the process that holds the subscription: its channels and messages. Started by
//! `connect` or `handover_successor`, it lasts until the connection, the lease, or the process
//! ends.
//!
//! - `connect`: opens a connection and synchronizes it; `clock`: the clock in Redis from which
//!   events get their ids; `clock_mark`: raises the hub's high watermark to its newest id
//! - `read_barrier`: tells workers when everything has arrived that Redis sent before
//! - `subscriptions`, `unsubscribe`: subscribe to channels, and leave them
//! - `ingest`, `settle`: turn messages and entries of streams into events of the hub
//! - `catch_up_queue`, `page_reader`: the channels that are catching up in the background
//! - `interruptions`: which channels streams of several channels wait for
//! - `growth_source`, `stream_reader`, `stream_audit`: reads the streams that applications write
//!   (`redis_source
//!   stream`), and notices that one has started over, or has lost entries before they were read
//! - `delivery_wait`: waits until events that the hub will not keep have been delivered
//! - `doubts`, `stray_messages`: messages without the hub's token
//! - `forget`: channels that an administrator deletes
//! - `users`: users that an administrator disconnects
//! - `tasks`: how tasks of the session report their results
//! - `lock_wait`: waits for the hub's lock
//! - `heartbeat`: checks that the node still responds, and that its settings are unchanged
//! - `handover_holder`, `handover_steps`, `handover_successor`, `repeats`: hand the subscription
//!   over from one process to the next, without losing or repeating anything

pub(super) mod catch_up_queue;
pub(super) mod clock;
pub(super) mod clock_mark;
pub(super) mod connect;
pub(super) mod delivery_wait;
pub(super) mod doubts;
pub(super) mod forget;
pub(super) mod growth_source;
pub(super) mod handover_holder;
pub(super) mod handover_steps;
pub(super) mod handover_successor;
pub(super) mod heartbeat;
pub(super) mod ingest;
pub(super) mod interruptions;
pub(super) mod lock_wait;
pub(super) mod opening_batch;
pub(super) mod page_reader;
pub(super) mod read_barrier;
pub(super) mod repeats;
pub(super) mod settle;
pub(super) mod stray_messages;
pub(super) mod stream_audit;
pub(super) mod stream_reader;
pub(super) mod subscriptions;
pub(super) mod tasks;
pub(super) mod unsubscribe;
pub(super) mod users;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{interval, Instant, MissedTickBehavior};

use super::catch_up::FetchPolicy;
use super::ended::Ended;
use super::inbox::Inbox;
use super::link::{self, Link};
use super::log_limit::LogLimit;
use super::phase::Phase;
use super::token::Token;
use super::waiting::WaitingBytes;
use super::wakes::Woken;
use crate::hub::{shown as shown_name, FencingToken, JudgedId, Latest, ReportedId, SlotClaim};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::session::catch_up_queue::CatchUpQueue;
use crate::redis::session::clock_mark::ClockMark;
use crate::redis::session::growth_source::GrowthSource;
use crate::redis::session::handover_steps::HandoverHolder;
use crate::redis::session::heartbeat::HEARTBEAT;
use crate::redis::session::interruptions::Interruptions;
use crate::redis::session::read_barrier::ReadBarrier;
use crate::redis::session::repeats::Repeats;
use crate::redis::session::stray_messages::Strays;
use crate::redis::session::stream_audit::StreamAudit;
use crate::redis::session::stream_reader::StreamReader;
use crate::redis::session::tasks::{Completion, Completions};
use crate::redis::subscribe::{Subscribe, WantedChannel};
use crate::redis::subscription_table::SubscriptionTable;
use crate::sse::escaped::Escaped;
use crate::sse::id::EntryId;

/// A process that holds the subscription.
#[derive(Clone)]
pub struct Holder {
    /// Its slot in the hub.
    pub claim: SlotClaim,
    /// The fencing token, which permits appending.
    pub fence: FencingToken,
    /// Changes when its thread is woken.
    pub woken: Woken,
}

/// One connection and what it is subscribed to.
pub struct Session {
    pub(super) context: Rc<HubContext>,
    pub(super) holder: Holder,
    pub(super) link: Link,
    pub(super) inbox: Arc<Inbox>,
    pub(super) channels: SubscriptionTable,
    /// The catch-up of these channels.
    pub(super) catch_ups: CatchUpQueue,
    /// Number of channels that were read at once in this second because of doubtful messages.
    pub(super) read_at_once: u32,
    /// The channels that are catching up again.
    pub(super) interruptions: Interruptions,
    /// Channels to subscribe to, and the number of those that are being subscribed to.
    pub(super) wanted: VecDeque<WantedChannel>,
    pub(super) in_progress: usize,
    /// Bytes of the messages that wait until their channels have caught up.
    pub(super) waiting_bytes: WaitingBytes,
    /// The secret that authenticates durable events, once Redis and this nginx agree on it.
    pub(super) token: Option<Token>,
    /// Channels that are matched only by patterns and have messages without the secret.
    pub(super) strays: Strays,
    /// Whether a heartbeat is awaiting its reply.
    pub(super) heartbeat_pending: bool,
    /// Whether the hub's high watermark is about to be raised to the clock's newest id.
    pub(super) clock_mark: ClockMark,
    /// Whether the stream of disconnected users is being read.
    pub(super) users_requested: bool,
    /// The read barrier that is to be passed next.
    pub(super) read_barrier: ReadBarrier,
    /// The position up to which the log was searched for requested channels.
    pub(super) read: u64,
    /// The time in Redis at which this machine's monotonic clock was 0 (ms since 1970).
    pub(super) redis_epoch: u64,
    /// The newest id of the hub's clock when the connection started.
    pub(super) clock: EntryId,
    /// The id up to which the channels that were in sync had received everything when this
    /// connection was opened; zero if the clock has fallen back, because it issues lower ids then.
    pub(super) received: EntryId,
    /// Messages that the former holder has already appended.
    pub(super) repeats: Repeats,
    pub(super) handover: Option<HandoverHolder>,
    pub(super) subscribe: Subscribe,
    /// The streams that are compared with what Redis reports about them.
    pub(super) audit: StreamAudit,
    /// How streams are read, with `redis_source stream`.
    pub(super) reading: StreamReader,
    /// Whether a refusal of Redis has been logged.
    pub(super) refusal_logged: bool,
    /// Whether a missing token has been logged.
    pub(super) no_token_logged: bool,
    /// Whether it has been logged that disconnected users cannot be read.
    pub(super) users_refusal_logged: bool,
    /// Limits the log lines about these problems: events that are too large, too many messages
    /// that wait, implausible ids, and streams that have started over.
    pub(super) too_large_lines: LogLimit,
    pub(super) full_lines: LogLimit,
    implausible_lines: LogLimit,
    started_over_lines: LogLimit,
    /// When it was last waited in vain for the delivery of events.
    pub(super) undelivered: Option<Instant>,
    /// Whether the clock in Redis had fallen behind when the connection began: each stream may
    /// have, too.
    pub(super) clock_fell_back: bool,
    /// Where the session's tasks send their results.
    pub(super) finished: Completions,
    /// Taken by `live`.
    pub(super) done: Option<mpsc::UnboundedReceiver<Completion>>,
}

impl Session {
    pub(super) fn new(
        context: Rc<HubContext>,
        holder: Holder,
        link: Link,
        inbox: Arc<Inbox>,
    ) -> Session {
        let (finished, done) = Completions::channel();
        Session {
            // From here on. Channels that were requested before are in the channel table.
            read: context.hub.head(),
            catch_ups: CatchUpQueue::new(&context, &link.address),
            reading: StreamReader::new(GrowthSource::Notified, &context, &link.address),
            read_at_once: 0,
            interruptions: Interruptions::default(),
            context,
            holder,
            link,
            inbox,
            channels: SubscriptionTable::default(),
            wanted: VecDeque::new(),
            in_progress: 0,
            waiting_bytes: WaitingBytes::default(),
            token: None,
            strays: Strays::default(),
            heartbeat_pending: false,
            clock_mark: ClockMark::Idle,
            users_requested: false,
            read_barrier: ReadBarrier::Idle,
            redis_epoch: 0,
            clock: EntryId::default(),
            received: EntryId::default(),
            repeats: Repeats::default(),
            handover: None,
            subscribe: Subscribe::First,
            audit: StreamAudit::default(),
            refusal_logged: false,
            no_token_logged: false,
            users_refusal_logged: false,
            too_large_lines: LogLimit::default(),
            full_lines: LogLimit::default(),
            implausible_lines: LogLimit::default(),
            started_over_lines: LogLimit::default(),
            undelivered: None,
            clock_fell_back: false,
            finished,
            done: Some(done),
        }
    }

    /// Serves the connection until it ends.
    pub async fn live(&mut self, phase: &mut watch::Receiver<Phase>) -> Ended {
        match self.serve(phase).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn serve(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<std::convert::Infallible, Ended> {
        let (inbox, mut woken) = (self.inbox.clone(), self.holder.woken.clone());
        let (context, link) = (self.context.clone(), self.link.clone());
        let mut done = self.done.take().ok_or(Ended::Stopped)?;
        let moved = link::moved(&context.address, &link);
        tokio::pin!(moved);
        let mut second = every(Duration::from_secs(1));
        let mut heart = every(HEARTBEAT);
        let mut handover = every(Duration::from_millis(10));
        if *phase.borrow_and_update() != Phase::Serving {
            self.retire(*phase.borrow()).await?;
        }
        loop {
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    self.retire(if changed.is_ok() { now } else { Phase::Stopping }).await?;
                }
                // Before its messages: a demoted master may deliver events that it is going to
                // lose.
                () = &mut moved => {
                    return Err(Ended::Lost("another node has become the master".into()));
                }
                // These are rare, so messages that arrive all the time are not delayed by them, and
                // do not keep them waiting.
                _ = second.tick() => self.every_second().await?,
                _ = handover.tick(), if self.handover.is_some() => self.continue_handover().await?,
                _ = heart.tick() => self.send_heartbeat(),
                Ok(()) = woken.changed() => {
                    self.context.hub.clear_wakeup(self.holder.claim);
                    self.read_log().await?;
                }
                Some(completion) = done.recv() => {
                    completion(self).await?;
                    // Tasks that are completed all the time do not keep messages waiting either.
                    self.process_some().await?;
                }
                () = inbox.filled(), if !self.holds_marker() => self.process_some().await?,
            }
            self.read_streams();
            self.look_up_strays();
            // Without this, a fast publisher would overtake the readers of the log.
            self.read_log().await?;
            self.raise_clock_mark().await?;
            self.request_read_barrier();
        }
    }

    async fn every_second(&mut self) -> Result<(), Ended> {
        self.repeats.expire(Instant::now());
        self.leave_unused()?;
        self.supervise_catch_ups();
        self.settle_doubts().await?;
        self.request_pattern_gaps().await?;
        self.audit_streams();
        self.request_clock_mark();
        self.request_users();
        self.retry_refused().await
    }

    /// Returns the settings by which history in Redis is evaluated.
    pub(super) fn fetch_policy(&self) -> FetchPolicy {
        FetchPolicy {
            history: self.context.hub.history(),
            runs: self.context.hub.runs(),
            source: self.context.hub.source(),
            now: self.time_in_redis(),
            latest: self.latest(),
            room: self.context.hub.bytes(),
            kept: self.context.most_of_page(),
        }
    }

    /// Sets the time in Redis at which this machine's monotonic clock was 0 (ms since 1970), here
    /// and in the hub, which dates events by it.
    pub(super) fn set_time(&mut self, redis_epoch: u64) {
        self.redis_epoch = redis_epoch;
        self.context.hub.set_clock(self.holder.fence, redis_epoch);
    }

    fn time_in_redis(&self) -> u64 {
        self.context.now().mono.saturating_add(self.redis_epoch)
    }

    /// Returns the latest plausible time of an id.
    pub(super) fn latest(&self) -> Latest {
        Latest::in_redis(self.context.now(), self.time_in_redis())
    }

    /// Checks the id of an event. An implausible one is logged.
    pub(super) fn judged(&mut self, name: &[u8], id: ReportedId) -> JudgedId {
        let judged = id.judged(self.latest());
        if judged.entry_id().is_none() {
            self.log_implausible(name, id);
        }
        judged
    }

    /// Logs that a channel's stream in Redis was replaced, or has lost its newest entries.
    pub(super) fn log_started_over(&mut self, name: &[u8]) {
        if !self.started_over_lines.permits() {
            return;
        }
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "the stream of channel \"{}\" in Redis was deleted, evicted, or restored to an \
                 older state; clients receive a gap event and its current entries",
                Escaped(shown_name(name)),
            ),
        );
    }

    fn log_implausible(&mut self, name: &[u8], id: ReportedId) {
        if !self.implausible_lines.permits() {
            return;
        }
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "channel \"{}\" has the id {id} in Redis, more than an hour in the future; such \
                 events are delivered with ids assigned by this nginx",
                Escaped(shown_name(name)),
            ),
        );
    }

    /// Converts the time of an event's id (ms since 1970) to this machine's monotonic clock (ms).
    pub(super) fn published_at(&self, ms: u64) -> u64 {
        let age = self.time_in_redis().saturating_sub(ms);
        self.context.now().mono.saturating_sub(age)
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
