//! Idempotency keys: for two minutes the hub remembers the ids of a publish, so that a repeated
//! publish returns them again and appends nothing. A key is stored in the same transaction as its
//! events, so a process cannot die in between.

use std::hash::Hasher;

use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::log::run::RunEnd;
use crate::hub::memory::access::Guard;
use crate::hub::memory::alloc::{free_chain, BlockAllocator};
use crate::hub::memory::layout::{header, high, key, low, pair};
use crate::hub::memory::redo::{EventRange, Transaction};
use crate::hub::Now;
use crate::sse::id::{EntryId, Id};

/// How long a key is remembered, in milliseconds.
const LIFETIME: u64 = 120_000;
/// Keys take at most one block in this many.
const SHARE: usize = 16;

/// The hash of a publisher's key on one channel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64, u64);

/// The publish that a key was used for.
pub(in crate::hub) struct KnownPublish {
    /// The ids of its events.
    pub ids: Vec<Id>,
    /// Whether it finished the channel's run.
    pub finished: bool,
}

/// The flag of a key whose publish finished the channel's run. The others are those of a kind.
const FINISHED: u64 = 1 << 8;

impl Guard<'_> {
    /// Returns the hash of a key on a channel.
    pub(in crate::hub) fn key_hash(&self, channel: &[u8], key: &[u8]) -> KeyHash {
        let half = |salt: u8| {
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write_u64(self.get(header::SEED));
            hasher.write_u8(salt);
            hasher.write_usize(channel.len());
            hasher.write(channel);
            hasher.write(key);
            hasher.finish()
        };
        KeyHash(half(0), half(1))
    }

    /// Returns the publish with this key, if it is remembered.
    pub(in crate::hub) fn known_publish(&self, hash: KeyHash, now: Now) -> Option<KnownPublish> {
        let mut block = self.get(self.hub.layout.key_bucket(hash.0)) as u32;
        while block != 0 {
            let known = KeyHash(self.word(block, key::HASH), self.word(block, key::HASH + 1));
            if known == hash {
                let young = self.word(block, key::BORN).saturating_add(LIFETIME) > now.mono;
                let finished = self.word(block, key::FLAGS) & FINISHED != 0;
                return young.then(|| KnownPublish { ids: self.ids_in(block), finished });
            }
            block = high(self.word(block, key::LINKS));
        }
        None
    }

    fn ids_in(&self, block: u32) -> Vec<Id> {
        let kind = Kind::from_flags(self.word(block, key::FLAGS) as u8);
        let (ms, seq) = (self.word(block, key::MS), self.word(block, key::SEQ));
        let position = self.word(block, key::POSITION);
        (0..self.word(block, key::COUNT))
            .map(|i| {
                let place =
                    LogOrder { entry_id: EntryId { ms, seq: seq + i }, position: position + i };
                place.id(kind, self.hub.tag())
            })
            .collect()
    }

    /// Drops keys until another one may be added. The caller then frees one block.
    pub(in crate::hub) fn bound_keys(&self, now: Now) {
        self.expire_keys(now, 4);
        let most = self.hub.layout.blocks / SHARE;
        while self.get(header::KEY_COUNT) as usize >= most && self.drop_oldest_key() {}
    }

    /// Writes a key into a block of its own, and adds it as part of the transaction.
    pub(in crate::hub) fn remember(
        &self,
        allocator: &mut BlockAllocator<'_>,
        change: &mut Transaction<'_>,
        hash: KeyHash,
        made: (EventRange, EntryId, RunEnd),
        now: Now,
    ) {
        let layout = &self.hub.layout;
        let (batch, entry_id, run) = made;
        let finished = if run == RunEnd::Finished { FINISHED } else { 0 };
        let block = allocator.take();
        let bucket = layout.key_bucket(hash.0);
        let words = [
            (key::LINKS, pair(self.get(bucket) as u32, 0)),
            (key::HASH, hash.0),
            (key::HASH + 1, hash.1),
            (key::BORN, now.mono),
            (key::MS, entry_id.ms),
            (key::SEQ, entry_id.seq),
            (key::POSITION, batch.position),
            (key::COUNT, u64::from(batch.count)),
            (key::FLAGS, u64::from(Kind::Local.flags()) | finished),
        ];
        for (word, value) in words {
            self.hub.region.set(layout.block(block, word), value);
        }
        let ends = change.get(header::KEYS);
        if low(ends) == 0 {
            change.set(header::KEYS, pair(block, block));
        } else {
            change.set_low(layout.block(low(ends), key::LINKS), block);
            change.set(header::KEYS, pair(high(ends), block));
        }
        change.set(bucket, u64::from(block));
        change.add(header::KEY_COUNT, 1);
    }

    /// Drops at most `limit` keys that have expired.
    pub(in crate::hub) fn expire_keys(&self, now: Now, limit: usize) {
        for _ in 0..limit {
            let oldest = high(self.get(header::KEYS));
            if oldest == 0 || self.word(oldest, key::BORN).saturating_add(LIFETIME) > now.mono {
                return;
            }
            self.drop_oldest_key();
        }
    }

    /// Drops the oldest key. Returns false if there is none.
    pub(in crate::hub) fn drop_oldest_key(&self) -> bool {
        let layout = &self.hub.layout;
        let ends = self.get(header::KEYS);
        let oldest = high(ends);
        if oldest == 0 {
            return false;
        }
        let mut change = self.change();
        let links = self.word(oldest, key::LINKS);
        let younger = low(links);
        change.set(header::KEYS, if younger == 0 { 0 } else { pair(younger, low(ends)) });

        let bucket = layout.key_bucket(self.word(oldest, key::HASH));
        let first = self.get(bucket) as u32;
        if first == oldest {
            change.set(bucket, u64::from(high(links)));
        } else {
            let mut block = first;
            while high(self.word(block, key::LINKS)) != oldest {
                block = high(self.word(block, key::LINKS));
            }
            change.set_high(layout.block(block, key::LINKS), high(links));
        }
        change.add(header::KEY_COUNT, -1);
        free_chain(&mut change, oldest, 1);
        change.commit();
        true
    }
}
