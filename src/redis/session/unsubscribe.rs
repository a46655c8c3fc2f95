//! Channels that are left: because nobody listens any more, or because Redis does not give them.

use crate::hub::{pattern_of, shown, ReportedId, SyncState};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::session::Session;
use crate::redis::subscribe::{RefusedChannels, Subscribe};
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::sse::escaped::Escaped;

/// How long a channel without listeners stays subscribed, in ms.
const GRACE: u64 = 10_000;
/// How long after a refusal a channel is asked for again, in ms, and how many are in a second.
const RETRY: u64 = 3_000;
const RETRIED: usize = 100;

impl Session {
    /// Channels that cannot be had for now.
    pub(in crate::redis) async fn refuse(&mut self, refused: RefusedChannels) -> Result<(), Ended> {
        let until = self.joined.now().mono + RETRY;
        if let (Some(first), Some(why), false) =
            (refused.names.first(), &refused.why, self.told_refused)
        {
            self.told_refused = true;
            let others = refused.names.len() - 1;
            self.joined.log(
                LogLevel::Warn,
                format_args!(
                    "channel \"{}\" cannot be had from Redis, nor can {others} others: {why}",
                    Escaped(shown(first)),
                ),
            );
        }
        for name in refused.names {
            self.note_gone_on(&name).await?;
            if self.has_waiting(&name) {
                // It waits for streams of patterns as well, and nobody brings it again.
                self.pass_over(&name);
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
            SubscriptionState::Joining(waiting) => waiting.has_had_any(),
            SubscriptionState::Asked
            | SubscriptionState::InStep
            | SubscriptionState::Refused { .. } => false,
        })
    }

    /// If streams of a channel that cannot be had go on, the hub knows so until it has been caught up.
    async fn note_gone_on(&self, name: &[u8]) -> Result<(), Ended> {
        let Some(member) = self.channels.get(name).map(|channel| channel.member) else {
            return Ok(());
        };
        let (hub, fence) = (&self.joined.hub, self.tenant.fence);
        match self.with_lock(|| hub.sync_state(member)).await? {
            SyncState::Interrupted(_) => {
                self.with_lock(|| hub.set_out_of_sync(fence, member)).await
            }
            SyncState::Nothing | SyncState::Left(_) => Ok(()),
        }
    }

    /// Asks again for channels that were refused a while ago.
    pub(in crate::redis) async fn retry_refused(&mut self) -> Result<(), Ended> {
        let now = self.joined.now().mono;
        let due = |channel: &FollowedChannel| matches!(channel.state, SubscriptionState::Refused { until } if until <= now);
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

    /// Leaves channels that nobody has listened to for a while.
    pub(in crate::redis) fn leave_quiet(&mut self) -> Result<(), Ended> {
        if self.is_frozen() {
            return Ok(());
        }
        let (hub, fence, now) =
            (self.joined.hub.clone(), self.tenant.fence, self.joined.now().mono);
        let mut left = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if matches!(channel.state, SubscriptionState::Asked | SubscriptionState::Joining(_)) {
                continue;
            }
            // A lock that is not to be had now is to be had in a second.
            let Ok(heard) = hub.is_subscribed(channel.member) else { break };
            if heard {
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
            names.iter().map(|name| self.joined.subject(name)).collect()
        };
        let (patterns, channels) = (subjects(patterns), subjects(channels));
        tokio::task::spawn_local(async move {
            // Both go out at once, before anything that is subscribed to afterwards: else a channel that is
            // wanted again would be left after that. A connection that fails tells so itself.
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
