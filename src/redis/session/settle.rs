//! Appends what was read of a channel, then the messages that waited for it: afterwards the channel has
//! caught up.

use crate::hub::{pattern_of, IncomingEvent, Loss, NewEvent, Provenance, ReportedId, SyncState};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::catch_up::Fetched;
use crate::redis::ended::Ended;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::message::{Entry, Message};
use crate::redis::sequence::{self, EventOrder};
use crate::redis::session::ingest::is_fetched;
use crate::redis::session::Session;
use crate::redis::subscription_table::SubscriptionState;

/// What became of messages that waited for their channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Released {
    /// They are appended.
    All,
    /// The stream has started over before one of them: the channel is being caught up again.
    StartedOver,
}

impl Session {
    /// Appends what was fetched of a channel.
    pub(in crate::redis) fn enter(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<(), Ended> {
        self.forget_strayed(name, known)?;
        self.lose(name, fetched)?;
        let mut arrivals = Vec::with_capacity(fetched.entries.len());
        let forgotten = self.forgotten_up_to(name);
        let by_name = self.channels.get(name).and_then(|channel| channel.first_by_name);
        let entries = self.readable(name, &fetched.entries).into_iter();
        for entry in entries.filter(|entry| entry.id > forgotten) {
            let mut arrival = self.fetched(name, known, entry);
            if by_name.is_some_and(|first| entry.id >= first) {
                arrival.provenance = arrival.provenance.since_subscribed();
            }
            arrivals.push(arrival);
        }
        self.append(&arrivals)
    }

    /// Those entries that are no larger than can be read.
    pub(in crate::redis) fn readable<'e>(
        &mut self,
        name: &[u8],
        entries: &'e [Entry],
    ) -> Vec<&'e Entry> {
        if let Some(largest) = entries.iter().map(|entry| entry.left_out).max().filter(|&n| n > 0) {
            self.tell_too_large(name, largest);
        }
        entries.iter().filter(|entry| entry.left_out == 0).collect()
    }

    /// Forgets what a pattern has brought of a channel between the decision to join it and the
    /// confirmation that it is subscribed to: that is among what was fetched.
    fn forget_strayed(&mut self, name: &[u8], known: SyncState) -> Result<(), Ended> {
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        if matches!(known, SyncState::Interrupted(_)) || pattern_of(name).is_some() {
            return Ok(());
        }
        let (hub, fence, member) = (&self.joined.hub, self.tenant.fence, channel.member);
        self.patiently(|| hub.forget_partial(fence, member))
    }

    /// Enters what is gone of a channel or a pattern, before what comes behind it.
    pub(in crate::redis) fn lose(&mut self, name: &[u8], fetched: &Fetched) -> Result<(), Ended> {
        let Some(channel) = self.channels.get_mut(name) else { return Ok(()) };
        let member = channel.member;
        if pattern_of(name).is_some() {
            let (hub, fence, clock) = (&self.joined.hub, self.tenant.fence, self.clock);
            return self.patiently(|| hub.patterns_subscribed(fence, &[member], clock));
        }
        if fetched.missing == Loss::Everything {
            channel.last = ReportedId::default();
            self.tell_started_over(name);
        }
        let (hub, fence) = (&self.joined.hub, self.tenant.fence);
        self.patiently(|| hub.record_loss(fence, member, fetched.missing))
    }

    /// What a channel lacked is appended: now comes what has come meanwhile, and it is in step.
    pub(in crate::redis) fn settled(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<(), Ended> {
        let Some(member) = self.channels.get(name).map(|channel| channel.member) else {
            return Ok(());
        };
        if self.release(name, known, fetched)? == Released::StartedOver {
            return Ok(());
        }
        if let Some(newest) = fetched.newest.and_then(|id| id.checked(self.latest())) {
            let (hub, fence) = (&self.joined.hub, self.tenant.fence);
            self.patiently(|| hub.raise_high_watermark(fence, newest))?;
        }
        let (joined, fence) = (&self.joined, self.tenant.fence);
        let missing = fetched.missing;
        let listeners = self.patiently(|| joined.hub.caught_up(fence, member, known, missing))?;
        joined.wake(&listeners);
        self.note_settled(name)
    }

    /// A channel is in step, or cannot be had. Once that is so of all whose streams went on, the next
    /// connection knows of all that are in step now that theirs did.
    pub(in crate::redis) fn note_settled(&mut self, name: &[u8]) -> Result<(), Ended> {
        if self.catching.unsettled.remove(name) && self.catching.unsettled.is_empty() {
            let (hub, fence) = (&self.joined.hub, self.tenant.fence);
            self.patiently(|| hub.settled(fence))?;
        }
        Ok(())
    }

    /// An entry of a channel's stream, as it enters the hub.
    pub(in crate::redis) fn fetched<'m>(
        &mut self,
        name: &'m [u8],
        known: SyncState,
        entry: &'m Entry,
    ) -> IncomingEvent<'m> {
        let id = self.judged(name, entry.id);
        let provenance = match known {
            SyncState::Interrupted(_) => Provenance::Missed(id),
            SyncState::Nothing | SyncState::Left(_) => Provenance::Earlier(id),
        };
        let born = match known {
            // It has happened since the stream was last read, whatever its id says.
            SyncState::Interrupted(had) if had == ReportedId::default() || entry.id <= had => {
                self.joined.now().mono
            }
            _ => self.born(entry.id.ms()),
        };
        let event = NewEvent { event_type: &entry.event_type, data: &entry.data };
        IncomingEvent { channel: name, provenance, event, born }
    }

    /// Appends the messages of a channel that waited for it.
    ///
    /// Its stream may have started over while it was read, or before: then a message that waits has an id
    /// that the channel has passed, and what was read may be of the stream before. It is read once more.
    fn release(
        &mut self,
        name: &[u8],
        known: SyncState,
        fetched: &Fetched,
    ) -> Result<Released, Ended> {
        let reading = self.delivery_mode();
        let Some(channel) = self.channels.get_mut(name) else { return Ok(Released::All) };
        let had = match known {
            _ if fetched.missing == Loss::Everything => ReportedId::default(),
            SyncState::Nothing => ReportedId::default(),
            SyncState::Left(had) | SyncState::Interrupted(had) => had,
        };
        channel.last = channel.last.max(fetched.newest.unwrap_or(had)).max(had);
        let added = fetched.added.filter(|_| fetched.newest == Some(channel.last));
        channel.counter = EntryCounter::starting_at(channel.last, added);
        channel.forgotten = ReportedId::default();
        let held = match std::mem::replace(&mut channel.state, SubscriptionState::InStep) {
            SubscriptionState::Joining(mut waiting) => waiting.take(),
            SubscriptionState::Asked
            | SubscriptionState::InStep
            | SubscriptionState::Refused { .. } => Vec::new(),
        };
        let messages: Vec<Message<'_>> = held.iter().map(BufferedMessage::message).collect();
        let mut arrivals = Vec::with_capacity(messages.len());
        let mut started_over = None;
        for (index, message) in messages.iter().enumerate() {
            if is_fetched(message, fetched) {
                continue;
            }
            if let (Message::Durable(event), Some(channel)) = (message, self.channels.get(name)) {
                let order = sequence::place(event.id, event.prev, channel.last, reading);
                if order == EventOrder::Rewound {
                    started_over = Some(index);
                    break;
                }
            }
            let mut arrival = self.arrival(name, message);
            if let (Provenance::Live(id), Some(channel)) =
                (arrival.provenance, self.channels.get_mut(name))
            {
                channel.last = channel.last.max(id.reported());
                // Others have gone on meanwhile, so its number may be below theirs.
                if !matches!(known, SyncState::Interrupted(_)) {
                    arrival.provenance = arrival.provenance.since_subscribed();
                }
            }
            arrivals.push(arrival);
        }
        self.append(&arrivals)?;
        drop(arrivals);
        drop(messages);
        let Some(index) = started_over else { return Ok(Released::All) };
        self.rewound = true;
        let rest = held.into_iter().skip(index).collect();
        self.catch_up_again(name, rest)?;
        Ok(Released::StartedOver)
    }
}
