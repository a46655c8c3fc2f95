//! Tasks of a session, which run in the background and report their results to it.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;

use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// How a session processes the result of a finished task.
pub type Completion = Box<dyn for<'s> FnOnce(&'s mut Session) -> Completing<'s>>;

type Completing<'s> = Pin<Box<dyn Future<Output = Result<(), Ended>> + 's>>;

/// Where tasks send their results.
#[derive(Clone)]
pub struct Completions(mpsc::UnboundedSender<Completion>);

impl Completions {
    /// Returns both ends.
    pub fn channel() -> (Completions, mpsc::UnboundedReceiver<Completion>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Completions(sender), receiver)
    }

    /// Reports a result, which the session passes to `then`. An error describes a failure of
    /// the connection and ends the session. If the session has ended, nothing happens.
    pub fn report<T: 'static>(
        &self,
        result: Result<T, String>,
        then: impl AsyncFnOnce(&mut Session, T) -> Result<(), Ended> + 'static,
    ) {
        let completion: Completion = Box::new(move |session| {
            Box::pin(async move { then(session, result.map_err(Ended::Lost)?).await })
        });
        let _ = self.0.send(completion);
    }
}
