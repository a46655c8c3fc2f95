//! Searches a channel's events backwards, from the newest, for the oldest one that is wanted.
//!
//! A search may take more steps than one hold of the lock has; its state is kept for the next hold.
//! Events are evicted the oldest first, so if the event was evicted at which a search stopped, all
//! older ones were evicted as well.

use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, high, low};

/// An event, given by its first block and its position. If the block has another position by now,
/// the event was evicted.
#[derive(Clone, Copy, Debug)]
pub struct EventAnchor {
    pub block: u32,
    pub position: u64,
}

/// The state of a search that has stopped.
#[derive(Clone, Copy, Debug)]
pub struct BackwardSearch {
    /// The event to look at next.
    at: EventAnchor,
    /// The oldest event that was found, or 0. It is newer than `at`, so it exists as long as `at`.
    first: u32,
    /// How many more events may be found.
    left: u64,
}

/// Which events a search counts, besides those that its caller does not want.
#[derive(Clone, Copy, Debug)]
pub struct SearchBounds {
    /// The position up to which events count.
    pub until: u64,
    /// At most how many events are found.
    pub count: u64,
    /// Which runs are searched.
    pub runs: SearchedRuns,
}

/// Whether an event is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// It is.
    Wanted,
    /// It is not, but an older one may be.
    Unwanted,
    /// Neither it nor any older one is.
    AllOlderUnwanted,
}

impl Sought {
    /// Returns the result for events in an order in which none is wanted that is older than an
    /// unwanted one.
    pub fn in_order(is_wanted: bool) -> Sought {
        if is_wanted {
            Sought::Wanted
        } else {
            Sought::AllOlderUnwanted
        }
    }
}

/// Which runs of a channel a search covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchedRuns {
    /// All that are retained.
    All,
    /// The newest one.
    Newest,
}

impl Guard<'_> {
    /// Returns the oldest event of a channel that is wanted, within the bounds, or 0 if there is
    /// none. If the budget is spent first, returns the state of the search.
    pub(in crate::hub) fn search_backwards(
        &self,
        record: u32,
        stopped: Option<BackwardSearch>,
        bounds: SearchBounds,
        sought: impl Fn(u32) -> Sought,
        budget: &mut Budget,
    ) -> Result<u32, BackwardSearch> {
        let events = self.word(record, channel::EVENTS);
        let (oldest, newest) = (high(events), low(events));
        // Often all events of a channel are wanted, and nothing has to be searched for.
        let has_all = || {
            bounds.runs == SearchedRuns::All
                && u64::from(self.events(record)) <= bounds.count
                && sought(oldest) == Sought::Wanted
        };
        let is_other_run =
            |block| bounds.runs == SearchedRuns::Newest && block != newest && self.ends_run(block);
        if oldest == 0 || has_all() {
            return Ok(oldest);
        }
        let (mut block, mut first, mut left) = match stopped {
            None => (newest, 0, bounds.count),
            Some(search) if self.is_present(record, search.at) => {
                (search.at.block, search.first, search.left)
            }
            Some(_) => return Ok(oldest),
        };
        while block != 0 && left > 0 && !is_other_run(block) {
            let result = sought(block);
            if result == Sought::AllOlderUnwanted {
                break;
            }
            if !budget.step() {
                return Err(BackwardSearch { at: self.anchor(block), first, left });
            }
            let is_within = self.get(self.hub.layout.stamp(block)) <= bounds.until;
            if result == Sought::Wanted && is_within {
                first = block;
                left -= 1;
            }
            block = self.earlier(block);
        }
        Ok(first)
    }

    /// Returns whether an event still exists on its channel.
    pub(in crate::hub) fn is_present(&self, record: u32, anchor: EventAnchor) -> bool {
        self.is_retained(record, anchor.block, anchor.position)
    }

    /// Returns the anchor of the event in a block.
    pub(in crate::hub) fn anchor(&self, block: u32) -> EventAnchor {
        EventAnchor { block, position: self.get(self.hub.layout.stamp(block)) }
    }

    /// Returns the event before this one on its channel, or 0.
    pub(in crate::hub) fn earlier(&self, block: u32) -> u32 {
        high(self.word(block, event::LINKS))
    }

    /// Returns the event after this one on its channel, or 0.
    pub(in crate::hub) fn later(&self, block: u32) -> u32 {
        low(self.word(block, event::LINKS))
    }
}
