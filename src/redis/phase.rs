//! What the process of the thread is doing.

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is to quit: the subscription goes to another process, publishing goes on.
    Retiring,
    /// It ends.
    Stopping,
}
