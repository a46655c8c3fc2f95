//! Appends the entries that were read of a channel, and then the messages that waited; after that,
//! the channel has caught up.

use crate::hub::{pattern_of, JudgedId, Loss, MonotonicTime, Provenance, ReportedId, SyncState};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::catch_up::Fetched;
use crate::redis::ended::Ended;
use crate::redis::entry::Entry;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::message::Message;
use crate::redis::message_order::{before_next_event, Released, WaitingOrder};
use crate::redis::ordered_event::{LogStep, OrderedEvent};
use crate::redis::session::Session;
use crate::redis::subscription_table::SubscriptionState;
use crate::sse::id::EntryId;

/// Whether a channel has caught up once the messages that waited for it are released.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    CaughtUp,
    /// Its stream is read once more.
    ReadAgain,
}

impl Session {
    /// Appends what was fetched of a channel. A plain message that waits is appended before an
    /// event that arrived after it.
    pub(in crate::redis) async fn append_fetched(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<(), Ended> {
        self.forget_strayed(name, known).await?;
        self.record_loss(name, fetched).await?;
        let waited = self.take_plain_before(name, fetched);
        let waited: Vec<_> = waited.iter().map(|(id, one)| (*id, one.message())).collect();
        let mut waited = waited.iter().peekable();
        let mut arrivals = Vec::with_capacity(fetched.entries.len());
        let forgotten = self.forgotten_up_to(name);
        let by_name = self.channels.get(name).and_then(|channel| channel.first_by_name);
        let entries = self.readable(name, &fetched.entries).into_iter();
        for entry in entries.filter(|entry| entry.id > forgotten) {
            while let Some((next, message)) = waited.next_if(|(next, _)| *next <= entry.id) {
                arrivals.extend(self.plain_before(name, *next, message));
            }
            let event = self.fetched(name, known, entry);
            let is_since = by_name.is_some_and(|first| entry.id >= first);
            arrivals.push(if is_since { event.since_subscribed() } else { event });
        }
        for (next, message) in waited {
            arrivals.extend(self.plain_before(name, *next, message));
        }
        self.append(&arrivals).await
    }

    /// Removes and returns the plain messages of a channel that arrived before an event that was
    /// fetched, each with the id of that event.
    fn take_plain_before(
        &mut self,
        name: &[u8],
        fetched: &Fetched,
    ) -> Vec<(ReportedId, BufferedMessage)> {
        let state = self.channels.get_mut(name).map(|channel| &mut channel.state);
        let Some(SubscriptionState::CatchingUp(waiting)) = state else { return Vec::new() };
        let is_read = |id| fetched.entries.binary_search_by_key(&id, |entry| entry.id).is_ok();
        waiting.take_plain_before(is_read)
    }

    /// Returns the event of a plain message that waited. `next`: the id of the event that arrived
    /// after it.
    fn plain_before<'m>(
        &mut self,
        name: &'m [u8],
        next: ReportedId,
        message: &'m Message<'m>,
    ) -> Option<OrderedEvent<'m>> {
        let event = self.event_of(before_next_event(message)?, name, message);
        let before = next.checked(self.latest()).map(EntryId::before);
        Some(before.map_or(event, |before| event.plain_before(before)))
    }

    /// Returns the entries that were not skipped for their size.
    pub(in crate::redis) fn readable<'e>(
        &mut self,
        name: &[u8],
        entries: &'e [Entry],
    ) -> Vec<&'e Entry> {
        if let Some(largest) = entries.iter().map(|entry| entry.skipped).max().filter(|&n| n > 0) {
            self.log_too_large(name, largest);
        }
        entries.iter().filter(|entry| entry.skipped == 0).collect()
    }

    /// Forgets the events of a channel that were received through patterns before its
    /// subscription was confirmed: they are among the fetched entries.
    async fn forget_strayed(&mut self, name: &[u8], known: SyncState) -> Result<(), Ended> {
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        if matches!(known, SyncState::Interrupted(_)) || pattern_of(name).is_some() {
            return Ok(());
        }
        let (hub, fence, member) = (&self.context.hub, self.holder.fence, channel.member);
        self.with_lock(|| hub.forget_partial(fence, member)).await
    }

    /// Records a channel's or pattern's loss, before the events that follow it are appended.
    pub(in crate::redis) async fn record_loss(
        &mut self,
        name: &[u8],
        fetched: &Fetched,
    ) -> Result<(), Ended> {
        let Some(channel) = self.channels.get_mut(name) else { return Ok(()) };
        let member = channel.member;
        if pattern_of(name).is_some() {
            let newest = self.newest_id().await?;
            let (hub, fence) = (&self.context.hub, self.holder.fence);
            return self.with_lock(|| hub.patterns_subscribed(fence, &[member], newest)).await;
        }
        if fetched.missing == Loss::Everything {
            channel.last = ReportedId::default();
            self.log_started_over(name);
        }
        self.record_gap(name, fetched.missing).await?;
        match fetched.newest {
            Some(_) if !fetched.is_first => self.note_lost_run(name, fetched.missing).await,
            // It is only assumed that there was something.
            _ => Ok(()),
        }
    }

    /// Records that entries of a channel existed that this hub does not have: if nothing else is
    /// known of it, the entries that follow do not begin a run.
    async fn note_lost_run(&mut self, name: &[u8], missing: Loss) -> Result<(), Ended> {
        let Some(member) = self.channels.get(name).map(|channel| channel.member) else {
            return Ok(());
        };
        let Loss::UpTo(lost) = missing else { return Ok(()) };
        let (hub, fence) = (&self.context.hub, self.holder.fence);
        self.with_lock(|| hub.note_entry(fence, member, lost.into())).await
    }

    /// Appends events, and records losses between them.
    pub(in crate::redis) async fn append_steps(
        &mut self,
        steps: impl Iterator<Item = LogStep<'_>>,
    ) -> Result<(), Ended> {
        let mut run = Vec::new();
        for step in steps {
            match step {
                LogStep::Event(event) => run.push(event),
                LogStep::Loss(name, missing) => {
                    self.append(&run).await?;
                    run.clear();
                    self.record_gap(name, missing).await?;
                    self.note_lost_run(name, missing).await?;
                }
            }
        }
        self.append(&run).await
    }

    /// Records what is gone of a channel, once its streams have received what was appended before.
    pub(in crate::redis) async fn record_gap(
        &mut self,
        name: &[u8],
        missing: Loss,
    ) -> Result<(), Ended> {
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        let member = channel.member;
        if missing != Loss::Nothing {
            self.await_delivery(member).await?;
        }
        let (hub, fence) = (&self.context.hub, self.holder.fence);
        self.with_lock(|| hub.record_loss(fence, member, missing)).await
    }

    /// Completes a channel: appends the messages that arrived while it was catching up, and marks
    /// it as in sync.
    pub(in crate::redis) async fn settled(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<(), Ended> {
        let Some(member) = self.channels.get(name).map(|channel| channel.member) else {
            return Ok(());
        };
        if self.release(name, known, fetched).await? == Settled::ReadAgain {
            return Ok(());
        }
        if let Some(newest) = fetched.newest {
            let (hub, fence) = (&self.context.hub, self.holder.fence);
            self.with_lock(|| hub.note_entry(fence, member, newest)).await?;
            if let Some(newest) = newest.checked(self.latest()) {
                let (hub, fence) = (&self.context.hub, self.holder.fence);
                self.with_lock(|| hub.raise_high_watermark(fence, newest)).await?;
            }
        }
        if !self.holds_pattern(name).await? {
            let (context, fence) = (&self.context, self.holder.fence);
            let missing = fetched.missing;
            let listeners =
                self.with_lock(|| context.hub.caught_up(fence, member, known, missing)).await?;
            context.wake(&listeners);
        }
        self.note_end_of_interruption(name).await?;
        self.note_settled(name).await?;
        self.settle_doubt(name).await
    }

    /// Records that a channel is in sync or unavailable. When that is true of all channels
    /// whose streams stayed open, the next connection may rely on it.
    pub(in crate::redis) async fn note_settled(&mut self, name: &[u8]) -> Result<(), Ended> {
        if self.catch_ups.unsettled.remove(name) && self.catch_ups.unsettled.is_empty() {
            let (hub, fence) = (&self.context.hub, self.holder.fence);
            self.with_lock(|| hub.settled(fence)).await?;
        }
        Ok(())
    }

    /// Returns whether events with higher ids were published later. They were not if the clock in
    /// Redis had fallen behind when the connection began, and has issued the id before it was
    /// corrected.
    fn is_in_clock_order(&self, id: JudgedId) -> bool {
        !self.clock_fell_back || id.entry_id().is_some_and(|id| id > self.clock)
    }

    /// Converts an entry of a channel's stream to an event for the hub.
    pub(in crate::redis) fn fetched<'m>(
        &mut self,
        name: &'m [u8],
        known: SyncState,
        entry: &'m Entry,
    ) -> OrderedEvent<'m> {
        let id = self.judged(name, entry.id);
        let provenance = match known {
            SyncState::Interrupted(_) if self.is_in_clock_order(id) => Provenance::Missed(id),
            SyncState::Interrupted(_) => Provenance::Live(id),
            SyncState::Nothing | SyncState::Left(_) => Provenance::Earlier(id),
        };
        let born = match known {
            // It was added after the stream was last read, whatever its id is.
            SyncState::Interrupted(had) if had == ReportedId::default() || entry.id <= had => {
                self.context.now().time()
            }
            _ => MonotonicTime::from_ms(self.published_at(entry.id.ms())),
        };
        OrderedEvent::from_entry(name, entry, provenance, born)
    }

    /// Appends the messages of a channel that waited. If events before one of them are missing,
    /// or the stream has started over since it was read, the stream is read once more.
    async fn release(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<Settled, Ended> {
        let Some((held, arrived_before)) = self.take_held(name, known, fetched) else {
            return Ok(Settled::CaughtUp);
        };
        let messages: Vec<Message<'_>> = held.iter().map(BufferedMessage::message).collect();
        let last = self.channels.get(name).map(|channel| channel.last).unwrap_or_default();
        let ids = messages.iter().map(Message::id);
        let order = WaitingOrder::new(ids, arrived_before, fetched, last);
        let (steps, rest) = self.released_steps(name, known, &messages, order);
        self.append_steps(steps.into_iter()).await?;
        drop(messages);
        let Some(index) = rest else { return Ok(Settled::CaughtUp) };
        if let Some(channel) = self.channels.get_mut(name) {
            channel.is_rewound = true;
        }
        self.catch_up_again(name, held.into_iter().skip(index).collect()).await?;
        Ok(Settled::ReadAgain)
    }

    /// Marks a channel as in sync, up to what was read. Returns the messages that waited, and how
    /// many of them arrived before its reading began; `None` if the channel does not exist.
    fn take_held(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Option<(Vec<BufferedMessage>, usize)> {
        let channel = self.channels.get_mut(name)?;
        channel.last = read_up_to(channel.last, known, fetched);
        let added = fetched.added.filter(|_| fetched.newest == Some(channel.last));
        let logged = match fetched.missing {
            Loss::UpTo(entry_id) => entry_id.into(),
            Loss::Nothing | Loss::Everything => ReportedId::default(),
        };
        channel.counter = EntryCounter::starting_at(channel.last, added).after_loss(logged);
        channel.forgotten = ReportedId::default();
        // A doubtful message that has arrived meanwhile may have been the reason.
        channel.is_rewound &= channel.is_doubtful;
        Some(match std::mem::replace(&mut channel.state, SubscriptionState::InSync) {
            SubscriptionState::CatchingUp(mut waiting) => {
                let arrived_before = waiting.arrived_before();
                (waiting.take(), arrived_before)
            }
            SubscriptionState::Requested
            | SubscriptionState::InSync
            | SubscriptionState::Refused { .. } => (Vec::new(), 0),
        })
    }

    /// Returns what is appended of the messages of a channel that waited, and the index of the
    /// message from which on the stream has to be read once more, if there is one.
    fn released_steps<'m>(
        &mut self,
        name: &'m [u8],
        known: SyncState,
        messages: &'m [Message<'m>],
        mut order: WaitingOrder,
    ) -> (Vec<LogStep<'m>>, Option<usize>) {
        let latest = self.latest();
        let mut steps = Vec::with_capacity(messages.len());
        let mut next_ids = ids_after_plain_messages(messages).into_iter();
        for (index, message) in messages.iter().enumerate() {
            let next_id = next_ids.next().flatten();
            let checked = match order.release(message) {
                Released::AlreadyRead => continue,
                Released::Append(checked) => checked,
                Released::AppendAfterLoss(checked, up_to) => {
                    let missing = up_to.checked(latest).map_or(Loss::Everything, Loss::UpTo);
                    steps.push(LogStep::Loss(name, missing));
                    checked
                }
                Released::ReadAgain => return (steps, Some(index)),
            };
            let event = self.event_of(checked, name, message);
            self.note_last(name, message);
            // Other channels have continued in the meantime, so its id may be below theirs.
            let event = match (event.provenance(), known) {
                (Provenance::Live(id), SyncState::Interrupted(_)) if self.is_in_clock_order(id) => {
                    event.missed()
                }
                (Provenance::Live(_), SyncState::Interrupted(_)) => event,
                (Provenance::Live(_), _) => event.since_subscribed(),
                _ => event,
            };
            let before = next_id.and_then(|id| id.checked(latest)).map(EntryId::before);
            let event = before.map_or(event, |before| event.plain_before(before));
            steps.push(LogStep::Event(event));
        }
        (steps, None)
    }
}

/// Returns, for each plain message, the id of the next durable event.
fn ids_after_plain_messages(messages: &[Message<'_>]) -> Vec<Option<ReportedId>> {
    let mut next = None;
    let mut ids: Vec<_> = messages
        .iter()
        .rev()
        .map(|message| {
            next = message.id().or(next);
            next.filter(|_| message.id().is_none())
        })
        .collect();
    ids.reverse();
    ids
}

/// Returns the id up to which a channel has been read, including what was fetched.
pub(in crate::redis) fn read_up_to(
    last: ReportedId,
    known: SyncState,
    fetched: &Fetched,
) -> ReportedId {
    let had = match fetched.missing {
        Loss::Everything => ReportedId::default(),
        Loss::Nothing | Loss::UpTo(_) => known.had(),
    };
    last.max(fetched.newest.unwrap_or(had)).max(had)
}
