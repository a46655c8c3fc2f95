//! The ids of a page's entries: how many there are up to an id, and where others can be missing.

use crate::hub::ReportedId;
use crate::redis::stream_page::About;

/// The entries of a page, by their ids.
pub struct PageIds<'p> {
    /// The id up to which the stream was read before.
    pub had: ReportedId,
    /// The ids of the entries, all above `had`.
    pub ids: &'p [ReportedId],
    /// Whether there may be more entries after them.
    pub more: bool,
    /// A loss up to this id is no news.
    pub loss_up_to: ReportedId,
}

impl PageIds<'_> {
    /// Returns the id up to which the stream was read.
    pub fn last(&self) -> ReportedId {
        self.ids.last().copied().unwrap_or(self.had)
    }

    /// Returns whether an entry with this id, if it existed, is among those that were read.
    pub fn covers(&self, id: ReportedId) -> bool {
        id <= self.last() || !self.more
    }

    /// Returns how many entries have ids up to this one.
    pub fn up_to(&self, id: ReportedId) -> u64 {
        self.ids.partition_point(|other| *other <= id) as u64
    }

    /// Returns the place of an entry that existed after `had`, if it was not read.
    pub fn lacks(&self, id: ReportedId) -> Option<ReportedId> {
        match self.ids.binary_search(&id) {
            _ if id <= self.had.max(self.loss_up_to) => None,
            Ok(_) => None,
            Err(index) => Some(self.ids.get(index).map_or(id, |next| next.before())),
        }
    }

    /// Returns the last place at which an entry was trimmed or deleted before it was read, by the
    /// description of the stream. It shows only the highest id that was deleted.
    pub fn lacks_by(&self, about: About) -> Option<ReportedId> {
        about.added?;
        let deleted = about.max_deleted.filter(|id| *id <= self.last());
        let is_trimmed = about.trimmed_after(self.had);
        let trimmed = if is_trimmed { self.before_first_unknown() } else { None };
        trimmed.max(deleted.and_then(|id| self.lacks(id)))
    }

    /// Returns the place before the first entry, if others can have been there.
    pub fn before_first(&self) -> Option<ReportedId> {
        let first = self.ids.first().filter(|first| **first > self.had.after())?;
        Some(first.before())
    }

    /// Returns the same, unless it is known.
    pub fn before_first_unknown(&self) -> Option<ReportedId> {
        self.before_first().filter(|before| *before > self.loss_up_to)
    }

    /// Returns the last place at which an entry can be missing whose id is at most `newest`.
    /// `deleted`: no entry with a higher id was deleted.
    pub fn last_hole(&self, newest: ReportedId, deleted: Option<ReportedId>) -> ReportedId {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::id::EntryId;

    #[test]
    fn nothing_can_be_missing_between_an_id_and_the_next_possible_one() {
        let id = |seq| ReportedId::from(EntryId { ms: 5, seq });
        let before_first = |seq| {
            let ids = [id(seq)];
            let (had, loss_up_to) = (id(0), ReportedId::default());
            PageIds { had, ids: &ids, more: false, loss_up_to }.before_first()
        };
        assert_eq!([before_first(1), before_first(2)], [None, Some(id(1))]);
    }
}
