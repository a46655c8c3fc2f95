//! What one wake-up and one tick of the timer do: a bounded amount of work, then nginx's turn.

use super::admin::is_status;
use super::channel::FanOut;
use super::end::End;
use super::keys::ChannelKey;
use super::keys::StreamKey;
use super::socket::Socket;
use super::stream::{Flow, Stream, StreamState};
use super::timer_wheel::STEP;
use super::{Drain, Task, Worker};
use crate::hub::{Budget, Counter, Now};
use slotmap::SlotMap;

/// Writes of one turn.
const WRITES: usize = 256;
/// Writes of one turn that streams with visits of their own get before the channels' passes.
const VISITS: usize = 64;
/// Streams that have nothing to get, and are only looked at, count as one write.
const LOOKS: usize = 16;
/// Streams of a channel that are warmed together.
const AHEAD: usize = 8;
/// Slices of a sweep that one turn takes.
const SWEEPS: usize = 2;
/// The once-a-second look, in ms.
const LOOK: u64 = 1000;
/// Deadlines that a stream has: of its heartbeat and of its age.
const DEADLINES_OF_A_STREAM: usize = 2;
/// So many deadlines of streams that are gone are not worth a search.
const FEW_DEADLINES: usize = 256;
/// Deadlines of streams that may be gone, which one tick looks at.
const SWEPT_BY_TICK: usize = 4096;
/// How often a process that nobody can wake looks at the log, in ms.
const POLL: u64 = 50;

/// Whether a turn left work undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until the next wake-up.
    Idle,
    /// There is more: the worker is to be called again after nginx has served others.
    More,
}

/// Reads a little of what serving these streams needs. Their memory is seldom in the processor's cache;
/// with no system call between one and the next, it is waited for all of them at once.
fn warm<'a, S: Socket>(
    streams: &SlotMap<StreamKey, Stream<S>>,
    ahead: impl Iterator<Item = &'a StreamKey>,
) {
    let read = ahead.filter_map(|key| streams.get(*key));
    let words = read.map(|stream| stream.at as usize ^ stream.socket.warm());
    std::hint::black_box(words.fold(0, |all, word| all ^ word));
}

impl<S: Socket> Worker<S> {
    /// Reads the log and serves streams, within the bounds of one turn.
    pub fn turn(&mut self, now: Now) -> Progress {
        if let Some(seat) = self.seat {
            self.hub.clear_wakeup(seat);
        }
        let untold = self.tell_presence(now);
        self.meet_deadlines();
        self.tally.writes = 0;
        // As long as there are errands, no stream gets anything.
        if self.go_on_errands(now) {
            self.flush_tally();
            return Progress::More;
        }
        let unread = self.read_log(now);
        if self.go_on_errands(now) {
            self.flush_tally();
            return Progress::More;
        }
        let undrained = self.drain_on();
        let overdue = self.begin_overdue(now);
        self.visit(VISITS, now);
        while self.tally.writes < WRITES {
            let Some(key) = self.passes.pop_front() else { break };
            self.pass(key, now);
        }
        self.visit(WRITES, now);
        let unswept = self.sweep_on(now) || self.free_on();
        self.flush_tally();
        let unfinished = unread
            || unswept
            || untold
            || undrained
            || overdue
            || self.wheel.is_behind(self.ticked);
        if unfinished || !self.passes.is_empty() || !self.tasks.is_empty() {
            Progress::More
        } else {
            Progress::Idle
        }
    }

    /// Visits of single streams, until the turn has made so many writes. What they add is for the
    /// next turn, or one stream could keep all others waiting.
    fn visit(&mut self, writes: usize, now: Now) {
        for _ in 0..self.tasks.len() {
            if self.tally.writes >= writes {
                return;
            }
            let Some(task) = self.tasks.pop_front() else { return };
            self.tally.writes += 1;
            match task {
                Task::Serve(key) => self.serve(key, now),
                Task::Beat(key) => self.beat(key, now),
                Task::End(key, end) => self.finish(key, end, now),
                Task::Cut(key, end) => self.end(key, end),
            }
        }
    }

    /// Serves a slice of a channel's streams.
    fn pass(&mut self, key: ChannelKey, now: Now) {
        let mut looks = 0;
        loop {
            let Some(channel) = self.channels.get_mut(key) else { return };
            let (next, again) = match channel.pass {
                FanOut::Rest => return,
                FanOut::Running { next } => (next, false),
                FanOut::RunningAgain { next } => (next, true),
            };
            let Some(&stream_key) = channel.streams.get(next) else {
                channel.pass = if again { FanOut::Running { next: 0 } } else { FanOut::Rest };
                if again {
                    self.passes.push_back(key);
                } else if !is_status(&channel.name) {
                    self.tally.passes += 1;
                    self.tally.pass_ms += now.mono.saturating_sub(channel.born);
                }
                return;
            };
            if next.is_multiple_of(AHEAD) {
                let ahead = channel.streams.iter().skip(next).take(AHEAD);
                warm(&self.streams, ahead);
            }
            if self.tally.writes + looks / LOOKS >= WRITES {
                self.tally.writes = WRITES;
                self.passes.push_back(key);
                return;
            }
            channel.pass = match again {
                true => FanOut::RunningAgain { next: next + 1 },
                false => FanOut::Running { next: next + 1 },
            };
            let newest = channel.newest;
            looks += 1;
            let Some(stream) = self.streams.get(stream_key) else { continue };
            if stream.at >= newest || stream.flow == Flow::Blocked {
                continue;
            }
            match stream.state {
                StreamState::Live if self.shared.suits(stream, key, newest) => {
                    self.give_shared(stream_key, now);
                }
                StreamState::Live => self.serve_live(stream_key, now),
                _ => {}
            }
        }
    }

    /// The socket of a stream has sent all that it kept, and takes more.
    pub fn writable(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.flow = Flow::Open;
        if !self.errands.is_empty() {
            return self.tasks.push_back(Task::Serve(key));
        }
        self.serve(key, now);
        self.flush_tally();
    }

    /// What is due by time; to be called every [`Worker::tick_interval`].
    pub fn tick(&mut self, now: Now) -> Progress {
        self.ticked = now.mono;
        self.forget_deadlines(SWEPT_BY_TICK);
        self.look_at_waiting();
        self.presence.make_due();
        self.serve_stuck();
        self.leave_unleft();
        if now.mono >= self.look_at {
            self.look_at = now.mono + LOOK;
            self.look(now);
        }
        self.turn(now)
    }

    /// Makes tasks of the deadlines that were due at the last tick, as many as one turn may look at.
    fn meet_deadlines(&mut self) {
        let tasks = &mut self.tasks;
        self.wheel.turn(self.ticked, &mut Budget::for_turn(), |task| tasks.push_back(task));
    }

    /// Looks at some deadlines and removes those of streams that are gone, if there are more than the
    /// streams that are there can have.
    pub(super) fn forget_deadlines(&mut self, steps: usize) {
        let streams = &self.streams;
        if self.wheel.len() <= DEADLINES_OF_A_STREAM * streams.len() + FEW_DEADLINES {
            return;
        }
        self.wheel.sweep(steps, |task| streams.contains_key(task.stream()));
    }

    /// How long until the next tick is due, in ms.
    pub fn tick_interval(&self) -> u64 {
        match self.seat.and(self.waker) {
            None => POLL,
            Some(_) if self.streams.is_empty() && self.unleft.is_empty() => LOOK,
            Some(_) => STEP,
        }
    }

    /// Once a second: what a process that died may have left undone, and what has grown too old.
    fn look(&mut self, now: Now) {
        self.report();
        if self.seat.is_none() {
            self.claim_slot();
        }
        if self.hub.reap_dead() {
            self.bury(now);
        }
        // Who began with this may have died.
        self.freeing |= self.hub.has_detached();
        // Not to be had now is no harm: the next look comes in a second.
        let swept = self.hub.sweep(now).unwrap_or_default();
        self.presence.lost(&swept.lost);
    }

    /// A process has died: wakes those whom it may not have woken, and has its streams taken away from
    /// all channels, in the turns that follow.
    pub(super) fn bury(&mut self, now: Now) {
        let all: Vec<usize> = (0..self.hub.slots()).collect();
        self.ring(&all, now);
        self.unswept = self.hub.buckets();
    }

    /// Goes on with freeing the events of channels that were forgotten. Whether there is more to do in
    /// the next turn.
    fn free_on(&mut self) -> bool {
        // The lock is not to be had: the next look begins again.
        self.freeing = self.freeing && self.hub.free_detached().unwrap_or(false);
        self.freeing
    }

    /// Goes on with a sweep that has to go once around the table. Whether there is more to do in the
    /// next turn. What others sweep meanwhile they tell of themselves.
    fn sweep_on(&mut self, now: Now) -> bool {
        for _ in 0..SWEEPS {
            if self.unswept == 0 {
                return false;
            }
            // The lock is not to be had: with the next tick.
            let Ok(swept) = self.hub.sweep(now) else { return false };
            self.presence.lost(&swept.lost);
            self.unswept = self.unswept.saturating_sub(swept.buckets);
        }
        self.unswept > 0
    }

    /// Lets streams end evenly over `over` ms; they go on being served until then. No stream can be
    /// opened from now on.
    pub fn drain(&mut self, over: u64, now: Now) {
        if self.draining.is_some() {
            return;
        }
        if let Some(seat) = self.seat {
            self.hub.set_quitting(seat);
        }
        let streams: Vec<_> = self.streams.keys().collect();
        let (from, until, count) = (now.mono, now.mono + over, streams.len());
        self.draining = Some(Drain { from, until, count, streams: streams.into_iter() });
        self.drain_on();
    }

    /// Goes on entering when streams end, if this process is quitting. Whether there are more.
    fn drain_on(&mut self) -> bool {
        let Some(drain) = &mut self.draining else { return false };
        let mut budget = Budget::for_turn();
        while budget.step() {
            let Some(key) = drain.streams.next() else { return false };
            let (i, count) = (drain.count - drain.streams.len(), drain.count);
            let over = drain.until - drain.from;
            let at = drain.from + over * i as u64 / count as u64;
            self.wheel.enter(at, Task::End(key, End::Drain));
            // Who is in the middle of a frame has a moment more to take the rest of it.
            self.wheel.enter(drain.until + STEP, Task::Cut(key, End::Drain));
        }
        true
    }

    /// When the drain ends (ms), if this process is quitting.
    pub fn drained_at(&self) -> Option<u64> {
        self.draining.as_ref().map(|drain| drain.until)
    }

    /// Tells a stream to end.
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

    /// Enters in the slot what others may want to know of this process.
    pub(super) fn report(&self) {
        if let Some(seat) = self.seat {
            self.hub.report(seat, (self.streams.len() - self.watchers) as u64, self.read);
        }
    }

    /// Raises the hub's counters by what was done since the last time.
    pub(super) fn flush_tally(&mut self) {
        let tally = &mut self.tally;
        for (counter, by) in [
            (Counter::EventsOut, &mut tally.events),
            (Counter::BytesOut, &mut tally.bytes),
            (Counter::Gaps, &mut tally.gaps),
            (Counter::Passes, &mut tally.passes),
            (Counter::PassMs, &mut tally.pass_ms),
        ] {
            if *by > 0 {
                self.hub.count(counter, std::mem::take(by));
            }
        }
        self.report();
    }
}
