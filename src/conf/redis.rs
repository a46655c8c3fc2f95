//! `redis`, `redis_source` and `redis_prefix` in an `sse_hub` block: how a hub is connected to
//! Redis.

use super::argument::once;
use crate::hub;
use crate::nginx::conf_error::ConfError;
use crate::redis::address::{Address, Topology};
use crate::redis::keys::{check_prefix, Keys};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How a hub is connected to Redis.
#[derive(Debug)]
pub struct RedisConf {
    pub address: Address,
    pub names: Keys,
    /// Where the hub's events come from; never `Alone`.
    pub source: hub::Source,
    /// Part of the zone's name, so that another Redis, prefix, or source starts an empty hub.
    pub identity: u64,
}

/// The directives of the block while it is parsed.
#[derive(Default)]
pub struct RedisBlock {
    address: Option<Address>,
    source: Option<hub::Source>,
    prefix: Option<String>,
}

impl RedisBlock {
    /// `redis URL;` Errors repeat no part of the URL, which may contain a password.
    pub fn set_address(&mut self, argument: &[u8]) -> Result<(), ConfError> {
        let text = std::str::from_utf8(argument)
            .map_err(|_| ConfError::message("invalid URL in \"redis\": it is not UTF-8"))?;
        let address = Address::parse(text).map_err(|error| {
            ConfError::message(format_args!("invalid URL in \"redis\": {error}"))
        })?;
        once(&mut self.address, address)
    }

    /// `redis_source pubsub | stream;`
    pub fn set_source(&mut self, argument: &[u8]) -> Result<(), ConfError> {
        let source = match argument {
            b"pubsub" => hub::Source::PubSub,
            b"stream" => hub::Source::Streams,
            other => return Err(ConfError::invalid(other)),
        };
        once(&mut self.source, source)
    }

    /// `redis_prefix STRING;`
    pub fn set_prefix(&mut self, argument: &[u8]) -> Result<(), ConfError> {
        let invalid = |why: &dyn std::fmt::Display| {
            ConfError::message(format_args!(
                "invalid prefix \"{}\" in \"redis_prefix\": {why}",
                argument.escape_ascii()
            ))
        };
        let text = std::str::from_utf8(argument).map_err(|_| invalid(&"it is not UTF-8"))?;
        check_prefix(text).map_err(|error| invalid(&error))?;
        once(&mut self.prefix, text.to_owned())
    }

    /// Checks the directives as a whole. Returns `None` if the hub is not connected to Redis.
    pub fn finish(self) -> Result<Option<RedisConf>, ConfError> {
        let Some(address) = self.address else {
            let name = match (&self.source, &self.prefix) {
                (Some(_), _) => "redis_source",
                (None, Some(_)) => "redis_prefix",
                (None, None) => return Ok(None),
            };
            return Err(ConfError::message(format_args!("\"{name}\" needs \"redis\"")));
        };
        let prefix = self.prefix.unwrap_or_default();
        let source = self.source.unwrap_or(hub::Source::PubSub);
        if source == hub::Source::Streams && matches!(address.topology, Topology::Cluster(_)) {
            return Err(ConfError::message(
                "\"redis_source stream\" cannot be used with Redis Cluster, which spreads channels \
                 over several servers",
            ));
        }
        let mut hasher = DefaultHasher::new();
        (address.identity(), &prefix, source == hub::Source::Streams).hash(&mut hasher);
        let identity = hasher.finish();
        Ok(Some(RedisConf { address, names: Keys::new(&prefix), source, identity }))
    }
}
