//! Where the next event of one channel is that a pursuit still has to get. Finding it may take more
//! steps than one hold of the lock has; what is known by then is kept for the next one. Events leave a
//! channel the oldest first, so if the event has left at which a walk back to older ones stopped, all
//! older ones have left as well.

use crate::hub::budget::Budget;
use crate::hub::log::position::{Kind, LogOrder, LowWatermark};
use crate::hub::log::replay::{Course, Order};
use crate::hub::log::resume::AlreadySeen;
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, event, header, high, low};
use crate::sse::id::EntryId;

/// One channel of a pursuit.
#[derive(Debug)]
pub struct Track {
    pub record: u32,
    pub next: Next,
    /// The position up to which lost events of this channel have been told.
    pub gap_sent: u64,
}

/// Which event of a channel comes next.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// Nothing is known of how the stream begins with this channel.
    Begin,
    /// Whether a plain message came while a number was the mark: this event and older ones say it.
    CheckPlain(EventAnchor),
    /// The first event behind the pursuit's `after`: this one, which is behind it, or an older one.
    /// `None`: not even the newest is known to be.
    Seek(Option<EventAnchor>),
    /// The event at which the newest `left` begin: this event and older ones are counted.
    SeekNewest { at: EventAnchor, left: u64 },
    /// The oldest that is there.
    Oldest,
    /// This one; if it has left, the oldest.
    At(EventAnchor),
    /// The one behind this; if this has left, the oldest.
    Behind(EventAnchor),
}

/// An event by the block in which it began, and its position: if the block has another one by now, the
/// event has left.
#[derive(Clone, Copy, Debug)]
pub struct EventAnchor {
    pub block: u32,
    pub position: u64,
}

/// What a stream is to begin with.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// So many of the newest events of each channel.
    Newest(u64),
    /// Everything behind a place of this hub.
    Here,
    /// The same, and the client has had an unknown part of the plain messages that came while this was
    /// the mark.
    Elsewhere(EntryId),
}

impl Guard<'_> {
    /// Finds out where the next event of a channel is. `gap_due` is set if something was lost before a
    /// stream begins. False: the budget is spent before that.
    pub(super) fn locate_next(
        &self,
        course: &Course,
        track: &mut Track,
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> bool {
        loop {
            let next = match track.next {
                Next::Begin => Some(self.start_channel(course, track, gap_due)),
                Next::CheckPlain(at) => self.check_plain(course, track, at, gap_due, budget),
                Next::Seek(found) => self.seek(course, track, found, budget),
                Next::SeekNewest { at, left } => {
                    self.seek_newest(course, track, (at, left), budget)
                }
                Next::Oldest | Next::At(_) | Next::Behind(_) => {
                    return self.skip_seen(course.seen, track, budget);
                }
            };
            match next {
                Some(next) => track.next = next,
                None => return false,
            }
        }
    }

    /// How a stream begins with a channel, as far as that shows at once.
    fn start_channel(&self, course: &Course, track: &mut Track, gap_due: &mut bool) -> Next {
        let low_watermark = self.low_watermark(track.record);
        // What has left behind the pursuit's end is told when the stream gets there.
        track.gap_sent = low_watermark.place.position.min(course.until());
        let owes_nothing = self.get(header::COUNT) == 0;
        let newest = low(self.word(track.record, channel::EVENTS));
        let high_watermark = match course.aim {
            Aim::Newest(count) => return self.newest(track.record, count),
            Aim::Here => None,
            Aim::Elsewhere(high_watermark) => Some(high_watermark),
        };
        *gap_due |= course
            .is_new(low_watermark.place.by_id(low_watermark.kind()), low_watermark.place.position);
        if owes_nothing && newest != 0 {
            let place = self.place(newest);
            *gap_due |= course.is_new(place.by_id(self.kind(newest)), place.position);
        }
        *gap_due |=
            high_watermark.is_some_and(|high_watermark| is_plain_at(low_watermark, high_watermark));
        if high_watermark.is_some() && !*gap_due && newest != 0 {
            return Next::CheckPlain(self.anchor(newest));
        }
        self.behind_after(track.record)
    }

    /// Goes on to what is behind the pursuit's `after`, of which nothing is given if nothing is owed.
    fn behind_after(&self, record: u32) -> Next {
        match self.get(header::COUNT) {
            0 => self.newest(record, 0),
            _ => Next::Seek(None),
        }
    }

    /// The newest `count` events.
    fn newest(&self, record: u32, count: u64) -> Next {
        let newest = low(self.word(record, channel::EVENTS));
        if newest == 0 {
            return Next::Oldest;
        }
        match count {
            0 => Next::Behind(self.anchor(newest)),
            _ if u64::from(self.events(record)) <= count => Next::Oldest,
            _ => Next::SeekNewest { at: self.anchor(newest), left: count },
        }
    }

    /// Looks for a plain message that came while a number was the mark.
    fn check_plain(
        &self,
        course: &Course,
        track: &mut Track,
        at: EventAnchor,
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> Option<Next> {
        let Aim::Elsewhere(high_watermark) = course.aim else { return Some(Next::Seek(None)) };
        let mut block = if self.is_present(track, at) { at.block } else { 0 };
        while block != 0 && !*gap_due && self.place(block).entry_id >= high_watermark {
            if !budget.step() {
                track.next = Next::CheckPlain(self.anchor(block));
                return None;
            }
            *gap_due =
                self.kind(block) == Kind::Placed && self.place(block).entry_id == high_watermark;
            block = self.earlier(block);
        }
        // One that was not looked at yet may have left since the walk began.
        *gap_due |= is_plain_at(self.low_watermark(track.record), high_watermark);
        Some(self.behind_after(track.record))
    }

    /// Walks back to the first event behind `after`.
    fn seek(
        &self,
        course: &Course,
        track: &mut Track,
        found: Option<EventAnchor>,
        budget: &mut Budget,
    ) -> Option<Next> {
        let events = self.word(track.record, channel::EVENTS);
        let (oldest, newest) = (high(events), low(events));
        // Often nothing on the channel is passed: then nothing need be looked for.
        if oldest == 0 || self.key(course, oldest) > course.after {
            return Some(Next::Oldest);
        }
        let (mut found, mut block) = match found {
            None => (None, newest),
            Some(anchor) if self.is_present(track, anchor) => {
                (Some(anchor), self.earlier(anchor.block))
            }
            Some(_) => return Some(Next::Oldest),
        };
        while block != 0 && self.key(course, block) > course.after {
            found = Some(self.anchor(block));
            if !budget.step() {
                track.next = Next::Seek(found);
                return None;
            }
            block = self.earlier(block);
        }
        Some(found.map_or(Next::Behind(self.anchor(newest)), Next::At))
    }

    /// Walks back over the newest events, of those that the pursuit reaches.
    fn seek_newest(
        &self,
        course: &Course,
        track: &mut Track,
        (at, left): (EventAnchor, u64),
        budget: &mut Budget,
    ) -> Option<Next> {
        if !self.is_present(track, at) {
            return Some(Next::Oldest);
        }
        let (mut at, mut left) = (at, left);
        loop {
            if at.position <= course.until() {
                if left <= 1 {
                    return Some(Next::At(at));
                }
                left -= 1;
            }
            let earlier = self.earlier(at.block);
            if earlier == 0 {
                return Some(Next::At(at));
            }
            at = self.anchor(earlier);
            if !budget.step() {
                track.next = Next::SeekNewest { at, left };
                return None;
            }
        }
    }

    /// Passes over events that the client has had elsewhere.
    fn skip_seen(&self, seen: AlreadySeen, track: &mut Track, budget: &mut Budget) -> bool {
        if seen == AlreadySeen::default() {
            return true;
        }
        let mut block = self.candidate(track);
        while block != 0 && self.was_seen(seen, block) {
            track.next = Next::Behind(self.anchor(block));
            if !budget.step() {
                return false;
            }
            block = self.later(block);
        }
        true
    }

    /// The next event of a channel for which `settle` has found out where it is, however far ahead; or 0.
    pub(super) fn candidate(&self, track: &Track) -> u32 {
        match track.next {
            Next::At(anchor) if self.is_present(track, anchor) => anchor.block,
            Next::Behind(anchor) if self.is_present(track, anchor) => self.later(anchor.block),
            _ => high(self.word(track.record, channel::EVENTS)),
        }
    }

    fn is_present(&self, track: &Track, anchor: EventAnchor) -> bool {
        self.is_retained(track.record, anchor.block, anchor.position)
    }

    fn anchor(&self, block: u32) -> EventAnchor {
        EventAnchor { block, position: self.get(self.hub.layout.stamp(block)) }
    }

    /// The event of the same channel that came before this one; or 0.
    pub(in crate::hub) fn earlier(&self, block: u32) -> u32 {
        high(self.word(block, event::LINKS))
    }

    /// The event of the same channel that came behind this one; or 0.
    pub(in crate::hub) fn later(&self, block: u32) -> u32 {
        low(self.word(block, event::LINKS))
    }

    /// The place of an event, as a pursuit orders them.
    pub(super) fn key(&self, course: &Course, block: u32) -> LogOrder {
        course.key(self.place(block), self.kind(block))
    }
}

fn is_plain_at(low_watermark: LowWatermark, high_watermark: EntryId) -> bool {
    low_watermark.kind() == Kind::Placed && low_watermark.place.entry_id == high_watermark
}

impl Course {
    /// Whether something at a place of this hub is behind what the client has had.
    fn is_new(&self, place: LogOrder, position: u64) -> bool {
        // What was entered before a position of this hub the client has had, or was told of, though its
        // number be above the mark of then: Redis can lose what no hub has ever seen.
        let gap_sent = if self.after.position == u64::MAX { 0 } else { self.after.position };
        place > self.after
            && (position > gap_sent || self.is_merged && place.entry_id <= self.end.entry_id)
    }

    /// The position up to which the pursuit goes.
    pub(super) fn until(&self) -> u64 {
        self.end.position
    }

    /// A place as the pursuit orders them.
    pub(super) fn key(&self, place: LogOrder, kind: Kind) -> LogOrder {
        match self.order {
            Order::Id => place.by_id(kind),
            Order::Position => LogOrder { position: place.position, ..LogOrder::START },
        }
    }
}
