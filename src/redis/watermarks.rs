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
