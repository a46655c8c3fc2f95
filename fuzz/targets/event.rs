//! Whatever a publisher chooses as type and data, a client reads exactly one event of it, and HTTP
//! exactly one chunk.

use super::input::Input;
use crate::sse::event_source::{read, with_lf_ends};
use crate::sse::frame::{self, Frame};
use crate::sse::id::{EntryId, Id};
use crate::sse::{channel, data, event_type};

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (first, second) = (id(&mut input), id(&mut input));
    let (name, other_name, kind) = (input.piece(), input.piece(), input.byte());
    let text = input.rest();

    let mut encoded = Vec::new();
    data::encode(text, &mut encoded);
    assert_eq!(data::encoded_len(text), encoded.len());
    assert!(encoded.len() <= 7 * (text.len() + 1));
    assert_eq!(data::decode(&encoded), with_lf_ends(text));
    assert!(data::decode(text).len() <= text.len());

    let is_writable = !name.iter().any(|byte| b"\r\n\0".contains(byte));
    let mut seen_name = if is_writable { name } else { b"" };
    let mut event = Frame::event(name, &encoded, &first);
    check(&event, seen_name, text, &first);
    if kind & 1 != 0 {
        event = event.named(other_name);
        if seen_name.is_empty() && event_type::check(other_name).is_ok() {
            seen_name = other_name;
        }
        check(&event, seen_name, text, &first);
    }
    if kind & 2 != 0 {
        event = event.with_id(&second);
        check(&event, seen_name, text, &second);
    }
    check_gap(text, &first);
    check_stream(&event, if seen_name.is_empty() { b"message" } else { seen_name });
    if channel::check(name).is_ok() {
        check(&Frame::event(name, &encoded, &first), name, text, &first);
    }
}

fn id(input: &mut Input<'_>) -> Id {
    let entry_id = EntryId { ms: input.number(), seq: input.number() };
    let (tag, pos) = (input.number() as u32, input.number());
    input.of(&[
        Id::Durable(entry_id),
        Id::Local { entry_id, tag },
        Id::Placed { entry_id, tag, pos },
    ])
}

/// Checks what a client sees of a frame with one event.
fn check(frame: &Frame, name: &[u8], text: &[u8], id: &Id) {
    check_chunk(frame);
    let seen = read(frame.body());
    assert_eq!(seen.events.len(), 1);
    let name = if name.is_empty() { b"message" } else { name };
    assert_eq!(seen.events[0].name, name);
    assert_eq!(seen.events[0].data, with_lf_ends(text));
    assert_eq!(seen.last_event_id, id.to_string().into_bytes());
    assert_eq!(seen.retry, None);
    // The id comes last, so that an event that was cut off moves no client on.
    let cut = read(&frame.body()[..frame.body().len() - 1]);
    assert!(cut.events.is_empty() && cut.last_event_id.is_empty());
}

/// Checks that a frame is one HTTP/1.1 chunk.
fn check_chunk(frame: &Frame) {
    let (chunk, body) = (frame.chunk(), frame.body());
    assert_eq!(&frame.body_bytes()[..], body);
    let head = format!("{:x}\r\n", body.len());
    assert_eq!(&chunk[..], [head.as_bytes(), body, b"\r\n"].concat());
}

/// Checks that a client's id, which can be anything, stays inside the JSON of the gap event.
fn check_gap(after: &[u8], id: &Id) {
    let gap = frame::gap_event(b"sse.gap", after, id);
    check_chunk(&gap);
    let seen = read(gap.body());
    assert_eq!((seen.events.len(), &seen.events[0].name[..]), (1, &b"sse.gap"[..]));
    let json: serde_json::Value = serde_json::from_slice(&seen.events[0].data).unwrap();
    let printable = after.iter().filter(|byte| matches!(byte, b' '..=b'~'));
    let printable: String = printable.map(|byte| char::from(*byte)).collect();
    assert_eq!(json, serde_json::json!({ "after": printable }));
}

/// Checks an event between the frames that the module sends itself.
fn check_stream(event: &Frame, name: &[u8]) {
    let frames = [frame::opening(7), frame::heartbeat(), event.clone(), Frame::raw(b"")];
    let joined = Frame::joined(&[&frames[..], &[event.clone(), frame::final_retry(9)]].concat());
    check_chunk(&joined);
    let seen = read(joined.body());
    assert_eq!((seen.events.len(), seen.retry), (2, Some(9)));
    assert!(seen.events.iter().all(|seen| seen.name == name));
}
