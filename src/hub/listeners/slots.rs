//! Slots: the processes of a hub, how they are woken, and how their death is noticed.
//!
//! A process holds the lock LIFE of its slot until it ends; the kernel releases that lock however
//! it ends. A process that gets the lock knows that the former owner is gone, and increments the
//! slot's generation, which voids all of the slot's subscriber pairs at once. Process ids are not
//! compared.

use crate::hub::memory::atomic::{fence, AtomicU64, Ordering};
use crate::hub::memory::layout::{header, slot};
use crate::hub::memory::lock::{Attempt, RobustLock, WORDS};
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};

/// If a process was woken this many milliseconds ago and has not read the log since, it is woken
/// again, because the process that woke it may have died before the write.
const WAKE_AGAIN: u64 = 50;

/// Wakes threads of this process and of others.
pub trait Wakers {
    /// Wakes the thread that has this waker. Never blocks.
    fn wake(&self, waker: usize);
}

/// A claimed slot. The process keeps it until it releases it or dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClaim {
    /// The number of the slot.
    pub slot: usize,
    pub(in crate::hub) generation: u64,
}

/// A slot without a process, whose lock LIFE this thread holds. Dropping it releases the lock.
struct FreeSlot {
    number: usize,
    life: RobustLock,
}

impl Drop for FreeSlot {
    fn drop(&mut self) {
        self.life.unlock();
    }
}

impl Hub {
    /// Claims a free slot, or one whose process is gone. Returns `None` if all are taken.
    pub fn claim_slot(&self) -> Option<SlotClaim> {
        let free = (0..self.layout.slots).find_map(|number| self.free_slot(number))?;
        let claim = self.claim(free.number);
        // The lock stays held for as long as this process has the slot.
        std::mem::forget(free);
        Some(claim)
    }

    /// Releases a slot.
    pub fn release_slot(&self, claim: SlotClaim) {
        self.vacate(claim.slot);
        self.life(claim.slot).unlock();
    }

    /// Looks for dead processes and clears their slots. Returns true if a process has died since
    /// this last returned true in any process. That process may have been killed between an append
    /// and the wake-ups, so all processes must be woken, and its streams have to be removed from
    /// the channels.
    pub fn reap_dead(&self) -> bool {
        (0..self.layout.slots).for_each(|number| drop(self.free_slot(number)));
        // If this process dies before it has woken the others, its own death is the next one.
        let deaths = self.region.word(header::DEATHS).load(Ordering::Acquire);
        self.region.word(header::DEATHS_SEEN).swap(deaths, Ordering::AcqRel) != deaths
    }

    /// Sets the waker of the thread that has this slot; `None` if it has none.
    pub fn set_waker(&self, claim: SlotClaim, waker: Option<usize>) {
        let word = waker.map_or(0, |waker| waker as u64 + 1);
        self.region.set(self.layout.slot(claim.slot, slot::WAKER), word);
    }

    /// Wakes the processes in these slots, except those that were woken and have not read the log
    /// since. Call this after the append.
    pub fn wake(&self, slots: &[usize], now: Now, wakers: &(impl Wakers + ?Sized)) {
        for &number in slots {
            let waker = self.region.get(self.layout.slot(number, slot::WAKER));
            if let Some(waker) = (waker as usize).checked_sub(1) {
                if self.needs_wakeup(number, now) {
                    wakers.wake(waker);
                }
            }
        }
    }

    /// Returns whether the process in a slot was woken and has not read the log since.
    pub fn is_woken(&self, claim: SlotClaim) -> bool {
        self.region.get(self.layout.slot(claim.slot, slot::WOKEN_AT)) != 0
    }

    /// Returns whether the process in a slot has to be woken now, and records that it was. Call
    /// this after the append.
    pub(in crate::hub) fn needs_wakeup(&self, number: usize, now: Now) -> bool {
        let woken_at = self.region.word(self.layout.slot(number, slot::WOKEN_AT));
        // Pairs with the fence in `clear_wakeup`: either the reader sees the new head, or this sees
        // its 0.
        fence(Ordering::SeqCst);
        let woken = woken_at.load(Ordering::Relaxed);
        let due = woken == 0 || now.mono.saturating_sub(woken) > WAKE_AGAIN;
        due && woken_at
            .compare_exchange(woken, now.mono.max(1), Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Allows the next wake-up. The process calls this before it reads the log.
    pub fn clear_wakeup(&self, claim: SlotClaim) {
        self.region.word(self.layout.slot(claim.slot, slot::WOKEN_AT)).store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        self.layout.slots
    }

    /// Reports how many streams this process has, and how far it has read.
    pub fn report(&self, claim: SlotClaim, streams: u64, read: u64) {
        self.region.set(self.layout.slot(claim.slot, slot::STREAMS), streams);
        self.region.set(self.layout.slot(claim.slot, slot::READ), read);
    }

    /// Returns whether the processes in these slots have reported that they have read up to a
    /// position.
    pub(in crate::hub) fn have_read(&self, slots: &[usize], position: u64) -> bool {
        let read = |number: &usize| self.region.get(self.layout.slot(*number, slot::READ));
        slots.iter().all(|number| read(number) >= position)
    }

    /// Returns the number of streams of all processes, as they reported them.
    pub(in crate::hub) fn streams(&self) -> u64 {
        (0..self.layout.slots).map(|n| self.region.get(self.layout.slot(n, slot::STREAMS))).sum()
    }

    fn claim(&self, number: usize) -> SlotClaim {
        self.vacate(number);
        let generation = self.region.get(self.layout.slot(number, slot::GENERATION));
        SlotClaim { slot: number, generation }
    }

    /// Voids what the former process left, and counts the streams that ended with it.
    fn vacate(&self, number: usize) {
        let at = self.layout.slot(number, slot::GENERATION);
        let generation = self.region.get(at) + 1;
        self.region.set(at, generation);
        self.region.word(header::VACATED).fetch_add(1, Ordering::Release);
        self.region.set(self.layout.slot(number, slot::WOKEN_AT), 0);
        self.region.set(self.layout.slot(number, slot::WAKER), 0);
        let streams: &AtomicU64 = self.region.word(self.layout.slot(number, slot::STREAMS));
        self.count(Counter::EndedExit, streams.swap(0, Ordering::Relaxed));
        self.region.set(self.layout.slot(number, slot::READ), self.region.get(header::HEAD));
        self.region.set(self.layout.slot(number, slot::QUITTING), 0);
    }

    /// Returns whether a slot has a live process.
    pub(in crate::hub) fn has_live_process(&self, number: usize) -> bool {
        self.free_slot(number).is_none()
    }

    /// Returns the slot if it has no live process. Every attempt to take a lock LIFE is made here.
    /// If the process has died, the slot is cleared and the death is counted.
    fn free_slot(&self, number: usize) -> Option<FreeSlot> {
        let life = self.life(number);
        let died = || {
            self.vacate(number);
            self.region.word(header::DEATHS).fetch_add(1, Ordering::AcqRel);
        };
        match life.try_lock(died) {
            Attempt::Busy => None,
            Attempt::Taken => Some(FreeSlot { number, life }),
        }
    }

    fn life(&self, number: usize) -> RobustLock {
        RobustLock::at(self.region.words(self.layout.slot(number, slot::LIFE), WORDS))
    }
}
