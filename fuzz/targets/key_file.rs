//! The keys of a file can be used: they are few, strong enough, and fit their algorithms.

use crate::access::algorithm::Algorithm;
use crate::access::key_file::{parse, KeyFormat};

pub fn run(input: &[u8]) {
    for format in [KeyFormat::Recognized, KeyFormat::Secret, KeyFormat::Base64Secret] {
        for wanted in [&[][..], &[Algorithm::Rs256, Algorithm::Ps512], &[Algorithm::Hs512]] {
            let Ok(file) = parse(input, format, wanted) else { continue };
            assert!((1..=64).contains(&file.keys.len()));
            for key in &file.keys {
                assert!(!key.material.is_weak() && !key.algorithms.is_empty());
                for algorithm in &key.algorithms {
                    assert!(key.material.fits(*algorithm));
                    assert!(wanted.is_empty() || wanted.contains(algorithm));
                    assert!(!key.verifies(*algorithm, b"message", b""));
                }
            }
        }
    }
}
