//! What goes on beside, in the thread for Redis, until it is dropped.

use std::future::Future;

use tokio::task::JoinHandle;

/// A task that ends with whoever began it.
pub struct Task(JoinHandle<()>);

impl Task {
    /// Begins it.
    pub fn spawn(work: impl Future<Output = ()> + 'static) -> Task {
        Task(tokio::task::spawn_local(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
