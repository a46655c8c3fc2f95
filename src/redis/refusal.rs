//! Why Redis published or deleted nothing.

/// Why there is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Redis could not be asked: nothing was published.
    Unreachable(String),
    /// Redis was asked and did not answer: it may have been published.
    Unanswered,
    /// Redis refused: nothing was published.
    Refused(String),
    /// Too many wait for an answer, or too large ones.
    Busy,
    /// Redis takes no string of this length, or no command: nothing was published.
    TooLarge {
        /// What it takes at most, in bytes.
        most: u64,
    },
}

impl Refusal {
    /// The same of a question that was asked before, and not answered.
    pub(super) fn after(self, asked: bool) -> Refusal {
        match asked {
            true => Refusal::Unanswered,
            false => self,
        }
    }
}
