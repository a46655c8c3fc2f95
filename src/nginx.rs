//! nginx, behind safe interfaces: the only room, but for the hub's few accesses to shared memory,
//! in which `unsafe` may stand.
//!
//! `conf` and `http` are written against what is here and see no pointer of nginx. Every function
//! that nginx calls is in this room and lets no panic pass into C (`guard`). nginx runs a worker on
//! one thread, and all that is here is used on that thread alone.
#![allow(unsafe_code)]

mod bits;
pub mod body;
pub mod clock;
pub mod complex_value;
pub mod conf_context;
pub mod conf_error;
mod content_handler;
pub mod core_conf;
pub mod deferred;
pub mod directive;
pub mod event;
pub mod eventfd;
mod filter;
pub mod log;
pub mod output;
pub mod pool;
pub mod random;
pub mod request;
pub mod response;
pub mod thread;
pub mod top_level;
#[cfg(feature = "trace-blocking")]
pub mod turns;
pub mod variable;
pub mod wakers;
pub mod zone;

mod guard;
mod macros;
pub mod module;
mod this_module;
mod typed;
