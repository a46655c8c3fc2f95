//! Compares what was read of streams with what Redis reports about them (`redis_source stream`).
//! XREAD returns only entries after an id: it returns nothing for a stream that was deleted and
//! started over with lower ids, or restored from a backup, and it omits entries that were trimmed
//! or deleted before they were read. So some streams are checked with XINFO each second, changed
//! ones first.

use std::collections::HashSet;

use crate::hub::{shown as shown_name, Loss, ReportedId, Source, SyncState};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::entry_counter::PageAudit;
use crate::redis::log_limit::LogLimit;
use crate::redis::session::Session;
use crate::redis::stream_page::StreamPage;
use crate::sse::escaped::Escaped;

/// Number of streams that are described each second, which returns the first and the last entry of
/// each, and how many of these have changed.
const DESCRIBED: usize = 32;
const CHANGED: usize = 24;

/// The streams to check.
#[derive(Default)]
pub struct StreamAudit {
    /// Channels whose streams have changed, or were read, since they were last described.
    pub changed: HashSet<Box<[u8]>>,
    /// Channels whose streams were described within this second, and how many were once more.
    described: HashSet<Box<[u8]>>,
    again: usize,
    /// Channels that are still to be checked in this round.
    turn: Vec<Box<[u8]>>,
    /// Limits the log lines about removed entries.
    log_limit: LogLimit,
}

/// Whether the entries of a page are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    Now,
    /// Entries are gone: after all of the page up to this id, and before all others.
    AroundLoss(ReportedId),
    /// The stream has started over, and is caught up first.
    AfterCatchUp,
}

impl StreamAudit {
    /// Whether a stream that is about to be read is to be described: once a second, and again if
    /// few are. Only a description shows between which of the entries that are read with it others
    /// are missing.
    pub fn is_due(&mut self, name: &[u8]) -> bool {
        if self.described.insert(name.into()) {
            return true;
        }
        self.again += 1;
        self.again <= DESCRIBED
    }
}

impl Session {
    /// Schedules the check of some streams, once a second.
    pub(in crate::redis) fn audit_streams(&mut self) {
        if self.context.hub.source() != Source::Streams || self.is_frozen() {
            return;
        }
        self.audit.described.clear();
        self.audit.again = 0;
        let changed: Vec<_> = self.audit.changed.iter().take(CHANGED).cloned().collect();
        if self.audit.turn.is_empty() {
            self.audit.turn = self.channels.names().cloned().collect();
        }
        let rest = self.audit.turn.len().saturating_sub(DESCRIBED - changed.len());
        let others = self.audit.turn.split_off(rest);
        self.read_soon(changed.into_iter().chain(others));
    }

    /// Compares a page of a stream that is in sync with what Redis reports, before its entries are
    /// appended.
    pub(in crate::redis) async fn audit_page(
        &mut self,
        name: &[u8],
        page: &StreamPage,
    ) -> Result<Readable, Ended> {
        let Some(channel) = self.channels.get_mut(name) else { return Ok(Readable::Now) };
        let audit = channel.counter.count(page);
        let is_behind = channel.counter.is_behind();
        if page.about.is_some() {
            self.audit.changed.remove(name);
        } else if !page.entries.is_empty() {
            self.audit.changed.insert(name.into());
        }
        if is_behind {
            self.read_soon([name.into()]);
        }
        match audit {
            PageAudit::Complete => Ok(Readable::Now),
            PageAudit::Lost(up_to) => Ok(Readable::AroundLoss(up_to)),
            PageAudit::StartedOver if self.is_frozen() => Ok(Readable::Now),
            PageAudit::StartedOver => {
                self.catch_up_again(name, Vec::new()).await?;
                Ok(Readable::AfterCatchUp)
            }
        }
    }

    /// Wakes the streams of a channel whose loss was recorded.
    pub(in crate::redis) async fn announce_loss(
        &mut self,
        name: &[u8],
        missing: Loss,
    ) -> Result<(), Ended> {
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        let (member, known) = (channel.member, SyncState::Interrupted(channel.last));
        let (context, fence) = (self.context.clone(), self.holder.fence);
        let hub = &context.hub;
        let listeners = self.with_lock(|| hub.caught_up(fence, member, known, missing)).await?;
        context.wake(&listeners);
        self.log_lost_entries(name);
        Ok(())
    }

    fn log_lost_entries(&mut self, name: &[u8]) {
        if !self.audit.log_limit.permits() {
            return;
        }
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "entries of channel \"{}\"'s stream in Redis were removed before they were read; \
                 its clients receive a gap event",
                Escaped(shown_name(name)),
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_described_once_a_second_and_a_few_of_them_again() {
        let mut audit = StreamAudit::default();
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert!(names.iter().all(|name| audit.is_due(name.as_bytes())));
        let again = |audit: &mut StreamAudit| (0..50).filter(|_| audit.is_due(b"7")).count();
        assert_eq!(again(&mut audit), DESCRIBED);
        assert_eq!(again(&mut audit), 0);
        // Others are still described for the first time.
        assert!(audit.is_due(b"new"));
    }
}
