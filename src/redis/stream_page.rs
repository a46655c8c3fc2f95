//! Pages of streams: what is read of a stream in one request, and what Redis says of the stream itself.

use ::redis::{Pipeline, RedisError, Value};

use super::message::{entries, Entry};
use crate::hub::{ReportedId, SyncState};

/// Which entries of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSpan {
    /// Those behind this number, by rising numbers.
    After(ReportedId),
    /// This one and those behind it.
    From(ReportedId),
    /// All, the newest first.
    Newest,
    /// Those before this number, the newest first.
    Before(ReportedId),
}

/// What is to be read of a stream.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Its key.
    pub key: Vec<u8>,
    /// Which entries.
    pub span: IdSpan,
    /// How many at most.
    pub most: u64,
    /// Whether it is to be told what there is to know of the stream itself.
    pub about: bool,
    /// And how long it is.
    pub length: bool,
}

/// What was read of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPage {
    /// Entries, in the order that was asked for. One that is too large has no data.
    pub entries: Vec<Entry>,
    /// There may be others behind them.
    pub more: bool,
    /// What there is to know of the stream itself.
    pub about: Option<About>,
    /// How many entries it has, if that was asked.
    pub length: Option<u64>,
}

impl PageRequest {
    /// These entries, and nothing else.
    pub fn of(key: Vec<u8>, span: IdSpan, most: u64) -> PageRequest {
        PageRequest { key, span, most, about: false, length: false }
    }

    pub(super) fn most(&self, each: usize) -> usize {
        usize::try_from(self.most).unwrap_or(each).min(each).max(1)
    }

    pub(super) fn ask(&self, pipeline: &mut Pipeline, each: usize) {
        let (command, from, to) = match self.span {
            // Redis takes it for an error to ask for what comes after the last id of all.
            IdSpan::After(id) if id.is_last() => ("XRANGE", id.to_string(), "+"),
            IdSpan::After(id) => ("XRANGE", format!("({id}"), "+"),
            IdSpan::From(id) => ("XRANGE", id.to_string(), "+"),
            IdSpan::Newest => ("XREVRANGE", "+".to_owned(), "-"),
            IdSpan::Before(id) => ("XREVRANGE", format!("({id}"), "-"),
        };
        let most = self.most(each);
        pipeline.cmd(command).arg(&self.key).arg(from).arg(to).arg("COUNT").arg(most);
        if self.about {
            pipeline.cmd("XINFO").arg("STREAM").arg(&self.key);
        }
        if self.length {
            pipeline.cmd("XLEN").arg(&self.key);
        }
    }
}

/// What Redis says of a stream itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its first entry, if it has any.
    pub(super) first: Option<ReportedId>,
    /// Nothing was ever taken out of it. Redis before 7 does not say it.
    pub(super) whole: bool,
    /// The newest number that it ever had.
    pub newest: ReportedId,
    /// How many entries were ever added to it. Redis before 7 does not say it.
    pub(super) added: Option<u64>,
    /// The highest id that was deleted, other than by trimming. Redis before 7 does not say it.
    pub(super) max_deleted: Option<ReportedId>,
}

impl StreamPage {
    /// The highest id below the page's entries, if an entry after `had` was deleted and is not among them.
    pub(super) fn deleted_after(&self, had: ReportedId) -> Option<ReportedId> {
        let deleted = self.about?.max_deleted.filter(|deleted| *deleted > had)?;
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else {
            return Some(deleted);
        };
        let is_of_page = deleted <= last.id || !self.more;
        let is_read = self.entries.iter().any(|entry| entry.id == deleted);
        (is_of_page && !is_read).then(|| first.id.before())
    }
}

impl About {
    /// Reads an answer to XINFO STREAM.
    pub(super) fn read(value: &Value) -> Option<About> {
        let Value::Map(about) = value else { return None };
        let field = |name: &str| {
            let is = |key: &Value| match key {
                Value::BulkString(key) => key == name.as_bytes(),
                Value::SimpleString(key) => key == name,
                _ => false,
            };
            about.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
        };
        let number = |name| match field(name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        let whole = number("entries-added").is_some_and(|added| number("length") == Some(added));
        let first = field("first-entry").cloned().unwrap_or(Value::Nil);
        let first = entries(&Value::Array(vec![first])).first().map(|entry| entry.id);
        let id = |name: &str| match field(name)? {
            Value::BulkString(id) => ReportedId::parse(id),
            Value::SimpleString(id) => ReportedId::parse(id.as_bytes()),
            _ => None,
        };
        let newest = id("last-generated-id")?;
        let added = number("entries-added").and_then(|added| u64::try_from(added).ok());
        Some(About { first, whole, newest, added, max_deleted: id("max-deleted-entry-id") })
    }

    /// Whether it is another stream than the one that was read, or has lost its end.
    pub(super) fn started_over(&self, entry: Option<ReportedId>) -> bool {
        let Some(entry) = entry else { return false };
        self.newest < entry || self.whole && self.first.is_some_and(|first| first > entry)
    }

    /// Whether entries after `had` that are not among `ids`, the entries read up to `position`, are gone or
    /// may be. They may if `had` was trimmed.
    pub(super) fn may_lack_after(
        &self,
        had: ReportedId,
        position: ReportedId,
        ids: &[ReportedId],
    ) -> bool {
        let is_deleted = |id: ReportedId| id > had && !ids.contains(&id);
        self.max_deleted.is_some_and(is_deleted)
            || match self.first {
                Some(first) => !self.whole && first > had,
                None => self.newest > position,
            }
    }

    /// The newest number that may have been taken out of it before it was read.
    pub(super) fn lacks(&self, known: SyncState) -> Option<ReportedId> {
        match self.first {
            // Everything that it had.
            None => Some(self.newest),
            // Where nothing is known of it, it may be another stream than the one that a client has read.
            Some(first) => (!self.whole || known == SyncState::Nothing).then(|| first.before()),
        }
    }
}

/// Whether an error is about one key: it is no stream, or this user may not read it.
pub(super) fn is_its_own(error: &RedisError) -> bool {
    matches!(error.code(), Some("WRONGTYPE" | "NOPERM"))
}
