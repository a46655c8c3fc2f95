//! Channels that are forgotten: everything that they had goes, here and on every other nginx, in the order
//! of their messages, so that what is published afterwards stays.
//!
//! The message stands on the control channel. An nginx that is not connected at that moment finds with its
//! next connection that the stream is gone, or with `redis_source stream` that there is a low watermark.

use std::collections::vec_deque::Iter;

use crate::hub::{Provenance, ReportedId, Source};
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::message::Control;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

impl Session {
    /// Does what another nginx, or a successor, tells, before these messages are taken.
    pub(in crate::redis) async fn follow(
        &mut self,
        control: Control<'_>,
        later: Iter<'_, Push>,
    ) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        if self.repeats.skips() && !matches!(control, Control::Marker(_)) {
            // The former holder has followed it.
            self.repeats.skip_one();
            return Ok(());
        }
        match control {
            Control::Marker(number) => self.with_lock(|| hub.marker_was_read(fence, number)).await,
            Control::Forget(name, up_to) => self.forget(name, up_to).await,
            Control::Doubtful(name, up_to) => {
                // Whoever joins another channel finds out.
                if self.channels.get(name).is_some_and(FollowedChannel::comes_by_name) {
                    if hub.source() == Source::PubSub {
                        self.beat();
                    }
                    self.doubt(name, up_to, later).await?;
                }
                // A successor, whose token may be another, passes it over as it does one that fits.
                self.with_lock(|| hub.skip_message(fence)).await
            }
        }
    }

    /// Forgets what a channel has had by now; `up_to` is the id of its newest durable event.
    pub(in crate::redis) async fn forget(
        &mut self,
        name: &[u8],
        up_to: ReportedId,
    ) -> Result<(), Ended> {
        if let Some(channel) = self.channels.get_mut(name) {
            if matches!(channel.state, SubscriptionState::Asked | SubscriptionState::Joining(_)) {
                // What is being fetched of it may have been read before.
                channel.forgotten = channel.forgotten.max(up_to);
            }
            if let SubscriptionState::Joining(waiting) = &mut channel.state {
                waiting.clear();
            }
        }
        self.strays.forget(name, up_to);
        let (hub, fence, now) = (self.joined.hub.clone(), self.tenant.fence, self.joined.now());
        self.with_lock(|| hub.forget_for_all(fence, name, now)).await
    }

    /// The id up to which what is being fetched of a channel is forgotten.
    pub(in crate::redis) fn forgotten_up_to(&self, name: &[u8]) -> ReportedId {
        self.channels.get(name).map(|channel| channel.forgotten).unwrap_or_default()
    }
}

/// Whether an arrival came after what is forgotten up to this id.
pub(in crate::redis) fn is_later(how: Provenance, up_to: ReportedId) -> bool {
    match how {
        Provenance::Live(id)
        | Provenance::Missed(id)
        | Provenance::Earlier(id)
        | Provenance::Joining(id)
        | Provenance::Strayed(Some(id)) => id.reported() > up_to,
        Provenance::Plain | Provenance::Strayed(None) => false,
    }
}
