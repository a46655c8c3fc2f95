//! Answers requests: streams, publishing, status, administration, CORS, and tokens; and lets event
//! streams of an upstream pass.

// This layer handles untrusted bytes.
#![warn(clippy::indexing_slicing)]

pub mod access;
pub mod cors;
pub mod upstream;
pub mod variables;

mod admin;
mod json;
mod publish;
mod status;
mod stream;

use crate::conf::{Location, LocationHandler};
use crate::nginx::request::{Outcome, Request};

/// Answers a request of a location that has one of the module's handlers.
pub fn answer(request: &Request) -> Outcome {
    // The location that has handed the request on may have refused its method.
    request.remove_headers("Allow", |_| true);
    let location = Location::for_request(request);
    if location.access.is_some() {
        access::withdraw_challenges(request);
        if let Err(outcome) = access::check_user(request) {
            return outcome;
        }
    }
    match location.handler() {
        Some(LocationHandler::Stream(conf)) => stream::handle(request, conf),
        Some(LocationHandler::Publish(conf)) => publish::handle(request, conf),
        Some(LocationHandler::Status(conf)) => status::handle(request, conf),
        Some(LocationHandler::Admin(conf)) => admin::handle(request, conf),
        // nginx calls the module only in locations that have a handler of the module.
        None => Outcome::status(404),
    }
}
