//! The figures of this process's hubs, and the stream of them.

use crate::conf::StatusScope;
use crate::hub::PublishError;
use crate::metrics::{self, Health, HubFigures};
use crate::nginx::clock;
use crate::process;
use crate::worker::{ALL_STATUS_CHANNEL, STATUS_CHANNEL};

impl StatusScope {
    /// Returns the channel on which these figures are published.
    pub fn channel(self) -> &'static [u8] {
        match self {
            StatusScope::OneHub => STATUS_CHANNEL,
            StatusScope::AllHubs => ALL_STATUS_CHANNEL,
        }
    }

    /// Returns the health of one hub, or the worst of all hubs that this process serves; `None` if
    /// it serves none of them.
    pub fn health(self, hub: usize) -> Option<Health> {
        match self {
            StatusScope::OneHub => process::health(hub),
            StatusScope::AllHubs => process::worst_health(),
        }
    }

    /// Returns the figures of one hub, or of all hubs that this process serves.
    pub fn figures(self, hub: usize) -> Vec<HubFigures> {
        match self {
            StatusScope::OneHub => process::figures(hub).into_iter().collect(),
            StatusScope::AllHubs => process::all_figures(),
        }
    }
}

/// Publishes this hub's figures to the streams that show them, if they are due and no other process
/// has published them.
pub fn publish_if_due(hub: usize) {
    let now = clock::now();
    if process::with(hub, |worker| worker.feed_is_due(now)) != Some(true) {
        return;
    }
    for scope in [StatusScope::OneHub, StatusScope::AllHubs] {
        let channel = scope.channel();
        if process::with(hub, |worker| worker.has_watchers(channel)) != Some(true) {
            continue;
        }
        let text = metrics::json(&scope.figures(hub), now.wall);
        let published =
            process::with(hub, |worker| worker.publish_figures(channel, text.as_bytes(), now));
        // If the hub is locked, nothing is published now, and the next figures follow in a second.
        if published == Some(Err(PublishError::TooLarge)) {
            process::warn(hub, format_args!("the figures are larger than max_event_size"));
        }
    }
    process::turn_soon(hub);
}
