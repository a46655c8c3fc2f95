//! The module's figures, and the formats in which they are served: JSON, Prometheus' text format,
//! and a page for people.
//!
//! `http::status` reads the hubs' counters and passes them in; nothing here reads a clock, a hub,
//! or a request. No format reveals a channel's name or an event.
//!
//! # Layout
//!
//! - `table`: every figure with its names and its meaning; JSON and Prometheus are generated from
//!   it
//! - `json`, `prometheus`, `page`: the formats
//! - `format`: which format a request asks for

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
