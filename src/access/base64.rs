//! Base64 (RFC 4648), as tokens and key files use it.

use ::base64::alphabet::{STANDARD, URL_SAFE};
use ::base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use ::base64::engine::DecodePaddingMode;
use ::base64::Engine;

/// Accepts text with or without padding.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Decodes base64url without padding, as RFC 7515 requires it. Returns `None` for other characters,
/// padding, and for bits that do not belong to a byte and are not zero, so that each value has one
/// encoding only.
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64 or base64url, with or without padding.
pub fn decode_any(text: &[u8]) -> Option<Vec<u8>> {
    let decode = |alphabet| GeneralPurpose::new(alphabet, ANY_PADDING).decode(text).ok();
    decode(&STANDARD).or_else(|| decode(&URL_SAFE))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes base64url without padding.
    pub fn encode_url(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
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
