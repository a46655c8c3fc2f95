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
    /// The client's id, or nothing, and it must not miss a part of a run: without an id of this hub
    /// it receives the newest run from its first event.
    InRun(Vec<u8>),
}

impl Resume {
    /// Returns the client's id; empty if it has none.
    pub fn client_id(&self) -> &[u8] {
        match self {
            Resume::Fresh { .. } | Resume::Since { .. } => &[],
            Resume::From(id) | Resume::InRun(id) => id,
        }
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
    /// Whether the client would receive a run of which a part has left, though it must not.
    pub is_incomplete: bool,
    /// Whether the replay may begin with a gap event, even if the client must not miss a part of a
    /// run: its id is unknown here.
    pub may_have_gap: bool,
    /// Whether events of one of the channels were being fetched from Redis. Then a stream of
    /// several channels that begins here would receive them after events with higher ids.
    pub is_early: bool,
}

impl<C> ReplayStart<C> {
    /// Returns the start of a stream that neither is over nor has to be complete.
    pub(in crate::hub) fn new(
        end: LogOrder,
        elsewhere: Elsewhere,
        claim: Option<EntryId>,
        cursor: Option<C>,
    ) -> ReplayStart<C> {
        ReplayStart {
            end,
            elsewhere,
            claim,
            cursor,
            is_over: false,
            is_incomplete: false,
            may_have_gap: false,
            is_early: false,
        }
    }

    /// Converts the replay.
    pub fn map<D>(self, convert: impl FnOnce(C) -> D) -> ReplayStart<D> {
        let ReplayStart { end, elsewhere, claim, cursor, .. } = self;
        let ReplayStart { is_over, is_incomplete, may_have_gap, is_early, .. } = self;
        let cursor = cursor.map(convert);
        ReplayStart {
            end,
            elsewhere,
            claim,
            cursor,
            is_over,
            is_incomplete,
            may_have_gap,
            is_early,
        }
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

/// What a client's id, or its absence, determines about its replay.
struct Resumption {
    /// What it has received of events that are appended later.
    elsewhere: Elsewhere,
    extent: Extent,
    /// What it has received.
    after: LogOrder,
    claim: Option<EntryId>,
    in_doubt: Option<EntryId>,
    /// Whether its id is unknown here.
    is_foreign: bool,
}

impl Resumption {
    /// Returns the one for a client of which nothing is known.
    fn new(elsewhere: Elsewhere, extent: Extent) -> Resumption {
        let (after, claim, in_doubt) = (LogOrder::START, None, None);
        Resumption { elsewhere, extent, after, claim, in_doubt, is_foreign: false }
    }
}

impl Guard<'_> {
    /// Determines where a stream of the channels with these records starts.
    pub(super) fn begin(
        &self,
        records: &[u32],
        resume: &Resume,
        runs: Runs,
        now: Now,
    ) -> ReplayStart<Box<ReplayCursor>> {
        let end = end(&self.hub.region);
        let are_finished = self.are_finished(records, runs);
        let resumption = match resume {
            Resume::InRun(id) if id.is_empty() => self.resume_run(end, now),
            Resume::Fresh { newest } => self.resume_newest(records, *newest, end, now),
            Resume::Since { ms } => {
                let since = self.hub.since(*ms, end, now);
                Resumption::new(Elsewhere::Since(since), Extent::Since(since))
            }
            Resume::From(id) => self.resume_from(records, (id, Extent::Newest), end, now),
            Resume::InRun(id) => self.resume_from(records, (id, |_| Extent::Run), end, now),
        };
        let is_withheld = runs == Runs::InProgress && are_finished;
        let Resumption { elsewhere, claim, is_foreign, .. } = resumption;
        // Otherwise, the next run may have begun in Redis.
        let all_finished = are_finished && self.hub.are_in_sync(records);
        let nothing = ReplayStart {
            is_early: records.iter().any(|record| self.hub.is_catching_up(*record)),
            is_over: all_finished,
            may_have_gap: is_foreign,
            ..ReplayStart::new(end, elsewhere, claim, None)
        };
        let is_fresh = resume.client_id().is_empty();
        if is_fresh && (is_withheld || resumption.extent == Extent::Newest(0)) {
            return nothing;
        }
        let mut cursor = self.replay_of(records, &resumption, is_fresh, runs, end);
        // Nearly always, this finds everything at once.
        let is_known = self.locate_all(&mut cursor, now, &mut Budget::for_visit());
        let has_nothing = is_known && claim.is_none() && self.has_nothing_left(&cursor, now);
        let is_incomplete = match resume {
            Resume::InRun(_) => self.is_incomplete(&cursor, is_foreign, now),
            Resume::Fresh { .. } | Resume::Since { .. } | Resume::From(_) => false,
        };
        let is_over = all_finished && has_nothing && !is_incomplete;
        let is_empty = || records.iter().all(|record| self.events(*record) == 0);
        let needs_no_replay = is_fresh && is_known && !cursor.gap_due && is_empty();
        let cursor = (!needs_no_replay).then(|| Box::new(cursor));
        ReplayStart { cursor, is_over, is_incomplete, ..nothing }
    }

    /// Returns whether the runs of all channels are finished, and the stream does not pass over
    /// finishes.
    fn are_finished(&self, records: &[u32], runs: Runs) -> bool {
        runs != Runs::Joined && records.iter().all(|record| self.run_state(*record).is_finished)
    }

    /// Returns a replay of which nothing has been located.
    fn replay_of(
        &self,
        records: &[u32],
        resumption: &Resumption,
        is_fresh: bool,
        runs: Runs,
        end: LogOrder,
    ) -> ReplayCursor {
        let course = Course {
            received: match resumption.extent {
                Extent::Since(since) => Received::since(since),
                Extent::All | Extent::Nothing | Extent::Newest(_) | Extent::Run => {
                    Received::by_id(resumption.after)
                }
            },
            end,
            extent: resumption.extent,
            in_doubt: resumption.in_doubt,
            is_fresh,
            is_merged: self.hub.source() == Source::Streams && records.len() > 1,
            // Of a client that is ahead of this hub it is not known which finishes it has passed.
            runs: if resumption.claim.is_some() { Runs::Joined } else { runs },
            known_ends: KnownRunEnds::default(),
        };
        let track = |record: &u32| Track { record: *record, next: Next::Begin, gap_sent: 0 };
        let (tracks, passing) = (records.iter().map(track).collect(), Passing::default());
        ReplayCursor { course, gap_due: resumption.is_foreign, tracks, passing }
    }

    fn resume_newest(&self, records: &[u32], newest: u64, end: LogOrder, now: Now) -> Resumption {
        let elsewhere = if newest > 0 && !self.hub.are_in_sync(records) {
            self.hub.not_owed_before_history(end, now)
        } else {
            self.hub.not_owed(end, now)
        };
        Resumption::new(elsewhere, Extent::Newest(newest.min(self.get(header::COUNT))))
    }

    /// Its channels are in sync, or the stream would not start.
    fn resume_run(&self, end: LogOrder, now: Now) -> Resumption {
        Resumption::new(self.hub.not_owed(end, now), Extent::Run)
    }

    /// Returns what a client's id determines. If it is unknown here, the client receives another
    /// extent, for which the size of the history is given.
    fn resume_from(
        &self,
        records: &[u32],
        (id, otherwise): (&[u8], impl Fn(u64) -> Extent),
        end: LogOrder,
        now: Now,
    ) -> Resumption {
        let (count, runs) = (self.get(header::COUNT), self.get(header::RUNS_COUNT));
        let extent = Extent::after_id(count.max(runs));
        let origin = self.hub.origin_of(id, end, records.len(), now);
        let known =
            Resumption { claim: origin.claim(end), ..Resumption::new(origin.elsewhere(), extent) };
        match origin {
            Origin::Here(after) => Resumption { after, ..known },
            // Which of the plain messages at the id itself the client has received is unknown here.
            Origin::Elsewhere(entry_id) => {
                let after = LogOrder { entry_id, position: u64::MAX };
                Resumption { after, in_doubt: Some(entry_id), ..known }
            }
            // The id means nothing here, so the client receives a gap event first.
            Origin::Unknown => Resumption { extent: otherwise(count), is_foreign: true, ..known },
        }
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
