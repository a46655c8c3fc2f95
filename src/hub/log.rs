//! The log: channels and their events, in one order.
//!
//! - `publish`, `prepared_event`, `append`: append events under the lock
//! - `ring`: reads new events without it
//! - `channels`, `eviction`: channel records, and what is removed when memory or history is used up
//! - `delivery`: how and when an event reached the log
//! - `monotonic_time`: when events are published
//! - `position`: an event's id and its dense position, and the watermarks of a channel
//! - `idempotency`: recognizes publishes that are repeated
//! - `backward`: searches a channel's events backwards
//! - `received`: what a client has received, and so which events it lacks
//! - `replay`, `resume`: replays retained events, from what a client's last id says
//! - `run`, `run_start`, `forgotten_runs`: runs of a channel, their finishes, and their beginnings
//! - `since`: resuming by the time at which events were published
//! - `resume_point`: the id from which a client resumes that receives everything from now on
//! - `cursor`: how far a stream of Redis was read, if the ids of the events do not say it
//! - `detached`: events of deleted channels, which are freed little by little

pub(super) mod append;
pub(super) mod backward;
pub(super) mod channels;
pub(super) mod cursor;
pub(super) mod delivery;
pub(super) mod detached;
pub(super) mod eviction;
pub(super) mod forgotten_runs;
pub(super) mod idempotency;
pub(super) mod monotonic_time;
pub(super) mod position;
pub(super) mod prepared_event;
pub(super) mod publish;
pub(super) mod received;
pub(super) mod replay;
pub(super) mod resume;
pub(super) mod resume_point;
pub(super) mod ring;
pub(super) mod run;
pub(super) mod run_start;
pub(super) mod since;
