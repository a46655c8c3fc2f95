//! `sse_jwt_set`: variables with the values of claims.

use super::hub::Main;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;

/// `sse_jwt_set $VARIABLE CLAIM [CLAIM ...];`
pub fn set(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let arguments = context.arguments();
    let (variable, claims) = arguments.split_first().ok_or(ConfError::AlreadyLogged)?;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = variable
        .strip_prefix(b"$")
        .filter(|name| !name.is_empty() && name.iter().all(is_part))
        .and_then(|name| std::str::from_utf8(name).ok())
        .ok_or_else(|| ConfError::no_valid("variable name", variable))?;
    let mut path = Vec::with_capacity(claims.len());
    for claim in claims {
        let text = std::str::from_utf8(claim).ok().filter(|text| !text.is_empty());
        path.push(text.ok_or_else(|| ConfError::no_valid("claim", claim))?.to_owned());
    }
    context.declare_variable(name.as_bytes())?;
    let variable = (name.to_ascii_lowercase(), path);
    context.main_conf::<Main>().claim_variables.push(variable);
    Ok(())
}
