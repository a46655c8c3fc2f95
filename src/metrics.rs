//! What the module tells of itself in figures, and the faces that these have: JSON, Prometheus'
//! text format, and a page for people.
//!
//! `http::status` reads the hubs' counters and hands them in; nothing here reads a clock, a hub or a
//! request. No face names a channel or shows an event.
//!
//! # Layout
//!
//! - `table`: every figure with its names and its meaning; JSON and Prometheus are made of it
//! - `json`, `prometheus`, `page`: the faces
//! - `face`: which of them a request asks for

mod format;
mod json;
mod page;
mod prometheus;
mod table;

pub use format::{Format, UnknownFormat};
pub use json::{json, JSON};
pub use page::{HTML, PAGE, PAGE_POLICY};
pub use prometheus::{prometheus, PROMETHEUS};

use crate::hub::Stats;

/// A hub's figures at one moment.
#[derive(Clone, Debug)]
pub struct HubFigures {
    /// The hub's name.
    pub name: String,
    /// Its counters.
    pub stats: Stats,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
