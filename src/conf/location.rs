//! The configuration of a location: its handler, its settings, and how it inherits them.

use super::access::{AccessRules, AccessSettings, RequestUser};
use super::cors::Cors;
use super::handlers::LocationHandler;
use super::hub::Main;
use super::settings::{ProxiedStreams, Settings};
use crate::nginx::conf_context::ConfContext;
use crate::nginx::log::Level;
use crate::nginx::request::Request;
use std::rc::Rc;

pub use super::handlers::{
    AdminHandler, Finishing, NameKind, PublishChannel, PublishHandler, StatusHandler, StatusScope,
    StreamHandler,
};

/// The module's configuration of one block: `http`, `server` or `location`.
#[derive(Default)]
pub struct Location {
    pub(super) handler: Option<Rc<LocationHandler>>,
    /// The other origins whose pages may read the stream or publish; `None` if there are none.
    pub cors: Option<Rc<Cors>>,
    /// How event streams of an upstream are passed on.
    pub proxied: ProxiedStreams,
    /// How tokens are verified; `None` if they are not, or if the module does not answer.
    pub access: Option<Rc<AccessRules>>,
    /// The user that requests belong to.
    pub user: Option<RequestUser>,
    pub(super) settings: Settings,
    pub(super) access_settings: AccessSettings,
}

impl Location {
    /// Returns the configuration of a request's location.
    pub fn for_request(request: &Request) -> &Location {
        request.location_conf()
    }

    /// Returns the location's handler, if it is one of the module's.
    pub fn handler(&self) -> Option<&LocationHandler> {
        self.handler.as_deref()
    }

    /// Returns the arguments of `sse_stream`, if that is the location's handler.
    pub fn stream(&self) -> Option<&StreamHandler> {
        match self.handler()? {
            LocationHandler::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Returns how the location publishes, if its handler is `sse_publish` or `sse_admin`.
    pub fn publish(&self) -> Option<&PublishHandler> {
        match self.handler()? {
            LocationHandler::Publish(publish) => Some(publish),
            LocationHandler::Admin(admin) => Some(&admin.publish),
            _ => None,
        }
    }

    /// Merges the settings of the enclosing block and resolves the hub. nginx calls this after it
    /// has read all blocks.
    pub fn complete(
        &mut self,
        outer: &Location,
        context: &mut ConfContext<'_>,
    ) -> Result<(), String> {
        if self.settings.has_conflict() {
            let position = self.handler().map(|handler| format!(" in {}", handler.position()));
            let position = position.unwrap_or_default();
            let line = format_args!("\"sse_lean\" has no effect with \"sse_direct off\"{position}");
            context.log(Level::Warn, line);
        }
        self.settings.inherit(&outer.settings);
        self.proxied = self.settings.proxied();
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
        let handler = self.handler.clone();
        self.access =
            self.access_settings.complete(&outer.access_settings, handler.as_deref(), context)?;
        self.user = self.access_settings.user(self.access.as_deref(), context.main_conf());
        if let Some(LocationHandler::Stream(_) | LocationHandler::Publish(_)) = self.handler() {
            self.cors = self.settings.cors();
        }
        Ok(())
    }
}

/// Returns the handler that an `if` or `limit_except` block without one inherits from its location.
fn inherited(outer: &Location, context: &mut ConfContext<'_>) -> Option<Rc<LocationHandler>> {
    let handler = outer.handler.as_ref()?;
    if !context.is_part_of_location() || !context.inherit_handler() {
        return None;
    }
    Some(handler.clone())
}
