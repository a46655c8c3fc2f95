//! The subscriptions: just the channels that have streams. A channel is subscribed to when its
//! first stream opens, and unsubscribed a while after its last one has ended, so that it is still
//! in sync for a client that reconnects.

use crate::hub::{ControlEntry, FencingToken, JoinError, Locked, ReportedId, SyncState};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::session::Session;
use crate::redis::subscribe::{ChannelSubscriber, RefusedChannels, WantedChannel};
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::sse::channel;

/// Channels in one SUBSCRIBE.
pub(in crate::redis) const TOGETHER: usize = 512;
/// Maximum number of channels that are being subscribed to.
const MOST_IN_PROGRESS: usize = 1_024;

impl Session {
    /// Handles the confirmation of a subscription: from here on, messages of the channel arrive
    /// under its own name.
    pub(in crate::redis) fn confirm(&mut self, subject: &[u8]) {
        let Some(name) = self.context.channel_of(subject) else { return };
        if let Some(channel) = self.channels.get_mut(name) {
            if matches!(channel.state, SubscriptionState::Requested) {
                channel.state = SubscriptionState::CatchingUp(self.waiting_bytes.for_channel());
                channel.first_by_name = None;
            }
        }
    }

    /// Whether a pattern is the first of the subscribed patterns that matches a channel without
    /// a subscription of its own.
    pub(in crate::redis) fn is_first_match(&self, pattern: &[u8], name: &[u8]) -> bool {
        if channel::check(name).is_err() || channel::is_own(name) {
            return false;
        }
        let first = self.channels.first_match(name);
        first.is_some_and(|first| self.context.names.subject_pattern(first) == pattern)
    }

    /// Reads the log, for requests to subscribe to channels.
    pub(in crate::redis) async fn read_log(&mut self) -> Result<(), Ended> {
        let hub = self.context.hub.clone();
        let head = hub.head();
        let (mut wanted, mut newcomers) = (Vec::new(), Vec::new());
        while self.read < head {
            let Some(descriptor) = hub.descriptor(self.read + 1) else {
                // The request was overwritten in the log; the channel table still has it.
                self.read = head;
                wanted = self.channels_with_streams().await?;
                break;
            };
            if descriptor.signal() == Some(ControlEntry::Wanted) {
                let name = self.with_lock(|| hub.requested_name(descriptor.channel)).await?;
                newcomers.extend(name);
            }
            self.read += 1;
        }
        self.want(wanted).await?;
        self.want_with(newcomers, SyncState::for_newcomer).await
    }

    /// Returns all channels with streams in any process.
    pub(in crate::redis) async fn channels_with_streams(&self) -> Result<Vec<Vec<u8>>, Ended> {
        self.all_of(|bucket| self.context.hub.subscribed_channels(bucket)).await
    }

    /// Returns all channels that the process in this slot has joined.
    pub(in crate::redis) async fn joined_by(&self, slot: usize) -> Result<Vec<Vec<u8>>, Ended> {
        self.all_of(|bucket| self.context.hub.joined_by(slot, bucket)).await
    }

    /// Returns everything that a scan of the hub's table finds, which is done in parts.
    async fn all_of(
        &self,
        slice: impl Fn(usize) -> Result<(Vec<Vec<u8>>, Option<usize>), Locked>,
    ) -> Result<Vec<Vec<u8>>, Ended> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(bucket) = from {
            let (names, next) = self.with_lock(|| slice(bucket)).await?;
            all.extend(names);
            from = next;
        }
        Ok(all)
    }

    /// Subscribes to channels, unless they are subscribed to already. Streams of them may be open.
    pub(in crate::redis) async fn want(&mut self, names: Vec<Vec<u8>>) -> Result<(), Ended> {
        self.want_with(names, |known| known).await
    }

    async fn want_with(
        &mut self,
        names: Vec<Vec<u8>>,
        judge: impl Fn(SyncState) -> SyncState,
    ) -> Result<(), Ended> {
        if names.is_empty() || self.is_frozen() {
            return Ok(());
        }
        let added = self.join(names).await?;
        for (name, known) in added {
            let known = judge(known);
            self.announce_catch_up(&name, known).await?;
            self.wanted.push_back((name, known));
        }
        self.join_wanted();
        Ok(())
    }

    /// Subscribes to some of the requested channels, unless enough requests are in progress.
    pub(in crate::redis) fn join_wanted(&mut self) {
        while self.in_progress < MOST_IN_PROGRESS && !self.wanted.is_empty() {
            let some = self.wanted.drain(..self.wanted.len().min(TOGETHER)).collect();
            self.spawn_join(some);
        }
    }

    /// Joins the channels in the hub. Returns those that were not joined before, with what the
    /// hub knows about them.
    pub(in crate::redis) async fn join(
        &mut self,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<WantedChannel>, Ended> {
        let (hub, claim) = (self.context.hub.clone(), self.holder.claim);
        let mut added = Vec::with_capacity(names.len());
        for name in names {
            if self.channels.get(&name).is_some() {
                continue;
            }
            let now = self.context.now();
            let member = loop {
                match hub.join(claim, &name, now) {
                    Ok(member) => break Some(member),
                    // Each attempt clears a part of the zone.
                    Err(JoinError::Crowded) => {}
                    Err(JoinError::Full) => break None,
                    Err(JoinError::Busy(locked)) => return Err(Ended::Locked(locked)),
                }
            };
            let Some(member) = member else {
                self.log_full();
                self.set_unavailable(&name).await?;
                continue;
            };
            if self.holder.fence != FencingToken::none() {
                self.with_lock(|| hub.forget_partial(self.holder.fence, member)).await?;
            }
            let known = self.with_lock(|| hub.sync_state(member)).await?;
            let name: Box<[u8]> = name.into();
            let state = SubscriptionState::Requested;
            let last = ReportedId::default();
            let forgotten = ReportedId::default();
            let (first_by_name, quiet) = (None, None);
            let (is_doubtful, is_rewound) = (false, false);
            let counter = EntryCounter::default();
            let channel = FollowedChannel {
                member,
                state,
                last,
                counter,
                first_by_name,
                forgotten,
                quiet,
                is_doubtful,
                is_rewound,
            };
            self.channels.insert(name.clone(), channel);
            added.push((name, known));
        }
        Ok(added)
    }

    fn log_full(&mut self) {
        if !std::mem::replace(&mut self.refusal_logged, true) {
            let what = "the zone has no room for another channel of Redis";
            self.context.log(LogLevel::Warn, format_args!("{what}"));
        }
    }

    /// Returns what is needed to subscribe on this connection.
    pub(in crate::redis) fn channel_subscriber(&self) -> ChannelSubscriber {
        ChannelSubscriber {
            context: self.context.clone(),
            subscriber: self.link.clone(),
            subscribe: self.subscribe,
        }
    }

    fn spawn_join(&mut self, some: Vec<WantedChannel>) {
        self.in_progress += some.len();
        let (subscriber, finished) = (self.channel_subscriber(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let allowed = subscriber.subscribe(some).await;
            finished.report(allowed.map_err(|why| why.to_string()), Session::process_subscribed);
        });
    }

    /// Processes the result of subscribing.
    async fn process_subscribed(
        &mut self,
        (some, refused): (Vec<WantedChannel>, RefusedChannels),
    ) -> Result<(), Ended> {
        self.in_progress -= self.in_progress.min(some.len() + refused.names.len());
        self.refuse(refused).await?;
        self.process_inbox().await?;
        self.await_messages(&some);
        self.catch_up(some);
        self.join_wanted();
        Ok(())
    }

    /// Makes the messages of these channels wait from here on. They are subscribed to, or do
    /// not have to be. For a subscription, its confirmation has already done so.
    pub(in crate::redis) fn await_messages(&mut self, some: &[WantedChannel]) {
        for (name, _) in some {
            if let Some(channel) = self.channels.get_mut(name) {
                if matches!(channel.state, SubscriptionState::Requested) {
                    channel.state = SubscriptionState::CatchingUp(self.waiting_bytes.for_channel());
                }
            }
        }
    }

    /// Starts to read a channel's stream again in the background: events were or may have been
    /// missed before these messages.
    pub(in crate::redis) async fn catch_up_again(
        &mut self,
        name: &[u8],
        held: Vec<BufferedMessage>,
    ) -> Result<(), Ended> {
        let asked = self.interrupt(name, held).await?;
        self.catch_up(asked);
        Ok(())
    }

    /// Records that a channel is not in sync, and keeps these messages until it has been read.
    pub(in crate::redis) async fn interrupt(
        &mut self,
        name: &[u8],
        held: Vec<BufferedMessage>,
    ) -> Result<Option<WantedChannel>, Ended> {
        let Some(channel) = self.channels.get_mut(name) else { return Ok(None) };
        let (most, mut waiting) = (self.context.most_held(), self.waiting_bytes.for_channel());
        for message in held {
            waiting.keep(message, most);
        }
        waiting.reading_begins();
        channel.state = SubscriptionState::CatchingUp(waiting);
        let known = SyncState::Interrupted(channel.last);
        self.set_out_of_sync(name).await?;
        Ok(Some((name.into(), known)))
    }
}
