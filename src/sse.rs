//! The wire format of Server-Sent Events, outgoing to clients and incoming from publishers (HTML
//! standard, 9.2 "Server-sent events").
//!
//! Pure functions over byte slices, called by every module that reads or writes an event. Nothing
//! here knows nginx, the hub, or a clock, and no byte chosen by a publisher or a client can begin a
//! line of its own on the wire.

// This layer handles untrusted bytes.
#![warn(clippy::indexing_slicing)]

pub mod accept;
pub mod batch;
pub mod channel;
pub mod content_type;
pub mod data;
pub mod escaped;
pub mod event_type;
pub mod finish;
pub mod frame;
pub mod header_names;
pub mod id;
pub mod origin;
pub mod pattern;
pub mod timestamp;

mod lines;

// Second implementations, with which tests and fuzz targets compare.
#[cfg(any(test, fuzzing))]
#[allow(clippy::indexing_slicing)]
#[path = "sse/tests/calendar.rs"]
pub(crate) mod calendar;
#[cfg(any(test, fuzzing))]
#[allow(clippy::indexing_slicing)]
#[path = "sse/tests/event_source.rs"]
pub(crate) mod event_source;
#[cfg(any(test, fuzzing))]
#[allow(clippy::indexing_slicing)]
#[path = "sse/tests/redis_pattern.rs"]
pub(crate) mod redis_pattern;

#[cfg(test)]
mod tests;
