//! Publishes events on this nginx: one or a batch, with an idempotency key, and with the finish of
//! the channel's run; and events of the module itself.

use crate::hub::log::append::Addition;
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::idempotency::KnownPublish;
use crate::hub::log::prepared_event::{EventTooLarge, NewEvent};
use crate::hub::log::run::RunEnd;
use crate::hub::memory::access::Locked;
use crate::hub::memory::budget::Budget;
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};
use crate::sse::id::Id;

/// The result of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The ids of the events, in their order.
    pub ids: Vec<Id>,
    /// The number of the channel's streams on this nginx.
    pub subscribers: u64,
    /// The slots of the processes that listen to the channel, for [`Hub::wake`].
    pub listeners: Vec<usize>,
    /// Whether the publish, or the one that it repeats, finished the channel's run.
    pub finished: bool,
}

/// Why a publish was rejected. Nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// An encoded event is larger than max_event_size.
    #[error("the event is larger than max_event_size")]
    TooLarge,
    /// More memory has to be freed than one publish may wait for.
    #[error("the zone is being cleared, try again")]
    Crowded,
    /// The events would not fit even into an empty zone.
    #[error("the zone is too small for this event")]
    NoRoom,
}

/// Holds of the lock that one publish takes to free memory.
const HOLDS: usize = 8;

impl Hub {
    /// Appends events to a channel, with ids of this hub. If the key was used on this channel in
    /// the last two minutes, appends nothing and returns the ids of the first time. Without events,
    /// does nothing, not even with the key.
    pub fn publish(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        self.publish_in_run(channel, events, RunEnd::Open, key, now)
    }

    /// Appends events to a channel and finishes its run, as one change. Without events, finishes
    /// the run, and creates the channel if it does not exist. The key is as in [`Hub::publish`].
    pub fn publish_and_finish(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        self.publish_in_run(channel, events, RunEnd::Finished, key, now)
    }

    fn publish_in_run(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        run: RunEnd,
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(events)?;
        let mut holds = Budget::with_steps(HOLDS);
        let (guard, key, record) = loop {
            let guard = self.lock_for(channel)?;
            let key = key.map(|key| guard.key_hash(channel, key));
            if let Some(known) = key.and_then(|hash| guard.known_publish(hash, now)) {
                self.count(Counter::Deduplicated, 1);
                let (subscribers, listeners) = guard
                    .find(channel)
                    .map_or((0, Vec::new()), |found| guard.listeners_of_event(found, channel, 0));
                let KnownPublish { ids, finished } = known;
                return Ok(Published { ids, subscribers, listeners, finished });
            }
            if prepared.is_empty() && run == RunEnd::Open {
                let (ids, listeners) = (Vec::new(), Vec::new());
                return Ok(Published { ids, subscribers: 0, listeners, finished: false });
            }
            match guard.reserve_space(channel, &prepared, key.is_some(), now) {
                Ok(record) => break (guard, key, record),
                Err(SpaceError::Unfinished) if holds.step() => {}
                Err(SpaceError::Unfinished) => return Err(PublishError::Crowded),
                Err(SpaceError::NoRoom) => return Err(PublishError::NoRoom),
            }
        };
        let (numbering, head) = (guard.own_numbering(now), self.head());
        let ids = guard.append(record, &Addition { events: &prepared, numbering, run, key }, now);
        let entries = (self.head() - head) as usize;
        let (subscribers, listeners) = guard.listeners_of_event(record, channel, entries);
        guard.count(Counter::EventsIn, prepared.len() as u64);
        guard.count(Counter::BytesIn, events.iter().map(|event| event.data.len() as u64).sum());
        Ok(Published { ids, subscribers, listeners, finished: run == RunEnd::Finished })
    }

    /// Appends an event to one of the module's own channels. It does not count as a publish.
    pub fn publish_own(
        &self,
        channel: &[u8],
        event: NewEvent<'_>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(&[event])?;
        let mut holds = Budget::with_steps(HOLDS);
        let (guard, record) = loop {
            let guard = self.lock()?;
            match guard.reserve_space(channel, &prepared, false, now) {
                Ok(record) => break (guard, record),
                Err(SpaceError::Unfinished) if holds.step() => {}
                Err(SpaceError::Unfinished) => return Err(PublishError::Crowded),
                Err(SpaceError::NoRoom) => return Err(PublishError::NoRoom),
            }
        };
        let (numbering, run) = (guard.own_numbering(now), RunEnd::Open);
        let ids =
            guard.append(record, &Addition { events: &prepared, numbering, run, key: None }, now);
        let (subscribers, listeners) = guard.listeners(record);
        Ok(Published { ids, subscribers, listeners, finished: false })
    }

    /// Appends an event to one of the module's own channels, and removes the channel's other
    /// events.
    pub fn publish_latest(
        &self,
        channel: &[u8],
        event: NewEvent<'_>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.publish_own(channel, event, now)?;
        let guard = self.lock()?;
        if let Some(record) = guard.find(channel) {
            // What one hold does not free, the next call does.
            let mut budget = Budget::for_hold();
            while guard.events(record) > 1 && !budget.is_spent() {
                guard.evict(record, &mut budget);
            }
        }
        Ok(published)
    }
}

impl From<EventTooLarge> for PublishError {
    fn from(_: EventTooLarge) -> PublishError {
        PublishError::TooLarge
    }
}
