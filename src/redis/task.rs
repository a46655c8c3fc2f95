//! Tasks of the Redis thread that are aborted when they are dropped.

use std::future::Future;

use tokio::task::JoinHandle;

/// A task that is aborted when this value is dropped.
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task on the current thread.
    pub fn spawn(work: impl Future<Output = ()> + 'static) -> Task {
        Task(tokio::task::spawn_local(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
