//! Redis: what a hub shares with other nginxes and with publishers in any language.
//!
//! All of it runs in one thread of a worker process, beside nginx's own, which it never touches: it
//! appends to the hub itself, and the workers learn of that by their wakers. The crate `redis` is the
//! connection and the codec, no more: when to connect, what to subscribe to and what an error means is
//! decided in this room. It knows `hub` and `sse`, and nothing of nginx.
//!
//! - `thread`, `joined`: the thread, its hubs, and what it gives back
//! - `bridge`: which process holds a hub's subscription, and for how long; `wakes`: what wakes the thread
//! - `session`, `opening`, `subscriptions`, `leaving`, `channels`: one connection, and what it is subscribed to
//! - `clock`: the numbers of events come from there
//! - `joining`: subscribing to channels; `catching`, `catch_up`, `fetcher`: what is fetched of them, when
//!   and how much at a time; `inbox`, `held`, `waiting`, `sequence`, `intake`: how messages become events
//! - `streams`, `fallen`: reading the streams that applications write (`redis_source stream`), and
//!   noticing that one was begun anew
//! - `retiring`, `takeover`: the subscription goes from one process to another, without a loss
//! - `publisher`, `script`: publishing durable events; `limits`: what Redis takes at most
//! - `token`, `strays`: how messages of the publish script are known, and what becomes of doubtful ones
//! - `address`, `names`: the URL of `redis`; keys and channels, which publishers rely on
//! - `message`: what arrives, plain messages, durable events and entries of streams
//! - `link`, `backoff`: a connection to the node that holds the hub, and when to try again

pub mod address;
pub mod joined;
pub mod names;
pub mod publisher;
pub mod script;
pub mod thread;

mod backoff;
mod bridge;
mod catch_up;
mod catching;
mod channels;
mod clock;
mod doubts;
mod fallen;
mod fetcher;
mod forgetting;
mod heartbeat;
mod held;
mod inbox;
mod intake;
mod joining;
mod leaving;
mod limits;
mod link;
mod message;
mod opening;
mod retiring;
mod sequence;
mod session;
mod strays;
mod streams;
mod subscriptions;
mod takeover;
mod task;
mod token;
mod waiting;
mod wakes;
mod watermarks;
