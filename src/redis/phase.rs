//! The phase of the process, which all tasks of the Redis thread watch.

/// The phase of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is about to quit: it hands subscriptions over to other processes, and still publishes.
    Retiring,
    /// It stops.
    Stopping,
}
