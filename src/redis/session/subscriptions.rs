//! What is subscribed to: just the channels that have streams. One is joined when somebody listens, and
//! left a while after the last one went, so that a client which reconnects finds it in step.

use crate::hub::{ControlEntry, FencingToken, JoinError, Locked, ReportedId, SyncState};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::session::Session;
use crate::redis::subscribe::{Joining, RefusedChannels, WantedChannel};
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::sse::channel;

/// Channels in one SUBSCRIBE.
pub(in crate::redis) const TOGETHER: usize = 512;
/// Channels that are being subscribed to at a time.
const MOST_ON_THE_WAY: usize = 1_024;

impl Session {
    /// A subscription is confirmed: from here on messages of the channel come by its name.
    pub(in crate::redis) fn confirm(&mut self, subject: &[u8]) {
        let Some(name) = self.joined.channel_of(subject) else { return };
        if let Some(channel) = self.channels.get_mut(name) {
            if matches!(channel.state, SubscriptionState::Asked) {
                channel.state = SubscriptionState::Joining(self.waiting_bytes.of_channel());
                channel.first_by_name = None;
            }
        }
    }

    /// Whether a pattern is the first, of those that are subscribed to, that matches a channel which
    /// nobody named.
    pub(in crate::redis) fn is_first_match(&self, pattern: &[u8], name: &[u8]) -> bool {
        if channel::check(name).is_err() || channel::is_own(name) {
            return false;
        }
        let first = self.channels.first_match(name);
        first.is_some_and(|first| self.joined.names.subject_pattern(first) == pattern)
    }

    /// Looks for channels that were wanted since the last look.
    pub(in crate::redis) async fn look_at_log(&mut self) -> Result<(), Ended> {
        let hub = self.joined.hub.clone();
        let head = hub.head();
        let (mut wanted, mut newcomers) = (Vec::new(), Vec::new());
        while self.read < head {
            let Some(descriptor) = hub.descriptor(self.read + 1) else {
                // The log was faster: the table knows.
                self.read = head;
                wanted = self.heard().await?;
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

    /// All channels that some process has streams of.
    pub(in crate::redis) async fn heard(&self) -> Result<Vec<Vec<u8>>, Ended> {
        self.all_of(|bucket| self.joined.hub.subscribed_channels(bucket)).await
    }

    /// All channels in whose records the process of this slot has a place.
    pub(in crate::redis) async fn joined_by(&self, slot: usize) -> Result<Vec<Vec<u8>>, Ended> {
        self.all_of(|bucket| self.joined.hub.joined_by(slot, bucket)).await
    }

    /// All that a walk through the hub's table finds, slice by slice.
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

    /// Subscribes to channels, if they are not subscribed to. Streams of them may have gone on.
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
        let joined = self.join(names).await?.into_iter();
        self.wanted.extend(joined.map(|(name, known)| (name, judge(known))));
        self.join_wanted();
        Ok(())
    }

    /// Joins some of the channels that are wanted, unless enough are on their way.
    pub(in crate::redis) fn join_wanted(&mut self) {
        while self.on_the_way < MOST_ON_THE_WAY && !self.wanted.is_empty() {
            let some = self.wanted.drain(..self.wanted.len().min(TOGETHER)).collect();
            self.spawn_join(some);
        }
    }

    /// Takes a place in the records of channels that are not subscribed to. Which, and what is known of
    /// them.
    pub(in crate::redis) async fn join(
        &mut self,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<WantedChannel>, Ended> {
        let (hub, seat) = (self.joined.hub.clone(), self.tenant.seat);
        let mut joined = Vec::with_capacity(names.len());
        for name in names {
            if self.channels.get(&name).is_some() {
                continue;
            }
            let now = self.joined.now();
            let member = loop {
                match hub.join(seat, &name, now) {
                    Ok(member) => break Some(member),
                    // Each attempt clears a part of the zone.
                    Err(JoinError::Crowded) => {}
                    Err(JoinError::Full) => break None,
                    Err(JoinError::Busy(locked)) => return Err(Ended::Locked(locked)),
                }
            };
            let Some(member) = member else {
                self.tell_full();
                continue;
            };
            if self.tenant.fence != FencingToken::none() {
                self.with_lock(|| hub.forget_partial(self.tenant.fence, member)).await?;
            }
            let known = self.with_lock(|| hub.sync_state(member)).await?;
            let name: Box<[u8]> = name.into();
            let state = SubscriptionState::Asked;
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
            joined.push((name, known));
        }
        Ok(joined)
    }

    fn tell_full(&mut self) {
        if !std::mem::replace(&mut self.told_refused, true) {
            let what = "the zone has no room for another channel that Redis has";
            self.joined.log(LogLevel::Warn, format_args!("{what}"));
        }
    }

    /// What is needed to join channels on this connection.
    pub(in crate::redis) fn joining(&self) -> Joining {
        Joining {
            joined: self.joined.clone(),
            subscriber: self.link.clone(),
            subscribe: self.subscribe,
        }
    }

    fn spawn_join(&mut self, some: Vec<WantedChannel>) {
        self.on_the_way += some.len();
        let (joining, finished) = (self.joining(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let allowed = joining.allowed(some).await;
            finished.report(allowed.map_err(|why| why.to_string()), Session::take_joined);
        });
    }

    /// Takes channels that were subscribed to, and those that were refused.
    async fn take_joined(
        &mut self,
        (some, refused): (Vec<WantedChannel>, RefusedChannels),
    ) -> Result<(), Ended> {
        self.on_the_way -= self.on_the_way.min(some.len() + refused.names.len());
        self.refuse(refused).await?;
        self.take_in().await?;
        self.await_messages(&some);
        self.catch_up(some);
        self.join_wanted();
        Ok(())
    }

    /// These channels are subscribed to, or need not be: their messages wait from here on. A subscription
    /// says so itself, before it is confirmed.
    pub(in crate::redis) fn await_messages(&mut self, some: &[WantedChannel]) {
        for (name, _) in some {
            if let Some(channel) = self.channels.get_mut(name) {
                if matches!(channel.state, SubscriptionState::Asked) {
                    channel.state = SubscriptionState::Joining(self.waiting_bytes.of_channel());
                }
            }
        }
    }

    /// Has a channel read again beside everything else: events of it were missed, or may have been, before these
    /// messages.
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
        let (most, mut waiting) = (self.joined.most_held(), self.waiting_bytes.of_channel());
        for message in held {
            waiting.keep(message, most);
        }
        waiting.reading_begins();
        channel.state = SubscriptionState::Joining(waiting);
        let (member, known) = (channel.member, SyncState::Interrupted(channel.last));
        let (hub, fence) = (&self.joined.hub, self.tenant.fence);
        self.with_lock(|| hub.set_out_of_sync(fence, member)).await?;
        Ok(Some((name.into(), known)))
    }
}
