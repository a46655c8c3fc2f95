//! Passes the read barriers that workers request, once everything that Redis sent before has
//! arrived.
//!
//! On one connection, Redis sends messages and replies in the order of what caused them. So the
//! reply to a command that is sent now comes after all messages of earlier publishes. With
//! `redis_source stream` these are notifications, and the streams that they name still have to be
//! read.

use crate::hub::Source;
use crate::redis::ended::Ended;
use crate::redis::session::clock::newest_of_clock;
use crate::redis::session::stream_reader::ReportedGrowth;
use crate::redis::session::Session;

/// The state of the barrier that is to be passed next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadBarrier {
    /// There is none.
    #[default]
    Idle,
    /// A command was sent after this barrier was requested.
    Requested(u64),
    /// Its reply has arrived. The streams that were reported before are to be read in the next
    /// round.
    Unread(u64),
    /// They are being read.
    Reading(u64),
}

impl Session {
    /// Starts with the newest barrier that was requested, unless another one is in progress, or the
    /// subscription is being handed over: messages then wait for the successor.
    pub(in crate::redis) fn request_read_barrier(&mut self) {
        let hub = &self.context.hub;
        let number = hub.requested_read_barrier();
        if self.read_barrier != ReadBarrier::Idle
            || self.handover.is_some()
            || number <= hub.passed_read_barrier()
        {
            return;
        }
        self.read_barrier = ReadBarrier::Requested(number);
        let (link, key) = (self.link.clone(), self.context.names.clock());
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            // Only the reply matters, and not what it says.
            let answered = newest_of_clock(&link, key).await.is_ok().then_some(number);
            finished.report(Ok(answered), Session::answered_read_barrier);
        });
    }

    /// Handles the reply to the command that belongs to a barrier.
    async fn answered_read_barrier(&mut self, answered: Option<u64>) -> Result<(), Ended> {
        self.process_inbox().await?;
        let Some(number) = answered.filter(|_| self.handover.is_none()) else {
            // It is requested again, if the connection is not lost.
            self.read_barrier = ReadBarrier::Idle;
            return Ok(());
        };
        match self.context.hub.source() {
            Source::PubSub | Source::Alone => self.pass_read_barrier(number),
            Source::Streams => match self.reading.reported() {
                ReportedGrowth::None => self.pass_read_barrier(number),
                ReportedGrowth::Unread => self.read_barrier = ReadBarrier::Unread(number),
                ReportedGrowth::Reading => self.read_barrier = ReadBarrier::Reading(number),
            },
        }
        Ok(())
    }

    /// Records that a round begins, which reads all streams that were reported.
    pub(in crate::redis) fn round_begins(&mut self) {
        if let ReadBarrier::Unread(number) = self.read_barrier {
            self.read_barrier = ReadBarrier::Reading(number);
        }
    }

    /// Records that a round has ended, and whether it has read all that is in these streams.
    pub(in crate::redis) fn round_ended(&mut self, is_complete: bool) {
        match self.read_barrier {
            ReadBarrier::Reading(number) if is_complete => self.pass_read_barrier(number),
            ReadBarrier::Reading(number) => self.read_barrier = ReadBarrier::Unread(number),
            ReadBarrier::Idle | ReadBarrier::Requested(_) | ReadBarrier::Unread(_) => {}
        }
    }

    fn pass_read_barrier(&mut self, number: u64) {
        self.read_barrier = ReadBarrier::Idle;
        let hub = &self.context.hub;
        hub.pass_read_barrier(self.holder.fence, number);
        let all: Vec<usize> = (0..hub.slots()).collect();
        self.context.wake(&all);
    }
}
