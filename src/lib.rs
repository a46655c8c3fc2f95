//! nginx-sse: an nginx dynamic module that makes nginx itself the push server for Server-Sent
//! Events.
//!
//! # How an event travels
//!
//! ```text
//! publisher                                       every worker process               client
//! POST /publish ──> http ──> hub.append ──> (bell) ──> worker ──> stream ──> socket
//!                            shared memory             streams by channel
//!                            the one log
//! ```
//!
//! 1. Everything enters the hub: the only place where an event gets its place in the order.
//! 2. The hub's bells wake the processes that have streams of the channel, those that drain after a
//!    reload included. Each reads the event once, frames it once, and shares the frame.
//! 3. A stream is a cursor into the log, not a queue. Replay, catching up and live delivery are one
//!    loop.
//! 4. There is one way out: whatever ends a stream, the cleanup of its request takes it away.
//!
//! # Layout
//!
//! - [`sse`]: the wire: events, ids, frames, what publishers send. Pure.
//! - [`hub`]: the log in shared memory. Pure, over a region of words.
//! - [`worker`]: one process's streams and the loop that serves them. Pure, over a socket trait.
//! - `http`: the content handlers of streams, publishing and status.
//! - `conf`: the directives, and what they resolve to.
//! - `nginx`: thin safe wrappers of nginx. With the hub's memory and lock, all that is `unsafe`.
//!
//! Arrows point one way: `http` and `conf` know `worker`, `worker` knows `hub` and `sse`. The rooms
//! that touch nginx are not part of test builds: nginx's symbols do not link into a test program.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, unused_must_use)]
#![warn(missing_docs)]

pub mod hub;
pub mod sse;
pub mod worker;
