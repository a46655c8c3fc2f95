//! An nginx module that turns nginx itself into a push server: Server-Sent Events from a hub in
//! memory that all worker processes share.
//!
//! # How an event travels
//!
//! ```text
//! publisher                                   every process of nginx                   client
//! POST /publish ──> http/publish ──┬──> hub ──> (wake) ──> worker ──> stream ──> socket
//! Redis ──> redis, a thread ───────┘    shared memory      this process's streams
//! ```
//!
//! 1. `http::publish` validates the request and passes the event to the hub, the single log that
//!    gives each event its position. A successful response means that the event is in the log and
//!    on its way to every client. If the hub is connected to Redis, the event is published in Redis
//!    instead and comes back like all other events from there: through the thread of the one
//!    process that subscribes, which appends to the same log.
//! 2. The hub knows which processes listen to the channel and wakes them: each process has an
//!    eventfd in nginx's own event loop.
//! 3. The worker of such a process reads each new event once, frames it once, and passes the frame
//!    to its streams. A stream is a cursor into the log, not a queue: the events behind its cursor
//!    are what the client still has to receive. History, catching up, and live delivery are one
//!    loop.
//! 4. A frame goes to the client through nginx's filters, or past them where they would not change
//!    it. Whatever the socket does not accept stays in the log.
//! 5. A stream leaves the worker when its response is complete or its request ends, and in no other
//!    way.
//!
//! # Layers
//!
//! - `module`: the module's tables and exported symbols; it uses `http`, `process`, `conf`, and
//!   `nginx`
//! - `http`: answers requests
//! - `process`: the event loop's side: this process's workers, its streams, and the Redis thread
//! - `conf`: directives and what they resolve to
//! - `nginx`: everything that touches nginx's own structures
//! - `worker`: one process's streams of one hub, served in bounded turns
//! - `redis`: the thread that connects hubs to Redis
//! - `metrics`: the hubs' figures and the formats in which they are served
//! - `hub`: the log in shared memory: channels, history, and the slots of processes
//! - `access`: tokens, the keys that verify them, and what their claims allow
//! - `sse`: the wire format: events, ids, frames, and what publishers send
//!
//! Each layer uses only those below it, and no two files import each other in a circle
//! (`scripts/check-structure`). From `worker` down nothing refers to nginx, so those tests run
//! without it. The layers above are left out of test binaries and of the fuzz targets (`fuzz/`),
//! which cannot link nginx's symbols.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, unused_must_use)]
#![cfg_attr(not(any(fuzzing, loom)), warn(missing_docs))]

#[cfg(not(loom))]
pub mod access;
#[cfg(feature = "trace-blocking")]
pub mod blocking;
pub mod hub;
#[cfg(not(loom))]
pub mod metrics;
#[cfg(not(loom))]
pub mod redis;
pub mod sse;
#[cfg(not(loom))]
pub mod worker;

#[cfg(not(any(test, fuzzing, loom)))]
mod conf;
#[cfg(not(any(test, fuzzing, loom)))]
mod http;
#[cfg(not(any(test, fuzzing, loom)))]
mod module;
#[cfg(not(any(test, fuzzing, loom)))]
mod nginx;
#[cfg(not(any(test, fuzzing, loom)))]
mod process;

#[cfg(fuzzing)]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzz;

#[cfg(test)]
#[path = "../build/layout_tests.rs"]
mod layout_tests;

#[cfg(test)]
#[path = "nginx/zone/size.rs"]
mod zone_size;
