//! The figures of this process's hubs, and the feed for clients that watch them.

use crate::conf::StatusScope;
use crate::hub::PublishError;
use crate::metrics::{self, HubFigures};
use crate::nginx::clock;
use crate::process;
use crate::worker::{ALL_STATUS_CHANNEL, STATUS_CHANNEL};

impl StatusScope {
    /// The channel on which these figures are published.
    pub fn channel(self) -> &'static [u8] {
        match self {
            StatusScope::OneHub => STATUS_CHANNEL,
            StatusScope::AllHubs => ALL_STATUS_CHANNEL,
        }
    }

    /// The figures, of one hub or of all that this process serves.
    pub fn figures(self, hub: usize) -> Vec<HubFigures> {
        match self {
            StatusScope::OneHub => process::figures(hub).into_iter().collect(),
            StatusScope::AllHubs => process::all_figures(),
        }
    }
}

/// Publishes the figures to those who watch them in this hub, if it is time and up to this process.
pub fn feed(hub: usize) {
    let now = clock::now();
    if process::with(hub, |worker| worker.feed_is_due(now)) != Some(true) {
        return;
    }
    for shown in [StatusScope::OneHub, StatusScope::AllHubs] {
        let channel = shown.channel();
        if process::with(hub, |worker| worker.is_heard(channel)) != Some(true) {
            continue;
        }
        let text = metrics::json(&shown.figures(hub), now.wall);
        let published =
            process::with(hub, |worker| worker.publish_figures(channel, text.as_bytes(), now));
        // Of a hub that is locked the next figures come in a second.
        if published == Some(Err(PublishError::TooLarge)) {
            process::warn(hub, format_args!("the status is larger than max_event_size"));
        }
    }
    process::turn_soon(hub);
}
