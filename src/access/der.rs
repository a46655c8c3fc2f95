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
