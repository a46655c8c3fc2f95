//! Tasks of a session, which run beside it and report their results to it.

use tokio::sync::mpsc;

use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// What a finished task does with its session.
pub type Completion = Box<dyn FnOnce(&mut Session) -> Result<(), Ended>>;

/// To this, tasks report their results.
#[derive(Clone)]
pub struct Completions(mpsc::UnboundedSender<Completion>);

impl Completions {
    /// Returns both ends.
    pub fn channel() -> (Completions, mpsc::UnboundedReceiver<Completion>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Completions(sender), receiver)
    }

    /// Reports a result, which the session passes to `then`. An error, which says what is wrong with the
    /// connection, ends the session. If the session has ended, nothing happens.
    pub fn report<T: 'static>(
        &self,
        result: Result<T, String>,
        then: fn(&mut Session, T) -> Result<(), Ended>,
    ) {
        let completion = move |session: &mut Session| then(session, result.map_err(Ended::Lost)?);
        let _ = self.0.send(Box::new(completion));
    }
}
