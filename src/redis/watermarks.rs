//! Low watermarks of streams that applications write (`redis_source stream`). These streams are
//! never modified. Instead, a hash contains for each the id up to which its entries are no longer
//! delivered.

use ::redis::{pipe, Pipeline, RedisError, Value};

use super::catch_up::Fetched;
use super::stream_page::is_its_own;
use crate::hub::{Latest, Loss, ReportedId};
use crate::redis::keys::Keys;

/// Returns the query for the low watermarks of these channels.
pub fn query(names: &Keys, channels: &[&[u8]]) -> Pipeline {
    let mut query = pipe();
    query.cmd("HMGET").arg(names.forgotten()).arg(channels);
    query
}

/// Returns the watermarks of this many channels from the reply. A channel without permission has
/// none.
pub fn read(
    reply: Option<Result<Value, RedisError>>,
    channels: usize,
) -> Result<Vec<Option<ReportedId>>, RedisError> {
    let mut marks: Vec<Option<ReportedId>> = match reply {
        Some(Ok(Value::Array(values))) => values.iter().map(id).collect(),
        Some(Err(error)) if !is_its_own(&error) => return Err(error),
        _ => Vec::new(),
    };
    marks.resize(channels, None);
    Ok(marks)
}

/// Returns a watermark, unless it is above every id that its stream ever had, according to the
/// reply to XINFO STREAM: then the stream has started over, and the watermark is void.
pub fn not_void(mark: Option<ReportedId>, about: Result<Value, RedisError>) -> Option<ReportedId> {
    let newest = about.ok().as_ref().and_then(last_generated);
    mark.filter(|mark| newest.is_some_and(|newest| newest >= *mark))
}

impl Fetched {
    /// Removes everything up to this id, which was deleted.
    pub fn forget(&mut self, up_to: ReportedId, latest: Latest) {
        self.entries.retain(|entry| entry.id > up_to);
        self.missing = match (self.missing, up_to.checked(latest)) {
            (Loss::UpTo(entry_id), Some(up_to)) => Loss::UpTo(entry_id.max(up_to)),
            (Loss::Nothing, Some(up_to)) => Loss::UpTo(up_to),
            (Loss::Everything, _) | (_, None) => Loss::Everything,
        };
        self.newest = self.newest.max(Some(up_to));
        self.is_first = false;
    }
}

fn id(value: &Value) -> Option<ReportedId> {
    match value {
        Value::BulkString(text) => ReportedId::parse(text),
        Value::SimpleString(text) => ReportedId::parse(text.as_bytes()),
        _ => None,
    }
}

/// Returns the highest id that a stream ever had, from the reply to XINFO STREAM.
fn last_generated(about: &Value) -> Option<ReportedId> {
    let Value::Map(about) = about else { return None };
    let is = |key: &Value| match key {
        Value::BulkString(key) => key == b"last-generated-id",
        Value::SimpleString(key) => key == "last-generated-id",
        _ => false,
    };
    about.iter().find(|(key, _)| is(key)).and_then(|(_, value)| id(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Now;
    use crate::redis::entry::Entry;
    use crate::sse::id::EntryId;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn simple(text: &str) -> Value {
        Value::SimpleString(text.into())
    }

    fn at(ms: u64) -> ReportedId {
        EntryId { ms, seq: 0 }.into()
    }

    #[test]
    fn each_channel_has_the_watermark_that_is_stored_for_it_or_none() {
        let reply = vec![bulk("5-0"), Value::Nil, simple("6-0"), bulk("six"), Value::Int(7)];
        let marks = |channels| read(Some(Ok(Value::Array(reply.clone()))), channels).unwrap();
        assert_eq!(marks(5), [Some(at(5)), None, Some(at(6)), None, None]);
        assert_eq!(marks(6), [Some(at(5)), None, Some(at(6)), None, None, None]);
        assert_eq!(marks(1), [Some(at(5))]);
        assert_eq!(read(Some(Ok(Value::Nil)), 2).unwrap(), [None, None]);
        assert_eq!(read(None, 1).unwrap(), [None]);
    }

    #[test]
    fn without_permission_there_are_no_watermarks_and_other_errors_are_reported() {
        let reply = |code: &str| {
            let error = ::redis::make_extension_error(code.to_owned(), None);
            read(Some(Err(error)), 2)
        };
        for code in ["NOPERM", "WRONGTYPE"] {
            assert_eq!(reply(code).unwrap(), [None, None], "{code}");
        }
        assert_eq!(reply("LOADING").unwrap_err().code(), Some("LOADING"));
    }

    #[test]
    fn a_watermark_above_every_id_that_its_stream_ever_had_is_void() {
        let about =
            |name, newest| Value::Map(vec![(bulk("length"), Value::Int(1)), (name, newest)]);
        for name in [bulk("last-generated-id"), simple("last-generated-id")] {
            let is_valid =
                |mark| not_void(Some(at(mark)), Ok(about(name.clone(), bulk("5-0")))).is_some();
            assert_eq!([4, 5, 6].map(is_valid), [true, true, false]);
        }
        assert_eq!(not_void(None, Ok(about(bulk("last-generated-id"), bulk("5-0")))), None);
        assert_eq!(not_void(Some(at(5)), Ok(about(bulk("last-entry"), bulk("5-0")))), None);
        assert_eq!(not_void(Some(at(5)), Ok(Value::Nil)), None);
        let gone = ::redis::make_extension_error("ERR".to_owned(), Some("no such key".to_owned()));
        assert_eq!(not_void(Some(at(5)), Err(gone)), None);
    }

    #[test]
    fn what_was_deleted_is_neither_delivered_nor_missing_twice() {
        let latest = Latest::here(Now { wall: 1_000, ..Now::default() });
        let entry = |ms| {
            let (event_type, data) = (Vec::new(), Vec::new());
            Entry { id: at(ms), prev: None, number: None, event_type, data, skipped: 0 }
        };
        let of = |missing, newest: Option<u64>, up_to| {
            let entries = [4, 5, 6].map(entry).to_vec();
            let newest = newest.map(at);
            let mut fetched = Fetched { entries, missing, newest, added: None, is_first: true };
            fetched.forget(up_to, latest);
            assert!(!fetched.is_first);
            let left: Vec<u64> = fetched.entries.iter().map(|entry| entry.id.ms()).collect();
            (left, fetched.missing, fetched.newest)
        };
        let lost = |ms| Loss::UpTo(EntryId { ms, seq: 0 });
        assert_eq!(of(Loss::Nothing, Some(6), at(5)), (vec![6], lost(5), Some(at(6))));
        assert_eq!(of(lost(3), Some(6), at(5)), (vec![6], lost(5), Some(at(6))));
        assert_eq!(of(lost(6), Some(6), at(5)), (vec![6], lost(6), Some(at(6))));
        assert_eq!(of(Loss::Everything, Some(6), at(5)).1, Loss::Everything);
        assert_eq!(of(Loss::Nothing, None, at(7)), (vec![], lost(7), Some(at(7))));
        // An id of the distant future was never assigned by the clock.
        assert_eq!(of(Loss::Nothing, Some(6), at(u64::MAX)).1, Loss::Everything);
    }
}
