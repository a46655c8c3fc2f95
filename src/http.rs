//! What answers requests: streams, publishing, status, administration, pages of other origins; and
//! the process in which they meet.
//!
//! Called by nginx through `nginx`; knows `conf` and `worker`, and nobody knows it but the tables
//! of the module.

pub mod admin;
pub mod asked;
pub mod cors;
pub mod deletion;
pub mod json;
pub mod process;
pub mod publish;
pub mod redis;
pub mod status;
pub mod stream;
pub mod variables;
