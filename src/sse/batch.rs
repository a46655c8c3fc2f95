//! Batches: several events in one publish, in the format of an event stream.
//!
//! The publish handler parses bodies of type `text/event-stream` with this module. They are parsed
//! as in a browser (HTML standard, 9.2.6), with one difference described at [`parse`]. An event
//! that a single publish would reject is rejected here too.

use super::event_type::{self, TypeError};
use super::lines;
use std::fmt;

/// Maximum number of events in a batch.
pub const MAX_EVENTS: usize = 1000;

/// A batch may always have this many bytes, even if `max_event_size` is small.
const MAX_BYTES: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event of a batch. An empty type means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The type; empty if the block has no `event` field.
    pub event_type: Vec<u8>,
    /// The data, with its lines joined by LF.
    pub data: Vec<u8>,
}

/// Why a batch was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Not UTF-8.
    NotUtf8,
    /// No block has data.
    Empty,
    /// More than `MAX_EVENTS` events.
    TooMany,
    /// The event at `index`, counted from 0, has a type that cannot be published.
    Type {
        /// The index of the event in the batch.
        index: usize,
        /// Why its type is invalid.
        error: TypeError,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the batch is not UTF-8"),
            Self::Empty => f.write_str("the batch contains no event"),
            Self::TooMany => write!(f, "the batch contains more than {MAX_EVENTS} events"),
            Self::Type { index, error } => write!(f, "event {} of the batch: {error}", index + 1),
        }
    }
}

impl std::error::Error for BatchError {}

/// Returns the maximum length of a batch in bytes, if an encoded event has at most `max_event`
/// bytes.
///
/// A batch is published as a whole or not at all, so it is copied and appended in one turn of the
/// event loop. The limit bounds that turn, and allows four events of the maximum size.
pub fn max_bytes(max_event: usize) -> usize {
    max_event.saturating_mul(4).max(MAX_BYTES)
}

/// Parses a batch into its events, in order: one for each block of lines that has a `data` field.
///
/// One leading BOM is skipped; comments, `id`, `retry` and unknown fields are ignored; several
/// `data` lines are joined by LF; the last `event` field of a block wins. Unlike in a browser, the
/// last block is an event even without a blank line after it: a body has a known end, so nothing
/// was cut off, and hand-written bodies often lack that line.
pub fn parse(body: &[u8]) -> Result<Vec<Item>, BatchError> {
    if std::str::from_utf8(body).is_err() {
        return Err(BatchError::NotUtf8);
    }
    let mut items = Vec::new();
    let mut block = Block::default();
    for line in lines::split(body.strip_prefix(BOM).unwrap_or(body)) {
        if line.is_empty() {
            finish(std::mem::take(&mut block), &mut items)?;
        } else {
            block.line(line);
        }
    }
    finish(block, &mut items)?;
    if items.is_empty() {
        return Err(BatchError::Empty);
    }
    Ok(items)
}

/// The fields of the block being parsed.
#[derive(Default)]
struct Block<'a> {
    event_type: &'a [u8],
    data: Option<Vec<u8>>,
}

impl<'a> Block<'a> {
    fn line(&mut self, line: &'a [u8]) {
        let colon = memchr::memchr(b':', line).and_then(|at| line.split_at_checked(at));
        let (field, value) = match colon {
            Some((field, [_, b' ', value @ ..] | [_, value @ ..])) => (field, value),
            Some((_, [])) | None => (line, &b""[..]),
        };
        match (field, &mut self.data) {
            (b"event", _) => self.event_type = value,
            (b"data", Some(data)) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            (b"data", none) => *none = Some(value.to_vec()),
            _ => {}
        }
    }
}

fn finish(block: Block<'_>, items: &mut Vec<Item>) -> Result<(), BatchError> {
    let Some(data) = block.data else {
        return Ok(());
    };
    let index = items.len();
    if index == MAX_EVENTS {
        return Err(BatchError::TooMany);
    }
    event_type::check(block.event_type).map_err(|error| BatchError::Type { index, error })?;
    items.push(Item { event_type: block.event_type.to_vec(), data });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_room_for_four_of_the_largest_events() {
        assert_eq!(max_bytes(0), MAX_BYTES);
        assert_eq!(max_bytes(MAX_BYTES / 4), MAX_BYTES);
        assert_eq!(max_bytes(MAX_BYTES), 4 * MAX_BYTES);
        assert_eq!(max_bytes(usize::MAX), usize::MAX);
    }

    fn items(body: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let items = parse(body.as_bytes()).unwrap_or_default();
        items.iter().map(|item| (text(&item.event_type), text(&item.data))).collect()
    }

    fn check(body: &str, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, data)| (name.to_string(), data.to_string())).collect();
        assert_eq!(items(body), expected, "{body:?}");
    }

    #[test]
    fn blocks_are_events() {
        check("event: a\ndata: 1\n\ndata: 2\n\n", &[("a", "1"), ("", "2")]);
        check("data: a\ndata:\ndata:  b\n\n", &[("", "a\n\n b")]);
    }

    #[test]
    fn every_line_end_counts() {
        check("data: 1\r\rdata: 2\r\n\r\ndata: 3\n\n", &[("", "1"), ("", "2"), ("", "3")]);
        check("data: 1\r\n\ndata: 2\n\r\n", &[("", "1"), ("", "2")]);
    }

    #[test]
    fn the_last_block_needs_no_blank_line() {
        check("data: 1\n\ndata: 2", &[("", "1"), ("", "2")]);
        check("data: 1\n", &[("", "1")]);
    }

    #[test]
    fn one_space_after_the_colon_is_taken_away() {
        check("data:a\n\ndata: a\n\ndata:  a\n\n", &[("", "a"), ("", "a"), ("", " a")]);
        check("event:  x \ndata: :\n\n", &[(" x ", ":")]);
    }

    #[test]
    fn a_data_field_without_a_value_is_empty_data() {
        check("data\n\ndata:\n\ndata\ndata\n\n", &[("", ""), ("", ""), ("", "\n")]);
    }

    #[test]
    fn other_fields_and_comments_are_ignored() {
        check(
            ": c\nid: 1\nretry: 0\nfoo: x\n data: y\nDATA: z\ndata : w\ndata: 1\n\n",
            &[("", "1")],
        );
    }

    #[test]
    fn a_block_without_data_is_no_event_and_leaves_nothing_behind() {
        check("event: error\n\nid: 1\n\n\n\ndata: 1\n\n", &[("", "1")]);
    }

    #[test]
    fn the_last_event_field_counts() {
        check(
            "event: a\nevent: b\ndata: 1\n\nevent: a\nevent\ndata: 2\n\n",
            &[("b", "1"), ("", "2")],
        );
    }

    #[test]
    fn one_leading_bom_is_skipped() {
        check(
            "\u{feff}data: 1\n\n\u{feff}data: 2\n\ndata: \u{feff}3",
            &[("", "1"), ("", "\u{feff}3")],
        );
        assert_eq!(parse("\u{feff}\u{feff}data: 1\n\n".as_bytes()), Err(BatchError::Empty));
    }

    #[test]
    fn empty_batches_are_refused() {
        for body in ["", "\n\n", ":\n\n", "event: a\n\n", "\u{feff}", "id: 1"] {
            assert_eq!(parse(body.as_bytes()), Err(BatchError::Empty), "{body:?}");
        }
    }

    #[test]
    fn at_most_a_thousand_events() {
        let body = "data: 1\n\n".repeat(MAX_EVENTS);
        assert_eq!(parse(body.as_bytes()).map(|items| items.len()), Ok(MAX_EVENTS));
        assert_eq!(parse((body.clone() + "\n:\n").as_bytes()).map(|items| items.len()), Ok(1000));
        assert_eq!(parse((body + "data").as_bytes()), Err(BatchError::TooMany));
    }

    #[test]
    fn types_are_checked_and_the_error_names_the_event() {
        let error = parse(b"data: 1\n\nevent: sse.gap\ndata: 2\n\n");
        assert_eq!(error, Err(BatchError::Type { index: 1, error: TypeError::Reserved }));
        let text = error.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(text.starts_with("event 2 of the batch: the event type"), "{text}");
        let error = parse(b"event: a\0b\ndata: 1\n\n");
        assert_eq!(error, Err(BatchError::Type { index: 0, error: TypeError::LineEndOrNul }));
    }

    #[test]
    fn only_utf8_is_accepted() {
        assert_eq!(parse(b"data: \xff\n\n"), Err(BatchError::NotUtf8));
        assert_eq!(parse(b"data: \0\n\n").map(|items| items.len()), Ok(1));
    }
}
