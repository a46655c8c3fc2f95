//! Why a publish or a deletion failed.

/// Why a publish or a deletion failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Redis could not be reached: nothing was published.
    Unreachable(String),
    /// Redis did not reply in time: the events may have been published.
    Unanswered,
    /// Redis rejected the command: nothing was published.
    Refused(String),
    /// Too many publishes, or too many bytes of them, are waiting.
    Busy,
    /// The command, or a string in it, is longer than Redis accepts: nothing was published.
    TooLarge {
        /// The length that it accepts, in bytes.
        most: u64,
    },
}

impl Refusal {
    /// Returns the refusal of a request. If it was sent before without a reply, it may have been
    /// carried out.
    pub(super) fn after(self, was_sent: bool) -> Refusal {
        if was_sent {
            Refusal::Unanswered
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_without_a_reply_may_have_been_carried_out() {
        let all = [
            Refusal::Unreachable("why".to_owned()),
            Refusal::Refused("why".to_owned()),
            Refusal::TooLarge { most: 7 },
        ];
        for refusal in all {
            assert_eq!(refusal.clone().after(false), refusal);
            assert_eq!(refusal.after(true), Refusal::Unanswered);
        }
    }
}
