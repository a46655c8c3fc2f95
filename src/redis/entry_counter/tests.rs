use std::collections::BTreeSet;

use super::*;
use crate::redis::entry::Entry;
use crate::sse::id::EntryId;
use proptest::prelude::*;
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
fn an_entry_that_was_read_before_is_not_counted_again() {
    let mut counter = counter(5, Some(5));
    assert_eq!(counter.count(&page(&[5, 6], about(Some(1), 6, 6))), Complete);
    assert_eq!(counter.count(&page(&[6], about(Some(1), 6, 6))), Complete);
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

#[test]
fn pages_have_to_be_described_until_the_number_is_known() {
    let deleted = |ms| about(Some(2), 8, 8).map(|it| About { max_deleted: Some(id(ms)), ..it });
    let mut one = counter(5, None);
    assert!(one.needs_description());
    assert_eq!(one.count(&page(&[8], deleted(7))), lost_before(8));
    assert!(!one.needs_description() && !counter(5, Some(5)).needs_description());
    // 7 was deleted, or trimmed, after Redis had reported it.
    let trimmed = about(Some(8), 9, 9);
    let deleted = about(Some(6), 9, 9).map(|it| About { max_deleted: Some(id(7)), ..it });
    for removed in [trimmed, deleted] {
        let mut one = counter(5, None);
        assert_eq!(one.count(&page(&[6], about(Some(2), 8, 8))), Complete);
        assert!(one.needs_description() && one.is_behind());
        assert_eq!(one.count(&page(&[8, 9], removed)), lost_before(8));
        assert!(!one.needs_description() && !one.is_behind());
    }
    // Redis before 7, and a user without the permission.
    let old = about(Some(7), 7, 7).map(|about| About { added: None, ..about });
    let (mut one, mut other) = (counter(5, None), counter(5, None));
    one.count(&page(&[], old));
    other.is_not_described();
    assert!(!one.needs_description() && !other.needs_description());
}

/// A stream in Redis 7, and a reader of it.
#[derive(Default)]
struct Stream {
    entries: BTreeSet<u64>,
    newest: u64,
    added: u64,
    max_deleted: u64,
    /// Up to where the stream was read, and what was removed before it was.
    position: u64,
    lost: BTreeSet<u64>,
    losses: usize,
    reports: usize,
}

impl Stream {
    fn about(&self) -> About {
        About {
            first: self.entries.first().map(|first| id(*first)),
            whole: self.added == self.entries.len() as u64,
            newest: id(self.newest),
            added: Some(self.added),
            max_deleted: Some(id(self.max_deleted)),
        }
    }

    fn add(&mut self, step: u64) {
        (self.newest, self.added) = (self.newest + step, self.added + 1);
        self.entries.insert(self.newest);
    }

    fn remove(&mut self, index: usize) {
        let Some(gone) = self.entries.iter().copied().nth(index) else { return };
        self.entries.remove(&gone);
        if index > 0 {
            self.max_deleted = self.max_deleted.max(gone);
        }
        if gone > self.position {
            self.lost.insert(gone);
            self.losses += 1;
        }
    }

    /// Reads a page of at most this many entries, and perhaps the description.
    fn read(&mut self, counter: &mut EntryCounter, most: usize, is_described: bool) {
        let ids: Vec<u64> = self.entries.range(self.position + 1..).copied().take(most).collect();
        let about = is_described.then(|| self.about());
        let audit = counter.count(&StreamPage { more: ids.len() == most, ..page(&ids, about) });
        if let Lost(up_to) = audit {
            assert!(up_to > id(self.position), "{up_to} was read before");
            self.lost.retain(|lost| id(*lost) > up_to);
            self.reports += 1;
        }
        assert_ne!(audit, StartedOver);
        self.position = ids.last().copied().unwrap_or(self.position);
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(u64),
    Remove(usize),
    Read(usize, bool),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        3 => (1..4u64).prop_map(Operation::Add),
        1 => (0..6usize).prop_map(Operation::Remove),
        2 => (1..4usize, any::<bool>()).prop_map(|(most, about)| Operation::Read(most, about)),
    ];
    prop::collection::vec(operation, 0..24)
}

/// Returns a stream with one entry, which was read.
fn stream_with_one() -> Stream {
    let mut stream = Stream::default();
    stream.add(5);
    stream.position = 5;
    stream
}

/// Runs these operations, and reads the rest. Pages are described where the counter needs that.
fn run_all(stream: &mut Stream, counter: &mut EntryCounter, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::Add(step) => stream.add(*step),
            Operation::Remove(index) => stream.remove(*index),
            Operation::Read(most, about) => {
                let is_described = *about || counter.needs_description();
                stream.read(counter, *most, is_described);
            }
        }
    }
    for _ in 0..30 {
        stream.read(counter, 3, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// It is known how many entries were added before.
    #[test]
    fn every_entry_is_read_or_reported_as_lost_and_nothing_else_is(operations in operations()) {
        let (mut stream, mut counter) = (stream_with_one(), counter(5, Some(1)));
        run_all(&mut stream, &mut counter, &operations);
        prop_assert!(stream.lost.is_empty(), "{:?} lost, and nobody noticed", stream.lost);
        prop_assert!(!counter.is_behind());
        prop_assert!(stream.reports <= stream.losses);
    }

    /// It is not known, as after a handover. A loss can be reported although entries were only
    /// trimmed that had been read.
    #[test]
    fn every_entry_is_read_or_reported_if_the_number_is_not_known(operations in operations()) {
        let (mut stream, mut counter) = (stream_with_one(), counter(5, None));
        run_all(&mut stream, &mut counter, &operations);
        prop_assert!(stream.lost.is_empty(), "{:?} lost, and nobody noticed", stream.lost);
        prop_assert!(!counter.is_behind());
    }
}

#[test]
fn what_was_deleted_behind_a_page_is_noticed_with_the_page_that_covers_it() {
    let deleted = about(Some(1), 10, 9).map(|about| About { max_deleted: Some(id(8)), ..about });
    let mut counter = counter(5, None);
    let more = |page: StreamPage| StreamPage { more: true, ..page };
    assert_eq!(counter.count(&more(page(&[6], deleted))), Complete);
    assert_eq!(counter.count(&more(page(&[7], None))), Complete);
    assert_eq!(counter.count(&page(&[9, 10], None)), lost_before(9));
}

#[test]
fn a_loss_before_the_first_entry_that_is_known_is_no_news() {
    let trimmed = || page(&[7], about(Some(7), 7, 1));
    assert_eq!(counter(5, None).count(&trimmed()), lost_before(7));
    let mut counter = counter(5, None).after_loss(id(7).before());
    assert_eq!(counter.count(&trimmed()), Complete);
}
