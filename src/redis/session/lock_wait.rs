//! Waits for the hub's lock without blocking the thread, which also publishes and serves other
//! hubs.

use std::time::Duration;

use tokio::time::{sleep, Instant};

use crate::hub::{LeaseError, Locked};
use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// How long a session waits for the hub's lock before it ends, and the pause between two attempts.
const LONGEST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

impl Session {
    /// Runs an operation that needs the hub's lock, and retries it for up to a second while
    /// another process holds the lock. Fails at once if that process is stopped, or was waited
    /// for before.
    pub(in crate::redis) async fn with_lock<T, E: Into<LeaseError>>(
        &self,
        operation: impl Fn() -> Result<T, E>,
    ) -> Result<T, Ended> {
        let longest = if self.context.hub.is_stuck() { Duration::ZERO } else { LONGEST };
        retry(longest, || operation().map_err(E::into)).await
    }
}

/// Runs an operation, and retries it for this long while the lock is held.
async fn retry<T>(
    longest: Duration,
    operation: impl Fn() -> Result<T, LeaseError>,
) -> Result<T, Ended> {
    let since = Instant::now();
    loop {
        match operation() {
            Ok(done) => return Ok(done),
            Err(LeaseError::Fenced) => return Err(Ended::Fenced),
            Err(LeaseError::Busy(Locked::Held)) if since.elapsed() < longest => sleep(PAUSE).await,
            Err(LeaseError::Busy(locked)) => return Err(Ended::Locked(locked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::Future;
    use std::rc::Rc;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), future)
    }

    /// Returns the result if the lock is held at the first `held` attempts, and the number of
    /// attempts.
    fn retried(longest: Duration, held: u32) -> (Result<(), Ended>, u32) {
        let attempts = Cell::new(0);
        let operation = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() > held {
                Ok(())
            } else {
                Err(LeaseError::Busy(Locked::Held))
            }
        };
        let result = run(retry(longest, operation));
        (result, attempts.get())
    }

    #[test]
    fn an_operation_is_repeated_until_the_lock_is_free() {
        assert_eq!(retried(LONGEST, 3), (Ok(()), 4));
        assert_eq!(retried(Duration::ZERO, 1), (Err(Ended::Locked(Locked::Held)), 1));
        let (result, attempts) = retried(3 * PAUSE, u32::MAX);
        assert_eq!(result, Err(Ended::Locked(Locked::Held)));
        assert!((2..=4).contains(&attempts), "{attempts}");
        let fenced = run(retry(LONGEST, || Err::<(), _>(LeaseError::Fenced)));
        assert_eq!(fenced, Err(Ended::Fenced));
    }

    #[test]
    fn other_tasks_of_the_thread_run_meanwhile() {
        let published = Rc::new(Cell::new(false));
        let publisher = published.clone();
        let operation = || {
            if published.get() {
                Ok(())
            } else {
                Err(LeaseError::Busy(Locked::Held))
            }
        };
        let result = run(async {
            tokio::task::spawn_local(async move { publisher.set(true) });
            retry(LONGEST, operation).await
        });
        assert_eq!(result, Ok(()));
    }
}
