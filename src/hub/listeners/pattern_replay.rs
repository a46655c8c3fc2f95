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

use crate::hub::budget::Budget;
use crate::hub::listeners::pattern_name::reaches;
use crate::hub::log::backward::BackwardSearch;
use crate::hub::log::position::{end, Kind, LogOrder, LowWatermark};
use crate::hub::log::replay::{ReplayBatch, ReplayedEvent, Resume};
use crate::hub::log::resume::{AlreadySeen, Origin};
use crate::hub::memory::access::Locked;
use crate::hub::memory::layout::header;
use crate::hub::{Hub, Now};
use crate::sse::pattern::{cost, Subject};

/// How many channels the first scan remembers.
const TRACKS: usize = if cfg!(test) { 5 } else { 1024 };
/// How many more channels all replays of a process remember in total.
const EXTRA: usize = if cfg!(test) { 4_000 } else { 1 << 18 };
/// For how many channels a replay remembers that a loss was reported.
const LOSSES: usize = 4096;
/// A replay for a stream of patterns: everything after `after` and up to `until`.
#[derive(Debug)]
pub struct PatternReplay {
    /// The names of channels and of patterns' records.
    names: Box<[Box<[u8]>]>,
    after: LogOrder,
    /// The end of the log when the replay started. For an open stream, it is set at the first
    /// visit.
    until: Option<LogOrder>,
    by: By,
    reach: Reach,
    /// Which of these events the client has received elsewhere.
    seen: AlreadySeen,
    gap_due: bool,
    /// Records that have lost events after `after`, and the position up to which a gap was due for
    /// it. The key of FORGOTTEN is 0.
    lost: HashMap<u32, u64>,
    /// How many channels a scan remembers.
    capacity: Capacity,
    phase: Phase,
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

/// The order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By id, when a stream starts.
    Id,
    /// By position, later on.
    Position,
}

/// Which events of a channel are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All of them. If some were evicted, the client receives a gap event.
    All,
    /// None, because no history is owed. If there were any, the client receives a gap event.
    Loss,
    /// At most this many of the newest ones, because the client does not know of others.
    Newest(u64),
}

#[derive(Debug)]
enum Phase {
    /// A scan has reached a bucket. Records of the bucket before may still be pending, the last one
    /// first, and the search in that one may have reached an event.
    Scanning {
        bucket: usize,
        pending: Vec<u32>,
        stopped: Option<BackwardSearch>,
        found: BinaryHeap<Track>,
        beyond: Option<LogOrder>,
    },
    /// The next event of each channel that was found, and before it the events that were returned
    /// and may have to be returned again.
    Merging { next: BinaryHeap<Reverse<Track>>, given: VecDeque<Track>, beyond: Option<LogOrder> },
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
struct Track {
    key: LogOrder,
    position: u64,
    block: u32,
}

impl Phase {
    /// Starts a scan. Memory for `extra` channels more than in a first scan is allocated before the
    /// lock is taken, because moving the found channels to a larger allocation takes long.
    fn start(extra: usize) -> Phase {
        let found = match extra {
            0 => BinaryHeap::new(),
            extra => BinaryHeap::with_capacity(TRACKS + extra + 1),
        };
        let pending = Vec::new();
        Phase::Scanning { bucket: 0, pending, stopped: None, found, beyond: None }
    }
}

impl PatternReplay {
    /// Creates a replay for an open stream that is behind. It has received everything up to the
    /// position `at`.
    pub fn since(
        at: u64,
        seen: AlreadySeen,
        names: impl Iterator<Item = Box<[u8]>>,
    ) -> Box<PatternReplay> {
        let after = LogOrder { position: at, ..LogOrder::START };
        let replay = PatternReplay::new(names.collect(), after, None, By::Position, Reach::All);
        Box::new(PatternReplay { seen, ..replay })
    }

    fn new(
        names: Box<[Box<[u8]>]>,
        after: LogOrder,
        until: Option<LogOrder>,
        by: By,
        reach: Reach,
    ) -> PatternReplay {
        let (phase, lost) = (Phase::start(0), HashMap::new());
        let (seen, gap_due, capacity) = (AlreadySeen::default(), false, Capacity::default());
        PatternReplay { names, after, until, by, reach, seen, gap_due, lost, capacity, phase }
    }

    /// Returns the position up to which the replay goes.
    pub fn until(&self) -> u64 {
        self.until.map_or(self.after.position, |until| until.position)
    }

    /// Requires a gap event, whatever the low watermarks say.
    pub fn require_gap(&mut self) {
        self.gap_due = true;
    }

    /// Records that an event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        self.after = self.key(found.event.place, found.event.kind());
        if let Phase::Merging { given, .. } = &mut self.phase {
            given.pop_front();
        }
    }

    /// Records that the gap event of a batch was sent.
    pub fn gap_sent(&mut self) {
        self.gap_due = false;
    }

    fn key(&self, place: LogOrder, kind: Kind) -> LogOrder {
        match self.by {
            By::Id => place.by_id(kind),
            By::Position => LogOrder { position: place.position, ..LogOrder::START },
        }
    }

    /// Records that a channel has lost events up to `place`, and requires one gap event for that.
    fn record_loss(&mut self, record: u32, place: LogOrder, kind: Kind, now: Now) {
        let known = self.lost.get(&record).copied();
        if self.key(place, kind) <= self.after
            || known.is_some_and(|position| position >= place.position)
            || kind == Kind::Durable && self.seen.covers(place.entry_id, now)
        {
            return;
        }
        self.gap_due = true;
        // A loss that is not remembered is reported again by the next scan, if there is one.
        if known.is_some() || self.lost.len() < LOSSES {
            self.lost.insert(record, place.position);
        }
    }

    /// Keeps the first event of a channel, if it comes before those that do not fit.
    fn keep_first(&mut self, track: Track) {
        let Phase::Scanning { found, beyond, .. } = &mut self.phase else { return };
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
        if let Phase::Scanning { found, beyond, .. } = &mut self.phase {
            let next = std::mem::take(found).into_iter().map(Reverse).collect();
            let (given, beyond) = (VecDeque::new(), *beyond);
            self.phase = Phase::Merging { next, given, beyond };
        }
    }
}

impl Hub {
    /// Returns where a stream of patterns starts: the end of the log, what the client has received
    /// elsewhere, and the replay it needs first, if any.
    pub fn begin_pattern_replay(
        &self,
        names: &[Box<[u8]>],
        resume: &Resume,
        now: Now,
    ) -> Result<(LogOrder, AlreadySeen, Option<Box<PatternReplay>>), Locked> {
        let guard = self.lock()?;
        let end = end(&self.region);
        let owed = guard.get(header::COUNT);
        let mut seen = self.seen_before(end, now);
        let (after, reach) = match resume {
            Resume::Fresh { newest } if owed.min(*newest) == 0 => return Ok((end, seen, None)),
            Resume::Fresh { newest } => (None, Reach::Newest(owed.min(*newest))),
            // For channels that nobody named, it is unknown what other nginx servers delivered.
            Resume::From(id) => match self.origin_of(id, end, names.len(), now) {
                Origin::Here(after) if after.entry_id > end.entry_id => {
                    seen.ahead = after.entry_id;
                    (Some(after), Reach::All)
                }
                Origin::Here(after) if owed == 0 => (Some(after), Reach::Loss),
                Origin::Here(after) => (Some(after), Reach::All),
                Origin::Elsewhere(_) | Origin::Unknown => (None, Reach::Newest(owed)),
            },
        };
        let start = after.unwrap_or(LogOrder::START);
        let mut replay = PatternReplay::new(names.into(), start, Some(end), By::Id, reach);
        replay.gap_due = after.is_none() && matches!(resume, Resume::From(_));
        Ok((end, seen, Some(Box::new(replay))))
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
        if matches!(replay.phase, Phase::Scanning { .. }) && !self.scan(replay, now)? {
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
                replay.phase = Phase::start(replay.capacity.extra);
                None
            }
        })
    }

    /// Continues the scan for one hold of the lock. Returns whether it has reached the end.
    fn scan(&self, replay: &mut PatternReplay, now: Now) -> Result<bool, Locked> {
        {
            let guard = self.lock()?;
            replay.until.get_or_insert_with(|| end(&self.region));
            if !guard.scan_on(replay, now, &mut Budget::for_visit()) {
                return Ok(false);
            }
            // The record of a matching channel may have been removed, even during the scan.
            if matches!(replay.reach, Reach::All | Reach::Loss) {
                guard.record_pattern_losses(replay, now);
                let forgotten = LowWatermark::read(&self.region, header::FORGOTTEN);
                replay.record_loss(0, forgotten.place, forgotten.kind(), now);
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
            Phase::Scanning { stopped, .. } => *stopped,
            Phase::Merging { .. } => None,
        }
    }

    /// Stops the search backwards through the events of the pending channel for now.
    fn pause_in_channel(&mut self, at: BackwardSearch) {
        if let Phase::Scanning { stopped, .. } = &mut self.phase {
            *stopped = Some(at);
        }
    }

    /// Removes the pending channel, because it is done.
    fn finish_channel(&mut self) {
        if let Phase::Scanning { pending, stopped, .. } = &mut self.phase {
            pending.pop();
            *stopped = None;
        }
    }

    /// Returns the event that follows the first `count` that have not been delivered.
    fn upcoming(&self, count: usize) -> Option<Track> {
        let Phase::Merging { next, given, beyond } = &self.phase else { return None };
        let next = || {
            let Reverse(first) = next.peek()?;
            Some(*first).filter(|first| beyond.is_none_or(|beyond| first.key < beyond))
        };
        given.get(count).copied().or_else(next)
    }

    /// Consumes that event. The next event of its channel takes its place.
    fn take(&mut self, count: usize, later: Option<Track>) {
        let Phase::Merging { next, given, .. } = &mut self.phase else { return };
        if count == given.len() {
            given.extend(next.pop().map(|Reverse(first)| first));
            next.extend(later.map(Reverse));
        }
    }

    /// Skips the next event, because it is not for this stream. The next event of its channel takes
    /// its place.
    fn skip(&mut self, later: Option<Track>) {
        let Phase::Merging { next, .. } = &mut self.phase else { return };
        next.pop();
        next.extend(later.map(Reverse));
    }

    /// Returns whether an upcoming event has been returned before.
    fn was_given(&self, count: usize) -> bool {
        matches!(&self.phase, Phase::Merging { given, .. } if count < given.len())
    }

    /// Returns whether another scan has to follow.
    fn needs_another_scan(&self) -> bool {
        matches!(&self.phase, Phase::Merging { beyond: Some(_), .. })
    }
}
