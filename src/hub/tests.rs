//! Tests of the hub as a whole, and what they share: a hub in memory, and short functions to
//! publish, listen, and read.

#[cfg(test)]
mod basics;
#[cfg(all(test, not(miri)))]
mod bounded;
#[cfg(all(test, not(miri)))]
mod clock;
pub(super) mod connected_hub;
#[cfg(test)]
mod cursors;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod gaps;
pub(super) mod generated;
pub(super) mod handover;
#[cfg(test)]
mod holder_deaths;
mod model;
#[cfg(all(test, not(miri)))]
mod processes;
#[cfg(test)]
mod races;
pub(super) mod random;
#[cfg(test)]
mod redis_ids;
#[cfg(test)]
mod redis_runs;
#[cfg(test)]
mod resuming;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod since;
#[cfg(all(test, not(miri)))]
mod slots;
#[cfg(all(test, not(miri)))]
mod stopped;
#[cfg(test)]
mod sync;
#[cfg(test)]
mod users;
#[cfg(test)]
mod whole_runs;

use super::*;
use crate::sse::data;
use crate::sse::id::Id;

/// Returns the time `ms` milliseconds after the tests began.
pub(super) fn at(ms: u64) -> Now {
    Now { mono: 1_000 + ms, mono_ns: 0, wall: 1_700_000_000_000 + ms }
}

/// Creates an empty hub in the memory of this process.
pub(super) fn hub_of(bytes: usize, max_event: usize, count: u64, age: u64) -> Hub {
    let region = Region::in_memory(bytes);
    let plan = Plan {
        bytes,
        slots: 8,
        max_event,
        history: History { count, age },
        runs: History::NONE,
        source: Source::Alone,
    };
    format(&region, &plan, 7, at(0)).unwrap();
    Hub::attach(region).unwrap()
}

fn roomy() -> Hub {
    // Every word takes long under Miri.
    hub_of(if cfg!(miri) { 1 << 17 } else { 1 << 20 }, 4096, 100, 0)
}

/// Creates a hub of some thousand blocks that owes each channel this many events of any age.
fn small(count: u64) -> Hub {
    hub_of(1 << 20, 4096, count, 0)
}

impl Hub {
    /// Returns where a stream starts, after as many visits as that takes.
    fn begin_whole(
        &self,
        channels: &[Membership],
        resume: &Resume,
        now: Now,
    ) -> Result<ReplayStart<Box<ReplayCursor>>, Locked> {
        let mut begun = self.begin(channels, resume, Runs::Joined, now)?;
        let Some(cursor) = &mut begun.cursor else { return Ok(begun) };
        while !self.lock()?.locate_all(cursor, now, &mut Budget::for_visit()) {}
        let guard = self.lock()?;
        let is_empty = channels.iter().all(|member| guard.events(member.record) == 0);
        if is_empty && matches!(resume, Resume::Fresh { .. }) {
            begun.cursor = None;
        }
        Ok(begun)
    }

    /// Returns the next batch of a replay, after as many visits as that takes.
    fn slice_of(
        &self,
        cursor: &mut ReplayCursor,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<ReplayBatch, Locked> {
        loop {
            if let Some(slice) = self.replay(cursor, events, bytes, now)? {
                return Ok(slice);
            }
        }
    }
}

fn event(data: &[u8]) -> NewEvent<'_> {
    NewEvent { event_type: b"", data }
}

/// Publishes one event and returns its id.
pub(super) fn put(hub: &Hub, channel: &str, data: &str, now: Now) -> Id {
    let new = [event(data.as_bytes())];
    patiently(|| hub.publish(channel.as_bytes(), &new, None, now)).ids[0]
}

/// Tries again if another thread or process held the lock, which happens on a busy machine.
fn patiently<T, E: std::fmt::Debug>(mut operation: impl FnMut() -> Result<T, E>) -> T {
    for _ in 0..100 {
        if let Ok(done) = operation() {
            return done;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    operation().unwrap()
}

fn text(copied: &EventCopy) -> String {
    String::from_utf8(data::decode(copied.data())).unwrap()
}

/// Returns everything that a replay delivers, in batches of `slice` events: the ids of the gap
/// events and the data.
pub(super) fn all_of(
    hub: &Hub,
    cursor: &mut ReplayCursor,
    slice: usize,
    now: Now,
) -> (Vec<Id>, Vec<String>) {
    let (mut gaps, mut texts) = (Vec::new(), Vec::new());
    loop {
        let found = hub.slice_of(cursor, slice, usize::MAX, now).unwrap();
        if let Some(gap) = found.gap {
            gaps.push(gap);
        }
        cursor.gap_sent(&found);
        for event in &found.events {
            texts.push(text(&event.event));
            cursor.delivered(event);
        }
        if found.done {
            return (gaps, texts);
        }
    }
}

/// Returns what a client with this id receives first: the number of gap events, and the events'
/// data.
fn resumed(hub: &Hub, channels: &[Membership], id: &str, now: Now) -> (usize, Vec<String>) {
    let beginning = hub.begin(channels, &Resume::From(id.into()), Runs::Joined, now).unwrap();
    let mut cursor = beginning.cursor.unwrap();
    let (gaps, texts) = all_of(hub, &mut cursor, 3, now);
    (gaps.len(), texts)
}

fn fresh(hub: &Hub, channels: &[Membership], newest: u64, now: Now) -> Vec<String> {
    let beginning = hub.begin(channels, &Resume::Fresh { newest }, Runs::Joined, now).unwrap();
    match beginning.cursor {
        None => Vec::new(),
        Some(mut cursor) => all_of(hub, &mut cursor, 3, now).1,
    }
}
