//! Work of requests that takes many turns of the event loop.

use super::lend;
use crate::nginx::top_level::TopLevel;

/// Work that takes many turns of the event loop. Called once in each of them.
pub(super) type Job = Box<dyn FnMut(&mut TopLevel) -> JobStatus>;

/// Whether a job has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Call the job again.
    More,
    /// The job is complete.
    Done,
}

/// Runs a job in the following turns of a hub, one step in each. Several jobs take turns.
pub fn run_in_turns(hub: usize, job: impl FnMut(&mut TopLevel) -> JobStatus + 'static) {
    lend(hub, |serving| {
        serving.jobs.push_back(Box::new(job));
        serving.turn.post();
        serving.update_hold();
    });
}

/// Runs one step of the hub's next job, if there is one.
pub(super) fn run_next_job(hub: usize, top: &mut TopLevel) {
    // Not within `lend`: the job may end a request.
    let Some(mut job) = lend(hub, |serving| serving.jobs.pop_front()).flatten() else { return };
    let progress = job(top);
    lend(hub, |serving| {
        if progress == JobStatus::More {
            serving.jobs.push_back(job);
        }
        if !serving.jobs.is_empty() {
            serving.turn.post_next();
        }
        serving.update_hold();
    });
}
