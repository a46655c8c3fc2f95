//! Channels are joined in Redis: subscribed to, where messages or news of them are to come.
//!
//! What they lack is fetched afterwards and on another connection, see `catching`: Redis ends the
//! connection of a subscriber whose answers pile up, and history may be large.

use std::rc::Rc;

use ::redis::aio::MultiplexedConnection;
use ::redis::RedisError;

use crate::hub::{pattern_of, SyncState};
use crate::redis::context::HubContext;

/// A channel that is to be joined, and what is known of it.
pub type WantedChannel = (Box<[u8]>, SyncState);

/// Whether channels are to be subscribed to before they are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribe {
    First,
    /// Their streams are read instead.
    Not,
}

/// Channels that cannot be had, and why.
#[derive(Default)]
pub struct RefusedChannels {
    pub names: Vec<Box<[u8]>>,
    pub why: Option<String>,
}

/// What is needed to join channels.
pub struct Joining {
    pub joined: Rc<HubContext>,
    pub subscriber: MultiplexedConnection,
    pub subscribe: Subscribe,
}

impl Joining {
    /// Subscribes, and waits for the confirmation: which channels are subscribed to now, and which the
    /// user may not. One name that is forbidden has Redis refuse the whole command, so it is halved
    /// then.
    pub async fn allowed(
        &mut self,
        some: Vec<WantedChannel>,
    ) -> Result<(Vec<WantedChannel>, RefusedChannels), RedisError> {
        if self.subscribe == Subscribe::Not {
            return Ok((some, RefusedChannels::default()));
        }
        let (mut yes, mut no) = (Vec::new(), RefusedChannels::default());
        let (patterns, channels): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        let mut left = vec![patterns, channels];
        while let Some(mut some) = left.pop() {
            let Some((first, _)) = some.first() else { continue };
            let subjects: Vec<Vec<u8>> =
                some.iter().map(|(name, _)| self.joined.subject(name)).collect();
            let answer = match pattern_of(first) {
                Some(_) => self.subscriber.psubscribe(&subjects).await,
                None => self.subscriber.subscribe(&subjects).await,
            };
            match answer {
                Ok(()) => yes.append(&mut some),
                Err(error) if error.code() != Some("NOPERM") => return Err(error),
                Err(_) if some.len() > 1 => {
                    let half = some.split_off(some.len() / 2);
                    left.push(some);
                    left.push(half);
                }
                Err(_) => {
                    no.why.get_or_insert("its user may not subscribe to it".to_owned());
                    no.names.extend(some.into_iter().map(|(name, _)| name));
                }
            }
        }
        Ok((yes, no))
    }
}
