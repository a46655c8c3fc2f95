//! Reads a stream backwards until all that is owed of a channel is found that no process has
//! followed.

use crate::hub::{History, ReportedId, Source, SyncState};
use crate::redis::catch_up::FetchPolicy;
use crate::redis::entry::Entry;
use crate::redis::stream_page::StreamPage;
use crate::sse::id::EntryId;

/// Reads backwards from the newest entry until all owed entries are found.
#[derive(Clone, Debug)]
pub(super) struct Back {
    /// The id up to which the hub has the entries.
    pub(super) had: ReportedId,
    /// The entries, newest first, unless there are too many.
    pub(super) kept: Vec<Entry>,
    pub(super) is_kept: bool,
    /// Whether the entries that are read next belong to a run that is not finished.
    is_in_open_run: bool,
    pub(super) count: u64,
    bytes: usize,
    /// The oldest entry that is owed, and the one before it if the entry names it.
    pub(super) oldest: Option<ReportedId>,
    before_oldest: Option<ReportedId>,
    /// The highest id of an entry that is gone, if it is among those that are owed.
    gone: Option<ReportedId>,
}

impl Back {
    /// Returns a reader that stops at what the hub has, up to this id.
    pub(super) fn to(had: ReportedId) -> Back {
        Back {
            had,
            kept: Vec::new(),
            is_kept: true,
            is_in_open_run: true,
            count: 0,
            bytes: 0,
            oldest: None,
            before_oldest: None,
            gone: None,
        }
    }

    /// Returns whether another entry is within a history.
    fn owes(&self, history: History, entry: &Entry, now: u64) -> bool {
        let too_old = if history.age == 0 { 0 } else { now.saturating_sub(history.age) };
        self.count < history.count && entry.id.ms() >= too_old
    }

    /// Takes a page, newest first. `Some`: all that is owed is found, and this is lost before it,
    /// or among it.
    pub(super) fn take(
        &mut self,
        page: StreamPage,
        known: SyncState,
        policy: FetchPolicy,
    ) -> Option<Option<ReportedId>> {
        let deleted = page.about.and_then(|about| about.max_deleted);
        let more = page.more;
        for entry in page.entries {
            if known != SyncState::Nothing && entry.id <= self.had {
                return Some(self.gone);
            }
            let lacks_next = self.before_oldest.filter(|prev| *prev > entry.id);
            let next = self.oldest;
            let was_deleted =
                deleted.filter(|id| *id > entry.id && next.is_none_or(|next| *id < next));
            let gone = lacks_next.max(was_deleted);
            // What the hub has of a channel that was left ends before what is lost, and so do those
            // entries.
            if gone.is_some() && known != SyncState::Nothing {
                return Some(gone);
            }
            self.gone = self.gone.max(gone);
            let bytes = self.bytes + entry.size();
            self.is_in_open_run &= !entry.is_finish();
            // A finish does not count as history, and does not expire.
            let is_owed = entry.is_finish()
                || (self.owes(policy.history, &entry, policy.now)
                    || self.is_in_open_run && self.owes(policy.runs, &entry, policy.now))
                    && (bytes <= policy.room || self.count == 0);
            if !is_owed {
                return Some(self.gone.max(Some(entry.id)));
            }
            self.is_in_open_run &= entry.number != Some(0);
            self.count += u64::from(!entry.is_finish());
            self.bytes = bytes;
            (self.oldest, self.before_oldest) = (Some(entry.id), entry.prev);
            self.is_kept &= bytes <= policy.kept || self.count <= 1;
            if self.is_kept {
                self.kept.push(entry)
            } else {
                self.kept = Vec::new()
            }
        }
        if more {
            return None;
        }
        let trimmed = page.about.and_then(|about| about.trimmed(known, self.oldest));
        let none = page.about.filter(|_| self.oldest.is_none());
        let trimmed = trimmed.max(none.and_then(|about| about.gone_after(ReportedId::default())));
        let gone = self.before_oldest.or(trimmed).max(self.gone);
        if gone.is_some() || self.oldest.is_some() || policy.source != Source::PubSub {
            return Some(gone);
        }
        // There is no stream. If there was one, nothing was added to it for at least this long.
        let ms = policy.kept().map(|kept| policy.now.saturating_sub(kept));
        Some(ms.map(|ms| EntryId { ms, seq: 0 }.into()))
    }
}
