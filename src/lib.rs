//! An nginx module that turns nginx itself into the push server: Server-Sent Events, from a hub in
//! memory that all of its worker processes share.
//!
//! # How an event travels
//!
//! ```text
//! publisher                                   every process of nginx                   client
//! POST /publish ──> http/publish ──┬──> hub ──> (wake) ──> worker ──> stream ──> socket
//! Redis ──> redis, a thread ───────┘    shared memory      this process's streams
//! ```
//!
//! 1. `http::publish` checks what came and hands it to the hub, the one log in which an event gets
//!    its place. Answered means: it is in the log, and on its way to every client. Where the hub is
//!    joined to Redis it asks that, and the event comes back as all others do from there: through the
//!    thread of the one process that subscribes, which appends to the same log.
//! 2. The hub says which processes listen to the channel, and wakes them: an eventfd for each process,
//!    in nginx's own event loop.
//! 3. The worker of such a process reads each new event once, frames it once, and gives the frame
//!    to its streams. A stream is a cursor into the log, not a queue: what a client still has to get
//!    is what lies behind its cursor. History, catching up and live delivery are one loop.
//! 4. A frame goes to the client through nginx's filters, or past them where they would leave it as
//!    it is. What the socket does not take waits in the log.
//! 5. Whatever ends a stream, its request's end takes it out of the worker, and nothing else does.
//!
//! # Layers
//!
//! - `module`: the module's tables and exported symbols; it knows `http`, `process`, `conf`, and `nginx`
//! - `http`: answers requests
//! - `process`: the event loop's side: the workers of this process, its streams, and the Redis thread
//! - `conf`: directives and what they resolve to
//! - `nginx`: all that touches nginx's own structures
//! - `worker`: one process's streams of one hub, served in bounded turns
//! - `redis`: the thread that connects hubs to Redis
//! - `metrics`: the figures of hubs, and the formats in which they are served
//! - `hub`: the log in shared memory: channels, history, slots of processes
//! - `sse`: the wire format: events, ids, frames, what publishers send
//!
//! Each layer uses only those below it, and no file imports another in a circle
//! (`scripts/check-structure`). From `worker` down nothing names nginx, so those tests run without it; the
//! layers above are left out of a test binary, into which nginx's symbols do not link.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, unused_must_use)]
#![warn(missing_docs)]

#[cfg(feature = "trace-blocking")]
pub mod blocking;
pub mod hub;
pub mod metrics;
pub mod redis;
pub mod sse;
pub mod worker;

#[cfg(not(test))]
mod conf;
#[cfg(not(test))]
mod http;
#[cfg(not(test))]
mod module;
#[cfg(not(test))]
mod nginx;
#[cfg(not(test))]
mod process;

#[cfg(test)]
#[path = "../build/layout_tests.rs"]
mod layout_tests;

#[cfg(test)]
#[path = "nginx/zone/size.rs"]
mod zone_size;
