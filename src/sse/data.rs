//! The `data` field: any bytes, encoded so that a client's parser restores them.
//!
//! The hub stores encoded data, so that an event is split into lines once, not once per client:
//! publishing calls [`encode`], framing copies the result. Encoded data always has at least one
//! complete line, and nothing in it can end the event or begin another field.

use super::lines;

const FIELD: &[u8] = b"data: ";

/// Returns the number of bytes that [`encode`] appends for `data`. Does not allocate.
pub fn encoded_len(data: &[u8]) -> usize {
    lines::split(data).map(|line| FIELD.len() + line.len() + 1).sum()
}

/// Appends `data: LINE` and LF to `out` for each line of `data`.
///
/// CR, LF and CRLF end a line; every other byte is copied. Empty data becomes one empty line, and
/// data that ends with a line end gets an empty last line, so that clients receive that end too.
/// The space is always written: parsers remove one, which must not be one of the publisher's.
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_len(data));
    for line in lines::split(data) {
        out.extend_from_slice(FIELD);
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// Returns the data that a client reads from encoded data: its lines joined by LF.
///
/// Lines other than `data: ...` are skipped, so no input can make this fail.
pub fn decode(encoded: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(encoded.len());
    for line in encoded.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(FIELD)) {
        data.extend_from_slice(line);
        data.push(b'\n');
    }
    data.pop();
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(data, &mut out);
        out
    }

    #[test]
    fn data_is_split_at_every_kind_of_line_end() {
        assert_eq!(encoded(b"a\rb\nc\r\nd"), b"data: a\ndata: b\ndata: c\ndata: d\n");
    }

    #[test]
    fn empty_data_is_one_empty_line() {
        assert_eq!(encoded(b""), b"data: \n");
    }

    #[test]
    fn a_trailing_line_end_becomes_an_empty_last_line() {
        assert_eq!(encoded(b"a\n"), b"data: a\ndata: \n");
        assert_eq!(encoded(b"\r\n"), b"data: \ndata: \n");
    }

    #[test]
    fn encode_appends() {
        let mut out = b"event: t\n".to_vec();
        encode(b"x", &mut out);
        assert_eq!(out, b"event: t\ndata: x\n");
    }

    #[test]
    fn decode_leaves_out_what_encode_never_writes() {
        assert_eq!(decode(b""), b"");
        assert_eq!(decode(b"id: 1\ndata: a\ndata\n\ndata: b"), b"a\nb");
    }

    proptest! {
        #[test]
        fn encoded_len_is_exact(data in super::super::tests::bytes()) {
            prop_assert_eq!(encoded_len(&data), encoded(&data).len());
        }

        #[test]
        fn decode_gives_back_the_data_with_lf_for_every_line_end(
            data in super::super::tests::bytes()
        ) {
            let lf = crate::sse::event_source::with_lf_ends(&data);
            prop_assert_eq!(decode(&encoded(&data)), lf);
        }
    }
}
