//! A copy of a message that waits until its channel has caught up.

use crate::hub::ReportedId;
use crate::redis::message::{Durable, Message};

/// A copy of a message, in as little memory as possible.
pub struct BufferedMessage {
    /// The ids, if it is a durable event.
    numbers: Option<(ReportedId, ReportedId)>,
    event_type: Vec<u8>,
    data: Vec<u8>,
}

impl BufferedMessage {
    /// Copies a message.
    pub fn copy_of(message: &Message<'_>) -> BufferedMessage {
        match message {
            // Doubtful messages are never kept.
            Message::Doubtful(_) => {
                BufferedMessage { numbers: None, event_type: Vec::new(), data: Vec::new() }
            }
            Message::Plain(data) => {
                BufferedMessage { numbers: None, event_type: Vec::new(), data: data.to_vec() }
            }
            Message::Durable(event) => BufferedMessage {
                numbers: Some((event.id, event.prev)),
                event_type: event.event_type.to_vec(),
                data: event.data.to_vec(),
            },
        }
    }

    /// Returns the bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of::<BufferedMessage>() + self.event_type.len() + self.data.len()
    }

    /// Returns its id, if it is a durable event.
    pub fn id(&self) -> Option<ReportedId> {
        self.numbers.map(|(id, _)| id)
    }

    /// Returns the message.
    pub fn message(&self) -> Message<'_> {
        match self.numbers {
            None => Message::Plain((&self.data).into()),
            Some((id, prev)) => Message::Durable(Durable {
                id,
                prev,
                event_type: (&self.event_type).into(),
                data: (&self.data).into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_includes_the_type_and_the_data() {
        let size = |event_type: &'static str, data: &'static str| {
            let (id, prev) = Default::default();
            let (event_type, data) = (event_type.as_bytes().into(), data.as_bytes().into());
            let event = Message::Durable(Durable { id, prev, event_type, data });
            BufferedMessage::copy_of(&event).size() - size_of::<BufferedMessage>()
        };
        assert_eq!((size("", ""), size("abc", ""), size("abc", "de")), (0, 3, 5));
    }
}
