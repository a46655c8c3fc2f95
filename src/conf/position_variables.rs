//! Checks that `$sse_position` and `$sse_position_NAME` refer to existing hubs.

use super::hub::Main;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;

/// The name of the variable for the default hub, and the beginning of the others' names.
const DEFAULT: &[u8] = b"sse_position";
const NAMED: &[u8] = b"sse_position_";

/// Checks the variables that the configuration uses. Called when all blocks have been read.
pub fn check(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    for variable in context.used_variables() {
        let main: &Main = context.main_conf();
        match variable.strip_prefix(NAMED) {
            Some(hub) => check_named(main, hub)?,
            None if variable == DEFAULT => check_default(main)?,
            None => continue,
        }
        // A hub that only pages use follows Redis, too.
        if main.hubs.iter().any(|hub| hub.is_in_configuration()) {
            main.used.set(true);
        }
    }
    Ok(())
}

/// Checks the rest of a variable's name. nginx does not distinguish its upper and lower case.
fn check_named(main: &Main, name: &[u8]) -> Result<(), ConfError> {
    let is_meant = |hub: &str| hub.as_bytes().eq_ignore_ascii_case(name);
    let shown = String::from_utf8_lossy(name);
    match main.hubs.iter().filter(|hub| is_meant(&hub.name)).count() {
        1 => Ok(()),
        0 => Err(ConfError::message(format_args!(
            "unknown hub \"{shown}\" in variable \"sse_position_{shown}\""
        ))),
        _ => Err(ConfError::message(format_args!(
            "variable \"sse_position_{shown}\" may mean several hubs, whose names differ in case only"
        ))),
    }
}

fn check_default(main: &Main) -> Result<(), ConfError> {
    main.resolve(None, "").map(|_| ()).map_err(|_| {
        ConfError::message(
            "variable \"sse_position\" must name one of the hubs, as in \"$sse_position_NAME\"",
        )
    })
}
