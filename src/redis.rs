//! Redis, through which a hub shares events with other nginx instances and with publishers in any
//! language.
//!
//! All of this runs on one thread of a worker process, beside nginx's own, which it never touches:
//! it appends to the hub itself, and wakes the workers. The crate `redis` provides only the
//! connection and the codec: this module decides when to connect, what to subscribe to, and what an
//! error means.
//! - `thread`, `context`: the thread, the hubs that it serves, and its messages to nginx's event
//!   loop
//! - `supervisor`: which process holds a hub's subscription, and for how long; `wakes`: what wakes
//!   the thread
//! - `session`: one connection of the process that holds the subscription
//! - `subscribe`, `subscription_table`: subscribing, and what a connection is subscribed to
//! - `catch_up`, `fetcher`, `entry`, `watermarks`: reads what a stream has, page by page;
//!   `entry_counter`: whether entries were removed before they were read
//! - `inbox`, `message`, `buffered_message`, `waiting`: messages as they arrive, and those that
//!   wait until their channel has caught up; `message_order`, `ordered_event`: check their order
//! - `publisher`, `script`: publish durable events; `limits`: the largest values that Redis accepts
//! - `token`: the secret that authenticates durable events
//! - `address`, `keys`: the URL of `redis`, and the names of keys and channels, which publishers
//!   use
//! - `link`, `backoff`: a connection to the node that holds the hub, and when to try again
//! - `log_limit`: how often a problem is logged that recurs

pub mod address;
pub mod context;
pub mod keys;
pub mod publisher;
pub mod refusal;
pub mod script;
pub mod thread;

mod backoff;
mod buffered_message;
mod catch_up;
mod ended;
mod entry;
mod entry_counter;
mod fetcher;
mod inbox;
mod limits;
mod link;
mod log_limit;
mod message;
mod message_order;
mod ordered_event;
mod phase;
mod session;
mod stream_page;
mod subscribe;
mod subscription_table;
mod supervisor;
mod task;
mod token;
mod waiting;
mod wakes;
mod watermarks;

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
#[path = "../fuzz/targets/redis/mod.rs"]
pub mod fuzz;
