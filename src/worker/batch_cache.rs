//! Batches of frames, prepared once for all streams that lack the same events.

use super::channel::Channel;
use super::event_ids::Ids;
use super::keys::ChannelKey;
use super::settings::Naming;
use super::socket::Batch;
use super::stream::{Stream, Subscriptions};
use crate::hub::{Kind, LogOrder};

/// Maximum number of frames in a batch.
const BATCH_FRAMES: usize = 256;

/// The batch that was prepared last, which is reused while streams lack the same frames.
#[derive(Default)]
pub struct BatchCache {
    pub batch: Batch,
    pub places: Vec<(LogOrder, Kind)>,
    /// Whether the batch includes the newest frame.
    pub complete: bool,
    prepared: Option<(ChannelKey, Option<u64>, usize, Naming)>,
    suits: Option<CacheKey>,
}

/// The state of a stream that lacks exactly the prepared batch: nearly every stream of a busy
/// channel. Valid as long as the channel has nothing newer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CacheKey {
    channel: ChannelKey,
    newest: u64,
    at: u64,
    naming: Naming,
}

impl BatchCache {
    /// Whether the batch is exactly what a stream lacks of a channel whose newest entry is at
    /// `newest`.
    pub fn suits<S>(&self, stream: &Stream<S>, channel: ChannelKey, newest: u64) -> bool {
        let naming = stream.settings.naming;
        let key = CacheKey { channel, newest, at: stream.at, naming };
        let alone = matches!(stream.channels, Subscriptions::One(_)) && stream.past.is_none();
        self.suits == Some(key) && alone
    }

    /// Prepares the frames of one channel after `at`. Keeps the batch if it already has these
    /// frames.
    /// If `run_end` is given, prepares only those before that end of a run.
    pub fn prepare_one(
        &mut self,
        key: ChannelKey,
        channel: &Channel,
        at: u64,
        run_end: Option<u64>,
        naming: Naming,
    ) {
        let newer = channel.newer(at);
        let first = channel.frames.len() - newer;
        let count = match run_end {
            None => newer.min(BATCH_FRAMES),
            Some(end) => {
                let frames = channel.frames.range(first..).take(BATCH_FRAMES);
                frames.take_while(|recent| recent.place.position <= end).count()
            }
        };
        // A stream that is sent the rest of a run has to be looked at again, because it ends then.
        self.complete = count == newer && run_end.is_none();
        let suits = CacheKey { channel: key, newest: channel.newest, at, naming };
        // Not all streams pass over the end of a run.
        let is_same_for_all = channel.run_ends.newest() <= at;
        self.suits = (self.complete && newer > 0 && is_same_for_all).then_some(suits);
        let position = channel.frames.get(first).map(|recent| recent.place.position);
        if self.prepared == Some((key, position, count, naming)) {
            return;
        }
        let frames = channel.frames.range(first..first + count);
        self.places = frames.clone().map(|recent| (recent.place, recent.kind)).collect();
        let frames = frames.map(|recent| recent.frame(naming, &channel.name));
        self.batch = Batch::from_frames(frames.collect());
        self.prepared = Some((key, position, count, naming));
    }

    /// Prepares the frames of several channels after `at`, merged by position.
    pub fn prepare_many<'a>(
        &mut self,
        channels: impl Iterator<Item = &'a Channel>,
        at: u64,
        naming: Naming,
        ids: Ids,
    ) {
        let newer = |channel: &'a Channel| {
            let newer = channel.frames.range(channel.frames.len() - channel.newer(at)..);
            newer.map(move |recent| (recent, channel))
        };
        let mut all: Vec<_> = channels.flat_map(newer).collect();
        all.sort_unstable_by_key(|(recent, _)| recent.place.position);
        // Several patterns may match the same event.
        all.dedup_by_key(|(recent, _)| recent.place.position);
        self.complete = all.len() <= BATCH_FRAMES;
        all.truncate(BATCH_FRAMES);
        self.places = all.iter().map(|(recent, _)| (recent.place, ids.kind(recent.kind))).collect();
        let frames = all
            .into_iter()
            .map(|(recent, channel)| ids.frame(recent.frame(naming, &channel.name), recent.place));
        self.batch = Batch::from_frames(frames.collect());
        self.prepared = None;
        self.suits = None;
    }
}
