use super::*;
use crate::redis::entry::Entry;
use crate::redis::message::Durable;
use DeliveryMode::{Alone, Counts, Repeats};

fn id(text: &str) -> ReportedId {
    ReportedId::parse(text.as_bytes()).expect("an id")
}

fn durable(new: &str, prev: &str) -> Message<'static> {
    let (event_type, data) = (b""[..].into(), b""[..].into());
    Message::Durable(Durable { id: id(new), prev: id(prev), event_type, data })
}

fn plain() -> Message<'static> {
    Message::Plain(b"plain"[..].into())
}

#[test]
fn an_event_is_next_or_repeated_or_behind_a_hole_or_its_stream_has_started_over() {
    use EventOrder::{AfterGap, Next, Repetition, StartedOver};
    // id, prev, last: alone, while repetitions come, while two count.
    let table = [
        ("5-0", "4-0", "4-0", [Next, Next, Next]),
        ("5-0", "0-0", "0-0", [Next, Next, Next]),
        ("5-1", "4-7", "5-0", [Next, Next, Next]),
        ("5-0", "4-1", "4-0", [AfterGap; 3]),
        ("5-0", "4-0", "0-0", [AfterGap; 3]),
        ("5-0", "4-0", "5-0", [StartedOver, Repetition, Repetition]),
        ("3-0", "0-0", "5-0", [StartedOver, Repetition, Repetition]),
    ];
    for (new, prev, last, orders) in table {
        for (mode, wanted) in [Alone, Repeats, Counts].into_iter().zip(orders) {
            let found = order(id(new), id(prev), id(last), mode);
            assert_eq!(found, wanted, "{new} behind {prev}, after {last}, {mode:?}");
        }
    }
}

#[test]
fn a_message_is_appended_or_waits_or_makes_its_stream_be_read() {
    use MessageAction::{CatchUp, LookUp, Skip, StartOver, Wait};
    let append = MessageAction::Append(InOrder(()));
    let doubtful = || Message::Doubtful(id("7-0"));
    let in_step = ChannelOrder::InSync(id("4-0"));
    let unfollowed = ChannelOrder::Unfollowed;
    let [matched, unmatched] =
        [true, false].map(|is_matched| ChannelOrder::CatchingUp { is_matched });
    // The action, and the one while plain messages are skipped.
    let table = [
        (plain(), in_step, append, Skip),
        (plain(), unfollowed, append, Skip),
        (plain(), matched, Wait, Skip),
        (plain(), unmatched, Wait, Wait),
        (durable("5-0", "4-0"), in_step, append, append),
        (durable("5-0", "4-1"), in_step, CatchUp, CatchUp),
        (durable("3-0", "0-0"), in_step, StartOver, StartOver),
        (durable("3-0", "2-0"), unfollowed, append, append),
        (durable("5-0", "4-0"), matched, Wait, Wait),
        (durable("5-0", "4-0"), unmatched, Wait, Wait),
        (doubtful(), in_step, LookUp(id("7-0")), LookUp(id("7-0"))),
        (doubtful(), unfollowed, LookUp(id("7-0")), LookUp(id("7-0"))),
        (doubtful(), matched, LookUp(id("7-0")), LookUp(id("7-0"))),
    ];
    for (message, channel, wanted, skipping) in table {
        assert_eq!(classify(&message, channel, Alone, false), wanted, "{message:?}, {channel:?}");
        assert_eq!(classify(&message, channel, Alone, true), skipping, "{message:?}, {channel:?}");
    }
}

/// Entries with these ids, the last of which is the newest.
fn fetched(ids: &[&str], missing: Loss) -> Fetched {
    let entry = |text: &&str| Entry {
        id: id(text),
        prev: None,
        number: None,
        event_type: Vec::new(),
        data: Vec::new(),
        skipped: 0,
    };
    let entries: Vec<Entry> = ids.iter().map(entry).collect();
    let newest = entries.last().map(|entry| entry.id);
    Fetched { entries, missing, newest, added: None, is_first: false }
}

/// What becomes of these messages (id, prev): `+` appended, `-` read already, `?` read again.
fn release(messages: &[(&str, &str)], before: usize, fetched: &Fetched) -> String {
    let messages: Vec<Message<'_>> = messages
        .iter()
        .map(|(new, prev)| if new.is_empty() { plain() } else { durable(new, prev) })
        .collect();
    let last = fetched.newest.unwrap_or(id("4-0"));
    let ids = messages.iter().map(Message::id);
    let mut order = WaitingOrder::new(ids, before, fetched, last);
    let sign = |message| match order.release(message) {
        Released::Append(_) => '+',
        Released::AppendAfterLoss(_, up_to) => {
            assert!(up_to < id("8-0"));
            '!'
        }
        Released::AlreadyRead => '-',
        Released::ReadAgain => '?',
    };
    messages.iter().map(sign).collect()
}

#[test]
fn a_message_that_waited_is_appended_unless_it_was_read() {
    let read = fetched(&["5-0", "6-0"], Loss::Nothing);
    let live = [("5-0", "4-0"), ("", ""), ("6-0", "5-0"), ("", ""), ("7-0", "6-0")];
    assert_eq!(release(&live, 0, &read), "-+-++");
    // What was published before the stream was read may have been trimmed by then.
    assert_eq!(release(&[("4-5", "4-0"), ("6-0", "5-0")], 0, &read), "--");
    assert_eq!(release(&[("7-0", "6-0")], 0, &fetched(&[], Loss::Nothing)), "?");
    assert_eq!(release(&[("7-0", "4-0")], 0, &fetched(&[], Loss::Nothing)), "+");
}

#[test]
fn a_stream_that_starts_over_after_it_was_read_is_read_again() {
    let read = fetched(&["5-0", "6-0"], Loss::Nothing);
    assert_eq!(release(&[("3-0", "0-0")], 0, &read), "?");
    assert_eq!(release(&[("6-0", "5-0"), ("3-0", "0-0")], 0, &read), "-?");
    // An event between the two was missed.
    assert_eq!(release(&[("8-0", "7-0")], 0, &read), "?");
}

#[test]
fn a_stream_is_not_read_twice_for_the_same_message() {
    let read = fetched(&["5-0", "6-0"], Loss::Nothing);
    assert_eq!(release(&[("3-0", "0-0"), ("8-0", "7-0")], 2, &read), "-!");
    assert_eq!(release(&[("3-0", "0-0"), ("4-0", "3-0")], 1, &read), "-?");
    let nothing = fetched(&[], Loss::Nothing);
    assert_eq!(release(&[("3-0", "0-0"), ("7-0", "6-0")], 2, &nothing), "-!");
}

#[test]
fn messages_of_a_stream_before_it_started_over_are_part_of_the_gap() {
    let read = fetched(&["2-0", "3-0"], Loss::Everything);
    assert_eq!(release(&[("9-0", "8-0"), ("2-0", "0-0"), ("3-0", "2-0")], 0, &read), "---");
}

#[test]
fn what_may_be_a_repetition_is_dropped_and_its_stream_is_read_afterwards() {
    let in_step = ChannelOrder::InSync(id("4-0"));
    for mode in [Repeats, Counts] {
        let dropped = classify(&durable("3-0", "0-0"), in_step, mode, false);
        assert_eq!(dropped, MessageAction::DropRepetition(id("3-0")));
        let next = classify(&durable("5-0", "4-0"), in_step, mode, false);
        assert_eq!(next, MessageAction::Append(InOrder(())));
    }
    let behind_hole = |mode| classify(&durable("6-0", "5-0"), in_step, mode, false);
    assert_eq!(behind_hole(Repeats), MessageAction::CatchUp);
    assert_eq!(behind_hole(Counts), MessageAction::LookUp(id("6-0")));
}
