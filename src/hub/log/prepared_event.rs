//! Events that are encoded before the lock is taken.

use crate::hub::memory::alloc::blocks_for_event;
use crate::hub::Hub;
use crate::sse::data;

/// An event as a publisher provides it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The type; empty for none.
    pub event_type: &'a [u8],
    /// The data, not yet encoded.
    pub data: &'a [u8],
}

/// An encoded event is larger than max_event_size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct EventTooLarge;

/// An event that is encoded and ready to be copied under the lock.
pub(in crate::hub) struct Prepared<'a> {
    pub event_type: &'a [u8],
    pub data: Vec<u8>,
}

impl Prepared<'_> {
    /// Returns the bytes of the type and the encoded data.
    pub(in crate::hub) fn len(&self) -> usize {
        self.event_type.len() + self.data.len()
    }

    /// Returns how many blocks the event takes.
    pub(in crate::hub) fn blocks(&self) -> usize {
        blocks_for_event(self.len())
    }
}

impl Hub {
    /// Encodes events.
    pub(in crate::hub) fn prepare<'a>(
        &self,
        events: &[NewEvent<'a>],
    ) -> Result<Vec<Prepared<'a>>, EventTooLarge> {
        events.iter().map(|new| self.prepare_one(*new)).collect()
    }

    /// Returns whether an event is within max_event_size.
    pub fn fits(&self, new: NewEvent<'_>) -> bool {
        data::encoded_len(new.data) + new.event_type.len() <= self.max_event()
    }

    /// Encodes an event.
    pub(in crate::hub) fn prepare_one<'a>(
        &self,
        new: NewEvent<'a>,
    ) -> Result<Prepared<'a>, EventTooLarge> {
        if !self.fits(new) {
            return Err(EventTooLarge);
        }
        let mut encoded = Vec::with_capacity(data::encoded_len(new.data));
        data::encode(new.data, &mut encoded);
        Ok(Prepared { event_type: new.event_type, data: encoded })
    }
}
