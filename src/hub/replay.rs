//! Reading what is retained: where a stream begins, and the events that one which is behind still
//! has to get, merged over its channels. Both under the lock, in slices.

use std::cell::Cell;

use super::guard::{Guard, Locked};
use super::layout::{channel, event, header, high, low};
use super::place::{end, Kind, Place};
use super::read::Copied;
use super::{Hub, Membership, Now};
use crate::sse::id::Id;

/// What a client comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// No id: it gets this many of the newest events of each channel, of what history owes.
    Fresh {
        /// How many.
        newest: u64,
    },
    /// An id.
    From(Vec<u8>),
}

/// Where a stream begins.
#[derive(Debug)]
pub struct Beginning {
    /// The end of the log at that moment.
    pub end: Place,
    /// What it first has to get; `None` if it begins at the end.
    pub pursuit: Option<Box<Pursuit>>,
}

/// What a stream that is behind still has to get: everything on its channels after `after` and up
/// to the position `until`.
#[derive(Debug)]
pub struct Pursuit {
    after: Place,
    until: u64,
    order: Order,
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
    /// For a stream in progress that is behind: it has had everything up to `at`.
    pub fn since(at: u64, until: u64, channels: impl Iterator<Item = Membership>) -> Box<Pursuit> {
        let tracks = channels.map(|member| Track {
            record: member.record,
            next: Next::Seek.into(),
            told: at,
        });
        let after = Place { position: at, ..Place::START };
        let tracks = tracks.collect();
        Box::new(Pursuit { after, until, order: Order::Position, gap_due: false, tracks })
    }

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The event was handed to the socket.
    pub fn passed(&mut self, found: &Found) {
        let position = found.event.place.position;
        self.tracks[found.track].next.set(Next::Behind { block: found.block, position });
        self.after = found.event.place;
    }

    /// The gap of a slice was told.
    pub fn told(&mut self, slice: &Slice) {
        self.gap_due = false;
        for (track, floor) in self.tracks.iter_mut().zip(&slice.floors) {
            track.told = track.told.max(*floor);
        }
    }

    fn key(&self, place: Place) -> Place {
        match self.order {
            Order::Place => place,
            Order::Position => Place { position: place.position, ..Place::START },
        }
    }
}

impl Hub {
    /// Where a stream of these channels begins.
    pub fn begin(
        &self,
        channels: &[Membership],
        resume: &Resume,
        now: Now,
    ) -> Result<Beginning, Locked> {
        let guard = self.lock_expired(channels.iter().map(|member| member.record), now)?;
        let end = end(&self.region);
        let pursuit = match resume {
            Resume::Fresh { newest } => guard.newest(channels, *newest, end),
            Resume::From(id) => Some(match self.place_of(id, end) {
                Some(after) => guard.from(channels, after, end),
                None => guard.foreign(channels, end),
            }),
        };
        Ok(Beginning { end, pursuit: pursuit.map(Box::new) })
    }

    /// The place that a client's id names. `None`: it is not one of this hub's.
    pub(super) fn place_of(&self, id: &[u8], end: Place) -> Option<Place> {
        let place = match Id::parse(id)? {
            // The id of an event: that event itself, and all that was placed at it, is known.
            Id::Local { stamp, tag } if tag == self.tag() => Place { stamp, position: u64::MAX },
            Id::Placed { stamp, tag, pos } if tag == self.tag() => Place { stamp, position: pos },
            _ => return None,
        };
        (place.stamp <= end.stamp).then_some(place)
    }

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
        let gap = guard.gap(pursuit, &candidates);
        let floors =
            pursuit.tracks.iter().map(|track| guard.floor(track.record).position).collect();
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
            candidates[track] = low(guard.word(block, event::LINKS));
            found.push(Found { event, track, block, channel: None });
        }
        done = done || guard.first_of(pursuit, &candidates).is_none();
        let overtaken = done && gap.is_none() && guard.is_overtaken(pursuit);
        Ok(Slice { gap, events: found, done, overtaken, floors, ..Slice::default() })
    }
}

impl Guard<'_> {
    fn pursuit(
        &self,
        channels: &[Membership],
        after: Place,
        end: Place,
        next: impl Fn(u32) -> Next,
    ) -> Pursuit {
        let track = |member: &Membership| {
            let record = member.record;
            Track { record, next: next(record).into(), told: self.floor(record).position }
        };
        let tracks = channels.iter().map(track).collect();
        Pursuit { after, until: end.position, order: Order::Place, gap_due: false, tracks }
    }

    /// For a client without an id. `None`: no channel has what it asks for.
    fn newest(&self, channels: &[Membership], newest: u64, end: Place) -> Option<Pursuit> {
        let owed = newest.min(self.get(header::COUNT));
        let any = channels.iter().any(|member| self.events(member.record) > 0);
        (owed > 0 && any)
            .then(|| self.pursuit(channels, Place::START, end, |record| self.back(record, owed)))
    }

    /// For a client with an id of this hub.
    fn from(&self, channels: &[Membership], after: Place, end: Place) -> Pursuit {
        if self.get(header::COUNT) == 0 {
            let mut pursuit = self.pursuit(channels, after, end, |record| self.back(record, 0));
            pursuit.gap_due =
                channels.iter().any(|member| self.newest_place(member.record) > after);
            return pursuit;
        }
        let mut pursuit = self.pursuit(channels, after, end, |_| Next::Seek);
        pursuit.gap_due = channels.iter().any(|member| self.floor(member.record) > after);
        pursuit
    }

    /// For a client with an id that says nothing here: what is owed, behind a gap.
    fn foreign(&self, channels: &[Membership], end: Place) -> Pursuit {
        let owed = self.get(header::COUNT);
        let mut pursuit =
            self.pursuit(channels, Place::START, end, |record| self.back(record, owed));
        pursuit.gap_due = true;
        pursuit
    }

    /// The event that has `count` - 1 newer ones on its channel.
    fn back(&self, record: u32, count: u64) -> Next {
        let events = self.word(record, channel::EVENTS);
        let (mut block, position) = (low(events), |block| self.get(self.hub.layout.stamp(block)));
        if block == 0 {
            return Next::Oldest;
        }
        if count == 0 {
            return Next::Behind { block, position: position(block) };
        }
        for _ in 1..count {
            match high(self.word(block, event::LINKS)) {
                0 => break,
                earlier => block = earlier,
            }
        }
        Next::At { block, position: position(block) }
    }

    /// The place of the newest event that a channel ever had.
    fn newest_place(&self, record: u32) -> Place {
        match low(self.word(record, channel::EVENTS)) {
            0 => self.floor(record),
            last => Place::of_event(&self.hub.region, &self.hub.layout, last),
        }
    }

    /// The first event of a channel that the pursuit still has to get, however far ahead; or 0.
    fn candidate(&self, pursuit: &Pursuit, track: &Track) -> u32 {
        let events = self.word(track.record, channel::EVENTS);
        let oldest = high(events);
        let there = |block, position| self.get(self.hub.layout.stamp(block)) == position;
        match track.next.get() {
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
        }
    }

    /// Walks back from the newest event to the first behind `after`: it costs what it finds.
    fn seek(&self, pursuit: &Pursuit, newest: u32) -> u32 {
        let after = pursuit.key(pursuit.after);
        let (mut block, mut found) = (newest, 0);
        while block != 0 {
            let place = Place::of_event(&self.hub.region, &self.hub.layout, block);
            if pursuit.key(place) <= after {
                break;
            }
            found = block;
            block = high(self.word(block, event::LINKS));
        }
        found
    }

    /// The track whose candidate comes first, of those that the pursuit reaches.
    fn first_of(&self, pursuit: &Pursuit, candidates: &[u32]) -> Option<usize> {
        let places = candidates.iter().enumerate().filter(|(_, block)| **block != 0).map(
            |(track, block)| (Place::of_event(&self.hub.region, &self.hub.layout, *block), track),
        );
        places
            .filter(|(place, _)| place.position <= pursuit.until)
            .min_by_key(|(place, _)| pursuit.key(*place))
            .map(|(_, track)| track)
    }

    /// Whether events have left behind where the pursuit ends, of which no gap has told.
    fn is_overtaken(&self, pursuit: &Pursuit) -> bool {
        pursuit
            .tracks
            .iter()
            .any(|track| self.floor(track.record).position > track.told.max(pursuit.until))
    }

    /// If events were lost: the id of the place before the first that follows, or of the log's end.
    fn gap(&self, pursuit: &Pursuit, candidates: &[u32]) -> Option<Id> {
        // With nothing left to give, what was lost beyond `until` is the next pursuit's to tell: it
        // starts there and would tell it again.
        let rest = self.first_of(pursuit, candidates).is_some();
        let lost = pursuit.tracks.iter().any(|track| {
            let floor = self.floor(track.record);
            floor.position > track.told
                && (rest || floor.position <= pursuit.until)
                && pursuit.key(floor) > pursuit.key(pursuit.after)
        });
        if !lost && !pursuit.gap_due {
            return None;
        }
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let first = candidates
            .iter()
            .filter(|block| **block != 0)
            .min_by_key(|block| pursuit.key(Place::of_event(region, layout, **block)));
        Some(match first {
            Some(&block) => {
                Place::of_event(region, layout, block).id_before(self.kind(block), self.hub.tag())
            }
            None => end(region).id(Kind::Local, self.hub.tag()),
        })
    }
}
