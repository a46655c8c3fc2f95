//! Base64 (RFC 4648), as tokens and key files use it.

/// Decodes base64url without padding, as RFC 7515 requires it. Returns `None` for other characters,
/// padding, and for bits that do not belong to a byte and are not zero, so that each value has one
/// encoding only.
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    decode(text.iter().copied().map(url_digit), text.len())
}

/// Decodes base64 or base64url, with or without padding.
pub fn decode_any(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    decode(text.iter().copied().map(|byte| digit(byte).or_else(|| url_digit(byte))), text.len())
}

/// Decodes 6-bit digits.
fn decode(digits: impl Iterator<Item = Option<u8>>, len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // One digit alone is not a byte.
    (count < 6 && bits == 0).then_some(bytes)
}

/// Returns the value of a digit of base64.
fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Returns the value of a digit of base64url.
fn url_digit(byte: u8) -> Option<u8> {
    match byte {
        b'-' => Some(62),
        b'_' => Some(63),
        b'+' | b'/' => None,
        _ => digit(byte),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes base64url without padding.
    pub fn encode_url(bytes: &[u8]) -> String {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
            let bits = bits << (8 * (3 - chunk.len()));
            for index in 0..=chunk.len() {
                text.push(char::from(digits[(bits >> (18 - 6 * index)) as usize & 63]));
            }
        }
        text
    }

    #[test]
    fn each_value_has_one_encoding() {
        assert_eq!(decode_url(b""), Some(vec![]));
        assert_eq!(decode_url(b"TQ"), Some(b"M".to_vec()));
        assert_eq!(decode_url(b"TWE"), Some(b"Ma".to_vec()));
        assert_eq!(decode_url(b"TWFu"), Some(b"Man".to_vec()));
        for text in ["TR", "TWF", "T", "TWFuT", "TQ==", "TWE=", " TQ", "TQ\n", "+/+/", "T.Q"] {
            assert_eq!(decode_url(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn secrets_may_use_either_alphabet() {
        for text in ["-_-_", "+/+/"] {
            assert_eq!(decode_any(text.as_bytes()), Some(vec![0xfb, 0xff, 0xbf]), "{text}");
        }
        for text in ["TQ", "TQ=="] {
            assert_eq!(decode_any(text.as_bytes()), Some(b"M".to_vec()), "{text}");
        }
        assert_eq!(decode_any(b"T Q"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_url(encode_url(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn what_is_decoded_has_no_other_encoding(text in "[A-Za-z0-9_-]{0,12}") {
            if let Some(bytes) = decode_url(text.as_bytes()) {
                prop_assert_eq!(encode_url(&bytes), text);
            }
        }
    }
}
