//! Locations: what answers their requests, the settings around it, and how both are inherited.

use super::answers::Answer;
use super::cors::Cors;
use super::hub::Main;
use super::settings::Settings;
use crate::nginx::setting::{Answering, Setting};
use std::rc::Rc;

pub use super::answers::{Admin, Chosen, Meaning, Publish, Shown, Status, Stream};

/// What the module knows of one place in the configuration: `http`, `server` or `location`.
#[derive(Default)]
pub struct Location {
    pub(super) answer: Option<(Rc<Answer>, Answering)>,
    /// Which pages of other origins may read the stream, or publish; none but its own if not set.
    pub cors: Option<Rc<Cors>>,
    pub(super) settings: Settings,
}

impl Location {
    /// What `sse_stream` says here.
    pub fn stream(&self) -> Option<&Stream> {
        match self.answer()? {
            Answer::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// What `sse_publish` says here.
    pub fn publish(&self) -> Option<&Publish> {
        match self.answer()? {
            Answer::Publish(publish) => Some(publish),
            _ => None,
        }
    }

    /// What `sse_status` says here.
    pub fn status(&self) -> Option<&Status> {
        match self.answer()? {
            Answer::Status(status) => Some(status),
            _ => None,
        }
    }

    /// What `sse_admin` says here.
    pub fn admin(&self) -> Option<&Admin> {
        match self.answer()? {
            Answer::Admin(admin) => Some(admin),
            _ => None,
        }
    }

    fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref().map(|(answer, _)| answer.as_ref())
    }

    /// The configuration has been read: takes over what stands further out, and finds the hubs.
    pub fn complete(&mut self, outer: &Location, setting: &mut Setting<'_>) -> Result<(), String> {
        self.settings.inherit(&outer.settings);
        match &mut self.answer {
            Some((answer, answering)) => {
                let settings = &self.settings;
                let main: &Main = setting.main();
                Rc::get_mut(answer).map_or(Ok(()), |answer| answer.complete(main, settings))?;
                if !setting.is_answered_by(*answering) {
                    let position = answer.position();
                    return Err(format!(
                        "another directive answers the requests of this location in {position}"
                    ));
                }
            }
            None => self.answer = inherited(outer, setting),
        }
        if self.stream().is_some() || self.publish().is_some() {
            self.cors = self.settings.cors();
        }
        Ok(())
    }
}

/// An `if` or `limit_except` block answers as its location does, unless it has an answer of its own.
fn inherited(outer: &Location, setting: &mut Setting<'_>) -> Option<(Rc<Answer>, Answering)> {
    let (answer, answering) = outer.answer.as_ref()?;
    if !setting.is_part_of_location() || !setting.inherit(*answering) {
        return None;
    }
    Some((answer.clone(), *answering))
}
