//! Whatever a client sends as its last event id: it receives what it lacks, in order and once,
//! behind a gap event if something may be missing, and no second gap event if it returns with the
//! id of the first.

use std::collections::BTreeSet;

use crate::hub::tests::connected_hub::{connected_hub_of, id, up_to, ConnectedHub};
use crate::hub::tests::{all_of, at, hub_of, put};
use crate::hub::{Budget, Hub, Membership, Provenance, Resume, Runs, Source};
use crate::sse::id::{EntryId, Id};

/// The hubs, which clients do not change.
struct Hubs {
    alone: Alone,
    connected: Vec<(ConnectedHub, [Membership; 2])>,
}

/// A hub without Redis, and the ids and texts of what its two channels retain.
struct Alone {
    hub: Hub,
    members: [Membership; 2],
    retained: [Vec<(EntryId, String)>; 2],
    /// The newest event that was evicted from each.
    lost: [EntryId; 2],
}

thread_local! {
    static HUBS: Hubs = Hubs {
        alone: alone(),
        connected: vec![connected(Source::PubSub), connected(Source::Streams)],
    };
}

pub fn run(input: &[u8]) {
    HUBS.with(|hubs| {
        hubs.alone.check(input);
        for (setup, members) in &hubs.connected {
            for members in [&members[..1], &members[1..], members] {
                check_connected(setup, members, input);
            }
        }
    });
}

/// Fills a hub with events, several of them in one millisecond, and evicts some.
fn alone() -> Alone {
    let hub = hub_of(1 << 17, 512, 100, 0);
    let claim = hub.claim_slot().unwrap();
    let names = ["a", "b"];
    let members = names.map(|name| hub.join(claim, name.as_bytes(), at(0)).unwrap());
    let mut retained = [Vec::new(), Vec::new()];
    for number in 0..24 {
        let of = number % 3 % 2;
        let text = number.to_string();
        let id = put(&hub, names[of], &text, at(number as u64 / 4));
        retained[of].push((id.entry_id(), text));
    }
    let mut lost = [EntryId::default(); 2];
    for (of, count) in [(0, 3), (1, 1)] {
        let guard = hub.lock().unwrap();
        let record = guard.find(names[of].as_bytes()).unwrap();
        (0..count).for_each(|_| guard.evict(record, &mut Budget::for_hold()));
        lost[of] = retained[of].drain(..count).next_back().unwrap().0;
    }
    Alone { hub, members, retained, lost }
}

impl Alone {
    fn check(&self, input: &[u8]) {
        let head = self.hub.head();
        for of in [&[0][..], &[1], &[0, 1]] {
            let members: Vec<Membership> = of.iter().map(|of| self.members[*of]).collect();
            let mut all: Vec<&(EntryId, String)> =
                of.iter().flat_map(|of| &self.retained[*of]).collect();
            all.sort();
            let newest = self.retained.iter().flatten().map(|(id, _)| *id).max();
            let had = match Id::parse(input) {
                Some(Id::Local { entry_id, tag: 7 }) if Some(entry_id) <= newest => Some(entry_id),
                Some(Id::Placed { entry_id, tag: 7, pos }) if Some(entry_id) <= newest => {
                    // No such id is given here, but its position would be one.
                    assert!(resumed(&self.hub, &members, input).1.len() <= all.len(), "{pos}");
                    return;
                }
                _ => None,
            };
            let (gaps, texts) = resumed(&self.hub, &members, input);
            let lacking = all.iter().filter(|(id, _)| had.is_none_or(|had| *id > had));
            let lacking: Vec<String> = lacking.map(|(_, text)| text.clone()).collect();
            assert_eq!(texts, lacking);
            let is_lost = had.is_none_or(|had| of.iter().any(|of| self.lost[*of] > had));
            assert_eq!(gaps.len(), usize::from(is_lost));
            returns(&self.hub, &members, &gaps, &texts);
        }
        assert_eq!(self.hub.head(), head);
    }
}

/// A hub with a Redis: durable and plain events on two channels, a loss, and events that were
/// evicted.
fn connected(source: Source) -> (ConnectedHub, [Membership; 2]) {
    let setup = connected_hub_of(1 << 17, source, 100, 0);
    let a = setup.subscribe("a", &[20, 40], up_to(10));
    let b = setup.subscribe("b", &[], crate::hub::Loss::Nothing);
    for ms in 5..25 {
        let channel = ["a", "b"][ms as usize % 3 % 2];
        setup.ingest(channel, Provenance::Live(id(10 * ms).into()), &format!("d{}", 10 * ms));
        if ms % 4 == 0 {
            setup.plain(["b", "a"][ms as usize / 4 % 2], &format!("p{ms}"));
        }
    }
    setup.evict("a", 2);
    setup.evict("b", 1);
    (setup, [a, b])
}

fn check_connected(setup: &ConnectedHub, members: &[Membership], input: &[u8]) {
    let hub = &setup.hub;
    let (gaps, texts) = resumed(hub, members, input);
    assert!(gaps.len() <= 1);
    let once: BTreeSet<&String> = texts.iter().collect();
    assert_eq!(once.len(), texts.len(), "something twice: {texts:?}");
    let durable: Vec<u64> =
        texts.iter().filter_map(|text| text.strip_prefix('d')?.parse().ok()).collect();
    assert!(durable.is_sorted(), "{durable:?}");
    let everything = resumed(hub, members, b"x").1;
    assert!(everything.ends_with(&texts) || Id::parse(input).is_some());
    // Whatever the id is, nothing that Redis numbered above it is left out.
    let had = Id::parse(input).map(|id| id.entry_id()).unwrap_or_default();
    let all_durable = everything.iter().filter_map(|text| text.strip_prefix('d')?.parse().ok());
    let is_position = matches!(Id::parse(input), Some(Id::Placed { tag: 7, .. }));
    for ms in all_durable.filter(|ms| id(*ms) > had && !is_position) {
        assert!(durable.contains(&ms), "{ms} is missing: {texts:?}");
    }
    returns(hub, members, &gaps, &texts);
}

/// Returns what a client with this id receives first.
fn resumed(hub: &Hub, members: &[Membership], id: &[u8]) -> (Vec<Id>, Vec<String>) {
    let begun = hub.begin(members, &Resume::From(id.into()), Runs::Joined, at(100)).unwrap();
    all_of(hub, &mut begun.cursor.unwrap(), 3, at(100))
}

/// Checks that a client that received only the gap event receives the same again, of one channel
/// without a second gap event.
fn returns(hub: &Hub, members: &[Membership], gaps: &[Id], texts: &[String]) {
    let [gap] = gaps else { return };
    let (again, mut same) = resumed(hub, members, gap.to_string().as_bytes());
    if members.len() > 1 {
        same.retain(|text| texts.contains(text));
    }
    assert_eq!(same, texts, "after the gap's {gap}");
    assert!(again.is_empty() || members.len() > 1, "a second gap after {gap}");
}
