//! Frames for streams that lack the same: made and joined once for all of them.

use super::channel::Channel;
use super::event_ids::Ids;
use super::keys::ChannelKey;
use super::settings::Naming;
use super::socket::Batch;
use super::stream::{Stream, Subscriptions};
use crate::hub::{Kind, LogOrder};

/// Frames that one batch has at most.
const BATCH_FRAMES: usize = 256;

/// The frames that were prepared last: for as long as streams lack the same, they are used again.
#[derive(Default)]
pub struct BatchCache {
    pub batch: Batch,
    pub places: Vec<(LogOrder, Kind)>,
    /// Nothing is left behind the batch.
    pub complete: bool,
    of: Option<(ChannelKey, Option<u64>, usize, Naming)>,
    lane: Option<CacheKey>,
}

/// Who lacks exactly the batch that was prepared last: on a channel with many streams, nearly all. Holds
/// for as long as the channel has nothing newer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CacheKey {
    channel: ChannelKey,
    newest: u64,
    at: u64,
    naming: Naming,
}

impl BatchCache {
    /// Whether the batch is all that a stream lacks of a channel whose newest event is at `newest`.
    pub fn suits<S>(&self, stream: &Stream<S>, channel: ChannelKey, newest: u64) -> bool {
        let naming = stream.settings.naming;
        let lane = CacheKey { channel, newest, at: stream.at, naming };
        let alone = matches!(stream.channels, Subscriptions::One(_)) && stream.past.is_none();
        self.lane == Some(lane) && alone
    }

    /// The frames of one channel behind `at`. Streams that lack the same frames share the batch.
    pub fn prepare_one(&mut self, key: ChannelKey, channel: &Channel, at: u64, naming: Naming) {
        let newer = channel.newer(at);
        let first = channel.recent.len() - newer;
        let count = newer.min(BATCH_FRAMES);
        self.complete = count == newer;
        let lane = CacheKey { channel: key, newest: channel.newest, at, naming };
        self.lane = (self.complete && newer > 0).then_some(lane);
        let position = channel.recent.get(first).map(|recent| recent.place.position);
        if self.of == Some((key, position, count, naming)) {
            return;
        }
        let frames = channel.recent.range(first..first + count);
        self.places = frames.clone().map(|recent| (recent.place, recent.kind)).collect();
        let frames = frames.map(|recent| recent.frame(naming, &channel.name));
        self.batch = Batch::of(frames.collect());
        self.of = Some((key, position, count, naming));
    }

    /// The frames of several channels behind `at`, merged by position.
    pub fn prepare_many<'a>(
        &mut self,
        channels: impl Iterator<Item = &'a Channel>,
        at: u64,
        naming: Naming,
        ids: Ids,
    ) {
        let newer = |channel: &'a Channel| {
            let newer = channel.recent.range(channel.recent.len() - channel.newer(at)..);
            newer.map(move |recent| (recent, channel))
        };
        let mut all: Vec<_> = channels.flat_map(newer).collect();
        all.sort_unstable_by_key(|(recent, _)| recent.place.position);
        // Several patterns may match one channel.
        all.dedup_by_key(|(recent, _)| recent.place.position);
        self.complete = all.len() <= BATCH_FRAMES;
        all.truncate(BATCH_FRAMES);
        self.places = all.iter().map(|(recent, _)| (recent.place, ids.kind(recent.kind))).collect();
        let frames = all
            .into_iter()
            .map(|(recent, channel)| ids.frame(recent.frame(naming, &channel.name), recent.place));
        self.batch = Batch::of(frames.collect());
        self.of = None;
        self.lane = None;
    }
}
