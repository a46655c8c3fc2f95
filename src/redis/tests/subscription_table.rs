//! The table of the channels and patterns of a connection.

use super::*;
use crate::hub::{name_of_pattern, ReportedId};
use crate::redis::entry_counter::EntryCounter;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState, SubscriptionTable};
use crate::redis::waiting::WaitingBytes;
use crate::sse::id::EntryId;

fn id(ms: u64) -> ReportedId {
    EntryId { ms, seq: 0 }.into()
}

fn followed(hub: &SharedHub, name: &[u8], state: SubscriptionState) -> FollowedChannel {
    let slot = hub.hub.claim_slot().unwrap();
    FollowedChannel {
        member: hub.hub.join(slot, name, now()).unwrap(),
        state,
        last: ReportedId::default(),
        counter: EntryCounter::default(),
        first_by_name: None,
        forgotten: ReportedId::default(),
        quiet: None,
        is_doubtful: false,
        is_rewound: false,
    }
}

#[test]
fn patterns_that_are_not_kept_match_nothing_any_more() {
    let hub = hub_at("redis://127.0.0.1", Source::PubSub);
    let (all, some) = (name_of_pattern(b"*"), name_of_pattern(b"a*"));
    let mut table = SubscriptionTable::default();
    for name in [&all[..], &some, b"a1"] {
        table.insert(name.into(), followed(&hub, name, SubscriptionState::InSync));
    }
    assert_eq!(table.patterns_of(b"a1").len(), 2);
    table.get_mut(&some).unwrap().is_rewound = true;
    table.retain(|channel| channel.is_rewound);
    assert_eq!(table.names().collect::<Vec<_>>(), [&some]);
    assert_eq!(table.patterns_of(b"a1"), [some]);
    assert_eq!((table.first_match(b"a1"), table.first_match(b"b")), (Some(&b"a*"[..]), None));
}

#[test]
fn the_first_message_by_name_counts_only_while_the_history_is_read_and_if_it_is_new() {
    let hub = hub_at("redis://127.0.0.1", Source::PubSub);
    let catching_up = || SubscriptionState::CatchingUp(WaitingBytes::default().for_channel());
    let first = |state, ids: &[u64]| {
        let mut channel = followed(&hub, b"a", state);
        for ms in ids {
            channel.note_first_by_name(id(*ms), id(5));
        }
        hub.hub.leave(channel.member).unwrap();
        channel.first_by_name
    };
    assert_eq!(first(catching_up(), &[4, 5]), None);
    assert_eq!(first(catching_up(), &[8, 7, 9]), Some(id(7)));
    assert_eq!(first(SubscriptionState::InSync, &[7]), None);
    assert_eq!(first(SubscriptionState::Requested, &[7]), None);
}
