//! Tasks that concern all streams of a channel, or all channels, done in bounded steps.
//!
//! Until a task is complete, the process neither reads the log nor serves streams. Streams
//! therefore stay where they were when the task began, and streams that were open then can be
//! distinguished from later ones.

use std::collections::VecDeque;

use super::end::End;
use super::keys::ChannelKey;
use super::socket::Socket;
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{Budget, Now};

/// Budget steps for starting a stream that has waited.
const BEGINNING: usize = 32;

/// The remainder of a task.
#[derive(Debug)]
pub enum ChannelTask {
    /// Ends the streams that the channel had at a position, for an administrator.
    End { channel: ChannelKey, position: u64, left: usize },
    /// Starts the waiting streams whose channels are all in sync with Redis, because this channel
    /// now is.
    Begin { channel: ChannelKey, left: usize },
    /// Makes the streams of all channels read from the hub, because the ring was overwritten behind
    /// `read`.
    Overtaken { channels: VecDeque<ChannelKey>, read: u64 },
}

impl<S: Socket> Worker<S> {
    /// Ends the streams that the channel had at a position.
    pub(super) fn end_streams_opened_before(&mut self, channel: ChannelKey, position: u64) {
        let left = self.directory.get(channel).map_or(0, |channel| channel.streams.len());
        self.channel_tasks.push_back(ChannelTask::End { channel, position, left });
    }

    /// Starts the waiting streams of a channel that is now in sync.
    pub(super) fn begin_waiting(&mut self, channel: ChannelKey) {
        if self.waiting.is_empty() {
            return;
        }
        let left = self.directory.get(channel).map_or(0, |channel| channel.streams.len());
        self.channel_tasks.push_back(ChannelTask::Begin { channel, left });
    }

    /// Recovers after the ring has been overwritten faster than this process could read.
    pub(super) fn overtaken(&mut self, head: u64) {
        let read = std::mem::replace(&mut self.read, head);
        self.frame_cache = Default::default();
        let channels = self.directory.keys().collect();
        self.channel_tasks.push_back(ChannelTask::Overtaken { channels, read });
    }

    /// Continues channel tasks within a turn's budget. Returns whether there is more to do.
    pub(super) fn run_channel_tasks(&mut self, now: Now) -> bool {
        self.run_channel_tasks_within(now, &mut Budget::for_turn())
    }

    /// Continues channel tasks within this budget. Returns whether there is more to do.
    pub(super) fn run_channel_tasks_within(&mut self, now: Now, budget: &mut Budget) -> bool {
        while let Some(task) = self.channel_tasks.pop_front() {
            let rest = match task {
                ChannelTask::End { channel, position, left } => self
                    .schedule_ends(channel, position, left, budget)
                    .map(|left| ChannelTask::End { channel, position, left }),
                ChannelTask::Begin { channel, left } => self
                    .start_streams(channel, left, now, budget)
                    .map(|left| ChannelTask::Begin { channel, left }),
                ChannelTask::Overtaken { channels, read } => self
                    .fall_back_to_hub(channels, read, budget)
                    .map(|channels| ChannelTask::Overtaken { channels, read }),
            };
            if let Some(rest) = rest {
                self.channel_tasks.push_front(rest);
                return true;
            }
        }
        false
    }

    /// Schedules the end of the channel's streams that were open at `position`. Goes from the last
    /// stream to the first, so that a stream which takes the place of a removed one has already
    /// been checked. Returns how many are left.
    fn schedule_ends(
        &mut self,
        channel: ChannelKey,
        position: u64,
        left: usize,
        budget: &mut Budget,
    ) -> Option<usize> {
        let streams = &self.directory.get(channel)?.streams;
        let mut left = left.min(streams.len());
        while left > 0 {
            if !budget.step() {
                return Some(left);
            }
            left -= 1;
            let Some(&key) = streams.get(left) else { continue };
            if self.streams.get(key).is_some_and(|stream| stream.is_older(position)) {
                self.work.add(StreamTask::End(key, End::Admin));
            }
        }
        None
    }

    fn start_streams(
        &mut self,
        channel: ChannelKey,
        left: usize,
        now: Now,
        budget: &mut Budget,
    ) -> Option<usize> {
        let mut left = left;
        while left > 0 {
            if !budget.step() {
                return Some(left);
            }
            left -= 1;
            let Some(&key) = self.directory.get(channel)?.streams.get(left) else { continue };
            if self.is_waiting(key) && self.hub.in_sync(&self.memberships(key)) {
                budget.spend(BEGINNING);
                // The next tick removes it from the list of waiting streams.
                self.start_waiting(key, now);
            }
        }
        None
    }

    fn fall_back_to_hub(
        &mut self,
        channels: VecDeque<ChannelKey>,
        read: u64,
        budget: &mut Budget,
    ) -> Option<VecDeque<ChannelKey>> {
        let mut channels = channels;
        while let Some(key) = channels.pop_front() {
            if !budget.step() {
                channels.push_front(key);
                return Some(channels);
            }
            let head = self.read;
            self.look_whether_catching_up(key);
            let Some(channel) = self.directory.get_mut(key) else { continue };
            channel.frames = Default::default();
            channel.complete_after = head;
            let ended = self.hub.ended_at(channel.membership);
            self.touch(key, head);
            if ended > read {
                self.end_streams_opened_before(key, ended);
            }
        }
        None
    }
}
