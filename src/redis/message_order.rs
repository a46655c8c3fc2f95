//! The order of a channel's messages: which are appended, which wait until the channel's stream has
//! been read, and before which events were missed. All decisions are pure functions. An approved
//! message gets an [`InOrder`], without which no message becomes an event of the hub.

use crate::hub::{Loss, ReportedId};
use crate::redis::catch_up::Fetched;
use crate::redis::message::Message;

/// How messages are delivered at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Each message arrives once, at this process alone.
    Alone,
    /// For a while after a handover, messages that the former holder has received arrive here,
    /// too.
    Repeats,
    /// A holder and its successor count messages together, so no plain one may be held back.
    Counts,
}

/// Proof that the order of a message was checked. Only this module creates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InOrder(());

/// The order of a durable event in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventOrder {
    /// After the last one.
    Next,
    /// A repetition, or the first event of a stream that has started over.
    Repetition,
    /// Events before it were missed, and have to be read first.
    AfterGap,
    /// The stream has started over, and has to be read.
    StartedOver,
}

/// What is known about a channel when one of its messages arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// The channel is not subscribed to; a pattern matches it.
    Unfollowed,
    /// Its stream is being read. `is_matched`: a pattern that is subscribed to matches it as well.
    CatchingUp { is_matched: bool },
    /// Everything up to this id was appended.
    InSync(ReportedId),
}

/// What a message requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageAction {
    /// It is appended.
    Append(InOrder),
    /// It is dropped. It is a repetition, or the channel's stream has started over, which shows
    /// when it is read afterwards. Its id.
    DropRepetition(ReportedId),
    /// It is a plain message that the former holder has appended.
    Skip,
    /// It waits until its channel has caught up.
    Wait,
    /// Events before it were missed: the channel's stream is read first.
    CatchUp,
    /// The channel's stream has started over, and is read first.
    StartOver,
    /// It is not appended: the channel's stream shows whether it is genuine, and what was missed
    /// before it. The id that it claims.
    LookUp(ReportedId),
}

/// Decides what a message requires. `skips`: whether plain messages that the former holder has
/// appended are still expected.
pub fn classify(
    message: &Message<'_>,
    channel: ChannelOrder,
    mode: DeliveryMode,
    skips: bool,
) -> MessageAction {
    let event = match message {
        Message::Doubtful(id) => return MessageAction::LookUp(*id),
        Message::Plain(_) => None,
        Message::Durable(event) => Some(event),
    };
    match (event, channel) {
        // The former holder has received these, by their names or through a pattern.
        (None, ChannelOrder::CatchingUp { is_matched: true }) if skips => MessageAction::Skip,
        (None, ChannelOrder::InSync(_) | ChannelOrder::Unfollowed) if skips => MessageAction::Skip,
        (_, ChannelOrder::CatchingUp { .. }) => MessageAction::Wait,
        (None, _) | (Some(_), ChannelOrder::Unfollowed) => MessageAction::Append(InOrder(())),
        (Some(event), ChannelOrder::InSync(last)) => {
            match order(event.id, event.prev, last, mode) {
                EventOrder::Next => MessageAction::Append(InOrder(())),
                EventOrder::Repetition => MessageAction::DropRepetition(event.id),
                // The next holder reads it, or this process if there is none.
                EventOrder::AfterGap if mode == DeliveryMode::Counts => {
                    MessageAction::LookUp(event.id)
                }
                EventOrder::AfterGap => MessageAction::CatchUp,
                EventOrder::StartedOver => MessageAction::StartOver,
            }
        }
    }
}

/// Returns the order of an event with this id, whose predecessor in the stream is `prev`, in a
/// channel whose last event was `last`.
fn order(id: ReportedId, prev: ReportedId, last: ReportedId, mode: DeliveryMode) -> EventOrder {
    if prev > last {
        EventOrder::AfterGap
    } else if id > last {
        EventOrder::Next
    } else if mode == DeliveryMode::Alone {
        EventOrder::StartedOver
    } else {
        EventOrder::Repetition
    }
}

/// What to do with a message that waited while its channel's stream was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is appended.
    Append(InOrder),
    /// It is appended after the loss of everything up to this id, which the stream does not have
    /// any more.
    AppendAfterLoss(InOrder, ReportedId),
    /// It was read from the stream.
    AlreadyRead,
    /// Events before it are missing, or the stream has started over. It and all following
    /// messages wait until the stream has been read once more.
    ReadAgain,
}

/// Returns whether a message that waited is a plain one, which is appended before the durable event
/// that arrived after it.
pub fn before_next_event(message: &Message<'_>) -> Option<InOrder> {
    matches!(message, Message::Plain(_)).then_some(InOrder(()))
}

/// Decides, in the order of arrival, what to do with the messages of one channel that waited while
/// its stream was read. A message whose id is not above those that were read may have been read, or
/// the stream has started over since. The order of arrival shows which: everything before a message
/// that was read was published before the stream was read.
#[derive(Clone, Copy, Debug)]
pub struct WaitingOrder {
    /// The id of the newest event that was read or appended.
    last: ReportedId,
    /// The newest id that was read.
    newest: Option<ReportedId>,
    /// Whether the stream had started over when it was read.
    started_over: bool,
    /// Number of messages that were published before the stream was read.
    published_before: usize,
    /// Number of these that arrived before its reading began.
    arrived_before: usize,
    /// Number of messages that have been released.
    released: usize,
}

impl WaitingOrder {
    /// Returns the order of messages with these ids (`None` for a plain one). `last` is the id up
    /// to which the channel has been read, and `arrived_before` the number of messages that arrived
    /// before its reading began.
    pub fn new(
        ids: impl IntoIterator<Item = Option<ReportedId>>,
        arrived_before: usize,
        fetched: &Fetched,
        last: ReportedId,
    ) -> WaitingOrder {
        let is_read = |id: ReportedId| {
            fetched.newest == Some(id)
                || fetched.entries.binary_search_by_key(&id, |entry| entry.id).is_ok()
        };
        let read = ids.into_iter().enumerate().filter(|(_, id)| id.is_some_and(is_read)).last();
        WaitingOrder {
            last,
            newest: fetched.newest,
            started_over: fetched.missing == Loss::Everything,
            published_before: read.map_or(0, |(index, _)| index + 1).max(arrived_before),
            arrived_before,
            released: 0,
        }
    }

    /// Decides what becomes of the next message.
    pub fn release(&mut self, message: &Message<'_>) -> Released {
        let index = self.released;
        self.released += 1;
        let event = match message {
            Message::Durable(event) => event,
            Message::Plain(_) | Message::Doubtful(_) => return Released::Append(InOrder(())),
        };
        let is_passed = self.newest.is_some_and(|newest| event.id <= newest);
        if index < self.published_before && (is_passed || self.started_over) {
            return Released::AlreadyRead;
        }
        // The stream was read after this message had arrived, so it is not read once more.
        let is_settled = index < self.arrived_before;
        match order(event.id, event.prev, self.last, DeliveryMode::Alone) {
            EventOrder::AfterGap | EventOrder::StartedOver | EventOrder::Repetition
                if !is_settled =>
            {
                Released::ReadAgain
            }
            EventOrder::StartedOver | EventOrder::Repetition => Released::AlreadyRead,
            EventOrder::Next => {
                self.last = self.last.max(event.id);
                Released::Append(InOrder(()))
            }
            EventOrder::AfterGap => {
                self.last = self.last.max(event.id);
                Released::AppendAfterLoss(InOrder(()), event.prev)
            }
        }
    }
}

#[cfg(test)]
mod tests;
