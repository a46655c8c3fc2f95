//! Why streams end, in one table: the word for logs, the counter, and how the response is closed.

use crate::hub::Counter;
use std::fmt;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed the connection.
    Client,
    /// The stream reached `sse_max_age`.
    Age,
    /// The process is shutting down.
    Drain,
    /// The client accepted no bytes for `send_timeout`.
    Timeout,
    /// History overtook the client, and the location closes such streams (`sse_slow_client close`).
    Slow,
    /// An administrator ended the streams of the channel.
    Admin,
    /// Sending failed, or a filter ended the response.
    Error,
}

/// How a response is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With the end-of-response marker, however long the client takes to accept it.
    Whole,
    /// With the end-of-response marker, but cut off if the client has not accepted everything by
    /// now.
    Prompt,
    /// Closed at once.
    Cut,
    /// Closed because the client accepted no bytes for too long.
    TimedOut,
}

impl End {
    /// One row for each end. To add one, add its row here and document it with `$sse_end`.
    const fn row(self) -> (&'static str, Counter, Finish) {
        match self {
            End::Client => ("client", Counter::EndedClient, Finish::Cut),
            End::Age => ("age", Counter::EndedAge, Finish::Whole),
            End::Drain => ("drain", Counter::EndedDrain, Finish::Prompt),
            End::Timeout => ("timeout", Counter::EndedTimeout, Finish::TimedOut),
            End::Slow => ("slow", Counter::EndedSlow, Finish::Cut),
            End::Admin => ("admin", Counter::EndedAdmin, Finish::Whole),
            End::Error => ("error", Counter::EndedError, Finish::Cut),
        }
    }

    /// The value of `$sse_end`.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The counter of streams that ended for this reason.
    pub const fn counter(self) -> Counter {
        self.row().1
    }

    /// How the response is closed.
    pub const fn finish(self) -> Finish {
        self.row().2
    }

    /// Whether the server chose to end the stream, so that the client is to receive a complete
    /// response.
    pub const fn is_planned(self) -> bool {
        matches!(self.finish(), Finish::Whole | Finish::Prompt)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
