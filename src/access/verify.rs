//! Decides whether a token is valid.

use super::algorithm::Algorithm;
use super::claims::Claims;
use super::key::TokenKey;
use super::requirements::Requirements;
use super::token::{JsonWebToken, TokenFormError};
use crate::sse::escaped::Escaped;
use std::fmt;

/// Maximum number of keys that are tried for one token.
const MAX_TRIED: usize = 4;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// Receiving events (`sse_stream`).
    Subscribe,
    /// Publishing (`sse_publish`).
    Publish,
    /// Administration and status (`sse_admin`, `sse_status`).
    Admin,
}

/// A key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: TokenKey,
    /// The issuer whose tokens the key verifies; `None` for all.
    pub issuer: Option<String>,
    /// What tokens of this key may be used for; `None` for everything.
    pub usage: Option<KeyUsage>,
}

/// The conditions for a valid token.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'c> {
    /// The keys of the location.
    pub keys: &'c [TrustedKey],
    /// What the token is used for.
    pub usage: KeyUsage,
    /// The claims that the token must have.
    pub requirements: &'c Requirements,
    /// The `typ` that tokens must have, if any.
    pub kind: Option<&'c str>,
    /// By how much (ms) a token may be used before it becomes valid, and after it has expired.
    pub leeway: u64,
}

/// Why a token is refused, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// It does not have the form of a token.
    Malformed,
    /// Its algorithm is not supported, or no key has it.
    Algorithm,
    /// There is no key for it.
    Key,
    /// No key verifies its signature.
    Signature,
    /// A claim is missing, or has another value than it must have.
    Claim,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// It was revoked.
    Revoked,
}

/// The refusal of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRefusal {
    /// The kind of the reason.
    pub reason: RefusalReason,
    /// Why, for the error log. Contains nothing of the token but its escaped issuer, and its
    /// subject if the signature is valid.
    pub why: String,
}

impl TokenRules<'_> {
    /// Returns the claims of a token, if it is valid at `now` (ms since 1970).
    pub fn verify(&self, token: &[u8], now: u64) -> Result<Claims, TokenRefusal> {
        let token = JsonWebToken::parse(token).map_err(|error| match error {
            TokenFormError::Malformed => TokenRefusal::new(RefusalReason::Malformed, "malformed"),
            TokenFormError::Algorithm => {
                TokenRefusal::new(RefusalReason::Algorithm, "algorithm is not supported")
            }
        })?;
        if self.kind.is_some_and(|wanted| !token.is_of_kind(wanted)) {
            return Err(TokenRefusal::new(RefusalReason::Claim, "typ is not the required one"));
        }
        let claims = Claims::parse(&token.payload)
            .ok_or_else(|| TokenRefusal::new(RefusalReason::Malformed, "claims are malformed"))?;
        self.check_signature(&token, &claims)?;
        self.check_claims(&claims, now)?;
        Ok(claims)
    }

    /// Checks the signature. Of the claims, only the issuer is used, to select the keys.
    fn check_signature(
        &self,
        token: &JsonWebToken<'_>,
        claims: &Claims,
    ) -> Result<(), TokenRefusal> {
        let issuer = claims.text("iss");
        let refusal = |reason, why: fmt::Arguments<'_>| {
            let issuer = issuer.as_deref().map(|iss| format!(", iss {}", Escaped(iss.as_bytes())));
            Err(TokenRefusal::new(reason, format!("{why}{}", issuer.unwrap_or_default())))
        };
        let is_allowed = |key: &&TrustedKey| key.usage.is_none_or(|usage| usage == self.usage);
        let allowed = || self.keys.iter().filter(is_allowed);
        if !allowed().any(|key| key.has(token.algorithm)) {
            let algorithm = token.algorithm;
            return refusal(RefusalReason::Algorithm, format_args!("no key for {algorithm}"));
        }
        let fits = |key: &&TrustedKey| {
            key.has(token.algorithm)
                && key.issuer.as_ref().is_none_or(|wanted| issuer.as_ref() == Some(wanted))
                && (key.key.id.is_none() || key.key.id == token.key_id)
        };
        let mut candidates = allowed().filter(fits).take(MAX_TRIED).peekable();
        if candidates.peek().is_none() {
            return refusal(RefusalReason::Key, format_args!("no key with its kid and iss"));
        }
        let verifies =
            |key: &TrustedKey| key.key.verifies(token.algorithm, token.signed, &token.signature);
        if candidates.any(verifies) {
            Ok(())
        } else {
            refusal(RefusalReason::Signature, format_args!("signature is invalid"))
        }
    }

    /// Checks the claims of a token whose signature is valid.
    fn check_claims(&self, claims: &Claims, now: u64) -> Result<(), TokenRefusal> {
        if let Some(expires) = claims.expires {
            if expires.saturating_add(self.leeway) <= now {
                let ago = now.saturating_sub(expires) / 1000;
                let why = format_args!("expired {ago} s ago");
                return Err(TokenRefusal::with_claims(RefusalReason::Expired, why, claims));
            }
        }
        if let Some(not_before) = claims.not_before {
            if not_before > now.saturating_add(self.leeway) {
                let ahead = (not_before - now) / 1000;
                let why = format_args!("not valid for another {ahead} s");
                return Err(TokenRefusal::with_claims(RefusalReason::NotYet, why, claims));
            }
        }
        match self.requirements.unmet(claims) {
            None => Ok(()),
            Some(name) => {
                let name = Escaped(name.as_bytes());
                let why = format_args!("claim {name} is missing or has another value");
                Err(TokenRefusal::with_claims(RefusalReason::Claim, why, claims))
            }
        }
    }
}

impl TrustedKey {
    fn has(&self, algorithm: Algorithm) -> bool {
        self.key.algorithms.contains(&algorithm)
    }
}

impl TokenRefusal {
    fn new(reason: RefusalReason, why: impl Into<String>) -> TokenRefusal {
        TokenRefusal { reason, why: why.into() }
    }

    /// Creates the refusal of a token that was revoked.
    pub fn revoked(claims: &Claims) -> TokenRefusal {
        TokenRefusal::with_claims(RefusalReason::Revoked, format_args!("revoked"), claims)
    }

    /// Creates the refusal of a token whose signature is valid.
    fn with_claims(
        reason: RefusalReason,
        why: fmt::Arguments<'_>,
        claims: &Claims,
    ) -> TokenRefusal {
        let mut why = why.to_string();
        for name in ["iss", "sub"] {
            if let Some(value) = claims.text(name) {
                why.push_str(&format!(", {name} {}", Escaped(value.as_bytes())));
            }
        }
        TokenRefusal { reason, why }
    }
}
