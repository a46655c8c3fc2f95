mod described;

use super::*;
use crate::hub::Now;
use crate::sse::id::EntryId;

const NOW: u64 = 1_763_807_585_123;

fn entry_id(ms: u64) -> EntryId {
    EntryId { ms, seq: 0 }
}

fn entry(ms: u64, prev: Option<u64>) -> Entry {
    let (event_type, data) = (Vec::new(), Vec::new());
    let id = |ms| entry_id(ms).into();
    Entry { id: id(ms), prev: prev.map(id), number: None, event_type, data, skipped: 0 }
}

fn policy(source: Source, (count, age): (u64, u64)) -> FetchPolicy {
    let (history, runs) = (History { count, age }, History::NONE);
    let latest = Latest::here(Now { wall: NOW, ..Now::default() });
    let (room, kept) = (usize::MAX, usize::MAX);
    FetchPolicy { history, runs, source, now: NOW, latest, room, kept }
}

/// A stream in Redis, of which a few entries are read at a time.
struct PagedStream {
    entries: Vec<Entry>,
    about: Option<About>,
    page: usize,
}

impl PagedStream {
    fn page(&self, range: &PageRequest) -> StreamPage {
        let all = self.entries.iter().cloned();
        let mut entries: Vec<Entry> = match range.span {
            IdSpan::After(id) => all.filter(|entry| entry.id > id).collect(),
            IdSpan::From(id) => all.filter(|entry| entry.id >= id).collect(),
            IdSpan::Newest => all.rev().collect(),
            IdSpan::Before(id) => all.rev().filter(|entry| entry.id < id).collect(),
        };
        let most = self.page.min(usize::try_from(range.most).unwrap_or(usize::MAX));
        let more = entries.len() >= most;
        entries.truncate(most);
        let about = self.about.filter(|_| range.about);
        StreamPage {
            entries,
            more,
            about,
            length: range.length.then_some(self.entries.len() as u64),
        }
    }
}

/// The newest entry that was read.
fn read(known: SyncState) -> Option<ReportedId> {
    match known {
        SyncState::Nothing => None,
        SyncState::Left(had) | SyncState::Interrupted(had) => {
            Some(had).filter(|had| *had > ReportedId::default())
        }
    }
}

fn about(first: u64, newest: u64, whole: bool) -> About {
    let (first, newest) = (Some(entry_id(first).into()), entry_id(newest).into());
    About { first, whole, newest, added: None, max_deleted: None }
}

/// All that is caught up: numbers, what is missing before them, and how many pages that took.
fn caught(known: SyncState, stream: &PagedStream, policy: FetchPolicy) -> (Vec<u64>, Loss, u32) {
    let mut catch_up = CatchUp::new(Vec::new(), known, read(known));
    let (mut numbers, mut missing) = (Vec::new(), Loss::Nothing);
    for pages in 1..1_000 {
        let (fetched, done) = catch_up.take(stream.page(&catch_up.range(policy)), policy);
        if fetched.missing != Loss::Nothing {
            assert!(numbers.is_empty(), "a hole in the middle");
            missing = fetched.missing;
        }
        numbers.extend(fetched.entries.iter().map(|entry| entry.id.ms()));
        if done {
            return (numbers, missing, pages);
        }
    }
    panic!("it does not end");
}

/// The same in one page.
fn judged(known: SyncState, found: Vec<Entry>, count: u64, age: u64) -> (Vec<u64>, Loss) {
    judged_of(Source::PubSub, None, known, found, (count, age))
}

fn judged_of(
    source: Source,
    about: Option<About>,
    known: SyncState,
    entries: Vec<Entry>,
    history: (u64, u64),
) -> (Vec<u64>, Loss) {
    let stream = PagedStream { entries, about, page: 1_000 };
    let (numbers, missing, pages) = caught(known, &stream, policy(source, history));
    assert!(pages <= 2);
    (numbers, missing)
}

fn up_to(ms: u64) -> Loss {
    Loss::UpTo(entry_id(ms))
}

#[test]
fn of_an_unknown_channel_comes_what_is_owed_and_where_that_begins() {
    let found = || vec![entry(1, None), entry(2, Some(1)), entry(3, Some(2))];
    let nothing = SyncState::Nothing;
    assert_eq!(judged(nothing, found(), 5, 0), (vec![1, 2, 3], Loss::Nothing));
    assert_eq!(judged(nothing, found(), 2, 0), (vec![2, 3], up_to(1)));
    assert_eq!(judged(nothing, found()[1..].to_vec(), 5, 0), (vec![2, 3], up_to(1)));
    assert_eq!(judged(nothing, found(), 0, 0), (vec![], up_to(3)));
    assert_eq!(judged(nothing, vec![entry(7, Some(0))], 5, 0), (vec![7], Loss::Nothing));
}

#[test]
fn an_unfinished_run_is_owed_besides_history() {
    let number = |entry: Entry, number| Entry { number: Some(number), ..entry };
    let finish = |ms, prev| Entry {
        event_type: crate::sse::finish::EVENT_TYPE.to_vec(),
        ..entry(ms, Some(prev))
    };
    // Two runs: 1 and 2, and from 4 on.
    let all: Vec<Entry> = [entry(1, None), entry(2, Some(1)), finish(3, 2)]
        .into_iter()
        .chain((4..9).map(|ms| entry(ms, Some(ms - 1))))
        .collect();
    let judged = |entries: &[Entry], page, (history, runs): ((u64, u64), (u64, u64))| {
        let stream = PagedStream { entries: entries.to_vec(), about: None, page };
        let runs = History { count: runs.0, age: runs.1 };
        let policy = FetchPolicy { runs, ..policy(Source::PubSub, history) };
        let (numbers, missing, _) = caught(SyncState::Nothing, &stream, policy);
        (numbers, missing)
    };
    for page in [1, 3, 1_000] {
        for (owed, numbers, missing) in [
            (((1, 0), (0, 0)), vec![8], up_to(7)),
            (((1, 0), (9, 0)), vec![3, 4, 5, 6, 7, 8], up_to(2)),
            (((0, 0), (9, 0)), vec![3, 4, 5, 6, 7, 8], up_to(2)),
            (((6, 0), (9, 0)), vec![2, 3, 4, 5, 6, 7, 8], up_to(1)),
            (((1, 0), (3, 0)), vec![6, 7, 8], up_to(5)),
            // All of them are too old.
            (((9, 1_000), (9, 1_000)), vec![], up_to(8)),
        ] {
            assert_eq!(judged(&all, page, owed), (numbers, missing), "{owed:?}");
        }
    }
    // The finish was trimmed, and the first entry of the run says that it is.
    let numbered: Vec<Entry> =
        all[3..].iter().cloned().zip(0..).map(|(entry, n)| number(entry, n)).collect();
    let with_older = [vec![entry(2, Some(1))], numbered].concat();
    assert_eq!(judged(&with_older, 1_000, ((1, 0), (9, 0))), ((4..9).collect(), up_to(3)));
}

#[test]
fn what_is_too_old_is_not_owed() {
    let found = vec![entry(NOW - 9_000, Some(5)), entry(NOW - 1_000, Some(NOW - 9_000))];
    let judged = judged(SyncState::Nothing, found, 5, 5_000);
    assert_eq!(judged, (vec![NOW - 1_000], up_to(NOW - 9_000)));
}

#[test]
fn where_there_is_no_stream_nothing_was_published_for_as_long_as_one_is_kept() {
    assert_eq!(judged(SyncState::Nothing, vec![], 5, 1_000), (vec![], up_to(NOW - DAY)));
    assert_eq!(judged(SyncState::Nothing, vec![], 5, DAY), (vec![], up_to(NOW - 2 * DAY)));
    assert_eq!(judged(SyncState::Nothing, vec![], 5, 0), (vec![], Loss::Nothing));
}

#[test]
fn what_is_lost_up_to_an_id_that_nobody_believes_may_be_everything() {
    let found = || vec![entry(NOW * 1_000 + 1, Some(NOW * 1_000))];
    let had = SyncState::Interrupted(entry_id(5).into());
    let gone = |known| judged(known, found(), 5, 0);
    for known in [had, SyncState::Nothing] {
        assert_eq!(gone(known), (vec![NOW * 1_000 + 1], Loss::Everything));
    }
    let read = SyncState::Interrupted(entry_id(NOW * 1_000).into());
    assert_eq!(gone(read).1, Loss::Nothing);
}

#[test]
fn a_known_channel_has_a_hole_only_if_an_event_behind_what_it_had_is_gone() {
    let had = SyncState::Interrupted(entry_id(5).into());
    assert_eq!(judged(had, vec![entry(8, Some(5))], 1, 1), (vec![8], Loss::Nothing));
    assert_eq!(judged(had, vec![entry(8, Some(3))], 1, 1), (vec![8], Loss::Nothing));
    assert_eq!(judged(had, vec![entry(8, Some(7))], 1, 1), (vec![8], up_to(7)));
}

/// Numbers 1 to `last`, each of which says what came before it.
fn numbered(last: u64) -> Vec<Entry> {
    (1..=last).map(|ms| entry(ms, Some(ms - 1))).collect()
}

#[test]
fn the_size_of_a_page_does_not_matter() {
    let known = [
        SyncState::Nothing,
        SyncState::Left(ReportedId::default()),
        SyncState::Left(entry_id(13).into()),
        SyncState::Left(entry_id(30).into()),
        SyncState::Interrupted(entry_id(13).into()),
        SyncState::Interrupted(entry_id(30).into()),
    ];
    for known in known {
        for (count, kept) in [(0, 1_000), (5, 1_000), (12, 0), (100, 200), (100, usize::MAX)] {
            let policy = FetchPolicy { kept, ..policy(Source::PubSub, (count, 0)) };
            let of = |page| {
                caught(known, &PagedStream { entries: numbered(30), about: None, page }, policy)
            };
            let (all, missing, _) = of(1_000);
            for page in [1, 2, 7, 29, 30, 31] {
                let (numbers, gone, _) = of(page);
                let owed = 30 - count.min(30);
                match known {
                    SyncState::Interrupted(had) => {
                        assert_eq!(numbers, (had.ms() + 1..=30).collect::<Vec<_>>());
                        assert_eq!(gone, Loss::Nothing);
                    }
                    SyncState::Nothing => {
                        assert_eq!((&numbers, gone), (&all, missing), "{page} {count} {kept}");
                        assert_eq!(numbers, (owed + 1..=30).collect::<Vec<_>>());
                    }
                    // In one page there is no need to look at what is owed.
                    SyncState::Left(had) if page > 30 - had.ms() as usize => {
                        assert_eq!(numbers, (had.ms() + 1..=30).collect::<Vec<_>>());
                    }
                    SyncState::Left(had) => {
                        let from = had.ms().max(owed);
                        assert_eq!(numbers, (from + 1..=30).collect::<Vec<_>>(), "{page} {count}");
                        let lost = if owed > had.ms() { up_to(owed) } else { Loss::Nothing };
                        assert_eq!(gone, lost);
                    }
                }
            }
        }
    }
}

#[test]
fn no_more_is_fetched_than_there_is_room_for() {
    let room = 10 * entry(1, None).size();
    let policy = FetchPolicy { room, kept: 0, ..policy(Source::PubSub, (1_000, 0)) };
    let stream = PagedStream { entries: numbered(100), about: None, page: 7 };
    let (numbers, missing, _) = caught(SyncState::Nothing, &stream, policy);
    assert_eq!((numbers, missing), ((91..=100).collect(), up_to(90)));
}

#[test]
fn what_is_trimmed_while_it_is_read_is_a_hole() {
    let mut stream = PagedStream { entries: numbered(30), about: None, page: 10 };
    let policy = policy(Source::PubSub, (100, 0));
    let mut catch_up =
        CatchUp::new(Vec::new(), SyncState::Interrupted(ReportedId::default()), None);
    let (fetched, done) = catch_up.take(stream.page(&catch_up.range(policy)), policy);
    assert_eq!((fetched.missing, done), (Loss::Nothing, false));
    stream.entries.drain(..15);
    let (fetched, done) = catch_up.take(stream.page(&catch_up.range(policy)), policy);
    assert_eq!((fetched.missing, done), (up_to(15), false));
    assert_eq!(fetched.entries.first().map(|entry| entry.id.ms()), Some(16));
}

#[test]
fn an_entry_that_the_hub_has_had_is_not_appended_again() {
    let policy = policy(Source::PubSub, (100, 0));
    let had = SyncState::Interrupted(entry_id(3).into());
    let mut catch_up = CatchUp::new(Vec::new(), had, None);
    let page = StreamPage { entries: numbered(4)[2..].to_vec(), ..StreamPage::default() };
    let (fetched, done) = catch_up.take(page, policy);
    let ids: Vec<u64> = fetched.entries.iter().map(|entry| entry.id.ms()).collect();
    assert_eq!((ids, fetched.missing, done), (vec![4], Loss::Nothing, true));
}

#[test]
fn the_length_is_requested_once_and_only_of_a_stream_that_has_had_entries() {
    let policy = policy(Source::PubSub, (100, 0));
    let had = SyncState::Interrupted(entry_id(3).into());
    let mut catch_up = CatchUp::new(Vec::new(), had, Some(entry_id(3).into()));
    assert!(catch_up.range(policy).length);
    let stream = PagedStream { entries: numbered(30), about: None, page: 10 };
    catch_up.take(stream.page(&catch_up.range(policy)), policy);
    assert!(!catch_up.range(policy).length);
    assert!(!CatchUp::new(Vec::new(), had, None).range(policy).length);
}

#[test]
fn a_history_that_may_be_kept_and_a_single_entry_are_read_once() {
    let size = entry(1, None).size();
    let pages = |last, kept| {
        let policy = FetchPolicy { kept, ..policy(Source::PubSub, (100, 0)) };
        let stream = PagedStream { entries: numbered(last), about: None, page: 100 };
        let (numbers, _, pages) = caught(SyncState::Nothing, &stream, policy);
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
        pages
    };
    assert_eq!([pages(1, size - 1), pages(2, 2 * size), pages(2, 2 * size - 1)], [1, 1, 2]);
}
