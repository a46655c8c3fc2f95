//! What the fake Redis stores, and the commands that need nothing else: streams, hashes, and
//! settings. Times and ids are those of the test's clock.

use std::collections::BTreeMap;

use super::resp::Reply;
use super::wall;
use crate::redis::tests::words::{is, text};

/// The id of an entry.
pub type StreamId = (u64, u64);

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct StoredStream {
    pub entries: Vec<(StreamId, Vec<Vec<u8>>)>,
    pub last: StreamId,
    pub added: u64,
    pub max_deleted: StreamId,
}

/// All keys and settings.
#[derive(Default)]
pub struct Store {
    pub streams: BTreeMap<Vec<u8>, StoredStream>,
    pub hashes: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub settings: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub fn shown(id: StreamId) -> String {
    format!("{}-{}", id.0, id.1)
}

fn parsed(bound: &[u8], seq: u64) -> StreamId {
    let words = text(bound);
    let (ms, given) = words.split_once('-').unwrap_or((&words, ""));
    (ms.parse().unwrap(), given.parse().unwrap_or(seq))
}

impl Store {
    /// Adds an entry with this id, or with the next one of the clock. Returns its id.
    pub fn add(&mut self, key: &[u8], id: Option<StreamId>, fields: &[&[u8]]) -> Option<StreamId> {
        let stream = self.streams.entry(key.to_vec()).or_default();
        let next = (wall(), 0).max((stream.last.0, stream.last.1 + 1));
        let id = id.unwrap_or(next);
        if id <= stream.last {
            return None;
        }
        stream.entries.push((id, fields.iter().map(|field| field.to_vec()).collect()));
        (stream.last, stream.added) = (id, stream.added + 1);
        Some(id)
    }

    /// Deletes an entry.
    pub fn delete(&mut self, key: &[u8], id: StreamId) {
        let stream = self.streams.get_mut(key).unwrap();
        stream.entries.retain(|(other, _)| *other != id);
        stream.max_deleted = stream.max_deleted.max(id);
    }

    /// Removes the oldest entries, except for this many.
    pub fn trim(&mut self, key: &[u8], left: usize) {
        let stream = self.streams.get_mut(key).unwrap();
        let gone = stream.entries.len().saturating_sub(left);
        stream.entries.drain(..gone);
    }

    /// Runs a command. `None` if it is none of the store's.
    pub fn run(&mut self, words: &[Vec<u8>]) -> Option<Reply> {
        let key = words.get(1).cloned().unwrap_or_default();
        let at = |index: usize| words.get(index).map(Vec::as_slice).unwrap_or_default();
        Some(match &*text(&words[0]).to_uppercase() {
            "TIME" => {
                let (seconds, micros) = (wall() / 1_000, wall() % 1_000 * 1_000);
                Reply::list([seconds.to_string(), micros.to_string()])
            }
            "XADD" => self.run_add(words),
            "XRANGE" => self.run_range(&key, (at(2), at(3)), at(5), false),
            "XREVRANGE" => self.run_range(&key, (at(3), at(2)), at(5), true),
            "XLEN" => Reply::Int(self.streams.get(&key).map_or(0, |one| one.entries.len()) as i64),
            "XINFO" => self.describe(at(2)),
            "EXISTS" => Reply::Int(self.streams.contains_key(&key).into()),
            "HSET" | "HSETNX" => {
                let is_new_only = is(&words[0], "HSETNX");
                let hash = self.hashes.entry(key).or_default();
                for pair in words[2..].chunks(2) {
                    if !is_new_only || !hash.contains_key(&pair[0]) {
                        hash.insert(pair[0].clone(), pair[1].clone());
                    }
                }
                Reply::Int(1)
            }
            "HMGET" => {
                let hash = self.hashes.get(&key);
                let get = |name: &Vec<u8>| hash.and_then(|hash| hash.get(name));
                let values =
                    words[2..].iter().map(|name| get(name).map_or(Reply::Nil, Reply::bulk));
                Reply::Array(values.collect())
            }
            "CONFIG" => match self.settings.get(at(2)) {
                Some(value) => Reply::Map(vec![(Reply::bulk(at(2)), Reply::bulk(value))]),
                None => Reply::Map(Vec::new()),
            },
            _ => return None,
        })
    }

    fn run_add(&mut self, words: &[Vec<u8>]) -> Reply {
        let mut at = 2;
        let most = is(&words[at], "MAXLEN").then(|| text(&words[at + 1]).parse().unwrap());
        at += if most.is_some() { 2 } else { 0 };
        let id = (words[at] != b"*").then(|| parsed(&words[at], 0));
        let fields: Vec<&[u8]> = words[at + 1..].iter().map(Vec::as_slice).collect();
        let Some(id) = self.add(&words[1], id, &fields) else {
            return Reply::error(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            );
        };
        if let Some(most) = most {
            self.trim(&words[1], most);
        }
        Reply::bulk(shown(id))
    }

    fn run_range(&self, key: &[u8], (from, to): (&[u8], &[u8]), count: &[u8], back: bool) -> Reply {
        let is_after = |id: StreamId| match from {
            b"-" => true,
            [b'(', from @ ..] => id > parsed(from, 0),
            from => id >= parsed(from, 0),
        };
        let is_before = |id: StreamId| match to {
            b"+" => true,
            [b'(', to @ ..] => id < parsed(to, 0),
            to => id <= parsed(to, u64::MAX),
        };
        let most = text(count).parse().unwrap_or(usize::MAX);
        let entries = self.streams.get(key).map(|stream| &stream.entries[..]).unwrap_or_default();
        let inside = entries.iter().filter(|(id, _)| is_after(*id) && is_before(*id));
        Reply::Array(match back {
            false => inside.take(most).map(entry).collect(),
            true => inside.rev().take(most).map(entry).collect(),
        })
    }

    fn describe(&self, key: &[u8]) -> Reply {
        let Some(stream) = self.streams.get(key) else { return Reply::error("ERR no such key") };
        let first = stream.entries.first().map_or(Reply::Nil, entry);
        let pair = |name: &str, value: Reply| (Reply::bulk(name), value);
        Reply::Map(vec![
            pair("length", Reply::Int(stream.entries.len() as i64)),
            pair("last-generated-id", Reply::bulk(shown(stream.last))),
            pair("max-deleted-entry-id", Reply::bulk(shown(stream.max_deleted))),
            pair("entries-added", Reply::Int(stream.added as i64)),
            pair("first-entry", first),
        ])
    }

    /// Returns the reply to XREAD, or `None` if no stream has anything new.
    pub fn read_streams(&self, words: &[Vec<u8>]) -> Option<Reply> {
        let at = words.iter().position(|word| is(word, "STREAMS")).unwrap() + 1;
        let each = text(&words[2]).parse().unwrap();
        let (keys, ids) = words[at..].split_at((words.len() - at) / 2);
        let mut found = Vec::new();
        for (key, last) in keys.iter().zip(ids) {
            let last = parsed(last, 0);
            let entries = self.streams.get(key).map(|stream| &stream.entries[..]);
            let new = entries.unwrap_or_default().iter().filter(|(id, _)| *id > last);
            let new: Vec<Reply> = new.take(each).map(entry).collect();
            if !new.is_empty() {
                found.push((Reply::bulk(key), Reply::Array(new)));
            }
        }
        (!found.is_empty()).then_some(Reply::Map(found))
    }
}

fn entry((id, fields): &(StreamId, Vec<Vec<u8>>)) -> Reply {
    Reply::Array(vec![Reply::bulk(shown(*id)), Reply::list(fields)])
}
