//! What the process does as a whole: serve, hand over, or stop.

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is about to quit: subscriptions go to other processes, publishing goes on.
    Retiring,
    /// It stops.
    Stopping,
}
