//! Joins channels in Redis: subscribes to them, where messages or notifications of them are needed.
//!
//! What they lack is read afterwards and on another connection (`session::catch_up_queue`): Redis closes the
//! connection of a subscriber whose output piles up, and history may be large.

use std::rc::Rc;

use ::redis::aio::MultiplexedConnection;
use ::redis::RedisError;

use crate::hub::{pattern_of, SyncState};
use crate::redis::context::HubContext;

/// A channel that is to be joined, and how far it has been followed.
pub type WantedChannel = (Box<[u8]>, SyncState);

/// Whether channels are subscribed to before their history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribe {
    First,
    /// Their streams are read instead.
    Not,
}

/// Channels that could not be joined, and why.
#[derive(Default)]
pub struct RefusedChannels {
    pub names: Vec<Box<[u8]>>,
    pub why: Option<String>,
}

/// Joins channels on a connection.
pub struct Joining {
    pub joined: Rc<HubContext>,
    pub subscriber: MultiplexedConnection,
    pub subscribe: Subscribe,
}

impl Joining {
    /// Subscribes, and waits for the confirmation. Returns the channels that are subscribed to now, and those
    /// that the user may not subscribe to. Redis refuses the whole command for one forbidden name, so the
    /// command is halved then.
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
