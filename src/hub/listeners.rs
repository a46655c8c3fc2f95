//! Listeners: processes, the channels and patterns they listen to, and how they are woken.
//!
//! - `slots`: processes and their wake-ups
//! - `subscribe`, `subscribed`: joining and leaving channels, and since when patterns are
//!   subscribed to
//! - `pattern`, `pattern_name`, `matching`, `pattern_replay`: patterns, the channels that match
//!   them, and the history of these channels
//! - `control`: entries of the log that are not events

pub(super) mod control;
pub(super) mod matching;
pub(super) mod pattern;
pub(super) mod pattern_name;
pub(super) mod pattern_replay;
pub(super) mod slots;
pub(super) mod subscribe;
pub(super) mod subscribed;
