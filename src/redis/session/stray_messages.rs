//! Doubtful messages of channels that only patterns match. Nobody has joined such a channel, so nothing
//! of it is fetched when a doubt arises; what came since the doubtful message is looked up in its stream.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::redis::RedisError;
use tokio::time::{sleep, Instant};

use crate::hub::{pattern_of, Membership, Provenance, ReportedId};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::ordered_event::OrderedEvent;
use crate::redis::session::{Session, TELL_EVERY};
use crate::redis::stream_page::{IdSpan, PageRequest, StreamPage};
use crate::redis::subscription_table::FollowedChannel;
use crate::sse::escaped::Escaped;
use crate::sse::pattern::matches;

/// Channels that may be in doubt at a time.
const MOST: usize = 10_000;
/// Channels that are looked up in one go, and the pause before the next.
const TOGETHER: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Channels that are in doubt, and the ids behind which they are looked up.
#[derive(Default)]
pub struct Strays {
    open: HashMap<Box<[u8]>, ReportedId>,
    /// Some of them are being looked up.
    asking: bool,
    /// Channels that were forgotten meanwhile.
    forgotten: HashSet<Box<[u8]>>,
    /// Channels of which messages were passed over since a gap was last told.
    passed_over: HashSet<Box<[u8]>>,
    /// More than these were: every pattern may match one of them.
    any_passed_over: bool,
    told: Option<Instant>,
}

impl Strays {
    /// Whether nothing is left to be looked up.
    pub fn is_settled(&self) -> bool {
        !self.asking && self.open.is_empty()
    }

    /// A channel is forgotten: if it is in doubt, it is looked up behind this id once more.
    pub fn forget(&mut self, name: &[u8], up_to: ReportedId) {
        if let Some(after) = self.open.get_mut(name) {
            *after = up_to.max(*after);
        } else if self.asking {
            self.forgotten.insert(name.into());
            self.open.insert(name.into(), up_to);
        }
    }

    fn doubt(&mut self, name: &[u8], after: ReportedId) {
        match self.open.get_mut(name) {
            Some(open) => *open = after.min(*open),
            None => drop(self.open.insert(name.into(), after)),
        }
    }
}

/// What was looked up.
pub struct StrayEntries {
    /// Channels, the ids behind which they were looked up, and their entries.
    read: Vec<(Box<[u8]>, ReportedId, StreamPage)>,
    /// Those whose turn has not come.
    left: Vec<(Box<[u8]>, ReportedId)>,
}

impl Session {
    /// A doubtful message of a channel that nobody named has come, with this id. What is older than the
    /// connection is not looked up: whoever may publish could have it delivered once more.
    pub(in crate::redis) fn doubt_stray(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        if self.strays.open.len() >= MOST && !self.strays.open.contains_key(name) {
            self.pass_over(name);
            self.tell_passed_over(name);
        } else {
            self.strays.doubt(name, id.before().max(self.clock.into()));
        }
        Ok(())
    }

    /// Notes that events of a channel do not reach the streams of patterns that match it: these receive a
    /// gap event within a second.
    pub(in crate::redis) fn pass_over(&mut self, name: &[u8]) {
        if self.strays.passed_over.len() < TOGETHER {
            self.strays.passed_over.insert(name.into());
        } else {
            self.strays.any_passed_over = true;
        }
    }

    fn tell_passed_over(&mut self, name: &[u8]) {
        if self.strays.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.strays.told = Some(Instant::now());
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "more than {MOST} channels that only patterns match have messages without the secret; \
                 those of others, such as \"{}\", are left out, and the streams of these patterns are \
                 told a gap",
                Escaped(name),
            ),
        );
    }

    /// Tells a gap to the streams of patterns that match channels of which something was passed over.
    pub(in crate::redis) async fn tell_gaps_of_patterns(&mut self) -> Result<(), Ended> {
        let names = std::mem::take(&mut self.strays.passed_over);
        let any = std::mem::take(&mut self.strays.any_passed_over);
        if names.is_empty() {
            return Ok(());
        }
        let lacks = |pattern: &[u8]| any || names.iter().any(|name| matches(pattern, name));
        let patterns = self.channels.iter_mut();
        let patterns = patterns.filter(|(name, _)| pattern_of(name).is_some_and(lacks));
        let members: Vec<Membership> = patterns.map(|(_, channel)| channel.member).collect();
        let (hub, fence, clock) = (self.joined.hub.clone(), self.tenant.fence, self.clock);
        self.with_lock(|| hub.patterns_subscribed(fence, &members, clock)).await
    }

    /// Gives up channels that are still to be looked up: streams of matching patterns receive a gap event.
    pub(in crate::redis) async fn give_up_strays(&mut self) -> Result<(), Ended> {
        let open = std::mem::take(&mut self.strays.open);
        for name in open.keys() {
            self.pass_over(name);
        }
        if std::mem::take(&mut self.strays.asking) {
            // Which these are is not known any more.
            self.pass_over(b"");
            self.strays.any_passed_over = true;
        }
        self.tell_gaps_of_patterns().await
    }

    /// Looks some of them up, unless others are on their way.
    pub(in crate::redis) fn look_up_strays(&mut self) {
        if self.strays.asking || self.strays.open.is_empty() {
            return;
        }
        self.strays.asking = true;
        let some: Vec<Box<[u8]>> = self.strays.open.keys().take(TOGETHER).cloned().collect();
        let some: Vec<_> =
            some.into_iter().filter_map(|name| self.strays.open.remove_entry(&name)).collect();
        let (joined, fetcher) = (self.joined.clone(), self.catching.fetcher_of_strays());
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            let range = |(name, after): &(Box<[u8]>, ReportedId)| {
                PageRequest::of(joined.key(name), IdSpan::After(*after), u64::MAX)
            };
            let ranges: Vec<PageRequest> = some.iter().map(range).collect();
            let pages = fetcher.pages(&ranges).await;
            sleep(PAUSE).await;
            finished.report(pages.map(|pages| found(some, pages)), Session::settle_strays);
        });
    }

    /// Appends what was found, for the streams of patterns.
    pub(in crate::redis) async fn settle_strays(
        &mut self,
        found: StrayEntries,
    ) -> Result<(), Ended> {
        self.take_in().await?;
        self.strays.asking = false;
        let forgotten = std::mem::take(&mut self.strays.forgotten);
        let mut arrivals = Vec::new();
        for (name, after) in &found.left {
            self.strays.doubt(name, *after);
        }
        let read = found.read.iter().filter(|(name, ..)| !forgotten.contains(name));
        for (name, after, page) in read {
            if page.more {
                self.strays.doubt(name, page.entries.last().map_or(*after, |last| last.id));
            }
            if self.channels.get(name).is_some_and(FollowedChannel::comes_by_name) {
                // It has been joined meanwhile, and caught up.
                continue;
            }
            for entry in self.readable(name, &page.entries) {
                let provenance = Provenance::Strayed(Some(self.judged(name, entry.id)));
                let born = self.joined.now().time();
                arrivals.push(OrderedEvent::from_entry(name, entry, provenance, born));
            }
        }
        // Stable: those that are not believed come last, as they do in their streams.
        arrivals.sort_by_key(|event| (event.entry_id().is_none(), event.entry_id()));
        self.append(&arrivals).await
    }
}

/// The entries of each channel. A stream that cannot be read has none.
fn found(
    mut some: Vec<(Box<[u8]>, ReportedId)>,
    pages: Vec<Result<StreamPage, RedisError>>,
) -> StrayEntries {
    let left = some.split_off(pages.len().min(some.len()));
    let pages = pages.into_iter().map(Result::unwrap_or_default);
    let read =
        some.into_iter().zip(pages).map(|((name, after), page)| (name, after, page)).collect();
    StrayEntries { read, left }
}
