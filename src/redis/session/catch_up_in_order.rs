//! Reads a channel again while all messages wait, so that its events are appended in the order of
//! ids among those of other channels.
//!
//! The id of a client's last event shows what the client has received of all its channels. If an
//! event of one channel were appended after an event of another with a higher id, a client that has
//! received the latter only would never receive the former on another nginx. So all messages wait
//! while a channel is read that has been in sync, almost always for one round trip. If Redis takes
//! longer, only that channel waits. Only the entries before the waiting messages are appended. The
//! messages follow one by one, as usual.

use std::collections::vec_deque::Iter;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::{Loss, ReportedId};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::catch_up::UnreadMessage;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::message::{self, Message};
use crate::redis::session::catch_up_queue::CaughtUp;
use crate::redis::session::Session;
use crate::redis::token::Token;

/// How long channels are read in the background only after one took too long.
const AFTER_SLOW: Duration = Duration::from_secs(10);

/// A channel whose events were or may have been missed before these messages.
pub type MissedChannel = (Box<[u8]>, Vec<BufferedMessage>);

impl Session {
    /// Reads the streams of channels again. `later` are the messages that follow those that were
    /// processed.
    pub(in crate::redis) async fn catch_up_in_order(
        &mut self,
        missed: Vec<MissedChannel>,
        later: Iter<'_, Push>,
    ) -> Result<(), Ended> {
        if missed.is_empty() {
            return Ok(());
        }
        let mut asked = Vec::with_capacity(missed.len());
        for (name, held) in missed {
            asked.extend(self.interrupt(&name, held).await?);
        }
        if self.slow_since.is_some_and(|since| since.elapsed() < AFTER_SLOW) {
            self.catch_up(asked);
            return Ok(());
        }
        let (mut caught, left) = self.catch_up_together(asked).await?;
        if !left.is_empty() {
            self.slow_since = Some(Instant::now());
        }
        self.catch_up(left);
        self.leave_to_messages(&mut caught, later);
        for one in &caught {
            self.record_loss(&one.name, &one.fetched).await?;
        }
        let mut events = self.fetched_events(&caught);
        // Stable: events of one channel are already in order.
        events.sort_by_key(|(id, _)| *id);
        self.append_steps(events.into_iter().map(|(_, step)| step)).await?;
        for CaughtUp { name, known, fetched, .. } in &caught {
            self.settled(name, *known, fetched).await?;
        }
        Ok(())
    }

    /// Removes from what was read the events whose messages are still to be processed: `later`,
    /// and then those in the inbox.
    fn leave_to_messages(&self, caught: &mut [CaughtUp], later: Iter<'_, Push>) {
        let latest = self.latest();
        let mut channels: HashMap<Vec<u8>, &mut CaughtUp> =
            caught.iter_mut().map(|one| (self.context.subject(&one.name), one)).collect();
        self.inbox.peek(|arrived| {
            for push in later.chain(arrived) {
                let Push::Message { subject, payload } = push else { continue };
                let Some(one) = channels.get_mut(subject) else { continue };
                let Some(next) = unread(payload, self.token, one) else { continue };
                one.fetched.leave(next, one.known.had(), latest);
                one.between.retain(|gone| ReportedId::from(*gone) < next.id);
                let last = one.fetched.entries.last();
                if last.is_some_and(|last| last.id < next.prev) {
                    one.between.extend(next.prev.checked(latest));
                }
                channels.remove(subject);
            }
        });
    }
}

/// Returns the ids of a message that is still to be processed, if its event follows what was known
/// of its channel. A message without the token counts if the stream has its event.
fn unread(payload: &[u8], token: Option<Token>, one: &CaughtUp) -> Option<UnreadMessage> {
    let had = match one.fetched.missing {
        Loss::Everything => ReportedId::default(),
        Loss::Nothing | Loss::UpTo(_) => one.known.had(),
    };
    let next = match message::parse(payload, token) {
        Message::Plain(_) => return None,
        Message::Durable(event) => UnreadMessage { id: event.id, prev: event.prev.max(had) },
        Message::Doubtful(id) => {
            let at = one.fetched.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
            let prev = at.checked_sub(1).map_or(had, |before| one.fetched.entries[before].id);
            UnreadMessage { id, prev }
        }
    };
    (next.id > had).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::SyncState;
    use crate::redis::catch_up::Fetched;
    use crate::redis::entry::Entry;

    fn id(text: &str) -> ReportedId {
        ReportedId::parse(text.as_bytes()).expect("an id")
    }

    #[test]
    fn a_message_is_processed_if_its_event_follows_what_was_known() {
        let entry = |text| Entry {
            id: id(text),
            prev: None,
            number: None,
            event_type: Vec::new(),
            data: Vec::new(),
            skipped: 0,
        };
        let token = Token::parse(b"0123456789abcdef0123456789abcdef");
        let of = |known, missing| {
            let entries = vec![entry("3-0"), entry("5-0")];
            let fetched = Fetched { entries, missing, ..Fetched::default() };
            CaughtUp { name: b"a"[..].into(), known, fetched, between: Vec::new(), rest: None }
        };
        let interrupted = of(SyncState::Interrupted(id("2-0")), Loss::Nothing);
        let over = of(SyncState::Interrupted(id("9-0")), Loss::Everything);
        let good = |ids| format!("\x01sse 0123456789abcdef0123456789abcdef {ids} 0\n");
        let bad = |ids| format!("\x01sse - {ids} 0\n");
        for (payload, one, next) in [
            (good("5-0 3-0"), &interrupted, Some(("5-0", "3-0"))),
            (good("7-0 6-0"), &interrupted, Some(("7-0", "6-0"))),
            // The one before it was read before.
            (good("3-0 1-0"), &interrupted, Some(("3-0", "2-0"))),
            (good("2-0 1-0"), &interrupted, None),
            (good("2-0 1-0"), &over, Some(("2-0", "1-0"))),
            // Without the token, it is trusted if the stream has it.
            (bad("5-0 4-0"), &interrupted, Some(("5-0", "3-0"))),
            (bad("3-0 0-0"), &interrupted, Some(("3-0", "2-0"))),
            (bad("4-0 3-0"), &interrupted, None),
            ("plain".into(), &interrupted, None),
        ] {
            let next = next.map(|(of, prev)| UnreadMessage { id: id(of), prev: id(prev) });
            assert_eq!(unread(payload.as_bytes(), token, one), next, "{payload:?}");
        }
    }
}
