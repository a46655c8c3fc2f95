//! What is to be done with all streams of a channel, or with all channels: a bounded number in each turn.
//!
//! As long as an errand is not done the process reads no further and serves no stream. So a stream
//! still stands where it stood when the errand began, and who was there then is told from who came later.

use std::collections::VecDeque;

use super::end::End;
use super::keys::ChannelKey;
use super::socket::Socket;
use super::{Task, Worker};
use crate::hub::{Budget, Now};

/// Steps that it takes to begin a stream that has waited.
const BEGINNING: usize = 32;

/// What is left of an errand.
#[derive(Debug)]
pub enum ChannelTask {
    /// An administrator has ended the streams that the channel had at a position.
    End { channel: ChannelKey, position: u64, left: usize },
    /// The channel is in step: those of its streams begin whose other channels are, too.
    Begin { channel: ChannelKey, left: usize },
    /// The ring was overtaken: the streams of all channels look into the hub for what they missed behind
    /// `read`.
    Overtaken { channels: VecDeque<ChannelKey>, read: u64 },
}

impl<S: Socket> Worker<S> {
    /// The streams that the channel had at a position are to end.
    pub(super) fn told_to_end(&mut self, channel: ChannelKey, position: u64) {
        let left = self.channels.get(channel).map_or(0, |channel| channel.streams.len());
        self.errands.push_back(ChannelTask::End { channel, position, left });
    }

    /// A channel is in step.
    pub(super) fn begin_waiting(&mut self, channel: ChannelKey) {
        if self.waiting.is_empty() {
            return;
        }
        let left = self.channels.get(channel).map_or(0, |channel| channel.streams.len());
        self.errands.push_back(ChannelTask::Begin { channel, left });
    }

    /// The ring has been overwritten faster than this process could read.
    pub(super) fn overtaken(&mut self, head: u64) {
        let read = std::mem::replace(&mut self.read, head);
        self.kept = Default::default();
        let channels = self.channels.keys().collect();
        self.errands.push_back(ChannelTask::Overtaken { channels, read });
    }

    /// Goes on with errands. Whether there is more to do in the next turn.
    pub(super) fn go_on_errands(&mut self, now: Now) -> bool {
        self.go_on_with_errands(now, &mut Budget::for_turn())
    }

    /// The same, as far as this budget goes.
    pub(super) fn go_on_with_errands(&mut self, now: Now, budget: &mut Budget) -> bool {
        while let Some(errand) = self.errands.pop_front() {
            let rest = match errand {
                ChannelTask::End { channel, position, left } => self
                    .end_streams_at(channel, position, left, budget)
                    .map(|left| ChannelTask::End { channel, position, left }),
                ChannelTask::Begin { channel, left } => self
                    .begin_streams(channel, left, now, budget)
                    .map(|left| ChannelTask::Begin { channel, left }),
                ChannelTask::Overtaken { channels, read } => self
                    .look_into_hub(channels, read, budget)
                    .map(|channels| ChannelTask::Overtaken { channels, read }),
            };
            if let Some(rest) = rest {
                self.errands.push_front(rest);
                return true;
            }
        }
        false
    }

    /// From the last stream to the first: what takes the place of one that leaves meanwhile has been
    /// looked at. Returns how many are left.
    fn end_streams_at(
        &mut self,
        channel: ChannelKey,
        position: u64,
        left: usize,
        budget: &mut Budget,
    ) -> Option<usize> {
        let streams = &self.channels.get(channel)?.streams;
        let mut left = left.min(streams.len());
        while left > 0 {
            if !budget.step() {
                return Some(left);
            }
            left -= 1;
            let Some(&key) = streams.get(left) else { continue };
            if self.streams.get(key).is_some_and(|stream| stream.is_older(position)) {
                self.tasks.push_back(Task::End(key, End::Admin));
            }
        }
        None
    }

    fn begin_streams(
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
            let Some(&key) = self.channels.get(channel)?.streams.get(left) else { continue };
            if self.is_waiting(key) && self.hub.in_sync(&self.memberships(key)) {
                budget.spend(BEGINNING);
                // It leaves the list of those that wait with the next tick.
                self.begin_now(key, now);
            }
        }
        None
    }

    fn look_into_hub(
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
            let Some(channel) = self.channels.get_mut(key) else { continue };
            channel.recent = Default::default();
            channel.whole_after = head;
            let ended = self.hub.ended_at(channel.membership);
            self.touch(key, head);
            if ended > read {
                self.told_to_end(key, ended);
            }
        }
        None
    }
}
