//! Slots: a process's seat in the hub, how it is woken, and how its death is noticed.
//!
//! A tenant holds its slot's life lock until it ends; the kernel frees that lock however it ends.
//! Whoever gets it knows that the former tenant is gone and raises the slot's generation, which
//! voids all its subscriber pairs at once. No process numbers are compared.

use std::sync::atomic::{fence, AtomicU64, Ordering};

use super::layout::{header, slot};
use super::lock::{Attempt, RobustLock, WORDS};
use super::stats::Counter;
use super::{Hub, Now};

/// A tenant that was woken this long ago (ms) and has not looked since is woken again: the process that
/// woke it may have died before the write.
const RING_AGAIN: u64 = 50;

/// Wakes threads, of this process and of others.
pub trait Wakers {
    /// Wakes the thread that has this waker. Never blocks.
    fn wake(&self, waker: usize);
}

/// A seat that a process has taken. It keeps it until it leaves or dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which slot.
    pub slot: usize,
    pub(super) generation: u64,
}

impl Hub {
    /// Takes a free slot, or one whose tenant is gone. `None`: all are taken.
    pub fn take_seat(&self) -> Option<Seat> {
        (0..self.layout.slots).find_map(|number| match self.life(number).try_lock() {
            Attempt::Busy => None,
            Attempt::Taken | Attempt::TakenFromDead => Some(self.seat(number)),
        })
    }

    /// Gives the slot back.
    pub fn leave_seat(&self, seat: Seat) {
        self.vacate(seat.slot);
        self.life(seat.slot).unlock();
    }

    /// Looks whether tenants of other slots have died, and clears their seats. True if one had:
    /// it may have been killed between an append and the wake-ups, so all must be woken.
    pub fn bury_dead(&self) -> bool {
        let mut died = false;
        for number in 0..self.layout.slots {
            match self.life(number).try_lock() {
                Attempt::Busy => continue,
                Attempt::Taken => {}
                Attempt::TakenFromDead => {
                    self.vacate(number);
                    died = true;
                }
            }
            self.life(number).unlock();
        }
        died
    }

    /// Enters the waker of the thread that has this seat; `None` if it has none.
    pub fn set_waker(&self, seat: Seat, waker: Option<usize>) {
        let word = waker.map_or(0, |waker| waker as u64 + 1);
        self.region.set(self.layout.slot(seat.slot, slot::WAKER), word);
    }

    /// Wakes the tenants of these slots, unless they have been woken and not looked at the log since. To
    /// be called after the append.
    pub fn wake(&self, slots: &[usize], now: Now, wakers: &(impl Wakers + ?Sized)) {
        for &number in slots {
            let waker = self.region.get(self.layout.slot(number, slot::WAKER));
            if let Some(waker) = (waker as usize).checked_sub(1) {
                if self.must_ring(number, now) {
                    wakers.wake(waker);
                }
            }
        }
    }

    /// Whether the tenant of a seat has been woken and not looked at the log since.
    pub fn is_woken(&self, seat: Seat) -> bool {
        self.region.get(self.layout.slot(seat.slot, slot::BELL)) != 0
    }

    /// Whether the tenant of a slot must be woken with its bell now. To be asked after the append.
    pub(super) fn must_ring(&self, number: usize, now: Now) -> bool {
        let bell = self.region.word(self.layout.slot(number, slot::BELL));
        // Pairs with the fence in `hush`: either the reader sees the new head, or this sees its 0.
        fence(Ordering::SeqCst);
        let rung = bell.load(Ordering::Relaxed);
        let due = rung == 0 || now.mono.saturating_sub(rung) > RING_AGAIN;
        due && bell
            .compare_exchange(rung, now.mono.max(1), Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Lets the bell ring again. The tenant calls this before it reads the log.
    pub fn hush(&self, seat: Seat) {
        self.region.word(self.layout.slot(seat.slot, slot::BELL)).store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// All slots.
    pub fn slots(&self) -> usize {
        self.layout.slots
    }

    /// Tells the others how many streams this process has, and how far it has read.
    pub fn report(&self, seat: Seat, streams: u64, read: u64) {
        self.region.set(self.layout.slot(seat.slot, slot::STREAMS), streams);
        self.region.set(self.layout.slot(seat.slot, slot::READ), read);
    }

    /// Streams of all processes, as they reported them.
    pub(super) fn streams(&self) -> u64 {
        (0..self.layout.slots).map(|n| self.region.get(self.layout.slot(n, slot::STREAMS))).sum()
    }

    fn seat(&self, number: usize) -> Seat {
        self.vacate(number);
        let generation = self.region.get(self.layout.slot(number, slot::GENERATION));
        Seat { slot: number, generation }
    }

    /// Voids what a former tenant left, and counts the streams that went with it.
    fn vacate(&self, number: usize) {
        let at = self.layout.slot(number, slot::GENERATION);
        let generation = self.region.get(at) + 1;
        self.region.set(at, generation);
        self.region.word(header::VACATED).fetch_add(1, Ordering::Release);
        self.region.set(self.layout.slot(number, slot::BELL), 0);
        self.region.set(self.layout.slot(number, slot::WAKER), 0);
        let streams: &AtomicU64 = self.region.word(self.layout.slot(number, slot::STREAMS));
        self.count(Counter::EndedExit, streams.swap(0, Ordering::Relaxed));
        self.region.set(self.layout.slot(number, slot::READ), self.region.get(header::HEAD));
        self.region.set(self.layout.slot(number, slot::QUITTING), 0);
    }

    /// Whether a slot has a living tenant.
    pub(super) fn is_taken(&self, number: usize) -> bool {
        match self.life(number).try_lock() {
            Attempt::Busy => true,
            Attempt::Taken | Attempt::TakenFromDead => {
                self.life(number).unlock();
                false
            }
        }
    }

    fn life(&self, number: usize) -> RobustLock {
        RobustLock::at(self.region.words(self.layout.slot(number, slot::LIFE), WORDS))
    }
}
