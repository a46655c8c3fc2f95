//! The finish of a run: the argument `finish` of a publish, and how a finish is written in Redis.

/// The type of the event that marks a finish in Redis. It has no data, and no publisher can use the
/// type.
pub const EVENT_TYPE: &[u8] = b"sse.finish";

/// The field that makes an entry of an application's stream a finish.
pub const FIELD: &[u8] = b"sse.finish";

/// What becomes of a channel's run after a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAfterwards {
    /// It goes on.
    Open,
    /// It is finished.
    Finished,
}

/// What a query string says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishArgument {
    /// It has no `finish`.
    Absent,
    /// `finish=1`, or `finish` alone.
    Finish,
    /// `finish` with another value.
    Invalid,
}

/// Reads the argument in a query string. As for nginx, the case of its name does not matter.
pub fn in_query(query: &[u8]) -> FinishArgument {
    let mut found = FinishArgument::Absent;
    for argument in query.split(|byte| *byte == b'&') {
        let mut parts = argument.splitn(2, |byte| *byte == b'=');
        if !parts.next().unwrap_or_default().eq_ignore_ascii_case(b"finish") {
            continue;
        }
        match parts.next() {
            None | Some(b"1") if found != FinishArgument::Invalid => found = FinishArgument::Finish,
            _ => found = FinishArgument::Invalid,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finish_has_the_value_1_or_none() {
        for (query, expected) in [
            (&b""[..], FinishArgument::Absent),
            (b"event=a&finished=1&xfinish=1&a=finish", FinishArgument::Absent),
            (b"finish", FinishArgument::Finish),
            (b"finish=1", FinishArgument::Finish),
            (b"event=a&FINISH=1&b", FinishArgument::Finish),
            (b"finish&finish=1", FinishArgument::Finish),
            (b"finish=", FinishArgument::Invalid),
            (b"finish=0", FinishArgument::Invalid),
            (b"finish=1=1", FinishArgument::Invalid),
            (b"finish=true&finish=1", FinishArgument::Invalid),
            (b"finish=1&finish=0", FinishArgument::Invalid),
        ] {
            assert_eq!(in_query(query), expected, "{}", String::from_utf8_lossy(query));
        }
    }
}
