//! Compares what clients should receive with what they received: losses, duplicates, order, and
//! latency. It runs once per delivery and does not allocate then.

use crate::event::Stamp;
use crate::histogram::Histogram;
use serde_json::{json, Value};

/// Numbers of errors.
#[derive(Default)]
pub struct Faults {
    /// Events that a client should have received but did not.
    pub lost: u64,
    /// Events that a client received twice.
    pub duplicated: u64,
    /// Events that arrived after a later one of the same lane.
    pub disordered: u64,
    /// Events of another channel, or of another size.
    pub misplaced: u64,
    /// Clients of a channel that received its events in a different order than the first one.
    pub orders: u64,
    /// Streams with invalid chunks.
    pub malformed: u64,
    /// Streams that the server ended unexpectedly.
    pub ended: u64,
    /// Publishes with a response other than 2xx.
    pub refused: u64,
}

impl Faults {
    pub fn as_json(&self) -> Value {
        json!({
            "lost": self.lost, "duplicated": self.duplicated, "disordered": self.disordered,
            "misplaced": self.misplaced, "orders": self.orders, "malformed": self.malformed,
            "ended": self.ended, "refused": self.refused,
        })
    }
}

/// A client's record.
#[derive(Clone, Default)]
struct Seen {
    channel: u32,
    reads: bool,
    /// Skipped events that may still arrive, which would be out of order.
    missing: u32,
    /// A checksum of everything that arrived, in its order.
    order: u64,
}

/// The records of one process.
pub struct Check {
    run: u32,
    lanes: usize,
    size: usize,
    seen: Vec<Seen>,
    /// By client and lane: the number expected next.
    next_in: Vec<u32>,
    /// By channel and lane: the number that is assigned next.
    next_out: Vec<u32>,
    /// By channel: the number of clients that read it.
    readers: Vec<u32>,
    /// By lane: the number of outstanding deliveries of its newest event.
    pub awaited: Vec<u32>,
    pub owed: u64,
    pub delivered: u64,
    pub errors: Faults,
    pub latency: Histogram,
}

impl Check {
    pub fn new(run: u32, clients: usize, channels: usize, lanes: usize, size: usize) -> Self {
        Self {
            run,
            lanes,
            size,
            seen: vec![Seen::default(); clients],
            next_in: vec![0; clients * lanes],
            next_out: vec![0; channels * lanes],
            readers: vec![0; channels],
            awaited: vec![0; lanes],
            owed: 0,
            delivered: 0,
            errors: Faults::default(),
            latency: Histogram::new(),
        }
    }

    /// Records that a client's stream is open and is being read.
    pub fn opened(&mut self, client: usize, channel: u32) {
        if let (Some(seen), Some(readers)) =
            (self.seen.get_mut(client), self.readers.get_mut(channel as usize))
        {
            *seen = Seen { channel, reads: true, ..Seen::default() };
            *readers += 1;
        }
    }

    /// Records that a client's stream has ended.
    pub fn ended(&mut self, client: usize) {
        let Some(seen) = self.seen.get_mut(client) else { return };
        if let Some(readers) = self.readers.get_mut(seen.channel as usize).filter(|_| seen.reads) {
            *readers -= 1;
        }
        seen.reads = false;
    }

    /// Creates the next event of a channel and lane, and expects it at all clients that read the
    /// channel.
    pub fn issue(&mut self, channel: u32, lane: usize, due: u64) -> Stamp {
        let readers = self.readers.get(channel as usize).copied().unwrap_or(0);
        self.owed += u64::from(readers);
        if let Some(awaited) = self.awaited.get_mut(lane) {
            *awaited = readers;
        }
        let mut stamp = Stamp { run: self.run, channel, lane: lane as u16, number: 0, due };
        if let Some(next) = self.next_out.get_mut(channel as usize * self.lanes + lane) {
            stamp.number = *next;
            *next += 1;
        }
        stamp
    }

    /// Records a delivery. Returns whether the lane's newest event has now reached all clients.
    pub fn delivery(&mut self, client: usize, stamp: &Stamp, size: usize, now: u64) -> bool {
        let lane = usize::from(stamp.lane);
        let Some(seen) = self.seen.get_mut(client) else { return false };
        if stamp.run != self.run {
            return false; // of an earlier run, out of history
        }
        if stamp.channel != seen.channel || lane >= self.lanes || size != self.size {
            self.errors.misplaced += 1;
            return false;
        }
        let Some(next) = self.next_in.get_mut(client * self.lanes + lane) else { return false };
        if stamp.number < *next {
            self.late(client);
            return false;
        }
        seen.missing += stamp.number - *next;
        *next = stamp.number + 1;
        let id = u64::from(stamp.number) << 16 | lane as u64;
        seen.order = (seen.order.rotate_left(5) ^ id).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.delivered += 1;
        self.latency.add(now.saturating_sub(stamp.due));
        let Some(awaited) = self.awaited.get_mut(lane) else { return false };
        *awaited = awaited.saturating_sub(1);
        *awaited == 0
    }

    /// Handles an event whose number has been skipped.
    fn late(&mut self, client: usize) {
        let Some(seen) = self.seen.get_mut(client) else { return };
        if seen.missing > 0 {
            seen.missing -= 1;
            self.delivered += 1;
            self.errors.disordered += 1;
        } else {
            self.errors.duplicated += 1;
        }
    }

    /// Counts missing events and differences in order up to now. To be called when nothing is in
    /// flight.
    pub fn close(&mut self) {
        self.errors.lost = self.owed.saturating_sub(self.delivered);
        let mut first: Vec<Option<u64>> = vec![None; self.readers.len()];
        self.errors.orders = 0;
        for seen in self.seen.iter().filter(|seen| seen.reads && seen.missing == 0) {
            let Some(first) = first.get_mut(seen.channel as usize) else { continue };
            self.errors.orders += u64::from(*first.get_or_insert(seen.order) != seen.order);
        }
    }

    pub fn latency_json(&self) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        json!({
            "p50_us": micros(self.latency.quantile(0.5)),
            "p90_us": micros(self.latency.quantile(0.9)),
            "p99_us": micros(self.latency.quantile(0.99)),
            "p999_us": micros(self.latency.quantile(0.999)),
            "max_us": micros(self.latency.max()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the check after two clients of one channel received the events of two lanes in the
    /// given orders.
    fn check(first: &[(usize, u32)], second: &[(usize, u32)]) -> Check {
        let mut check = Check::new(1, 2, 1, 2, 64);
        check.opened(0, 0);
        check.opened(1, 0);
        for lane in [0, 1, 0, 1] {
            check.issue(0, lane, 0);
        }
        for (client, came) in [first, second].into_iter().enumerate() {
            for &(lane, number) in came {
                let stamp = Stamp { run: 1, channel: 0, lane: lane as u16, number, due: 0 };
                check.delivery(client, &stamp, 64, 5);
            }
        }
        check.close();
        check
    }

    #[test]
    fn nothing_wrong() {
        let order = [(1, 0), (0, 0), (0, 1), (1, 1)];
        let check = check(&order, &order);
        assert_eq!((check.owed, check.delivered), (8, 8));
        let errors = check.errors;
        assert_eq!(errors.lost + errors.duplicated + errors.disordered + errors.orders, 0);
    }

    #[test]
    fn every_fault_is_seen() {
        let order = [(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(check(&order, &order[..3]).errors.lost, 1);
        assert_eq!(check(&order, &[order[0], order[1], order[3]]).errors.lost, 1);
        assert_eq!(check(&order, &[order[0], order[0], order[1]]).errors.duplicated, 1);
        assert_eq!(check(&order, &[(0, 1), (0, 0), (1, 0), (1, 1)]).errors.disordered, 1);
        assert_eq!(check(&order, &[(1, 0), (0, 0), (0, 1), (1, 1)]).errors.orders, 1);
    }

    #[test]
    fn closed_twice_counts_once() {
        let mut check = check(&[(0, 0), (1, 0), (0, 1), (1, 1)], &[(1, 0), (0, 0), (0, 1)]);
        let first = check.errors.as_json();
        check.close();
        assert_eq!(check.errors.as_json(), first);
        assert_eq!((check.errors.lost, check.errors.orders), (1, 1));
    }

    #[test]
    fn other_channels_and_sizes_stray() {
        let mut check = Check::new(1, 1, 2, 1, 64);
        check.opened(0, 0);
        let stamp = Stamp { run: 1, channel: 1, lane: 0, number: 0, due: 0 };
        check.delivery(0, &stamp, 64, 0);
        check.delivery(0, &Stamp { channel: 0, ..stamp }, 65, 0);
        check.delivery(0, &Stamp { channel: 0, run: 2, ..stamp }, 64, 0);
        assert_eq!((check.errors.misplaced, check.delivered), (2, 0));
    }
}
