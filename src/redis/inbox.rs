//! The queue of a connection's pushed messages: filled by the task that reads the socket, and
//! emptied by the session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ::redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::link::{skipped_length, Pushes};

/// Maximum bytes of messages that wait while channels catch up. A connection that receives more is
/// closed; the next one reads the events from Redis.
const MOST: usize = 256 << 20;

/// A push that a connection received.
#[derive(Debug, PartialEq, Eq)]
pub enum Push {
    /// A message of a channel.
    Message {
        /// The name of the channel in Redis.
        subject: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// A message that was received through a pattern.
    Matched {
        /// The pattern.
        pattern: Vec<u8>,
        /// The name of the channel in Redis.
        subject: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// A message that was too large and was skipped.
    TooLarge {
        /// The pattern, if it was received through one.
        pattern: Option<Vec<u8>>,
        /// The name of the channel in Redis.
        subject: Vec<u8>,
        /// Bytes of the message.
        bytes: u64,
    },
    /// The confirmation of a subscription: from here on, messages of the channel arrive under its
    /// own name.
    Subscribed {
        /// The name of the channel in Redis.
        subject: Vec<u8>,
    },
    /// The connection has ended.
    End,
}

/// The messages that were received but not processed.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<PushQueue>,
    filled: Notify,
}

#[derive(Default)]
struct PushQueue {
    pushes: VecDeque<Push>,
    bytes: usize,
}

impl Inbox {
    /// Returns an empty inbox, and the function that fills it.
    pub fn new() -> (Arc<Inbox>, Pushes) {
        let inbox = Arc::new(Inbox::default());
        let filled = inbox.clone();
        let pushes: Pushes = Arc::new(move |push| {
            if let Some(push) = read(push) {
                filled.put(push);
            }
        });
        (inbox, pushes)
    }

    fn put(&self, push: Push) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += push.size();
        let first = waiting.pushes.is_empty();
        if waiting.bytes > MOST {
            waiting.pushes.clear();
            waiting.pushes.push_back(Push::End);
        } else {
            waiting.pushes.push_back(push);
        }
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    /// Removes and returns the first messages, at most this many, in order.
    pub fn take(&self, most: usize) -> VecDeque<Push> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.pushes.len() <= most {
            waiting.bytes = 0;
            return std::mem::take(&mut waiting.pushes);
        }
        let first: VecDeque<Push> = waiting.pushes.drain(..most).collect();
        waiting.bytes -= first.iter().map(Push::size).sum::<usize>();
        first
    }

    /// Removes and returns everything, in order.
    pub fn take_all(&self) -> VecDeque<Push> {
        self.take(usize::MAX)
    }

    /// Puts messages back that were not processed, before everything that has arrived since.
    pub fn put_back(&self, pushes: VecDeque<Push>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += pushes.iter().map(Push::size).sum::<usize>();
        let later = std::mem::replace(&mut waiting.pushes, pushes);
        waiting.pushes.extend(later);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until something has arrived.
    pub async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            let empty = {
                let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.pushes.is_empty()
            };
            if !empty {
                return;
            }
            filled.await;
        }
    }
}

impl Push {
    fn size(&self) -> usize {
        // Including the queue's own memory for it.
        128 + match self {
            Push::Message { subject, payload } | Push::Matched { subject, payload, .. } => {
                subject.len() + payload.len()
            }
            Push::TooLarge { subject, .. } | Push::Subscribed { subject } => subject.len(),
            Push::End => 0,
        }
    }
}

/// Converts a push. `None` for everything that is not used.
fn read(push: PushInfo) -> Option<Push> {
    let too_large = push.data.last().and_then(skipped_length);
    let mut data = push.data.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    });
    match (push.kind, too_large) {
        (PushKind::Message, None) => {
            Some(Push::Message { subject: data.next()??, payload: data.next()?? })
        }
        (PushKind::Message, Some(bytes)) => {
            Some(Push::TooLarge { pattern: None, subject: data.next()??, bytes })
        }
        (PushKind::PMessage, None) => {
            let (pattern, subject) = (data.next()??, data.next()??);
            Some(Push::Matched { pattern, subject, payload: data.next()?? })
        }
        (PushKind::PMessage, Some(bytes)) => {
            Some(Push::TooLarge { pattern: data.next()?, subject: data.next()??, bytes })
        }
        (PushKind::Subscribe, _) => Some(Push::Subscribed { subject: data.next()?? }),
        (PushKind::Disconnection, _) => Some(Push::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn messages_are_read_and_junk_is_passed_over() {
        let push = |kind, data| read(PushInfo { kind, data });
        let message = Push::Message { subject: b"a".into(), payload: b"b".into() };
        assert_eq!(push(PushKind::Message, vec![bulk("a"), bulk("b")]), Some(message));
        let simple = |text: &str| Value::SimpleString(text.to_owned());
        let message = Push::Message { subject: b"a".into(), payload: b"b".into() };
        assert_eq!(push(PushKind::Message, vec![simple("a"), simple("b")]), Some(message));
        assert_eq!(push(PushKind::Message, vec![bulk("a")]), None);
        assert_eq!(push(PushKind::Message, vec![Value::Nil, bulk("b")]), None);
        let too_large = Push::TooLarge { pattern: None, subject: b"a".into(), bytes: 700 };
        let number = || Value::BigNumber(b"700".to_vec());
        assert_eq!(push(PushKind::Message, vec![bulk("a"), number()]), Some(too_large));
        let pattern = Some(b"a*".to_vec());
        let too_large = Push::TooLarge { pattern, subject: b"a".into(), bytes: 700 };
        let data = vec![bulk("a*"), bulk("a"), number()];
        assert_eq!(push(PushKind::PMessage, data), Some(too_large));
        let subscribed = Push::Subscribed { subject: b"a".into() };
        assert_eq!(push(PushKind::Subscribe, vec![bulk("a"), Value::Int(1)]), Some(subscribed));
        assert_eq!(push(PushKind::Unsubscribe, vec![bulk("a"), Value::Int(1)]), None);
        assert_eq!(push(PushKind::Disconnection, vec![]), Some(Push::End));
    }

    #[test]
    fn too_much_ends_the_connection_instead_of_filling_the_memory() {
        let inbox = Inbox::default();
        let payload = vec![b'x'; MOST / 4];
        for _ in 0..4 {
            inbox.put(Push::Message { subject: b"a".to_vec(), payload: payload.clone() });
        }
        assert_eq!(inbox.take_all(), [Push::End]);
        assert!(inbox.take_all().is_empty());
    }

    #[test]
    fn messages_are_taken_in_parts_and_can_be_put_back() {
        let inbox = Inbox::default();
        let message = |text: &str| Push::Message { subject: b"a".to_vec(), payload: text.into() };
        ["1", "2", "3"].into_iter().for_each(|text| inbox.put(message(text)));
        let first = inbox.take(2);
        assert_eq!(first, [message("1"), message("2")]);
        assert_eq!(inbox.waiting.lock().unwrap().bytes, message("3").size());
        inbox.put(message("4"));
        inbox.put_back(first);
        assert_eq!(inbox.take(3), ["1", "2", "3"].map(message));
        assert_eq!(inbox.take(3), [message("4")]);
        assert_eq!(inbox.waiting.lock().unwrap().bytes, 0);
    }

    #[test]
    fn a_push_takes_the_memory_of_its_strings_and_of_its_place() {
        let (subject, payload) = (vec![b's'; 3], vec![b'x'; 5]);
        let message = Push::Message { subject: subject.clone(), payload: payload.clone() };
        let pattern = b"a*".to_vec();
        let matched = Push::Matched { pattern, subject: subject.clone(), payload };
        let too_large = Push::TooLarge { pattern: None, subject: subject.clone(), bytes: 1 << 30 };
        let all = [message, matched, too_large, Push::Subscribed { subject }, Push::End];
        assert_eq!(all.map(|push| push.size()), [136, 136, 131, 131, 128]);
    }

    #[test]
    fn the_inbox_is_filled_up_to_its_limit_exactly() {
        let message = |bytes: usize| {
            let payload = vec![0; bytes - 128];
            Push::Message { subject: Vec::new(), payload }
        };
        let inbox = Inbox::default();
        inbox.put(message(MOST - 200));
        inbox.put(message(200));
        let taken = inbox.take(1);
        assert_eq!((taken.len(), inbox.waiting.lock().unwrap().bytes), (1, 200));
        // What is put back counts again.
        inbox.put_back(taken);
        assert_eq!(inbox.waiting.lock().unwrap().bytes, MOST);
        inbox.put(message(128));
        assert_eq!(inbox.take_all(), [Push::End]);
        // Taking as many as there are takes all.
        inbox.put(message(128));
        inbox.put(message(128));
        assert_eq!((inbox.take(2).len(), inbox.waiting.lock().unwrap().bytes), (2, 0));
    }

    #[test]
    fn a_message_through_a_pattern_has_its_pattern_and_its_channel() {
        let data = vec![bulk("a*"), bulk("a1"), bulk("x")];
        let (pattern, subject) = (b"a*".to_vec(), b"a1".to_vec());
        let matched = Push::Matched { pattern, subject, payload: b"x".to_vec() };
        assert_eq!(read(PushInfo { kind: PushKind::PMessage, data }), Some(matched));
        let data = vec![bulk("a*"), bulk("a1")];
        assert_eq!(read(PushInfo { kind: PushKind::PMessage, data }), None);
    }
}
