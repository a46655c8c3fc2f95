//! Safe interfaces to nginx. `unsafe` code is used only here, in `crate::module` for the exported
//! statics, and for the hub's shared memory.
//!
//! `conf`, `http`, and `process` use these interfaces and do not handle pointers of nginx. Every
//! function that nginx calls is in this module and stops panics before they reach C (`guard`).
//! nginx runs a worker on one thread, and everything here is used on that thread only.
#![allow(unsafe_code)]

mod bits;
pub mod body;
pub mod clock;
pub mod complex_value;
pub mod conf_context;
pub mod conf_error;
mod content_handler;
mod content_type_filter;
pub mod core_conf;
pub mod deferred;
pub mod directive;
pub mod event;
pub mod eventfd;
pub mod log;
mod masked_argument;
pub mod module_file;
pub mod output;
#[cfg(feature = "sanitized")]
mod planted;
pub mod pool;
pub mod random;
pub mod request;
mod request_data;
pub mod response;
pub mod thread;
pub mod top_level;
#[cfg(feature = "trace-blocking")]
pub mod turns;
pub mod upstream;
pub mod variable;
pub mod wakers;
pub mod zone;

mod guard;
mod header_filter;
mod macros;
pub mod module;
mod this_module;
mod typed;
