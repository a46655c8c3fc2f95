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
    /// The client's permission has ended.
    Expired,
    /// The process is shutting down.
    Drain,
    /// The client accepted no bytes for `send_timeout`.
    Timeout,
    /// History overtook the client, and the location closes such streams (`sse_slow_client close`).
    Slow,
    /// An administrator ended the streams of the channel.
    Admin,
    /// The run of the channel, or of all channels, was finished.
    Finished,
    /// Sending failed, or a filter ended the response.
    Error,
}

/// When a response is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// When the client has accepted everything, however long it takes.
    Whole,
    /// Now. The client receives a planned end only if it has accepted everything by now.
    Prompt,
    /// Now, whatever the client has accepted.
    Cut,
    /// Now, because the client accepted no bytes for too long.
    TimedOut,
}

/// The last bytes of a response whose end is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndForm {
    /// The end-of-response marker: the last chunk over HTTP/1.1, END_STREAM over HTTP/2.
    Complete,
    /// No marker, so that every client takes the response for interrupted.
    Interrupted,
}

/// How the response of a stream whose client is to reconnect ends (`sse_reconnect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Interrupted: every client reconnects, or reports that the response is incomplete.
    Cut,
    /// Complete: an EventSource reconnects, but other clients may take this for the end of the
    /// events.
    Clean,
}

/// How a response is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When it is closed.
    pub finish: Finish,
    /// Its last bytes, if the end is planned.
    pub form: EndForm,
}

impl End {
    /// One row for each end. To add one, add its row here and document it with `$sse_end`.
    const fn row(self) -> (&'static str, Counter, Finish) {
        match self {
            End::Client => ("client", Counter::EndedClient, Finish::Cut),
            End::Age => ("age", Counter::EndedAge, Finish::Whole),
            End::Expired => ("expired", Counter::EndedExpired, Finish::Whole),
            End::Drain => ("drain", Counter::EndedDrain, Finish::Prompt),
            End::Timeout => ("timeout", Counter::EndedTimeout, Finish::TimedOut),
            End::Slow => ("slow", Counter::EndedSlow, Finish::Cut),
            End::Admin => ("admin", Counter::EndedAdmin, Finish::Whole),
            End::Finished => ("finished", Counter::EndedFinished, Finish::Whole),
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

    /// How the response is closed, in a location with this setting.
    pub const fn closing(self, reconnect: Reconnect) -> Closing {
        let form = match self {
            // The client is to come back.
            End::Age | End::Expired | End::Drain | End::Admin => reconnect.form(),
            // The client has everything.
            End::Finished => EndForm::Complete,
            // These are not planned.
            End::Client | End::Timeout | End::Slow | End::Error => EndForm::Complete,
        };
        Closing { finish: self.row().2, form }
    }
}

impl Reconnect {
    /// Returns the last bytes of the response.
    pub const fn form(self) -> EndForm {
        match self {
            Reconnect::Cut => EndForm::Interrupted,
            Reconnect::Clean => EndForm::Complete,
        }
    }
}

impl Closing {
    /// Whether the server chose to end the stream, so that the client is to receive everything.
    pub const fn is_planned(self) -> bool {
        matches!(self.finish, Finish::Whole | Finish::Prompt)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_after_which_clients_return_are_interrupted() {
        for end in [End::Age, End::Expired, End::Drain, End::Admin] {
            assert_eq!(end.closing(Reconnect::Cut).form, EndForm::Interrupted, "{end}");
            assert_eq!(end.closing(Reconnect::Clean).form, EndForm::Complete, "{end}");
            assert!(end.closing(Reconnect::Cut).is_planned(), "{end}");
            assert_eq!(end.to_string(), end.as_str());
        }
        for end in [End::Client, End::Timeout, End::Slow, End::Error] {
            for reconnect in [Reconnect::Cut, Reconnect::Clean] {
                assert_eq!(end.closing(reconnect).form, EndForm::Complete, "{end}");
                assert!(!end.closing(reconnect).is_planned(), "{end}");
            }
        }
    }
}
