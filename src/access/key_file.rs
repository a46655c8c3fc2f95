//! Files of keys: a secret, public keys in PEM, or JWKs (RFC 7517).

use super::algorithm::Algorithm;
use super::base64::{decode_any, decode_url};
use super::der;
use super::key::{KeyMaterial, TokenKey};
use serde_json::Value;

/// Maximum size of a key file in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Maximum number of keys in a file.
const MAX_KEYS: usize = 64;

/// How a key file is interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// Public keys in PEM, or JSON Web Keys.
    Recognized,
    /// A secret, except for one line break at the end.
    Secret,
    /// A secret in base64 or base64url.
    Base64Secret,
}

/// The keys of a file.
#[derive(Debug)]
pub struct KeyFile {
    /// The keys; at least one.
    pub keys: Vec<TokenKey>,
    /// One sentence for each key that was skipped.
    pub skipped: Vec<String>,
}

/// Why a key file cannot be used. The text continues a sentence about the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It exceeds `MAX_BYTES`.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// It has no contents.
    #[error("it is empty")]
    Empty,
    /// It contains a private key, which no verifier needs.
    #[error("it contains a private key; use the public key")]
    PrivateKey,
    /// It contains a certificate.
    #[error("it contains a certificate; use its public key (openssl x509 -pubkey -noout)")]
    Certificate,
    /// It should be a secret, but is public.
    #[error("it is a public key or a certificate, not a secret")]
    NotASecret,
    /// It should be a secret in base64, but is not.
    #[error("it is not base64")]
    NotBase64,
    /// Its format is unknown.
    #[error("it is neither PEM nor JSON; for a secret, add \"secret\" or \"secret64\"")]
    UnknownFormat,
    /// It exceeds `MAX_KEYS`.
    #[error("it contains more than 64 keys")]
    TooManyKeys,
    /// It contains an RSA key that is too short.
    #[error("it contains an RSA key of less than 2048 bits")]
    Weak,
    /// No key can be used with one of the wanted algorithms.
    #[error("\"alg\" does not fit its keys")]
    DoesNotFit,
    /// All keys were skipped, the first one for this reason.
    #[error("it contains no usable key{0}")]
    NoKeys(String),
}

/// Parses a key file. `algorithms` are those that the keys are to be used with; if it is empty,
/// those that a JWK names, or else the default of the kind of key.
pub fn parse(
    bytes: &[u8],
    format: KeyFormat,
    algorithms: &[Algorithm],
) -> Result<KeyFile, KeyFileError> {
    if bytes.len() > MAX_BYTES {
        return Err(KeyFileError::TooLarge);
    }
    let mut found = match format {
        KeyFormat::Secret | KeyFormat::Base64Secret => {
            FoundKeys::default().with(secret(bytes, format)?)
        }
        KeyFormat::Recognized => match bytes.trim_ascii_start() {
            [] => return Err(KeyFileError::Empty),
            [b'{', ..] => json(bytes)?,
            _ => pem(bytes)?,
        },
    };
    if found.keys.len() > MAX_KEYS {
        return Err(KeyFileError::TooManyKeys);
    }
    if found.keys.iter().any(|key| key.material.is_weak()) {
        return Err(KeyFileError::Weak);
    }
    if !algorithms.is_empty() {
        for key in &mut found.keys {
            let fits = |algorithm: &&Algorithm| key.material.fits(**algorithm);
            key.algorithms = algorithms.iter().filter(fits).copied().collect();
        }
        let is_used =
            |wanted: &Algorithm| found.keys.iter().any(|key| key.algorithms.contains(wanted));
        if !found.keys.is_empty() && !algorithms.iter().all(is_used) {
            return Err(KeyFileError::DoesNotFit);
        }
        found.keys.retain(|key| !key.algorithms.is_empty());
    }
    match found.skipped.as_slice() {
        [] if found.keys.is_empty() => Err(KeyFileError::NoKeys(String::new())),
        [why, ..] if found.keys.is_empty() => Err(KeyFileError::NoKeys(format!(": {why}"))),
        _ => Ok(KeyFile { keys: found.keys, skipped: found.skipped }),
    }
}

/// What was found in a file.
#[derive(Default)]
struct FoundKeys {
    keys: Vec<TokenKey>,
    skipped: Vec<String>,
}

impl FoundKeys {
    fn with(mut self, material: KeyMaterial) -> FoundKeys {
        self.add(None, material);
        self
    }

    fn add(&mut self, id: Option<String>, material: KeyMaterial) {
        let algorithms = vec![material.default_algorithm()];
        self.keys.push(TokenKey { id, algorithms, material });
    }
}

/// Parses a secret.
fn secret(bytes: &[u8], format: KeyFormat) -> Result<KeyMaterial, KeyFileError> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(KeyFileError::Empty);
    }
    let secret = match format {
        KeyFormat::Base64Secret => decode_any(line).ok_or(KeyFileError::NotBase64)?,
        KeyFormat::Secret | KeyFormat::Recognized => line.to_vec(),
    };
    if is_public(&secret) || is_public(bytes) {
        return Err(KeyFileError::NotASecret);
    }
    if secret.is_empty() {
        return Err(KeyFileError::Empty);
    }
    Ok(KeyMaterial::Secret(secret.into()))
}

/// Whether bytes are a public key or a certificate, which are no secrets.
fn is_public(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    let is_jwk = || match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(object)) => object.contains_key("kty") || object.contains_key("keys"),
        _ => false,
    };
    text.starts_with(b"-----BEGIN ")
        || text.starts_with(b"ssh-")
        || text.starts_with(b"ecdsa-sha2-")
        || der::is_sequence(bytes)
        || text.starts_with(b"{") && is_jwk()
}

/// Parses public keys in PEM.
fn pem(bytes: &[u8]) -> Result<FoundKeys, KeyFileError> {
    let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::UnknownFormat)?;
    let mut found = FoundKeys::default();
    let mut lines = text.lines().map(str::trim);
    let mut is_pem = false;
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----"));
        let Some(label) = label else { continue };
        is_pem = true;
        let body: String =
            lines.by_ref().take_while(|line| !line.starts_with("-----END")).collect();
        let der = decode_any(body.as_bytes());
        let material = match label {
            "PUBLIC KEY" => der.as_deref().and_then(der::public_key),
            "RSA PUBLIC KEY" => der.as_deref().and_then(der::rsa_public_key),
            "CERTIFICATE" => return Err(KeyFileError::Certificate),
            _ if label.ends_with("PRIVATE KEY") => return Err(KeyFileError::PrivateKey),
            _ => None,
        };
        match material {
            Some(material) => found.add(None, material),
            None => {
                found.skipped.push(format!("\"{label}\" is malformed or of an unsupported kind"))
            }
        }
    }
    if is_pem {
        Ok(found)
    } else {
        Err(KeyFileError::UnknownFormat)
    }
}

/// Parses a JWK, or a set of them.
fn json(bytes: &[u8]) -> Result<FoundKeys, KeyFileError> {
    let file: Value = serde_json::from_slice(bytes).map_err(|_| KeyFileError::UnknownFormat)?;
    let single = std::slice::from_ref(&file);
    let jwks = match file.get("keys") {
        Some(Value::Array(keys)) => keys.as_slice(),
        Some(_) => return Err(KeyFileError::UnknownFormat),
        None => single,
    };
    if jwks.len() > MAX_KEYS {
        return Err(KeyFileError::TooManyKeys);
    }
    let mut found = FoundKeys::default();
    for (index, jwk) in jwks.iter().enumerate() {
        if jwk.get("d").is_some() {
            return Err(KeyFileError::PrivateKey);
        }
        if !is_for_signatures(jwk) {
            continue;
        }
        match web_key(jwk) {
            Ok(key) => found.keys.push(key),
            Err(why) => found.skipped.push(format!("key {} {why}", index + 1)),
        }
    }
    Ok(found)
}

/// Whether a JWK may verify signatures, as far as it says so.
fn is_for_signatures(jwk: &Value) -> bool {
    let usage = jwk.get("use").is_none_or(|usage| usage == "sig");
    let operations = jwk.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
    });
    usage && operations
}

/// Parses a JWK. The error continues a sentence about the key.
fn web_key(jwk: &Value) -> Result<TokenKey, &'static str> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| text(name).and_then(|text| decode_url(text.as_bytes()));
    let point = |len: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == len && y.len() == len).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    };
    let material = match (text("kty"), text("crv")) {
        (Some("oct"), _) => bytes("k")
            .filter(|secret| !secret.is_empty())
            .map(|secret| KeyMaterial::Secret(secret.into())),
        (Some("RSA"), _) => bytes("n").zip(bytes("e")).and_then(|(n, e)| KeyMaterial::rsa(&n, &e)),
        (Some("EC"), Some("P-256")) => point(32).and_then(|point| KeyMaterial::p256(&point)),
        (Some("EC"), Some("P-384")) => point(48).and_then(|point| KeyMaterial::p384(&point)),
        (Some("OKP"), Some("Ed25519")) => bytes("x").and_then(|key| KeyMaterial::ed25519(&key)),
        _ => return Err("is of an unsupported kind"),
    };
    let material = material.ok_or("is malformed")?;
    let algorithm = match jwk.get("alg") {
        None => material.default_algorithm(),
        Some(name) => name
            .as_str()
            .and_then(Algorithm::from_name)
            .filter(|algorithm| material.fits(*algorithm))
            .ok_or("has an algorithm that is not supported, or does not fit it")?,
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(id.as_str().ok_or("has an id that is not a string")?.to_owned()),
    };
    Ok(TokenKey { id, algorithms: vec![algorithm], material })
}
