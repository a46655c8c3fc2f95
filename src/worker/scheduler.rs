//! The work of one wake-up and of one timer tick: a bounded amount, after which nginx serves its
//! other connections.

use super::admin::is_status;
use super::channel::FanOut;
use super::end::End;
use super::keys::ChannelKey;
use super::keys::StreamKey;
use super::socket::Socket;
use super::stream::{Flow, Stream, StreamState};
use super::timer_wheel::STEP;
use super::upkeep::HOUSEKEEPING_INTERVAL;
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{Budget, Now};
use slotmap::SlotMap;

/// Maximum number of writes in one turn.
const WRITES: usize = 256;
/// Writes of a turn that single streams' tasks may use before fan-outs.
const WRITES_OF_TASKS: usize = 64;
/// This many streams that are checked but need nothing count as one write.
const CHECKS_PER_WRITE: usize = 16;
/// Number of streams whose memory is prefetched together.
const PREFETCHED: usize = 8;
/// Maximum number of table sweeps in one turn.
const SWEEPS_PER_TURN: usize = 2;
/// Deadlines checked in one tick for streams that are closed.
const DEADLINES_CHECKED_BY_TICK: usize = 4096;
/// Interval in ms at which a process that cannot be woken reads the log.
const POLL_INTERVAL: u64 = 50;

/// Whether a turn left work undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until the next wake-up.
    Idle,
    /// There is more to do: call the worker again after nginx has served other connections.
    More,
}

/// Prefetches the memory of streams that are about to be served. It is rarely in the processor's
/// cache, and without a system call in between, the cache misses overlap.
fn prefetch<'a, S: Socket>(
    streams: &SlotMap<StreamKey, Stream<S>>,
    ahead: impl Iterator<Item = &'a StreamKey>,
) {
    let read = ahead.filter_map(|key| streams.get(*key));
    let words = read.map(|stream| stream.at as usize ^ stream.socket.prefetch());
    std::hint::black_box(words.fold(0, |all, word| all ^ word));
}

impl<S: Socket> Worker<S> {
    /// Reads the log and serves streams, within the bounds of one turn.
    pub fn turn(&mut self, now: Now) -> Progress {
        if let Some(slot) = self.process.claim() {
            self.hub.clear_wakeup(slot);
        }
        self.apply_disconnections();
        let is_presence_due = self.publish_presence(now);
        self.work.meet_deadlines(&mut Budget::for_turn());
        self.counts.writes = 0;
        // Until channel tasks are complete, no stream is served.
        if self.run_channel_tasks(now) {
            self.flush_counts();
            return Progress::More;
        }
        let unread = self.read_log(now);
        if self.run_channel_tasks(now) {
            self.flush_counts();
            return Progress::More;
        }
        let undrained = self.work.continue_drain(&mut Budget::for_turn());
        let unended = self.continue_disconnecting(&mut Budget::for_turn());
        let unscheduled = self.continue_rescheduling(&mut Budget::for_turn(), now);
        let unchecked = self.start_ready(now);
        self.inquiries.check_after_barrier(self.hub.passed_read_barrier());
        self.continue_retries(&mut Budget::for_turn());
        self.run_tasks(WRITES_OF_TASKS, now);
        while self.counts.writes < WRITES {
            let Some(key) = self.work.next_fan_out() else { break };
            self.continue_fan_out(key, now);
        }
        self.run_tasks(WRITES, now);
        let unswept = self.continue_sweep(now) || self.upkeep.continue_freeing(&self.hub);
        self.flush_counts();
        let unfinished = unscheduled
            || unended
            || unread
            || unswept
            || is_presence_due
            || undrained
            || unchecked
            || !self.work.is_idle();
        if unfinished {
            Progress::More
        } else {
            Progress::Idle
        }
    }

    /// Runs tasks of single streams until the turn has made this many writes. Tasks that they add
    /// run in the next turn, so that no stream can starve the others.
    fn run_tasks(&mut self, writes: usize, now: Now) {
        for _ in 0..self.work.tasks() {
            if self.counts.writes >= writes {
                return;
            }
            let Some(task) = self.work.next_task() else { return };
            self.counts.writes += 1;
            match task {
                StreamTask::Serve(key) => self.serve(key, now),
                StreamTask::Beat(key) => self.beat(key, now),
                StreamTask::Deadline(key) => self.meet_deadline(key, now),
                StreamTask::End(key, end) => self.finish(key, end, now),
                StreamTask::Cut(key, end) => self.end(key, end),
            }
        }
    }

    /// Continues the fan-out of a channel, within the turn's budget.
    fn continue_fan_out(&mut self, key: ChannelKey, now: Now) {
        let mut checks = 0;
        loop {
            let Some(channel) = self.directory.get_mut(key) else { return };
            let (next, again) = match channel.fan_out {
                FanOut::Rest => return,
                FanOut::Running { next } => (next, false),
                FanOut::RunningAgain { next } => (next, true),
            };
            let Some(&stream_key) = channel.streams.get(next) else {
                channel.fan_out = if again { FanOut::Running { next: 0 } } else { FanOut::Rest };
                let published_at = channel.take_published_at();
                if let Some(published_at) = published_at.filter(|_| !is_status(&channel.name)) {
                    self.counts.fanned_out((self.clock)().microseconds_since(published_at));
                }
                if again {
                    self.work.fan_out(key);
                }
                return;
            };
            if next.is_multiple_of(PREFETCHED) {
                let ahead = channel.streams.iter().skip(next).take(PREFETCHED);
                prefetch(&self.streams, ahead);
            }
            if self.counts.writes + checks / CHECKS_PER_WRITE >= WRITES {
                self.counts.writes = WRITES;
                self.work.fan_out(key);
                return;
            }
            let next = next + 1;
            channel.fan_out =
                if again { FanOut::RunningAgain { next } } else { FanOut::Running { next } };
            let newest = channel.newest;
            checks += 1;
            let Some(stream) = self.streams.get(stream_key) else { continue };
            if stream.at >= newest || stream.flow == Flow::Blocked {
                continue;
            }
            match stream.state {
                StreamState::Live if self.batch_cache.suits(stream, key, newest) => {
                    self.send_prepared(stream_key, now);
                }
                StreamState::Live => self.serve_live(stream_key, now),
                _ => {}
            }
        }
    }

    /// Continues a stream whose socket has sent everything that it had stored.
    pub fn writable(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.flow = Flow::Open;
        if !self.channel_tasks.is_empty() {
            return self.work.add(StreamTask::Serve(key));
        }
        self.serve(key, now);
        self.flush_counts();
    }

    /// Does everything that is due. To be called every [`Worker::tick_interval`].
    pub fn tick(&mut self, now: Now) -> Progress {
        self.work.tick(now.mono);
        self.check_clock(now);
        self.forget_deadlines(DEADLINES_CHECKED_BY_TICK);
        self.check_waiting();
        self.inquiries.check_all();
        self.presence.make_due();
        self.work.start_retries();
        let directory = &self.directory;
        self.upkeep.leave_pending(&self.hub, |record| directory.by_record(record).is_some());
        if self.upkeep.is_due(now) {
            self.do_housekeeping(now);
        }
        self.turn(now)
    }

    /// Checks some deadlines and removes those of closed streams, if there are more deadlines than
    /// the open streams can have.
    pub(super) fn forget_deadlines(&mut self, steps: usize) {
        let streams = &self.streams;
        self.work.forget_deadlines(steps, streams.len(), |key| streams.contains_key(key));
    }

    /// Returns the time until the next tick in ms.
    pub fn tick_interval(&self) -> u64 {
        if !self.process.is_reachable() {
            POLL_INTERVAL
        } else if self.streams.is_empty()
            && self.inquiries.is_empty()
            && self.upkeep.pending_leaves() == 0
        {
            HOUSEKEEPING_INTERVAL
        } else {
            STEP
        }
    }

    /// Does what is needed once a second: completes what dead processes left undone, and removes
    /// what has expired.
    fn do_housekeeping(&mut self, now: Now) {
        self.report();
        self.process.claim_if_none(&self.hub);
        if self.hub.reap_dead() {
            self.reap_dead(now);
        }
        // The process that began to free them may have died.
        if self.hub.has_detached() {
            self.upkeep.require_freeing();
        }
        // If the lock is not available, the next housekeeping tries again.
        let swept = self.hub.sweep(now).unwrap_or_default();
        self.presence.lost(&swept.lost);
    }

    /// Cleans up after dead processes: wakes all processes, which the dead one may have failed to
    /// do, and starts removing its streams from all channels.
    pub(super) fn reap_dead(&mut self, now: Now) {
        self.wake_all(now);
        self.upkeep.require_sweep(&self.hub);
    }

    /// Continues to sweep the table of channels, which must be covered once after a death. Returns
    /// whether there is more to do. If the lock is not available, the next tick continues.
    fn continue_sweep(&mut self, now: Now) -> bool {
        for _ in 0..SWEEPS_PER_TURN {
            let Some(swept) = self.upkeep.continue_sweep(&self.hub, now) else { return false };
            self.presence.lost(&swept.lost);
        }
        self.upkeep.is_sweeping()
    }

    /// Ends all streams, spread evenly over `over` ms; they are served until then. No stream can be
    /// opened from now on.
    pub fn drain(&mut self, over: u64, now: Now) {
        if self.work.drained_at().is_some() {
            return;
        }
        if let Some(slot) = self.process.claim() {
            self.hub.set_quitting(slot);
        }
        // One unbounded pass, because a slot map cannot be iterated in parts. It takes about 3 ms
        // for 100,000 streams, and happens once in the life of a process.
        self.work.start_drain(self.streams.keys().collect(), over, now.mono);
        self.work.continue_drain(&mut Budget::for_turn());
    }

    /// Returns when the drain ends (ms), if this process is draining.
    pub fn drained_at(&self) -> Option<u64> {
        self.work.drained_at()
    }

    /// Starts to end a stream.
    pub(super) fn finish(&mut self, key: StreamKey, end: End, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if matches!(
            stream.state,
            StreamState::Ending(_) | StreamState::Leaving(_) | StreamState::Ended
        ) {
            return;
        }
        stream.state = StreamState::Ending(end);
        self.serve(key, now);
    }

    /// Stores this process's state in its slot, for other processes.
    pub(super) fn report(&self) {
        if let Some(slot) = self.process.claim() {
            self.hub.report(slot, (self.streams.len() - self.watchers) as u64, self.read);
        }
    }

    /// Adds this process's increments to the hub's counters.
    pub(super) fn flush_counts(&mut self) {
        self.counts.flush(&self.hub);
        self.report();
    }
}
