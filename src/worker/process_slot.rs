//! A process's slot in the hub, and how the processes of the hub wake each other.

use crate::hub::{Hub, Now, SlotClaim, Wakers};

/// The slot of this process, if there was a free one.
pub struct ProcessSlot {
    claim: Option<SlotClaim>,
    wakers: &'static dyn Wakers,
    /// This process's number among `wakers`.
    waker: Option<usize>,
}

impl ProcessSlot {
    /// Claims a slot. `waker` is the number of this process among `wakers`, or `None` if no other
    /// process can wake it.
    pub fn new(hub: &Hub, wakers: &'static dyn Wakers, waker: Option<usize>) -> ProcessSlot {
        let mut slot = ProcessSlot { claim: None, wakers, waker };
        slot.claim_if_none(hub);
        slot
    }

    /// Claims a slot, if this process has none.
    pub fn claim_if_none(&mut self, hub: &Hub) {
        if self.claim.is_none() {
            self.claim = hub.claim_slot();
            self.store_waker(hub);
        }
    }

    /// Sets the number of this process among the wakers.
    pub fn set_waker(&mut self, hub: &Hub, waker: usize) {
        self.waker = Some(waker);
        self.store_waker(hub);
    }

    fn store_waker(&self, hub: &Hub) {
        if let Some(claim) = self.claim {
            hub.set_waker(claim, self.waker);
        }
    }

    /// Whether other processes can wake this one.
    pub fn has_waker(&self) -> bool {
        self.waker.is_some()
    }

    /// Whether other processes can and will wake this one.
    pub fn is_reachable(&self) -> bool {
        self.claim.is_some() && self.waker.is_some()
    }

    /// Whether this process has been woken, or has no slot and therefore has to poll.
    pub fn is_woken(&self, hub: &Hub) -> bool {
        self.claim.is_none_or(|claim| hub.is_woken(claim))
    }

    /// Returns the slot's claim; `None` if no slot was free.
    pub fn claim(&self) -> Option<SlotClaim> {
        self.claim
    }

    /// Returns the slot's index.
    pub fn index(&self) -> Option<usize> {
        self.claim.map(|claim| claim.slot)
    }

    /// Wakes the processes in these slots, except this one.
    pub fn wake_others(&self, hub: &Hub, slots: &[usize], now: Now) {
        let own = slots.iter().position(|slot| Some(*slot) == self.index());
        let (before, after) = slots.split_at(own.unwrap_or(slots.len()));
        hub.wake(before, now, self.wakers);
        hub.wake(after.get(1..).unwrap_or_default(), now, self.wakers);
    }

    /// Frees the slot.
    pub fn release(&mut self, hub: &Hub) {
        if let Some(claim) = self.claim.take() {
            hub.release_slot(claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::tests::{small_hub, START};
    use super::*;

    static WOKEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    struct Recorded;

    impl Wakers for Recorded {
        fn wake(&self, waker: usize) {
            WOKEN.lock().unwrap().push(waker);
        }
    }

    #[test]
    fn a_process_wakes_others_and_not_itself() {
        let hub = small_hub();
        let mut slots = [10, 11, 12].map(|waker| ProcessSlot::new(&hub, &Recorded, Some(waker)));
        let [first, middle, last] = [0, 1, 2].map(|i| slots[i].index().unwrap());
        slots[1].wake_others(&hub, &[first, middle, last], START);
        assert_eq!(std::mem::take(&mut *WOKEN.lock().unwrap()), [10, 12]);
        assert_eq!([0, 1, 2].map(|i: usize| slots[i].is_woken(&hub)), [true, false, true]);
        // There is no free slot for another process, so it has to poll until there is one.
        let mut fourth = ProcessSlot::new(&hub, &Recorded, None);
        assert!(fourth.claim().is_none() && fourth.is_woken(&hub) && !fourth.is_reachable());
        slots[0].release(&hub);
        fourth.claim_if_none(&hub);
        assert!(fourth.index() == Some(first) && !fourth.has_waker() && !fourth.is_woken(&hub));
        fourth.set_waker(&hub, 13);
        assert!(fourth.is_reachable());
        slots[1].wake_others(&hub, &[first, last], START);
        assert_eq!(std::mem::take(&mut *WOKEN.lock().unwrap()), [13]);
    }
}
