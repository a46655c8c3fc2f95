//! Pages of streams: the entries that one request reads, and what Redis reports about the stream.

use ::redis::{Pipeline, RedisError, Value};

use super::entry::{entries, Entry};
use crate::hub::{ReportedId, SyncState};

/// A range of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSpan {
    /// After this id, in ascending order.
    After(ReportedId),
    /// From this id, in ascending order.
    From(ReportedId),
    /// All, in descending order.
    Newest,
    /// Before this id, in descending order.
    Before(ReportedId),
}

/// A request for a page of a stream.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Its key.
    pub key: Vec<u8>,
    /// The range of entries.
    pub span: IdSpan,
    /// Maximum number of entries.
    pub most: u64,
    /// Whether to request the stream's description (XINFO STREAM).
    pub about: bool,
    /// Whether to request the stream's length.
    pub length: bool,
}

/// A page of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPage {
    /// The entries, in the requested order. One that is too large has no data.
    pub entries: Vec<Entry>,
    /// Whether there may be more entries after them.
    pub more: bool,
    /// The stream's description, if it was requested.
    pub about: Option<About>,
    /// The stream's length, if it was requested.
    pub length: Option<u64>,
}

impl PageRequest {
    /// Returns a request for these entries only.
    pub fn of(key: Vec<u8>, span: IdSpan, most: u64) -> PageRequest {
        PageRequest { key, span, most, about: false, length: false }
    }

    pub(super) fn most(&self, each: usize) -> usize {
        usize::try_from(self.most).unwrap_or(each).min(each).max(1)
    }

    pub(super) fn add_to(&self, pipeline: &mut Pipeline, each: usize) {
        let (command, from, to) = match self.span {
            // For Redis, a range after the highest possible id is an error.
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

/// Redis' description of a stream (XINFO STREAM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The id of its first entry, if it has any.
    pub(super) first: Option<ReportedId>,
    /// Whether no entry was ever removed. Not reported before Redis 7.
    pub(super) whole: bool,
    /// The highest id that it ever had.
    pub newest: ReportedId,
    /// The number of entries that were ever added to it. Not reported before Redis 7.
    pub(super) added: Option<u64>,
    /// The highest id that was deleted, other than by trimming. Not reported before Redis 7.
    pub(super) max_deleted: Option<ReportedId>,
}

impl StreamPage {
    /// Returns the place of an entry that existed after all that was read before, if it is not on
    /// the page, whose ids rise: above the entries before it and below those after it. `None` also
    /// if it is still to come.
    pub(super) fn lacks(&self, id: ReportedId) -> Option<ReportedId> {
        let index = self.entries.partition_point(|entry| entry.id < id);
        match self.entries.get(index) {
            Some(entry) if entry.id == id => None,
            Some(entry) => Some(entry.id.before()),
            None => (!self.more).then_some(id),
        }
    }

    /// Returns the places, between entries, before which the publish script added others that are
    /// gone.
    pub(super) fn holes(&self) -> impl DoubleEndedIterator<Item = ReportedId> + '_ {
        let pairs = self.entries.windows(2).map(|pair| (&pair[0], &pair[1]));
        pairs.filter_map(|(one, next)| next.prev.filter(|prev| *prev > one.id))
    }
}

impl About {
    /// Parses a reply to XINFO STREAM.
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

    /// Returns whether the stream was replaced, or has lost its newest entries.
    pub(super) fn started_over(&self, entry: Option<ReportedId>) -> bool {
        let Some(entry) = entry else { return false };
        self.newest < entry || self.whole && self.first.is_some_and(|first| first > entry)
    }

    /// Whether entries directly after `had` may have been trimmed: `had` was.
    pub(super) fn trimmed_after(&self, had: ReportedId) -> bool {
        !self.whole && self.first.is_some_and(|first| first > had)
    }

    /// The newest id below the first one of the stream, or `first_read` if the stream has lost its
    /// beginning since that was read. Entries up to it may have been trimmed before they were read.
    pub(super) fn trimmed(
        &self,
        known: SyncState,
        first_read: Option<ReportedId>,
    ) -> Option<ReportedId> {
        // Where nothing is known of it, it may be another stream than the one that a client has
        // read.
        let may_be = !self.whole || known == SyncState::Nothing;
        let first = first_read
            .map_or(self.first, |read| self.first.map(|first| first.min(read)).or(first_read));
        first.filter(|_| may_be).map(|first| first.before())
    }

    /// The newest id that it has had after `last`, of an entry that is gone. It may have been
    /// added, and removed, after the entries up to `last` were read.
    pub(super) fn gone_after(&self, last: ReportedId) -> Option<ReportedId> {
        let emptied = self.first.is_none().then_some(self.newest);
        emptied.max(self.max_deleted).filter(|gone| *gone > last)
    }
}

/// Whether an error is about one key: it is not a stream, or the user has no permission to read it.
pub(super) fn is_its_own(error: &RedisError) -> bool {
    matches!(error.code(), Some("WRONGTYPE" | "NOPERM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_a_key_concern_one_channel() {
        let error = |code: &str| ::redis::make_extension_error(code.to_owned(), None);
        assert!(["WRONGTYPE", "NOPERM"].iter().all(|code| is_its_own(&error(code))));
        assert!(["LOADING", "OOM", "ERR"].iter().all(|code| !is_its_own(&error(code))));
    }

    #[test]
    fn a_request_is_limited_to_what_is_read_at_a_time() {
        let most = |most| PageRequest::of(Vec::new(), IdSpan::Newest, most).most(10);
        assert_eq!([0, 1, 9, 10, 11, u64::MAX].map(most), [1, 1, 9, 10, 10, 10]);
    }

    #[test]
    fn no_range_is_one_that_redis_rejects() {
        let id = |text: &str| ReportedId::parse(text.as_bytes()).unwrap();
        let last = "18446744073709551615-18446744073709551615";
        let command = |span| {
            let mut pipeline = ::redis::pipe();
            PageRequest::of(b"key".to_vec(), span, 7).add_to(&mut pipeline, 100);
            let sent = String::from_utf8(pipeline.get_packed_pipeline()).unwrap();
            let words =
                sent.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['*', '$']));
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(command(IdSpan::After(id("5-1"))), "XRANGE key (5-1 + COUNT 7");
        assert_eq!(command(IdSpan::After(id(last))), format!("XRANGE key {last} + COUNT 7"));
        let almost = id(last).before();
        assert_eq!(command(IdSpan::After(almost)), format!("XRANGE key ({almost} + COUNT 7"));
        assert_eq!(command(IdSpan::From(id(last))), format!("XRANGE key {last} + COUNT 7"));
        assert_eq!(command(IdSpan::Newest), "XREVRANGE key + - COUNT 7");
        assert_eq!(command(IdSpan::Before(id("5-1"))), "XREVRANGE key (5-1 - COUNT 7");
    }

    #[test]
    fn the_description_of_a_stream_is_read_in_every_form() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let simple = |text: &str| Value::SimpleString(text.into());
        let id = |text: &str| ReportedId::parse(text.as_bytes());
        for text in [bulk, simple] {
            let first = Value::Array(vec![text("5-0"), Value::Array(vec![text("d"), text("x")])]);
            let about = |length, added| {
                Value::Map(vec![
                    (text("length"), Value::Int(length)),
                    (text("last-generated-id"), text("9-0")),
                    (text("max-deleted-entry-id"), text("7-0")),
                    (text("entries-added"), Value::Int(added)),
                    (text("first-entry"), first.clone()),
                ])
            };
            let of = |length, added| About::read(&about(length, added)).unwrap();
            let (newest, max_deleted) = (id("9-0").unwrap(), id("7-0"));
            let expected =
                About { first: id("5-0"), whole: true, newest, added: Some(3), max_deleted };
            assert_eq!(of(3, 3), expected);
            assert_eq!(of(2, 3), About { whole: false, ..expected });
            assert_eq!(of(3, -1), About { whole: false, added: None, ..expected });
        }
        // Redis before 7.
        let old = Value::Map(vec![(bulk("last-generated-id"), bulk("9-0"))]);
        let newest = id("9-0").unwrap();
        let expected = About { first: None, whole: false, newest, added: None, max_deleted: None };
        assert_eq!(About::read(&old), Some(expected));
        let without = Value::Map(vec![(bulk("length"), Value::Int(1))]);
        assert_eq!([Value::Nil, without].map(|reply| About::read(&reply)), [None, None]);
    }

    #[test]
    fn what_a_description_says_of_entries_that_were_read_is_exact() {
        let id = |ms: u64| ReportedId::parse(format!("{ms}-0").as_bytes()).unwrap();
        let about = |first: Option<u64>, whole| About {
            first: first.map(id),
            whole,
            newest: id(9),
            added: None,
            max_deleted: Some(id(7)),
        };
        let started_over = |entry| about(Some(5), true).started_over(Some(id(entry)));
        assert_eq!([4, 5, 9, 10].map(started_over), [true, false, false, true]);
        assert!(!about(Some(5), false).started_over(Some(id(4))));
        assert!(!about(Some(5), true).started_over(None));

        let trimmed_after = |had| about(Some(5), false).trimmed_after(id(had));
        assert_eq!([4, 5, 6].map(trimmed_after), [true, false, false]);
        assert!(!about(Some(5), true).trimmed_after(id(4)));
        assert!(!about(None, false).trimmed_after(id(4)));

        let known = SyncState::Left(id(3));
        let trimmed = |read: Option<u64>| about(Some(5), false).trimmed(known, read.map(id));
        let before = |ms| Some(id(ms).before());
        assert_eq!([None, Some(4), Some(6)].map(trimmed), [before(5), before(4), before(5)]);
        assert_eq!(about(None, false).trimmed(known, Some(id(4))), before(4));
        assert_eq!(about(None, false).trimmed(known, None), None);
        assert_eq!(about(Some(5), true).trimmed(known, None), None);
        assert_eq!(about(Some(5), true).trimmed(SyncState::Nothing, None), before(5));

        let gone = |first, last| about(first, false).gone_after(id(last));
        assert_eq!([6, 7, 8].map(|last| gone(Some(5), last)), [Some(id(7)), None, None]);
        assert_eq!([8, 9].map(|last| gone(None, last)), [Some(id(9)), None]);
    }

    #[test]
    fn the_place_of_a_missing_entry_is_before_the_next_one() {
        let id = |ms: u64| ReportedId::parse(format!("{ms}-0").as_bytes()).unwrap();
        let entry = |ms, prev: Option<u64>| {
            let (event_type, data) = (Vec::new(), Vec::new());
            Entry { id: id(ms), prev: prev.map(id), number: None, event_type, data, skipped: 0 }
        };
        let entries = vec![entry(4, Some(1)), entry(6, Some(4)), entry(8, Some(7)), entry(9, None)];
        let page = StreamPage { entries, more: false, ..StreamPage::default() };
        let (before, after) = (id(6).before(), id(8).before());
        let lacks = [5, 6, 7, 9].map(|ms| page.lacks(id(ms)));
        assert_eq!(lacks, [Some(before), None, Some(after), None]);
        assert_eq!(page.lacks(id(10)), Some(id(10)));
        assert_eq!(StreamPage { more: true, ..page.clone() }.lacks(id(10)), None);
        // What was before the first entry is not known to be gone.
        assert_eq!(page.holes().collect::<Vec<_>>(), [id(7)]);
    }
}
