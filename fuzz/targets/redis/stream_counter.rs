//! A stream that is read page by page while entries are added, trimmed, and deleted: each entry is
//! read, or its loss is noticed, and no loss is reported of what was read.

use std::collections::BTreeSet;

use crate::fuzz::input::Input;
use crate::hub::ReportedId;
use crate::redis::entry_counter::{EntryCounter, PageAudit};
use crate::redis::message::Entry;
use crate::redis::stream_page::{About, StreamPage};
use crate::sse::id::EntryId;

/// A stream in Redis 7.
#[derive(Default)]
struct Stream {
    entries: BTreeSet<u64>,
    newest: u64,
    added: u64,
    max_deleted: u64,
}

/// A reader, and what it should know.
struct Reader {
    counter: EntryCounter,
    position: u64,
    /// Entries that were removed before they were read and have not been reported.
    lost: BTreeSet<u64>,
    /// How many entries were removed before they were read.
    losses: usize,
    /// How many times a loss was reported.
    reports: usize,
    /// The newest id that Redis has reported.
    known: u64,
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut stream = Stream::default();
    let counter = EntryCounter::starting_at(id(0), Some(0));
    let mut reader =
        Reader { counter, position: 0, lost: BTreeSet::new(), losses: 0, reports: 0, known: 0 };
    while !input.is_spent() {
        match input.below(8) {
            0..3 => stream.add(1 + input.below(4) as u64),
            3 => reader.remove(&mut stream, input.below(4), true),
            4 => reader.remove(&mut stream, input.below(16), false),
            kind => {
                let entries = stream.after(reader.position);
                let most = 1 + input.below(4);
                // The page and what is known of the stream are two commands.
                for _ in 0..input.below(3) {
                    stream.add(1);
                }
                if input.below(4) == 0 {
                    reader.remove_read_by_page(&mut stream, &entries, most);
                }
                reader.read(entries, most, (kind != 5).then(|| stream.about()));
            }
        }
    }
    // What is left is read, and once more.
    while reader.position < stream.newest && !stream.after(reader.position).is_empty() {
        reader.read(stream.after(reader.position), 3, Some(stream.about()));
    }
    reader.read(stream.after(reader.position), 3, Some(stream.about()));
    reader.read(stream.after(reader.position), 3, Some(stream.about()));
    assert!(reader.lost.is_empty(), "{:?} lost, and nobody noticed", reader.lost);
    assert!(!reader.counter.is_behind());
}

impl Stream {
    fn add(&mut self, step: u64) {
        self.newest += step;
        self.added += 1;
        self.entries.insert(self.newest);
    }

    fn after(&self, position: u64) -> Vec<u64> {
        self.entries.range(position + 1..).copied().collect()
    }

    fn about(&self) -> About {
        About {
            first: self.entries.first().map(|first| id(*first)),
            whole: self.added == self.entries.len() as u64,
            newest: id(self.newest),
            added: Some(self.added),
            max_deleted: Some(id(self.max_deleted)),
        }
    }
}

impl Reader {
    /// Removes the oldest entries, as XTRIM does, or one anywhere, as XDEL does.
    fn remove(&mut self, stream: &mut Stream, number: usize, is_trim: bool) {
        let all = stream.entries.iter().copied();
        let gone: Vec<u64> = match is_trim {
            true => all.take(number).collect(),
            false => all.skip(number).take(1).collect(),
        };
        for entry in gone {
            stream.entries.remove(&entry);
            if !is_trim {
                stream.max_deleted = stream.max_deleted.max(entry);
            }
            if entry > self.position {
                self.lost.insert(entry);
                self.losses += 1;
            }
        }
    }

    /// Deletes an entry of a page right after the page was sent.
    fn remove_read_by_page(&mut self, stream: &mut Stream, entries: &[u64], most: usize) {
        if let Some(last) = entries.iter().take(most).last() {
            stream.entries.remove(last);
            stream.max_deleted = stream.max_deleted.max(*last);
        }
    }

    fn read(&mut self, mut entries: Vec<u64>, most: usize, about: Option<About>) {
        let more = entries.len() >= most;
        entries.truncate(most);
        let page = StreamPage {
            entries: entries.iter().map(|ms| entry(*ms)).collect(),
            more,
            about,
            length: None,
        };
        let before = self.position;
        let audit = self.counter.count(&page);
        self.position = entries.last().copied().unwrap_or(before);
        self.known = about.map_or(self.known, |about| about.newest.ms());
        match audit {
            PageAudit::Complete => {}
            PageAudit::StartedOver => panic!("it has not started over"),
            PageAudit::Lost(up_to) => {
                assert!(up_to > id(before), "{up_to} was delivered before");
                assert!(
                    entries.first().is_none_or(|first| up_to < id(*first))
                        || entries[0] == before + 1
                );
                // A report may be of an entry that an earlier one has covered by its id, but not
                // counted.
                self.reports += 1;
                assert!(self.reports <= self.losses, "nothing more was lost up to {up_to}");
                // It covers the page, and all that is known to have been added by then.
                let known = if more { 0 } else { self.known };
                let covered = self.position.max(up_to.ms()).max(known);
                self.lost.retain(|entry| *entry > covered);
            }
        }
    }
}

fn id(ms: u64) -> ReportedId {
    EntryId { ms, seq: 0 }.into()
}

fn entry(ms: u64) -> Entry {
    Entry { id: id(ms), prev: None, event_type: Vec::new(), data: Vec::new(), left_out: 0 }
}
