//! Doubtful messages of channels that are matched only by patterns. Such a channel has no
//! subscription of its own, so its stream is not read when doubt arises; the entries since the
//! doubtful message are looked up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::redis::RedisError;
use tokio::time::sleep;

use crate::hub::{pattern_of, Membership, Provenance, ReportedId};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::log_limit::LogLimit;
use crate::redis::ordered_event::OrderedEvent;
use crate::redis::session::Session;
use crate::redis::stream_page::{IdSpan, PageRequest, StreamPage};
use crate::redis::subscription_table::FollowedChannel;
use crate::sse::escaped::Escaped;
use crate::sse::pattern::matches;

/// Maximum number of channels in doubt.
const MOST: usize = 10_000;
/// Channels per lookup, and the pause between two lookups.
const TOGETHER: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The channels in doubt, and the ids after which their entries are looked up.
#[derive(Default)]
pub struct Strays {
    open: HashMap<Box<[u8]>, ReportedId>,
    /// Whether a lookup is in progress.
    in_progress: bool,
    /// Channels that were deleted during the lookup.
    forgotten: HashSet<Box<[u8]>>,
    /// Channels whose messages were dropped since gap events were last requested.
    dropped: HashSet<Box<[u8]>>,
    /// Whether there were more than that; any pattern may match one of them.
    any_dropped: bool,
    log_limit: LogLimit,
}

impl Strays {
    /// Whether nothing is left to be looked up.
    pub fn is_settled(&self) -> bool {
        !self.in_progress && self.open.is_empty()
    }

    /// Handles the deletion of a channel: if it is in doubt, the entries after this id are looked
    /// up once more.
    pub fn forget(&mut self, name: &[u8], up_to: ReportedId) {
        if let Some(after) = self.open.get_mut(name) {
            *after = up_to.max(*after);
        } else if self.in_progress {
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

/// The result of a lookup.
pub struct StrayEntries {
    /// Channels, the ids after which they were looked up, and their entries.
    read: Vec<(Box<[u8]>, ReportedId, StreamPage)>,
    /// Channels that did not fit into the request.
    left: Vec<(Box<[u8]>, ReportedId)>,
}

impl Session {
    /// Handles a doubtful message of a channel without a subscription of its own. An id older
    /// than the connection is not looked up: otherwise, any publisher could replay old events.
    pub(in crate::redis) fn doubt_stray(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        if self.strays.open.len() >= MOST && !self.strays.open.contains_key(name) {
            self.note_dropped(name);
            self.log_dropped(name);
        } else {
            self.strays.doubt(name, id.before().max(self.clock.into()));
        }
        Ok(())
    }

    /// Records that events of a channel do not reach the streams of patterns that match it:
    /// these receive a gap event within a second.
    pub(in crate::redis) fn note_dropped(&mut self, name: &[u8]) {
        if self.strays.dropped.len() < TOGETHER {
            self.strays.dropped.insert(name.into());
        } else {
            self.strays.any_dropped = true;
        }
    }

    fn log_dropped(&mut self, name: &[u8]) {
        if !self.strays.log_limit.permits() {
            return;
        }
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "more than {MOST} channels matched only by patterns have messages without the \
                 secret; messages of others, such as \"{}\", are dropped, and streams of these \
                 patterns receive a gap event",
                Escaped(name),
            ),
        );
    }

    /// Requests gap events for streams of patterns that match channels whose messages were dropped.
    pub(in crate::redis) async fn request_pattern_gaps(&mut self) -> Result<(), Ended> {
        let names = std::mem::take(&mut self.strays.dropped);
        let any = std::mem::take(&mut self.strays.any_dropped);
        if names.is_empty() {
            return Ok(());
        }
        let lacks = |pattern: &[u8]| any || names.iter().any(|name| matches(pattern, name));
        let patterns = self.channels.iter_mut();
        let patterns = patterns.filter(|(name, _)| pattern_of(name).is_some_and(lacks));
        let members: Vec<Membership> = patterns.map(|(_, channel)| channel.member).collect();
        let newest = self.newest_id().await?;
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        self.with_lock(|| hub.patterns_subscribed(fence, &members, newest)).await
    }

    /// Gives up channels that are still to be looked up: streams of matching patterns receive a gap
    /// event.
    pub(in crate::redis) async fn give_up_strays(&mut self) -> Result<(), Ended> {
        let open = std::mem::take(&mut self.strays.open);
        for name in open.keys() {
            self.note_dropped(name);
        }
        if std::mem::take(&mut self.strays.in_progress) {
            // It is no longer known which channels these are.
            self.note_dropped(b"");
            self.strays.any_dropped = true;
        }
        self.request_pattern_gaps().await
    }

    /// Starts a lookup, unless one is in progress.
    pub(in crate::redis) fn look_up_strays(&mut self) {
        if self.strays.in_progress || self.strays.open.is_empty() {
            return;
        }
        self.strays.in_progress = true;
        let some: Vec<Box<[u8]>> = self.strays.open.keys().take(TOGETHER).cloned().collect();
        let some: Vec<_> =
            some.into_iter().filter_map(|name| self.strays.open.remove_entry(&name)).collect();
        let (context, fetcher) = (self.context.clone(), self.catch_ups.fetcher_of_strays());
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            let range = |(name, after): &(Box<[u8]>, ReportedId)| {
                PageRequest::of(context.key(name), IdSpan::After(*after), u64::MAX)
            };
            let ranges: Vec<PageRequest> = some.iter().map(range).collect();
            let pages = fetcher.pages(&ranges).await;
            sleep(PAUSE).await;
            finished.report(pages.map(|pages| found(some, pages)), Session::settle_strays);
        });
    }

    /// Appends the entries of a lookup, for streams of patterns.
    pub(in crate::redis) async fn settle_strays(
        &mut self,
        found: StrayEntries,
    ) -> Result<(), Ended> {
        self.process_inbox().await?;
        self.strays.in_progress = false;
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
            if self.channels.get(name).is_some_and(FollowedChannel::is_subscribed_by_name) {
                // The channel was subscribed to and has caught up in the meantime.
                continue;
            }
            for entry in self.readable(name, &page.entries) {
                let provenance = Provenance::Strayed(Some(self.judged(name, entry.id)));
                let born = self.context.now().time();
                arrivals.push(OrderedEvent::from_entry(name, entry, provenance, born));
            }
        }
        // Stable: events with implausible ids are last, as in their streams.
        arrivals.sort_by_key(|event| (event.entry_id().is_none(), event.entry_id()));
        self.append(&arrivals).await
    }
}

/// Returns the entries of each channel. A stream that cannot be read has none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::id::EntryId;

    fn at(ms: u64) -> ReportedId {
        EntryId { ms, seq: 0 }.into()
    }

    #[test]
    fn a_channel_in_doubt_is_looked_up_from_its_oldest_message_after_its_deletion() {
        let after = |strays: &Strays| strays.open.get(&b"a"[..]).map(|after| after.ms());
        let mut strays = Strays::default();
        strays.doubt(b"a", at(5));
        strays.doubt(b"a", at(6));
        assert_eq!(after(&strays), Some(5));
        strays.doubt(b"a", at(4));
        assert_eq!(after(&strays), Some(4));
        strays.forget(b"a", at(3));
        assert_eq!(after(&strays), Some(4));
        strays.forget(b"a", at(7));
        assert_eq!(after(&strays), Some(7));
        assert!(!strays.is_settled() && strays.forgotten.is_empty());
    }

    #[test]
    fn a_channel_that_is_deleted_during_a_lookup_is_looked_up_once_more() {
        let mut strays = Strays::default();
        strays.forget(b"a", at(5));
        assert!(strays.is_settled() && strays.forgotten.is_empty());
        strays.in_progress = true;
        assert!(!strays.is_settled());
        strays.forget(b"a", at(5));
        assert!(strays.forgotten.contains(&b"a"[..]));
        assert_eq!(strays.open.get(&b"a"[..]), Some(&at(5)));
    }

    #[test]
    fn channels_without_a_page_are_looked_up_later() {
        let some = || ["a", "b", "c"].map(|name| (Box::from(name.as_bytes()), at(1))).to_vec();
        let names = |found: &StrayEntries| (found.read.len(), found.left.len());
        let page = || Ok(StreamPage { more: true, ..StreamPage::default() });
        assert_eq!(names(&found(some(), Vec::new())), (0, 3));
        let error = ::redis::make_extension_error("WRONGTYPE".to_owned(), None);
        let two = found(some(), vec![page(), Err(error)]);
        assert_eq!(names(&two), (2, 1));
        assert_eq!((&*two.read[1].0, two.read[1].2.more), (&b"b"[..], false));
        assert_eq!((&*two.read[0].0, two.read[0].2.more), (&b"a"[..], true));
        assert_eq!(&*two.left[0].0, b"c");
        assert_eq!(names(&found(some(), vec![page(), page(), page()])), (3, 0));
    }
}
