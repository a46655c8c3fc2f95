//! What the module's Lua scripts do, for the fake Redis. `t/` runs the scripts themselves.

use super::fake::State;
use super::resp::Reply;
use super::store::{shown, StreamId};
use super::words::text;
use crate::redis::keys::Keys;
use crate::sse::finish;

impl State {
    /// Runs the script with this text.
    pub fn run_script(&mut self, script: &str, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
        let names = Keys::new("");
        if script.contains("-- Removes the hub's clock") {
            self.store.streams.remove(&keys[0]);
            return Reply::Int(1);
        }
        if script.contains("-- Disconnects a user") {
            let number = self.store.streams.get(&keys[0]).map_or(0, |users| users.last.0) + 1;
            let names = [&b"user"[..], b"issued_before", b"until"];
            let fields: Vec<&[u8]> =
                names.iter().zip(args).flat_map(|(name, value)| [*name, value]).collect();
            self.store.add(&keys[0], Some((number, 0)), &fields).unwrap();
            return Reply::Int(number as i64);
        }
        if script.contains("-- Publishes events for nginx") {
            let channel = channel_of(&keys[0]);
            return self.publish_batch(&names, &channel, keys.get(1), &args[1..]);
        }
        if let [subject, forgotten] = keys {
            let newest = self.store.streams.get(subject).map_or((0, 0), |stream| stream.last);
            self.run_forget_mark(forgotten, &args[1], newest);
            self.announce_forget(&names, &text(&args[1]), newest);
            return Reply::Int(1);
        }
        Reply::Int(self.forget(&names, &channel_of(&keys[0])) as i64)
    }

    /// Deletes a channel's events, and announces it. Returns how many there were.
    pub fn forget(&mut self, names: &Keys, channel: &str) -> usize {
        let key = names.stream(channel.as_bytes());
        let newest = self.newest(&key);
        let gone = self.store.streams.remove(&key).map_or(0, |stream| stream.entries.len());
        self.announce_forget(names, channel, newest);
        gone
    }

    fn publish_batch(
        &mut self,
        names: &Keys,
        channel: &str,
        idempotency: Option<&Vec<u8>>,
        args: &[Vec<u8>],
    ) -> Reply {
        if let Some(ids) = idempotency.and_then(|key| self.repeats.get(key)) {
            return Reply::list(ids);
        }
        let events = args[1..].chunks(2);
        let mut ids: Vec<String> =
            events.map(|event| shown(self.publish(names, channel, &event[0], &event[1]))).collect();
        if args[0] == b"finish" {
            self.publish(names, channel, finish::EVENT_TYPE, b"");
        }
        if let Some(key) = idempotency {
            self.repeats.insert(key.clone(), ids.clone());
        }
        Reply::list(ids.drain(..))
    }

    /// Publishes a durable event, as the publish script does. Returns its id.
    pub fn publish(&mut self, names: &Keys, channel: &str, kind: &[u8], data: &[u8]) -> StreamId {
        let (key, clock) = (names.stream(channel.as_bytes()), names.clock());
        let (prev, given) = (self.newest(&key), self.newest(&clock));
        let id = self.store.add(&clock, None, &[b"t", b""]).unwrap();
        self.store.trim(&clock, 1);
        let before =
            shown(if prev == (0, 0) { self.before_stream(channel, id, given) } else { prev });
        self.last_events.insert(channel.to_owned(), id.0);
        let mut fields: Vec<&[u8]> = vec![b"data", data];
        if !kind.is_empty() {
            fields.extend([b"event", kind]);
        }
        fields.extend([&b"prev"[..], before.as_bytes()]);
        self.store.add(&key, Some(id), &fields);
        let token = self.token(names);
        let head = format!("\x01sse {token} {} {} {}\n", shown(id), shown(prev), kind.len());
        self.deliver(&names.subject(channel.as_bytes()), &[head.as_bytes(), kind, data].concat());
        id
    }

    /// Returns the highest id that a channel may have had before the first entry of its stream.
    fn before_stream(&mut self, channel: &str, id: StreamId, given: StreamId) -> StreamId {
        match (self.last_events.get(channel), self.began) {
            (Some(ms), _) if *ms < id.0 => (*ms, u64::MAX),
            (Some(_), _) => before(id),
            (None, Some(began)) => (began.min(id.0), 0),
            (None, None) => {
                self.began = Some(if given == (0, 0) { id.0 } else { given.0 });
                if given == (0, 0) {
                    before(id)
                } else {
                    given
                }
            }
        }
    }

    fn token(&self, names: &Keys) -> String {
        let hash = self.store.hashes.get(&names.history());
        hash.and_then(|hash| hash.get(&b"token"[..])).map_or("-".to_owned(), |token| text(token))
    }

    fn announce_forget(&mut self, names: &Keys, channel: &str, up_to: StreamId) {
        let token = self.token(names);
        let message = format!("\x01sse {token} forget {}\n{channel}", shown(up_to));
        self.deliver(&names.control(), message.as_bytes());
    }

    fn run_forget_mark(&mut self, key: &[u8], channel: &[u8], newest: StreamId) {
        let marks = self.store.hashes.entry(key.to_vec()).or_default();
        marks.insert(channel.to_vec(), shown(newest).into_bytes());
    }

    fn newest(&self, key: &[u8]) -> StreamId {
        self.store.streams.get(key).map_or((0, 0), |stream| stream.last)
    }
}

/// Returns the id before this one.
fn before((ms, seq): StreamId) -> StreamId {
    seq.checked_sub(1).map_or((ms - 1, u64::MAX), |seq| (ms, seq))
}

fn channel_of(key: &[u8]) -> String {
    text(key).rsplit_once(":s:").unwrap().1.to_owned()
}
