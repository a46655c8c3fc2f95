//! Arguments that name channels, and who determines the names.

use super::hub::Main;
use crate::nginx::complex_value::ComplexValue;

/// An argument of `sse_stream`, or the channel of `sse_publish`.
pub struct ChannelArgument {
    pub value: ComplexValue,
    /// Whether the name may be one of the module's own.
    pub source: NameSource,
    /// Who determines the name; valid after `complete`.
    pub chooser: NameChooser,
    text: Box<[u8]>,
}

/// The origin of a channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The configuration literally names one of the module's own channels.
    Own,
    /// The name may depend on the client, so it must not become one of the module's own.
    Any,
}

/// Who determines a channel's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChooser {
    /// The configuration alone.
    Configuration,
    /// The configuration, and the claims at these paths of a valid token.
    Token(Vec<Vec<String>>),
    /// Anything else of the request.
    Request,
}

impl ChannelArgument {
    /// Creates an argument with this text.
    pub fn new(value: ComplexValue, source: NameSource, text: &[u8]) -> ChannelArgument {
        ChannelArgument { value, source, chooser: NameChooser::Request, text: text.into() }
    }

    /// Determines who chooses the name. Called when all blocks have been read.
    pub fn complete(&mut self, main: &Main) {
        self.chooser = chooser(&self.text, main);
    }
}

/// Determines who chooses the value of a text with variables.
pub(super) fn chooser(text: &[u8], main: &Main) -> NameChooser {
    let mut paths = Vec::new();
    for name in variables(text) {
        match claim_path(&name, main) {
            Some(path) => paths.push(path),
            None => return NameChooser::Request,
        }
    }
    if paths.is_empty() {
        NameChooser::Configuration
    } else {
        NameChooser::Token(paths)
    }
}

/// Returns the path of the claim that a variable has the value of, if it is such a variable.
fn claim_path(variable: &str, main: &Main) -> Option<Vec<String>> {
    match variable.strip_prefix("sse_jwt_claim_") {
        Some(claim) => Some(vec![claim.to_owned()]),
        None => main
            .claim_variables
            .iter()
            .find(|(name, _)| name == variable)
            .map(|(_, path)| path.clone()),
    }
}

/// Returns the names of the variables in a value, in lower case; `$name` or `${name}`.
fn variables(text: &[u8]) -> Vec<String> {
    let parts = text.split(|byte| *byte == b'$').skip(1);
    let name = |part: &[u8]| {
        let part = part.strip_prefix(b"{").unwrap_or(part);
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        part.iter().take_while(is_part).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
    };
    parts.map(name).collect()
}
