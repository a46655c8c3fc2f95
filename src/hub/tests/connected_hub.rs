//! A hub in memory whose subscription is held by the test, and short functions for the operations
//! of a holder.

use super::*;
use crate::sse::id::EntryId;

/// Returns an id of Redis, the first in this millisecond.
pub fn id(ms: u64) -> EntryId {
    EntryId { ms, seq: 0 }
}

pub fn up_to(ms: u64) -> Loss {
    Loss::UpTo(id(ms))
}

/// A hub with a Redis, its holder, and the slot of a worker.
pub struct ConnectedHub {
    pub hub: Hub,
    pub token: FencingToken,
    pub holder: SlotClaim,
    pub worker: SlotClaim,
}

/// Creates an empty region for a hub with a Redis.
pub fn region_of(bytes: usize, source: Source, count: u64, age: u64) -> Region {
    let region = Region::in_memory(bytes);
    let history = History { count, age };
    let plan = Plan { bytes, slots: 8, max_event: 1024, history, runs: History::NONE, source };
    format(&region, &plan, 7, at(0)).unwrap();
    region
}

/// Creates a hub whose holder is connected.
pub fn connected_hub_of(bytes: usize, source: Source, count: u64, age: u64) -> ConnectedHub {
    let hub = Hub::attach(region_of(bytes, source, count, age)).unwrap();
    let worker = hub.claim_slot().unwrap();
    let holder = hub.claim_slot().unwrap();
    let token = hub.take_fencing_token(holder, at(0)).unwrap();
    let setup = ConnectedHub { hub, token, holder, worker };
    setup.connect();
    setup
}

pub fn connected_hub() -> ConnectedHub {
    connected_hub_of(1 << 18, Source::PubSub, 100, 0)
}

impl ConnectedHub {
    /// Starts a new connection.
    pub fn connect(&self) {
        self.hub.new_epoch(self.token, id(0)).unwrap();
        self.hub.set_link(self.token, RedisState::Up).unwrap();
    }

    /// Makes a worker and the holder join a channel and brings it in sync, with what Redis has of
    /// its history.
    pub fn subscribe(&self, channel: &str, history: &[u64], missing: Loss) -> Membership {
        let mine = self.listen(channel);
        let member = self.subscribe_only(channel);
        self.catch_up(channel, member, history, missing);
        mine
    }

    /// Adds a stream of the worker to a channel.
    pub fn listen(&self, channel: &str) -> Membership {
        let mine = self.hub.join(self.worker, channel.as_bytes(), at(0)).unwrap();
        self.hub.set_streams(self.worker, mine, 1);
        mine
    }

    /// Makes the holder join a channel, and nothing else.
    pub fn subscribe_only(&self, channel: &str) -> Membership {
        self.hub.join(self.holder, channel.as_bytes(), at(0)).unwrap()
    }

    /// Fetches what Redis has of a channel, as a holder does.
    pub fn catch_up(&self, channel: &str, member: Membership, fetched: &[u64], missing: Loss) {
        let known = self.hub.sync_state(member).unwrap();
        self.hub.record_loss(self.token, member, missing).unwrap();
        for ms in fetched {
            let provenance = match known {
                SyncState::Interrupted(_) => Provenance::Missed(id(*ms).into()),
                SyncState::Nothing | SyncState::Left(_) => Provenance::Earlier(id(*ms).into()),
            };
            self.ingest(channel, provenance, &ms.to_string());
        }
        self.hub.caught_up(self.token, member, known, missing).unwrap();
    }

    /// Ingests an event that was created now.
    pub fn ingest(&self, channel: &str, provenance: Provenance, data: &str) -> Ingested {
        self.ingest_at(channel, provenance, data, at(0))
    }

    pub fn ingest_at(
        &self,
        channel: &str,
        provenance: Provenance,
        data: &str,
        now: Now,
    ) -> Ingested {
        let incoming = incoming(channel, provenance, data, now.mono);
        self.hub.ingest(self.token, &[incoming], now).unwrap()
    }

    /// Ingests durable events when they are published. Their texts are their ids.
    pub fn live(&self, channel: &str, ms: u64) {
        self.ingest(channel, Provenance::Live(id(ms).into()), &ms.to_string());
    }

    /// Ingests a plain message. Returns its id.
    pub fn plain(&self, channel: &str, data: &str) -> String {
        self.ingest(channel, Provenance::Plain, data);
        self.last_id(channel)
    }

    /// Returns the id of the newest event of a channel.
    pub fn last_id(&self, channel: &str) -> String {
        self.hub.channel(channel.as_bytes()).unwrap().unwrap().last_id.unwrap().to_string()
    }

    /// Frees memory by evicting the oldest events of a channel.
    pub fn evict(&self, channel: &str, events: usize) {
        let guard = self.hub.lock().unwrap();
        let record = guard.find(channel.as_bytes()).unwrap();
        (0..events).for_each(|_| guard.evict(record, &mut Budget::for_hold()));
    }

    /// Returns what a client with this id receives first: whether there is a gap event, and the
    /// texts in one line.
    pub fn resumed(&self, channels: &[Membership], from: &str) -> (bool, String) {
        let (gaps, texts) = resumed(&self.hub, channels, from, at(0));
        assert!(gaps <= 1, "{gaps} gaps");
        (gaps == 1, texts.join(" "))
    }

    /// Returns the texts that a channel retains.
    pub fn texts(&self, channel: &str) -> String {
        let positions = self.hub.retained(channel.as_bytes());
        let member = self.hub.join(self.worker, channel.as_bytes(), at(0)).unwrap();
        let until = self.hub.head();
        let mut all =
            ReplayCursor::since(Received::at(0, Elsewhere::Nothing), until, [member].into_iter());
        let texts = all_of(&self.hub, &mut all, 64, at(0)).1;
        self.hub.leave(member).unwrap();
        assert_eq!(positions.len(), texts.len());
        texts.join(" ")
    }
}

pub fn incoming<'a>(
    channel: &'a str,
    provenance: Provenance,
    data: &'a str,
    born: u64,
) -> IncomingEvent<'a> {
    IncomingEvent {
        channel: channel.as_bytes(),
        provenance,
        event: event(data.as_bytes()),
        born: MonotonicTime::from_ms(born),
        run_place: RunPlace::Unknown,
    }
}
