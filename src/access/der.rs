//! Public keys in DER: `SubjectPublicKeyInfo` (RFC 5280) and `RSAPublicKey` (RFC 8017).

use super::key::KeyMaterial;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The object identifiers of the supported kinds of keys.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Parses a `SubjectPublicKeyInfo`. Returns `None` if it is malformed or of an unsupported kind.
pub fn public_key(der: &[u8]) -> Option<KeyMaterial> {
    let mut whole = Reader(der);
    let mut info = Reader(whole.value(SEQUENCE)?);
    whole.end()?;
    let mut algorithm = Reader(info.value(SEQUENCE)?);
    let key = info.value(BIT_STRING)?.strip_prefix(&[0])?;
    info.end()?;
    match algorithm.value(OBJECT)? {
        RSA => {
            algorithm.value(NULL)?;
            algorithm.end()?;
            rsa_public_key(key)
        }
        EC => {
            let curve = algorithm.value(OBJECT)?;
            algorithm.end()?;
            match curve {
                P256 => KeyMaterial::p256(key),
                P384 => KeyMaterial::p384(key),
                _ => None,
            }
        }
        ED25519 => {
            algorithm.end()?;
            KeyMaterial::ed25519(key)
        }
        _ => None,
    }
}

/// Parses an `RSAPublicKey`.
pub fn rsa_public_key(der: &[u8]) -> Option<KeyMaterial> {
    let mut whole = Reader(der);
    let mut key = Reader(whole.value(SEQUENCE)?);
    whole.end()?;
    let (modulus, exponent) = (key.value(INTEGER)?, key.value(INTEGER)?);
    key.end()?;
    KeyMaterial::rsa(modulus, exponent)
}

/// Whether bytes are one DER sequence, as keys and certificates are.
pub fn is_sequence(der: &[u8]) -> bool {
    let mut whole = Reader(der);
    whole.value(SEQUENCE).is_some_and(|inner| !inner.is_empty()) && whole.end().is_some()
}

/// The rest of an encoding.
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// Reads the contents of the next value, which must have this tag.
    fn value(&mut self, tag: u8) -> Option<&'d [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (len, rest) = match rest {
            [len @ 0..=0x7f, rest @ ..] => (usize::from(*len), rest),
            [0x81, len, rest @ ..] if *len >= 0x80 => (usize::from(*len), rest),
            [0x82, high, low, rest @ ..] if *high > 0 => {
                (usize::from(*high) << 8 | usize::from(*low), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }

    /// Fails if anything is left.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a value in its only encoding.
    fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
        let len = contents.len();
        let len = match len {
            0..=0x7f => vec![len as u8],
            0x80..=0xff => vec![0x81, len as u8],
            _ => vec![0x82, (len >> 8) as u8, len as u8],
        };
        [&[tag][..], &len, contents].concat()
    }

    fn info(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
        let algorithm = value(SEQUENCE, &algorithm.concat());
        value(SEQUENCE, &[algorithm, value(BIT_STRING, key)].concat())
    }

    fn ed25519() -> Vec<u8> {
        info(&[&value(OBJECT, ED25519)], &[0; 33])
    }

    #[test]
    fn lengths_have_one_encoding() {
        for len in [1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let der = value(SEQUENCE, &vec![7; len]);
            assert!(is_sequence(&der), "{len}");
            assert!(
                !is_sequence(&der[..der.len() - 1]) && !is_sequence(&[&der[..], &[0]].concat())
            );
        }
        let of = |len: &[u8], count: usize| [&[SEQUENCE], len, &vec![7; count][..]].concat();
        for (len, count) in [
            (&[0][..], 0),
            (&[0x81, 0x7f], 0x7f),
            (&[0x82, 0, 0x80], 0x80),
            (&[0x83, 0, 1, 0], 0x100),
            (&[0x80], 4),
            (&[], 0),
        ] {
            assert!(!is_sequence(&of(len, count)), "{len:?}");
        }
        assert!(!is_sequence(&value(OBJECT, &[7])) && !is_sequence(b""));
    }

    #[test]
    fn a_public_key_consists_of_its_algorithm_and_itself() {
        let material = KeyMaterial::ed25519(&[0; 32]);
        assert!(material.is_some());
        assert_eq!(public_key(&ed25519()), material);
        let object = |bytes| value(OBJECT, bytes);
        let null = value(NULL, &[]);
        let point = |len: usize| [&[0, 4], &vec![7; len][..]].concat();
        assert_eq!(
            public_key(&info(&[&object(EC), &object(P256)], &point(64))),
            KeyMaterial::p256(&point(64)[1..])
        );
        assert_eq!(
            public_key(&info(&[&object(EC), &object(P384)], &point(96))),
            KeyMaterial::p384(&point(96)[1..])
        );
        for wrong in [
            [&ed25519()[..], &[0]].concat(),
            info(&[&object(ED25519), &null], &[0; 33]),
            // Bits that do not belong to a byte.
            info(&[&object(ED25519)], &[&[1][..], &[0; 32]].concat()),
            info(&[&object(ED25519)], &[0; 32]),
            info(&[&object(&ED25519[1..])], &[0; 33]),
            info(&[&object(EC), &object(P256)], &point(96)),
            info(&[&object(EC), &object(ED25519)], &point(64)),
            info(&[&object(EC), &object(P256), &null], &point(64)),
            info(&[&object(EC)], &point(64)),
            value(SEQUENCE, &[&ed25519()[2..], &null[..]].concat()),
        ] {
            assert_eq!(public_key(&wrong), None, "{wrong:02x?}");
        }
    }

    #[test]
    fn an_rsa_key_is_two_numbers() {
        let (modulus, exponent) = (value(INTEGER, &[0x81; 257]), value(INTEGER, &[3]));
        let key = value(SEQUENCE, &[&modulus[..], &exponent].concat());
        let material = KeyMaterial::rsa(&[0x81; 257], &[3]);
        assert!(material.is_some());
        assert_eq!(rsa_public_key(&key), material);
        let object = value(OBJECT, RSA);
        let (bits, null) = ([&[0], &key[..]].concat(), value(NULL, &[]));
        assert_eq!(public_key(&info(&[&object, &null], &bits)), material);
        assert_eq!(public_key(&info(&[&object], &bits)), None);
        assert_eq!(public_key(&info(&[&object, &null, &null], &bits)), None);
        for wrong in [
            value(SEQUENCE, &[&modulus[..], &exponent, &exponent].concat()),
            value(SEQUENCE, &modulus),
            [&key[..], &[0]].concat(),
        ] {
            assert_eq!(rsa_public_key(&wrong), None);
        }
    }
}
