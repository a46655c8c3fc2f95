//! What tests read of a hub, and how they hold its lock.

use crate::hub::log::position::{LogOrder, LowWatermark};
use crate::hub::log::run_start::RunStart;
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::header;
use crate::hub::{EventCopy, Hub, RunState};
use crate::sse::data;

/// Where a channel's newest run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FoundStart {
    /// The run has no event.
    #[default]
    Empty,
    /// At this position.
    At(u64),
    /// Its first event has left.
    Cut,
}

impl Hub {
    /// Takes the lock, however busy the machine is.
    pub(in crate::hub) fn lock_patiently(&self) -> Guard<'_> {
        let attempt = |_| {
            let guard = self.lock();
            if guard.is_err() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            guard.ok()
        };
        (0..100).find_map(attempt).expect("the lock is never given back")
    }

    /// Runs `work` while another thread holds the lock.
    #[cfg(not(miri))]
    pub fn while_locked<T>(&self, work: impl FnOnce() -> T) -> T {
        let (held, release) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = self.lock_patiently();
                held.wait();
                release.wait();
                drop(guard);
            });
            held.wait();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            release.wait();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` while the calling thread holds the lock.
    #[cfg(test)]
    pub fn hold_lock(&self, work: impl FnOnce()) {
        let guard = self.lock_patiently();
        work();
        drop(guard);
    }

    /// Returns the positions of a channel's retained events, the oldest first.
    pub fn retained(&self, name: &[u8]) -> Vec<u64> {
        let guard = self.lock_patiently();
        let Some(record) = guard.find(name) else {
            return Vec::new();
        };
        guard.chain(record).iter().map(|block| guard.get(self.layout.stamp(*block))).collect()
    }

    /// Returns the state of a channel's runs.
    pub fn run_state_of(&self, name: &[u8]) -> RunState {
        let guard = self.lock_patiently();
        guard.find(name).map(|record| guard.run_state(record)).unwrap_or_default()
    }

    /// Returns where a channel's newest run begins, as the position of its first event.
    pub fn run_start_of(&self, name: &[u8]) -> Option<FoundStart> {
        let guard = self.lock_patiently();
        let record = guard.find(name)?;
        Some(match guard.run_start(record) {
            RunStart::Empty => FoundStart::Empty,
            RunStart::At(first) => FoundStart::At(guard.get(self.layout.stamp(first))),
            RunStart::Cut => FoundStart::Cut,
        })
    }

    /// Returns the bucket in which a channel's record would be.
    pub fn bucket_of(&self, name: &[u8]) -> usize {
        let guard = self.lock_patiently();
        self.layout.bucket(guard.hash(name) as u32)
    }

    /// Returns the positions of the retained events after which a run was finished.
    pub fn run_ends(&self, name: &[u8]) -> Vec<u64> {
        let guard = self.lock_patiently();
        let chain = guard.find(name).map(|record| guard.chain(record)).unwrap_or_default();
        let ends = chain.iter().filter(|block| guard.ends_run(**block));
        ends.map(|block| guard.get(self.layout.stamp(*block))).collect()
    }

    /// Returns the positions and texts of a channel's retained events, the oldest first.
    pub fn retained_texts(&self, name: &[u8]) -> Vec<(u64, String)> {
        let guard = self.lock_patiently();
        let Some(record) = guard.find(name) else {
            return Vec::new();
        };
        let read = |block: u32| {
            let mut copied = EventCopy::default();
            assert!(self.copy_block(block, &mut copied));
            let text = String::from_utf8(data::decode(copied.data())).unwrap();
            (copied.place.position, text)
        };
        guard.chain(record).into_iter().map(read).collect()
    }

    /// Returns whether a channel has a record.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.lock_patiently().find(name).is_some()
    }

    /// Returns whether a channel's record could be removed.
    pub fn is_idle(&self, name: &[u8]) -> bool {
        let guard = self.lock_patiently();
        let unused = |record| guard.events(record) == 0 && guard.has_no_listeners(record);
        guard.find(name).is_some_and(unused)
    }

    /// Returns how many blocks a channel's record, name, cursor, and pairs take.
    pub fn record_size_of(&self, name: &[u8]) -> usize {
        let guard = self.lock_patiently();
        guard.find(name).map_or(0, |record| guard.record_size(record))
    }

    /// Returns the low watermark of a channel, or FORGOTTEN if it has no record.
    pub fn low_watermark_of(&self, name: &[u8]) -> LogOrder {
        let guard = self.lock_patiently();
        match guard.find(name) {
            Some(record) => guard.low_watermark(record).place,
            None => LowWatermark::read(&self.region, header::FORGOTTEN).place,
        }
    }
}
