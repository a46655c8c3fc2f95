//! Raises the hub's high watermark to the newest id of its clock in Redis, once a second.
//!
//! Events of channels without streams on this nginx do not reach it, so its log does not show which
//! ids Redis has assigned. Without this, the id of a new stream, and the position with which a page
//! is rendered (`$sse_position`), would be older than all of these events.
//!
//! What the clock had issued before the reply has arrived on the same connection before it. The
//! watermark is raised when all of that is in the log: an event that was still to come, with an id
//! below the watermark, would get an id that means nothing on other nginx servers.

use crate::hub::Source;
use crate::redis::ended::Ended;
use crate::redis::message_order::DeliveryMode;
use crate::redis::session::clock::newest_of_clock;
use crate::redis::session::Session;
use crate::sse::id::EntryId;

/// The state of a request for the newest id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockMark {
    /// There is none.
    #[default]
    Idle,
    /// It is awaiting its reply.
    Requested,
    /// Everything that arrived before the reply has been processed. The high watermark is raised to
    /// this id as soon as nothing is being read that may have a lower one.
    Due(EntryId),
}

impl Session {
    /// Requests the newest id, unless the last request is in progress. Streams that applications
    /// write have no common clock.
    pub(in crate::redis) fn request_clock_mark(&mut self) {
        if self.context.hub.source() != Source::PubSub || self.clock_mark == ClockMark::Requested {
            return;
        }
        self.clock_mark = ClockMark::Requested;
        let (link, key) = (self.link.clone(), self.context.names.clock());
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            // If the connection is lost, its end follows the messages that it has still delivered.
            let newest = newest_of_clock(&link, key).await.unwrap_or_default();
            finished.report(Ok(newest), async |session: &mut Session, newest| {
                session.process_inbox().await?;
                // What a successor's marker has held up is not in the log.
                let newest = newest.filter(|_| session.handover.is_none());
                let newest = newest.and_then(|newest| newest.checked(session.latest()));
                session.clock_mark = newest.map_or(ClockMark::Idle, ClockMark::Due);
                Ok(())
            });
        });
    }

    /// Raises the high watermark if that is due, and nothing is being read.
    pub(in crate::redis) async fn raise_clock_mark(&mut self) -> Result<(), Ended> {
        let ClockMark::Due(newest) = self.clock_mark else { return Ok(()) };
        if !self.has_read_everything() {
            return Ok(());
        }
        self.clock_mark = ClockMark::Idle;
        if self.channels.values_mut().any(|channel| channel.is_doubtful) {
            // Its stream is to be read.
            return Ok(());
        }
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        self.with_lock(|| hub.raise_high_watermark(fence, newest)).await
    }

    /// Returns whether no channel is being subscribed to or read, and none of its messages waits.
    fn has_read_everything(&self) -> bool {
        self.handover.is_none()
            && self.delivery_mode() == DeliveryMode::Alone
            && self.in_progress == 0
            && self.wanted.is_empty()
            && self.catch_ups.is_idle()
            && self.strays.is_settled()
    }
}
