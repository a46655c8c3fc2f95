//! What a process has to do next: fan-outs of channels, tasks of single streams, those that wait
//! for the next tick, and deadlines.

use std::collections::VecDeque;

use super::end::End;
use super::keys::{ChannelKey, StreamKey};
use super::timer_wheel::{TimerWheel, STEP};
use crate::hub::Budget;

/// Deadlines of a stream: its heartbeat, and its maximum age or the end of its permission.
const DEADLINES_OF_A_STREAM: usize = 2;
/// Up to this many deadlines of closed streams are not worth a search.
const FEW_DEADLINES: usize = 256;

/// Work for a single stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTask {
    Serve(StreamKey),
    Beat(StreamKey),
    /// Does what is due at the stream's next deadline.
    Deadline(StreamKey),
    End(StreamKey, End),
    /// Ends the stream at once, even if its socket has unsent data.
    Cut(StreamKey, End),
}

impl StreamTask {
    /// Returns the stream that the task concerns.
    fn stream(self) -> StreamKey {
        match self {
            StreamTask::Serve(key)
            | StreamTask::Beat(key)
            | StreamTask::Deadline(key)
            | StreamTask::End(key, _)
            | StreamTask::Cut(key, _) => key,
        }
    }
}

/// A drain: ends the streams of a process that is shutting down, spread evenly over time.
#[derive(Debug)]
struct Drain {
    from: u64,
    /// End of the drain (ms).
    until: u64,
    count: usize,
    /// Streams whose deadline is not on the timer wheel yet.
    streams: std::vec::IntoIter<StreamKey>,
}

/// The work that is to be done.
pub struct WorkQueue {
    /// Channels with a fan-out in progress, in the order in which they are served.
    fan_outs: VecDeque<ChannelKey>,
    tasks: VecDeque<StreamTask>,
    /// Streams that are served again after the next tick, because the lock was not available or the
    /// client's id is in doubt.
    to_retry: Vec<StreamKey>,
    /// Those of them that are served again now, some in each turn.
    retrying: VecDeque<StreamKey>,
    wheel: TimerWheel<StreamTask>,
    /// Time of the last tick (ms). Deadlines up to then are due.
    last_tick: u64,
    drain: Option<Drain>,
}

impl WorkQueue {
    /// Creates an empty queue; `now` in ms.
    pub fn new(now: u64) -> WorkQueue {
        WorkQueue {
            fan_outs: VecDeque::new(),
            tasks: VecDeque::new(),
            to_retry: Vec::new(),
            retrying: VecDeque::new(),
            wheel: TimerWheel::new(now),
            last_tick: now,
            drain: None,
        }
    }

    /// Adds a task, behind the others.
    pub fn add(&mut self, task: StreamTask) {
        self.tasks.push_back(task);
    }

    /// Removes and returns the next task.
    pub fn next_task(&mut self) -> Option<StreamTask> {
        self.tasks.pop_front()
    }

    /// Returns the number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Adds a fan-out, behind the others.
    pub fn fan_out(&mut self, channel: ChannelKey) {
        self.fan_outs.push_back(channel);
    }

    /// Removes and returns the channel whose fan-out is next.
    pub fn next_fan_out(&mut self) -> Option<ChannelKey> {
        self.fan_outs.pop_front()
    }

    /// Returns whether no fan-out is in progress.
    pub fn has_fanned_out(&self) -> bool {
        self.fan_outs.is_empty()
    }

    /// Returns whether nothing is due.
    pub fn is_idle(&self) -> bool {
        self.fan_outs.is_empty()
            && self.tasks.is_empty()
            && self.retrying.is_empty()
            && !self.wheel.is_behind(self.last_tick)
    }

    /// Adds a stream that is to be served again after the next tick.
    pub fn retry_later(&mut self, stream: StreamKey) {
        self.to_retry.push(stream);
    }

    /// Starts to serve streams again. Called with each tick.
    pub fn start_retries(&mut self) {
        self.retrying.extend(self.to_retry.drain(..));
    }

    /// Removes and returns the next stream that is to be served again now.
    pub fn next_retry(&mut self) -> Option<StreamKey> {
        self.retrying.pop_front()
    }

    /// Returns the number of streams that are to be served again.
    #[cfg(test)]
    pub fn retries(&self) -> usize {
        self.to_retry.len()
    }

    /// Adds a task that is due at a time (ms).
    pub fn add_at(&mut self, due: u64, task: StreamTask) {
        self.wheel.enter(due, task);
    }

    /// Makes the deadlines up to `now` (ms) due.
    pub fn tick(&mut self, now: u64) {
        self.last_tick = now;
    }

    /// Adds the tasks that are due, within the budget.
    pub fn meet_deadlines(&mut self, budget: &mut Budget) {
        let tasks = &mut self.tasks;
        self.wheel.turn(self.last_tick, budget, |task| tasks.push_back(task));
    }

    /// Checks `steps` deadlines and removes those of closed streams, if there are more deadlines
    /// than `open` streams can have.
    pub fn forget_deadlines(
        &mut self,
        steps: usize,
        open: usize,
        is_open: impl Fn(StreamKey) -> bool,
    ) {
        if self.wheel.len() > DEADLINES_OF_A_STREAM * open + FEW_DEADLINES {
            self.wheel.sweep(steps, |task| is_open(task.stream()));
        }
    }

    /// Returns the number of deadlines.
    #[cfg(test)]
    pub fn deadlines(&self) -> usize {
        self.wheel.len()
    }

    /// Starts to end these streams, spread evenly over `over` ms.
    pub fn start_drain(&mut self, streams: Vec<StreamKey>, over: u64, now: u64) {
        let (from, until, count) = (now, now + over, streams.len());
        self.drain = Some(Drain { from, until, count, streams: streams.into_iter() });
    }

    /// Continues to add the deadlines of a drain, within the budget. Returns whether there are
    /// more.
    pub fn continue_drain(&mut self, budget: &mut Budget) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        while budget.step() {
            let Some(key) = drain.streams.next() else { return false };
            let (i, count) = (drain.count - drain.streams.len(), drain.count);
            let over = drain.until - drain.from;
            let at = drain.from + over * i as u64 / count as u64;
            self.wheel.enter(at, StreamTask::End(key, End::Drain));
            // A client that is in the middle of a frame gets a moment to receive the rest of it.
            self.wheel.enter(drain.until + STEP, StreamTask::Cut(key, End::Drain));
        }
        true
    }

    /// Returns when the drain ends (ms), if this process is draining.
    pub fn drained_at(&self) -> Option<u64> {
        self.drain.as_ref().map(|drain| drain.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> StreamKey {
        StreamKey::from_raw(1 << 32 | number)
    }

    fn all_tasks(work: &mut WorkQueue) -> Vec<StreamTask> {
        work.meet_deadlines(&mut Budget::with_steps(usize::MAX));
        std::iter::from_fn(|| work.next_task()).collect()
    }

    #[test]
    fn tasks_are_done_in_their_order_and_deadlines_after_a_tick() {
        let mut work = WorkQueue::new(1_000);
        assert!(work.is_idle());
        work.add(StreamTask::Serve(key(1)));
        work.add_at(1_100, StreamTask::Beat(key(2)));
        work.add(StreamTask::Serve(key(3)));
        work.retry_later(key(4));
        assert!(!work.is_idle());
        let now = [StreamTask::Serve(key(1)), StreamTask::Serve(key(3))];
        assert_eq!(all_tasks(&mut work), now);
        assert!(work.is_idle(), "what is to be retried waits for a tick");
        work.tick(1_200);
        assert!(!work.is_idle());
        assert_eq!(all_tasks(&mut work), [StreamTask::Beat(key(2))]);
        work.start_retries();
        assert!(!work.is_idle());
        assert_eq!((work.next_retry(), work.next_retry()), (Some(key(4)), None));
        assert!(work.is_idle());
    }

    #[test]
    fn a_drain_ends_streams_evenly_and_cuts_what_is_left() {
        let mut work = WorkQueue::new(0);
        assert_eq!(
            (work.continue_drain(&mut Budget::for_turn()), work.drained_at()),
            (false, None)
        );
        work.start_drain((0..10).map(key).collect(), 5_000, 0);
        // In several turns.
        let mut turns = 1;
        while work.continue_drain(&mut Budget::with_steps(3)) {
            turns += 1;
        }
        assert_eq!((turns, work.drained_at()), (4, Some(5_000)));
        for i in 0..10 {
            work.tick(500 * (i + 1));
            assert_eq!(all_tasks(&mut work), [StreamTask::End(key(i), End::Drain)]);
        }
        work.tick(5_000 + STEP);
        assert_eq!(all_tasks(&mut work).len(), 10);
    }

    #[test]
    fn deadlines_of_closed_streams_are_removed_once_they_are_many() {
        let mut work = WorkQueue::new(0);
        for i in 0..FEW_DEADLINES as u64 {
            work.add_at(10_000, StreamTask::Beat(key(i)));
        }
        work.forget_deadlines(100_000, 0, |_| false);
        assert_eq!(work.deadlines(), FEW_DEADLINES);
        work.add_at(10_000, StreamTask::Beat(key(7)));
        work.forget_deadlines(100_000, 0, |stream| stream == key(7));
        assert_eq!(work.deadlines(), 2);
    }
}
