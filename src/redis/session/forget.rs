//! Deletes a channel's events on every nginx, in the order of the channel's messages, so that
//! events that are published later remain. The deletion is announced on the control channel. An
//! nginx that is not connected at that moment notices with its next connection that the stream is
//! gone, or with `redis_source stream`, that there is a low watermark.

use crate::hub::{Provenance, ReportedId, Source};
use crate::redis::ended::Ended;
use crate::redis::message::Control;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

impl Session {
    /// Handles a control message of another nginx or a successor.
    pub(in crate::redis) async fn handle_control(
        &mut self,
        control: Control<'_>,
    ) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        if self.repeats.skips() && !matches!(control, Control::Marker(_)) {
            // The former holder has handled it.
            self.repeats.skip_one();
            return Ok(());
        }
        match control {
            Control::Marker(number) => self.with_lock(|| hub.marker_was_read(fence, number)).await,
            Control::Forget(name, up_to) => self.forget(name, up_to).await,
            Control::Doubtful(name, up_to) => {
                // For other channels, this shows when they are subscribed to.
                if self.channels.get(name).is_some_and(FollowedChannel::is_subscribed_by_name) {
                    if hub.source() == Source::PubSub {
                        self.send_heartbeat();
                    }
                    self.doubt(name, up_to).await?;
                }
                // A successor, whose token may be a different one, skips it in any case.
                self.with_lock(|| hub.skip_message(fence)).await
            }
        }
    }

    /// Deletes all events of a channel so far; `up_to` is the id of its newest durable event.
    pub(in crate::redis) async fn forget(
        &mut self,
        name: &[u8],
        up_to: ReportedId,
    ) -> Result<(), Ended> {
        if let Some(channel) = self.channels.get_mut(name) {
            if matches!(
                channel.state,
                SubscriptionState::Requested | SubscriptionState::CatchingUp(_)
            ) {
                // Entries that are being fetched may have been read before the deletion.
                channel.forgotten = channel.forgotten.max(up_to);
            }
            if let SubscriptionState::CatchingUp(waiting) = &mut channel.state {
                waiting.clear();
            }
        }
        self.strays.forget(name, up_to);
        let (hub, fence, now) = (self.context.hub.clone(), self.holder.fence, self.context.now());
        self.with_lock(|| hub.forget_for_all(fence, name, now)).await
    }

    /// Returns the id up to which entries of a channel that are being fetched were deleted.
    pub(in crate::redis) fn forgotten_up_to(&self, name: &[u8]) -> ReportedId {
        self.channels.get(name).map(|channel| channel.forgotten).unwrap_or_default()
    }
}

/// Returns whether an event is newer than a deletion up to this id.
pub(in crate::redis) fn is_later(how: Provenance, up_to: ReportedId) -> bool {
    match how {
        Provenance::Live(id)
        | Provenance::Missed(id)
        | Provenance::Earlier(id)
        | Provenance::Joining(id)
        | Provenance::Strayed(Some(id)) => id.reported() > up_to,
        Provenance::Plain | Provenance::PlainBefore(_) | Provenance::Strayed(None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{JudgedId, Latest, Now};

    #[test]
    fn only_events_with_ids_above_that_of_the_deletion_are_later() {
        let id = |ms: u64| ReportedId::parse(format!("{ms}-0").as_bytes()).unwrap();
        let judged = |ms| -> JudgedId { id(ms).judged(Latest::here(Now::default())) };
        for of in
            [Provenance::Live, Provenance::Missed, Provenance::Earlier, Provenance::Joining, |id| {
                Provenance::Strayed(Some(id))
            }]
        {
            let is_later = |ms| is_later(of(judged(ms)), id(5));
            assert_eq!([4, 5, 6].map(is_later), [false, false, true]);
        }
        assert!(!is_later(Provenance::Plain, id(0)) && !is_later(Provenance::Strayed(None), id(0)));
    }
}
