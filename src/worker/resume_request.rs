//! What a request for a stream says about where the stream starts.

use super::settings::Replay;
use crate::hub::Resume;

/// A client's last id, or the time from which a client without one wants to receive events.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumeRequest<'r> {
    /// The client's last id; empty if it has none.
    pub last_event_id: &'r [u8],
    /// The time in milliseconds since 1970. An id takes precedence over it.
    pub since: Option<u64>,
}

impl<'r> ResumeRequest<'r> {
    /// Returns the request of a client with this id, or without one if it is empty.
    pub fn from_id(last_event_id: &'r [u8]) -> ResumeRequest<'r> {
        ResumeRequest { last_event_id, since: None }
    }

    /// Returns whether the client has no id.
    pub fn is_new(&self) -> bool {
        self.last_event_id.is_empty()
    }

    /// Returns where the stream starts. `clock` is the time of the hub, in milliseconds since 1970.
    pub(super) fn resume(&self, replay: Replay, clock: u64) -> Resume {
        match (self.last_event_id, self.since, replay) {
            // A part of a run is never sent, whatever the time.
            (id, _, Replay::Run) => Resume::InRun(id.to_vec()),
            (id @ [_, ..], _, _) => Resume::From(id.to_vec()),
            ([], Some(ms), _) if ms > clock => Resume::Fresh { newest: 0 },
            ([], Some(ms), _) => Resume::Since { ms },
            ([], None, Replay::Off) => Resume::Fresh { newest: 0 },
            ([], None, Replay::All) => Resume::Fresh { newest: u64::MAX },
            ([], None, Replay::Count(count)) => Resume::Fresh { newest: count },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_precedence_over_a_time_and_that_over_the_location() {
        let fresh = |newest| Resume::Fresh { newest };
        for (id, since, replay, resume) in [
            ("", None, Replay::Off, fresh(0)),
            ("", None, Replay::All, fresh(u64::MAX)),
            ("", None, Replay::Count(3), fresh(3)),
            ("", Some(5), Replay::All, Resume::Since { ms: 5 }),
            ("", Some(100), Replay::All, Resume::Since { ms: 100 }),
            // In the future.
            ("", Some(101), Replay::All, fresh(0)),
            ("7-0", Some(5), Replay::All, Resume::From(b"7-0".into())),
            ("x", Some(101), Replay::Off, Resume::From(b"x".into())),
            ("", None, Replay::Run, Resume::InRun(Vec::new())),
            ("", Some(5), Replay::Run, Resume::InRun(Vec::new())),
            ("7-0", None, Replay::Run, Resume::InRun(b"7-0".into())),
        ] {
            let request = ResumeRequest { last_event_id: id.as_bytes(), since };
            assert_eq!(request.resume(replay, 100), resume, "{id} {since:?}");
            assert_eq!(request.is_new(), id.is_empty());
        }
    }
}
