//! Channels that are forgotten: everything that they had goes, here and on every other nginx, in the order
//! of their messages, so that what is published afterwards stays.
//!
//! The message stands on the control channel. An nginx that is not connected at that moment finds with its
//! next connection that the stream is gone, or with `redis_source stream` that there is a low watermark.

use super::channels::State;
use super::message::Control;
use super::session::{Ended, Session};
use crate::hub::{How, ReportedId, Source};

impl Session {
    /// Does what another nginx, or a successor, tells.
    pub(super) fn follow(&mut self, control: Control<'_>) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        match control {
            Control::Marker(number) => self.patiently(|| hub.pass_marker(fence, number)),
            Control::Forget(name, up_to) => self.forget(name, up_to),
            Control::Doubtful(name, up_to) if self.is_named(name) => {
                if hub.source() == Source::PubSub {
                    self.beat();
                }
                self.doubt(name, up_to)
            }
            // Whoever joins the channel finds out.
            Control::Doubtful(..) => Ok(()),
        }
    }

    /// Forgets what a channel has had by now; `up_to` is the id of its newest durable event.
    pub(super) fn forget(&mut self, name: &[u8], up_to: ReportedId) -> Result<(), Ended> {
        if let Some(channel) = self.channels.get_mut(name) {
            // What is being fetched of it may have been read before.
            channel.forgotten = channel.forgotten.max(up_to);
            if let State::Joining(waiting) = &mut channel.state {
                waiting.clear();
            }
        }
        self.strays.forget(name, up_to);
        let (hub, fence, now) = (self.joined.hub.clone(), self.tenant.fence, self.joined.now());
        self.patiently(|| hub.forget_for_all(fence, name, now))
    }

    /// The id up to which what is being fetched of a channel is forgotten.
    pub(super) fn forgotten_up_to(&self, name: &[u8]) -> ReportedId {
        self.channels.get(name).map(|channel| channel.forgotten).unwrap_or_default()
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.channels.get(name).is_some()
    }
}

/// Whether an arrival came after what is forgotten up to this id.
pub(super) fn is_later(how: How, up_to: ReportedId) -> bool {
    match how {
        How::Live(id)
        | How::Missed(id)
        | How::Earlier(id)
        | How::Joining(id)
        | How::Strayed(Some(id)) => id.reported() > up_to,
        How::Plain | How::Strayed(None) => false,
    }
}
