//! Messages that wait until their channel has caught up, and the limits of their size.

use std::cell::Cell;
use std::rc::Rc;

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
    use super::super::message::Message;
    use super::*;

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
    fn one_channel_takes_half_and_all_together_what_there_is() {
        let all = WaitingBytes::default();
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
