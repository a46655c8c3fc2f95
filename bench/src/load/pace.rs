//! When events are published: by the clock, or as fast as they are confirmed and delivered.

use super::config::{Pace, Way};
use super::Load;
use crate::clock::{nanos, timespec};
use rustix::io::Errno;
use rustix::time::{
    timerfd_create, timerfd_settime, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags,
};
use std::os::fd::OwnedFd;

/// A sequence of events that is published as fast as possible.
#[derive(Clone, Copy)]
struct Lane {
    answered: bool,
    came: bool,
}

/// The events of one step.
pub struct Course {
    /// Events that are still to be published by the clock.
    left: u64,
    /// End of publishing as fast as possible, and the progress of each lane.
    until: u64,
    lanes: Vec<Lane>,
    ready: Vec<usize>,
    issued: u64,
}

impl Course {
    /// Returns a course that is over.
    pub fn over() -> Self {
        Self { left: 0, until: 0, lanes: Vec::new(), ready: Vec::new(), issued: 0 }
    }

    /// Whether events are still to be published.
    pub fn publishing(&self) -> bool {
        self.left > 0 || nanos() < self.until
    }

    /// Returns the number of events published so far.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// Records that the newest event of a lane has reached all its clients.
    pub fn came_to_all(&mut self, lane: usize) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.came = true;
            self.offer(lane);
        }
    }

    fn answered(&mut self, lane: usize) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.answered = true;
            self.offer(lane);
        }
    }

    fn offer(&mut self, lane: usize) {
        if self.lanes.get(lane).is_some_and(|lane| lane.answered && lane.came) {
            self.ready.push(lane);
        }
    }
}

impl Load {
    /// Starts to publish for this many seconds. Without a publisher, it only expects the events
    /// that another process publishes.
    pub fn start_course(&mut self, seconds: f64) -> Result<(), String> {
        self.course = Course::over();
        match self.config.pace {
            Pace::Rate(rate) => {
                let events = (rate * seconds).round() as u64;
                if self.config.way == Way::None {
                    (0..events).for_each(|_| self.issue_owed());
                    return Ok(());
                }
                self.course.left = events;
                set_timer(&self.timer, (1e9 / rate) as u64).map_err(|error| error.to_string())
            }
            Pace::Flat(lanes) => {
                self.course.until = nanos() + (seconds * 1e9) as u64;
                self.course.lanes = vec![Lane { answered: true, came: true }; lanes];
                self.course.ready = (0..lanes).collect();
                self.refill()
            }
        }
    }

    fn issue_owed(&mut self) {
        let channel = self.next_channel();
        self.check.issue(channel, 0, 0);
    }

    fn next_channel(&mut self) -> u32 {
        let channel = self.turns % self.config.channels as u64;
        self.turns += 1;
        self.course.issued += 1;
        channel as u32
    }

    /// Publishes the events that have become due since the timer was last read.
    pub fn on_timer(&mut self) -> Result<(), String> {
        let mut bytes = [0; 8];
        if rustix::io::read(&self.timer, &mut bytes) != Ok(8) {
            return Ok(());
        }
        let due = u64::from_ne_bytes(bytes).min(self.course.left);
        let now = nanos();
        for _ in 0..due {
            let channel = self.next_channel();
            let stamp = self.check.issue(channel, 0, now);
            let count = self.publishers.len().max(1);
            if let Some(publisher) = self.publishers.get_mut(channel as usize % count) {
                publisher.add(stamp);
            }
        }
        for publisher in &mut self.publishers {
            publisher.go_on(&mut self.form)?;
        }
        self.course.left -= due;
        if self.course.left == 0 {
            set_timer(&self.timer, 0).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Publishes the next event of every free lane, when publishing as fast as possible.
    pub fn refill(&mut self) -> Result<(), String> {
        while let Some(lane) = self.course.ready.pop() {
            if nanos() >= self.course.until {
                continue;
            }
            let channel = self.next_channel();
            let stamp = self.check.issue(channel, lane, nanos());
            if let Some(state) = self.course.lanes.get_mut(lane) {
                let came = self.check.awaited.get(lane) == Some(&0);
                *state = Lane { answered: false, came };
            }
            if let Some(publisher) = self.publishers.get_mut(lane) {
                publisher.add(stamp);
                publisher.go_on(&mut self.form)?;
            }
        }
        Ok(())
    }

    /// Reads from a publishing connection.
    pub fn on_response(&mut self, index: usize) -> Result<(), String> {
        let Some(publisher) = self.publishers.get_mut(index) else { return Ok(()) };
        let answered = publisher.read(&mut self.buffer, &self.form);
        if answered.gone {
            return Err("the server closed a connection for publishing".into());
        }
        if let Some(why) = answered.why.filter(|_| self.check.errors.refused == 0) {
            eprintln!("bench: a publish was answered {why}");
        }
        self.check.errors.refused += answered.refused;
        let answers = answered.accepted + answered.refused;
        self.answered += answers;
        publisher.go_on(&mut self.form)?;
        if answers > 0 {
            // When publishing as fast as possible, each connection has a lane of its own.
            self.course.answered(index);
        }
        self.refill()
    }
}

/// Creates a timer that is not running.
pub fn timer() -> Result<OwnedFd, Errno> {
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
}

/// Starts the timer: it fires now and then every `interval` ns; 0 stops it.
fn set_timer(timer: &OwnedFd, interval: u64) -> Result<(), Errno> {
    let first = if interval == 0 { 0 } else { 1 };
    let times = Itimerspec { it_interval: timespec(interval), it_value: timespec(first) };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &times).map(drop)
}
