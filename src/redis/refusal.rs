//! Why Redis published or deleted nothing.

/// Why there are no ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Redis could not be reached: nothing was published.
    Unreachable(String),
    /// Redis did not answer in time: the events may have been published.
    Unanswered,
    /// Redis refused: nothing was published.
    Refused(String),
    /// Too many publishes, or too large ones, wait for an answer.
    Busy,
    /// Redis accepts no string, or no command, of this length: nothing was published.
    TooLarge {
        /// The most that it accepts, in bytes.
        most: u64,
    },
}

impl Refusal {
    /// Returns the refusal of a request that may have been sent before without an answer.
    pub(super) fn after(self, asked: bool) -> Refusal {
        match asked {
            true => Refusal::Unanswered,
            false => self,
        }
    }
}
