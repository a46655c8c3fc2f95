//! The secret in messages of the publish script. Redis and the nginxes that share it know it;
//! publishers of plain messages do not.
//!
//! It is stored in Redis, in the hash with the history settings. Without an agreed secret, there is
//! no default: every message that looks like a durable event is then verified against the channel's
//! stream.

use ::redis::{RedisError, Value};

/// Characters of a token.
const LEN: usize = 32;
/// Number of random bytes of a token.
const BYTES: usize = LEN / 2;

/// A token, 128 random bits in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; LEN]);

impl Token {
    /// Creates a new token. `None` if the system has no random bytes.
    pub fn random() -> Option<Token> {
        let mut bytes = [0; BYTES];
        rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
        let digits = b"0123456789abcdef";
        let mut text = [0; LEN];
        for (pair, byte) in text.chunks_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
        Some(Token(text))
    }

    /// Parses the value in Redis. `None` for everything that is not a token, such as the `-` that
    /// the script writes if it finds none.
    pub fn parse(text: &[u8]) -> Option<Token> {
        let text: [u8; LEN] = text.try_into().ok()?;
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Token(text))
    }

    /// Returns the token as it appears in a message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Whether Redis and this nginx agree on a token.
#[derive(Debug)]
pub enum Agreed {
    /// Every nginx has this token.
    On(Token),
    /// Redis has another value in its place.
    OnNone,
    /// Redis has none, and this one could not be written; the error of Redis, if there is one.
    Refused(Option<RedisError>),
}

impl Agreed {
    /// Evaluates the replies to HSETNX and to HMGET.
    pub fn read(set: Result<Value, RedisError>, got: Result<Value, RedisError>) -> Agreed {
        let there = match &got {
            Ok(Value::Array(values)) => match values.first() {
                Some(Value::BulkString(text)) => Some(&text[..]),
                _ => None,
            },
            _ => None,
        };
        match there.map(Token::parse) {
            Some(Some(token)) => Agreed::On(token),
            Some(None) => Agreed::OnNone,
            None => Agreed::Refused(set.err().or(got.err())),
        }
    }

    /// Returns the token, if there is one.
    pub fn token(&self) -> Option<Token> {
        match self {
            Agreed::On(token) => Some(*token),
            Agreed::OnNone | Agreed::Refused(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Result<Value, RedisError> {
        Ok(Value::Array(vec![Value::BulkString(text.into())]))
    }

    #[test]
    fn a_token_is_random_and_can_be_parsed() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(Token::parse(one.as_bytes()), Some(one));
    }

    #[test]
    fn no_other_value_is_accepted_as_a_token() {
        let almost = "0123456789abcdef0123456789abcdeF";
        for text in ["", "-", "secret", almost, &"0".repeat(31), &"0".repeat(33)] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn without_an_agreement_there_is_no_token() {
        let token = Token::random().unwrap();
        let text = std::str::from_utf8(token.as_bytes()).unwrap();
        let full = || Err(::redis::make_extension_error("OOM".into(), None));
        assert_eq!(Agreed::read(full(), reply(text)).token(), Some(token));
        assert!(matches!(Agreed::read(Ok(Value::Int(0)), reply("-")), Agreed::OnNone));
        let nothing = || Ok(Value::Array(vec![Value::Nil]));
        let Agreed::Refused(Some(error)) = Agreed::read(full(), nothing()) else { panic!() };
        assert_eq!(error.code(), Some("OOM"));
        assert!(matches!(Agreed::read(Ok(Value::Nil), full()), Agreed::Refused(Some(_))));
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::random().unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
