//! Tokens of a location: where they come from, which keys verify them, and what they allow.

use super::channel_argument::{chooser, NameChooser};
use super::handlers::LocationHandler;
use super::hub::Main;
use crate::access::channel_claim::ChannelClaim;
use crate::access::requirements::Requirements;
use crate::access::verify::{KeyUsage, TokenRules, TrustedKey};
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::{ConfContext, Position};
use crate::nginx::log::Level;
use std::rc::Rc;

/// The values set at one level; `None` is inherited.
#[derive(Default)]
pub struct AccessSettings {
    pub(super) tokens: Option<Option<Rc<TokenSettings>>>,
    /// The keys of the level; if there are none, those of the enclosing level apply.
    pub(super) keys: Vec<Rc<KeyDirective>>,
    pub(super) requirements: Option<Rc<Requirements>>,
    pub(super) channels: Option<Option<Rc<ChannelClaim>>>,
    pub(super) user: Option<Rc<UserDirective>>,
    /// Where `sse_jwt` is set; valid after `complete`.
    level: JwtLevel,
}

/// `sse_user`
pub struct UserDirective {
    pub value: ComplexValue,
    pub text: Box<[u8]>,
}

/// The user that requests of a location belong to.
pub struct RequestUser {
    pub name: UserName,
    pub known: UserKnown,
}

/// When it is known which user a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKnown {
    /// As soon as its token has been verified.
    WithToken,
    /// After all access checks, because they may determine it.
    AfterAccess,
}

/// Where the name of a user comes from.
pub enum UserName {
    /// The value in the configuration; empty for none.
    Value(Rc<UserDirective>),
    /// The subject of the token.
    Subject,
    /// The issuer and the subject of the token, because several issuers may have the same subject.
    IssuerAndSubject,
}

/// `sse_jwt`
pub struct TokenSettings {
    pub sources: TokenSources,
    pub absence: TokenAbsence,
    /// By how much (ms) a token may be used before it becomes valid, and after it has expired.
    pub leeway: u64,
    /// The `typ` that tokens must have, if any.
    pub kind: Option<String>,
}

/// Where requests carry their tokens.
#[derive(Default)]
pub struct TokenSources {
    pub bearer: bool,
    pub cookie: Option<Box<[u8]>>,
    pub argument: Option<Box<str>>,
    pub value: Option<ComplexValue>,
}

/// What happens to a request without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAbsence {
    Refused,
    Allowed,
}

/// `sse_jwt_key`
pub struct KeyDirective {
    pub keys: Vec<TrustedKey>,
    pub form: KeyFileForm,
    pub position: Position,
}

/// What a key file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileForm {
    Secret,
    PublicKeys,
    KeySet,
}

/// The token settings of a location that the module answers.
pub struct AccessRules {
    pub tokens: Rc<TokenSettings>,
    pub channels: Option<Rc<ChannelClaim>>,
    pub usage: KeyUsage,
    keys: Vec<TrustedKey>,
    requirements: Rc<Requirements>,
}

impl AccessRules {
    /// Returns the conditions for a valid token.
    pub fn token_rules(&self) -> TokenRules<'_> {
        TokenRules {
            keys: &self.keys,
            usage: self.usage,
            requirements: &self.requirements,
            kind: self.tokens.kind.as_deref(),
            leeway: self.tokens.leeway,
        }
    }
}

impl AccessSettings {
    /// Copies the values that are not set here from the enclosing level.
    pub fn inherit(&mut self, outer: &AccessSettings) {
        if self.tokens.is_none() {
            self.tokens.clone_from(&outer.tokens);
        }
        if self.keys.is_empty() {
            self.keys.clone_from(&outer.keys);
        }
        if self.requirements.is_none() {
            self.requirements.clone_from(&outer.requirements);
        }
        if self.user.is_none() {
            self.user.clone_from(&outer.user);
        }
        if self.channels.is_none() {
            self.channels.clone_from(&outer.channels);
        }
    }

    /// Merges the values of the enclosing level, and returns the rules of a location with this
    /// handler; `None` if tokens are off.
    pub fn complete(
        &mut self,
        outer: &AccessSettings,
        handler: Option<&LocationHandler>,
        context: &mut ConfContext<'_>,
    ) -> Result<Option<Rc<AccessRules>>, String> {
        self.level = match &self.tokens {
            Some(_) => JwtLevel::Own,
            None if context.is_part_of_location() => outer.level,
            None => JwtLevel::Inherited,
        };
        let own_keys = self.keys.first().map(|key| key.position.clone());
        self.inherit(outer);
        let Some(handler) = handler else { return Ok(None) };
        let Some(Some(tokens)) = &self.tokens else {
            if let Some(position) = own_keys {
                let line =
                    format_args!("\"sse_jwt_key\" has no effect without \"sse_jwt\" in {position}");
                context.log(Level::Warn, line);
            }
            return Ok(None);
        };
        let usage = handler.key_usage();
        let is_allowed = |key: &&TrustedKey| key.usage.is_none_or(|allowed| allowed == usage);
        let keys: Vec<TrustedKey> =
            self.keys.iter().flat_map(|file| &file.keys).filter(is_allowed).cloned().collect();
        let position = handler.position();
        if keys.is_empty() {
            return Err(format!("\"sse_jwt\" needs \"sse_jwt_key\" in {position}"));
        }
        let requirements = self.requirements.clone().unwrap_or_default();
        if self.level == JwtLevel::Inherited {
            check_inherited(handler, &keys, &requirements, context)?;
        }
        self.warn(&requirements, position, context);
        Ok(Some(Rc::new(AccessRules {
            tokens: tokens.clone(),
            channels: self.channels.clone().flatten(),
            usage,
            keys,
            requirements,
        })))
    }

    /// Returns the user that requests of a location with these rules belong to.
    pub fn user(&self, rules: Option<&AccessRules>, main: &Main) -> Option<RequestUser> {
        if let Some(directive) = &self.user {
            let known = match chooser(&directive.text, main) {
                NameChooser::Configuration | NameChooser::Token(_) => UserKnown::WithToken,
                NameChooser::Request => UserKnown::AfterAccess,
            };
            return Some(RequestUser { name: UserName::Value(directive.clone()), known });
        }
        let rules = rules?;
        let mut issuers: Vec<&str> =
            rules.keys.iter().filter_map(|key| key.issuer.as_deref()).collect();
        issuers.sort_unstable();
        issuers.dedup();
        let has_several = issuers.len() > 1 || rules.requirements.number_of_values("iss") > 1;
        let name = if has_several { UserName::IssuerAndSubject } else { UserName::Subject };
        Some(RequestUser { name, known: UserKnown::WithToken })
    }

    /// Warns of keys that verify more tokens than they probably should.
    fn warn(&self, requirements: &Requirements, position: &Position, context: &ConfContext<'_>) {
        let keys = || self.keys.iter().flat_map(|file| &file.keys);
        if keys().any(|key| key.issuer.is_none()) && keys().any(|key| key.issuer.is_some()) {
            let line = format_args!(
                "\"sse_jwt_key\" with and without \"iss=\" in {position}: a key without an issuer \
                 verifies the tokens of every issuer"
            );
            context.log(Level::Warn, line);
        }
        let has_set = self.keys.iter().any(|file| file.form == KeyFileForm::KeySet);
        if has_set && requirements.number_of_values("aud") == 0 {
            let line = format_args!(
                "a key set without \"sse_jwt_require aud=...\" in {position}: tokens that its issuer \
                 has made for other applications are accepted"
            );
            context.log(Level::Warn, line);
        }
    }
}

/// Where the `sse_jwt` of a location is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum JwtLevel {
    /// In the location itself.
    Own,
    /// In an enclosing block.
    #[default]
    Inherited,
}

/// Checks a location that inherits `sse_jwt`: a token that identifies a client does not by itself
/// permit it to administer or to publish.
fn check_inherited(
    handler: &LocationHandler,
    keys: &[TrustedKey],
    requirements: &Requirements,
    context: &ConfContext<'_>,
) -> Result<(), String> {
    let usage = handler.key_usage();
    if requirements.has_value() || keys.iter().all(|key| key.usage == Some(usage)) {
        return Ok(());
    }
    let position = handler.position();
    let (directive, parameter) = match handler {
        LocationHandler::Stream(_) => return Ok(()),
        LocationHandler::Publish(_) => ("sse_publish", "for=publish"),
        LocationHandler::Status(_) => ("sse_status", "for=admin"),
        LocationHandler::Admin(_) => {
            return Err(format!(
                "\"sse_admin\" inherits \"sse_jwt\", so that every valid token would administer; \
                 add \"sse_jwt_require NAME=VALUE\", a key with \"for=admin\", or \"sse_jwt\" in \
                 {position}"
            ));
        }
    };
    context.log(
        Level::Warn,
        format_args!(
            "\"{directive}\" inherits \"sse_jwt\", so that every valid token is accepted in \
             {position}; add \"sse_jwt_require NAME=VALUE\", a key with \"{parameter}\", or \
             \"sse_jwt\""
        ),
    );
    Ok(())
}
