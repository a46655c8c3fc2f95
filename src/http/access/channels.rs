//! Which channels a request's token allows (`sse_jwt_channels`).

use super::{claims, refuse, refuse_channel, rules, TokenFault};
use crate::access::channel_claim::AllowedChannels;
use crate::conf::channel_argument::{ChannelArgument, NameChooser};
use crate::conf::location::NameKind;
use crate::nginx::request::{Outcome, Request};
use crate::sse::escaped::Escaped;

/// The channels that a request may name.
pub enum AllowedNames {
    /// All of them.
    All,
    /// Those that the token lists.
    Listed(AllowedChannels),
    /// None, because there is no valid token.
    Unknown(TokenFault),
    /// None, because the token has no list, or an invalid one.
    NoList,
}

impl AllowedNames {
    /// Determines the channels that a request may name.
    pub fn for_request(request: &Request) -> AllowedNames {
        let Some(claim) = rules(request).and_then(|rules| rules.channels.clone()) else {
            return AllowedNames::All;
        };
        match claims(request) {
            Some(Ok(claims)) => {
                claim.allowed(&claims).map_or(AllowedNames::NoList, AllowedNames::Listed)
            }
            Some(Err(fault)) => AllowedNames::Unknown(fault),
            None => AllowedNames::Unknown(TokenFault::Missing),
        }
    }

    /// Checks a name, or a pattern. Returns the response that refuses it.
    pub fn check(&self, request: &Request, name: &[u8], kind: NameKind) -> Result<(), Outcome> {
        let shown = Escaped(name);
        match (self, kind) {
            (AllowedNames::All, _) => Ok(()),
            (AllowedNames::Listed(allowed), NameKind::Names) if allowed.allows_name(name) => Ok(()),
            (AllowedNames::Listed(allowed), NameKind::Patterns) if allowed.allows_pattern(name) => {
                Ok(())
            }
            (AllowedNames::Listed(_), _) => {
                Err(refuse_channel(request, format_args!("channel \"{shown}\" is not allowed")))
            }
            (AllowedNames::NoList, _) => Err(refuse_channel(
                request,
                format_args!("the claim of channels is missing or has another form"),
            )),
            (AllowedNames::Unknown(fault), _) => Err(refuse(request, *fault)),
        }
    }
}

/// Whether an argument names a channel: if its name depends on claims, they must be there and not
/// empty, and for a pattern they must not contain special characters.
pub fn has_name(request: &Request, argument: &ChannelArgument, kind: NameKind) -> bool {
    let NameChooser::Token(paths) = &argument.chooser else { return true };
    let Some(Ok(claims)) = claims(request) else { return false };
    paths.iter().all(|path| {
        let text = claims.text_at(path).unwrap_or_default();
        let is_special = |c| "*?[\\".contains(c);
        !text.is_empty() && (kind == NameKind::Names || !text.contains(is_special))
    })
}

/// Refuses a request whose token names no channel. Returns `None` without `sse_jwt`.
pub fn refuse_nameless(request: &Request) -> Option<Outcome> {
    Some(match claims(request)? {
        Ok(_) => refuse_channel(
            request,
            format_args!("a claim that names the channel is missing or empty"),
        ),
        Err(fault) => refuse(request, fault),
    })
}
