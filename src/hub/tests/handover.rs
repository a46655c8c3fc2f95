//! The handover of the subscription: two holders on one region read the same messages, each at its
//! own pace, and the old one dies or stops anywhere. Plain messages after the marker are in the log
//! once, in their order.

use std::panic::{catch_unwind, AssertUnwindSafe};

use super::connected_hub::{id, incoming, region_of};
use super::random::Random;
use super::*;
use crate::hub::memory::region::Died;

const NUMBER: u64 = 0xabcd;

/// The messages that Redis sends on both connections.
#[derive(Clone, Debug)]
enum Message {
    Plain(&'static str, String),
    Durable(&'static str, u64),
    Marker(u64),
}

/// A process of one side, which has mapped the region itself.
struct Side {
    hub: Hub,
    token: FencingToken,
    /// The messages that it has read.
    read: usize,
}

impl Side {
    /// Appends up to `count` messages as one batch, as a holder does.
    fn take_in(&mut self, messages: &[Message], count: usize) -> Result<(), LeaseError> {
        let end = messages.len().min(self.read + count);
        let mut batch = Vec::new();
        for message in &messages[self.read..end] {
            match message {
                Message::Plain(channel, data) => {
                    batch.push(incoming(channel, Provenance::Plain, data, 0))
                }
                Message::Durable(channel, ms) => {
                    batch.push(incoming(channel, Provenance::Live(id(*ms).into()), "durable", 0));
                }
                Message::Marker(number) => {
                    self.hub.ingest(self.token, &batch, at(0))?;
                    batch.clear();
                    self.hub.marker_was_read(self.token, *number)?;
                }
            }
        }
        self.hub.ingest(self.token, &batch, at(0))?;
        self.read = end;
        Ok(())
    }
}

/// Creates a hub with a holder that serves channels `a` and `b`.
fn holder(bytes: usize) -> Side {
    let hub = Hub::attach(region_of(bytes, Source::PubSub, 1_000, 0)).unwrap();
    let holder = hub.claim_slot().unwrap();
    let token = hub.take_fencing_token(holder, at(0)).unwrap();
    hub.new_epoch(token, id(0)).unwrap();
    hub.set_link(token, RedisState::Up).unwrap();
    for channel in ["a", "b"] {
        let member = hub.join(holder, channel.as_bytes(), at(0)).unwrap();
        let known = hub.sync_state(member).unwrap();
        hub.caught_up(token, member, known, Loss::Nothing).unwrap();
    }
    Side { hub, token, read: 0 }
}

fn other_process(hub: &Hub) -> Hub {
    Hub::attach(hub.region.clone()).unwrap()
}

/// Returns the texts of all plain messages in the log, in its order.
fn plain_texts(hub: &Hub) -> Vec<String> {
    let mut copied = EventCopy::default();
    (1..=hub.head())
        .filter_map(|position| hub.descriptor(position))
        .filter(|found| found.signal().is_none())
        .map(|found| {
            assert!(hub.copy(found, at(0), &mut copied));
            text(&copied)
        })
        .filter(|text| text.starts_with('p'))
        .collect()
}

#[test]
fn the_words_of_the_protocol() {
    let old = holder(1 << 18);
    let new = other_process(&old.hub);
    assert!(!new.is_retiring() && new.successor().is_none());
    old.hub.retire(old.token).unwrap();
    assert!(new.is_retiring());
    let held = new.try_succeed().unwrap();
    new.announce_successor(NUMBER).unwrap();
    assert_eq!(old.hub.successor(), Some(NUMBER));
    assert!(!new.is_frozen(NUMBER));
    old.hub.freeze(old.token, NUMBER).unwrap();
    assert!(new.is_frozen(NUMBER) && !new.is_frozen(NUMBER + 1));
    // The marker of another successor is ignored.
    old.hub.marker_was_read(old.token, NUMBER + 1).unwrap();
    assert!(!new.has_read_marker(NUMBER) && !new.has_read_marker(NUMBER + 1));
    old.hub.marker_was_read(old.token, NUMBER).unwrap();
    assert!(new.has_read_marker(NUMBER));
    let come = |data: &str| {
        old.hub.ingest(old.token, &[incoming("a", Provenance::Plain, data, 0)], at(0)).unwrap();
    };
    come("p1");
    // A repeated marker does not restart the count.
    old.hub.marker_was_read(old.token, NUMBER).unwrap();
    come("p2");
    let claim = new.claim_slot().unwrap();
    let (token, taken) = new.take_over(claim, NUMBER, at(0)).unwrap();
    assert_eq!(taken, TakenOver::Behind(2));
    assert!(!new.is_retiring() && new.successor().is_none() && !new.has_read_marker(NUMBER));
    assert_eq!(new.holder_slot(), Some(claim.slot));
    assert_ne!(token, old.token);
    drop(held);
    // What is appended now is not counted.
    new.ingest(token, &[incoming("a", Provenance::Plain, "p3", 0)], at(0)).unwrap();
    assert_eq!(new.region.get(layout::header::BEHIND_MARKER), 0);
}

#[test]
fn after_the_death_of_a_successor_the_next_one_counts_from_zero() {
    let old = holder(1 << 18);
    let new = other_process(&old.hub);
    old.hub.retire(old.token).unwrap();
    let come = || {
        old.hub.ingest(old.token, &[incoming("a", Provenance::Plain, "p", 0)], at(0)).unwrap();
    };
    for number in [5, 6, 7] {
        new.announce_successor(number).unwrap();
        assert!(!new.is_frozen(number) && !new.has_read_marker(number));
        old.hub.freeze(old.token, number).unwrap();
        come();
        old.hub.marker_was_read(old.token, number).unwrap();
        come();
        if number == 5 {
            let held = old.hub.try_succeed().unwrap();
            old.hub.forget_successor(old.token, &held).unwrap();
            assert!(old.hub.successor().is_none() && !new.is_frozen(5) && new.is_retiring());
            come();
        }
    }
    // The marker of a successor that has died arrives late.
    old.hub.marker_was_read(old.token, 6).unwrap();
    assert!(new.has_read_marker(7));
    let claim = new.claim_slot().unwrap();
    assert_eq!(new.take_over(claim, 7, at(0)).unwrap().1, TakenOver::Behind(1));
    new.announce_successor(8).unwrap();
    assert_eq!(new.take_over(claim, 8, at(0)).unwrap().1, TakenOver::Unmarked);
}

#[test]
fn skipped_messages_are_counted_too() {
    let old = holder(1 << 18);
    let new = other_process(&old.hub);
    new.announce_successor(NUMBER).unwrap();
    old.hub.marker_was_read(old.token, NUMBER).unwrap();
    let large = "p".repeat(2_000);
    let arrivals = [
        incoming("a", Provenance::Plain, &large, 0),
        incoming("a", Provenance::Live(id(7).into()), "durable", 0),
        incoming("a", Provenance::Plain, "p", 0),
    ];
    assert_eq!(old.hub.ingest(old.token, &arrivals, at(0)).unwrap().appended, 2);
    let claim = new.claim_slot().unwrap();
    assert_eq!(new.take_over(claim, NUMBER, at(0)).unwrap().1, TakenOver::Behind(2));
}

#[test]
fn a_deletion_after_the_marker_is_counted() {
    let old = holder(1 << 18);
    let new = other_process(&old.hub);
    old.hub.forget_for_all(old.token, b"a", at(0)).unwrap();
    new.announce_successor(NUMBER).unwrap();
    old.hub.marker_was_read(old.token, NUMBER).unwrap();
    old.hub
        .ingest(old.token, &[incoming("a", Provenance::Live(id(7).into()), "x", 0)], at(0))
        .unwrap();
    old.hub.forget_for_all(old.token, b"a", at(0)).unwrap();
    // A successor that was not announced.
    old.hub.forget_for_all(old.token, b"other", at(0)).unwrap();
    assert!(old.hub.retained(b"a").is_empty());
    let claim = new.claim_slot().unwrap();
    assert_eq!(new.take_over(claim, NUMBER, at(0)).unwrap().1, TakenOver::Behind(2));
    assert_eq!(old.hub.forget_for_all(old.token, b"a", at(0)), Err(LeaseError::Fenced));
}

/// Runs one random handover. Returns whether the holder died in the middle of a store.
pub fn one(random: &mut Random) -> bool {
    let mut old = holder(1 << 16);
    let new = other_process(&old.hub);
    old.hub.retire(old.token).unwrap();
    let _succession = new.try_succeed().unwrap();
    new.announce_successor(NUMBER).unwrap();
    old.hub.freeze(old.token, NUMBER).unwrap();

    let marker = random.below(12) as usize;
    let count = marker + 1 + random.below(30) as usize;
    let large = "p".repeat(2_000);
    let messages: Vec<Message> = (0..count)
        .map(|i| match random.below(8) {
            _ if i == marker => Message::Marker(NUMBER),
            0 | 1 => Message::Durable(["a", "b"][i % 2], 100 + i as u64),
            // These cannot be appended, so both skip them.
            2 | 3 => Message::Plain("a", large.clone()),
            _ => Message::Plain(["a", "b"][random.below(2) as usize], format!("p{i}")),
        })
        .collect();

    // The holder reads at its own pace. It dies at some store, or the successor is faster.
    let last = random.below(count as u64 + 1) as usize;
    let mut dead = false;
    if random.below(2) == 0 {
        old.hub.region.die_before(random.below(40 * last.max(1) as u64) as i64);
    }
    while old.read < last && !dead {
        let some = (1 + random.below(5) as usize).min(last - old.read);
        let end = catch_unwind(AssertUnwindSafe(|| old.take_in(&messages, some).unwrap()));
        dead = end.is_err();
        if let Err(panic) = end {
            assert!(panic.is::<Died>());
        }
    }
    old.hub.region.defuse();

    // The successor has kept everything after the marker, as far as it has read, and takes over.
    let seen = new.has_read_marker(NUMBER);
    let claim = new.claim_slot().unwrap();
    let (token, taken) = new.take_over(claim, NUMBER, at(0)).unwrap();
    let behind = match taken {
        TakenOver::Behind(count) => count as usize,
        TakenOver::Unmarked => 0,
    };
    // If the holder died in the store that records it, the lock's next owner completes it.
    let has_read_marker = taken != TakenOver::Unmarked;
    assert!(has_read_marker || !seen && old.read <= marker);
    let mut skip = behind;
    let rest: Vec<Message> = messages[marker + 1..]
        .iter()
        .filter(|message| match message {
            Message::Plain(..) if skip > 0 => {
                skip -= 1;
                false
            }
            _ => true,
        })
        .cloned()
        .collect();
    let mut side = Side { hub: new, token, read: 0 };
    while side.read < rest.len() {
        // The holder was stopped, and continues: it cannot do anything.
        if !dead && random.below(3) == 0 && old.read < messages.len() {
            assert_eq!(old.take_in(&messages, 3), Err(LeaseError::Fenced));
        }
        side.take_in(&rest, 1 + random.below(4) as usize).unwrap();
    }

    let texts = |messages: &[Message]| -> Vec<String> {
        let plain = messages.iter().filter_map(|message| match message {
            Message::Plain(_, data) if data.len() < 1_000 => Some(data.clone()),
            _ => None,
        });
        plain.collect()
    };
    let expected = texts(&messages);
    let (before, after) = (texts(&messages[..marker]), texts(&messages[marker + 1..]));
    let found = plain_texts(&side.hub);
    if has_read_marker {
        assert_eq!(found, expected);
    } else {
        // Before the marker, only the messages that the holder had read are in the log. After it,
        // all are.
        let kept = found.len() - after.len();
        assert_eq!(found[..kept], before[..kept]);
        assert_eq!(found[kept..], after);
    }
    let durable = messages.iter().filter(|message| matches!(message, Message::Durable(..)));
    let marks = durable.count();
    let appended = side.hub.stats().retained_events as usize - found.len();
    assert!(if has_read_marker { appended == marks } else { appended <= marks });
    side.hub.check();
    dead
}

#[test]
fn plain_messages_after_the_marker_are_appended_once_even_if_the_holder_dies() {
    let rounds = if cfg!(miri) { 3 } else { 5_000 };
    let mut random = Random::new(42);
    let deaths = (0..rounds).filter(|_| one(&mut random)).count();
    assert!(cfg!(miri) || deaths > rounds / 10, "{deaths}");
}
