//! Redis: what a hub shares with other nginxes and with publishers in any language.
//!
//! `redis` is the connection and the codec, no more: when to connect, what to subscribe to and what
//! an error means is decided in this room. It knows `hub` and `sse`, and nothing of nginx.
//!
//! - `address`: the URL of `redis`
//! - `names`: keys and channels in Redis, which publishers rely on
//! - `message`: what arrives, plain messages, durable events and entries of streams
//! - `script`: publishing durable events
//! - `link`: a connection to the node that holds the hub

pub mod address;
pub mod link;
pub mod message;
pub mod names;
pub mod script;
