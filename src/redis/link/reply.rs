//! Waits for replies as long as data arrives: on a slow connection, a large message may arrive
//! before them.

use std::fmt;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, RedisError, Value};
use tokio::time::{sleep, Instant};

use super::{Link, RESPONSE};
use crate::redis::ended::{shown, Ended};

/// How often a request checks whether data has arrived.
const LOOK: Duration = Duration::from_millis(250);
/// Longer than any reply takes.
const EVER: Duration = Duration::from_secs(86_400);

/// Why a request failed.
#[derive(Debug)]
pub enum Unanswered {
    /// The reply stalled.
    Stalled,
    /// The request or the connection failed.
    Failed(RedisError),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Stalled => f.write_str("Redis does not respond"),
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
    /// Sends a request and returns the reply. Gives up once nothing has arrived on the connection
    /// for two seconds.
    pub async fn reply<T>(
        &self,
        request: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let mut connection = self.connection.clone();
        connection.set_response_timeout(EVER);
        let reply = request(&mut connection);
        tokio::pin!(reply);
        let (mut received, mut last) = (self.meter.received(), Instant::now());
        loop {
            tokio::select! {
                biased;
                reply = &mut reply => return reply.map_err(Unanswered::Failed),
                () = sleep(LOOK) => {}
            }
            if self.meter.received() != received {
                (received, last) = (self.meter.received(), Instant::now());
            } else if last.elapsed() > RESPONSE {
                return Err(Unanswered::Stalled);
            }
        }
    }

    /// Waits until everything that the server sent on this connection before now has arrived.
    pub async fn ping(&self) -> Result<(), Unanswered> {
        let ping = cmd("PING");
        self.reply(async |connection| ping.query_async::<Value>(connection).await).await.map(drop)
    }
}
