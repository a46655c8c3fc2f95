//! Appends what was read when a connection opens: all entries that were fetched of its channels,
//! and the messages that arrived in the meantime, in one order. Channels were read one after the
//! other, so a message of one may be older than an entry that was read of another.

use std::collections::{HashMap, VecDeque};

use crate::hub::{pattern_of, Loss, ReportedId};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::message::{Control, Message};
use crate::redis::message_order::{classify, InOrder, MessageAction, Released, WaitingOrder};
use crate::redis::ordered_event::LogStep;
use crate::redis::session::forget::is_later;
use crate::redis::session::ingest::{parsed, MessageTarget};
use crate::redis::session::page_reader::CaughtUp;
use crate::redis::session::settle::read_up_to;
use crate::redis::session::Session;
use crate::redis::subscription_table::FollowedChannel;
use crate::sse::id::EntryId;

/// The messages of channels whose streams have to be read once more, by channel.
pub(in crate::redis) type UnreadMessages = HashMap<Box<[u8]>, Vec<BufferedMessage>>;

/// The events, and the order of the messages that follow.
struct OpeningBatch<'m> {
    /// The events and losses, and the ids by which they are sorted.
    events: Vec<(EntryId, LogStep<'m>)>,
    /// The order of the messages of each channel that was fetched.
    orders: HashMap<&'m [u8], WaitingOrder>,
    /// The newest id of a message so far. Messages before the first durable one arrived after
    /// the last id that the clock had issued.
    newest: EntryId,
    unread: UnreadMessages,
}

impl Session {
    /// Appends what was fetched of all channels and the messages that have arrived, ordered by
    /// id. Returns the messages of channels whose streams have to be read once more.
    pub(in crate::redis) async fn append_all(
        &mut self,
        caught: &[CaughtUp],
    ) -> Result<UnreadMessages, Ended> {
        self.record_losses(caught).await?;
        let pushes = self.inbox.take_all();
        let messages: Vec<_> = pushes.iter().map(|push| parsed(push, self.token)).collect();
        let targets = self.targets(&pushes)?;
        let mut batch = OpeningBatch {
            events: self.fetched_events(caught),
            orders: self.orders(caught, &targets, &messages),
            newest: self.clock,
            unread: UnreadMessages::new(),
        };
        for ((push, target), message) in pushes.iter().zip(&targets).zip(&messages) {
            match *target {
                MessageTarget::None => {}
                MessageTarget::Control(control) => {
                    self.obey_while_opening(control, &mut batch).await?
                }
                MessageTarget::Channel(name) => {
                    if let Push::TooLarge { bytes, .. } = push {
                        self.log_too_large(name, *bytes);
                    }
                    if let Some(message) = message {
                        self.add_to_batch(name, message, &mut batch)?;
                    }
                }
            }
        }
        let OpeningBatch { mut events, unread, .. } = batch;
        for name in unread.keys() {
            self.set_out_of_sync(name).await?;
        }
        // Stable: events of one channel, and messages, are already in order.
        events.sort_by_key(|(id, _)| *id);
        self.append_steps(events.into_iter().map(|(_, step)| step)).await?;
        let latest = self.latest();
        let newest = caught.iter().filter_map(|one| one.fetched.newest?.checked(latest)).max();
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        let mark = self.clock.max(newest.unwrap_or_default());
        self.with_lock(|| hub.raise_high_watermark(fence, mark)).await?;
        Ok(unread)
    }

    /// Records the losses of these channels, before anything is appended.
    async fn record_losses(&mut self, caught: &[CaughtUp]) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        let (patterns, named): (Vec<_>, Vec<_>) =
            caught.iter().partition(|caught| pattern_of(&caught.name).is_some());
        let members = patterns.iter().filter_map(|caught| self.channels.get(&caught.name));
        let members: Vec<_> = members.map(|channel| channel.member).collect();
        if !members.is_empty() {
            let newest = self.newest_id().await?;
            self.with_lock(|| hub.patterns_subscribed(fence, &members, newest)).await?;
        }
        for one in named {
            self.record_loss(&one.name, &one.fetched).await?;
        }
        Ok(())
    }

    /// Returns the channel of each message.
    fn targets<'m>(&mut self, pushes: &'m VecDeque<Push>) -> Result<Vec<MessageTarget<'m>>, Ended> {
        pushes.iter().map(|push| self.target_of(push)).collect()
    }

    /// Returns the fetched events and what is lost between them, and the ids by which they are
    /// sorted.
    pub(in crate::redis) fn fetched_events<'m>(
        &mut self,
        caught: &'m [CaughtUp],
    ) -> Vec<(EntryId, LogStep<'m>)> {
        let mut events = Vec::new();
        for CaughtUp { name, known, fetched, between, .. } in caught {
            let lost = |up_to: &EntryId| (*up_to, LogStep::Loss(name, Loss::UpTo(*up_to)));
            events.extend(between.iter().map(lost));
            // An event with an implausible id is sorted with the one before it.
            let mut id = EntryId::default();
            for entry in self.readable(name, &fetched.entries) {
                let event = self.fetched(name, *known, entry);
                id = event.entry_id().unwrap_or(id);
                events.push((id, LogStep::Event(event)));
            }
        }
        events
    }

    /// Returns the order of the messages of these channels.
    fn orders<'m>(
        &mut self,
        caught: &'m [CaughtUp],
        targets: &[MessageTarget<'_>],
        messages: &[Option<Message<'_>>],
    ) -> HashMap<&'m [u8], WaitingOrder> {
        let mut ids: HashMap<&[u8], Vec<Option<ReportedId>>> = HashMap::new();
        for (target, message) in targets.iter().zip(messages) {
            match (target, message) {
                (_, None | Some(Message::Doubtful(_))) => {}
                (MessageTarget::Channel(name), Some(message)) => {
                    ids.entry(name).or_default().push(message.id());
                }
                (MessageTarget::Control(_) | MessageTarget::None, _) => {}
            }
        }
        let named = caught.iter().filter(|one| pattern_of(&one.name).is_none());
        let order = |CaughtUp { name, known, fetched, .. }: &'m CaughtUp| {
            let channel = self.channels.get_mut(name)?;
            channel.last = read_up_to(channel.last, *known, fetched);
            let ids = ids.remove(&name[..]).unwrap_or_default();
            Some((&name[..], WaitingOrder::new(ids, 0, fetched, channel.last)))
        };
        named.filter_map(order).collect()
    }

    /// Handles a control message of another nginx.
    async fn obey_while_opening(
        &mut self,
        control: Control<'_>,
        batch: &mut OpeningBatch<'_>,
    ) -> Result<(), Ended> {
        match control {
            Control::Marker(_) => {}
            Control::Forget(name, up_to) => {
                self.forget(name, up_to).await?;
                batch.events.retain(|(_, event)| match event {
                    LogStep::Event(event) => {
                        event.channel() != name || is_later(event.provenance(), up_to)
                    }
                    LogStep::Loss(..) => true,
                });
                if let Some(messages) = batch.unread.get_mut(name) {
                    messages.clear();
                }
            }
            Control::Doubtful(name, _) => {
                // The channel may have been fetched before the deletion.
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.is_doubted(false);
                }
            }
        }
        Ok(())
    }

    /// Adds a message, unless it was fetched already, has to wait, or is doubtful.
    fn add_to_batch<'m>(
        &mut self,
        name: &'m [u8],
        message: &'m Message<'m>,
        batch: &mut OpeningBatch<'m>,
    ) -> Result<(), Ended> {
        if let Message::Doubtful(id) = message {
            return self.doubt_later(name, *id);
        }
        if let Some(messages) = batch.unread.get_mut(name) {
            messages.push(BufferedMessage::copy_of(message));
            return Ok(());
        }
        let checked = match batch.orders.get_mut(name) {
            Some(order) => match order.release(message) {
                // No message arrived before the streams began to be read, so each hole is read.
                Released::Append(checked) | Released::AppendAfterLoss(checked, _) => checked,
                Released::AlreadyRead => {
                    // Plain messages that follow were published after it.
                    let id = message.id().and_then(|id| id.checked(self.latest()));
                    batch.newest = batch.newest.max(id.unwrap_or_default());
                    return Ok(());
                }
                Released::ReadAgain => {
                    batch.unread.insert(name.into(), vec![BufferedMessage::copy_of(message)]);
                    return Ok(());
                }
            },
            None => match self.checked_while_opening(name, message) {
                Some(checked) => checked,
                None => return Ok(()),
            },
        };
        let mut event = self.event_of(checked, name, message);
        if self.channels.get(name).is_some_and(FollowedChannel::is_subscribed_by_name) {
            self.note_last(name, message);
        } else {
            event = event.strayed();
        }
        batch.newest = batch.newest.max(event.entry_id().unwrap_or_default());
        batch.events.push((batch.newest, LogStep::Event(event)));
        Ok(())
    }

    /// Checks a message of a channel that was not fetched, which waits if the channel is still to
    /// catch up.
    fn checked_while_opening(&mut self, name: &[u8], message: &Message<'_>) -> Option<InOrder> {
        let order = self.order_of(name);
        match classify(message, order, self.delivery_mode(), false) {
            MessageAction::Append(checked) => Some(checked),
            MessageAction::Wait => {
                self.hold(name, BufferedMessage::copy_of(message));
                None
            }
            // No channel is in sync before it has been fetched.
            MessageAction::CatchUp
            | MessageAction::StartOver
            | MessageAction::DropRepetition(_)
            | MessageAction::Skip
            | MessageAction::LookUp(_) => None,
        }
    }
}
