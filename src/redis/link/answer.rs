//! Waits for answers as long as anything arrives: a large message may be ahead of them on a slow
//! connection.

use std::fmt;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, RedisError, Value};
use tokio::time::{sleep, Instant};

use super::{Link, RESPONSE};
use crate::redis::ended::{shown, Ended};

/// How often it is checked whether anything has arrived.
const LOOK: Duration = Duration::from_millis(250);
/// Longer than any answer takes.
const EVER: Duration = Duration::from_secs(86_400);

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Nothing arrived any more.
    Stalled,
    /// The request or the connection failed.
    Failed(RedisError),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Stalled => f.write_str("it does not answer"),
            Unanswered::Failed(error) => f.write_str(&shown(error)),
        }
    }
}

impl From<Unanswered> for Ended {
    fn from(why: Unanswered) -> Ended {
        Ended::Lost(why.to_string())
    }
}

impl Link {
    /// Sends a request and returns the answer. Gives up once nothing has arrived on the connection
    /// for two seconds.
    pub async fn answer<T>(
        &self,
        request: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let mut connection = self.connection.clone();
        connection.set_response_timeout(EVER);
        let answer = request(&mut connection);
        tokio::pin!(answer);
        let (mut came, mut last) = (self.meter.came(), Instant::now());
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(Unanswered::Failed),
                () = sleep(LOOK) => {}
            }
            if self.meter.came() != came {
                (came, last) = (self.meter.came(), Instant::now());
            } else if last.elapsed() > RESPONSE {
                return Err(Unanswered::Stalled);
            }
        }
    }

    /// Waits until everything that the server sent on this connection before now has arrived.
    pub async fn ping(&self) -> Result<(), Unanswered> {
        let ping = cmd("PING");
        self.answer(async |connection| ping.query_async::<Value>(connection).await).await.map(drop)
    }
}
