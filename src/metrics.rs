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
//! - `health`: the answer to a load balancer's check
//! - `format`: which format a request asks for

mod format;
mod health;
mod json;
mod page;
mod prometheus;
mod table;

pub use format::{Format, UnknownFormat};
pub use health::{Health, TEXT};
pub use json::{json, JSON};
pub use page::{HTML, PAGE, PAGE_POLICY};
pub use prometheus::{prometheus, PROMETHEUS};

use crate::hub::Stats;
use std::fmt::{self, Display};

/// A hub's figures at one moment.
#[derive(Clone, Debug)]
pub struct HubFigures {
    /// The hub's name.
    pub name: String,
    /// Its counters.
    pub stats: Stats,
}

/// A time in microseconds, written in seconds without trailing zeros.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
