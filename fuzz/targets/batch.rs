//! Batches agree with an EventSource, hold no more than was sent, and can be published again.

use crate::sse::batch::{parse, BatchError, Item, MAX_EVENTS};
use crate::sse::event_source::read;
use crate::sse::{data, event_type};

pub fn run(input: &[u8]) {
    let parsed = parse(input);
    let Ok(text) = std::str::from_utf8(input) else {
        assert_eq!(parsed, Err(BatchError::NotUtf8));
        return;
    };
    // The blank line makes both agree on the last block.
    let events = read(format!("{text}\n\n").as_bytes()).events;
    match parsed {
        Ok(items) => {
            assert!(!items.is_empty() && items.len() <= MAX_EVENTS);
            let bytes: usize =
                items.iter().map(|item| item.event_type.len() + item.data.len()).sum();
            assert!(bytes <= input.len(), "{bytes} bytes of {}", input.len());
            assert_eq!(items.len(), events.len());
            for (item, event) in items.iter().zip(&events) {
                assert_eq!(event_type::check(&item.event_type), Ok(()));
                let name =
                    if item.event_type.is_empty() { b"message" } else { &item.event_type[..] };
                assert_eq!((name, &item.data), (&event.name[..], &event.data));
            }
            assert_eq!(parse(&written(&items)), Ok(items));
        }
        Err(BatchError::NotUtf8) => panic!("the batch is UTF-8"),
        Err(BatchError::Empty) => assert!(events.is_empty()),
        Err(BatchError::TooMany) => assert!(events.len() > MAX_EVENTS),
        Err(BatchError::Type { index, error }) => {
            assert_eq!(event_type::check(&events[index].name), Err(error));
        }
    }
}

/// Writes a batch of these events.
fn written(items: &[Item]) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        body.extend_from_slice(&[b"event: ", &item.event_type[..], b"\n"].concat());
        data::encode(&item.data, &mut body);
        body.push(b'\n');
    }
    body
}
