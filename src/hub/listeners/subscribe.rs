//! Subscribers of a channel: pairs of (slot, generation, number of streams) in its record.
//!
//! A pair belongs to the process in its slot. Only that process changes the number of streams,
//! without the lock. Adding and removing a pair takes the lock. When a slot gets a new generation,
//! all its pairs are void at once and can be reused.

use crate::hub::log::channels::{record_blocks, IDLE};
use crate::hub::log::eviction::SpaceError;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::BlockAllocator;
use crate::hub::memory::atomic::Ordering;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, header, high, low, more_pairs, pair, slot, BLOCK};
use crate::hub::{Hub, Now, SlotClaim};

/// A process's membership in a channel: the record, and the word of its pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub(in crate::hub) record: u32,
    pair_at: usize,
    owner: u32,
}

impl Membership {
    /// Returns the channel's number, as the ring's entries name it.
    pub fn channel(&self) -> u32 {
        self.record
    }
}

/// Why a channel could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// More memory has to be freed than one attempt may wait for.
    #[error("the zone is being cleared, try again")]
    Crowded,
    /// The zone has no memory for another channel.
    #[error("the zone has no room for another channel")]
    Full,
}

/// Returns the upper half of a pair: the slot, from 1 so that no pair is 0, and its generation in
/// 22 bits.
fn owner(claim: SlotClaim) -> u32 {
    (claim.slot as u32 + 1) << 22 | (claim.generation as u32 & GENERATION)
}

/// Holds of the lock that one attempt to join takes to free memory.
const HOLDS: usize = 8;

const GENERATION: u32 = (1 << 22) - 1;
/// The bit in the lower half of a pair that is set while requests of the process wait for the
/// channel. The other bits are the number of its streams.
const AWAITED: u32 = 1 << 31;

/// Returns the number of streams in a pair.
fn streams_of(pair: u64) -> u64 {
    u64::from(low(pair) & !AWAITED)
}

/// Returns the slot of a pair that is not 0.
pub(in crate::hub) fn slot_of(pair: u64) -> usize {
    (high(pair) >> 22).saturating_sub(1) as usize
}

impl Hub {
    /// Joins a channel, without a stream yet, and creates it if it does not exist. A process that
    /// has joined it already keeps its pair.
    pub fn join(&self, claim: SlotClaim, name: &[u8], now: Now) -> Result<Membership, JoinError> {
        for _ in 0..HOLDS {
            let guard = self.lock()?;
            match guard.join(claim, name, now, &mut Budget::for_hold()) {
                Err(SpaceError::Unfinished) => {}
                Err(SpaceError::NoRoom) => return Err(JoinError::Full),
                Ok(membership) => return Ok(membership),
            }
        }
        Err(JoinError::Crowded)
    }

    /// Sets how many streams of this process a channel has. Does not need the lock.
    pub fn set_streams(&self, claim: SlotClaim, membership: Membership, streams: u32) {
        self.set_pair(claim, membership, streams);
    }

    /// Sets how many streams of this process a channel has, and that requests of this process wait
    /// for the channel: it is woken as for a stream, but they are no subscribers. Does not need the
    /// lock.
    pub fn set_awaited(&self, claim: SlotClaim, membership: Membership, streams: u32) {
        self.set_pair(claim, membership, streams | AWAITED);
    }

    fn set_pair(&self, claim: SlotClaim, membership: Membership, lower: u32) {
        // A released slot has no pair left, and perhaps not even the record is left.
        if owner(claim) == membership.owner && self.is_live(pair(membership.owner, lower)) {
            self.region.set(membership.pair_at, pair(membership.owner, lower));
        }
    }

    /// Sets how many streams of this process a channel has, if it then has at most `most` streams
    /// on this nginx. Otherwise changes nothing and returns false.
    pub fn admit(
        &self,
        claim: SlotClaim,
        membership: Membership,
        streams: u32,
        most: u32,
    ) -> Result<bool, Locked> {
        let guard = self.lock()?;
        let mine = streams_of(guard.get(membership.pair_at));
        let others = guard.listeners(membership.record).0.saturating_sub(mine);
        let fits = others + u64::from(streams) <= u64::from(most);
        if fits {
            self.set_streams(claim, membership, streams);
        }
        Ok(fits)
    }

    /// Leaves a channel whose last stream in this process has ended.
    pub fn leave(&self, membership: Membership) -> Result<(), Locked> {
        self.lock()?.leave(membership);
        Ok(())
    }

    /// Returns whether the owner of a pair still has its slot.
    pub(in crate::hub) fn is_live(&self, pair: u64) -> bool {
        let slot_number = slot_of(pair);
        pair != 0
            && slot_number < self.layout.slots
            && self.region.get(self.layout.slot(slot_number, slot::GENERATION)) as u32 & GENERATION
                == high(pair) & GENERATION
    }

    /// Returns the number of streams of a channel on this nginx.
    pub fn subscribers(&self, membership: Membership) -> Result<u64, Locked> {
        Ok(self.lock()?.listeners(membership.record).0)
    }

    /// Returns whether all processes with streams of a channel have sent its newest event to those
    /// streams that do not lag.
    pub fn is_delivered(&self, member: Membership) -> Result<bool, Locked> {
        let guard = self.lock()?;
        let newest = match low(guard.word(member.record, channel::EVENTS)) {
            0 => return Ok(true),
            newest => guard.place(newest).position,
        };
        Ok(self.have_read(&guard.listeners(member.record).1, newest))
    }

    /// Returns the number of streams on this nginx of a channel that this process may not have
    /// joined.
    pub fn subscribers_of(&self, name: &[u8]) -> Result<u64, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(name).map_or(0, |record| guard.listeners(record).0))
    }
}

impl Guard<'_> {
    fn join(
        &self,
        claim: SlotClaim,
        name: &[u8],
        now: Now,
        budget: &mut Budget,
    ) -> Result<Membership, SpaceError> {
        let record = match self.find(name) {
            Some(record) => record,
            None => {
                self.free_blocks(record_blocks(name.len()), 0, now, budget)?;
                self.create_record(name, now)
            }
        };
        let mut pairs = self.pair_words(record);
        if let Some(pair_at) = pairs.find(|at| high(self.get(*at)) == owner(claim)) {
            return Ok(Membership { record, pair_at, owner: owner(claim) });
        }
        drop(pairs);
        let pair_at = self.free_pair(record, now, budget)?;
        let mut change = self.change();
        if self.has_no_listeners(record) {
            change.add(header::PINNED, self.record_size(record) as i64);
            if self.events(record) == 0 {
                IDLE.remove(&mut change, record);
            }
        }
        change.set(pair_at, pair(owner(claim), 0));
        change.commit();
        Ok(Membership { record, pair_at, owner: owner(claim) })
    }

    /// Removes a process's pair. If the channel was left already, its blocks may be in use for
    /// something else, so this is checked.
    pub(in crate::hub) fn leave(&self, membership: Membership) {
        let Membership { record, pair_at, .. } = membership;
        if !self.is_record(record) || self.pair_words(record).all(|at| at != pair_at) {
            return;
        }
        let pair = self.get(pair_at);
        if high(pair) == membership.owner && self.hub.is_live(pair) {
            self.void_pair(record, pair_at);
        }
    }

    /// Iterates over the words of a channel's pairs.
    pub(in crate::hub) fn pair_words(&self, record: u32) -> impl Iterator<Item = usize> + '_ {
        let layout = &self.hub.layout;
        let inline = (0..2).map(move |i| layout.block(record, channel::PAIRS + i));
        let mut block = high(self.word(record, channel::MORE));
        let more = std::iter::from_fn(move || {
            let this = (block != 0).then_some(block)?;
            block = self.word(this, more_pairs::NEXT) as u32;
            Some((more_pairs::PAIRS..BLOCK).map(move |word| layout.block(this, word)))
        });
        inline.chain(more.flatten())
    }

    /// Returns the number of streams of a channel, and the slots that have them, or requests that
    /// wait for the channel. Any other process that has joined without a stream reads the log
    /// before it has one, so it need not be woken.
    pub(in crate::hub) fn listeners(&self, record: u32) -> (u64, Vec<usize>) {
        let mut slots = Vec::new();
        let mut streams = 0;
        for at in self.pair_words(record) {
            let word = self.get(at);
            if low(word) > 0 && self.hub.is_live(word) {
                streams += streams_of(word);
                slots.push(slot_of(word));
            }
        }
        (streams, slots)
    }

    /// Returns whether a record has no pairs, not even void ones, so that it may be idle.
    pub(in crate::hub) fn has_no_listeners(&self, record: u32) -> bool {
        self.pair_words(record).all(|at| self.get(at) == 0)
    }

    /// Returns the word for a new pair: an empty one, a void one, or one in a new block.
    fn free_pair(&self, record: u32, now: Now, budget: &mut Budget) -> Result<usize, SpaceError> {
        // An empty word is preferred, because the sweep reports the streams in a void pair.
        let empty = self.pair_words(record).find(|at| self.get(*at) == 0);
        let void = || self.pair_words(record).find(|at| !self.hub.is_live(self.get(*at)));
        if let Some(at) = empty.or_else(void) {
            return Ok(at);
        }
        self.free_blocks(1, record, now, budget)?;
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let mut allocator = BlockAllocator::new(region, layout);
        let block = allocator.take();
        for word in 0..BLOCK {
            region.set(layout.block(block, word), 0);
        }
        let at = layout.block(record, channel::MORE);
        region.set(layout.block(block, more_pairs::NEXT), u64::from(high(region.get(at))));
        let mut change = self.change();
        allocator.finish(&mut change);
        change.set_high(at, block);
        // All its pairs are live, so it is pinned already.
        change.add(header::PINNED, 1);
        change.commit();
        Ok(layout.block(block, more_pairs::PAIRS))
    }

    fn void_pair(&self, record: u32, pair_at: usize) {
        let mut change = self.change();
        change.set(pair_at, 0);
        let others = self.pair_words(record).any(|at| at != pair_at && self.get(at) != 0);
        if !others {
            change.add(header::PINNED, -(self.record_size(record) as i64));
            if self.events(record) == 0 {
                IDLE.push(&mut change, record);
            }
        }
        change.commit();
    }

    /// Clears the pairs of all processes that are gone, if any process went since this was last
    /// done. Returns false if there is more to do, which any process may continue.
    pub(in crate::hub) fn clear_all_void_pairs(&self, budget: &mut Budget) -> bool {
        let region = &self.hub.region;
        let vacated = region.word(header::VACATED).load(Ordering::Acquire);
        if self.get(header::CLEARED) == vacated {
            return true;
        }
        if self.get(header::CLEAR_OF) == self.get(header::CLEARED) {
            // A new round. Slots that are vacated later are left to the next round.
            region.set(header::CLEAR_AT, 0);
            // A round begins at the first bucket.
            region.set_after(header::CLEAR_OF, vacated);
        }
        for bucket in self.get(header::CLEAR_AT)..self.hub.layout.buckets as u64 {
            if !budget.step() {
                region.set_after(header::CLEAR_AT, bucket);
                return false;
            }
            let mut record = self.get(self.hub.layout.bucket(bucket as u32)) as u32;
            while record != 0 {
                budget.spend(self.cost_of(record));
                self.clear_void_pairs(record, budget);
                record = low(self.word(record, channel::HASH));
            }
        }
        let cleared = self.get(header::CLEAR_OF);
        region.set_after(header::CLEARED, cleared);
        // If a process went since the round began, it may have pairs in the buckets before.
        cleared == vacated
    }

    /// Clears the pairs of processes that are gone. Returns how many streams they had.
    pub(in crate::hub) fn clear_void_pairs(&self, record: u32, budget: &mut Budget) -> u64 {
        let void: Vec<usize> = self
            .pair_words(record)
            .filter(|at| self.get(*at) != 0 && !self.hub.is_live(self.get(*at)))
            .collect();
        let streams = void.iter().map(|at| streams_of(self.get(*at))).sum();
        for at in void {
            self.void_pair(record, at);
            budget.spend_on_freeing(1);
        }
        streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::{at, hub_of};

    #[test]
    fn leaving_a_channel_touches_no_pair_of_another() {
        let hub = hub_of(256 << 10, 4096, 100, 0);
        let claim = hub.claim_slot().unwrap();
        let [a, b] = [b"a", b"b"].map(|name| hub.join(claim, name, at(0)).unwrap());
        hub.set_streams(claim, b, 3);
        // As if the blocks of a channel that was left already were in use again.
        for record in [a.record, b.record + 1, u32::MAX] {
            hub.leave(Membership { record, ..b }).unwrap();
            assert_eq!(hub.subscribers_of(b"b"), Ok(3));
        }
        hub.leave(b).unwrap();
        hub.leave(b).unwrap();
        assert_eq!(hub.subscribers_of(b"b"), Ok(0));
        hub.check_settled();
    }
}
