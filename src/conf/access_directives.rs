//! Parses `sse_jwt` and the directives that begin with `sse_jwt_`.

use super::access::{
    KeyDirective, KeyFileForm, TokenAbsence, TokenSettings, TokenSources, UserDirective,
};
use super::argument::{once, time};
use super::location::Location;
use crate::access::algorithm::Algorithm;
use crate::access::channel_claim::{ChannelClaim, EntryKind};
use crate::access::key::KeyMaterial;
use crate::access::key_file::{self, KeyFormat};
use crate::access::requirements::Requirements;
use crate::access::verify::{KeyUsage, TrustedKey};
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

/// The longest `leeway`, in ms.
const MAX_LEEWAY: u64 = 300_000;

/// `sse_jwt bearer | cookie=NAME | arg=NAME | value=$VARIABLE ... [optional] [leeway=TIME]
/// [typ=T];` or `sse_jwt off;`
pub fn jwt(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let tokens = match context.arguments().as_slice() {
        [b"off"] => None,
        _ => Some(Rc::new(token_settings(context)?)),
    };
    once(&mut context.location_conf::<Location>().access_settings.tokens, tokens)
}

fn token_settings(context: &mut ConfContext<'_>) -> Result<TokenSettings, ConfError> {
    let mut sources = TokenSources::default();
    let (mut bearer, mut absence, mut leeway, mut kind) = (None, None, None, None);
    for argument in context.arguments() {
        match split_parameter(argument) {
            (b"bearer", None) => once(&mut bearer, true)?,
            (b"optional", None) => once(&mut absence, TokenAbsence::Allowed)?,
            (b"cookie", Some(name)) => once(&mut sources.cookie, filled(name, argument)?.into())?,
            (b"arg", Some(name)) => {
                once(&mut sources.argument, text(filled(name, argument)?)?.into())?;
                context.warn(
                    "tokens in addresses (\"arg=\") end up in browser histories and in the logs of \
                     other servers",
                );
            }
            (b"value", Some(value)) => {
                let value = context.compile(filled(value, argument)?)?;
                once(&mut sources.value, value)?;
            }
            (b"leeway", Some(value)) => {
                let value = time(value)?;
                if value > MAX_LEEWAY {
                    return Err(ConfError::message("\"leeway\" must not be longer than 5m"));
                }
                once(&mut leeway, value)?;
            }
            (b"typ", Some(value)) => once(&mut kind, text(filled(value, argument)?)?.to_owned())?,
            _ => return Err(ConfError::no_valid("parameter", argument)),
        }
    }
    sources.bearer = bearer.unwrap_or(false);
    if !sources.bearer
        && sources.cookie.is_none()
        && sources.argument.is_none()
        && sources.value.is_none()
    {
        return Err(ConfError::message(
            "\"sse_jwt\" needs \"bearer\", \"cookie=\", \"arg=\", or \"value=\"",
        ));
    }
    let absence = absence.unwrap_or(TokenAbsence::Refused);
    Ok(TokenSettings { sources, absence, leeway: leeway.unwrap_or(0), kind })
}

/// `sse_jwt_key FILE [secret | secret64] [alg=A[,A]] [iss=ISSUER] [for=subscribe | publish |
/// admin];`
pub fn key(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let arguments = context.arguments();
    let (name, parameters) = arguments.split_first().ok_or(ConfError::AlreadyLogged)?;
    let (mut format, mut algorithms, mut issuer, mut usage) = (None, None, None, None);
    for argument in parameters {
        match split_parameter(argument) {
            (b"secret", None) => once(&mut format, KeyFormat::Secret)?,
            (b"secret64", None) => once(&mut format, KeyFormat::Base64Secret)?,
            (b"alg", Some(names)) => once(&mut algorithms, parse_algorithms(names)?)?,
            (b"iss", Some(value)) => once(&mut issuer, text(filled(value, argument)?)?.to_owned())?,
            (b"for", Some(value)) => once(&mut usage, key_usage(value, argument)?)?,
            _ => return Err(ConfError::no_valid("parameter", argument)),
        }
    }
    let path = context.file_path(name)?;
    let unusable = |why: &dyn std::fmt::Display| {
        ConfError::message(format_args!("key file \"{}\" cannot be used: {why}", path.display()))
    };
    let bytes = read_file(&path).map_err(|error| unusable(&error))?;
    let format = format.unwrap_or(KeyFormat::Recognized);
    let file = key_file::parse(&bytes, format, &algorithms.unwrap_or_default())
        .map_err(|error| unusable(&error))?;
    for why in &file.skipped {
        context.warn(&format!("key file \"{}\": {why}, and is skipped", path.display()));
    }
    let trusted = |key| TrustedKey { key, issuer: issuer.clone(), usage };
    let keys: Vec<TrustedKey> = file.keys.into_iter().map(trusted).collect();
    let form = form(format, &bytes);
    warn_of_weak_secrets(context, &path, &keys);
    let directives = &mut context.location_conf::<Location>().access_settings.keys;
    let known = || directives.iter().flat_map(|directive| &directive.keys);
    if keys.iter().any(|key| known().any(|known| is_same(known, key))) {
        return Err(ConfError::message(format_args!(
            "key file \"{}\" contains a key that another \"sse_jwt_key\" has for the same purpose",
            path.display()
        )));
    }
    let position = context.position();
    let directive = Rc::new(KeyDirective { keys, form, position });
    context.location_conf::<Location>().access_settings.keys.push(directive);
    Ok(())
}

/// Whether two keys verify the same tokens, regardless of their ids, which providers repeat.
fn is_same(one: &TrustedKey, other: &TrustedKey) -> bool {
    one.key.material == other.key.material
        && one.key.algorithms == other.key.algorithms
        && one.issuer == other.issuer
        && one.usage == other.usage
}

/// Reads a file that must be a regular one, up to one byte more than is allowed.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(key_file::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Warns of secrets that can be guessed or read.
fn warn_of_weak_secrets(context: &mut ConfContext<'_>, path: &Path, keys: &[TrustedKey]) {
    let secrets = || {
        keys.iter().filter_map(|key| match &key.key.material {
            KeyMaterial::Secret(secret) => Some((secret.len(), &key.key.algorithms)),
            _ => None,
        })
    };
    let is_short = |(len, algorithms): (usize, &Vec<Algorithm>)| {
        algorithms.iter().any(|algorithm| algorithm.secret_len().is_some_and(|least| len < least))
    };
    if secrets().any(is_short) {
        context.warn(&format!(
            "key file \"{}\" contains a secret that is shorter than the hash of its algorithm",
            path.display()
        ));
    }
    let is_public = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0);
    if secrets().next().is_some() && is_public {
        context.warn(&format!(
            "key file \"{}\" is secret, but every user can read it",
            path.display()
        ));
    }
}

/// Determines what a key file contains.
fn form(format: KeyFormat, bytes: &[u8]) -> KeyFileForm {
    match format {
        KeyFormat::Secret | KeyFormat::Base64Secret => KeyFileForm::Secret,
        KeyFormat::Recognized => match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(json) if json.get("keys").is_some() => KeyFileForm::KeySet,
            _ => KeyFileForm::PublicKeys,
        },
    }
}

/// Parses the value of `for=`.
fn key_usage(value: &[u8], argument: &[u8]) -> Result<KeyUsage, ConfError> {
    match std::str::from_utf8(value) {
        Ok("subscribe") => Ok(KeyUsage::Subscribe),
        Ok("publish") => Ok(KeyUsage::Publish),
        Ok("admin") => Ok(KeyUsage::Admin),
        _ => Err(ConfError::no_valid("parameter", argument)),
    }
}

/// Parses `A[,A]`.
fn parse_algorithms(names: &[u8]) -> Result<Vec<Algorithm>, ConfError> {
    let parse = |name: &[u8]| {
        let algorithm = std::str::from_utf8(name).ok().and_then(Algorithm::from_name);
        algorithm.ok_or_else(|| ConfError::no_valid("algorithm", name))
    };
    names.split(|byte| *byte == b',').map(parse).collect()
}

/// `sse_jwt_require NAME | NAME=VALUE ...;`
pub fn require(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let requirements = Requirements::parse(&context.arguments()).map_err(|error| {
        ConfError::message(format_args!("{error} in \"sse_jwt_require\" directive"))
    })?;
    let settings = &mut context.location_conf::<Location>().access_settings;
    once(&mut settings.requirements, Rc::new(requirements))
}

/// `sse_jwt_channels CLAIM ... [split=CHAR] [pattern];` or `sse_jwt_channels off;`
pub fn channels(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let channels = match context.arguments().as_slice() {
        [b"off"] => None,
        arguments => Some(Rc::new(channel_claim(arguments)?)),
    };
    once(&mut context.location_conf::<Location>().access_settings.channels, channels)
}

fn channel_claim(arguments: &[&[u8]]) -> Result<ChannelClaim, ConfError> {
    let (mut path, mut split, mut kind) = (Vec::new(), None, None);
    for argument in arguments {
        match split_parameter(argument) {
            (b"split", Some([byte])) => once(&mut split, *byte)?,
            (b"split", Some(_)) => return Err(ConfError::no_valid("parameter", argument)),
            (b"pattern", None) if !path.is_empty() => once(&mut kind, EntryKind::Patterns)?,
            _ => path.push(text(filled(argument, argument)?)?.to_owned()),
        }
    }
    if path.is_empty() {
        return Err(ConfError::message("no claim in \"sse_jwt_channels\" directive"));
    }
    Ok(ChannelClaim { path, split, kind: kind.unwrap_or(EntryKind::Names) })
}

/// `sse_user VALUE;`
pub fn user(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let arguments = context.arguments();
    let value = arguments.first().copied().ok_or(ConfError::AlreadyLogged)?;
    let directive = UserDirective { value: context.compile(value)?, text: value.into() };
    once(&mut context.location_conf::<Location>().access_settings.user, Rc::new(directive))
}

/// Splits `NAME=VALUE`.
fn split_parameter(argument: &[u8]) -> (&[u8], Option<&[u8]>) {
    match argument.iter().position(|byte| *byte == b'=') {
        Some(at) => (argument.get(..at).unwrap_or_default(), argument.get(at + 1..)),
        None => (argument, None),
    }
}

/// Returns a value that must not be empty.
fn filled<'a>(value: &'a [u8], argument: &[u8]) -> Result<&'a [u8], ConfError> {
    if value.is_empty() {
        return Err(ConfError::no_valid("parameter", argument));
    }
    Ok(value)
}

/// Returns a value that must be UTF-8.
fn text(value: &[u8]) -> Result<&str, ConfError> {
    std::str::from_utf8(value).map_err(|_| ConfError::no_valid("parameter", value))
}
