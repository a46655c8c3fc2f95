//! One connection of the process that holds the subscription: its channels, and what becomes of its
//! messages. Started by `connect` or `handover_successor`, it lives until the connection, the lease, or the
//! process ends.
//!
//! - `connect`: opens a connection and catches up; `clock`: from where the ids of events continue
//! - `subscriptions`, `unsubscribe`: joins and leaves channels
//! - `ingest`, `settle`: turn messages, and what was read of a channel, into events of the hub
//! - `catch_up_queue`: which channels are being caught up, and how much at a time
//! - `catch_up_in_order`: reads channels again while all messages wait
//! - `stream_reader`, `stream_audit`: reads the streams that applications write (`redis_source stream`), and
//!   notices that one has started over, or has lost entries before they were read
//! - `delivery_wait`: waits until events that the hub will not keep have been delivered
//! - `doubts`, `stray_messages`: messages without the hub's token
//! - `forget`: channels that an administrator deletes
//! - `tasks`: how tasks of the session report their results
//! - `lock_wait`: waits for the hub's lock
//! - `heartbeat`: whether the node still answers, and what was agreed upon still holds
//! - `handover_holder`, `handover_successor`, `repeats`: pass the subscription from one process to the next
//!   without a loss, and without delivering anything twice

pub(super) mod catch_up_in_order;
pub(super) mod catch_up_queue;
pub(super) mod clock;
pub(super) mod connect;
pub(super) mod delivery_wait;
pub(super) mod doubts;
pub(super) mod forget;
pub(super) mod handover_holder;
pub(super) mod handover_successor;
pub(super) mod heartbeat;
pub(super) mod ingest;
pub(super) mod lock_wait;
pub(super) mod opening_batch;
pub(super) mod repeats;
pub(super) mod settle;
pub(super) mod stray_messages;
pub(super) mod stream_audit;
pub(super) mod stream_reader;
pub(super) mod subscriptions;
pub(super) mod tasks;
pub(super) mod unsubscribe;

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
use super::phase::Phase;
use super::token::Token;
use super::waiting::WaitingBytes;
use super::wakes::Woken;
use crate::hub::{shown as shown_name, FencingToken, JudgedId, Latest, ReportedId, SlotClaim};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::session::catch_up_queue::CatchUpQueue;
use crate::redis::session::handover_holder::HandoverHolder;
use crate::redis::session::heartbeat::HEARTBEAT;
use crate::redis::session::repeats::Repeats;
use crate::redis::session::stray_messages::Strays;
use crate::redis::session::stream_audit::StreamAudit;
use crate::redis::session::stream_reader::{GrowthSource, StreamReader};
use crate::redis::session::tasks::{Completion, Completions};
use crate::redis::subscribe::{Subscribe, WantedChannel};
use crate::redis::subscription_table::SubscriptionTable;
use crate::sse::escaped::Escaped;
use crate::sse::id::EntryId;

/// How often the same trouble of channels is logged.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(60);

/// The process's part in the hub while it holds the subscription.
#[derive(Clone)]
pub struct Holder {
    /// Its seat.
    pub seat: SlotClaim,
    /// What allows it to append.
    pub fence: FencingToken,
    /// What wakes it.
    pub woken: Woken,
}

/// One connection and what it is subscribed to.
pub struct Session {
    pub(super) joined: Rc<HubContext>,
    pub(super) tenant: Holder,
    pub(super) link: Link,
    pub(super) inbox: Arc<Inbox>,
    pub(super) channels: SubscriptionTable,
    /// What is being fetched of them.
    pub(super) catching: CatchUpQueue,
    /// The number of streams that were read at once in this second because of doubtful messages.
    pub(super) asked_at_once: u32,
    /// When a channel that was read again has last taken longer than all others wait.
    pub(super) slow_since: Option<Instant>,
    /// Channels that are to be joined, and how many are being joined.
    pub(super) wanted: VecDeque<WantedChannel>,
    pub(super) on_the_way: usize,
    /// Bytes of messages that wait for their channels.
    pub(super) waiting_bytes: WaitingBytes,
    /// What durable messages carry so that nobody can forge one, once Redis and this nginx agree on
    /// it.
    pub(super) token: Option<Token>,
    /// Channels that only patterns match, with messages that lack it.
    pub(super) strays: Strays,
    /// A heartbeat is on its way.
    pub(super) beating: bool,
    /// The position up to which the log has been looked at for wanted channels.
    pub(super) read: u64,
    /// What Redis' clock showed when this machine's monotonic clock began (ms since 1970).
    pub(super) redis_epoch: u64,
    /// The newest number of the hub's clock when the connection began.
    pub(super) clock: EntryId,
    /// Messages that a former holder has appended already.
    pub(super) repeats: Repeats,
    pub(super) retiring: Option<HandoverHolder>,
    pub(super) subscribe: Subscribe,
    /// Which streams are compared with what Redis reports of them.
    pub(super) audit: StreamAudit,
    /// How streams are read, with `redis_source stream`.
    pub(super) reading: StreamReader,
    /// What Redis refuses has been told.
    pub(super) told_refused: bool,
    /// That there is no token has been logged.
    pub(super) told_no_token: bool,
    pub(super) told_too_large: Option<Instant>,
    pub(super) told_full: Option<Instant>,
    pub(super) told_implausible: Option<Instant>,
    pub(super) told_started_over: Option<Instant>,
    /// When it was last waited in vain for the delivery of events.
    pub(super) undelivered: Option<Instant>,
    /// Whether the clock in Redis had fallen behind when the connection began: each stream may
    /// have, too.
    pub(super) clock_fell_back: bool,
    /// To this, tasks of the session report their results.
    pub(super) finished: Completions,
    /// Taken by `live`.
    pub(super) done: Option<mpsc::UnboundedReceiver<Completion>>,
}

impl Session {
    pub(super) fn new(
        joined: Rc<HubContext>,
        tenant: Holder,
        link: Link,
        inbox: Arc<Inbox>,
    ) -> Session {
        let (finished, done) = Completions::channel();
        Session {
            // From here on: what was wanted before is found in the table.
            read: joined.hub.head(),
            catching: CatchUpQueue::new(&joined, &link.address),
            reading: StreamReader::new(GrowthSource::Told, &joined, &link.address),
            asked_at_once: 0,
            slow_since: None,
            joined,
            tenant,
            link,
            inbox,
            channels: SubscriptionTable::default(),
            wanted: VecDeque::new(),
            on_the_way: 0,
            waiting_bytes: WaitingBytes::default(),
            token: None,
            strays: Strays::default(),
            beating: false,
            redis_epoch: 0,
            clock: EntryId::default(),
            repeats: Repeats::default(),
            retiring: None,
            subscribe: Subscribe::First,
            audit: StreamAudit::default(),
            told_refused: false,
            told_no_token: false,
            told_too_large: None,
            told_full: None,
            told_implausible: None,
            told_started_over: None,
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
        let (inbox, mut woken) = (self.inbox.clone(), self.tenant.woken.clone());
        let (joined, link) = (self.joined.clone(), self.link.clone());
        let mut done = self.done.take().ok_or(Ended::Stopped)?;
        let moved = link::moved(&joined.address, &link);
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
                // Before what it brings: a master that is none any more may tell of what it will
                // forget.
                () = &mut moved => return Err(Ended::Lost("another node is the master".into())),
                () = inbox.filled(), if !self.keeps_marker() => self.take_in().await?,
                Ok(()) = woken.changed() => {
                    self.joined.hub.clear_wakeup(self.tenant.seat);
                    self.look_at_log().await?;
                }
                Some(completion) = done.recv() => completion(self).await?,
                _ = second.tick() => self.every_second().await?,
                _ = handover.tick(), if self.retiring.is_some() => self.retire_further().await?,
                _ = heart.tick() => self.beat(),
            }
            self.read_streams();
            self.look_up_strays();
            // Messages come fast, and without this the log would be overtaken.
            self.look_at_log().await?;
        }
    }

    async fn every_second(&mut self) -> Result<(), Ended> {
        self.repeats.expire(Instant::now());
        self.leave_quiet()?;
        self.tend_catching();
        self.settle_doubts().await?;
        self.tell_gaps_of_patterns().await?;
        self.audit_streams();
        self.retry_refused().await
    }

    /// By what is judged what Redis retains.
    pub(super) fn terms(&self) -> FetchPolicy {
        FetchPolicy {
            history: self.joined.hub.history(),
            source: self.joined.hub.source(),
            now: self.time_in_redis(),
            latest: self.latest(),
            room: self.joined.hub.bytes(),
            kept: self.joined.most_of_page(),
        }
    }

    fn time_in_redis(&self) -> u64 {
        self.joined.now().mono.saturating_add(self.redis_epoch)
    }

    /// The latest time that an id which Redis gave can have.
    pub(super) fn latest(&self) -> Latest {
        Latest::in_redis(self.joined.now(), self.time_in_redis())
    }

    /// Checks the id of an event. One that is not believed is logged.
    pub(super) fn judged(&mut self, name: &[u8], id: ReportedId) -> JudgedId {
        let judged = id.judged(self.latest());
        if judged.entry_id().is_none() {
            self.tell_implausible(name, id);
        }
        judged
    }

    /// A channel's stream in Redis is another one, or has lost its end.
    pub(super) fn tell_started_over(&mut self, name: &[u8]) {
        if self.told_started_over.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told_started_over = Some(Instant::now());
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "the stream of channel \"{}\" in Redis was deleted, evicted or set back; its clients \
                 receive a gap event, and what it has now",
                Escaped(shown_name(name)),
            ),
        );
    }

    fn tell_implausible(&mut self, name: &[u8], id: ReportedId) {
        if self.told_implausible.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told_implausible = Some(Instant::now());
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "channel \"{}\" has the id {id} in Redis, which lies more than an hour ahead; such \
                 events are delivered with ids of this nginx",
                Escaped(shown_name(name)),
            ),
        );
    }

    /// When an event of this number came into the world, by this machine's monotonic clock.
    pub(super) fn born(&self, ms: u64) -> u64 {
        let age = self.time_in_redis().saturating_sub(ms);
        self.joined.now().mono.saturating_sub(age)
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
