//! How much of a stream is read at a time.

use std::sync::Arc;

use super::nginx::Sockets;
use super::*;
use crate::hub::{format, History, Hub, Plan, Region};
use crate::redis::address::Address;
use crate::redis::context::{HubContext, Outbox};
use crate::redis::keys::Keys;

/// Returns, for a hub of this size, the longest value that is read, the bytes that are read at a
/// time, and the bytes of messages that may wait.
fn limits(bytes: usize, max_event: usize) -> (usize, usize, usize) {
    let region = Region::in_memory(bytes);
    let (history, runs, source) = (History { count: 100, age: 0 }, History::NONE, Source::PubSub);
    let plan = Plan { bytes, slots: 8, max_event, history, runs, source };
    format(&region, &plan, 7, now()).unwrap();
    let context = HubContext {
        name: "test".to_owned(),
        hub: Hub::attach(region).unwrap(),
        wakers: Box::leak(Box::<Sockets>::default()),
        address: Address::parse("redis://127.0.0.1").unwrap(),
        names: Keys::new(""),
        clock: now,
        outbox: Arc::new(Outbox::new(|| {})),
    };
    (context.longest(), context.most_of_page(), context.most_held())
}

#[test]
fn a_page_is_a_part_of_the_hub_within_limits_and_has_room_for_one_event() {
    const KIB: usize = 1_024;
    const MIB: usize = 1_024 * KIB;
    run(async {
        let short = 64 * KIB + 512;
        assert_eq!(limits(MIB, 4 * KIB), (short, 128 * KIB, 512 * KIB));
        assert_eq!(limits(4 * MIB, 64 * KIB), (short, 256 * KIB, MIB));
        assert_eq!(limits(80 * MIB, 4 * KIB), (short, 4 * MIB, 16 * MIB));
        let long = MIB + 512;
        assert_eq!(limits(16 * MIB, MIB), (long, long + 512, 4 * (long + 512)));
    });
}

#[test]
fn a_request_that_waits_for_many_streams_asks_for_few_entries_of_each() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        let names: Vec<String> = (0..32).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        nginx.follow(&names).await;
        for name in names.iter().take(20) {
            redis.append(name, "x");
            pass(50).await;
        }
        let commands = redis.state.borrow().commands.clone();
        let counts = commands.iter().filter_map(|words| words.strip_prefix("XREAD COUNT "));
        let counts: Vec<usize> = counts.map(|count| count.parse().unwrap()).collect();
        assert!(counts.len() > 10, "{counts:?}");
        assert!(counts.iter().all(|count| (1..=4_096 / 32).contains(count)), "{counts:?}");
    });
}
