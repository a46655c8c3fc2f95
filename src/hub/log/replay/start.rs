//! Determines where a stream starts: what the client has received, according to its id, and what it
//! receives first.

use crate::hub::log::position::{end, LogOrder};
use crate::hub::log::received::{Elsewhere, Extent, Received};
use crate::hub::log::replay::passing::{KnownRunEnds, Passing, Runs};
use crate::hub::log::replay::track::{Next, Track};
use crate::hub::log::replay::{Course, ReplayCursor};
use crate::hub::log::resume::Origin;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, header, low};
use crate::hub::Source;
use crate::hub::{Hub, Membership, Now};
use crate::sse::id::EntryId;

/// What a client resumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// No id. It receives up to this many of the newest events of each channel, within the history.
    Fresh {
        /// The number of events.
        newest: u64,
    },
    /// No id, but a time. It receives what was published from then on.
    Since {
        /// The time in milliseconds since 1970, by [`Hub::clock`].
        ms: u64,
    },
    /// The client's id.
    From(Vec<u8>),
}

impl Resume {
    /// Returns whether the client has no id.
    fn is_fresh(&self) -> bool {
        matches!(self, Resume::Fresh { .. } | Resume::Since { .. })
    }
}

/// Where a stream starts. `C` is the form of its replay.
#[derive(Debug)]
pub struct ReplayStart<C> {
    /// The end of the log at that moment.
    pub end: LogOrder,
    /// What the client has received of events that are not in the log yet.
    pub elsewhere: Elsewhere,
    /// The client's entry id, if it is above everything that this hub has seen: another nginx was
    /// faster, or the id is from another time.
    pub claim: Option<EntryId>,
    /// The replay that it needs first; `None` if it starts at the end.
    pub cursor: Option<C>,
    /// Whether nothing is to come: the runs of all channels are finished, and the client has
    /// everything that it is owed of them.
    pub is_over: bool,
}

impl<C> ReplayStart<C> {
    /// Converts the replay.
    pub fn map<D>(self, convert: impl FnOnce(C) -> D) -> ReplayStart<D> {
        let ReplayStart { end, elsewhere, claim, cursor, is_over } = self;
        ReplayStart { end, elsewhere, claim, cursor: cursor.map(convert), is_over }
    }
}

impl Hub {
    /// Determines where a stream of these channels starts.
    pub fn begin(
        &self,
        channels: &[Membership],
        resume: &Resume,
        runs: Runs,
        now: Now,
    ) -> Result<ReplayStart<Box<ReplayCursor>>, Locked> {
        let records: Vec<u32> = channels.iter().map(|member| member.record).collect();
        Ok(self.lock()?.begin(&records, resume, runs, now))
    }

    /// Returns whether a client with this id, or without one, has all that these channels have, and
    /// the runs of all of them are finished.
    pub fn is_over(
        &self,
        channels: &[Box<[u8]>],
        resume: &Resume,
        now: Now,
    ) -> Result<bool, Locked> {
        let guard = self.lock()?;
        let records: Option<Vec<u32>> = channels.iter().map(|name| guard.find(name)).collect();
        let is_over =
            |records: Vec<u32>| guard.begin(&records, resume, Runs::Separate, now).is_over;
        Ok(records.is_some_and(is_over))
    }
}

impl Guard<'_> {
    fn begin(
        &self,
        records: &[u32],
        resume: &Resume,
        runs: Runs,
        now: Now,
    ) -> ReplayStart<Box<ReplayCursor>> {
        let hub = self.hub;
        let end = end(&hub.region);
        let owed = self.get(header::COUNT);
        let are_finished = runs != Runs::Joined
            && records.iter().all(|record| self.run_state(*record).is_finished);
        let is_in_sync = hub.are_in_sync(records);
        // Otherwise, the next run may have begun in Redis.
        let all_finished = are_finished && is_in_sync;
        let is_withheld = runs == Runs::InProgress && are_finished && resume.is_fresh();
        let (mut in_doubt, mut claim, mut gap_due) = (None, None, false);
        let (elsewhere, extent, after) = match resume {
            Resume::Fresh { newest } => {
                let elsewhere = if *newest > 0 && !is_in_sync {
                    hub.not_owed_before_history(end, now)
                } else {
                    hub.not_owed(end, now)
                };
                let newest = if is_withheld { 0 } else { owed.min(*newest) };
                if newest == 0 {
                    let is_over = all_finished;
                    return ReplayStart { end, elsewhere, claim, cursor: None, is_over };
                }
                (elsewhere, Extent::Newest(newest), LogOrder::START)
            }
            Resume::Since { ms } => {
                let since = hub.since(*ms, end, now);
                let elsewhere = Elsewhere::Since(since);
                if is_withheld {
                    let is_over = all_finished;
                    return ReplayStart { end, elsewhere, claim, cursor: None, is_over };
                }
                (elsewhere, Extent::Since(since), LogOrder::START)
            }
            Resume::From(id) => {
                let origin = hub.origin_of(id, end, records.len(), now);
                claim = origin.claim(end);
                let (extent, after) = match origin {
                    Origin::Here(after) => (Extent::after_id(owed), after),
                    // Which of the plain messages at the id itself the client has received is
                    // unknown here.
                    Origin::Elsewhere(entry_id) => {
                        in_doubt = Some(entry_id);
                        (Extent::after_id(owed), LogOrder { entry_id, position: u64::MAX })
                    }
                    // The id means nothing here, so the client receives what is owed, after a gap
                    // event.
                    Origin::Unknown => {
                        gap_due = true;
                        (Extent::Newest(owed), LogOrder::START)
                    }
                };
                (origin.elsewhere(), extent, after)
            }
        };
        let course = Course {
            received: match extent {
                Extent::Since(since) => Received::since(since),
                Extent::All | Extent::Nothing | Extent::Newest(_) => Received::by_id(after),
            },
            end,
            extent,
            in_doubt,
            is_fresh: resume.is_fresh(),
            is_merged: hub.source() == Source::Streams && records.len() > 1,
            // Of a client that is ahead of this hub it is not known which finishes it has passed.
            runs: if claim.is_some() { Runs::Joined } else { runs },
            known_ends: KnownRunEnds::default(),
        };
        let track = |record: &u32| Track { record: *record, next: Next::Begin, gap_sent: 0 };
        let (tracks, passing) = (records.iter().map(track).collect(), Passing::default());
        let mut cursor = ReplayCursor { course, gap_due, tracks, passing };
        // Nearly always, this finds everything at once.
        let is_known = self.locate_all(&mut cursor, now, &mut Budget::for_visit());
        let is_over =
            all_finished && is_known && claim.is_none() && self.has_nothing_left(&cursor, now);
        let is_empty = || records.iter().all(|record| self.events(*record) == 0);
        if course.is_fresh && is_known && !cursor.gap_due && is_empty() {
            return ReplayStart { end, elsewhere, claim, cursor: None, is_over };
        }
        ReplayStart { end, elsewhere, claim, cursor: Some(Box::new(cursor)), is_over }
    }

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
