//! The event type that the directive or the publisher sets.

use super::refusal::{no_memory, PublishRefusal};
use crate::conf;
use crate::nginx::request::Request;
use crate::sse::{batch, event_type};

/// The event type that the directive or the request sets.
pub enum EventType {
    /// From the directive. Overrides the types of a batch.
    Fixed(Vec<u8>),
    /// From the publisher. Applies to events without a type of their own.
    Default(Vec<u8>),
}

impl EventType {
    /// Returns the type.
    pub fn text(&self) -> &[u8] {
        match self {
            EventType::Fixed(text) | EventType::Default(text) => text,
        }
    }

    /// Returns the type of an event of a batch.
    pub fn for_item<'a>(&'a self, item: &'a batch::Item) -> &'a [u8] {
        match self {
            EventType::Default(_) if !item.event_type.is_empty() => &item.event_type,
            EventType::Fixed(text) | EventType::Default(text) => text,
        }
    }
}

/// Determines and checks the event type of a request.
pub fn event_type(
    request: &Request,
    conf: &conf::PublishHandler,
) -> Result<EventType, PublishRefusal> {
    let given = match &conf.event {
        Some(value) => EventType::Fixed(value.evaluate(request).ok_or_else(no_memory)?.to_vec()),
        None => {
            let argument = request.argument("event").unwrap_or_default();
            EventType::Default(percent_encoding::percent_decode(argument).collect())
        }
    };
    event_type::check(given.text()).map_err(PublishRefusal::bad)?;
    Ok(given)
}
