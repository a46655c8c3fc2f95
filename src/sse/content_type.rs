//! The media type of event streams in a `Content-Type` header.

/// Returns whether a `Content-Type` is that of an event stream, with any parameters.
pub fn is_event_stream(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::is_event_stream;

    #[test]
    fn parameters_spaces_and_case_do_not_matter() {
        for text in
            ["text/event-stream", "Text/Event-Stream ; charset=utf-8", " text/event-stream;"]
        {
            assert!(is_event_stream(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_types_are_no_event_streams() {
        for text in ["", "text/event-streams", "text/plain; text/event-stream", "text/event", ";"] {
            assert!(!is_event_stream(text.as_bytes()), "{text}");
        }
    }
}
