//! The wire: what Server-Sent Events look like as bytes, going out to clients and coming in from
//! publishers (HTML standard, 9.2 "Server-sent events").
//!
//! Pure code over byte slices, called by every room that reads or writes an event. It knows no
//! nginx, no hub and no clock, and it never lets a byte that a publisher or a client chose begin
//! a line of its own on the wire.

// Here are bytes that others chose.
#![warn(clippy::indexing_slicing)]

pub mod batch;
pub mod channel;
pub mod data;
pub mod escaped;
pub mod event_type;
pub mod frame;
pub mod header_names;
pub mod id;
pub mod origin;
pub mod pattern;

mod lines;
#[cfg(test)]
mod tests;
