//! Reading what is retained: where a stream begins (`begin`), and the events that one which is behind
//! still has to get, merged over its channels. Both under the lock, in slices.

use std::cell::Cell;

use super::guard::{Guard, Locked};
use super::layout::{channel, event, high, low};
use super::origin::Had;
use super::place::{end, Kind, Place};
use super::publish::is_late;
use super::read::Copied;
use super::{Hub, Membership, Now};
use crate::sse::id::Id;

mod begin;

pub use begin::{Beginning, Resume};

/// What a stream that is behind still has to get: everything on its channels after `after` and up
/// to the position `until`.
#[derive(Debug)]
pub struct Pursuit {
    after: Place,
    until: u64,
    order: Order,
    /// What of these the client has had elsewhere.
    had: Had,
    /// A gap has to be told, whatever the floors say.
    gap_due: bool,
    tracks: Box<[Track]>,
}

/// By what the events of several channels are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// A stream's first pass: a channel that was joined late has old ids at high positions.
    Place,
    /// From then on.
    Position,
}

/// One channel of a pursuit.
#[derive(Debug)]
struct Track {
    record: u32,
    next: Cell<Next>,
    /// The position up to which lost events of this channel have been told.
    told: u64,
}

/// Which event of a channel comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The first behind the pursuit's `after`: to be looked for.
    Seek,
    /// The oldest that is there.
    Oldest,
    /// This one; if it has left, the oldest.
    At { block: u32, position: u64 },
    /// The one behind this; if this has left, the oldest.
    Behind { block: u32, position: u64 },
}

/// A slice of a pursuit or of a search.
#[derive(Debug, Default)]
pub struct Slice {
    /// Events were lost since the last one: the id that the gap event bears.
    pub gap: Option<Id>,
    /// The next events, in order.
    pub events: Vec<Found>,
    /// Nothing is left behind these.
    pub done: bool,
    /// Nothing is left, but events behind where the pursuit ends were lost, and perhaps others before
    /// it: the next one, which is to begin there, tells.
    pub overtaken: bool,
    /// Of a search that has nothing to give: where the stream begins.
    pub begins: Option<Place>,
    /// For each channel, up to where the gap tells what was lost.
    pub(super) floors: Vec<u64>,
}

/// An event that a pursuit has found.
#[derive(Debug)]
pub struct Found {
    /// The event.
    pub event: Copied,
    track: usize,
    block: u32,
    channel: Option<Box<[u8]>>,
}

impl Found {
    /// One that a search has found.
    pub(super) fn of_channel(event: Copied, block: u32, name: Vec<u8>) -> Found {
        Found { event, track: 0, block, channel: Some(name.into()) }
    }

    /// The name of its channel, if a search has found it.
    pub fn channel(&self) -> Option<&[u8]> {
        self.channel.as_deref()
    }

    /// Which of the pursuit's channels it is of.
    pub fn track(&self) -> usize {
        self.track
    }
}

impl Pursuit {
    /// For a stream in progress that is behind: it has had everything up to `at`, and some elsewhere.
    pub fn since(
        at: u64,
        had: Had,
        until: u64,
        channels: impl Iterator<Item = Membership>,
    ) -> Box<Pursuit> {
        let tracks = channels.map(|member| Track {
            record: member.record,
            next: Next::Seek.into(),
            told: at,
        });
        let after = Place { position: at, ..Place::START };
        let tracks = tracks.collect();
        Box::new(Pursuit { after, until, order: Order::Position, had, gap_due: false, tracks })
    }

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The event was handed to the socket.
    pub fn passed(&mut self, found: &Found) {
        let position = found.event.place.position;
        self.tracks[found.track].next.set(Next::Behind { block: found.block, position });
        self.after = self.key(found.event.place, found.event.kind());
    }

    /// The gap of a slice was told.
    pub fn told(&mut self, slice: &Slice) {
        self.gap_due = false;
        for (track, floor) in self.tracks.iter_mut().zip(&slice.floors) {
            track.told = track.told.max(*floor);
        }
    }

    /// A place as this pursuit orders them.
    fn key(&self, place: Place, kind: Kind) -> Place {
        match self.order {
            Order::Place => place.by_id(kind),
            Order::Position => Place { position: place.position, ..Place::START },
        }
    }
}

impl Hub {
    /// The next slice of what a stream has to get: at most `events` events, and no more than `bytes`
    /// bytes of type and data, unless the first event alone has more.
    pub fn pursue(
        &self,
        pursuit: &Pursuit,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Slice, Locked> {
        let guard = self.lock_expired(pursuit.tracks.iter().map(|track| track.record), now)?;
        let mut candidates: Vec<u32> =
            pursuit.tracks.iter().map(|track| guard.candidate(pursuit, track)).collect();
        let gap = guard.gap(pursuit, &candidates, now);
        let floors =
            pursuit.tracks.iter().map(|track| guard.floor(track.record).place.position).collect();
        let mut found = Vec::new();
        let mut size = 0;
        let mut done = false;
        while found.len() < events {
            let Some(track) = guard.first_of(pursuit, &candidates) else {
                done = true;
                break;
            };
            let block = candidates[track];
            size += low(guard.word(block, event::OWNER)) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let mut event = Copied::default();
            self.copy_block(block, &mut event);
            candidates[track] = guard.next_for(pursuit, low(guard.word(block, event::LINKS)));
            found.push(Found { event, track, block, channel: None });
        }
        done = done || guard.first_of(pursuit, &candidates).is_none();
        let overtaken = done && gap.is_none() && guard.is_overtaken(pursuit);
        Ok(Slice { gap, events: found, done, overtaken, floors, ..Slice::default() })
    }
}

impl Guard<'_> {
    /// The first event of a channel that the pursuit still has to get, however far ahead; or 0.
    fn candidate(&self, pursuit: &Pursuit, track: &Track) -> u32 {
        let events = self.word(track.record, channel::EVENTS);
        let oldest = high(events);
        let there = |block, position| self.is_retained(track.record, block, position);
        let next = match track.next.get() {
            Next::At { block, position } if there(block, position) => block,
            Next::Behind { block, position } if there(block, position) => {
                low(self.word(block, event::LINKS))
            }
            Next::Seek => {
                let block = self.seek(pursuit, low(events));
                if block != 0 {
                    // Found once: to walk back with each slice would cost the square of it.
                    let position = self.get(self.hub.layout.stamp(block));
                    track.next.set(Next::At { block, position });
                }
                block
            }
            _ => oldest,
        };
        self.next_for(pursuit, next)
    }

    /// Walks back from the newest event to the first behind `after`: it costs what it finds.
    fn seek(&self, pursuit: &Pursuit, newest: u32) -> u32 {
        let (mut block, mut found) = (newest, 0);
        while block != 0 && self.key(pursuit, block) > pursuit.after {
            found = block;
            block = high(self.word(block, event::LINKS));
        }
        found
    }

    /// The track whose candidate comes first, of those that the pursuit reaches.
    fn first_of(&self, pursuit: &Pursuit, candidates: &[u32]) -> Option<usize> {
        let blocks = candidates.iter().enumerate().filter(|(_, block)| **block != 0);
        blocks
            .filter(|(_, block)| self.place(**block).position <= pursuit.until)
            .min_by_key(|(_, block)| self.key(pursuit, **block))
            .map(|(track, _)| track)
    }

    /// The place of an event, as a pursuit orders them.
    fn key(&self, pursuit: &Pursuit, block: u32) -> Place {
        pursuit.key(self.place(block), self.kind(block))
    }

    pub(super) fn place(&self, block: u32) -> Place {
        Place::of_event(&self.hub.region, &self.hub.layout, block)
    }

    /// This event or the first behind it that the client has not had elsewhere; or 0.
    fn next_for(&self, pursuit: &Pursuit, block: u32) -> u32 {
        let mut block = block;
        while block != 0 && self.was_had(pursuit.had, block) {
            block = low(self.word(block, event::LINKS));
        }
        block
    }

    pub(super) fn was_had(&self, had: Had, block: u32) -> bool {
        had != Had::default()
            && (self.kind(block) == Kind::Durable && self.place(block).stamp <= had.stamp
                || is_late(self.word(block, event::BORN)) && self.born(block) < had.born)
    }

    /// Whether events have left behind where the pursuit ends, of which no gap has told.
    fn is_overtaken(&self, pursuit: &Pursuit) -> bool {
        pursuit
            .tracks
            .iter()
            .any(|track| self.floor(track.record).place.position > track.told.max(pursuit.until))
    }

    /// If events were lost: the id of the place before the first that follows, or of the log's end.
    fn gap(&self, pursuit: &Pursuit, candidates: &[u32], now: Now) -> Option<Id> {
        // With nothing left to give, what was lost beyond `until` is the next pursuit's to tell: it
        // starts there and would tell it again.
        let rest = self.first_of(pursuit, candidates).is_some();
        let lost = pursuit.tracks.iter().any(|track| {
            let floor = self.floor(track.record);
            floor.place.position > track.told
                && (rest || floor.place.position <= pursuit.until)
                && pursuit.key(floor.place, floor.kind()) > pursuit.after
                && !(floor.kind() == Kind::Durable && pursuit.had.covers(floor.place.stamp, now))
        });
        if !lost && !pursuit.gap_due {
            return None;
        }
        let first = candidates
            .iter()
            .filter(|block| **block != 0)
            .min_by_key(|block| self.key(pursuit, **block));
        let (tag, hub) = (self.hub.tag(), self.hub);
        Some(match first {
            Some(&block) => self.place(block).id_before(self.kind(block), tag),
            None => end(&hub.region).id(hub.own_kind(), tag),
        })
    }
}
