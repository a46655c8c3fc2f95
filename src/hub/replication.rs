//! Hubs that are connected to Redis.
//!
//! - `lease`: which process holds the subscription
//! - `sync`, `reported`: how far each channel has been followed, and which ids of Redis are
//!   plausible
//! - `read_barrier`: whether everything that Redis delivered before a certain moment is in the log
//! - `incoming`: events that arrive from Redis, and how they were received
//! - `ingest`, `known_events`: appends events that come from Redis, unless their channel has them
//! - `handover`: passes the subscription from one process to the next

pub(super) mod handover;
pub(super) mod incoming;
pub(super) mod ingest;
mod known_events;
pub(super) mod lease;
mod read_barrier;
pub(super) mod reported;
pub(super) mod sync;
