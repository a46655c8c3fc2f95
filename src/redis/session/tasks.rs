//! Tasks of a session, which run beside it and report their results to it.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;

use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// What a finished task does with its session.
pub type Completion = Box<dyn for<'s> FnOnce(&'s mut Session) -> Completing<'s>>;

type Completing<'s> = Pin<Box<dyn Future<Output = Result<(), Ended>> + 's>>;

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
        then: impl AsyncFnOnce(&mut Session, T) -> Result<(), Ended> + 'static,
    ) {
        let completion: Completion = Box::new(move |session| {
            Box::pin(async move { then(session, result.map_err(Ended::Lost)?).await })
        });
        let _ = self.0.send(completion);
    }
}
