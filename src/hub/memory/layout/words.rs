//! The words of the header, of a slot, and of each kind of block.

/// The words of the header.
pub mod header {
    pub const MAGIC: usize = 0;
    pub const TAG: usize = 1;
    pub const BLOCKS: usize = 2;
    pub const SLOTS: usize = 3;
    /// The maximum size of an event in bytes. Readers without the lock use it as a bound, so it
    /// never falls.
    pub const MAX_EVENT: usize = 4;
    /// History: COUNT, and AGE in ms (0 is no limit).
    pub const COUNT: usize = 5;
    pub const AGE: usize = 6;
    /// The key of hashes, which is known only here.
    pub const SEED: usize = 7;
    /// The lock of all metadata.
    pub const LOCK: usize = 8;
    /// Identifies the current hold of the lock; see `holder`.
    pub const HOLD: usize = 14;
    /// The redo log: see `redo`.
    pub const REDO_LEN: usize = 16;
    pub const REDO_BATCH: usize = 17;
    pub const REDO_POSITION: usize = 18;
    pub const REDO_WORDS: usize = 192;
    pub const REDO_VALUES: usize = 256;
    /// The most words that one transaction sets.
    pub const REDO_PAIRS: usize = 64;
    /// Free blocks: the first of the list | their number; the first block that was never used.
    pub const FREE: usize = 24;
    pub const FRESH: usize = 25;
    /// The newest position, and the newest that a writer has started to write.
    pub const HEAD: usize = 26;
    pub const RESERVED: usize = 27;
    /// The first | last detached event.
    pub const DETACHED: usize = 87;
    /// The newest id assigned here. In a hub that is connected to Redis, the high watermark: the
    /// highest id that Redis assigned.
    pub const LAST_MS: usize = 28;
    pub const LAST_SEQ: usize = 29;
    /// The highest low watermark of a channel whose record was removed.
    pub const FORGOTTEN: usize = 32;
    /// Lists (head | tail) of channels with surplus, of idle channels, and of idempotency keys.
    pub const SURPLUS: usize = 36;
    pub const IDLE: usize = 37;
    pub const KEYS: usize = 38;
    pub const KEY_COUNT: usize = 39;
    /// Lists of channels by the power of two of the blocks that their events hold.
    pub const CLASSES: usize = 40;
    pub const CLASS_COUNT: usize = 32;
    /// The next bucket that the sweep visits.
    pub const SWEEP: usize = 72;
    /// How often a slot was vacated, and that count when all pairs were last cleared.
    pub const VACATED: usize = 73;
    pub const CLEARED: usize = 74;
    /// When the figures were last published, in milliseconds.
    pub const FEED: usize = 75;
    /// How many processes were found dead, and for how many of them a process is waking the others.
    pub const DEATHS: usize = 77;
    pub const DEATHS_SEEN: usize = 78;
    /// The list of the records of patterns.
    pub const PATTERNS: usize = 76;
    /// How many records of patterns were removed.
    pub const REMOVED: usize = 84;
    /// The next bucket whose void pairs are cleared, and VACATED when that round began. The round
    /// is in progress while that is not CLEARED.
    pub const CLEAR_AT: usize = 85;
    pub const CLEAR_OF: usize = 86;
    /// Kept exact by transactions.
    pub const CHANNELS: usize = 80;
    pub const RETAINED: usize = 81;
    /// Blocks of the records that have pairs, which cannot be evicted.
    pub const PINNED: usize = 82;
    /// Counters; `stats` has their names.
    pub const COUNTERS: usize = 96;
    pub const COUNTER_COUNT: usize = 64;
    /// Where events come from: `lease::Source`.
    pub const SOURCE: usize = 320;
    /// The newest subscription in Redis, and the state of its connection: `lease::RedisState`.
    pub const EPOCH: usize = 321;
    pub const LINK: usize = 322;
    /// The slot of the process that holds the subscription (from 1), and its fencing token. Only a
    /// process with that token may ingest events.
    pub const HOLDER_SLOT: usize = 323;
    pub const FENCING_TOKEN: usize = 324;
    /// The handover of the subscription, see `handover`: the token of a holder that wants to leave,
    /// the number of its successor, the holder's answer, the marker that it has read, and how many
    /// plain messages it has appended after that.
    pub const RETIRING: usize = 325;
    pub const SUCCESSOR_NUMBER: usize = 326;
    pub const FROZEN: usize = 327;
    pub const MARKER: usize = 328;
    pub const BEHIND_MARKER: usize = 329;
    /// When the holder of the subscription last reported that it is alive, in milliseconds.
    pub const HEARTBEAT: usize = 330;
    /// The newest subscription that brought all channels in sync.
    pub const SETTLED: usize = 331;
    /// How much of its unfinished run a channel is owed: COUNT (0 for nothing), and AGE in ms (0 is
    /// no limit).
    pub const RUNS_COUNT: usize = 332;
    pub const RUNS_AGE: usize = 333;
    /// The time in Redis at which the monotonic clock was 0, in milliseconds since 1970; 0 if it is
    /// not known.
    pub const REDIS_EPOCH: usize = 334;
    /// The locks of the holder of the subscription, and of its successor.
    pub const LEASE: usize = 336;
    pub const SUCCESSOR_LOCK: usize = 344;
    /// The histogram of delivery times, see `stats::delivery_times`: the number of times in each
    /// bucket, and their sum in microseconds.
    pub const DELIVERY_BUCKETS: usize = 352;
    pub const DELIVERY_BUCKET_COUNT: usize = 31;
    pub const DELIVERY_TOTAL: usize = 383;
    /// The id up to which the channels that SETTLED or a later subscription brought in sync had
    /// received everything when the connection was lost; zero if that is not known.
    pub const RECEIVED_MS: usize = 384;
    pub const RECEIVED_SEQ: usize = 385;
    /// The newest read barrier that was requested, and the newest that the holder of the
    /// subscription has passed; changed without the lock.
    pub const BARRIER_REQUESTED: usize = 386;
    pub const BARRIER_PASSED: usize = 387;
    /// How many users were disconnected, and how often revocations have changed; see `users`.
    pub const DISCONNECTIONS: usize = 388;
    pub const REVOCATION_CHANGES: usize = 389;
    /// The number of the newest entry of Redis' stream of disconnected users that was read.
    pub const USERS_READ: usize = 390;
    pub const WORDS: usize = 512;
}

/// The words of a revocation.
pub mod revocation {
    /// The hash of the user's name.
    pub const USER: usize = 0;
    /// Tokens that were issued before this time are revoked, in ms since 1970.
    pub const ISSUED_BEFORE: usize = 1;
    /// When the revocation ends, in ms since 1970; 0 for none.
    pub const UNTIL: usize = 2;
    pub const WORDS: usize = 3;
}

/// The words of a slot, which belongs to one process.
pub mod slot {
    /// Held by the process for as long as it lives.
    pub const LIFE: usize = 0;
    pub const GENERATION: usize = 6;
    /// The position up to which the process has read.
    pub const READ: usize = 7;
    /// 0, or when the process was last woken, in milliseconds.
    pub const WOKEN_AT: usize = 8;
    /// The number of the process's streams.
    pub const STREAMS: usize = 9;
    /// Whether the process is about to quit: 1, or 0.
    pub const QUITTING: usize = 10;
    /// The number of the process's waker, from 1; 0 if it has none and polls the log.
    pub const WAKER: usize = 11;
}

/// Words of an event's first block; type and data follow.
pub mod event {
    use crate::hub::memory::layout::BLOCK;
    use crate::hub::memory::region::WORD;

    /// channel | length of type and data in bytes.
    pub const OWNER: usize = 0;
    /// Earlier and later event of the channel.
    pub const LINKS: usize = 1;
    /// born (1/256 ms, 48 bits) | flags (8) | length of the type (8).
    pub const BORN: usize = 2;
    pub const MS: usize = 3;
    pub const SEQ: usize = 4;
    pub const DATA: usize = 5;
    /// Bytes of type and data that fit into the first block.
    pub const FIRST: usize = (BLOCK - DATA) * WORD;
}

/// Words of a channel's record.
pub mod channel {
    use crate::hub::memory::layout::BLOCK;
    use crate::hub::memory::region::WORD;

    /// hash | next in the bucket.
    pub const HASH: usize = 0;
    /// First | last event.
    pub const EVENTS: usize = 1;
    /// Events (31 bits, and one that is set in the list of surplus) | their blocks.
    pub const SIZE: usize = 2;
    /// The low watermark: the newest event that was lost (ms, seq, position), and the kinds of lost
    /// events.
    pub const LOW_WATERMARK: usize = 3;
    /// Links in the list of surplus; of a pattern, which never has any, in the list of patterns.
    pub const SURPLUS: usize = 6;
    /// Links in the list of its class, or of idle channels when it has no event.
    pub const LIST: usize = 7;
    /// The first two pairs (slot, generation, count) of subscribers.
    pub const PAIRS: usize = 8;
    /// More pairs | the rest of the name: blocks.
    pub const MORE: usize = 10;
    /// The block of its cursor, see `cursor` | the epoch in which it was last in sync, or 0.
    pub const SYNC: usize = 11;
    /// The position at which all its streams were last ended.
    pub const ENDED: usize = 12;
    /// Its runs, see `run`: the position of the newest finish, and what the channel has had.
    pub const RUN: usize = 13;
    /// Its newest run, see `run_start`: how many of the retained events are older | the block of
    /// its first event, or 0.
    pub const RUN_START: usize = 14;
    /// Length of the name in one byte (0 for 256: a pattern's mark and 255 bytes), then the name.
    pub const NAME: usize = 15;
    /// Bytes of the name that fit into the record.
    pub const NAME_INLINE: usize = (BLOCK - NAME) * WORD - 1;
}

/// The words of a block with more subscribers: the next such block, then pairs.
pub mod more_pairs {
    pub const NEXT: usize = 0;
    pub const PAIRS: usize = 1;
}

/// The words of an idempotency key.
pub mod key {
    /// Next in the bucket | next younger key.
    pub const LINKS: usize = 0;
    /// The key's hash, 128 bits.
    pub const HASH: usize = 1;
    pub const BORN: usize = 3;
    /// The id and the position of the first event, and how many events there are.
    pub const MS: usize = 4;
    pub const SEQ: usize = 5;
    pub const POSITION: usize = 6;
    pub const COUNT: usize = 7;
    /// The kind of the ids, as in the event's flags, and whether the publish finished the run.
    pub const FLAGS: usize = 8;
}
