//! What a stream of patterns that is behind still has to get, of all channels that match.
//!
//! There may be more of them than anybody wants to remember, so they are looked for: a walk through
//! the channel table, in each hold of the lock as far as its budget reaches, finds for each matching
//! channel the first event that the stream lacks, and keeps those that come first. From these the events
//! are merged, up to where the first channel begins that did not fit; then the next walk begins there.
//! Each walk keeps twice as many as the one before, or the walks would take the square of the number
//! of channels; what all searches of a process keep is bounded.
//!
//! No record is remembered, only events: an event that still has its position is the one that was
//! found, and its channel is there as long as it is. One that has left since means that something
//! was lost; then a gap is told and the walk begins anew.

mod walk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::hub::budget::Budget;
use crate::hub::listeners::pattern_name::reaches;
use crate::hub::log::position::{end, Kind, LogOrder, LowWatermark};
use crate::hub::log::replay::{ReplayBatch, ReplayedEvent, Resume};
use crate::hub::log::resume::{AlreadySeen, Origin};
use crate::hub::memory::access::Locked;
use crate::hub::memory::layout::header;
use crate::hub::{Hub, Now};
use crate::sse::pattern::{cost, Subject};

/// Channels that a first walk remembers.
const TRACKS: usize = if cfg!(test) { 5 } else { 1024 };
/// Channels that all searches of a process remember beyond that.
const EXTRA: usize = if cfg!(test) { 4_000 } else { 1 << 18 };
/// Channels that have lost something of which that is remembered.
const LOSSES: usize = 4096;
/// A search for what a stream of patterns lacks: everything behind `after` and up to `until`.
#[derive(Debug)]
pub struct PatternReplay {
    /// Names of channels and of patterns' records.
    names: Box<[Box<[u8]>]>,
    after: LogOrder,
    /// The end of the log when it began; a stream in progress begins with its first visit.
    until: Option<LogOrder>,
    by: By,
    reach: Reach,
    /// What of these the client has had elsewhere.
    seen: AlreadySeen,
    gap_due: bool,
    /// Records whose floor is behind what was passed, and the position up to which a gap was due
    /// for it. FORGOTTEN stands under 0.
    lost: HashMap<u32, u64>,
    /// Channels that a walk remembers.
    capacity: Capacity,
    phase: Phase,
}

/// How many channels a search remembers. What it has beyond [`TRACKS`] is given back with it.
#[derive(Debug, Default)]
struct Capacity {
    extra: usize,
    of: ReplayMemory,
}

/// What the searches of a process may remember beyond [`TRACKS`] each: so much of it is taken.
#[derive(Clone, Debug, Default)]
pub(in crate::hub) struct ReplayMemory(Arc<AtomicUsize>);

impl Capacity {
    fn tracks(&self) -> usize {
        TRACKS + self.extra
    }

    /// Doubles it, if that is left.
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

/// What events are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A stream's first pass.
    Id,
    /// From then on.
    Position,
}

/// Which events of a channel count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All; of those that have left, the client is to know.
    All,
    /// None, for nothing is owed; but the client is to know if there were any.
    Loss,
    /// At most so many of the newest, for a client that knows of no others.
    Newest(u64),
}

#[derive(Debug)]
enum Phase {
    /// The walk has come to this bucket. Records of the one before may still have to be looked at, the
    /// last of them first, and the search in that one may have come to an event.
    Scanning {
        bucket: usize,
        pending: Vec<u32>,
        within: Option<ScanPosition>,
        found: BinaryHeap<Track>,
        beyond: Option<LogOrder>,
    },
    /// What is next of each channel that was found; before it, what was given and may have to be
    /// given again.
    Merging { next: BinaryHeap<Reverse<Track>>, given: VecDeque<Track>, beyond: Option<LogOrder> },
}

/// A walk back through the events of one channel.
#[derive(Clone, Copy, Debug)]
struct ScanPosition {
    /// The next event to look at, and its position.
    block: u32,
    position: u64,
    /// The oldest event that was found, or 0: newer than that, so it is there as long as that is.
    first: u32,
    /// So many more may be found.
    left: u64,
}

/// What is left to do for a slice.
#[derive(Debug)]
enum BatchOutcome {
    /// Nothing.
    ReplayBatch(ReplayBatch),
    /// It has to be looked for anew.
    Restart,
    /// The budget is spent before anything was found.
    Unfinished,
}

/// An event of a channel, in the order in which they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Track {
    key: LogOrder,
    position: u64,
    block: u32,
}

impl Phase {
    /// A walk begins. Memory for `extra` channels beyond those of a first one is there before the lock
    /// is taken: to move what was found to a larger place takes long.
    fn start(extra: usize) -> Phase {
        let found = match extra {
            0 => BinaryHeap::new(),
            extra => BinaryHeap::with_capacity(TRACKS + extra + 1),
        };
        let pending = Vec::new();
        Phase::Scanning { bucket: 0, pending, within: None, found, beyond: None }
    }
}

impl PatternReplay {
    /// For a stream in progress that is behind: it has had everything up to the position `at`.
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

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        self.until.map_or(self.after.position, |until| until.position)
    }

    /// A gap has to be told, whatever the floors say.
    pub fn require_gap(&mut self) {
        self.gap_due = true;
    }

    /// The event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        self.after = self.key(found.event.place, found.event.kind());
        if let Phase::Merging { given, .. } = &mut self.phase {
            given.pop_front();
        }
    }

    /// The gap of a slice was told.
    pub fn gap_sent(&mut self) {
        self.gap_due = false;
    }

    fn key(&self, place: LogOrder, kind: Kind) -> LogOrder {
        match self.by {
            By::Id => place.by_id(kind),
            By::Position => LogOrder { position: place.position, ..LogOrder::START },
        }
    }

    /// Something of a channel up to this place has left: the client has to know, once.
    fn record_loss(&mut self, record: u32, place: LogOrder, kind: Kind, now: Now) {
        let known = self.lost.get(&record).copied();
        if self.key(place, kind) <= self.after
            || known.is_some_and(|position| position >= place.position)
            || kind == Kind::Durable && self.seen.covers(place.entry_id, now)
        {
            return;
        }
        self.gap_due = true;
        // What is not remembered is told again, by the next walk if there is one.
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

    /// The walk has come to the end of the table.
    fn start_merging(&mut self) {
        if let Phase::Scanning { found, beyond, .. } = &mut self.phase {
            let next = std::mem::take(found).into_iter().map(Reverse).collect();
            let (given, beyond) = (VecDeque::new(), *beyond);
            self.phase = Phase::Merging { next, given, beyond };
        }
    }
}

impl Hub {
    /// Where a stream of these patterns begins: the end of the log, and what it first has to get.
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
            // Of channels that nobody named it is not known what other nginxes gave.
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

    /// The next slice, within the bounds that `replay` has; `None` if it is still being looked for.
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

    /// Goes on with the walk for one hold of the lock. True if it has come to its end.
    fn scan(&self, replay: &mut PatternReplay, now: Now) -> Result<bool, Locked> {
        {
            let guard = self.lock()?;
            replay.until.get_or_insert_with(|| end(&self.region));
            if !guard.scan_on(replay, now, &mut Budget::for_visit()) {
                return Ok(false);
            }
            // A channel that matched may have been forgotten, even during the walk.
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
    /// Whether the stream gets what is published to a channel.
    fn matches(&self, channel: &[u8], budget: &mut Budget) -> bool {
        let subject = Subject::new(channel);
        budget.spend(2);
        self.names.iter().any(|name| {
            budget.spend(cost(name));
            reaches(name, &subject)
        })
    }

    /// Where the walk back through the events of the pending channel has come to.
    fn within(&self) -> Option<ScanPosition> {
        match &self.phase {
            Phase::Scanning { within, .. } => *within,
            Phase::Merging { .. } => None,
        }
    }

    /// The walk back stops there for now.
    fn pause_in_channel(&mut self, at: ScanPosition) {
        if let Phase::Scanning { within, .. } = &mut self.phase {
            *within = Some(at);
        }
    }

    /// The pending channel is dealt with.
    fn finish_channel(&mut self) {
        if let Phase::Scanning { pending, within, .. } = &mut self.phase {
            pending.pop();
            *within = None;
        }
    }

    /// The event that comes behind the first `count` that have not been passed.
    fn upcoming(&self, count: usize) -> Option<Track> {
        let Phase::Merging { next, given, beyond } = &self.phase else { return None };
        let next = || {
            let Reverse(first) = next.peek()?;
            Some(*first).filter(|first| beyond.is_none_or(|beyond| first.key < beyond))
        };
        given.get(count).copied().or_else(next)
    }

    /// That event is given; what follows on its channel takes its place.
    fn take(&mut self, count: usize, later: Option<Track>) {
        let Phase::Merging { next, given, .. } = &mut self.phase else { return };
        if count == given.len() {
            given.extend(next.pop().map(|Reverse(first)| first));
            next.extend(later.map(Reverse));
        }
    }

    /// The event that would be next is none of the stream's; what follows on its channel takes its place.
    fn skip(&mut self, later: Option<Track>) {
        let Phase::Merging { next, .. } = &mut self.phase else { return };
        next.pop();
        next.extend(later.map(Reverse));
    }

    /// Whether an event that is upcoming has been given before.
    fn was_given(&self, count: usize) -> bool {
        matches!(&self.phase, Phase::Merging { given, .. } if count < given.len())
    }

    /// Whether another walk has to follow.
    fn needs_another_scan(&self) -> bool {
        matches!(&self.phase, Phase::Merging { beyond: Some(_), .. })
    }
}
