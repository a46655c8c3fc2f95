//! Directives, and what they resolve to.
//!
//! nginx reads a configuration and calls the setters of `DIRECTIVES`, then `Main::complete` and
//! `Location::complete`, which check the configuration as a whole. Errors are reported in nginx's
//! style, with file and line, and nginx refuses to start.

// This layer handles untrusted bytes.
#![warn(clippy::indexing_slicing)]

pub mod access;
pub mod channel_argument;
pub mod cors;
pub mod hub;
pub mod location;
pub mod position_variables;
pub mod redis;

mod access_directives;
mod argument;
mod claim_variables;
mod handler_directives;
mod handlers;
mod setting_directives;
pub mod settings;

pub use handlers::LocationHandler;
pub use hub::{HubConf, Main};
pub use location::{
    AdminHandler, Location, PublishHandler, StatusHandler, StatusScope, StreamHandler,
};

use crate::nginx::directive::{Arguments, Directive, DirectiveContext};

/// All directives of the module outside of the `sse_hub` block.
pub static DIRECTIVES: [Directive; 32] = [
    directive(c"sse_hub", DirectiveContext::HttpBlock, Arguments::One, hub::block),
    directive(
        c"sse_stream",
        DirectiveContext::Location,
        Arguments::OneOrMore,
        handler_directives::stream,
    ),
    directive(
        c"sse_publish",
        DirectiveContext::Location,
        Arguments::OneOrMore,
        handler_directives::publish,
    ),
    directive(
        c"sse_status",
        DirectiveContext::Location,
        Arguments::Any,
        handler_directives::status,
    ),
    directive(c"sse_admin", DirectiveContext::Location, Arguments::Any, handler_directives::admin),
    directive(
        c"sse_replay",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::replay,
    ),
    directive(
        c"sse_last_event_id",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        setting_directives::last_event_id,
    ),
    directive(
        c"sse_since",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::since,
    ),
    directive(
        c"sse_heartbeat",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::heartbeat,
    ),
    directive(
        c"sse_retry",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrTwo,
        setting_directives::retry,
    ),
    directive(
        c"sse_open_event",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::open_event,
    ),
    directive(
        c"sse_gap_event",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::gap_event,
    ),
    directive(
        c"sse_name_events",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::name_events,
    ),
    directive(
        c"sse_slow_client",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::slow_client,
    ),
    directive(
        c"sse_finished",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::finished,
    ),
    directive(
        c"sse_unknown_channel",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::unknown_channel,
    ),
    directive(
        c"sse_max_age",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrTwo,
        setting_directives::max_age,
    ),
    directive(
        c"sse_expires",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        setting_directives::expires,
    ),
    directive(
        c"sse_reconnect",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::reconnect,
    ),
    directive(
        c"sse_drain",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::drain,
    ),
    directive(
        c"sse_max_subscribers",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::max_subscribers,
    ),
    directive(
        c"sse_cors",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        setting_directives::cors,
    ),
    directive(
        c"sse_jwt",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        access_directives::jwt,
    ),
    directive(
        c"sse_jwt_key",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        access_directives::key,
    ),
    directive(
        c"sse_jwt_require",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        access_directives::require,
    ),
    directive(
        c"sse_jwt_channels",
        DirectiveContext::HttpServerLocation,
        Arguments::OneOrMore,
        access_directives::channels,
    ),
    directive(
        c"sse_user",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        access_directives::user,
    ),
    directive(c"sse_jwt_set", DirectiveContext::Http, Arguments::TwoOrMore, claim_variables::set),
    directive(
        c"sse_direct",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::direct,
    ),
    directive(
        c"sse_lean",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::lean,
    ),
    directive(
        c"sse_proxy_unbuffered",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::proxy_unbuffered,
    ),
    directive(
        c"sse_proxy_read_timeout",
        DirectiveContext::HttpServerLocation,
        Arguments::One,
        setting_directives::proxy_read_timeout,
    ),
];

/// Creates a row of the table.
const fn directive(
    name: &'static std::ffi::CStr,
    context: DirectiveContext,
    arguments: Arguments,
    set: fn(
        &mut crate::nginx::conf_context::ConfContext<'_>,
    ) -> Result<(), crate::nginx::conf_error::ConfError>,
) -> Directive {
    Directive { name, context, arguments, set }
}
