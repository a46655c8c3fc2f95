//! What a publisher says beside the body: the argument `finish`, the `Content-Type`, and the event
//! type, which is percent-encoded in the query string.

use percent_encoding::{percent_decode, percent_encode, NON_ALPHANUMERIC};

use super::input::Input;
use crate::sse::content_type::is_event_stream;
use crate::sse::event_source::read;
use crate::sse::event_type::{check, TypeError, MAX_LEN};
use crate::sse::finish::{in_query, FinishArgument};
use crate::sse::frame::Frame;
use crate::sse::id::{EntryId, Id};

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (query, content_type) = (input.piece(), input.piece());
    check_finish(query);
    assert_eq!(is_event_stream(content_type), reference_content_type(content_type));
    let argument = input.rest();
    let name: Vec<u8> = percent_decode(argument).collect();
    check_type(&name);
    let encoded = percent_encode(&name, NON_ALPHANUMERIC).to_string();
    assert!(percent_decode(encoded.as_bytes()).eq(name.iter().copied()));
}

fn check_finish(query: &[u8]) {
    let mut values = Vec::new();
    for argument in query.split(|byte| *byte == b'&') {
        let (name, value) = match argument.iter().position(|byte| *byte == b'=') {
            Some(at) => (&argument[..at], Some(&argument[at + 1..])),
            None => (argument, None),
        };
        if name.to_ascii_lowercase() == b"finish" {
            values.push(value);
        }
    }
    let wanted = match values[..] {
        [] => FinishArgument::Absent,
        _ if values.iter().all(|value| matches!(value, None | Some(b"1"))) => {
            FinishArgument::Finish
        }
        _ => FinishArgument::Invalid,
    };
    assert_eq!(in_query(query), wanted);
    // The order of the arguments does not matter, nor do others.
    let mut arguments: Vec<&[u8]> = query.split(|byte| *byte == b'&').collect();
    arguments.reverse();
    arguments.push(b"event=finish");
    assert_eq!(in_query(&arguments.join(&b'&')), wanted);
}

fn reference_content_type(content_type: &[u8]) -> bool {
    let text: String = content_type.iter().map(|byte| char::from(*byte)).collect();
    let (essence, _) = text.split_once(';').unwrap_or((&text, ""));
    let is_space = |char: char| matches!(char, ' ' | '\t' | '\n' | '\x0c' | '\r');
    essence.trim_matches(is_space).to_ascii_lowercase() == "text/event-stream"
}

/// A type that is accepted stays on its line, and is the one that a page listens to.
fn check_type(name: &[u8]) {
    let wanted = match std::str::from_utf8(name) {
        _ if name.len() > MAX_LEN => Err(TypeError::TooLong),
        _ if [b'\r', b'\n', 0].iter().any(|byte| name.contains(byte)) => {
            Err(TypeError::LineEndOrNul)
        }
        Err(_) => Err(TypeError::NotUtf8),
        Ok("error" | "open") => Err(TypeError::Reserved),
        Ok(text) if text.starts_with("sse.") => Err(TypeError::Reserved),
        Ok(_) => Ok(()),
    };
    assert_eq!(check(name), wanted);
    if wanted.is_ok() {
        let id = Id::Durable(EntryId { ms: 1, seq: 2 });
        let seen = read(Frame::event(name, b"data: x\n", &id).body());
        assert_eq!(seen.events.len(), 1);
        assert_eq!(seen.events[0].name, if name.is_empty() { b"message" } else { name });
    }
}
