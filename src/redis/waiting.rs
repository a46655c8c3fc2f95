//! Messages that wait until their channel has caught up, and the limits of their size.

use std::cell::Cell;
use std::rc::Rc;

use crate::hub::ReportedId;
use crate::redis::buffered_message::BufferedMessage;

/// Bytes of all messages that wait on a connection. A channel's share is subtracted when its
/// messages are dropped.
#[derive(Clone, Debug, Default)]
pub struct WaitingBytes(Rc<Cell<usize>>);

/// Messages of one channel that wait.
pub struct WaitingMessages {
    messages: Vec<BufferedMessage>,
    /// Number of messages that arrived before the reading of the stream began.
    before: usize,
    /// Bytes of these messages.
    bytes: usize,
    /// Whether there were too many: none is kept, and the stream has to be read further.
    is_full: bool,
    of_all: WaitingBytes,
}

/// Whether a message was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits.
    Waits,
    /// There were too many: all messages of the channel were dropped.
    Overflowed,
    /// There had been too many before: the message was dropped.
    Dropped,
}

impl WaitingBytes {
    /// Returns an empty list for a channel.
    pub fn for_channel(&self) -> WaitingMessages {
        WaitingMessages {
            messages: Vec::new(),
            before: 0,
            bytes: 0,
            is_full: false,
            of_all: self.clone(),
        }
    }

    /// Returns the bytes of all messages.
    #[cfg(test)]
    pub fn sum(&self) -> usize {
        self.0.get()
    }
}

impl WaitingMessages {
    /// Keeps a message, unless its channel would then have more than half of `most` bytes, or all
    /// channels more than `most`.
    pub fn keep(&mut self, message: BufferedMessage, most: usize) -> Admission {
        if self.is_full {
            return Admission::Dropped;
        }
        let bytes = message.size();
        if self.bytes + bytes > most / 2 || self.of_all.0.get() + bytes > most {
            self.clear();
            self.is_full = true;
            return Admission::Overflowed;
        }
        self.messages.push(message);
        self.bytes += bytes;
        self.of_all.0.set(self.of_all.0.get() + bytes);
        Admission::Waits
    }

    /// Records that the stream is read from now on. It has the events of all messages that wait
    /// already.
    pub fn reading_begins(&mut self) {
        self.before = self.messages.len();
    }

    /// Returns how many messages arrived before the stream began to be read.
    pub fn arrived_before(&self) -> usize {
        self.before
    }

    /// Returns whether messages of the channel were dropped. From now on, they are kept again.
    pub fn was_full(&mut self) -> bool {
        std::mem::take(&mut self.is_full)
    }

    /// Whether messages wait, or were dropped.
    pub fn has_had_any(&self) -> bool {
        self.is_full || !self.messages.is_empty()
    }

    /// Drops the messages.
    pub fn clear(&mut self) {
        self.take();
    }

    /// Removes and returns the plain messages that arrived before a durable event that was read,
    /// each with the id of the first such event after it.
    pub fn take_plain_before(
        &mut self,
        is_read: impl Fn(ReportedId) -> bool,
    ) -> Vec<(ReportedId, BufferedMessage)> {
        let (mut next, mut kept, mut taken) = (None, Vec::new(), Vec::new());
        let all = std::mem::take(&mut self.messages);
        for (index, message) in all.into_iter().enumerate().rev() {
            let id = message.id();
            next = id.filter(|id| is_read(*id)).or(next);
            match next {
                Some(next) if id.is_none() => {
                    self.before -= usize::from(index < self.before);
                    self.bytes -= message.size();
                    self.of_all.0.set(self.of_all.0.get().saturating_sub(message.size()));
                    taken.push((next, message));
                }
                _ => kept.push(message),
            }
        }
        kept.reverse();
        taken.reverse();
        self.messages = kept;
        taken
    }

    /// Removes and returns the messages.
    pub fn take(&mut self) -> Vec<BufferedMessage> {
        self.of_all.0.set(self.of_all.0.get().saturating_sub(std::mem::take(&mut self.bytes)));
        self.before = 0;
        std::mem::take(&mut self.messages)
    }
}

impl Drop for WaitingMessages {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Durable, Message};
    use super::*;
    use crate::sse::id::EntryId;

    const MOST: usize = 10_000;

    fn message(bytes: usize) -> BufferedMessage {
        BufferedMessage::copy_of(&Message::Plain(vec![b'x'; bytes].into()))
    }

    #[test]
    fn what_waits_is_given_back_however_it_goes() {
        let all = WaitingBytes::default();
        let (mut a, mut b, mut c) = (all.for_channel(), all.for_channel(), all.for_channel());
        for waiting in [&mut a, &mut b, &mut c] {
            assert_eq!(waiting.keep(message(1_000), MOST), Admission::Waits);
        }
        let one = all.sum() / 3;
        assert!(one >= 1_000);
        assert_eq!(a.take().len(), 1);
        assert_eq!(all.sum(), 2 * one);
        b.clear();
        assert_eq!(all.sum(), one);
        drop(c);
        assert_eq!(all.sum(), 0);
        drop((a, b));
        assert_eq!(all.sum(), 0);
    }

    #[test]
    fn the_limits_are_exact_and_what_arrived_before_the_reading_is_counted() {
        let overhead = message(0).size();
        let of = |bytes: usize| message(bytes - overhead);
        let all = WaitingBytes::default();
        let (mut a, mut b, mut c) = (all.for_channel(), all.for_channel(), all.for_channel());
        assert_eq!(a.keep(of(MOST / 2 - 1_000), MOST), Admission::Waits);
        a.reading_begins();
        assert_eq!(a.keep(of(1_000), MOST), Admission::Waits);
        assert_eq!((a.arrived_before(), all.sum()), (1, MOST / 2));
        assert_eq!(b.keep(of(MOST / 2 - 1_000), MOST), Admission::Waits);
        assert_eq!(c.keep(of(1_001), MOST), Admission::Overflowed);
        assert!(c.was_full());
        assert_eq!(c.keep(of(1_000), MOST), Admission::Waits);
        assert_eq!(a.keep(of(overhead), MOST), Admission::Overflowed);
        assert_eq!((a.arrived_before(), all.sum()), (0, MOST / 2));
    }

    #[test]
    fn plain_messages_are_taken_with_the_next_event_that_was_read() {
        let id = |ms| ReportedId::from(EntryId { ms, seq: 0 });
        let durable = |ms| {
            let (event_type, data) = (b"".into(), b"x".into());
            let event = Durable { id: id(ms), prev: id(ms - 1), event_type, data };
            BufferedMessage::copy_of(&Message::Durable(event))
        };
        let all = WaitingBytes::default();
        let mut waiting = all.for_channel();
        waiting.keep(message(1), MOST);
        waiting.keep(durable(5), MOST);
        waiting.reading_begins();
        for next in [message(2), durable(6), message(3), durable(7), message(4)] {
            waiting.keep(next, MOST);
        }
        let is = |ids: &'static [u64]| move |one: ReportedId| ids.iter().any(|ms| one == id(*ms));
        let lengths = |taken: Vec<(ReportedId, BufferedMessage)>| -> Vec<_> {
            taken.iter().map(|(id, one)| (*id, one.size() - message(0).size())).collect()
        };
        assert!(lengths(waiting.take_plain_before(is(&[4]))).is_empty());
        assert_eq!(lengths(waiting.take_plain_before(is(&[6]))), [(id(6), 1), (id(6), 2)]);
        assert_eq!(waiting.arrived_before(), 1);
        assert_eq!(lengths(waiting.take_plain_before(is(&[6, 7]))), [(id(7), 3)]);
        let rest = waiting.take();
        let ids: Vec<_> = rest.iter().map(BufferedMessage::id).collect();
        assert_eq!(ids, [Some(id(5)), Some(id(6)), Some(id(7)), None]);
        assert_eq!(all.sum(), 0);
        // Only those that arrived before the reading began are subtracted.
        for one in [message(1), durable(5)] {
            waiting.keep(one, MOST);
        }
        waiting.reading_begins();
        waiting.keep(message(2), MOST);
        waiting.keep(durable(6), MOST);
        assert_eq!(lengths(waiting.take_plain_before(is(&[5]))), [(id(5), 1)]);
        assert_eq!(waiting.arrived_before(), 1);
        assert_eq!(lengths(waiting.take_plain_before(is(&[6]))), [(id(6), 2)]);
        assert_eq!(waiting.arrived_before(), 1);
    }

    #[test]
    fn one_channel_takes_half_and_all_together_what_there_is() {
        let all = WaitingBytes::default();
        let mut alone = all.for_channel();
        assert_eq!(alone.keep(message(MOST / 2), MOST), Admission::Overflowed);
        let mut greedy = all.for_channel();
        let kept = (0..100).find_map(|_| match greedy.keep(message(1_000), MOST) {
            Admission::Waits => None,
            other => Some(other),
        });
        assert_eq!(kept, Some(Admission::Overflowed));
        assert_eq!(greedy.keep(message(1), MOST), Admission::Dropped);
        assert!(greedy.has_had_any() && !all.for_channel().has_had_any());
        assert!(greedy.was_full() && greedy.take().is_empty());
        assert_eq!(all.sum(), 0);

        let mut others: Vec<_> = (0..20).map(|_| all.for_channel()).collect();
        let waits =
            |other: &mut WaitingMessages| other.keep(message(1_000), MOST) == Admission::Waits;
        let count = others.iter_mut().filter_map(|other| waits(other).then_some(())).count();
        assert!((5..10).contains(&count), "{count}");
        assert!(all.sum() <= MOST);
    }
}
