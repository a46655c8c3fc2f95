//! Messages that arrive after a takeover although the former holder has appended them: it has
//! received some after the marker (`hub::handover`), and the successor receives all of these, too.
//!
//! They end with the reply to a PING that was sent after the takeover: everything that the former
//! holder has received was published before it. In Redis Cluster the former holder may have used
//! another node, whose messages arrive here independently of the PING, so they are expected for ten
//! seconds there.

use std::time::Duration;

use tokio::time::Instant;

use crate::redis::address::Topology;
use crate::redis::ended::Ended;
use crate::redis::session::Session;

/// How long repeated messages are expected if no PING shows their end.
const LONGEST: Duration = Duration::from_secs(10);

/// Which messages may be repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// The number of plain messages that are still to be skipped.
    plain: u64,
    /// Until when durable events may be repetitions; `None` if they are not.
    until: Option<Instant>,
}

impl Repeats {
    /// Returns the value after a takeover at this time, from a holder that has appended this
    /// many plain messages after the marker.
    pub fn after_takeover(plain: u64, now: Instant) -> Repeats {
        Repeats { plain, until: Some(now + LONGEST) }
    }

    /// Whether plain messages are skipped.
    pub fn skips(&self) -> bool {
        self.plain > 0
    }

    /// Whether durable events may be repetitions.
    pub fn are_expected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Records that a plain message was skipped.
    pub fn skip_one(&mut self) {
        self.plain = self.plain.saturating_sub(1);
    }

    /// Resets the value if repetitions have been expected for too long.
    pub fn expire(&mut self, now: Instant) {
        if !self.are_expected(now) {
            *self = Repeats::default();
        }
    }
}

impl Session {
    /// Sends the PING whose reply marks the end of the repetitions.
    pub(in crate::redis) fn find_end_of_repeats(&self) {
        if matches!(self.context.address.topology, Topology::Cluster(_)) {
            return;
        }
        let (link, finished) = (self.link.clone(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let reply = link.ping().await.map_err(|why| why.to_string());
            finished.report(reply, Session::end_repeats);
        });
    }

    /// Processes the messages that arrived before the reply to the PING: none after it is a
    /// repetition.
    async fn end_repeats(&mut self, (): ()) -> Result<(), Ended> {
        self.process_inbox().await?;
        // A message that waits after the marker of the next successor may still be one.
        if !self.holds_marker() {
            self.repeats = Repeats::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_expected_until_they_end_or_for_ten_seconds() {
        let now = Instant::now();
        let (before, after) = (now + LONGEST - Duration::from_secs(1), now + LONGEST);
        let mut none = Repeats::default();
        assert!(!none.skips() && !none.are_expected(now));
        none.skip_one();
        assert_eq!(none, Repeats::default());

        let mut repeats = Repeats::after_takeover(2, now);
        assert!(repeats.skips() && repeats.are_expected(now));
        repeats.skip_one();
        assert!(repeats.skips());
        repeats.skip_one();
        assert!(!repeats.skips() && repeats.are_expected(before));
        repeats.expire(before);
        assert!(repeats.are_expected(before) && !repeats.are_expected(after));

        let mut repeats = Repeats::after_takeover(2, now);
        repeats.expire(after);
        assert_eq!(repeats, Repeats::default());
    }
}
