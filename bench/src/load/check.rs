//! What is owed to the clients and what came: loss, doubles, order, latency. It is asked once per
//! delivery and allocates nothing then.

use crate::event::Stamp;
use crate::histogram::Histogram;
use serde_json::{json, Value};

/// What must not happen, counted.
#[derive(Default)]
pub struct Faults {
    /// Events that a client was owed and never got.
    pub lost: u64,
    /// Events that a client got again.
    pub doubled: u64,
    /// Events that came after a later one of the same lane.
    pub disordered: u64,
    /// Events of another channel, or of another size.
    pub strayed: u64,
    /// Clients of one channel that saw its events in another order than the first did.
    pub orders: u64,
    /// Streams whose chunks were not as HTTP says.
    pub malformed: u64,
    /// Streams that ended by themselves.
    pub ended: u64,
    /// Publishes answered with anything but 2xx.
    pub refused: u64,
}

impl Faults {
    pub fn as_json(&self) -> Value {
        json!({
            "lost": self.lost, "doubled": self.doubled, "disordered": self.disordered,
            "strayed": self.strayed, "orders": self.orders, "malformed": self.malformed,
            "ended": self.ended, "refused": self.refused,
        })
    }
}

/// One client's record.
#[derive(Clone, Default)]
struct Seen {
    channel: u32,
    reads: bool,
    /// Events passed over that may still come, which would be disorder.
    missing: u32,
    /// Sum of all that came, in its order.
    order: u64,
}

/// The books of one process.
pub struct Check {
    run: u32,
    lanes: usize,
    size: usize,
    seen: Vec<Seen>,
    /// By client and lane: the number that must come next.
    next_in: Vec<u32>,
    /// By channel and lane: the number that is given next.
    next_out: Vec<u32>,
    /// By channel: how many clients read it.
    readers: Vec<u32>,
    /// By lane: deliveries of its newest event that have not come.
    pub awaited: Vec<u32>,
    pub owed: u64,
    pub delivered: u64,
    pub faults: Faults,
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
            faults: Faults::default(),
            latency: Histogram::new(),
        }
    }

    /// A client's stream is open and read.
    pub fn opened(&mut self, client: usize, channel: u32) {
        if let (Some(seen), Some(readers)) =
            (self.seen.get_mut(client), self.readers.get_mut(channel as usize))
        {
            *seen = Seen { channel, reads: true, ..Seen::default() };
            *readers += 1;
        }
    }

    /// A client's stream is over.
    pub fn ended(&mut self, client: usize) {
        let Some(seen) = self.seen.get_mut(client) else { return };
        if let Some(readers) = self.readers.get_mut(seen.channel as usize).filter(|_| seen.reads) {
            *readers -= 1;
        }
        seen.reads = false;
    }

    /// Makes the next event of a channel and lane, and owes it to all who read the channel.
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

    /// An event has come to a client. True when its lane's newest event has now come to all.
    pub fn delivery(&mut self, client: usize, stamp: &Stamp, size: usize, now: u64) -> bool {
        let lane = usize::from(stamp.lane);
        let Some(seen) = self.seen.get_mut(client) else { return false };
        if stamp.run != self.run {
            return false; // of an earlier run, out of history
        }
        if stamp.channel != seen.channel || lane >= self.lanes || size != self.size {
            self.faults.strayed += 1;
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

    /// An event came whose number was passed already.
    fn late(&mut self, client: usize) {
        let Some(seen) = self.seen.get_mut(client) else { return };
        if seen.missing > 0 {
            seen.missing -= 1;
            self.delivered += 1;
            self.faults.disordered += 1;
        } else {
            self.faults.doubled += 1;
        }
    }

    /// Counts what never came and whose order differs, until now; to be called when nothing is on
    /// its way.
    pub fn close(&mut self) {
        self.faults.lost = self.owed.saturating_sub(self.delivered);
        let mut first: Vec<Option<u64>> = vec![None; self.readers.len()];
        self.faults.orders = 0;
        for seen in self.seen.iter().filter(|seen| seen.reads && seen.missing == 0) {
            let Some(first) = first.get_mut(seen.channel as usize) else { continue };
            self.faults.orders += u64::from(*first.get_or_insert(seen.order) != seen.order);
        }
    }

    pub fn latency_json(&self) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        json!({
            "p50_us": micros(self.latency.quantile(0.5)),
            "p99_us": micros(self.latency.quantile(0.99)),
            "max_us": micros(self.latency.max()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients of one channel, to whom the events of two lanes come in the given orders.
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
        let faults = check.faults;
        assert_eq!(faults.lost + faults.doubled + faults.disordered + faults.orders, 0);
    }

    #[test]
    fn every_fault_is_seen() {
        let order = [(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(check(&order, &order[..3]).faults.lost, 1);
        assert_eq!(check(&order, &[order[0], order[1], order[3]]).faults.lost, 1);
        assert_eq!(check(&order, &[order[0], order[0], order[1]]).faults.doubled, 1);
        assert_eq!(check(&order, &[(0, 1), (0, 0), (1, 0), (1, 1)]).faults.disordered, 1);
        assert_eq!(check(&order, &[(1, 0), (0, 0), (0, 1), (1, 1)]).faults.orders, 1);
    }

    #[test]
    fn closed_twice_counts_once() {
        let mut check = check(&[(0, 0), (1, 0), (0, 1), (1, 1)], &[(1, 0), (0, 0), (0, 1)]);
        let first = check.faults.as_json();
        check.close();
        assert_eq!(check.faults.as_json(), first);
        assert_eq!((check.faults.lost, check.faults.orders), (1, 1));
    }

    #[test]
    fn other_channels_and_sizes_stray() {
        let mut check = Check::new(1, 1, 2, 1, 64);
        check.opened(0, 0);
        let stamp = Stamp { run: 1, channel: 1, lane: 0, number: 0, due: 0 };
        check.delivery(0, &stamp, 64, 0);
        check.delivery(0, &Stamp { channel: 0, ..stamp }, 65, 0);
        check.delivery(0, &Stamp { channel: 0, run: 2, ..stamp }, 64, 0);
        assert_eq!((check.faults.strayed, check.delivered), (2, 0));
    }
}
