//! Counts the entries that were read of a stream against the number that Redis has ever added to
//! it, and so notices entries that were trimmed or deleted before they were read. Redis before 7
//! does not report that number; nothing is noticed there.

use super::stream_page::{About, StreamPage};
use crate::hub::ReportedId;

/// How many entries Redis has added to a stream up to the position up to which it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounter {
    /// Every entry up to this id was read, or is gone.
    position: ReportedId,
    /// The number of entries that were added up to the position, if it is known.
    added: Option<u64>,
    /// An id that has not been reached yet, and the number of entries that were added up to it.
    ahead: Option<(ReportedId, u64)>,
}

/// What a page shows about the entries before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAudit {
    /// Nothing is missing, as far as is known.
    Complete,
    /// Entries are gone, before the page's or among them: an id above all that was read before, and
    /// below the page's entries if ids are left between the two.
    Lost(ReportedId),
    /// It is another stream than the one that was read before.
    StartedOver,
}

impl EntryCounter {
    /// Returns a counter for a stream that was read up to this id, with the number of entries that
    /// were added until then, if it is known.
    pub fn starting_at(position: ReportedId, added: Option<u64>) -> EntryCounter {
        EntryCounter { position, added, ahead: None }
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
        self.position = ids.last().copied().unwrap_or(had);
        let mut is_lost = false;
        let mut uncounted = ids.len() as u64;
        if let Some((ahead, added)) = self.ahead {
            if self.position >= ahead || !page.more {
                let counted = ids.iter().filter(|id| **id <= ahead).count() as u64;
                is_lost = self.added.is_some_and(|before| added > before + counted);
                (self.added, self.ahead) = (Some(added), None);
                uncounted -= counted;
                self.position = self.position.max(ahead);
            }
        }
        self.added = self.added.map(|added| added + uncounted);
        let lost = ids.first().map_or(self.position, |first| first.before());
        // Above what was delivered before it was noticed, or its clients would not miss anything.
        let lost = lost.max(had.after());
        match page.about.map(|about| self.compare(had, &ids, about)) {
            Some(Comparison::StartedOver) => PageAudit::StartedOver,
            Some(Comparison::Lost) => PageAudit::Lost(lost),
            _ if is_lost => PageAudit::Lost(lost),
            _ => PageAudit::Complete,
        }
    }

    /// Compares what was read, which are the entries `ids` after `had`, with what Redis reported
    /// then.
    fn compare(&mut self, had: ReportedId, ids: &[ReportedId], about: About) -> Comparison {
        let Some(reported) = about.added else {
            let is_behind = about.newest < self.position;
            return if is_behind { Comparison::StartedOver } else { Comparison::Equal };
        };
        if about.newest < self.position || self.added.is_some_and(|added| reported < added) {
            return Comparison::StartedOver;
        }
        let is_whole_page = about.newest == self.position;
        let is_lost = match self.added {
            Some(added) => is_whole_page && reported > added,
            None => about.may_lack_after(had, self.position, ids),
        };
        if is_whole_page {
            self.added = Some(reported);
        } else {
            self.ahead.get_or_insert((about.newest, reported));
        }
        if is_lost {
            Comparison::Lost
        } else {
            Comparison::Equal
        }
    }
}

/// How what was read compares with what Redis has had.
enum Comparison {
    Equal,
    Lost,
    StartedOver,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::message::Entry;
    use crate::sse::id::EntryId;
    use PageAudit::{Complete, Lost, StartedOver};

    fn id(ms: u64) -> ReportedId {
        EntryId { ms, seq: 0 }.into()
    }

    fn page(ids: &[u64], about: Option<About>) -> StreamPage {
        let entry = |ms: &u64| Entry {
            id: id(*ms),
            prev: None,
            event_type: Vec::new(),
            data: Vec::new(),
            left_out: 0,
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
    fn where_the_number_is_not_known_the_first_entry_and_deletions_decide() {
        let trimmed = page(&[7], about(Some(7), 7, 7));
        assert_eq!(counter(5, None).count(&trimmed), lost_before(7));
        assert_eq!(counter(5, None).count(&page(&[], about(None, 7, 7))), Lost(id(5).after()));
        let deleted = |ms| about(Some(2), 7, 7).map(|it| About { max_deleted: Some(id(ms)), ..it });
        assert_eq!(counter(5, None).count(&page(&[7], deleted(6))), lost_before(7));
        assert_eq!(counter(5, None).count(&page(&[], deleted(7))), Lost(id(5).after()));
        // It was deleted after it was read.
        assert_eq!(counter(5, None).count(&page(&[6, 7], deleted(6))), Complete);
        // Redis before 7.
        let old = about(Some(7), 7, 7).map(|about| About { added: None, ..about });
        assert_eq!(counter(5, None).count(&page(&[7], old)), Complete);
        assert_eq!(counter(9, None).count(&page(&[], old)), StartedOver);
    }
}
