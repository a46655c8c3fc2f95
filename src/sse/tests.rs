//! What clients see of the bytes written here, as read by an independent EventSource. There is one
//! test for each rule of the wire format that some client is known to depend on.

use super::event_source::{read, with_lf_ends, DispatchedEvent};
use super::id::{EntryId, Id};
use super::{batch, channel, data, event_type, frame, id};
use frame::Frame;
use proptest::prelude::*;

const ID: Id =
    Id::Local { entry_id: EntryId { ms: 1_763_807_585_123, seq: 0 }, tag: 2_891_336_453 };
const ID_TEXT: &[u8] = b"1763807585123-0-2891336453";

/// Bytes as a hostile publisher would choose them.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\r",
            "\n",
            "\r\n",
            ":",
            " ",
            "\0",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
            "\u{b}",
            "\u{c}",
            "id: evil",
            "data",
            "data: ",
            "event: error",
            "retry: 0",
            "é✓",
            "a",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Ids of every kind, including the extremes.
pub fn ids() -> impl Strategy<Value = Id> {
    let number = || prop_oneof![any::<u64>(), 0..20u64, Just(u64::MAX), Just(0)];
    let entry_id = (number(), number()).prop_map(|(ms, seq)| EntryId { ms, seq });
    (entry_id, any::<u32>(), number(), 0..3).prop_map(|(entry_id, tag, pos, kind)| match kind {
        0 => Id::Durable(entry_id),
        1 => Id::Local { entry_id, tag },
        _ => Id::Placed { entry_id, tag, pos },
    })
}

fn event(name: &[u8], text: &[u8]) -> Frame {
    let mut encoded = Vec::new();
    data::encode(text, &mut encoded);
    Frame::event(name, &encoded, &ID)
}

fn data_seen(text: &str) -> Vec<u8> {
    let seen = read(event(b"", text.as_bytes()).body());
    assert_eq!(seen.events.len(), 1, "{text:?}");
    assert_eq!(seen.last_event_id, ID_TEXT, "{text:?}");
    seen.events[0].data.clone()
}

#[test]
fn no_frame_begins_with_a_bom_and_a_bom_in_data_survives() {
    assert_eq!(data_seen("\u{feff}a\n\u{feff}b"), "\u{feff}a\n\u{feff}b".as_bytes());
    let frames =
        [event(b"", "\u{feff}".as_bytes()), event("\u{feff}".as_bytes(), b""), frame::opening(1)];
    for frame in frames {
        assert!(frame.body()[0].is_ascii());
    }
}

#[test]
fn only_lf_ends_lines() {
    let frames = [
        event(b"a", b"x\ry\r\nz\r"),
        frame::opening(3000),
        frame::heartbeat(),
        frame::final_retry(1),
        frame::open_event(b"sse.open", &ID),
        frame::gap_event(b"sse.gap", b"x\r\ny", &ID),
    ];
    for frame in frames {
        assert!(!frame.body().contains(&b'\r') && frame.body().ends_with(b"\n"));
    }
}

#[test]
fn line_ends_in_data_inject_no_field() {
    for end in ["\r", "\n", "\r\n"] {
        let text = format!("a{end}id: evil{end}{end}event: error{end}data: b");
        let lines = "a\nid: evil\n\nevent: error\ndata: b";
        assert_eq!(data_seen(&text), lines.as_bytes(), "{end:?}");
    }
}

#[test]
fn other_separators_do_not_split_data() {
    let text = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f";
    assert_eq!(data_seen(text), text.as_bytes());
    assert_eq!(data::encoded_len(text.as_bytes()), "data: \n".len() + text.len());
}

#[test]
fn leading_spaces_survive() {
    assert_eq!(data_seen("        eight"), b"        eight");
    assert_eq!(data_seen(" \n "), b" \n ");
}

#[test]
fn empty_data_is_an_event() {
    assert_eq!(data_seen(""), b"");
}

#[test]
fn trailing_line_ends_survive() {
    assert_eq!(data_seen("a\n"), b"a\n");
    assert_eq!(data_seen("\r\n\r"), b"\n\n");
}

#[test]
fn ids_are_short_and_safe_in_headers_under_cors() {
    let entry_id = EntryId { ms: u64::MAX, seq: u64::MAX };
    let longest = Id::Placed { entry_id, tag: u32::MAX, pos: u64::MAX }.to_string();
    assert!(longest.len() <= 128 && longest.len() == id::MAX_LEN);
    assert!(longest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
}

#[test]
fn ids_that_clients_mishandle_are_never_taken_for_ours() {
    for text in ["1-2\0", "1-2\r", "1-2\n3", "\r\nid: evil", ""] {
        assert_eq!(Id::parse(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn the_id_comes_last_so_a_cut_event_moves_no_cursor() {
    let frame = event(b"trade", b"one\ntwo");
    let body = frame.body();
    let tail = [b"id: ", ID_TEXT, b"\n\n"].concat();
    assert!(body.ends_with(&tail));
    for cut in 0..body.len() {
        let seen = read(&body[..cut]);
        assert!(seen.events.is_empty() && seen.last_event_id.is_empty(), "{cut}");
    }
    // Clients that take an id before its event is whole find none until all data is there.
    let before_id = &body[..body.len() - tail.len()];
    assert!(!before_id.windows(3).any(|window| window == b"id:"));
}

#[test]
fn types_that_inject_or_fire_handlers_are_refused() {
    for name in ["a\r\ndata: x", "a\rb", "a\nb", "a\0", "error", "open", "sse.open"] {
        assert!(event_type::check(name.as_bytes()).is_err(), "{name:?}");
    }
    assert_eq!(read(event(b"", b"x").body()).events[0].name, b"message");
}

#[test]
fn the_heartbeat_is_a_comment_without_a_blank_line() {
    assert_eq!(frame::heartbeat().body(), b":\n");
}

#[test]
fn first_and_final_frames_set_the_retry_and_dispatch_nothing() {
    for frame in [frame::opening(3000), frame::final_retry(3000)] {
        let seen = read(frame.body());
        assert_eq!((seen.retry, seen.events.len()), (Some(3000), 0));
    }
}

#[test]
fn only_events_with_data_end_with_a_blank_line() {
    let frames = [
        (frame::opening(1), 0),
        (frame::heartbeat(), 0),
        (frame::final_retry(1), 0),
        (event(b"", b""), 1),
        (event(b"a", b"\n\r\r"), 1),
        (frame::open_event(b"sse.open", &ID), 1),
        (frame::gap_event(b"sse.gap", b"\n\n", &ID), 1),
    ];
    for (frame, blank_lines) in frames {
        let text = String::from_utf8_lossy(frame.body()).into_owned();
        assert_eq!(text.lines().filter(|line| line.is_empty()).count(), blank_lines, "{text:?}");
        assert_eq!(
            text.lines().any(|line| line.starts_with("data:")),
            blank_lines == 1,
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn a_stream_is_seen_as_it_was_meant(
        events in prop::collection::vec((bytes(), bytes(), ids(), any::<bool>()), 0..6)
    ) {
        let mut stream = frame::opening(3000).body().to_vec();
        let mut meant = Vec::new();
        for (name, text, id, beat) in &events {
            let name = if event_type::check(name).is_ok() { name.as_slice() } else { b"" };
            let mut encoded = Vec::new();
            data::encode(text, &mut encoded);
            stream.extend_from_slice(Frame::event(name, &encoded, id).body());
            if *beat {
                stream.extend_from_slice(frame::heartbeat().body());
            }
            let name = if name.is_empty() { b"message" } else { name };
            let id = id.to_string().into_bytes();
            meant.push(DispatchedEvent { name: name.to_vec(), data: with_lf_ends(text), id });
        }
        stream.extend_from_slice(frame::final_retry(12).body());
        let seen = read(&stream);
        prop_assert_eq!(seen.retry, Some(12));
        let last = meant.last().map_or(Vec::new(), |event| event.id.clone());
        prop_assert_eq!(seen.last_event_id, last);
        prop_assert_eq!(seen.events, meant);
    }

    #[test]
    fn a_hostile_type_costs_only_itself(name in bytes(), text in bytes()) {
        let seen = read(event(&name, &text).body());
        prop_assert_eq!(seen.events.len(), 1);
        prop_assert_eq!(&seen.events[0].data, &with_lf_ends(&text));
        prop_assert_eq!(seen.last_event_id, ID_TEXT);
        prop_assert_eq!(seen.retry, None);
    }

    #[test]
    fn a_channel_can_be_a_type(name in bytes()) {
        if channel::check(&name).is_ok() {
            prop_assert_eq!(&read(event(&name, b"x").body()).events[0].name, &name);
        }
    }

    #[test]
    fn a_hostile_last_event_id_stays_inside_the_gaps_json(after in bytes()) {
        let seen = read(frame::gap_event(b"sse.gap", &after, &ID).body());
        prop_assert_eq!(seen.events.len(), 1);
        prop_assert_eq!(&seen.events[0].name, b"sse.gap");
        prop_assert_eq!(seen.last_event_id, ID_TEXT);
        let inner = seen.events[0].data.strip_prefix(b"{\"after\":\"");
        let inner = inner.and_then(|text| text.strip_suffix(b"\"}")).unwrap_or(b"\0");
        prop_assert!(inner.iter().all(|byte| matches!(byte, b' '..=b'~')));
    }

    #[test]
    fn a_batch_is_read_as_a_browser_would(body in bytes()) {
        let body = String::from_utf8_lossy(&body).into_owned();
        // The blank line makes both agree on the last block.
        let events = read(format!("{body}\n\n").as_bytes()).events;
        match batch::parse(body.as_bytes()) {
            Ok(items) => {
                let name = |name: &[u8]| if name.is_empty() { b"message" } else { name }.to_vec();
                let read = items.iter().map(|item| (name(&item.event_type), item.data.clone()));
                let events = events.into_iter().map(|event| (event.name, event.data));
                prop_assert!(read.eq(events));
            }
            Err(batch::BatchError::Empty) => prop_assert!(events.is_empty()),
            Err(batch::BatchError::Type { index, .. }) => {
                prop_assert!(event_type::check(&events[index].name).is_err());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn events_can_be_published_again_as_a_batch(
        texts in prop::collection::vec(".*", 1..5), name in "[a-d]{0,3}"
    ) {
        let frames = texts.iter().map(|text| event(name.as_bytes(), text.as_bytes()));
        let body: Vec<u8> = frames.flat_map(|frame| frame.body().to_vec()).collect();
        let items = batch::parse(&body).unwrap_or_default();
        let data: Vec<Vec<u8>> = items.into_iter().map(|item| item.data).collect();
        let meant: Vec<Vec<u8>> = texts.iter().map(|text| with_lf_ends(text.as_bytes())).collect();
        prop_assert_eq!(data, meant);
    }
}
