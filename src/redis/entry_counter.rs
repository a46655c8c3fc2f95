//! Compares the number of entries that were read of a stream with the number that were ever added
//! to it, which shows whether entries were trimmed or deleted before they were read. Redis before 7
//! does not report the latter, so nothing is noticed there.
//!
//! Which entries are missing follows from the ids that were read: entries are trimmed from the
//! stream's beginning, so trimmed ones were before all of a page, and no deleted one has an id
//! above the highest id that was deleted. If entries may be missing at several places of a page,
//! the loss is at the last one: what follows is complete.

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

/// The entries of a page, by their ids.
struct Read<'p> {
    /// The id up to which the stream was read before.
    had: ReportedId,
    /// The ids of the entries, all above `had`.
    ids: &'p [ReportedId],
    /// Whether there may be more entries after them.
    more: bool,
    /// A loss up to this id is no news.
    loss_up_to: ReportedId,
}

impl EntryCounter {
    /// Returns a counter for a stream that was read up to this id, with the number of entries that
    /// were added until then, if it is known.
    pub fn starting_at(position: ReportedId, added: Option<u64>) -> EntryCounter {
        EntryCounter { position, added, ahead: None, loss_up_to: ReportedId::default() }
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

    /// Counts a page, which begins after the last entry that was read.
    pub fn count(&mut self, page: &StreamPage) -> PageAudit {
        let had = self.position;
        let ids = page.entries.iter().map(|entry| entry.id).filter(|id| *id > had);
        let ids: Vec<ReportedId> = ids.collect();
        let read = Read { had, ids: &ids, more: page.more, loss_up_to: self.loss_up_to };
        self.position = read.last();
        let deleted = page.about.and_then(|about| about.max_deleted);
        let lost_before = self.reach(&read, deleted);
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
    fn reach(&mut self, read: &Read<'_>, deleted: Option<ReportedId>) -> Option<ReportedId> {
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
    fn pass(&mut self, reached: Ahead, read: &Read<'_>) {
        let uncounted = read.ids.len() as u64 - read.up_to(reached.newest);
        (self.added, self.ahead) = (Some(reached.added + uncounted), None);
        self.position = self.position.max(reached.newest);
    }

    /// Compares what was read with what Redis reported then.
    fn compare(&mut self, read: &Read<'_>, about: About) -> Comparison {
        let Some(reported) = about.added else {
            let is_behind = about.newest < self.position;
            return if is_behind { Comparison::StartedOver } else { Comparison::Equal };
        };
        if about.newest < self.position || self.added.is_some_and(|added| reported < added) {
            return Comparison::StartedOver;
        }
        let is_whole_page = about.newest == self.position;
        let lost = match self.added {
            Some(added) => {
                let is_lost = is_whole_page && reported > added;
                is_lost.then(|| read.last_hole(about.newest, about.max_deleted))
            }
            None => {
                let deleted = about.max_deleted.filter(|id| *id <= read.last());
                let trimmed =
                    if about.trimmed_after(read.had) { read.before_first_unknown() } else { None };
                trimmed.max(deleted.and_then(|id| read.lacks(id)))
            }
        };
        if is_whole_page {
            self.added = Some(reported);
        } else {
            self.look_ahead(read, about, reported);
        }
        lost.map_or(Comparison::Equal, Comparison::Lost)
    }

    /// Keeps what Redis reported of entries that were not read yet.
    fn look_ahead(&mut self, read: &Read<'_>, about: About, added: u64) {
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

impl Read<'_> {
    /// Returns the id up to which the stream was read.
    fn last(&self) -> ReportedId {
        self.ids.last().copied().unwrap_or(self.had)
    }

    /// Returns whether an entry with this id, if it existed, is among those that were read.
    fn covers(&self, id: ReportedId) -> bool {
        id <= self.last() || !self.more
    }

    /// Returns how many entries have ids up to this one.
    fn up_to(&self, id: ReportedId) -> u64 {
        self.ids.partition_point(|other| *other <= id) as u64
    }

    /// Returns the place of an entry that existed after `had`, if it was not read.
    fn lacks(&self, id: ReportedId) -> Option<ReportedId> {
        match self.ids.binary_search(&id) {
            _ if id <= self.had.max(self.loss_up_to) => None,
            Ok(_) => None,
            Err(index) => Some(self.ids.get(index).map_or(id, |next| next.before())),
        }
    }

    /// Returns the place before the first entry, if others can have been there.
    fn before_first(&self) -> Option<ReportedId> {
        let first = self.ids.first().filter(|first| **first > self.had.after())?;
        Some(first.before())
    }

    /// Returns the same, unless it is known.
    fn before_first_unknown(&self) -> Option<ReportedId> {
        self.before_first().filter(|before| *before > self.loss_up_to)
    }

    /// Returns the last place at which an entry can be missing whose id is at most `newest`.
    /// `deleted`: no entry with a higher id was deleted.
    fn last_hole(&self, newest: ReportedId, deleted: Option<ReportedId>) -> ReportedId {
        if newest > self.last() {
            return newest;
        }
        let most = deleted.map_or(newest, |deleted| deleted.min(newest));
        let pairs = self.ids.windows(2).rev().map(|pair| (pair[0], pair[1]));
        let mut holes = pairs.filter(|(one, next)| *one < most && one.after() < *next);
        let hole = holes.next().map(|(_, next)| next.before()).or_else(|| self.before_first());
        // Above what was read before it was noticed, or its clients would not miss anything.
        hole.unwrap_or(self.had.after())
    }
}

/// The result of comparing what was read with what Redis reports.
enum Comparison {
    Equal,
    Lost(ReportedId),
    StartedOver,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::entry::Entry;
    use crate::sse::id::EntryId;
    use PageAudit::{Complete, Lost, StartedOver};

    fn id(ms: u64) -> ReportedId {
        EntryId { ms, seq: 0 }.into()
    }

    fn page(ids: &[u64], about: Option<About>) -> StreamPage {
        let entry = |ms: &u64| Entry {
            id: id(*ms),
            prev: None,
            number: None,
            event_type: Vec::new(),
            data: Vec::new(),
            skipped: 0,
        };
        StreamPage { entries: ids.iter().map(entry).collect(), about, ..StreamPage::default() }
    }

    /// A stream with these entries, to which this many were added.
    fn about(first: Option<u64>, newest: u64, added: u64) -> Option<About> {
        Some(About {
            first: first.map(id),
            whole: first == Some(1),
            newest: id(newest),
            added: Some(added),
            max_deleted: None,
        })
    }

    fn counter(ms: u64, added: Option<u64>) -> EntryCounter {
        EntryCounter::starting_at(id(ms), added)
    }

    fn lost_before(ms: u64) -> PageAudit {
        Lost(id(ms).before())
    }

    #[test]
    fn an_entry_that_was_trimmed_before_it_was_read_is_noticed() {
        let mut counter = counter(5, Some(5));
        // 6 and 7 were added, and 6 was trimmed.
        assert_eq!(counter.count(&page(&[7], about(Some(7), 7, 7))), lost_before(7));
        assert_eq!(counter.count(&page(&[8], about(Some(8), 8, 8))), Complete);
        // 9 to 11 were added, and 10 was deleted.
        assert_eq!(counter.count(&page(&[9, 11], None)), Complete);
        assert_eq!(counter.count(&page(&[], about(Some(8), 11, 11))), Lost(id(11).after()));
        assert_eq!(counter.count(&page(&[], about(Some(8), 11, 11))), Complete);
    }

    #[test]
    fn what_is_added_after_a_page_is_counted_with_the_next() {
        let mut counter = counter(5, Some(5));
        assert_eq!(counter.count(&page(&[6], about(Some(1), 8, 8))), Complete);
        assert!(counter.is_behind());
        assert_eq!(counter.count(&page(&[7, 8, 9], None)), Complete);
        assert!(!counter.is_behind());
        assert_eq!(counter.count(&page(&[], about(Some(1), 9, 9))), Complete);
        // Everything that was added since is gone.
        assert_eq!(counter.count(&page(&[], about(None, 12, 12))), Complete);
        assert_eq!(counter.count(&page(&[], None)), Lost(id(12)));
        assert_eq!(counter.count(&page(&[13], about(Some(13), 13, 13))), Complete);
    }

    #[test]
    fn pages_of_a_stream_that_grows_all_the_time_are_counted() {
        let mut counter = counter(5, Some(5));
        assert_eq!(counter.count(&page(&[6], about(Some(1), 9, 9))), Complete);
        let more = StreamPage { more: true, ..page(&[7], about(Some(1), 10, 10)) };
        assert_eq!(counter.count(&more), Complete);
        // 8 was deleted.
        let more = StreamPage { more: true, ..page(&[9, 10], about(Some(1), 12, 12)) };
        assert_eq!(counter.count(&more), lost_before(9));
        assert_eq!(counter.count(&page(&[11, 12, 13], None)), Complete);
    }

    #[test]
    fn an_emptied_stream_of_which_everything_was_read_lacks_nothing() {
        for added in [None, Some(5)] {
            let mut counter = counter(5, added);
            assert_eq!(counter.count(&page(&[], about(None, 5, 5))), Complete);
            assert_eq!(counter.count(&page(&[6], about(Some(6), 6, 6))), Complete);
        }
    }

    #[test]
    fn a_stream_with_fewer_entries_than_were_read_has_started_over() {
        let fewer = page(&[6], about(Some(6), 6, 1));
        assert_eq!(counter(5, Some(5)).count(&fewer), StartedOver);
        let lower = page(&[], about(Some(1), 3, 3));
        assert_eq!(counter(5, None).count(&lower), StartedOver);
    }

    #[test]
    fn a_loss_is_where_the_last_entry_can_be_missing() {
        let deleted = |highest: u64, newest: u64, added: u64| {
            let max_deleted = Some(id(highest));
            about(Some(1), newest, added).map(|about| About { max_deleted, ..about })
        };
        // Up to 5 everything was read. What is read then, what Redis reports, and between which ids
        // the loss is.
        for (ids, about, expected) in [
            (&[7, 8, 10][..], about(Some(7), 10, 10), lost_before(10)),
            (&[7, 8, 10], deleted(6, 10, 9), lost_before(7)),
            (&[7, 8, 10], deleted(9, 10, 9), lost_before(10)),
            (&[7, 8, 10], deleted(9, 10, 10), lost_before(10)),
            (&[7, 9, 11], deleted(8, 11, 9), lost_before(9)),
            (&[7, 9, 11], deleted(8, 11, 8), Complete),
            // 3 was deleted once it was read: entries behind 5 were trimmed.
            (&[7, 9, 11], deleted(3, 11, 9), lost_before(7)),
            // The entry of 9 was deleted once it was read.
            (&[6, 7, 9], deleted(9, 9, 9), lost_before(9)),
            // Someone has set the number of entries that were added.
            (&[], deleted(0, 5, 7), Lost(id(5).after())),
        ] {
            assert_eq!(counter(5, Some(5)).count(&page(ids, about)), expected, "{ids:?} {about:?}");
        }
    }

    #[test]
    fn a_loss_that_a_later_page_shows_is_among_that_page() {
        for (ids, expected) in [
            (&[7, 9, 10][..], lost_before(9)),
            (&[7, 8, 9, 12], Complete),
            (&[8, 9, 12], lost_before(9)),
            (&[7, 8, 12], lost_before(12)),
            (&[7, 8], Lost(id(9))),
            (&[], Lost(id(9))),
        ] {
            let mut counter = counter(5, Some(5));
            assert_eq!(counter.count(&page(&[6], about(Some(1), 9, 9))), Complete);
            assert_eq!(counter.count(&page(ids, None)), expected, "{ids:?}");
        }
    }

    /// What two pages show of a stream that was read up to 5.
    fn of_two(one: StreamPage, two: StreamPage) -> [PageAudit; 2] {
        let mut counter = counter(5, None);
        [counter.count(&one), counter.count(&two)]
    }

    #[test]
    fn where_the_number_is_not_known_the_first_entry_and_deletions_decide() {
        let trimmed = page(&[7], about(Some(7), 7, 7));
        assert_eq!(counter(5, None).count(&trimmed), lost_before(7));
        assert_eq!(of_two(page(&[], about(None, 7, 7)), page(&[], None)), [Complete, Lost(id(7))]);
        let deleted = |ms| about(Some(2), 7, 7).map(|it| About { max_deleted: Some(id(ms)), ..it });
        assert_eq!(counter(5, None).count(&page(&[7], deleted(6))), lost_before(7));
        assert_eq!(of_two(page(&[], deleted(7)), page(&[], None)), [Complete, Lost(id(7))]);
        assert_eq!(of_two(page(&[], deleted(6)), page(&[7], None)), [Complete, lost_before(7)]);
        // What a catch-up has found already.
        let known = counter(5, None).after_loss(id(7));
        assert_eq!({ known }.count(&page(&[8], about(Some(8), 8, 8))), lost_before(8));
        let mut known = counter(5, None).after_loss(id(7));
        assert_eq!(known.count(&page(&[], deleted(7))), Complete);
        assert_eq!(known.count(&page(&[], None)), Complete);
        let trimmed_then = page(&[], about(Some(7), 7, 7));
        assert_eq!(of_two(trimmed_then, page(&[7], None)), [Complete, lost_before(7)]);
        // It was deleted after it was read.
        assert_eq!(counter(5, None).count(&page(&[6, 7], deleted(6))), Complete);
        // Redis before 7.
        let old = about(Some(7), 7, 7).map(|about| About { added: None, ..about });
        assert_eq!(counter(5, None).count(&page(&[7], old)), Complete);
        assert_eq!(counter(9, None).count(&page(&[], old)), StartedOver);
    }
}
