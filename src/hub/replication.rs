//! Hubs that follow a Redis.
//!
//! - `lease`: which process holds the subscription
//! - `sync`, `reported`: how far each channel has been followed, and which ids of Redis are
//!   plausible
//! - `ingest`: appends events that come from Redis
//! - `handover`: passes the subscription from one process to the next

pub(super) mod handover;
pub(super) mod ingest;
pub(super) mod lease;
pub(super) mod reported;
pub(super) mod sync;
