//! The signature algorithms of RFC 7518, RFC 8037, and RFC 9864 that are supported.

use std::fmt;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// All algorithms, with their names in the header of a token. EdDSA has a second one since RFC 9864.
const ALGORITHMS: [(&str, Algorithm); 13] = [
    ("HS256", Algorithm::Hs256),
    ("HS384", Algorithm::Hs384),
    ("HS512", Algorithm::Hs512),
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
    ("Ed25519", Algorithm::EdDsa),
];

impl Algorithm {
    /// Returns the algorithm with this name. The case of the name matters.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Returns the length of the shortest secret in bytes that is as strong as the algorithm, if it
    /// uses a secret.
    pub fn secret_len(self) -> Option<usize> {
        match self {
            Algorithm::Hs256 => Some(32),
            Algorithm::Hs384 => Some(48),
            Algorithm::Hs512 => Some(64),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALGORITHMS.iter().find(|(_, algorithm)| algorithm == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_belongs_to_one_algorithm() {
        for (name, algorithm) in ALGORITHMS {
            assert_eq!(Algorithm::from_name(name), Some(algorithm));
            assert_eq!(Algorithm::from_name(&algorithm.to_string()), Some(algorithm));
            assert_eq!(Algorithm::from_name(&name.to_lowercase()), None);
        }
        let names: std::collections::HashSet<_> = ALGORITHMS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), ALGORITHMS.len());
    }

    #[test]
    fn a_secret_is_as_long_as_the_hash() {
        for (name, algorithm) in ALGORITHMS {
            let bits = name.strip_prefix("HS").map(|bits| bits.parse::<usize>().unwrap());
            assert_eq!(algorithm.secret_len(), bits.map(|bits| bits / 8), "{name}");
        }
    }
}
