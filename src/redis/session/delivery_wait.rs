//! Waits briefly until the streams of a channel have received its newest events, before a loss is
//! recorded: the hub does not keep events from before a loss, and a stream that has not received
//! them would receive the gap event instead.

use std::time::Duration;

use tokio::time::{sleep, Instant};

use crate::hub::Membership;
use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// How long the delivery is waited for, and the pause between two looks.
const LONGEST: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(1);
/// After a wait that timed out, because a worker is stopped, there is no other one for this long.
const REST: Duration = Duration::from_secs(1);

impl Session {
    /// Waits until a channel's newest event was sent to its streams, except those of slow clients.
    pub(in crate::redis) async fn await_delivery(
        &mut self,
        member: Membership,
    ) -> Result<(), Ended> {
        let since = Instant::now();
        if self.undelivered.is_some_and(|vain| vain.elapsed() < REST) {
            return Ok(());
        }
        let hub = self.context.hub.clone();
        while !self.with_lock(|| hub.is_delivered(member)).await? {
            if since.elapsed() > LONGEST {
                self.undelivered = Some(Instant::now());
                break;
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}
