//! The id from which a client resumes that receives everything from now on: a page is rendered with
//! it, and opens its stream later.

use crate::hub::log::position::{end, LogOrder};
use crate::hub::log::resume::APART;
use crate::hub::memory::access::Locked;
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::layout::header;
use crate::hub::{Hub, Source};
use crate::sse::id::{EntryId, Id};

/// Attempts to read the end of the log without the lock.
const ATTEMPTS: usize = 4;

impl Hub {
    /// Returns an id such that a stream that resumes from it misses nothing that is published after
    /// this call. It may receive some earlier events, too.
    pub fn resume_point(&self) -> Result<Id, Locked> {
        let unlocked = (0..ATTEMPTS).find_map(|_| {
            let end = self.end_between_changes();
            if end.is_none() {
                std::hint::spin_loop();
            }
            end
        });
        let end = match unlocked {
            Some(end) => end,
            None => {
                let _guard = self.lock()?;
                end(&self.region)
            }
        };
        let place = match self.source() {
            // Streams in Redis have no common order, so the next entry of another one may have a
            // slightly lower id.
            Source::Streams => LogOrder { entry_id: apart(end.entry_id), ..end },
            Source::Alone | Source::PubSub => end,
        };
        Ok(place.id(self.own_kind(), self.tag()))
    }

    /// Returns the end of the log, unless a change may have been applied meanwhile. Its words are
    /// stored one after the other: the milliseconds of a new id with the number of the former one
    /// would be above events that are still to come.
    ///
    /// What is read first is torn only if a change was being applied. If the redo log is empty
    /// afterwards, that change is complete, and the second reading has the words that the first one
    /// missed. They only increase.
    fn end_between_changes(&self) -> Option<LogOrder> {
        let (before, first) = (self.is_changing(), self.read_end());
        let (between, second) = (self.is_changing(), self.read_end());
        let is_stable = !before && !between && !self.is_changing() && first == second;
        is_stable.then_some(first)
    }

    fn is_changing(&self) -> bool {
        let is_changing = self.region.get(header::REDO_LEN) != 0;
        fence(Ordering::Acquire);
        is_changing
    }

    fn read_end(&self) -> LogOrder {
        let end = end(&self.region);
        fence(Ordering::Acquire);
        end
    }
}

/// Returns an id below those that another stream of Redis may still assign.
fn apart(entry_id: EntryId) -> EntryId {
    EntryId { ms: entry_id.ms.saturating_sub(APART), seq: 0 }.before()
}
