//! What the connection brings unasked, in the order in which it came: filled in the task that reads
//! the socket, emptied by the bridge.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ::redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::link::Pushes;

/// Bytes of messages that may wait while channels are caught up. A connection that brings more is
/// given up, for a new one finds in Redis what this one could not keep.
const MOST: usize = 256 << 20;

/// Something that a connection brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Push {
    /// A message of a channel.
    Message {
        /// What the channel is called in Redis.
        subject: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// A message of a channel that a pattern matches.
    Matched {
        /// The pattern.
        pattern: Vec<u8>,
        /// What the channel is called in Redis.
        subject: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// From here on messages of a channel come by its own name.
    Subscribed {
        /// What the channel is called in Redis.
        subject: Vec<u8>,
    },
    /// The connection has ended.
    End,
}

/// What has come and was not taken yet.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    pushes: VecDeque<Push>,
    bytes: usize,
}

impl Inbox {
    /// An empty one, and what fills it.
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
        match waiting.bytes > MOST {
            true => {
                waiting.pushes.clear();
                waiting.pushes.push_back(Push::End);
            }
            false => waiting.pushes.push_back(push),
        }
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    /// Takes out all that has come.
    pub fn take(&self) -> VecDeque<Push> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes = 0;
        std::mem::take(&mut waiting.pushes)
    }

    /// Puts back what was taken out and not used, before all that has come since.
    pub fn put_back(&self, pushes: VecDeque<Push>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += pushes.iter().map(Push::size).sum::<usize>();
        let later = std::mem::replace(&mut waiting.pushes, pushes);
        waiting.pushes.extend(later);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until something has come.
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
        // With what the queue itself takes for one.
        128 + match self {
            Push::Message { subject, payload } | Push::Matched { subject, payload, .. } => {
                subject.len() + payload.len()
            }
            Push::Subscribed { subject } => subject.len(),
            Push::End => 0,
        }
    }
}

/// A push as we need it. `None`: a confirmation, or something that nobody asked for.
fn read(push: PushInfo) -> Option<Push> {
    let mut data = push.data.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    });
    match push.kind {
        PushKind::Message => Some(Push::Message { subject: data.next()??, payload: data.next()?? }),
        PushKind::PMessage => {
            let (pattern, subject) = (data.next()??, data.next()??);
            Some(Push::Matched { pattern, subject, payload: data.next()?? })
        }
        PushKind::Subscribe => Some(Push::Subscribed { subject: data.next()?? }),
        PushKind::Disconnection => Some(Push::End),
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
        assert_eq!(push(PushKind::Message, vec![bulk("a")]), None);
        assert_eq!(push(PushKind::Message, vec![Value::Nil, bulk("b")]), None);
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
        assert_eq!(inbox.take(), [Push::End]);
        assert!(inbox.take().is_empty());
    }
}
