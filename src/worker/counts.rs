//! Increments of the hub's counters that a process has not added to shared memory yet.

use super::socket::{Batch, Sent};
use super::stream::Accounting;
use crate::hub::{Counter, DeliveryTimes, Hub};

/// This many bytes count as one more write in a turn's budget.
const BYTES_OF_A_WRITE: usize = 32 << 10;

/// Increments, and the writes of the current turn.
#[derive(Debug, Default)]
pub struct Counts {
    events: u64,
    bytes: u64,
    gaps: u64,
    delivery_times: DeliveryTimes,
    has_delivery_times: bool,
    /// Writes of the current turn, which its budget limits.
    pub writes: usize,
}

impl Counts {
    /// Counts a write and its bytes. Returns the number of frames that the socket accepted.
    pub fn sent(&mut self, sent: Sent, batch: &Batch, accounting: Accounting) -> usize {
        self.writes += 1 + batch.body_len() / BYTES_OF_A_WRITE;
        let frames = batch.frames();
        let (taken, bytes) = match sent {
            Sent::All => (frames.len(), batch.body_len()),
            Sent::Blocked { taken } => {
                let taken = frames.get(..taken).unwrap_or(frames);
                (taken.len(), taken.iter().map(|frame| frame.body().len()).sum())
            }
            Sent::Failed => (0, 0),
        };
        if accounting == Accounting::Client {
            self.bytes += bytes as u64;
        }
        taken
    }

    /// Counts events that the socket accepted.
    pub fn delivered(&mut self, events: usize, accounting: Accounting) {
        if accounting == Accounting::Client {
            self.events += events as u64;
        }
    }

    /// Counts a gap event that the socket accepted.
    pub fn gap_sent(&mut self, accounting: Accounting) {
        if accounting == Accounting::Client {
            self.gaps += 1;
        }
    }

    /// Counts a fan-out that has reached the last stream this many microseconds after its oldest
    /// event was published.
    pub fn fanned_out(&mut self, microseconds: u64) {
        self.delivery_times.add(microseconds);
        self.has_delivery_times = true;
    }

    /// Adds the increments to the hub's counters.
    pub fn flush(&mut self, hub: &Hub) {
        for (counter, by) in [
            (Counter::EventsOut, &mut self.events),
            (Counter::BytesOut, &mut self.bytes),
            (Counter::Gaps, &mut self.gaps),
        ] {
            if *by > 0 {
                hub.count(counter, std::mem::take(by));
            }
        }
        if std::mem::take(&mut self.has_delivery_times) {
            hub.add_delivery_times(&mut self.delivery_times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::small_hub;
    use super::*;
    use crate::sse::frame;

    #[test]
    fn what_the_socket_accepted_is_counted_once_and_watchers_are_not() {
        let hub = small_hub();
        let batch = Batch::from_frames(vec![frame::heartbeat(), frame::heartbeat()]);
        let size = batch.body_len() as u64;
        let mut counts = Counts::default();
        assert_eq!(counts.sent(Sent::All, &batch, Accounting::Client), 2);
        assert_eq!(counts.sent(Sent::Blocked { taken: 1 }, &batch, Accounting::Client), 1);
        assert_eq!(counts.sent(Sent::Blocked { taken: 9 }, &batch, Accounting::Watcher), 2);
        assert_eq!(counts.sent(Sent::Failed, &batch, Accounting::Client), 0);
        assert_eq!(counts.writes, 4);
        for accounting in [Accounting::Client, Accounting::Watcher] {
            counts.delivered(3, accounting);
            counts.gap_sent(accounting);
        }
        counts.fanned_out(7);
        for _ in 0..2 {
            counts.flush(&hub);
            let stats = hub.stats();
            let figures = [Counter::EventsOut, Counter::BytesOut, Counter::Gaps];
            assert_eq!(figures.map(|counter| stats.counter(counter)), [3, size * 3 / 2, 1]);
            assert_eq!((stats.delivery_times.count(), stats.delivery_times.total()), (1, 7));
        }
    }
}
