//! Locations: what answers their requests, the settings around it, and how both are inherited.

use super::cors::Cors;
use super::handlers::LocationHandler;
use super::hub::Main;
use super::settings::Settings;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::request::Request;
use std::rc::Rc;

pub use super::handlers::{
    AdminHandler, NameKind, NameSource, PublishHandler, StatusHandler, StatusScope, StreamHandler,
};

/// What the module knows of one place in the configuration: `http`, `server` or `location`.
#[derive(Default)]
pub struct Location {
    pub(super) handler: Option<Rc<LocationHandler>>,
    /// Which pages of other origins may read the stream, or publish; none but its own if not set.
    pub cors: Option<Rc<Cors>>,
    pub(super) settings: Settings,
}

impl Location {
    /// Returns the configuration of a request's location.
    pub fn for_request(request: &Request) -> &Location {
        request.location_conf()
    }

    /// The handler of the location's requests, if it is the module's.
    pub fn handler(&self) -> Option<&LocationHandler> {
        self.handler.as_deref()
    }

    /// The arguments of `sse_publish`, if that handles the location's requests.
    pub fn publish(&self) -> Option<&PublishHandler> {
        match self.handler()? {
            LocationHandler::Publish(publish) => Some(publish),
            _ => None,
        }
    }

    /// Merges the settings of the enclosing block, and finds the hub, after all blocks are read.
    pub fn complete(
        &mut self,
        outer: &Location,
        context: &mut ConfContext<'_>,
    ) -> Result<(), String> {
        self.settings.inherit(&outer.settings);
        match &mut self.handler {
            Some(handler) => {
                let settings = &self.settings;
                let main: &Main = context.main_conf();
                Rc::get_mut(handler).map_or(Ok(()), |handler| handler.complete(main, settings))?;
                if !context.answers_requests() {
                    let position = handler.position();
                    return Err(format!(
                        "another directive answers the requests of this location in {position}"
                    ));
                }
            }
            None => self.handler = inherited(outer, context),
        }
        if let Some(LocationHandler::Stream(_) | LocationHandler::Publish(_)) = self.handler() {
            self.cors = self.settings.cors();
        }
        Ok(())
    }
}

/// Returns the handler of an `if` or `limit_except` block that has none of its own: its location's.
fn inherited(outer: &Location, context: &mut ConfContext<'_>) -> Option<Rc<LocationHandler>> {
    let handler = outer.handler.as_ref()?;
    if !context.is_part_of_location() || !context.inherit_handler() {
        return None;
    }
    Some(handler.clone())
}
