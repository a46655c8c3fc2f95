//! Records in the hub which channels are catching up, and which are not available, so that streams
//! of several channels wait for the former. Streams of patterns wait for the channels that they
//! match, except for those that are subscribed to for the first time.

use std::collections::HashSet;

use crate::hub::{pattern_of, Loss, ReportedId, SyncState};
use crate::redis::ended::Ended;
use crate::redis::session::Session;
use crate::redis::subscription_table::SubscriptionState;
use crate::sse::pattern::matches;

/// If more channels are catching up, streams of all patterns that wait go on waiting.
const COMPARED: usize = 64;

/// The channels that are catching up although their streams were in sync, and the patterns whose
/// streams wait for them.
#[derive(Default)]
pub struct Interruptions {
    channels: HashSet<Box<[u8]>>,
    patterns: HashSet<Box<[u8]>>,
}

impl Interruptions {
    /// Returns whether streams of a pattern have to wait.
    fn holds(&self, pattern: &[u8]) -> bool {
        self.channels.len() > COMPARED || self.channels.iter().any(|name| matches(pattern, name))
    }
}

impl Session {
    /// Records that a channel that was in sync is not any more.
    pub(in crate::redis) async fn set_out_of_sync(&mut self, name: &[u8]) -> Result<(), Ended> {
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        let (member, context, fence) = (channel.member, self.context.clone(), self.holder.fence);
        let listeners = self.with_lock(|| context.hub.interrupt(fence, member)).await?;
        context.wake(&listeners);
        if pattern_of(name).is_some() || !self.interruptions.channels.insert(name.into()) {
            return Ok(());
        }
        for pattern in self.channels.patterns_of(name) {
            let Some(channel) = self.channels.get(&pattern) else { continue };
            if !matches!(channel.state, SubscriptionState::InSync) {
                continue;
            }
            let member = channel.member;
            self.interruptions.patterns.insert(pattern);
            let listeners = self.with_lock(|| context.hub.interrupt(fence, member)).await?;
            context.wake(&listeners);
        }
        Ok(())
    }

    /// Records that a channel is about to catch up, before events of others are appended.
    pub(in crate::redis) async fn announce_catch_up(
        &mut self,
        name: &[u8],
        known: SyncState,
    ) -> Result<(), Ended> {
        if let SyncState::Interrupted(_) = known {
            return self.set_out_of_sync(name).await;
        }
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        let (member, context, fence) = (channel.member, self.context.clone(), self.holder.fence);
        let listeners = self.with_lock(|| context.hub.begin_catching_up(fence, member)).await?;
        context.wake(&listeners);
        Ok(())
    }

    /// Records that a channel cannot be subscribed to or read at present.
    pub(in crate::redis) async fn set_unavailable(&mut self, name: &[u8]) -> Result<(), Ended> {
        let (context, fence) = (self.context.clone(), self.holder.fence);
        let listeners = self.with_lock(|| context.hub.set_unavailable(fence, name)).await?;
        context.wake(&listeners);
        self.note_end_of_interruption(name).await
    }

    /// Returns whether the streams of a pattern that is subscribed to now have to wait, and records
    /// it.
    pub(in crate::redis) async fn holds_pattern(&mut self, name: &[u8]) -> Result<bool, Ended> {
        if !pattern_of(name).is_some_and(|pattern| self.interruptions.holds(pattern)) {
            return Ok(false);
        }
        self.interruptions.patterns.insert(name.into());
        self.set_out_of_sync(name).await?;
        Ok(true)
    }

    /// Records that a channel has caught up, or is not available. Streams of patterns that match
    /// no other such channel go on.
    pub(in crate::redis) async fn note_end_of_interruption(
        &mut self,
        name: &[u8],
    ) -> Result<(), Ended> {
        // While there are too many channels, no pattern has to be looked at.
        if !self.interruptions.channels.remove(name) || self.interruptions.channels.len() > COMPARED
        {
            return Ok(());
        }
        let interruptions = &self.interruptions;
        let is_held =
            |name: &[u8]| pattern_of(name).is_some_and(|pattern| interruptions.holds(pattern));
        let free = interruptions.patterns.iter().filter(|name| !is_held(name));
        let free: Vec<_> = free.cloned().collect();
        for pattern in free {
            self.release_pattern(&pattern).await?;
        }
        Ok(())
    }

    /// Makes the streams of all patterns go on, before the channels that are catching up are left
    /// to another process.
    pub(in crate::redis) async fn end_interruptions(&mut self) -> Result<(), Ended> {
        self.interruptions.channels.clear();
        for pattern in self.interruptions.patterns.clone() {
            self.release_pattern(&pattern).await?;
        }
        Ok(())
    }

    async fn release_pattern(&mut self, name: &[u8]) -> Result<(), Ended> {
        self.interruptions.patterns.remove(name);
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        let (member, context, fence) = (channel.member, self.context.clone(), self.holder.fence);
        let known = SyncState::Interrupted(ReportedId::default());
        let caught_up = || context.hub.caught_up(fence, member, known, Loss::Nothing);
        let listeners = self.with_lock(caught_up).await?;
        context.wake(&listeners);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_pattern_wait_for_its_channels_and_for_any_if_there_are_too_many() {
        let mut interruptions = Interruptions::default();
        assert!(!interruptions.holds(b"*"));
        for number in 0..COMPARED {
            interruptions.channels.insert(format!("a{number}").into_bytes().into());
        }
        assert!(interruptions.holds(b"a*") && !interruptions.holds(b"b*"));
        interruptions.channels.insert(b"c"[..].into());
        assert!(interruptions.holds(b"b*"));
    }
}
