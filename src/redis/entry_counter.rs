//! Compares the number of entries that were read of a stream with the number that were ever added
//! to it, which shows whether entries were trimmed or deleted before they were read. Redis before 7
//! does not report the latter, so nothing is noticed there.
//!
//! Which entries are missing follows from the ids that were read: entries are trimmed from the
//! stream's beginning, so trimmed ones were before all of a page, and no deleted one has an id
//! above the highest id that was deleted. If entries may be missing at several places of a page,
//! the loss is at the last one: what follows is complete.

mod page_ids;

use page_ids::PageIds;

use super::stream_page::{About, StreamPage};
use crate::hub::ReportedId;

/// How many entries Redis has added to a stream up to the position up to which it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounter {
    /// Every entry up to this id was read, or is gone.
    position: ReportedId,
    /// The number of entries that were added up to the position, if it is known.
    added: Option<u64>,
    /// What Redis reported of entries after the position.
    ahead: Option<Ahead>,
    /// The id up to which clients have received a gap event.
    loss_up_to: ReportedId,
    /// Whether Redis does not report how many entries were added.
    is_unreported: bool,
}

/// What Redis reported of entries that had not been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    /// The id of the newest entry, and the number of entries that were added up to it.
    newest: ReportedId,
    added: u64,
    /// The highest id that was deleted, if it had not been read.
    deleted: Option<ReportedId>,
    /// Whether entries directly after the position may have been trimmed.
    trimmed: bool,
}

/// What a page shows about the entries before it and among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAudit {
    /// Nothing is missing, as far as is known.
    Complete,
    /// Entries are gone. None of the page's entries up to this id comes after the loss, and all
    /// others do. The id is above all that was read before.
    Lost(ReportedId),
    /// The stream was replaced by another one.
    StartedOver,
}

impl EntryCounter {
    /// Returns a counter for a stream that was read up to this id, with the number of entries that
    /// were added until then, if it is known.
    pub fn starting_at(position: ReportedId, added: Option<u64>) -> EntryCounter {
        let (ahead, loss_up_to, is_unreported) = (None, ReportedId::default(), false);
        EntryCounter { position, added, ahead, loss_up_to, is_unreported }
    }

    /// Returns the same counter for a stream of which a loss up to this id was noticed in another
    /// way.
    pub fn after_loss(self, loss_up_to: ReportedId) -> EntryCounter {
        EntryCounter { loss_up_to, ..self }
    }

    /// Whether entries are known to exist beyond the position: the stream has to be read once more.
    pub fn is_behind(&self) -> bool {
        self.ahead.is_some()
    }

    /// Whether each page has to be read together with the stream's description: without it, an entry
    /// that was removed before the page was read would go unnoticed.
    pub fn needs_description(&self) -> bool {
        self.added.is_none() && !self.is_unreported
    }

    /// Records that Redis does not describe a stream that has entries.
    pub fn is_not_described(&mut self) {
        self.is_unreported = true;
    }

    /// Counts a page, which begins after the last entry that was read.
    pub fn count(&mut self, page: &StreamPage) -> PageAudit {
        let had = self.position;
        let ids = page.entries.iter().map(|entry| entry.id).filter(|id| *id > had);
        let ids: Vec<ReportedId> = ids.collect();
        let read = PageIds { had, ids: &ids, more: page.more, loss_up_to: self.loss_up_to };
        self.position = read.last();
        let deleted = page.about.and_then(|about| about.max_deleted);
        let is_unknown = self.added.is_none();
        let shown = page.about.filter(|_| is_unknown).and_then(|about| read.lacks_by(about));
        let lost_before = self.reach(&read, deleted).max(shown);
        let Some(about) = page.about else { return PageAudit::of(lost_before) };
        match self.compare(&read, about) {
            Comparison::StartedOver => PageAudit::StartedOver,
            Comparison::Equal => PageAudit::of(lost_before),
            Comparison::Lost(up_to) => PageAudit::of(lost_before.max(Some(up_to))),
        }
    }

    /// Counts the entries of a page, and compares them with what was reported before. Returns where
    /// entries are missing. `deleted`: the highest id that had been deleted after the page was
    /// read, if it is known.
    fn reach(&mut self, read: &PageIds<'_>, deleted: Option<ReportedId>) -> Option<ReportedId> {
        let all = read.ids.len() as u64;
        let Some(ahead) = &mut self.ahead else {
            self.added = self.added.map(|added| added + all);
            return None;
        };
        if self.added.is_none() {
            let trimmed =
                std::mem::take(&mut ahead.trimmed).then(|| read.before_first_unknown()).flatten();
            let gone = ahead.deleted.filter(|id| read.covers(*id)).and_then(|id| read.lacks(id));
            ahead.deleted = ahead.deleted.filter(|id| !read.covers(*id));
            if !read.covers(ahead.newest) {
                return trimmed.max(gone);
            }
            let reached = *ahead;
            self.pass(reached, read);
            return trimmed.max(gone).max(read.lacks(reached.newest));
        }
        if !read.covers(ahead.newest) {
            self.added = self.added.map(|added| added + all);
            return None;
        }
        let reached = *ahead;
        let counted = read.up_to(reached.newest);
        let is_lost = self.added.is_some_and(|before| reached.added > before + counted);
        self.pass(reached, read);
        is_lost.then(|| read.last_hole(reached.newest, deleted))
    }

    /// Everything that was reported before is read, or gone.
    fn pass(&mut self, reached: Ahead, read: &PageIds<'_>) {
        let uncounted = read.ids.len() as u64 - read.up_to(reached.newest);
        (self.added, self.ahead) = (Some(reached.added + uncounted), None);
        self.position = self.position.max(reached.newest);
    }

    /// Compares what was read with what Redis reported then.
    fn compare(&mut self, read: &PageIds<'_>, about: About) -> Comparison {
        let Some(reported) = about.added else {
            self.is_unreported = true;
            let is_behind = about.newest < self.position;
            return if is_behind { Comparison::StartedOver } else { Comparison::Equal };
        };
        if about.newest < self.position || self.added.is_some_and(|added| reported < added) {
            return Comparison::StartedOver;
        }
        let is_whole_page = about.newest == self.position;
        let is_lost = is_whole_page && self.added.is_some_and(|added| reported > added);
        let lost = is_lost.then(|| read.last_hole(about.newest, about.max_deleted));
        if is_whole_page {
            self.added = Some(reported);
        } else {
            self.look_ahead(read, about, reported);
        }
        lost.map_or(Comparison::Equal, Comparison::Lost)
    }

    /// Keeps what Redis reported of entries that were not read yet.
    fn look_ahead(&mut self, read: &PageIds<'_>, about: About, added: u64) {
        let (newest, position) = (about.newest, self.position);
        let none = Ahead { newest, added, deleted: None, trimmed: false };
        let ahead = self.ahead.get_or_insert(none);
        ahead.deleted = ahead.deleted.max(about.max_deleted.filter(|id| *id > position));
        ahead.trimmed |= read.ids.is_empty() && about.trimmed_after(read.had);
    }
}

impl PageAudit {
    fn of(lost: Option<ReportedId>) -> PageAudit {
        lost.map_or(PageAudit::Complete, PageAudit::Lost)
    }
}

/// The result of comparing what was read with what Redis reports.
enum Comparison {
    Equal,
    Lost(ReportedId),
    StartedOver,
}
#[cfg(test)]
mod tests;
