//! Doubly linked lists of channel records. A list is one word of the header (first | last); its
//! members are linked through one word of each record (earlier | later).

use crate::hub::memory::layout::{high, low, pair};
use crate::hub::memory::redo::Transaction;

/// One list: its word in the header, and the word of a record that links its members.
#[derive(Clone, Copy)]
pub struct List {
    pub ends: usize,
    pub link: usize,
}

impl List {
    /// Appends a record that is not a member.
    pub fn push(self, change: &mut Transaction<'_>, record: u32) {
        let ends = change.get(self.ends);
        let (first, last) = (high(ends), low(ends));
        change.set(change.layout.block(record, self.link), pair(last, 0));
        if last == 0 {
            change.set(self.ends, pair(record, record));
        } else {
            change.set_low(change.layout.block(last, self.link), record);
            change.set(self.ends, pair(first, record));
        }
    }

    /// Removes a record that is a member.
    pub fn remove(self, change: &mut Transaction<'_>, record: u32) {
        let at = change.layout.block(record, self.link);
        let links = change.get(at);
        let (before, after) = (high(links), low(links));
        change.set(at, 0);
        match before {
            0 => change.set_high(self.ends, after),
            _ => change.set_low(change.layout.block(before, self.link), after),
        }
        match after {
            0 => change.set_low(self.ends, before),
            _ => change.set_high(change.layout.block(after, self.link), before),
        }
    }
}
