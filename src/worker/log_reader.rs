//! Reading the log: each new event that somebody here listens to is read once, framed once, and
//! kept for a while for all streams of its channel.

use super::channel::CachedFrame;
use super::keys::ChannelKey;
use super::socket::Socket;
use super::Worker;
use crate::hub::{Budget, ControlEntry, EventCopy, Hub, Now};
use crate::sse::frame::Frame;

/// Descriptors that one turn reads at most.
const READ_AT_ONCE: u64 = 1024;
/// Bytes of frames that a process keeps; who lags further reads from the hub.
const KEPT: usize = 128 << 10;
/// Bytes of frames that may be on their way through streams before more is read.
const ON_THE_WAY: usize = KEPT / 2;

/// The frames that all channels of a process keep, oldest first.
#[derive(Debug, Default)]
pub struct FrameCache {
    order: std::collections::VecDeque<(ChannelKey, usize)>,
    bytes: usize,
    /// Bytes read since the last time that no pass was running.
    on_the_way: usize,
    pub(super) copied: EventCopy,
}

impl FrameCache {
    /// The event that was just read, framed.
    pub(super) fn frame(&self, hub: &Hub) -> CachedFrame {
        let copied = &self.copied;
        let frame = Frame::event(copied.event_type(), copied.data(), &copied.id(hub));
        CachedFrame::new(copied.place, copied.kind(), frame)
    }
}

impl<S: Socket> Worker<S> {
    /// Reads new events of the log. True if there are more.
    pub(super) fn read_log(&mut self, now: Now) -> bool {
        if self.passes.is_empty() {
            self.kept.on_the_way = 0;
        }
        let head = self.hub.head();
        if self.by_record.is_empty() {
            self.read = head;
            return false;
        }
        let stop = head.min(self.read + READ_AT_ONCE);
        let mut budget = Budget::for_turn();
        while self.read < stop && self.kept.on_the_way < ON_THE_WAY && !budget.is_spent() {
            let Some(descriptor) = self.hub.descriptor(self.read + 1) else {
                self.overtaken(self.hub.head());
                return false;
            };
            let key = self.by_record.get(&descriptor.channel).copied();
            let signal = descriptor.signal();
            if !self.patterns.is_empty() && signal.is_none() {
                if !self.read_matching(descriptor, key, now, &mut budget) {
                    return true;
                }
                self.read += 1;
                continue;
            }
            self.read += 1;
            let Some(key) = key else { continue };
            match signal {
                None => {}
                Some(ControlEntry::End) => {
                    self.told_to_end(key, descriptor.position);
                    break;
                }
                Some(ControlEntry::Step) => {
                    self.begin_waiting(key);
                    if self.go_on_with_errands(now, &mut budget) {
                        break;
                    }
                    continue;
                }
                Some(ControlEntry::Wanted) => continue,
                Some(ControlEntry::Lost) => {
                    self.pass_over(key, descriptor.position);
                    continue;
                }
            }
            if self.hub.copy(descriptor, now, &mut self.kept.copied) {
                let recent = self.kept.frame(&self.hub);
                let len = recent.frame.chunk().len();
                self.keep(key, recent, len);
                self.touch(key, descriptor.position);
            } else {
                // It left before it was read, or not everybody is to have it.
                self.pass_over(key, descriptor.position);
            }
        }
        self.read < head
    }

    /// There is something at a position that the channel's streams find out from the hub.
    pub(super) fn pass_over(&mut self, key: ChannelKey, position: u64) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.whole_after = position;
        }
        self.touch(key, position);
    }

    /// Keeps the event that was just read, which takes `len` bytes.
    pub(super) fn keep(&mut self, key: ChannelKey, recent: CachedFrame, len: usize) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.born = self.kept.copied.born;
        channel.recent.push_back(recent);
        self.kept.order.push_back((key, len));
        self.kept.bytes += len;
        self.kept.on_the_way += len;
        while self.kept.bytes > KEPT && self.kept.order.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((key, len)) = self.kept.order.pop_front() else { return };
        self.kept.bytes -= len;
        if let Some(channel) = self.channels.get_mut(key) {
            channel.drop_oldest();
        }
    }

    pub(super) fn touch(&mut self, key: ChannelKey, position: u64) {
        if self.channels.get_mut(key).is_some_and(|channel| channel.touch(position)) {
            self.passes.push_back(key);
        }
    }
}
