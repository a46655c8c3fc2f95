//! Whatever a Redis replies, and whatever it sends without being asked: it is read, or passed over.
//!
//! The bytes are what a server sends. They go through the bound on values and the codec, as on a
//! connection.

use ::redis::{parse_redis_value, PushInfo, PushKind, RedisError, Value};

use crate::redis::entry::entries;
use crate::redis::inbox::{Inbox, Push};
use crate::redis::limits;
use crate::redis::link::skipped_length;
use crate::redis::script;
use crate::redis::stream_page::About;
use crate::redis::token::Agreed;
use crate::redis::watermarks;
use crate::sse::event_type;

pub fn run(input: &[u8]) {
    let Ok(value) = parse_redis_value(input) else { return };
    check_entries(&value, input.len());
    check_push(&value, input.len());
    check_script_result(value.clone());
    if let Some(limit) = limits::limit(&value) {
        assert!(limit > 0);
    }
    About::read(&value);
    skipped_length(&value);
    for count in [0, 1, 5] {
        let marks = watermarks::read(Some(Ok(value.clone())), count).unwrap();
        assert_eq!(marks.len(), count);
        for mark in marks {
            let kept = watermarks::not_void(mark, Ok(value.clone()));
            assert!(kept.is_none() || kept == mark);
        }
    }
    let agreed = Agreed::read(Ok(Value::Nil), Ok(value));
    assert!(agreed.token().is_none_or(|token| token.as_bytes().len() == 32));
}

fn check_entries(value: &Value, bytes: usize) {
    let read = entries(value);
    let most = if let Value::Array(list) = value { list.len() } else { 0 };
    assert!(read.len() <= most);
    for entry in read {
        assert!(std::str::from_utf8(&entry.data).is_ok());
        assert_eq!(event_type::check(&entry.event_type), Ok(()));
        // A byte becomes at most six, as in `\u0001`, or three if it is not UTF-8.
        assert!(entry.data.len() + entry.event_type.len() <= 6 * bytes);
    }
}

/// Takes the value as what was pushed: at most one thing comes of it.
fn check_push(value: &Value, bytes: usize) {
    let Value::Array(data) = value else { return };
    let kinds = [PushKind::Message, PushKind::PMessage, PushKind::Subscribe, PushKind::Unsubscribe];
    for kind in kinds {
        let (inbox, pushes) = Inbox::new();
        pushes(PushInfo { kind: kind.clone(), data: data.clone() });
        let taken = inbox.take(usize::MAX);
        assert!(taken.len() <= 1 && inbox.take(usize::MAX).is_empty());
        match taken.front() {
            Some(Push::Message { subject, payload }) => {
                assert!(kind == PushKind::Message && subject.len() + payload.len() <= bytes);
            }
            Some(Push::Matched { pattern, subject, payload }) => {
                let all = pattern.len() + subject.len() + payload.len();
                assert!(kind == PushKind::PMessage && all <= bytes);
            }
            Some(Push::TooLarge { pattern, .. }) => {
                assert!(pattern.is_none() || kind == PushKind::PMessage);
                assert!(data.last().is_some_and(|last| skipped_length(last).is_some()));
            }
            Some(Push::Subscribed { .. }) => assert_eq!(kind, PushKind::Subscribe),
            Some(Push::End) => panic!("the connection has not ended"),
            None => {}
        }
    }
}

/// Takes the value as the reply of the publish script.
fn check_script_result(value: Value) {
    let Ok(reply) = ::redis::from_redis_value::<Vec<Vec<u8>>>(value) else { return };
    match script::ids(reply.clone()) {
        Ok(ids) => {
            let texts: Vec<Vec<u8>> = ids.iter().map(|id| id.to_string().into_bytes()).collect();
            assert_eq!(texts, reply);
        }
        Err(error) => {
            let error: RedisError = error;
            assert_eq!(error.code(), Some("ERR"));
        }
    }
}
