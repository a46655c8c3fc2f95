//! Channels that are left because they have no listeners any more, or because Redis rejects the
//! subscription.

use crate::hub::{pattern_of, shown, ReportedId};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::session::Session;
use crate::redis::subscribe::{RefusedChannels, Subscribe};
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::sse::escaped::Escaped;

/// How long a channel without listeners stays subscribed, in ms.
const GRACE: u64 = 10_000;
/// How long to wait before a rejected subscription is retried, in ms, and how many are retried per
/// second.
const RETRY: u64 = 3_000;
const RETRIED: usize = 100;

impl Session {
    /// Handles channels that cannot be subscribed to or read at present.
    pub(in crate::redis) async fn refuse(&mut self, refused: RefusedChannels) -> Result<(), Ended> {
        let until = self.context.now().mono + RETRY;
        if let (Some(first), Some(why), false) =
            (refused.names.first(), &refused.why, self.refusal_logged)
        {
            self.refusal_logged = true;
            let others = match refused.names.len() {
                1 => String::new(),
                2 => " and another one".to_owned(),
                count => format!(" and {} others", count - 1),
            };
            self.context.log(
                LogLevel::Warn,
                format_args!(
                    "cannot receive channel \"{}\"{others} from Redis: {why}",
                    Escaped(shown(first)),
                ),
            );
        }
        for name in refused.names {
            self.set_unavailable(&name).await?;
            if self.has_waiting(&name) {
                // Streams of patterns would miss the waiting messages, too.
                self.note_dropped(&name);
            }
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.forgotten = ReportedId::default();
                channel.state = SubscriptionState::Refused { until };
            }
            self.note_settled(&name).await?;
        }
        Ok(())
    }

    fn has_waiting(&self, name: &[u8]) -> bool {
        let channel = self.channels.get(name);
        channel.is_some_and(|channel| match &channel.state {
            SubscriptionState::CatchingUp(waiting) => waiting.has_had_any(),
            SubscriptionState::Requested
            | SubscriptionState::InSync
            | SubscriptionState::Refused { .. } => false,
        })
    }

    /// Subscribes again to channels that were rejected a while ago.
    pub(in crate::redis) async fn retry_refused(&mut self) -> Result<(), Ended> {
        if self.is_frozen() {
            return Ok(());
        }
        let now = self.context.now().mono;
        let due = |channel: &FollowedChannel| match channel.state {
            SubscriptionState::Refused { until } => until <= now,
            _ => false,
        };
        let names: Vec<Vec<u8>> = self
            .channels
            .iter_mut()
            .filter(|(_, channel)| due(channel))
            .take(RETRIED)
            .map(|(name, _)| name.to_vec())
            .collect();
        for name in &names {
            self.channels.remove(&name[..]);
        }
        self.want(names).await
    }

    /// Leaves channels that have had no listeners for a while.
    pub(in crate::redis) fn leave_unused(&mut self) -> Result<(), Ended> {
        if self.is_frozen() {
            return Ok(());
        }
        let (hub, fence, now) =
            (self.context.hub.clone(), self.holder.fence, self.context.now().mono);
        let mut left = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if matches!(
                channel.state,
                SubscriptionState::Requested | SubscriptionState::CatchingUp(_)
            ) {
                continue;
            }
            // If the lock is not available, try again in a second.
            let Ok(has_listeners) = hub.is_subscribed(channel.member) else { break };
            if has_listeners {
                channel.quiet = None;
            } else if now.saturating_sub(*channel.quiet.get_or_insert(now)) >= GRACE {
                match hub.leave_unsubscribed(fence, channel.member) {
                    Ok(true) => left.push(name.clone()),
                    Ok(false) => channel.quiet = None,
                    Err(crate::hub::LeaseError::Busy(_)) => {}
                    Err(crate::hub::LeaseError::Fenced) => return Err(Ended::Fenced),
                }
            }
        }
        for name in &left {
            self.channels.remove(name);
        }
        self.unsubscribe(left);
        Ok(())
    }

    fn unsubscribe(&self, names: Vec<Box<[u8]>>) {
        if names.is_empty() || self.subscribe == Subscribe::Not {
            return;
        }
        let mut connection = self.link.connection.clone();
        let (patterns, channels): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| pattern_of(name).is_some());
        let subjects = |names: Vec<&Box<[u8]>>| -> Vec<Vec<u8>> {
            names.iter().map(|name| self.context.subject(name)).collect()
        };
        let (patterns, channels) = (subjects(patterns), subjects(channels));
        tokio::task::spawn_local(async move {
            // Both commands are sent at once, before any later subscription: otherwise,
            // a channel that is requested again would be unsubscribed afterwards. If
            // the connection fails, the session ends anyway.
            let mut same = connection.clone();
            let leave = |subjects: &Vec<Vec<u8>>| !subjects.is_empty();
            let _ = tokio::join!(
                async {
                    if leave(&channels) {
                        connection.unsubscribe(&channels).await
                    } else {
                        Ok(())
                    }
                },
                async {
                    if leave(&patterns) {
                        same.punsubscribe(&patterns).await
                    } else {
                        Ok(())
                    }
                },
            );
        });
    }
}
