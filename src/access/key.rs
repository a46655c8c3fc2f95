//! Keys that verify signatures. A key has its algorithms; a token only chooses among keys.

use super::algorithm::Algorithm;
use ring::{hmac, signature};
use std::fmt;

/// The sizes of RSA keys that are supported, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key, and the tokens that it may verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// The `kid` of a JWK. A key without one may verify every token.
    pub id: Option<String>,
    /// The algorithms that the key may be used with; all fit it.
    pub algorithms: Vec<Algorithm>,
    /// The bytes of the key.
    pub material: KeyMaterial,
}

/// The bytes of a key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A secret, which the issuer also has.
    Secret(Box<[u8]>),
    /// An RSA key, in numbers without leading zeros.
    Rsa {
        /// The modulus, `n`.
        modulus: Box<[u8]>,
        /// The public exponent, `e`.
        exponent: Box<[u8]>,
    },
    /// An uncompressed point of P-256.
    P256(Box<[u8]>),
    /// An uncompressed point of P-384.
    P384(Box<[u8]>),
    /// A key of Ed25519.
    Ed25519(Box<[u8]>),
}

impl TokenKey {
    /// Whether the key verifies a signature of a message.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.algorithms.contains(&algorithm)
            && self.material.verifies(algorithm, message, signature)
    }
}

impl KeyMaterial {
    /// Creates an RSA key from unsigned numbers, which may have leading zeros. Returns `None` if
    /// they are not those of a key, or too large.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<KeyMaterial> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        let fits = bits(modulus) <= *RSA_BITS.end() && (2..=33).contains(&bits(exponent));
        (fits && is_odd(modulus) && is_odd(exponent))
            .then(|| KeyMaterial::Rsa { modulus: modulus.into(), exponent: exponent.into() })
    }

    /// Creates a key of P-256 from an uncompressed point.
    pub fn p256(point: &[u8]) -> Option<KeyMaterial> {
        is_point(point, 32).then(|| KeyMaterial::P256(point.into()))
    }

    /// Creates a key of P-384 from an uncompressed point.
    pub fn p384(point: &[u8]) -> Option<KeyMaterial> {
        is_point(point, 48).then(|| KeyMaterial::P384(point.into()))
    }

    /// Creates a key of Ed25519.
    pub fn ed25519(key: &[u8]) -> Option<KeyMaterial> {
        (key.len() == 32).then(|| KeyMaterial::Ed25519(key.into()))
    }

    /// Returns the algorithm that the key is used with if nothing else is specified.
    pub fn default_algorithm(&self) -> Algorithm {
        match self {
            KeyMaterial::Secret(_) => Algorithm::Hs256,
            KeyMaterial::Rsa { .. } => Algorithm::Rs256,
            KeyMaterial::P256(_) => Algorithm::Es256,
            KeyMaterial::P384(_) => Algorithm::Es384,
            KeyMaterial::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether the key can be used with an algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512};
        match self {
            KeyMaterial::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
            KeyMaterial::Rsa { .. } => rsa_parameters(algorithm).is_some(),
            KeyMaterial::P256(_) => algorithm == Es256,
            KeyMaterial::P384(_) => algorithm == Es384,
            KeyMaterial::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Whether this is an RSA key that is too short to be safe.
    pub fn is_weak(&self) -> bool {
        matches!(self, KeyMaterial::Rsa { modulus, .. } if bits(modulus) < *RSA_BITS.start())
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = |with: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(with, key).verify(message, signature).is_ok()
        };
        if !self.fits(algorithm) {
            return false;
        }
        match self {
            KeyMaterial::Secret(secret) => hmac_of(algorithm).is_some_and(|with| {
                hmac::verify(&hmac::Key::new(with, secret), message, signature).is_ok()
            }),
            KeyMaterial::Rsa { modulus, exponent } => {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                rsa_parameters(algorithm)
                    .is_some_and(|with| key.verify(with, message, signature).is_ok())
            }
            KeyMaterial::P256(point) => verified(&signature::ECDSA_P256_SHA256_FIXED, point),
            KeyMaterial::P384(point) => verified(&signature::ECDSA_P384_SHA384_FIXED, point),
            KeyMaterial::Ed25519(key) => verified(&signature::ED25519, key),
        }
    }
}

/// Shows the kind of a key, and nothing of its bytes.
impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyMaterial::Secret(_) => "Secret",
            KeyMaterial::Rsa { .. } => "Rsa",
            KeyMaterial::P256(_) => "P256",
            KeyMaterial::P384(_) => "P384",
            KeyMaterial::Ed25519(_) => "Ed25519",
        })
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// Whether bytes have the form of an uncompressed point with coordinates of this many bytes.
fn is_point(point: &[u8], len: usize) -> bool {
    point.len() == 1 + 2 * len && point.first() == Some(&4)
}

/// Returns a number without leading zeros.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Returns the number of bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| 8 * number.len() - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an odd number of this many bits, behind a zero.
    fn number(bits: usize) -> Vec<u8> {
        let mut number = vec![0; bits.div_ceil(8) + 1];
        number[1] |= 1 << ((bits - 1) % 8);
        *number.last_mut().unwrap() |= 1;
        number
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits_and_an_exponent_that_verifiers_agree_on() {
        let exponent = [1, 0, 1];
        for (bits, weak) in [(512, true), (2047, true), (2048, false), (4096, false), (8192, false)]
        {
            let key = KeyMaterial::rsa(&number(bits), &exponent).unwrap();
            assert_eq!(key.is_weak(), weak, "{bits}");
        }
        assert_eq!(KeyMaterial::rsa(&number(8193), &exponent), None);
        let modulus = number(2048);
        for bits in [2, 17, 33] {
            assert!(KeyMaterial::rsa(&modulus, &number(bits)).is_some(), "{bits}");
        }
        for exponent in [&number(34)[..], &[1], &[0], &[], &[1, 0, 0]] {
            assert_eq!(KeyMaterial::rsa(&modulus, exponent), None, "{exponent:?}");
        }
        let mut even = modulus.clone();
        *even.last_mut().unwrap() = 2;
        assert_eq!(KeyMaterial::rsa(&even, &exponent), None);
        let zeros = [&[0; 9], &modulus[..]].concat();
        assert_eq!(KeyMaterial::rsa(&zeros, &[0, 1, 0, 1]), KeyMaterial::rsa(&modulus, &exponent));
    }

    #[test]
    fn other_keys_have_one_length_and_form() {
        let point = |first: u8, len: usize| [&[first], &vec![7; len][..]].concat();
        assert!(KeyMaterial::p256(&point(4, 64)).is_some());
        assert!(KeyMaterial::p384(&point(4, 96)).is_some());
        assert!(KeyMaterial::ed25519(&[7; 32]).is_some());
        for wrong in [point(2, 64), point(4, 63), point(4, 65), point(4, 96), point(2, 32), vec![]]
        {
            assert_eq!(KeyMaterial::p256(&wrong), None, "{wrong:?}");
        }
        for wrong in [point(3, 96), point(4, 95), point(4, 97), point(4, 64), vec![4]] {
            assert_eq!(KeyMaterial::p384(&wrong), None, "{wrong:?}");
        }
        for wrong in [31, 33, 0] {
            assert_eq!(KeyMaterial::ed25519(&vec![7; wrong]), None, "{wrong}");
        }
        assert!(!KeyMaterial::ed25519(&[7; 32]).unwrap().is_weak());
    }

    #[test]
    fn each_kind_of_key_fits_its_own_algorithms() {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512};
        use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let rsa = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];
        let kinds = [
            ("Secret", KeyMaterial::Secret([7; 64].into()), &[Hs256, Hs384, Hs512][..]),
            ("Rsa", KeyMaterial::rsa(&number(2048), &[3]).unwrap(), &rsa),
            ("P256", KeyMaterial::p256(&[4; 65]).unwrap(), &[Es256]),
            ("P384", KeyMaterial::p384(&[4; 97]).unwrap(), &[Es384]),
            ("Ed25519", KeyMaterial::ed25519(&[7; 32]).unwrap(), &[EdDsa]),
        ];
        let all: Vec<Algorithm> = kinds.iter().flat_map(|(.., own)| own.iter().copied()).collect();
        for (shown, key, own) in kinds {
            assert_eq!(key.default_algorithm(), own[0]);
            for algorithm in &all {
                assert_eq!(key.fits(*algorithm), own.contains(algorithm), "{shown} {algorithm}");
            }
            assert_eq!(format!("{key:?}"), shown);
        }
    }

    #[test]
    fn a_key_is_not_used_with_an_algorithm_that_it_was_not_given() {
        let sign = |with, message| hmac::sign(&hmac::Key::new(with, &[7; 64]), message);
        let (short, long) = (sign(hmac::HMAC_SHA256, b"a"), sign(hmac::HMAC_SHA512, b"a"));
        let material = KeyMaterial::Secret([7; 64].into());
        let key = TokenKey { id: None, algorithms: vec![Algorithm::Hs512], material };
        assert!(key.verifies(Algorithm::Hs512, b"a", long.as_ref()));
        assert!(!key.verifies(Algorithm::Hs512, b"b", long.as_ref()));
        assert!(!key.verifies(Algorithm::Hs256, b"a", short.as_ref()));
    }
}
