//! Issues tokens: creates a key with `openssl`, writes the file with which nginx verifies the
//! tokens, and signs them.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// There are no tokens.
    None,
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// The secret of HS256.
const SECRET: &str = "the secret of a server that is benchmarked";
/// Length of each of the two numbers of an ES256 signature.
const ES256_NUMBER: usize = 32;

impl Algorithm {
    pub const ALL: [Algorithm; 5] =
        [Algorithm::None, Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::None => "none",
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Returns the arguments with which `openssl genpkey` creates a private key.
    fn key(self) -> &'static [&'static str] {
        match self {
            Algorithm::None | Algorithm::Hs256 => &[],
            Algorithm::Rs256 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Algorithm::Es256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Algorithm::EdDsa => &["-algorithm", "ED25519"],
        }
    }
}

/// Signs tokens with one key.
pub struct Issuer {
    algorithm: Algorithm,
    directory: PathBuf,
}

impl Issuer {
    /// Creates a key, and writes `token.key`, the file that verifies its tokens.
    pub fn new(algorithm: Algorithm, directory: &Path) -> Result<Issuer, String> {
        let issuer = Issuer { algorithm, directory: directory.to_owned() };
        let public = issuer.file("token.key");
        match algorithm {
            Algorithm::None => {}
            Algorithm::Hs256 => write_secret(&public)?,
            _ => {
                let private = issuer.file("private.pem");
                openssl(&[&["genpkey", "-out", &private], algorithm.key()].concat())?;
                openssl(&["pkey", "-in", &private, "-pubout", "-out", &public])?;
            }
        }
        Ok(issuer)
    }

    /// Returns a header line with a token that expires at a time (s since 1970); empty without
    /// tokens.
    pub fn header(&self, expires: u64) -> Result<String, String> {
        if self.algorithm == Algorithm::None {
            return Ok(String::new());
        }
        let header = json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        let claims = json!({ "iss": "bench", "sub": "client", "exp": expires });
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = [header, claims].map(|part| encode(part.to_string().as_bytes())).join(".");
        let signature = encode(&self.sign(&signed)?);
        Ok(format!("Authorization: Bearer {signed}.{signature}"))
    }

    fn sign(&self, text: &str) -> Result<Vec<u8>, String> {
        let (file, private) = (self.file("signed"), self.file("private.pem"));
        fs::write(&file, text).map_err(|error| format!("{file}: {error}"))?;
        match self.algorithm {
            Algorithm::None => Ok(Vec::new()),
            Algorithm::Hs256 => openssl(&["dgst", "-sha256", "-binary", "-hmac", SECRET, &file]),
            Algorithm::Rs256 => openssl(&["dgst", "-sha256", "-sign", &private, &file]),
            Algorithm::Es256 => {
                let der = openssl(&["dgst", "-sha256", "-sign", &private, &file])?;
                fixed(&der).ok_or_else(|| "openssl has written no ECDSA signature".into())
            }
            Algorithm::EdDsa => {
                openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &private, "-in", &file])
            }
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// Writes the secret into a file that nobody else can read.
fn write_secret(file: &str) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened
        .and_then(|mut opened| opened.write_all(SECRET.as_bytes()))
        .map_err(|error| format!("{file}: {error}"))
}

/// Converts an ECDSA signature from DER, a sequence of two integers, to two numbers of fixed
/// length.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, _, sequence @ ..] = der else { return None };
    let mut rest = sequence;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let [0x02, len, more @ ..] = rest else { return None };
        let (number, after) = more.split_at_checked(usize::from(*len))?;
        // The first byte may be a zero that makes the number positive.
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        numbers.extend(vec![0; ES256_NUMBER.checked_sub(digits.len())?]);
        numbers.extend_from_slice(digits);
        rest = after;
    }
    Some(numbers)
}

/// Runs openssl, and returns its output.
fn openssl(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.map_err(|error| format!("openssl: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(output.stdout).ok_or_else(|| format!("openssl: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_fixed_length() {
        let mut der = vec![0x30, 0x45, 0x02, 0x21, 0x00];
        der.extend([0xff; 32]);
        der.extend([0x02, 0x01, 0x07]);
        let wanted = [vec![0xff; 32], vec![0; 31], vec![7]].concat();
        assert_eq!(fixed(&der), Some(wanted));
        assert_eq!(fixed(&[0x30, 0x03, 0x02, 0x09, 0x01]), None);
        assert_eq!(fixed(b""), None);
    }
}
