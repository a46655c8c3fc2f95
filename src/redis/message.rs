//! What arrives from Redis: messages of its channels. `entry` has the entries of its streams.
//!
//! All of it is untrusted, and nothing here fails: everything that is not an event of the publish
//! script is a plain message, bytes that are not UTF-8 are replaced as in browsers, and a type that
//! is not allowed is omitted from its event.

use std::borrow::Cow;

use super::token::Token;
use crate::hub::ReportedId;
use crate::sse::channel::check_publish;
use crate::sse::{event_type, finish};

/// The beginning of a durable event's message.
const MARK: &[u8] = b"\x01sse ";

/// The longest first line of a durable event's message: a token, two ids and a length.
const MAX_HEAD: usize = 160;

/// A durable event, as the publish script sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable<'a> {
    /// Its id.
    pub id: ReportedId,
    /// The id of the previous event of its channel; zero if there was none.
    pub prev: ReportedId,
    /// Its type; empty if it has none.
    pub event_type: Cow<'a, [u8]>,
    /// Its data.
    pub data: Cow<'a, [u8]>,
}

/// A message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A plain message of any client, which is the event's data as a whole.
    Plain(Cow<'a, [u8]>),
    /// An event of the publish script.
    Durable(Durable<'a>),
    /// Looks like an event of the publish script, but lacks the hub's token: it is forged, or Redis
    /// has lost the token, which the channel's stream shows. The id that it claims.
    Doubtful(ReportedId),
}

impl Message<'_> {
    /// Returns its id, or the id that it claims.
    pub fn id(&self) -> Option<ReportedId> {
        match self {
            Message::Plain(_) => None,
            Message::Durable(event) => Some(event.id),
            Message::Doubtful(id) => Some(*id),
        }
    }
}

/// Parses a message. It is plain unless it has exactly the form that the script writes. Without a
/// token, no message is trusted as an event of the script.
pub fn parse<'a>(bytes: &'a [u8], token: Option<Token>) -> Message<'a> {
    match durable(bytes) {
        Some((event, of)) if Token::parse(of).is_some_and(|of| Some(of) == token) => {
            Message::Durable(event)
        }
        Some((event, _)) => Message::Doubtful(event.id),
        None => Message::Plain(utf8(bytes)),
    }
}

/// A message on the control channel, from one nginx to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// A successor's marker in a handover.
    Marker(u64),
    /// All events of a channel up to this id are deleted, the id of its newest durable event.
    Forget(&'a [u8], ReportedId),
    /// A deletion without the hub's token: the channel's stream in Redis shows whether it is
    /// genuine.
    Doubtful(&'a [u8], ReportedId),
}

/// Parses a message of the control channel: a number, or `\x01sse TOKEN forget ID\n` CHANNEL.
pub fn parse_control(bytes: &[u8], token: Option<Token>) -> Option<Control<'_>> {
    let Some(rest) = bytes.strip_prefix(MARK) else {
        return std::str::from_utf8(bytes).ok()?.parse().ok().map(Control::Marker);
    };
    let end = memchr::memchr(b'\n', rest.get(..MAX_HEAD).unwrap_or(rest))?;
    let (head, channel) = (&rest[..end], &rest[end + 1..]);
    let mut words = head.split(|&byte| byte == b' ');
    let of = words.next()?;
    let is_forget = words.next()? == b"forget";
    let up_to = ReportedId::parse(words.next()?)?;
    if !is_forget || words.next().is_some() || check_publish(channel).is_err() {
        return None;
    }
    let is_ours = Token::parse(of).is_some_and(|of| Some(of) == token);
    Some(if is_ours { Control::Forget(channel, up_to) } else { Control::Doubtful(channel, up_to) })
}

/// Parses `\x01sse TOKEN ID PREV TYPELEN\n` TYPE DATA. Returns the event and the token.
fn durable(bytes: &[u8]) -> Option<(Durable<'_>, &[u8])> {
    let rest = bytes.strip_prefix(MARK)?;
    let end = memchr::memchr(b'\n', rest.get(..MAX_HEAD).unwrap_or(rest))?;
    let (head, body) = (&rest[..end], &rest[end + 1..]);
    let mut words = head.split(|&byte| byte == b' ');
    let token = words.next()?;
    let (id, prev) = (ReportedId::parse(words.next()?)?, ReportedId::parse(words.next()?)?);
    let length = std::str::from_utf8(words.next()?).ok()?;
    if words.next().is_some() || prev >= id || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (name, data) = body.split_at_checked(length.parse().ok()?)?;
    let event_type = Cow::Borrowed(if is_finish(name, data) { name } else { allowed(name) });
    Some((Durable { id, prev, event_type, data: utf8(data) }, token))
}

/// Returns whether type and data are those of a finish, which only the scripts write.
pub(super) fn is_finish(name: &[u8], data: &[u8]) -> bool {
    name == finish::EVENT_TYPE && data.is_empty()
}

/// Returns the type, or nothing if it is one that no publisher may use.
pub(super) fn allowed(name: &[u8]) -> &[u8] {
    if event_type::check(name).is_ok() {
        name
    } else {
        b""
    }
}

/// Returns the bytes with everything that is not UTF-8 replaced.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::id::{EntryId, Id};
    use proptest::prelude::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    fn token() -> Option<Token> {
        Token::parse(TEXT.as_bytes())
    }

    const ID: EntryId = EntryId { ms: 1763807585123, seq: 0 };
    const PREV: EntryId = EntryId { ms: 1763807585120, seq: 3 };

    /// The message that the script makes.
    fn message(id: EntryId, prev: EntryId, event_type: &[u8], data: &[u8]) -> Vec<u8> {
        let (id, prev) = (Id::Durable(id), Id::Durable(prev));
        let head = format!("\x01sse {TEXT} {id} {prev} {}\n", event_type.len());
        [head.as_bytes(), event_type, data].concat()
    }

    #[test]
    fn a_durable_event_is_read() {
        let head = format!("\x01sse {TEXT} 1763807585123-0 1763807585120-3 5\n");
        let bytes = [head.as_bytes(), b"tradeHello"].concat();
        let (event_type, data) = (b"trade"[..].into(), b"Hello"[..].into());
        let event = Durable { id: ID.into(), prev: PREV.into(), event_type, data };
        assert_eq!(parse(&bytes, token()), Message::Durable(event));
    }

    #[test]
    fn a_finish_is_read_as_an_event_of_its_own_type() {
        let finish = |data: &[u8]| match parse(&message(ID, PREV, b"sse.finish", data), token()) {
            Message::Durable(event) => event.event_type.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!((finish(b""), finish(b"data")), (b"sse.finish".to_vec(), Vec::new()));
    }

    #[test]
    fn whatever_is_not_exactly_so_is_plain() {
        let broken: [&[u8]; 16] = [
            b"",
            b"Hello, World!",
            b"\x01sse ",
            b"\x01sse t0k 2-0 1-0 0",
            b"\x01SSE t0k 2-0 1-0 0\n",
            b" \x01sse t0k 2-0 1-0 0\n",
            b"\x01sse t0k 2-0 1-0 6\ntrade",
            b"\x01sse t0k 2-0 1-0 -1\n",
            b"\x01sse t0k 2-0 1-0 +1\na",
            b"\x01sse t0k 2-0 1-0 \n",
            b"\x01sse t0k 2-0 1-0 0 0\n",
            b"\x01sse t0k  2-0 1-0 0\n",
            b"\x01sse t0k 2-0 1-0-5 0\n",
            b"\x01sse t0k 2-0 2-0 0\n",
            b"\x01sse t0k 0-0 0-0 0\n",
            b"\x01sse t0k 2-0 1-0 99999999999999999999\n",
        ];
        for bytes in broken {
            assert_eq!(parse(bytes, token()), Message::Plain(bytes.into()), "{bytes:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        assert_eq!(parse(b"a\xff", token()), Message::Plain("a\u{fffd}".as_bytes().into()));
        let bytes = message(ID, PREV, b"t\xff", b"\xc3");
        let Message::Durable(event) = parse(&bytes, token()) else {
            panic!("it is durable");
        };
        assert_eq!((&*event.event_type, &*event.data), (&b""[..], "\u{fffd}".as_bytes()));
    }

    #[test]
    fn a_type_that_is_not_a_publishers_is_left_out() {
        for name in ["error", "sse.gap", "a\nid: 1", &"a".repeat(129)] {
            let bytes = message(ID, PREV, name.as_bytes(), b"data");
            let (event_type, data) = (b""[..].into(), b"data"[..].into());
            let event = Durable { id: ID.into(), prev: PREV.into(), event_type, data };
            assert_eq!(parse(&bytes, token()), Message::Durable(event), "{name:?}");
        }
    }

    #[test]
    fn control_messages_are_parsed() {
        let up_to = ReportedId::from(EntryId { ms: 7, seq: 1 });
        let forget = |of: &str, rest: &str| format!("\x01sse {of} forget {rest}").into_bytes();
        let good = forget(TEXT, "7-1\nnews");
        assert_eq!(parse_control(&good, token()), Some(Control::Forget(b"news", up_to)));
        assert_eq!(parse_control(&good, None), Some(Control::Doubtful(b"news", up_to)));
        let other = forget("-", "7-1\nnews");
        assert_eq!(parse_control(&other, token()), Some(Control::Doubtful(b"news", up_to)));
        assert_eq!(parse_control(b"17", token()), Some(Control::Marker(17)));
        for rest in
            ["7-1", "7-1\n", "7-1\nsse.status", "7-1\na\nb", "7\nnews", "7-1 1\nnews", "\nnews"]
        {
            assert_eq!(parse_control(&forget(TEXT, rest), token()), None, "{rest}");
        }
        for bytes in ["", "-1", "x", "\x01sse", "\x01sse t forge 7-1\nnews"] {
            assert_eq!(parse_control(bytes.as_bytes(), token()), None, "{bytes}");
        }
    }

    fn stamps() -> impl Strategy<Value = EntryId> {
        (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| EntryId { ms, seq })
    }

    #[test]
    fn a_message_without_the_token_is_doubtful() {
        let doubtful = Message::Doubtful(EntryId { ms: 2, seq: 0 }.into());
        for of in ["x", "-", "", &TEXT.to_uppercase(), &TEXT[1..]] {
            let bytes = format!("\x01sse {of} 2-0 1-0 0\n");
            assert_eq!(parse(bytes.as_bytes(), token()), doubtful, "{of}");
            assert_eq!(parse(bytes.as_bytes(), None), doubtful, "{of}, and there is none");
        }
        let bytes = format!("\x01sse {TEXT} 2-0 1-0 0\n");
        assert_eq!(parse(bytes.as_bytes(), None), doubtful);
    }

    proptest! {
        #[test]
        fn messages_of_the_script_are_parsed(
            one in stamps(), two in stamps(), name in "[a-z ]{0,12}", data in "\\PC*",
        ) {
            prop_assume!(one != two && !name.starts_with("sse.") && name != "error" && name != "open");
            let (id, prev) = (one.max(two), one.min(two));
            let bytes = message(id, prev, name.as_bytes(), data.as_bytes());
            let (event_type, data) = (name.as_bytes().into(), data.as_bytes().into());
            let (id, prev) = (id.into(), prev.into());
            let event = Durable { id, prev, event_type, data };
            prop_assert_eq!(parse(&bytes, token()), Message::Durable(event));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Message::Plain(data) = parse(&bytes, token()) {
                let text = String::from_utf8_lossy(&bytes);
                prop_assert_eq!(&*data, text.as_bytes());
            }
        }

        #[test]
        fn no_message_with_the_mark_panics(rest in "[0-9 \n-]{0,40}\\PC{0,4}") {
            parse(&[MARK, rest.as_bytes()].concat(), token());
        }
    }
}
