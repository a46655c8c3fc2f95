//! Determines where a stream starts: what the client has received, according to its id, and what it
//! receives first.

use crate::hub::budget::Budget;
use crate::hub::log::position::{end, LogOrder};
use crate::hub::log::replay::track::{Aim, Next, Track};
use crate::hub::log::replay::{Course, Order, ReplayCursor};
use crate::hub::log::resume::{AlreadySeen, Origin};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{channel, header, low};
use crate::hub::Source;
use crate::hub::{Hub, Membership, Now};

/// What a client resumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// No id. It receives up to this many of the newest events of each channel, within the history.
    Fresh {
        /// The number of events.
        newest: u64,
    },
    /// The client's id.
    From(Vec<u8>),
}

/// Where a stream starts.
#[derive(Debug)]
pub struct ReplayStart {
    /// The end of the log at that moment.
    pub end: LogOrder,
    /// What the client has received of events that are not in the log yet.
    pub seen: AlreadySeen,
    /// The replay that it needs first; `None` if it starts at the end.
    pub cursor: Option<Box<ReplayCursor>>,
}

impl Hub {
    /// Determines where a stream of these channels starts.
    pub fn begin(
        &self,
        channels: &[Membership],
        resume: &Resume,
        now: Now,
    ) -> Result<ReplayStart, Locked> {
        let guard = self.lock()?;
        let end = end(&self.region);
        let owed = guard.get(header::COUNT);
        let (seen, aim, after, gap_due) = match resume {
            Resume::Fresh { newest } => {
                let is_to_come = *newest > 0 && !self.in_sync(channels);
                let seen = match is_to_come {
                    true => self.seen_before_replay(end, now),
                    false => self.seen_before(end, now),
                };
                if owed.min(*newest) == 0 {
                    return Ok(ReplayStart { end, seen, cursor: None });
                }
                (seen, Aim::Newest(owed.min(*newest)), LogOrder::START, false)
            }
            Resume::From(id) => {
                let origin = self.origin_of(id, end, channels.len(), now);
                let seen = AlreadySeen {
                    entry_id: origin.seen(),
                    ahead: origin.ahead(end),
                    ..AlreadySeen::default()
                };
                match origin {
                    Origin::Here(after) => (seen, Aim::Here, after, false),
                    // Which of the plain messages at the id itself the client has received is
                    // unknown here.
                    Origin::Elsewhere(high_watermark) => {
                        let after = LogOrder { entry_id: high_watermark, position: u64::MAX };
                        (seen, Aim::Elsewhere(high_watermark), after, false)
                    }
                    // The id means nothing here, so the client receives what is owed, after a gap
                    // event.
                    Origin::Unknown => (seen, Aim::Newest(owed), LogOrder::START, true),
                }
            }
        };
        let course = Course {
            after,
            end,
            order: Order::Id,
            seen: AlreadySeen::default(),
            aim,
            is_fresh: matches!(resume, Resume::Fresh { .. }),
            is_merged: self.source() == Source::Streams && channels.len() > 1,
        };
        let tracks =
            channels.iter().map(|m| Track { record: m.record, next: Next::Begin, gap_sent: 0 });
        let mut cursor = ReplayCursor { course, gap_due, tracks: tracks.collect() };
        // Nearly always, this finds everything at once.
        let is_known = guard.locate_all(&mut cursor, now, &mut Budget::for_visit());
        let is_empty = || channels.iter().all(|member| guard.events(member.record) == 0);
        if course.is_fresh && is_known && is_empty() {
            return Ok(ReplayStart { end, seen, cursor: None });
        }
        Ok(ReplayStart { end, seen, cursor: Some(Box::new(cursor)) })
    }
}

impl Guard<'_> {
    /// Returns the order of the newest event that a channel ever had.
    pub(in crate::hub) fn newest_place(&self, record: u32) -> LogOrder {
        match low(self.word(record, channel::EVENTS)) {
            0 => self.low_watermark_by_id(record),
            last => self.place(last).by_id(self.kind(last)),
        }
    }

    fn low_watermark_by_id(&self, record: u32) -> LogOrder {
        let low_watermark = self.low_watermark(record);
        low_watermark.place.by_id(low_watermark.kind())
    }
}
