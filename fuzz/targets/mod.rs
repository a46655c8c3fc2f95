//! Fuzz targets: one function for each parser and each state machine that sees untrusted bytes.
//!
//! Each target takes any bytes and panics if a property does not hold. Those that need private
//! parts of a layer are in `redis/` and `hub/`, and are modules of that layer.

pub mod batch;
pub mod channel_names;
pub mod event;
pub mod header_names;
pub mod id;
pub mod input;
pub mod key_file;
pub mod origin;
pub mod pattern;
pub mod publish_parameters;
pub mod timestamp;
pub mod token;
pub mod token_source;
