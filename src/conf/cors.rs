//! `sse_cors`: the other origins whose pages may read streams and publish.

use crate::nginx::conf_error::ConfError;
use crate::sse::origin;

/// The allowed origins.
pub enum Cors {
    /// All, without credentials.
    Any,
    /// Only the listed ones.
    Listed { origins: Vec<String>, credentials: Credentials },
}

/// Whether pages of other origins may send cookies and HTTP authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    Withheld,
    Sent,
}

impl Cors {
    /// Parses the arguments of `sse_cors`.
    pub fn read(arguments: &[&[u8]]) -> Result<Cors, ConfError> {
        let (origins, credentials) = match arguments {
            [origins @ .., b"credentials"] => (origins, Credentials::Sent),
            origins => (origins, Credentials::Withheld),
        };
        match origins {
            [] => return Err(ConfError::message("no origin in \"sse_cors\" directive")),
            [b"*"] if credentials == Credentials::Sent => {
                return Err(ConfError::message("\"*\" cannot be used with \"credentials\""));
            }
            [b"*"] => return Ok(Cors::Any),
            _ => {}
        }
        let mut listed: Vec<String> = Vec::with_capacity(origins.len());
        for text in origins {
            if *text == b"*" {
                return Err(ConfError::message("\"*\" cannot be used with other origins"));
            }
            let origin = origin::parse(text).ok_or_else(|| ConfError::no_valid("origin", text))?;
            if listed.contains(&origin) {
                return Err(ConfError::message(format_args!("duplicate origin \"{origin}\"")));
            }
            listed.push(origin);
        }
        Ok(Cors::Listed { origins: listed, credentials })
    }

    /// Whether a request with this `Origin`, or without one, is allowed.
    pub fn allows(&self, origin: Option<&[u8]>) -> bool {
        match self {
            Cors::Any => true,
            Cors::Listed { origins, .. } => {
                origins.iter().any(|listed| origin == Some(listed.as_bytes()))
            }
        }
    }
}
