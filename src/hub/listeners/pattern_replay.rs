//! Replays the events of all matching channels to a stream of patterns that is behind.
//!
//! There may be more channels than can be remembered, so they are searched for. A scan goes through
//! the channel table, in each hold of the lock as far as its budget allows. For each matching
//! channel it finds the first event that the stream lacks, and it keeps those that come first. The
//! events of these channels are merged, up to the first event of the channels that did not fit. The
//! next scan starts there. Each scan keeps twice as many channels as the one before, since
//! otherwise the time would be quadratic. The memory of all replays of a process is bounded.
//!
//! Events are remembered and not records: an event that still has its position is the one that was
//! found, and as long as it exists its channel does. If it was evicted meanwhile, something was
//! lost. Then a gap event is sent, and the scan starts again.

mod walk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::hub::listeners::pattern_name::reaches;
use crate::hub::log::backward::BackwardSearch;
use crate::hub::log::position::{end, LogOrder, LowWatermark};
use crate::hub::log::received::{Elsewhere, Extent, Received};
use crate::hub::log::replay::{ReplayBatch, ReplayStart, ReplayedEvent, Resume};
use crate::hub::log::resume::Origin;
use crate::hub::memory::access::Locked;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::header;
use crate::hub::{Hub, Now};
use crate::sse::pattern::{cost, Subject};

/// How many channels the first scan remembers.
const TRACKS: usize = if cfg!(test) { 5 } else { 1024 };
/// How many more channels all replays of a process remember in total.
const EXTRA: usize = if cfg!(test) { 4_000 } else { 1 << 18 };
/// For how many channels a replay remembers that a loss was reported.
const LOSSES: usize = 4096;

/// A replay for a stream of patterns: everything that the client lacks, up to `until`.
#[derive(Debug)]
pub struct PatternReplay {
    /// The names of channels and of patterns' records.
    names: Box<[Box<[u8]>]>,
    received: Received,
    /// The end of the replay: the end of the log when the stream started, or what its process has
    /// read.
    until: LogOrder,
    extent: Extent,
    gap_due: bool,
    /// Records that have lost events that the client lacks, and the position up to which a gap was
    /// due for it. The key of FORGOTTEN is 0.
    lost: HashMap<u32, u64>,
    /// How many channels a scan remembers.
    capacity: Capacity,
    phase: ReplayPhase,
}

/// How many channels a replay remembers. What it has beyond [`TRACKS`] is returned when it is
/// dropped.
#[derive(Debug, Default)]
struct Capacity {
    extra: usize,
    of: ReplayMemory,
}

/// How many channels the replays of a process remember beyond [`TRACKS`] each.
#[derive(Clone, Debug, Default)]
pub(in crate::hub) struct ReplayMemory(Arc<AtomicUsize>);

impl Capacity {
    fn tracks(&self) -> usize {
        TRACKS + self.extra
    }

    /// Doubles the capacity, if the process has enough left.
    fn grow(&mut self, of: &ReplayMemory) {
        let more = self.tracks();
        self.of = of.clone();
        if self.of.0.fetch_add(more, Ordering::Relaxed) + more <= EXTRA {
            self.extra += more;
        } else {
            self.of.0.fetch_sub(more, Ordering::Relaxed);
        }
    }
}

impl Drop for Capacity {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.extra, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum ReplayPhase {
    /// A scan has reached a bucket. Records of the bucket before may still be pending, the last one
    /// first, and the search in that one may have reached an event.
    Scanning {
        bucket: usize,
        pending: Vec<u32>,
        stopped: Option<BackwardSearch>,
        found: BinaryHeap<Candidate>,
        beyond: Option<LogOrder>,
    },
    /// The next event of each channel that was found, and before it the events that were returned
    /// and may have to be returned again.
    Merging {
        next: BinaryHeap<Reverse<Candidate>>,
        given: VecDeque<Candidate>,
        beyond: Option<LogOrder>,
    },
}

/// The result of looking for the next batch.
#[derive(Debug)]
enum BatchOutcome {
    /// The next batch.
    ReplayBatch(ReplayBatch),
    /// The scan has to start again.
    Restart,
    /// The budget was spent before anything was found.
    Unfinished,
}

/// An event of a channel, in the order in which events are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    key: LogOrder,
    position: u64,
    block: u32,
}

impl ReplayPhase {
    /// Starts a scan. Memory for `extra` channels more than in a first scan is allocated before the
    /// lock is taken, because moving the found channels to a larger allocation takes long.
    fn start(extra: usize) -> ReplayPhase {
        let found = match extra {
            0 => BinaryHeap::new(),
            extra => BinaryHeap::with_capacity(TRACKS + extra + 1),
        };
        let pending = Vec::new();
        ReplayPhase::Scanning { bucket: 0, pending, stopped: None, found, beyond: None }
    }
}

impl PatternReplay {
    /// Creates a replay for an open stream that is behind, up to `until`.
    pub fn since(received: Received, until: LogOrder, names: Vec<Box<[u8]>>) -> Box<PatternReplay> {
        Box::new(PatternReplay::new(names.into(), received, until, Extent::All))
    }

    fn new(
        names: Box<[Box<[u8]>]>,
        received: Received,
        until: LogOrder,
        extent: Extent,
    ) -> PatternReplay {
        let (phase, lost) = (ReplayPhase::start(0), HashMap::new());
        let (gap_due, capacity) = (false, Capacity::default());
        PatternReplay { names, received, until, extent, gap_due, lost, capacity, phase }
    }

    /// Returns the position up to which the replay goes.
    pub fn until(&self) -> u64 {
        self.until.position
    }

    /// Requires a gap event, whatever the low watermarks say.
    pub fn require_gap(&mut self) {
        self.gap_due = true;
    }

    /// Returns whether the client has no id, and has received nothing yet.
    fn is_untouched(&self) -> bool {
        let is_new = matches!(self.extent, Extent::Newest(_)) && !self.gap_due;
        is_new && self.received.up_to == LogOrder::START
    }

    /// Records that an event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        self.received.advance(found.event.place, found.event.kind());
        if let ReplayPhase::Merging { given, .. } = &mut self.phase {
            given.pop_front();
        }
    }

    /// Records that the gap event of a batch was sent.
    pub fn gap_sent(&mut self) {
        self.gap_due = false;
    }

    /// Records that a channel has lost events, and requires one gap event for that.
    fn record_loss(&mut self, record: u32, lost: LowWatermark, now: Now) {
        let known = self.lost.get(&record).copied();
        if known.is_some_and(|position| position >= lost.place.position)
            || !self.received.lacks_lost(lost, now)
        {
            return;
        }
        self.gap_due = true;
        // A loss that is not remembered is reported again by the next scan, if there is one.
        if known.is_some() || self.lost.len() < LOSSES {
            self.lost.insert(record, lost.place.position);
        }
    }

    /// Keeps the first event of a channel, if it comes before those that do not fit.
    fn keep_first(&mut self, track: Candidate) {
        let ReplayPhase::Scanning { found, beyond, .. } = &mut self.phase else { return };
        if beyond.is_some_and(|beyond| track.key >= beyond) {
            return;
        }
        found.push(track);
        if found.len() > self.capacity.tracks() {
            *beyond = found.pop().map(|last| last.key);
        }
    }

    /// Starts merging, because the scan has reached the end of the table.
    fn start_merging(&mut self) {
        if let ReplayPhase::Scanning { found, beyond, .. } = &mut self.phase {
            let next = std::mem::take(found).into_iter().map(Reverse).collect();
            let (given, beyond) = (VecDeque::new(), *beyond);
            self.phase = ReplayPhase::Merging { next, given, beyond };
        }
    }
}

impl Hub {
    /// Determines where a stream of patterns starts.
    pub fn begin_pattern_replay(
        &self,
        names: &[Box<[u8]>],
        resume: &Resume,
        now: Now,
    ) -> Result<ReplayStart<Box<PatternReplay>>, Locked> {
        let guard = self.lock()?;
        let end = end(&self.region);
        let owed = guard.get(header::COUNT);
        let mut elsewhere = self.not_owed(end, now);
        let is_early = guard.are_catching_up(names);
        let mut claim = None;
        let (after, extent) = match resume {
            Resume::Fresh { newest } if owed.min(*newest) == 0 => {
                let start = ReplayStart::new(end, elsewhere, claim, None);
                return Ok(ReplayStart { is_early, ..start });
            }
            Resume::Fresh { newest } => (None, Extent::Newest(owed.min(*newest))),
            Resume::Since { ms } => (None, Extent::Since(self.since(*ms, end, now))),
            // For channels that the client did not name, it is unknown what other nginx servers
            // delivered.
            // The configuration allows `Resume::InRun` for channels only.
            Resume::From(id) | Resume::InRun(id) => match self.origin_of(id, end, names.len(), now)
            {
                Origin::Here(after) if after.entry_id > end.entry_id => {
                    claim = Some(after.entry_id);
                    (Some(after), Extent::All)
                }
                Origin::Here(after) => (Some(after), Extent::after_id(owed)),
                Origin::Elsewhere(_) | Origin::Unknown => (None, Extent::Newest(owed)),
            },
        };
        let received = match extent {
            Extent::Since(since) => Received::since(since),
            Extent::All | Extent::Nothing | Extent::Newest(_) | Extent::Run => {
                Received::by_id(after.unwrap_or(LogOrder::START))
            }
        };
        if let Extent::Since(since) = extent {
            elsewhere = Elsewhere::Since(since);
        }
        let mut replay = PatternReplay::new(names.into(), received, end, extent);
        replay.gap_due = after.is_none() && !resume.client_id().is_empty();
        let start = ReplayStart::new(end, elsewhere, claim, Some(Box::new(replay)));
        Ok(ReplayStart { is_early, ..start })
    }

    /// Returns the next batch, within the same limits as `replay`, or `None` if it is still being
    /// searched for.
    pub fn replay_patterns(
        &self,
        replay: &mut PatternReplay,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Option<ReplayBatch>, Locked> {
        if matches!(replay.phase, ReplayPhase::Scanning { .. }) && !self.scan(replay, now)? {
            return Ok(None);
        }
        let sliced = self.lock()?.batch(replay, events, bytes, now, &mut Budget::for_visit());
        Ok(match sliced {
            BatchOutcome::ReplayBatch(batch) => Some(batch),
            BatchOutcome::Unfinished => None,
            BatchOutcome::Restart => {
                if replay.needs_another_scan() {
                    replay.capacity.grow(&self.replay_memory);
                }
                replay.phase = ReplayPhase::start(replay.capacity.extra);
                None
            }
        })
    }

    /// Continues the scan for one hold of the lock. Returns whether it has reached the end.
    fn scan(&self, replay: &mut PatternReplay, now: Now) -> Result<bool, Locked> {
        {
            let guard = self.lock()?;
            if !guard.scan_on(replay, now, &mut Budget::for_visit()) {
                return Ok(false);
            }
            // The record of a matching channel may have been removed, even during the scan.
            if !matches!(replay.extent, Extent::Newest(_)) {
                guard.record_pattern_losses(replay, now);
                let forgotten = LowWatermark::read(&self.region, header::FORGOTTEN);
                replay.record_loss(0, forgotten, now);
            }
        }
        replay.start_merging();
        Ok(true)
    }
}

impl PatternReplay {
    /// Returns whether the stream receives what is published to a channel.
    fn matches(&self, channel: &[u8], budget: &mut Budget) -> bool {
        let subject = Subject::new(channel);
        budget.spend(2);
        self.names.iter().any(|name| {
            budget.spend(cost(name));
            reaches(name, &subject)
        })
    }

    /// Returns where the search backwards through the events of the pending channel stopped.
    fn stopped(&self) -> Option<BackwardSearch> {
        match &self.phase {
            ReplayPhase::Scanning { stopped, .. } => *stopped,
            ReplayPhase::Merging { .. } => None,
        }
    }

    /// Stops the search backwards through the events of the pending channel for now.
    fn pause_in_channel(&mut self, at: BackwardSearch) {
        if let ReplayPhase::Scanning { stopped, .. } = &mut self.phase {
            *stopped = Some(at);
        }
    }

    /// Removes the pending channel, because it is done.
    fn finish_channel(&mut self) {
        if let ReplayPhase::Scanning { pending, stopped, .. } = &mut self.phase {
            pending.pop();
            *stopped = None;
        }
    }

    /// Returns the event that follows the first `count` that have not been delivered.
    fn upcoming(&self, count: usize) -> Option<Candidate> {
        let ReplayPhase::Merging { next, given, beyond } = &self.phase else { return None };
        let next = || {
            let Reverse(first) = next.peek()?;
            Some(*first).filter(|first| beyond.is_none_or(|beyond| first.key < beyond))
        };
        given.get(count).copied().or_else(next)
    }

    /// Consumes that event. The next event of its channel takes its place.
    fn take(&mut self, count: usize, later: Option<Candidate>) {
        let ReplayPhase::Merging { next, given, .. } = &mut self.phase else { return };
        if count == given.len() {
            given.extend(next.pop().map(|Reverse(first)| first));
            next.extend(later.map(Reverse));
        }
    }

    /// Skips the next event, because it is not for this stream. The next event of its channel takes
    /// its place.
    fn skip(&mut self, later: Option<Candidate>) {
        let ReplayPhase::Merging { next, .. } = &mut self.phase else { return };
        next.pop();
        next.extend(later.map(Reverse));
    }

    /// Returns whether an upcoming event has been returned before.
    fn was_given(&self, count: usize) -> bool {
        matches!(&self.phase, ReplayPhase::Merging { given, .. } if count < given.len())
    }

    /// Returns whether another scan has to follow.
    fn needs_another_scan(&self) -> bool {
        matches!(&self.phase, ReplayPhase::Merging { beyond: Some(_), .. })
    }
}
