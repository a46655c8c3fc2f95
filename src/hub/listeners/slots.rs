//! Slots: a process's seat in the hub, how it is woken, and how its death is noticed.
//!
//! A tenant holds its slot's life lock until it ends; the kernel frees that lock however it ends.
//! Whoever gets it knows that the former tenant is gone and raises the slot's generation, which
//! voids all its subscriber pairs at once. No process numbers are compared.

use std::sync::atomic::{fence, AtomicU64, Ordering};

use crate::hub::memory::layout::{header, slot};
use crate::hub::memory::lock::{Attempt, RobustLock, WORDS};
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};

/// A tenant that was woken this long ago (ms) and has not looked since is woken again: the process that
/// woke it may have died before the write.
const WAKE_AGAIN: u64 = 50;

/// Wakes threads, of this process and of others.
pub trait Wakers {
    /// Wakes the thread that has this waker. Never blocks.
    fn wake(&self, waker: usize);
}

/// A seat that a process has taken. It keeps it until it leaves or dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClaim {
    /// Which slot.
    pub slot: usize,
    pub(in crate::hub) generation: u64,
}

/// A slot in which nobody lives, and whose life lock this thread holds. Dropping it frees the lock.
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
    /// Takes a free slot, or one whose tenant is gone. `None`: all are taken.
    pub fn claim_slot(&self) -> Option<SlotClaim> {
        let free = (0..self.layout.slots).find_map(|number| self.free_slot(number))?;
        let claim = self.claim(free.number);
        // Held for as long as this process lives in it.
        std::mem::forget(free);
        Some(claim)
    }

    /// Gives the slot back.
    pub fn release_slot(&self, claim: SlotClaim) {
        self.vacate(claim.slot);
        self.life(claim.slot).unlock();
    }

    /// Looks whether tenants of other slots have died, and clears their seats. True if one had since
    /// this last was true in any process: it may have been killed between an append and the wake-ups,
    /// so all must be woken, and its streams are to be taken away from the channels.
    pub fn reap_dead(&self) -> bool {
        (0..self.layout.slots).for_each(|number| drop(self.free_slot(number)));
        // Should this process die before it has rung, its own death is the next one.
        let deaths = self.region.word(header::DEATHS).load(Ordering::Acquire);
        self.region.word(header::DEATHS_SEEN).swap(deaths, Ordering::AcqRel) != deaths
    }

    /// Enters the waker of the thread that has this seat; `None` if it has none.
    pub fn set_waker(&self, claim: SlotClaim, waker: Option<usize>) {
        let word = waker.map_or(0, |waker| waker as u64 + 1);
        self.region.set(self.layout.slot(claim.slot, slot::WAKER), word);
    }

    /// Wakes the tenants of these slots, unless they have been woken and not looked at the log since. To
    /// be called after the append.
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

    /// Whether the tenant of a seat has been woken and not looked at the log since.
    pub fn is_woken(&self, claim: SlotClaim) -> bool {
        self.region.get(self.layout.slot(claim.slot, slot::WOKEN_AT)) != 0
    }

    /// Whether the tenant of a slot must be woken with its bell now. To be asked after the append.
    pub(in crate::hub) fn needs_wakeup(&self, number: usize, now: Now) -> bool {
        let bell = self.region.word(self.layout.slot(number, slot::WOKEN_AT));
        // Pairs with the fence in `hush`: either the reader sees the new head, or this sees its 0.
        fence(Ordering::SeqCst);
        let rung = bell.load(Ordering::Relaxed);
        let due = rung == 0 || now.mono.saturating_sub(rung) > WAKE_AGAIN;
        due && bell
            .compare_exchange(rung, now.mono.max(1), Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Lets the bell ring again. The tenant calls this before it reads the log.
    pub fn clear_wakeup(&self, claim: SlotClaim) {
        self.region.word(self.layout.slot(claim.slot, slot::WOKEN_AT)).store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// All slots.
    pub fn slots(&self) -> usize {
        self.layout.slots
    }

    /// Tells the others how many streams this process has, and how far it has read.
    pub fn report(&self, claim: SlotClaim, streams: u64, read: u64) {
        self.region.set(self.layout.slot(claim.slot, slot::STREAMS), streams);
        self.region.set(self.layout.slot(claim.slot, slot::READ), read);
    }

    /// Streams of all processes, as they reported them.
    pub(in crate::hub) fn streams(&self) -> u64 {
        (0..self.layout.slots).map(|n| self.region.get(self.layout.slot(n, slot::STREAMS))).sum()
    }

    fn claim(&self, number: usize) -> SlotClaim {
        self.vacate(number);
        let generation = self.region.get(self.layout.slot(number, slot::GENERATION));
        SlotClaim { slot: number, generation }
    }

    /// Voids what a former tenant left, and counts the streams that went with it.
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

    /// Whether a slot has a living tenant.
    pub(in crate::hub) fn has_live_process(&self, number: usize) -> bool {
        self.free_slot(number).is_none()
    }

    /// The slot, if nobody lives in it. Every attempt to take a life lock comes through here: where it
    /// finds that the tenant has died, the slot is cleared and the death counted.
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
