//! Catching up with what Redis reports about a stream: deletions, resets, and streams of other
//! applications.

use super::*;

#[test]
fn of_a_foreign_stream_what_came_before_its_first_entry_may_be_lost() {
    let before = |ms: u64| Loss::UpTo(entry_id(ms).before());
    let found = || vec![entry(7, None), entry(8, None)];
    let had = |ms| SyncState::Interrupted(entry_id(ms).into());
    let judged = |about, known| judged_of(Source::Streams, about, known, found(), (5, 1 << 50));
    for whole in [false, true] {
        assert_eq!(judged(None, SyncState::Nothing), (vec![7, 8], Loss::Nothing));
        let nothing = SyncState::Nothing;
        assert_eq!(judged(Some(about(7, 8, whole)), nothing), (vec![7, 8], before(7)));
        assert_eq!(judged(Some(about(3, 8, whole)), had(5)), (vec![7, 8], Loss::Nothing));
        assert_eq!(judged(None, had(5)), (vec![7, 8], Loss::Nothing));
    }
    assert_eq!(judged(Some(about(7, 8, false)), had(5)), (vec![7, 8], before(7)));
    let deleted = |ms: u64| {
        let max_deleted = Some(entry_id(ms).into());
        Some(About { max_deleted, ..about(3, 8, false) })
    };
    assert_eq!(judged(deleted(6), had(5)), (vec![7, 8], before(7)));
    assert_eq!(judged(deleted(5), had(5)), (vec![7, 8], Loss::Nothing));
    // It was deleted after it was read.
    assert_eq!(judged(deleted(7), had(5)), (vec![7, 8], Loss::Nothing));
    let none = judged_of(Source::Streams, None, SyncState::Nothing, vec![], (5, 1_000));
    assert_eq!(none, (vec![], Loss::Nothing));
}

#[test]
fn a_stream_starts_over_when_its_ids_fall_back_or_it_is_whole_behind_what_was_read() {
    let entry = Some(entry_id(5).into());
    assert!(!about(3, 5, true).started_over(entry));
    assert!(!about(7, 8, false).started_over(entry));
    assert!(about(1, 4, false).started_over(entry));
    assert!(about(7, 8, true).started_over(entry));
    assert!(!about(1, 4, false).started_over(None));
}

#[test]
fn a_stream_that_starts_over_is_read_again_from_its_beginning() {
    for page in [1, 2, 1_000] {
        let stream = PagedStream { entries: numbered(4), about: Some(about(1, 4, true)), page };
        for known in
            [SyncState::Left(entry_id(9).into()), SyncState::Interrupted(entry_id(9).into())]
        {
            let caught = caught(known, &stream, policy(Source::Streams, (5, 0)));
            assert_eq!((caught.0, caught.1), (vec![1, 2, 3, 4], Loss::Everything), "{page}");
        }
    }
}

#[test]
fn an_applications_stream_that_was_emptied_is_not_lost_and_one_that_was_deleted_is() {
    let known = SyncState::Interrupted(entry_id(50).into());
    let missing = |about| {
        let stream = PagedStream { entries: Vec::new(), about, page: 10 };
        caught(known, &stream, policy(Source::Streams, (5, 0))).1
    };
    let emptied = |newest| Some(About { first: None, ..about(1, newest, false) });
    assert_eq!(missing(emptied(50)), Loss::Nothing);
    assert_eq!(missing(emptied(60)), Loss::UpTo(entry_id(60)), "added and taken out meanwhile");
    assert_eq!(missing(emptied(40)), Loss::Everything, "another stream");
    assert_eq!(missing(None), Loss::Everything);
}

#[test]
fn a_stream_that_was_reset_while_it_was_not_read_is_described_before_it_is_believed() {
    let had = SyncState::Interrupted(entry_id(NOW - 500).into());
    let of = |prev: u64, first: u64, age: u64| {
        let entries = vec![entry(NOW - 100, Some(prev))];
        let stream = PagedStream { entries, about: Some(about(first, NOW - 100, true)), page: 10 };
        caught(had, &stream, policy(Source::PubSub, (5, age)))
    };
    let all = || vec![NOW - 100];
    // It follows what was read.
    assert_eq!(of(NOW - 500, NOW - 100, 0), (all(), Loss::Nothing, 1));
    assert_eq!(of(0, NOW - 100, 0), (all(), Loss::Everything, 3));
    // What was read is still there, or was restored in part.
    assert_eq!(of(0, NOW - 900, 0), (all(), Loss::Nothing, 2));
    let old = SyncState::Interrupted(entry_id(NOW - 3 * DAY).into());
    let stream = PagedStream {
        entries: vec![entry(NOW - 100, Some(0))],
        about: Some(about(NOW - 100, NOW - 100, true)),
        page: 10,
    };
    let expired = caught(old, &stream, policy(Source::PubSub, (5, DAY)));
    assert_eq!(expired, (all(), Loss::Nothing, 1));
}

#[test]
fn a_stream_that_is_not_there_was_lost_unless_it_has_outlived_its_time() {
    let of = |source, age, ms| {
        let known = SyncState::Interrupted(entry_id(ms).into());
        judged_of(source, None, known, vec![], (5, age)).1 == Loss::Everything
    };
    assert!(of(Source::PubSub, 1_000, NOW - 1_000));
    assert!(!of(Source::PubSub, 1_000, NOW - DAY));
    assert!(of(Source::PubSub, DAY, NOW - DAY) && !of(Source::PubSub, DAY, NOW - 2 * DAY));
    assert!(of(Source::PubSub, 0, 1) && of(Source::Streams, 1_000, 1));
}

/// What the hub gets of a stream: numbers, and what is lost before the next of them.
fn steps(known: SyncState, stream: &PagedStream, policy: FetchPolicy) -> String {
    let mut catch_up = CatchUp::new(Vec::new(), known, read(known));
    let mut steps = Vec::new();
    for _ in 0..100 {
        let (fetched, done) = catch_up.take(stream.page(&catch_up.range(policy)), policy);
        match fetched.missing {
            Loss::Nothing => {}
            Loss::Everything => steps.push("everything".to_owned()),
            Loss::UpTo(gone) if gone.seq == 0 => steps.push(format!("-{}", gone.ms)),
            Loss::UpTo(gone) => steps.push(format!("-{}.", gone.ms)),
        }
        steps.extend(fetched.entries.iter().map(|entry| entry.id.ms().to_string()));
        if done {
            return steps.join(" ");
        }
    }
    panic!("it does not end");
}

#[test]
fn a_loss_is_between_the_entries_where_others_are_missing() {
    let (had, left) =
        (SyncState::Interrupted(entry_id(5).into()), SyncState::Left(entry_id(5).into()));
    // Entries, and the one before each; for Redis' reply about the stream: its first entry, the
    // highest id that was deleted, and the newest one.
    let written =
        |ids: &[(u64, u64)]| ids.iter().map(|(id, prev)| entry(*id, Some(*prev))).collect();
    let foreign = |ids: &[u64]| ids.iter().map(|id| entry(*id, None)).collect();
    let about = |first: u64, deleted: u64, newest: u64| {
        let first = Some(entry_id(first).into()).filter(|_| first > 0);
        let max_deleted = Some(entry_id(deleted).into());
        Some(About { first, max_deleted, ..about(1, newest, false) })
    };
    let cases: [(Vec<Entry>, Option<About>, &str, &str); 10] = [
        (written(&[(6, 5), (7, 6), (9, 8), (10, 9)]), None, "6 7 -8 9 10", "-8 6 7 9 10"),
        (written(&[(7, 6), (8, 7), (10, 9)]), None, "-6 7 8 -9 10", "-9 7 8 10"),
        (written(&[(6, 5), (8, 7), (10, 9)]), None, "6 8 -9 10", "-9 6 8 10"),
        (foreign(&[6, 7, 9, 10]), about(3, 8, 10), "6 7 -8. 9 10", "-8 6 7 9 10"),
        (foreign(&[6, 7, 9, 10]), about(3, 6, 10), "6 7 9 10", "-2. 6 7 9 10"),
        (foreign(&[6, 7]), about(3, 8, 8), "6 7 -8", "-8 6 7"),
        (foreign(&[]), about(3, 8, 8), "-8", "-8"),
        (foreign(&[]), about(0, 0, 5), "", "-5"),
        (foreign(&[]), about(0, 5, 5), "", "-5"),
        (foreign(&[7, 10]), about(7, 9, 10), "-6. 7 -9. 10", "-9 7 10"),
    ];
    for (entries, about, known, unknown) in cases {
        let source = if about.is_some() { Source::Streams } else { Source::PubSub };
        let policy = policy(source, (5, 0));
        for page in [3, 1_000] {
            let stream = PagedStream { entries: entries.clone(), about, page };
            assert_eq!(steps(had, &stream, policy), known, "{about:?} {page}");
        }
        let stream = PagedStream { entries, about, page: 1_000 };
        assert_eq!(steps(left, &stream, policy), known, "{about:?}");
        assert_eq!(steps(SyncState::Nothing, &stream, policy), unknown, "{about:?}");
    }
}

#[test]
fn entries_that_disappear_behind_the_last_page_are_noticed_each_time() {
    let policy = policy(Source::Streams, (5, 0));
    let had = SyncState::Interrupted(entry_id(5).into());
    let mut catch_up = CatchUp::new(Vec::new(), had, read(had));
    let mut take = |ids: &[u64], more: bool, deleted: u64| {
        let entries = ids.iter().map(|id| entry(*id, None)).collect();
        let max_deleted = Some(entry_id(deleted).into());
        let about = Some(About { max_deleted, ..about(3, deleted.max(11), false) });
        let page = StreamPage { entries, more, about, length: None };
        let (fetched, done) = catch_up.take(page, policy);
        let read: Vec<u64> = fetched.entries.iter().map(|entry| entry.id.ms()).collect();
        (read, fetched.missing, done)
    };
    assert_eq!(take(&[6], false, 8), (vec![6], Loss::Nothing, false));
    assert_eq!(take(&[7, 9], true, 8), (vec![7], Loss::Nothing, false));
    let before_9 = Loss::UpTo(entry_id(9).before());
    assert_eq!(take(&[9, 10], true, 8), (vec![9, 10], before_9, false));
    assert_eq!(take(&[11], false, 12), (vec![11], Loss::Nothing, false));
    assert_eq!(take(&[], false, 12), (vec![], up_to(12), true));
}

#[test]
fn an_entry_that_is_deleted_once_it_was_read_backwards_is_no_loss() {
    let entries: Vec<Entry> = (5..9).map(|ms| entry(ms, None)).collect();
    let max_deleted = Some(entry_id(7).into());
    let about = Some(About { max_deleted, ..about(5, 8, true) });
    let stream = PagedStream { entries, about, page: 2 };
    let caught = caught(SyncState::Nothing, &stream, policy(Source::Streams, (10, 0)));
    assert_eq!((caught.0, caught.1), (vec![5, 6, 7, 8], Loss::UpTo(entry_id(5).before())));
}
