//! Turns messages into events: parses them, checks their order, and appends them to the hub in
//! batches.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::hub::{ReportedId, Source};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::message::{self, parse_control, Control, Message};
use crate::redis::message_order::{classify, ChannelOrder, DeliveryMode, InOrder, MessageAction};
use crate::redis::ordered_event::{ingest, OrderedEvent};
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::redis::token::Token;
use crate::redis::waiting::Admission;
use crate::sse::escaped::Escaped;

/// Maximum number of events that are appended in one hold of the hub's lock.
const BATCH: usize = 64;
/// Maximum bytes of these events.
const BATCH_BYTES: usize = 64 << 10;
/// Maximum number of messages that are processed before the session does something else.
const IN_A_TURN: usize = 16 * BATCH;

/// The payload of a message that was too large and skipped.
static NOTHING: Vec<u8> = Vec::new();

/// What a message belongs to.
pub(in crate::redis) enum MessageTarget<'m> {
    Channel(&'m [u8]),
    /// A control message of another nginx.
    Control(Control<'m>),
    /// Irrelevant, or also received through another subscription.
    None,
}

/// What to do with a message.
enum IngestStep<'m> {
    /// Append it.
    Append(OrderedEvent<'m>),
    /// Keep it until its channel is in sync.
    Hold(&'m [u8], BufferedMessage),
    /// Fetch the events of its channel that were missed before it.
    Missed(&'m [u8], BufferedMessage),
    /// Look its claimed id up in its channel's stream.
    Doubt(&'m [u8], ReportedId),
    /// Skip it, because it was too large; its size in bytes.
    TooLarge(&'m [u8], u64),
    /// Handle a control message.
    Control(Control<'m>),
    /// Ignore it.
    Ignore,
}

impl Session {
    /// Processes all messages that have arrived, but waits before a successor's marker for
    /// channels that are being looked up.
    pub(in crate::redis) async fn process_inbox(&mut self) -> Result<(), Ended> {
        self.process_up_to(usize::MAX).await
    }

    /// Processes messages that have arrived, as many as one turn of the session permits.
    pub(in crate::redis) async fn process_some(&mut self) -> Result<(), Ended> {
        self.process_up_to(IN_A_TURN).await
    }

    async fn process_up_to(&mut self, most: usize) -> Result<(), Ended> {
        if self.holds_marker() {
            return Ok(());
        }
        let mut pushes = self.inbox.take(most);
        let marker = pushes.iter().position(|push| self.is_marker(push));
        let behind = marker.map(|at| pushes.split_off(at));
        self.process(&pushes).await?;
        let Some(behind) = behind else { return Ok(()) };
        if self.reach_marker().await? {
            self.process(&behind).await
        } else {
            self.inbox.put_back(behind);
            Ok(())
        }
    }

    /// Processes these pushes in order.
    pub(in crate::redis) async fn process(&mut self, pushes: &VecDeque<Push>) -> Result<(), Ended> {
        let mut taken = 0;
        while taken < pushes.len() {
            let some = taken..pushes.len().min(taken + BATCH);
            let messages = pushes.range(some.clone()).map(|push| parsed(push, self.token));
            let messages: Vec<_> = messages.collect();
            let mut batch = Vec::with_capacity(messages.len());
            for (push, message) in pushes.range(some).zip(&messages) {
                taken += 1;
                match self.step_for(push, message).await? {
                    IngestStep::Append(arrival) => {
                        batch.push(arrival);
                        continue;
                    }
                    IngestStep::Ignore => continue,
                    IngestStep::Hold(name, held) => self.hold(name, held),
                    IngestStep::Missed(name, held) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.catch_up_again(name, vec![held]).await?;
                    }
                    IngestStep::Doubt(name, id) => {
                        self.append(&batch).await?;
                        batch.clear();
                        // Redis may have lost the token.
                        self.send_heartbeat();
                        self.doubt(name, id).await?;
                    }
                    IngestStep::TooLarge(name, bytes) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.skip_too_large(name, bytes).await?;
                    }
                    IngestStep::Control(control) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.handle_control(control).await?;
                    }
                }
            }
            self.append(&batch).await?;
        }
        Ok(())
    }

    /// Returns what a message belongs to.
    pub(in crate::redis) fn target_of<'m>(
        &mut self,
        push: &'m Push,
    ) -> Result<MessageTarget<'m>, Ended> {
        let (subject, payload, pattern) = match push {
            Push::Message { subject, payload } => (subject, payload, None),
            Push::Matched { pattern, subject, payload } => (subject, payload, Some(pattern)),
            Push::TooLarge { pattern, subject, .. } => (subject, &NOTHING, pattern.as_ref()),
            Push::Subscribed { subject } => {
                self.confirm(subject);
                return Ok(MessageTarget::None);
            }
            Push::End => return Err(Ended::Lost("the connection was lost".into())),
        };
        if *subject == self.context.names.control() {
            // Control messages that arrive through a pattern are duplicates.
            let control = pattern.is_none().then(|| parse_control(payload, self.token)).flatten();
            return Ok(control.map_or(MessageTarget::None, MessageTarget::Control));
        }
        if self.context.hub.source() == Source::Streams {
            self.note_growth(subject);
            return Ok(MessageTarget::None);
        }
        let Some(name) = self.context.channel_of(subject) else { return Ok(MessageTarget::None) };
        let by_name = self.channels.get(name).is_some_and(FollowedChannel::is_subscribed_by_name);
        let taken = match pattern {
            None => by_name,
            // A message that several subscriptions match is processed once.
            Some(pattern) => !by_name && self.is_first_match(pattern, name),
        };
        Ok(if taken { MessageTarget::Channel(name) } else { MessageTarget::None })
    }

    async fn step_for<'m>(
        &mut self,
        push: &'m Push,
        message: &'m Option<Message<'m>>,
    ) -> Result<IngestStep<'m>, Ended> {
        let name = match self.target_of(push)? {
            MessageTarget::Channel(name) => name,
            MessageTarget::Control(control) => return Ok(IngestStep::Control(control)),
            MessageTarget::None => return Ok(IngestStep::Ignore),
        };
        if let Push::TooLarge { bytes, .. } = push {
            return Ok(IngestStep::TooLarge(name, *bytes));
        }
        let Some(message) = message else { return Ok(IngestStep::Ignore) };
        let (mode, skips) = (self.delivery_mode(), self.repeats.skips());
        let order = self.order_of(name);
        let clock = self.clock.into();
        let known = self.channels.get_mut(name).filter(|channel| channel.is_subscribed_by_name());
        if let (Some(channel), Some(id)) = (known, message.id()) {
            channel.note_first_by_name(id, clock);
        }
        Ok(match classify(message, order, mode, skips) {
            MessageAction::Append(checked) => {
                let event = self.event_of(checked, name, message);
                if order == ChannelOrder::Unfollowed {
                    IngestStep::Append(event.strayed())
                } else {
                    self.note_last(name, message);
                    IngestStep::Append(event)
                }
            }
            MessageAction::DropRepetition(id) => {
                self.doubt_repetition(name, id).await?;
                IngestStep::Ignore
            }
            MessageAction::Skip => {
                self.repeats.skip_one();
                IngestStep::Ignore
            }
            MessageAction::Wait => IngestStep::Hold(name, BufferedMessage::copy_of(message)),
            MessageAction::CatchUp => IngestStep::Missed(name, BufferedMessage::copy_of(message)),
            MessageAction::StartOver => {
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.is_rewound = true;
                }
                IngestStep::Missed(name, BufferedMessage::copy_of(message))
            }
            MessageAction::LookUp(id) => IngestStep::Doubt(name, id),
        })
    }

    /// Returns what is known about a channel when one of its messages arrives.
    pub(in crate::redis) fn order_of(&self, name: &[u8]) -> ChannelOrder {
        let Some(channel) = self.channels.get(name) else { return ChannelOrder::Unfollowed };
        match &channel.state {
            SubscriptionState::Requested | SubscriptionState::Refused { .. } => {
                ChannelOrder::Unfollowed
            }
            SubscriptionState::CatchingUp(_) => {
                let is_matched = self.repeats.skips() && self.channels.first_match(name).is_some();
                ChannelOrder::CatchingUp { is_matched }
            }
            SubscriptionState::InSync => ChannelOrder::InSync(channel.last),
        }
    }

    /// Records that a message is the newest of its channel that was appended.
    pub(in crate::redis) fn note_last(&mut self, name: &[u8], message: &Message<'_>) {
        if let (Some(channel), Some(id)) = (self.channels.get_mut(name), message.id()) {
            channel.last = channel.last.max(id);
        }
    }

    /// Returns how messages are delivered at the moment.
    pub(in crate::redis) fn delivery_mode(&self) -> DeliveryMode {
        // While a holder and its successor count messages together, none is held back.
        if self.counts_for_successor() || self.repeats.skips() {
            return DeliveryMode::Counts;
        }
        // Messages that the former holder has received after the marker arrive here, too.
        if self.repeats.are_expected(Instant::now()) {
            return DeliveryMode::Repeats;
        }
        DeliveryMode::Alone
    }

    /// Appends a batch, and wakes the processes that listen.
    pub(in crate::redis) async fn append(
        &mut self,
        batch: &[OrderedEvent<'_>],
    ) -> Result<(), Ended> {
        let mut rest = batch;
        while !rest.is_empty() {
            let some = &rest[..one_hold(rest)];
            let (context, fence) = (&self.context, self.holder.fence);
            let arrived =
                self.with_lock(|| ingest(&context.hub, fence, some, context.now())).await?;
            context.wake(&arrived.listeners);
            if arrived.too_large > 0 {
                let largest = some.iter().max_by_key(|event| event.size());
                if let Some(largest) = largest {
                    self.log_too_large(largest.channel(), largest.size() as u64);
                }
            }
            rest = &rest[arrived.dealt..];
        }
        Ok(())
    }

    /// Skips a message that was too large. It counts as a plain message, in a successor too,
    /// because its kind is unknown.
    async fn skip_too_large(&mut self, name: &[u8], bytes: u64) -> Result<(), Ended> {
        if self.repeats.skips() {
            self.repeats.skip_one();
            return Ok(());
        }
        let (hub, fence) = (&self.context.hub, self.holder.fence);
        self.with_lock(|| hub.skip_event(fence, name)).await?;
        self.log_too_large(name, bytes);
        Ok(())
    }

    pub(in crate::redis) fn log_too_large(&mut self, channel: &[u8], bytes: u64) {
        if !self.too_large_lines.permits() {
            return;
        }
        self.context.log(
            crate::redis::context::LogLevel::Warn,
            format_args!(
                "an event of {bytes} bytes from Redis on channel \"{}\" is larger than \
                 max_event_size and was skipped",
                Escaped(channel),
            ),
        );
    }

    /// Returns the event of a message that is in order.
    pub(in crate::redis) fn event_of<'m>(
        &mut self,
        checked: InOrder,
        name: &'m [u8],
        message: &'m Message<'m>,
    ) -> OrderedEvent<'m> {
        let id = message.id().map(|id| self.judged(name, id));
        OrderedEvent::from_message(checked, name, message, id, self.context.now().time())
    }

    /// Appends the waiting messages of channels that are given up before they are in sync, for
    /// streams of patterns, which would otherwise miss them.
    pub(in crate::redis) async fn append_held(&mut self) -> Result<(), Ended> {
        let mut given_up = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if let SubscriptionState::CatchingUp(waiting) = &mut channel.state {
                given_up.push((name.clone(), waiting.take()));
            }
        }
        given_up.retain(|(name, _)| self.channels.first_match(name).is_some());
        for (name, held) in &given_up {
            let messages: Vec<Message<'_>> = held.iter().map(BufferedMessage::message).collect();
            let mut arrivals = Vec::with_capacity(messages.len());
            for message in &messages {
                let (order, mode) = (ChannelOrder::Unfollowed, self.delivery_mode());
                if let MessageAction::Append(checked) = classify(message, order, mode, false) {
                    arrivals.push(self.event_of(checked, name, message).strayed());
                }
            }
            self.append(&arrivals).await?;
        }
        Ok(())
    }

    /// Keeps a message until its channel has caught up. If there are too many, all are dropped:
    /// the stream still has the durable ones.
    pub(in crate::redis) fn hold(&mut self, name: &[u8], message: BufferedMessage) {
        let most = self.context.most_held();
        let Some(SubscriptionState::CatchingUp(waiting)) =
            self.channels.get_mut(name).map(|channel| &mut channel.state)
        else {
            return;
        };
        if waiting.keep(message, most) == Admission::Overflowed {
            self.log_full_channel(name);
        }
    }

    fn log_full_channel(&mut self, name: &[u8]) {
        if !self.full_lines.permits() {
            return;
        }
        self.context.log(
            crate::redis::context::LogLevel::Warn,
            format_args!(
                "too many messages are waiting until channel \"{}\" has caught up with Redis; its \
                 plain messages are lost until then",
                Escaped(name)
            ),
        );
    }
}

/// Returns how many of these events are appended in one hold of the hub's lock.
fn one_hold(events: &[OrderedEvent<'_>]) -> usize {
    let mut bytes = 0;
    let few = events.iter().take(BATCH).take_while(|event| {
        bytes += event.size();
        bytes <= BATCH_BYTES
    });
    few.count().max(1)
}

pub(in crate::redis) fn parsed<'m>(push: &'m Push, token: Option<Token>) -> Option<Message<'m>> {
    match push {
        Push::Message { payload, .. } | Push::Matched { payload, .. } => {
            Some(message::parse(payload, token))
        }
        Push::TooLarge { .. } | Push::Subscribed { .. } | Push::End => None,
    }
}

#[cfg(test)]
mod tests;
