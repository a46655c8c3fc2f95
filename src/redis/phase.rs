//! The phase of the process, which all tasks of the Redis thread watch.

use std::time::Duration;

/// The phase of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is about to quit: it hands subscriptions over to other processes, and still publishes.
    Retiring {
        /// How long it may go on reading channels that are catching up before it hands over.
        patience: Duration,
    },
    /// It stops.
    Stopping,
}
