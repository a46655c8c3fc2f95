//! `redis_source stream`: compares what was read of streams with what Redis reports of them. Redis
//! answers what comes after an id: of a stream that was deleted and started over with lower ids, or
//! was restored from a backup, it answers nothing, and entries that were trimmed or deleted before
//! they were read are not in the answer. So some streams are described each second, those that have
//! changed first.

use std::collections::HashSet;

use tokio::time::Instant;

use crate::hub::{shown as shown_name, Loss, ReportedId, Source, SyncState};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::entry_counter::PageAudit;
use crate::redis::session::{Session, TELL_EVERY};
use crate::redis::stream_page::StreamPage;
use crate::sse::escaped::Escaped;

/// Streams that are read each second for their description, which contains the first and the last
/// entry, and how many of these have changed.
const DESCRIBED: usize = 32;
const CHANGED: usize = 24;

/// Which streams are to be described.
#[derive(Default)]
pub struct StreamAudit {
    /// Channels whose streams have changed, or were read, since they were last described.
    pub changed: HashSet<Box<[u8]>>,
    /// Channels whose streams were described within this second, and how many were once more.
    described: HashSet<Box<[u8]>>,
    again: usize,
    /// Channels whose turn is still to come.
    turn: Vec<Box<[u8]>>,
    /// When removed entries were last logged.
    told: Option<Instant>,
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
    /// Has some streams read and described, once a second.
    pub(in crate::redis) fn audit_streams(&mut self) {
        if self.joined.hub.source() != Source::Streams || self.is_frozen() {
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

    /// Compares a page of a stream that is in step with what Redis reports, before its entries are
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
        let (joined, fence) = (self.joined.clone(), self.tenant.fence);
        let hub = &joined.hub;
        let listeners = self.with_lock(|| hub.caught_up(fence, member, known, missing)).await?;
        joined.wake(&listeners);
        self.tell_lost_entries(name);
        Ok(())
    }

    fn tell_lost_entries(&mut self, name: &[u8]) {
        if self.audit.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.audit.told = Some(Instant::now());
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "entries of the stream of channel \"{}\" in Redis were removed before they were read; its \
                 clients receive a gap event",
                Escaped(shown_name(name)),
            ),
        );
    }
}
