//! Reads what a channel has missed, or never had, from its stream in Redis, page by page. The
//! stream is read after the subscription has been confirmed. An event is added to the stream before
//! it is sent, so every event that is not in the reply arrives as a message, and one that is in
//! both is recognized by its id. All events that open streams have missed are read, in ascending
//! order. If no process has followed the channel, only the owed history is read: backwards from the
//! newest entry and, if it is larger than what is kept here, once more from where it starts, so
//! that it can be appended page by page.

mod backward;

use super::entry::Entry;
use super::stream_page::{About, IdSpan, PageRequest, StreamPage};
use crate::hub::{History, Latest, Loss, ReportedId, Source, SyncState};
use crate::redis::catch_up::backward::Back;
use crate::redis::context::HubContext;

/// Minimum time for which the publish script keeps the stream of a silent channel, in ms.
const DAY: u64 = 86_400_000;

/// The entries that were read of a channel.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Entries in ascending order, none of which the hub has had.
    pub entries: Vec<Entry>,
    /// What is lost before them.
    pub missing: Loss,
    /// The id of the newest entry in Redis, if there is any.
    pub newest: Option<ReportedId>,
    /// The number of entries that were ever added to the stream up to the newest one that was
    /// read, if it is known.
    pub added: Option<u64>,
    /// Whether the first entry is the first one that the stream ever had: what is missing is not of
    /// this stream.
    pub is_first: bool,
}

impl Default for Fetched {
    /// No entries, and nothing is lost.
    fn default() -> Fetched {
        let (entries, missing, is_first) = (Vec::new(), Loss::Nothing, false);
        Fetched { entries, missing, newest: None, added: None, is_first }
    }
}

/// Determines how much is read, and which ids are plausible.
#[derive(Clone, Copy, Debug)]
pub struct FetchPolicy {
    /// The history that the hub owes.
    pub history: History,
    /// How much of an unfinished run it owes besides.
    pub runs: History,
    /// Where the hub's events come from.
    pub source: Source,
    /// The time in Redis, ms since 1970.
    pub now: u64,
    /// The latest plausible time of an id.
    pub latest: Latest,
    /// Maximum bytes of a channel that the hub has room for.
    pub room: usize,
    /// Maximum bytes of entries that are kept until the start of the owed history is found.
    pub kept: usize,
}

/// Reads one channel's stream.
#[derive(Clone, Debug)]
pub struct CatchUp {
    key: Vec<u8>,
    known: SyncState,
    /// What the hub knows about the channel, unless its stream has started over.
    assumed: SyncState,
    /// The newest entry that is known to have existed.
    entry: Option<ReportedId>,
    /// The id up to which the channel's history was deleted.
    pub(super) forgotten: Option<ReportedId>,
    stage: Stage,
    /// Whether nothing has been read yet.
    is_new: bool,
    /// Whether the stream may have lost its newest entries, or be another one.
    is_rewound: bool,
    /// The loss that was found.
    missing: Loss,
    /// What is lost between the last page and the next.
    between: Option<ReportedId>,
    /// The id of an entry that has disappeared behind the last page, if one has.
    gone: Option<ReportedId>,
    /// The id of the newest entry that was read, or is gone.
    newest: Option<ReportedId>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// In ascending order. Everything up to `had` was read, or is known to be lost.
    Forward { span: IdSpan, had: ReportedId },
    /// Backwards, from the newest entry to those that the hub has.
    Back(Back),
}

impl CatchUp {
    /// Returns a reader at its start. `entry` is the newest entry that is known to have existed.
    pub fn new(key: Vec<u8>, known: SyncState, entry: Option<ReportedId>) -> CatchUp {
        let (stage, missing) = (Stage::first(known), Loss::Nothing);
        CatchUp {
            key,
            known,
            assumed: known,
            entry,
            forgotten: None,
            stage,
            is_new: true,
            is_rewound: false,
            missing,
            between: None,
            gone: None,
            newest: None,
        }
    }

    /// Returns the same reader for a stream that may have lost its newest entries, or be another
    /// one.
    pub fn of_rewound(self, is_rewound: bool) -> CatchUp {
        CatchUp { is_rewound, ..self }
    }

    /// Returns what the hub knew about the channel at the start.
    pub fn known(&self) -> SyncState {
        self.known
    }

    /// Returns the loss that was found.
    pub fn missing(&self) -> Loss {
        self.missing
    }

    /// Returns the request for the next page.
    pub fn range(&self, policy: FetchPolicy) -> PageRequest {
        let (span, most) = match &self.stage {
            Stage::Forward { span, .. } => (*span, u64::MAX),
            Stage::Back(back) => {
                // One more than is owed, which shows where the history starts.
                let span = back.oldest.map_or(IdSpan::Newest, IdSpan::Before);
                let owed = policy.history.count.max(policy.runs.count);
                (span, owed.saturating_add(1).saturating_sub(back.count))
            }
        };
        let about = match policy.source {
            Source::Streams => true,
            Source::PubSub | Source::Alone => {
                self.is_new && self.is_rewound && self.entry.is_some()
            }
        };
        let length = self.is_new && self.entry.is_some();
        PageRequest { key: self.key.clone(), span, most, about, length }
    }

    /// Processes a page. Returns the entries to append, and whether the channel is complete.
    pub fn take(&mut self, page: StreamPage, policy: FetchPolicy) -> (Fetched, bool) {
        let is_first = std::mem::replace(&mut self.is_new, false);
        let (mut fetched, done) = self.take_page(page, is_first, policy);
        if let Some(forgotten) = self.forgotten {
            fetched.forget(forgotten, policy.latest);
        }
        self.missing = match (self.missing, fetched.missing) {
            (Loss::Everything, _) | (_, Loss::Everything) => Loss::Everything,
            (Loss::UpTo(before), Loss::UpTo(gone)) => Loss::UpTo(before.max(gone)),
            (missing, Loss::Nothing) | (Loss::Nothing, missing) => missing,
        };
        (fetched, done)
    }

    fn take_page(
        &mut self,
        mut page: StreamPage,
        is_first: bool,
        policy: FetchPolicy,
    ) -> (Fetched, bool) {
        if is_first
            && page.length == Some(0)
            && page.entries.is_empty()
            && self.is_lost(page.about, policy)
        {
            return (Fetched { missing: Loss::Everything, ..Fetched::default() }, true);
        }
        if is_first && page.about.is_none() && self.has_lost_link(&page, policy) {
            (self.is_new, self.is_rewound) = (true, true);
            return (Fetched::default(), false);
        }
        if is_first && page.about.is_some_and(|about| about.started_over(self.entry)) {
            // The whole stream is read again.
            let known = match self.assumed {
                SyncState::Interrupted(_) => SyncState::Interrupted(ReportedId::default()),
                SyncState::Nothing | SyncState::Left(_) => SyncState::Nothing,
            };
            (self.assumed, self.stage) = (known, Stage::first(known));
            return (Fetched { missing: Loss::Everything, ..Fetched::default() }, false);
        }
        if let Stage::Forward { span: IdSpan::After(had), .. } = &self.stage {
            page.entries.retain(|entry| entry.id > *had);
        }
        let is_left = matches!(self.assumed, SyncState::Left(_));
        let over = self.missing == Loss::Everything;
        match &mut self.stage {
            // No process has followed the channel, so not all of this may be owed.
            Stage::Forward { had, .. } if page.more && is_first && is_left => {
                self.stage = Stage::Back(Back::to(*had));
                (Fetched::default(), false)
            }
            Stage::Forward { had, .. } => {
                let had = *had;
                self.take_forward(page, had, policy)
            }
            Stage::Back(back) => {
                let about = page.about;
                let newest = page.entries.first().map(|entry| entry.id);
                let emptied = about.filter(|about| about.first.is_none()).map(|about| about.newest);
                self.newest = self.newest.max(newest.or(emptied));
                let Some(gone) = back.take(page, self.assumed, policy) else {
                    return (Fetched::default(), false);
                };
                let gone = gone.filter(|gone| *gone > back.had);
                let missing = loss(gone.filter(|_| !over), policy.latest);
                let mut entries = std::mem::take(&mut back.kept);
                entries.reverse();
                let done = back.is_kept;
                let oldest = back.oldest;
                let is_first = about.is_some_and(|about| about.whole && about.first == oldest);
                if let (false, Some(oldest)) = (done, back.oldest) {
                    let had = gone.unwrap_or(back.had);
                    self.stage = Stage::Forward { span: IdSpan::From(oldest), had };
                }
                (Fetched { is_first, ..self.fetched(entries, missing, about) }, done)
            }
        }
    }

    /// Takes a page by rising ids. What is lost among its entries is between this page and the
    /// next: entries behind the last place where others are missing are read once more.
    fn take_forward(
        &mut self,
        mut page: StreamPage,
        had: ReportedId,
        policy: FetchPolicy,
    ) -> (Fetched, bool) {
        let is_over = self.missing == Loss::Everything;
        let first = page.entries.first();
        let trimmed =
            page.about.and_then(|about| about.trimmed(self.assumed, first.map(|one| one.id)));
        let before = first.and_then(|first| first.prev).max(trimmed).max(self.between.take());
        let before = before.filter(|before| *before > had && !is_over);
        let last = page.entries.last().map_or(had, |last| last.id);
        let deleted = page.about.and_then(|about| about.max_deleted).filter(|id| *id <= last);
        // What had disappeared behind an earlier page can have been on this one. That is looked at
        // once, or it would never end while entries are added and deleted.
        let rechecked = self.gone.take();
        let gone = deleted.into_iter().chain(rechecked).filter(|id| *id > had);
        let gone = gone.filter_map(|id| page.lacks(id)).max();
        let hole = page.holes().next_back().max(gone).filter(|_| !is_over);
        let is_before_first =
            |hole: ReportedId| page.entries.first().is_none_or(|one| hole < one.id);
        let (before, among) = match hole {
            Some(hole) if is_before_first(hole) => (before.max(Some(hole)), None),
            hole => (before, hole),
        };
        self.gone = match rechecked {
            Some(id) => Some(id).filter(|id| page.more && *id > last),
            None if page.more || is_over || among.is_some() => None,
            None => page.about.and_then(|about| about.gone_after(last)),
        };
        if let Some(hole) = among {
            page.entries.retain(|entry| entry.id <= hole);
            self.between = Some(hole);
        }
        // Of a stream without entries, everything up to its newest id was read, or is known to be
        // gone.
        let emptied = page.about.filter(|about| about.first.is_none() && about.newest <= had);
        let reached = match page.entries.last() {
            Some(last) => Some(last.id),
            None => before.max(emptied.map(|about| about.newest)),
        };
        self.newest = self.newest.max(reached);
        if let Some(reached) = reached {
            let had = reached.max(had);
            self.stage = Stage::Forward { span: IdSpan::After(reached), had };
        }
        let done = !page.more && among.is_none() && self.gone.is_none();
        (self.fetched(page.entries, loss(before, policy.latest), page.about), done)
    }

    /// Returns what the hub gets of a page. Only once nothing is left does `added` belong to what
    /// was read.
    fn fetched(&self, entries: Vec<Entry>, missing: Loss, about: Option<About>) -> Fetched {
        let added = about.filter(|about| self.newest == Some(about.newest));
        let added = added.and_then(|about| about.added);
        Fetched { entries, missing, newest: self.newest, added, is_first: false }
    }

    /// Returns whether the first entry of a page does not follow the newest one that is known to
    /// have existed, but an earlier one or none: without what was in between, the stream is another
    /// one, unless it had expired.
    fn has_lost_link(&self, page: &StreamPage, policy: FetchPolicy) -> bool {
        let prev = page.entries.first().and_then(|first| first.prev);
        let is_forward = matches!(self.stage, Stage::Forward { .. });
        is_forward
            && self.entry.is_some_and(|entry| prev.is_some_and(|prev| prev < entry))
            && self.must_be_kept(policy)
    }

    /// Returns whether the newest entry that is known to have existed is too young for its stream
    /// to have expired.
    fn must_be_kept(&self, policy: FetchPolicy) -> bool {
        let is_kept = |entry: ReportedId| {
            policy.kept().is_none_or(|kept| entry.ms() > policy.now.saturating_sub(kept))
        };
        self.entry.is_some_and(is_kept)
    }

    /// Whether a stream without entries must have lost them, because it cannot simply have
    /// expired. An application's stream that still exists, and has had all entries that were
    /// read of it, was emptied on purpose.
    fn is_lost(&self, about: Option<About>, policy: FetchPolicy) -> bool {
        match policy.source {
            Source::Streams => {
                let has_had = |entry| about.is_some_and(|about| about.newest >= entry);
                self.entry.is_some_and(|entry| !has_had(entry))
            }
            Source::PubSub | Source::Alone => self.must_be_kept(policy),
        }
    }
}

impl HubContext {
    /// Returns a reader of the entries that a channel is missing.
    pub(super) fn catch_up(&self, name: &[u8], known: SyncState) -> CatchUp {
        let entry = match known {
            SyncState::Nothing => None,
            // Unknown if the hub is locked now.
            _ => self.hub.newest_entry(name).ok().flatten(),
        };
        CatchUp::new(self.key(name), known, entry)
    }
}

impl Stage {
    fn first(known: SyncState) -> Stage {
        match known {
            SyncState::Nothing => Stage::Back(Back::to(ReportedId::default())),
            SyncState::Left(had) | SyncState::Interrupted(had) => {
                Stage::Forward { span: IdSpan::After(had), had }
            }
        }
    }
}

impl FetchPolicy {
    /// Returns how long the publish script keeps the stream of a silent channel, in ms; `None`
    /// means forever.
    fn kept(&self) -> Option<u64> {
        let age = self.history.age;
        (age > 0).then(|| DAY.max(age.saturating_mul(2)))
    }
}

/// Returns the loss of everything up to an id, which may be implausible.
fn loss(gone: Option<ReportedId>, latest: Latest) -> Loss {
    match gone {
        None => Loss::Nothing,
        Some(gone) => gone.checked(latest).map_or(Loss::Everything, Loss::UpTo),
    }
}

#[cfg(test)]
mod tests;
