//! Targets of the layer `redis`: everything that a Redis, or anybody who may write to it, can send.

pub mod redis_bounds;
pub mod redis_message;
pub mod redis_names;
pub mod redis_order;
pub mod redis_replies;
pub mod redis_url;
pub mod stream_counter;
