//! The JSON bodies of successful publishes.

use super::BodyKind;
use serde_json::Value;
use std::fmt::Display;

/// Returns the JSON body of a successful publish. It is formatted by hand because it is built for
/// every publish; only the channel's name can contain characters that need escaping.
pub fn answer(channel: &[u8], kind: BodyKind, ids: &[impl Display], subscribers: u64) -> String {
    let channel = Value::from(String::from_utf8_lossy(channel));
    match (kind, ids) {
        (BodyKind::One, [id, ..]) => {
            format!(r#"{{"channel":{channel},"id":"{id}","subscribers":{subscribers}}}"#)
        }
        (_, ids) => {
            let ids = list(ids);
            format!(r#"{{"channel":{channel},"ids":[{ids}],"subscribers":{subscribers}}}"#)
        }
    }
}

/// Returns the JSON body of the response to a publish that finishes a run. `finished` is false if
/// the publish repeats another one with the same key, which did not.
pub fn finish_answer(
    channel: &[u8],
    ids: &[impl Display],
    finished: bool,
    subscribers: u64,
) -> String {
    let (channel, ids) = (Value::from(String::from_utf8_lossy(channel)), list(ids));
    format!(
        r#"{{"channel":{channel},"ids":[{ids}],"finished":{finished},"subscribers":{subscribers}}}"#
    )
}

/// Returns ids as the elements of a JSON array.
fn list(ids: &[impl Display]) -> String {
    ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",")
}
