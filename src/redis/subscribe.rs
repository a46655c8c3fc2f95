//! Subscribes to channels in Redis, if their messages or keyspace notifications are needed.
//!
//! Their history is read afterwards, on another connection (`session::catch_up_queue`): it may be
//! large, and Redis closes the connection of a subscriber whose output buffer grows too large.

use std::rc::Rc;

use crate::hub::{pattern_of, SyncState};
use crate::redis::context::HubContext;
use crate::redis::link::{Link, Unanswered};

/// A channel to subscribe to, and what the hub knows about it.
pub type WantedChannel = (Box<[u8]>, SyncState);

/// Whether channels are subscribed to before their history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribe {
    First,
    /// Their streams are read instead.
    Not,
}

/// Channels that could not be subscribed to, and the reason.
#[derive(Default)]
pub struct RefusedChannels {
    pub names: Vec<Box<[u8]>>,
    pub why: Option<String>,
}

/// Subscribes to channels on a connection.
pub struct ChannelSubscriber {
    pub context: Rc<HubContext>,
    pub subscriber: Link,
    pub subscribe: Subscribe,
}

impl ChannelSubscriber {
    /// Subscribes to channels, and waits for the confirmation. Returns those that are subscribed to
    /// now, and those for which the user has no permission. Redis rejects the whole command for one
    /// forbidden name, so it is then split into halves.
    pub async fn subscribe(
        &self,
        some: Vec<WantedChannel>,
    ) -> Result<(Vec<WantedChannel>, RefusedChannels), Unanswered> {
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
                some.iter().map(|(name, _)| self.context.subject(name)).collect();
            let is_pattern = pattern_of(first).is_some();
            let reply = self.subscriber.reply(async |connection| {
                if is_pattern {
                    connection.psubscribe(&subjects).await
                } else {
                    connection.subscribe(&subjects).await
                }
            });
            match reply.await {
                Ok(()) => yes.append(&mut some),
                Err(Unanswered::Stalled) => return Err(Unanswered::Stalled),
                Err(Unanswered::Failed(error)) if error.code() != Some("NOPERM") => {
                    return Err(Unanswered::Failed(error));
                }
                Err(_) if some.len() > 1 => {
                    let half = some.split_off(some.len() / 2);
                    left.push(some);
                    left.push(half);
                }
                Err(_) => {
                    no.why
                        .get_or_insert("the user has no permission to subscribe to it".to_owned());
                    no.names.extend(some.into_iter().map(|(name, _)| name));
                }
            }
        }
        Ok((yes, no))
    }
}
