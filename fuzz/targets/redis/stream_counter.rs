//! A stream that is read page by page while entries are added, trimmed, and deleted: each entry is
//! read, or its loss is noticed, after all entries before it and before all entries after it, and
//! no loss is reported of what was read.

use std::collections::BTreeSet;

use crate::fuzz::input::Input;
use crate::hub::ReportedId;
use crate::redis::entry::Entry;
use crate::redis::entry_counter::{EntryCounter, PageAudit};
use crate::redis::stream_page::{About, StreamPage};
use crate::sse::id::EntryId;

/// A stream in Redis 7.
#[derive(Default)]
struct CountedStream {
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
    /// Whether pages were incomplete or not described since the last description of a whole page.
    is_behind: bool,
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut stream = CountedStream::default();
    let counter = EntryCounter::starting_at(id(0), Some(0));
    let lost = BTreeSet::new();
    let mut reader = Reader { counter, position: 0, lost, losses: 0, reports: 0, is_behind: false };
    while !input.is_spent() {
        match input.below(8) {
            0..3 => stream.add(1 + input.below(4) as u64),
            3 => reader.remove(&mut stream, input.below(4), true),
            4 => reader.remove(&mut stream, input.below(16), false),
            kind => {
                let entries = stream.after(reader.position);
                let most = 1 + input.below(4);
                // The page and what is known of the stream are two commands.
                let (more, forgotten) = (input.below(3), input.below(4) == 0);
                (0..more).for_each(|_| stream.add(1));
                if forgotten {
                    reader.remove_read_by_page(&mut stream, &entries, most);
                }
                let is_still = more == 0 && !forgotten;
                reader.read(entries, most, (kind != 5).then(|| stream.about()), is_still);
            }
        }
    }
    // What is left is read, and once more.
    while reader.position < stream.newest && !stream.after(reader.position).is_empty() {
        reader.read(stream.after(reader.position), 3, Some(stream.about()), true);
    }
    reader.read(stream.after(reader.position), 3, Some(stream.about()), true);
    reader.read(stream.after(reader.position), 3, Some(stream.about()), true);
    assert!(reader.lost.is_empty(), "{:?} lost, and nobody noticed", reader.lost);
    assert!(!reader.counter.is_behind());
}

impl CountedStream {
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
    fn remove(&mut self, stream: &mut CountedStream, number: usize, is_trim: bool) {
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
    fn remove_read_by_page(&mut self, stream: &mut CountedStream, entries: &[u64], most: usize) {
        if let Some(last) = entries.iter().take(most).last() {
            stream.entries.remove(last);
            stream.max_deleted = stream.max_deleted.max(*last);
        }
    }

    /// Reads a page. `is_still`: nothing has happened between the page and the description.
    fn read(&mut self, mut entries: Vec<u64>, most: usize, about: Option<About>, is_still: bool) {
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
        let is_whole = about.is_some() && !more && is_still;
        match audit {
            PageAudit::Complete => {}
            PageAudit::StartedOver => panic!("it has not started over"),
            PageAudit::Lost(up_to) => {
                assert!(up_to > id(before), "{up_to} was delivered before");
                // What is deleted once it was read may be the highest id that was deleted, which
                // hides where.
                let deleted = about.and_then(|about| about.max_deleted).unwrap_or_default();
                let is_hidden = deleted > id(before) && !self.lost.contains(&deleted.ms());
                if is_whole && !self.is_behind && !is_hidden {
                    let earlier = entries.iter().copied().take_while(|ms| id(*ms) <= up_to).last();
                    let mut place = self.lost.range(earlier.unwrap_or(before) + 1..);
                    assert!(
                        place.any(|lost| id(*lost) <= up_to),
                        "{up_to} is not where it was lost"
                    );
                }
                self.reports += 1;
                assert!(self.reports <= self.losses, "nothing more was lost up to {up_to}");
                self.lost.retain(|lost| id(*lost) > up_to);
            }
        }
        if is_whole {
            let is_known = self.lost.is_empty() || self.counter.is_behind();
            assert!(is_known, "{:?} lost, and not noticed yet", self.lost);
        }
        self.is_behind = !is_whole && (self.is_behind || about.is_some() || !entries.is_empty());
    }
}

fn id(ms: u64) -> ReportedId {
    EntryId { ms, seq: 0 }.into()
}

fn entry(ms: u64) -> Entry {
    Entry {
        id: id(ms),
        prev: None,
        number: None,
        event_type: Vec::new(),
        data: Vec::new(),
        skipped: 0,
    }
}
