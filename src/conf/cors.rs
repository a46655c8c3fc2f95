//! `sse_cors`: which pages of other origins may read streams and publish.

use super::location::Location;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::directive::Refused;
use crate::sse::origin;
use std::rc::Rc;

/// The origins that are let in.
pub enum Cors {
    /// Every one, without cookies and passwords.
    Any,
    /// These.
    Listed { origins: Vec<String>, credentials: Credentials },
}

/// Whether a page of another origin may send its visitor's cookies and passwords along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    Withheld,
    Sent,
}

/// `sse_cors ORIGIN ... [credentials];` or `sse_cors off;`
pub fn cors(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let value = match context.arguments().as_slice() {
        [b"off"] => None,
        arguments => Some(Rc::new(Cors::read(arguments)?)),
    };
    super::hub::once(&mut context.location_conf::<Location>().settings.cors, value)
}

impl Cors {
    fn read(arguments: &[&[u8]]) -> Result<Cors, Refused> {
        let (origins, credentials) = match arguments {
            [origins @ .., b"credentials"] => (origins, Credentials::Sent),
            origins => (origins, Credentials::Withheld),
        };
        match origins {
            [] => return Err(Refused::because("no origin in \"sse_cors\" directive")),
            [b"*"] if credentials == Credentials::Sent => {
                return Err(Refused::because("\"*\" cannot be used with \"credentials\""));
            }
            [b"*"] => return Ok(Cors::Any),
            _ => {}
        }
        let mut listed: Vec<String> = Vec::with_capacity(origins.len());
        for text in origins {
            if *text == b"*" {
                return Err(Refused::because("\"*\" cannot be used with other origins"));
            }
            let origin = origin::parse(text).ok_or_else(|| Refused::no_valid("origin", text))?;
            if listed.contains(&origin) {
                return Err(Refused::because(format_args!("duplicate origin \"{origin}\"")));
            }
            listed.push(origin);
        }
        Ok(Cors::Listed { origins: listed, credentials })
    }

    /// Whether a request with this `Origin`, or with none, is let in.
    pub fn allows(&self, origin: Option<&[u8]>) -> bool {
        match self {
            Cors::Any => true,
            Cors::Listed { origins, .. } => {
                origins.iter().any(|listed| origin == Some(listed.as_bytes()))
            }
        }
    }
}
