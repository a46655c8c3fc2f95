//! Targets of the layer `hub`.

pub mod handover;
pub mod hub;
pub mod last_event_id;
pub mod memory;
