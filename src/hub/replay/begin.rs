//! Where a stream begins: what a client has had, by the id that it comes with, and so what it first has
//! to get.

use super::{Next, Order, Pursuit, Track};
use crate::hub::guard::{Guard, Locked};
use crate::hub::layout::{channel, event, header, high, low};
use crate::hub::origin::{Had, Origin};
use crate::hub::place::{end, Kind, Place};
use crate::hub::Source;
use crate::hub::{Hub, Membership, Now};
use crate::sse::id::Stamp;

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
    /// What the client has had of events that are not in the log yet.
    pub had: Had,
    /// What it first has to get; `None` if it begins at the end.
    pub pursuit: Option<Box<Pursuit>>,
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
        let mut had = Had::default();
        let pursuit = match resume {
            Resume::Fresh { newest } => {
                had = self.had_before(end, now);
                guard.newest(channels, *newest, end)
            }
            Resume::From(id) => {
                let origin = self.origin_of(id, end, channels.len(), now);
                had.stamp = origin.had();
                Some(match origin {
                    Origin::Here(after) => guard.from(channels, after, end),
                    Origin::Elsewhere(after) => guard.resumed_elsewhere(channels, after, end),
                    Origin::Unknown => guard.foreign(channels, end),
                })
            }
        };
        Ok(Beginning { end, had, pursuit: pursuit.map(Box::new) })
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
            let told = self.floor(record).place.position;
            Track { record, next: next(record).into(), told }
        };
        let tracks = channels.iter().map(track).collect();
        let (until, had) = (end.position, Had::default());
        Pursuit { after, until, order: Order::Place, had, gap_due: false, tracks }
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
        // What was entered before a position of this hub the client has had, or was told of, though its
        // number be above the mark of then: Redis can lose what no hub has ever seen.
        let told = if after.position == u64::MAX { 0 } else { after.position };
        // Of several streams in Redis a client may have had what came late, and not yet what came before.
        let merged = self.hub.source() == Source::Streams && channels.len() > 1;
        let is_new = |place: Place, position: u64| {
            place > after && (position > told || merged && place.stamp <= end.stamp)
        };
        let is_lost = |member: &Membership| {
            let floor = self.floor(member.record);
            is_new(floor.place.by_id(floor.kind()), floor.place.position)
        };
        if self.get(header::COUNT) == 0 {
            let mut pursuit = self.pursuit(channels, after, end, |record| self.back(record, 0));
            pursuit.gap_due = channels.iter().any(|member| {
                let newest = low(self.word(member.record, channel::EVENTS));
                let place = || self.place(newest);
                is_lost(member)
                    || newest != 0 && is_new(place().by_id(self.kind(newest)), place().position)
            });
            return pursuit;
        }
        let mut pursuit = self.pursuit(channels, after, end, |_| Next::Seek);
        pursuit.gap_due = channels.iter().any(is_lost);
        pursuit
    }

    /// For a client with the id of another nginx that is joined to the same Redis: what Redis numbered
    /// behind it, and the plain messages behind that. Of those at the id itself nobody knows here which
    /// it has had.
    fn resumed_elsewhere(&self, channels: &[Membership], after: Stamp, end: Place) -> Pursuit {
        let after = Place { stamp: after, position: u64::MAX };
        let mut pursuit = self.from(channels, after, end);
        pursuit.gap_due |=
            channels.iter().any(|member| self.has_plain_at(member.record, after.stamp));
        pursuit
    }

    /// Whether a channel has, or had, a plain message that came while this was the mark.
    fn has_plain_at(&self, record: u32, mark: Stamp) -> bool {
        let floor = self.floor(record);
        let mut found = floor.kind() == Kind::Placed && floor.place.stamp == mark;
        let mut block = low(self.word(record, channel::EVENTS));
        while block != 0 && !found && self.place(block).stamp >= mark {
            found = self.kind(block) == Kind::Placed && self.place(block).stamp == mark;
            block = high(self.word(block, event::LINKS));
        }
        found
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
    pub(in crate::hub) fn newest_place(&self, record: u32) -> Place {
        match low(self.word(record, channel::EVENTS)) {
            0 => self.floor_by_id(record),
            last => self.place(last).by_id(self.kind(last)),
        }
    }

    fn floor_by_id(&self, record: u32) -> Place {
        let floor = self.floor(record);
        floor.place.by_id(floor.kind())
    }
}
