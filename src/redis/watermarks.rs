//! What is forgotten of streams that applications write (`redis_source stream`). These are never touched:
//! a hash beside them has the id up to which each is not delivered any more.

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, pipe, RedisError, Value};

use super::catch_up::Fetched;
use super::fetcher::is_its_own;
use super::names::Names;
use crate::hub::{Latest, Missing, ReportedId, Source};

/// Asks for the low watermarks of these channels. One that is above everything its stream ever had is void:
/// the stream began anew.
pub async fn watermarks(
    connection: &mut MultiplexedConnection,
    names: &Names,
    source: Source,
    channels: &[&[u8]],
) -> Result<Vec<Option<ReportedId>>, RedisError> {
    if source != Source::Streams || channels.is_empty() {
        return Ok(vec![None; channels.len()]);
    }
    let mut ask = cmd("HMGET");
    ask.arg(names.forgotten()).arg(channels);
    let mut marks: Vec<Option<ReportedId>> = match ask.query_async::<Value>(connection).await {
        Ok(Value::Array(values)) => values.iter().map(id).collect(),
        Ok(_) => Vec::new(),
        Err(error) if is_its_own(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    marks.resize(channels.len(), None);
    let mut about = pipe();
    about.ignore_errors();
    let marked: Vec<usize> = (0..marks.len()).filter(|i| marks[*i].is_some()).collect();
    if marked.is_empty() {
        return Ok(marks);
    }
    for i in &marked {
        about.cmd("XINFO").arg("STREAM").arg(names.subject(channels[*i]));
    }
    let answers: Vec<Result<Value, RedisError>> = about.query_async(connection).await?;
    for (i, answer) in marked.into_iter().zip(answers) {
        let newest = answer.ok().as_ref().and_then(last_generated);
        marks[i] = marks[i].filter(|mark| newest.is_some_and(|newest| newest >= *mark));
    }
    Ok(marks)
}

impl Fetched {
    /// Takes away what is forgotten up to this id.
    pub fn forget(&mut self, up_to: ReportedId, latest: Latest) {
        self.entries.retain(|entry| entry.id > up_to);
        self.missing = match (self.missing, up_to.checked(latest)) {
            (Missing::UpTo(stamp), Some(up_to)) => Missing::UpTo(stamp.max(up_to)),
            (Missing::Nothing, Some(up_to)) => Missing::UpTo(up_to),
            (Missing::Everything, _) | (_, None) => Missing::Everything,
        };
        self.newest = self.newest.max(Some(up_to));
    }
}

fn id(value: &Value) -> Option<ReportedId> {
    match value {
        Value::BulkString(text) => ReportedId::parse(text),
        Value::SimpleString(text) => ReportedId::parse(text.as_bytes()),
        _ => None,
    }
}

/// The newest id that a stream ever had, by the answer to XINFO STREAM.
fn last_generated(about: &Value) -> Option<ReportedId> {
    let Value::Map(about) = about else { return None };
    let is = |key: &Value| match key {
        Value::BulkString(key) => key == b"last-generated-id",
        Value::SimpleString(key) => key == "last-generated-id",
        _ => false,
    };
    about.iter().find(|(key, _)| is(key)).and_then(|(_, value)| id(value))
}
