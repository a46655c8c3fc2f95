//! `redis_source stream`: streams whose ids have fallen back. Redis answers what comes after an id; of a
//! stream that was deleted and begun anew with lower ids, or restored from a backup, it answers nothing.
//! So streams that seem to have nothing new are asked for their newest id, some each second.

use std::collections::HashSet;

use ::redis::{pipe, RedisError, Value};
use tokio::time::timeout;

use crate::hub::{ReportedId, Source};
use crate::redis::ended::Ended;
use crate::redis::session::heartbeat::HEARTBEAT;
use crate::redis::session::Session;
use crate::redis::stream_page::About;
use crate::redis::subscription_table::SubscriptionState;

/// Streams that are asked each second, as the answer has the first and the last entry.
const ASKED: usize = 32;

/// The asking of streams for their newest ids.
#[derive(Default)]
pub struct Probing {
    /// Channels whose streams have grown, Redis says, but had nothing.
    pub empty: HashSet<Box<[u8]>>,
    /// Channels whose turn is still to come.
    turn: Vec<Box<[u8]>>,
    /// An answer is on its way.
    running: bool,
}

/// A stream that was asked: its channel, how far it was read, and the newest id that it has had.
pub struct ProbedStream {
    name: Box<[u8]>,
    last: ReportedId,
    newest: Option<ReportedId>,
}

impl Session {
    /// Asks some streams.
    pub(in crate::redis) fn ask_for_newest(&mut self) {
        if self.joined.hub.source() != Source::Streams || self.asking.running || self.is_frozen() {
            return;
        }
        let asked = self.next_asked();
        if asked.is_empty() {
            return;
        }
        self.asking.running = true;
        let (mut connection, finished) = (self.link.connection.clone(), self.finished.clone());
        let mut question = pipe();
        question.ignore_errors();
        for asked in &asked {
            question.cmd("XINFO").arg("STREAM").arg(self.joined.key(&asked.name));
        }
        tokio::task::spawn_local(async move {
            let answer = timeout(HEARTBEAT, question.query_async(&mut connection)).await;
            // A connection that is of no use is noticed by its heartbeat.
            let answers: Vec<Result<Value, RedisError>> = match answer {
                Ok(Ok(answers)) => answers,
                _ => Vec::new(),
            };
            let newest = |answer: Result<Value, _>| Some(About::read(&answer.ok()?)?.newest);
            let answered = asked.into_iter().zip(answers);
            let answered =
                answered.map(|(asked, answer)| ProbedStream { newest: newest(answer), ..asked });
            finished.report(Ok(answered.collect()), Session::take_newest);
        });
    }

    /// First those that have grown and had nothing, then others in turn.
    fn next_asked(&mut self) -> Vec<ProbedStream> {
        if self.asking.turn.is_empty() {
            self.asking.turn = self.channels.names().cloned().collect();
        }
        let empty: Vec<_> = self.asking.empty.iter().take(ASKED).cloned().collect();
        self.asking.empty.retain(|name| !empty.contains(name));
        let rest = self.asking.turn.len().saturating_sub(ASKED - empty.len());
        let others = self.asking.turn.split_off(rest);
        let in_step = |name: Box<[u8]>| {
            let channel = self.channels.get(&name)?;
            let has_read = channel.last > ReportedId::default();
            (has_read && matches!(channel.state, SubscriptionState::InStep))
                .then_some(ProbedStream { last: channel.last, name, newest: None })
        };
        empty.into_iter().chain(others).filter_map(in_step).collect()
    }

    /// Streams that are not as far as they were read have started over.
    pub(in crate::redis) fn take_newest(
        &mut self,
        answered: Vec<ProbedStream>,
    ) -> Result<(), Ended> {
        self.asking.running = false;
        if self.is_frozen() {
            return Ok(());
        }
        for ProbedStream { name, last, newest } in answered {
            let in_step = self.channels.get(&name).is_some_and(|channel| {
                matches!(channel.state, SubscriptionState::InStep) && channel.last == last
            });
            if in_step && newest.is_some_and(|newest| newest < last) {
                self.catch_up_again(&name, Vec::new())?;
            }
        }
        Ok(())
    }
}
