//! Reads the log: each new event that a stream of this process listens to is read once, framed
//! once, and cached for all streams of its channel.

use super::channel::CachedFrame;
use super::keys::ChannelKey;
use super::socket::Socket;
use super::Worker;
use crate::hub::{Budget, ControlEntry, EventCopy, Hub, Now};
use crate::sse::frame::Frame;
use std::ops::ControlFlow;

/// Maximum number of log descriptors read in one turn.
const DESCRIPTORS_PER_TURN: u64 = 1024;
/// Maximum size in bytes of the cached frames. A stream that lags further reads from the hub.
const MAX_CACHED_BYTES: usize = 128 << 10;
/// Maximum size in bytes of the frames in fan-outs in progress, before more of the log is read.
const MAX_IN_PROGRESS: usize = MAX_CACHED_BYTES / 2;

/// The cached frames of all channels of a process, oldest first.
#[derive(Debug, Default)]
pub struct FrameCache {
    order: std::collections::VecDeque<(ChannelKey, usize)>,
    bytes: usize,
    /// Bytes read since the last time that no fan-out was in progress.
    in_progress: usize,
    pub(super) copied: EventCopy,
}

impl FrameCache {
    /// Frames the event that was just read.
    pub(super) fn frame(&self, hub: &Hub) -> CachedFrame {
        let copied = &self.copied;
        let frame = Frame::event(copied.event_type(), copied.data(), &copied.id(hub));
        CachedFrame::new(copied.place, copied.kind(), frame)
    }
}

impl<S: Socket> Worker<S> {
    /// Reads new entries of the log. Returns whether there are more.
    pub(super) fn read_log(&mut self, now: Now) -> bool {
        if self.work.has_fanned_out() {
            self.frame_cache.in_progress = 0;
        }
        let head = self.hub.head();
        if self.directory.is_empty() {
            self.read = head;
            return false;
        }
        let stop = head.min(self.read + DESCRIPTORS_PER_TURN);
        let mut budget = Budget::for_turn();
        while self.read < stop
            && self.frame_cache.in_progress < MAX_IN_PROGRESS
            && !budget.is_spent()
        {
            let Some(descriptor) = self.hub.descriptor(self.read + 1) else {
                self.overtaken(self.hub.head());
                return false;
            };
            let key = self.directory.by_record(descriptor.channel);
            let signal = descriptor.signal();
            if self.directory.has_patterns() && signal.is_none() {
                if !self.read_matching(descriptor, key, now, &mut budget) {
                    return true;
                }
                self.read += 1;
                continue;
            }
            self.read += 1;
            let Some(key) = key else { continue };
            if let Some(entry) = signal {
                if self.apply_control(key, entry, descriptor.position, now, &mut budget).is_break()
                {
                    break;
                }
                continue;
            }
            if self.hub.copy(descriptor, now, &mut self.frame_cache.copied) {
                let recent = self.frame_cache.frame(&self.hub);
                let len = recent.frame.chunk().len();
                self.cache_frame(key, recent, len);
                self.touch(key, descriptor.position);
            } else {
                // It was evicted before it was read, or not all clients are to receive it.
                self.skip_cache(key, descriptor.position);
            }
        }
        self.read < head
    }

    /// Applies a control entry of a channel. Breaks if other work comes before the next entry.
    fn apply_control(
        &mut self,
        key: ChannelKey,
        entry: ControlEntry,
        position: u64,
        now: Now,
        budget: &mut Budget,
    ) -> ControlFlow<()> {
        match entry {
            ControlEntry::End => {
                self.end_streams_opened_before(key, position);
                return ControlFlow::Break(());
            }
            ControlEntry::Finished => self.finish_run(key, position),
            ControlEntry::CatchingUp => self.set_catching_up(key),
            ControlEntry::Step => {
                self.set_caught_up(key, position);
                // Otherwise, the channel is not available.
                let membership = self.directory[key].membership;
                if self.hub.in_sync(&[membership]) {
                    self.recheck_run(key, position);
                }
                self.begin_waiting(key);
                self.inquiries.check_all();
                if self.run_channel_tasks_within(now, budget) {
                    return ControlFlow::Break(());
                }
            }
            ControlEntry::Wanted => {}
            ControlEntry::Lost => self.skip_cache(key, position),
        }
        ControlFlow::Continue(())
    }

    /// Records an event that is not cached, so that the channel's streams read it from the hub.
    pub(super) fn skip_cache(&mut self, key: ChannelKey, position: u64) {
        if let Some(channel) = self.directory.get_mut(key) {
            channel.complete_after = position;
        }
        self.touch(key, position);
    }

    /// Caches the event that was just read, which takes `len` bytes.
    pub(super) fn cache_frame(&mut self, key: ChannelKey, recent: CachedFrame, len: usize) {
        let Some(channel) = self.directory.get_mut(key) else { return };
        channel.measure_from(self.frame_cache.copied.born);
        channel.frames.push_back(recent);
        self.frame_cache.order.push_back((key, len));
        self.frame_cache.bytes += len;
        self.frame_cache.in_progress += len;
        while self.frame_cache.bytes > MAX_CACHED_BYTES && self.frame_cache.order.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((key, len)) = self.frame_cache.order.pop_front() else { return };
        self.frame_cache.bytes -= len;
        if let Some(channel) = self.directory.get_mut(key) {
            channel.drop_oldest();
        }
    }

    pub(super) fn touch(&mut self, key: ChannelKey, position: u64) {
        if self.directory.get_mut(key).is_some_and(|channel| channel.touch(position)) {
            self.work.fan_out(key);
        }
    }
}
