//! Messages become events: parsed, put in order, and appended to the hub in batches.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::hub::{ReportedId, Source};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::message::{self, parse_control, Control, Message};
use crate::redis::message_order::{classify, ChannelOrder, DeliveryMode, InOrder, MessageAction};
use crate::redis::ordered_event::{ingest, OrderedEvent};
use crate::redis::session::{Session, TELL_EVERY};
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::redis::token::Token;
use crate::redis::waiting::Admission;
use crate::sse::escaped::Escaped;

/// Events that are appended under one hold of the hub's lock.
const BATCH: usize = 64;
/// Bytes of these.
const BATCH_BYTES: usize = 64 << 10;

/// The payload of a message that was not read.
static NOTHING: Vec<u8> = Vec::new();

/// Of which channel a message is.
pub(in crate::redis) enum MessageTarget<'m> {
    Channel(&'m [u8]),
    /// Of none: what another nginx tells.
    Control(Control<'m>),
    /// It is nothing to us, or comes by another subscription as well.
    Nobody,
}

/// What one message asks for.
enum Turn<'m> {
    /// It enters the log.
    Append(OrderedEvent<'m>),
    /// Its channel is not in step: it waits.
    Hold(&'m [u8], BufferedMessage),
    /// Events of its channel were missed before it.
    Missed(&'m [u8], BufferedMessage),
    /// Only its channel's stream knows what it is. The id that it claims.
    Doubt(&'m [u8], ReportedId),
    /// A message of so many bytes that was too large to be read.
    LeaveOut(&'m [u8], u64),
    /// What another nginx tells.
    Control(Control<'m>),
    /// It is nothing to us.
    PassOver,
}

impl Session {
    /// Takes in all that the connection has brought, but waits before a successor's marker for channels that
    /// are being looked up.
    pub(in crate::redis) async fn take_in(&mut self) -> Result<(), Ended> {
        if self.keeps_marker() {
            return Ok(());
        }
        let mut pushes = self.inbox.take();
        let marker = pushes.iter().position(|push| self.is_marker(push));
        let behind = marker.map(|at| pushes.split_off(at));
        self.take(&pushes).await?;
        let Some(behind) = behind else { return Ok(()) };
        if self.comes_to_marker().await? {
            self.take(&behind).await
        } else {
            self.inbox.put_back(behind);
            Ok(())
        }
    }

    /// Takes in these pushes, in their order.
    pub(in crate::redis) async fn take(&mut self, pushes: &VecDeque<Push>) -> Result<(), Ended> {
        let mut taken = 0;
        while taken < pushes.len() {
            let some = taken..pushes.len().min(taken + BATCH);
            let messages = pushes.range(some.clone()).map(|push| parsed(push, self.token));
            let messages: Vec<_> = messages.collect();
            let mut batch = Vec::with_capacity(messages.len());
            for (push, message) in pushes.range(some).zip(&messages) {
                taken += 1;
                match self.turn(push, message).await? {
                    Turn::Append(arrival) => {
                        batch.push(arrival);
                        continue;
                    }
                    Turn::PassOver => continue,
                    Turn::Hold(name, held) => self.hold(name, held),
                    Turn::Missed(name, held) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.catch_up_in_order(
                            vec![(name.into(), vec![held])],
                            pushes.range(taken..),
                        )
                        .await?;
                    }
                    Turn::Doubt(name, id) => {
                        self.append(&batch).await?;
                        batch.clear();
                        // Redis may have lost the token.
                        self.beat();
                        self.doubt(name, id, pushes.range(taken..)).await?;
                    }
                    Turn::LeaveOut(name, bytes) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.leave_out(name, bytes).await?;
                    }
                    Turn::Control(control) => {
                        self.append(&batch).await?;
                        batch.clear();
                        self.follow(control, pushes.range(taken..)).await?;
                    }
                }
            }
            self.append(&batch).await?;
        }
        Ok(())
    }

    /// Of which channel a message is, if it is to be taken.
    pub(in crate::redis) fn whose<'m>(
        &mut self,
        push: &'m Push,
    ) -> Result<MessageTarget<'m>, Ended> {
        let (subject, payload, pattern) = match push {
            Push::Message { subject, payload } => (subject, payload, None),
            Push::Matched { pattern, subject, payload } => (subject, payload, Some(pattern)),
            Push::TooLarge { pattern, subject, .. } => (subject, &NOTHING, pattern.as_ref()),
            Push::Subscribed { subject } => {
                self.confirm(subject);
                return Ok(MessageTarget::Nobody);
            }
            Push::End => return Err(Ended::Lost("the connection is broken".into())),
        };
        if *subject == self.joined.names.control() {
            // What a pattern brings of it is a double.
            let control = pattern.is_none().then(|| parse_control(payload, self.token)).flatten();
            return Ok(control.map_or(MessageTarget::Nobody, MessageTarget::Control));
        }
        if self.joined.hub.source() == Source::Streams {
            self.note_growth(subject);
            return Ok(MessageTarget::Nobody);
        }
        let Some(name) = self.joined.channel_of(subject) else { return Ok(MessageTarget::Nobody) };
        let by_name = self.channels.get(name).is_some_and(FollowedChannel::comes_by_name);
        let taken = match pattern {
            None => by_name,
            // A message that several subscriptions match is taken once.
            Some(pattern) => !by_name && self.is_first_match(pattern, name),
        };
        Ok(if taken { MessageTarget::Channel(name) } else { MessageTarget::Nobody })
    }

    async fn turn<'m>(
        &mut self,
        push: &'m Push,
        message: &'m Option<Message<'m>>,
    ) -> Result<Turn<'m>, Ended> {
        let name = match self.whose(push)? {
            MessageTarget::Channel(name) => name,
            MessageTarget::Control(control) => return Ok(Turn::Control(control)),
            MessageTarget::Nobody => return Ok(Turn::PassOver),
        };
        if let Push::TooLarge { bytes, .. } = push {
            return Ok(Turn::LeaveOut(name, *bytes));
        }
        let Some(message) = message else { return Ok(Turn::PassOver) };
        let (mode, skips) = (self.delivery_mode(), self.repeats.skips());
        let order = self.order_of(name);
        let clock = self.clock.into();
        let known = self.channels.get_mut(name).filter(|channel| channel.comes_by_name());
        if let (Some(channel), Some(id)) = (known, message.id()) {
            channel.comes_while_joining(id, clock);
        }
        Ok(match classify(message, order, mode, skips) {
            MessageAction::Append(checked) => {
                let event = self.event_of(checked, name, message);
                if order == ChannelOrder::Unfollowed {
                    Turn::Append(event.strayed())
                } else {
                    self.note_last(name, message);
                    Turn::Append(event)
                }
            }
            MessageAction::DropRepetition(id) => {
                self.doubt_repetition(name, id).await?;
                Turn::PassOver
            }
            MessageAction::Skip => {
                self.repeats.skip_one();
                Turn::PassOver
            }
            MessageAction::Wait => Turn::Hold(name, BufferedMessage::of(message)),
            MessageAction::CatchUp => Turn::Missed(name, BufferedMessage::of(message)),
            MessageAction::StartOver => {
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.is_rewound = true;
                }
                Turn::Missed(name, BufferedMessage::of(message))
            }
            MessageAction::LookUp(id) => Turn::Doubt(name, id),
        })
    }

    /// Returns what decides about a message of a channel.
    pub(in crate::redis) fn order_of(&self, name: &[u8]) -> ChannelOrder {
        let Some(channel) = self.channels.get(name) else { return ChannelOrder::Unfollowed };
        match &channel.state {
            SubscriptionState::Asked | SubscriptionState::Refused { .. } => {
                ChannelOrder::Unfollowed
            }
            SubscriptionState::Joining(_) => {
                let is_matched = self.repeats.skips() && self.channels.first_match(name).is_some();
                ChannelOrder::CatchingUp { is_matched }
            }
            SubscriptionState::InStep => ChannelOrder::InStep(channel.last),
        }
    }

    /// Notes that a message is the newest of its channel that was appended.
    pub(in crate::redis) fn note_last(&mut self, name: &[u8], message: &Message<'_>) {
        if let (Some(channel), Some(id)) = (self.channels.get_mut(name), message.id()) {
            channel.last = channel.last.max(id);
        }
    }

    /// How messages are read now.
    pub(in crate::redis) fn delivery_mode(&self) -> DeliveryMode {
        // While a holder and its successor count together nothing is held back.
        if self.counts_for_heir() || self.repeats.skips() {
            return DeliveryMode::Counts;
        }
        // What the former holder has had behind the marker comes here as well.
        if self.repeats.are_expected(Instant::now()) {
            return DeliveryMode::Repeats;
        }
        DeliveryMode::Alone
    }

    /// Appends a batch, and wakes who listens.
    pub(in crate::redis) async fn append(
        &mut self,
        batch: &[OrderedEvent<'_>],
    ) -> Result<(), Ended> {
        let mut rest = batch;
        while !rest.is_empty() {
            let some = &rest[..one_hold(rest)];
            let (joined, fence) = (&self.joined, self.tenant.fence);
            let arrived = self.with_lock(|| ingest(&joined.hub, fence, some, joined.now())).await?;
            joined.wake(&arrived.listeners);
            if arrived.too_large > 0 {
                let largest = some.iter().max_by_key(|event| event.size());
                if let Some(largest) = largest {
                    self.tell_too_large(largest.channel(), largest.size() as u64);
                }
            }
            rest = &rest[arrived.dealt..];
        }
        Ok(())
    }

    /// Passes over a message that was not read, as large as it is. Whether it was a plain one nobody
    /// knows; a successor takes it for one as well.
    async fn leave_out(&mut self, name: &[u8], bytes: u64) -> Result<(), Ended> {
        if self.repeats.skips() {
            self.repeats.skip_one();
            return Ok(());
        }
        let (hub, fence) = (&self.joined.hub, self.tenant.fence);
        self.with_lock(|| hub.skip_message(fence)).await?;
        self.tell_too_large(name, bytes);
        Ok(())
    }

    pub(in crate::redis) fn tell_too_large(&mut self, channel: &[u8], bytes: u64) {
        if self.told_too_large.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told_too_large = Some(Instant::now());
        self.joined.log(
            crate::redis::context::LogLevel::Warn,
            format_args!(
                "an event of {bytes} bytes from Redis on channel \"{}\" is larger than max_event_size \
                 and is left out",
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
        OrderedEvent::from_message(checked, name, message, id, self.joined.now().time())
    }

    /// Appends what waits for channels that are given up before they are in step, for the streams of
    /// patterns that match them: nobody brings it again.
    pub(in crate::redis) async fn append_held(&mut self) -> Result<(), Ended> {
        let mut given_up = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if let SubscriptionState::Joining(waiting) = &mut channel.state {
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

    /// Keeps a message until its channel has been caught up. If there are too many of them none is kept: the
    /// durable ones are in the stream.
    pub(in crate::redis) fn hold(&mut self, name: &[u8], message: BufferedMessage) {
        let most = self.joined.most_held();
        let Some(SubscriptionState::Joining(waiting)) =
            self.channels.get_mut(name).map(|channel| &mut channel.state)
        else {
            return;
        };
        if waiting.keep(message, most) == Admission::Overflowed {
            self.tell_full_channel(name);
        }
    }

    fn tell_full_channel(&mut self, name: &[u8]) {
        if self.told_full.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told_full = Some(tokio::time::Instant::now());
        self.joined.log(
            crate::redis::context::LogLevel::Warn,
            format_args!(
                "more comes on channel \"{}\" than can wait until it is caught up with Redis: until then \
                 its plain messages are lost",
                Escaped(name)
            ),
        );
    }
}

/// How many of these events are appended under one hold of the hub's lock.
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
