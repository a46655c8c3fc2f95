//! What arrives from Redis: messages of its channels, and entries of its streams.
//!
//! All of it is untrusted, and nothing here fails: everything that is not an event of the publish
//! script is a plain message, bytes that are not UTF-8 are replaced as in browsers, and a type that
//! is not allowed is omitted from its event.

use std::borrow::Cow;

use ::redis::Value;

use super::link::left_out;
use super::token::Token;
use crate::hub::ReportedId;
use crate::sse::channel::check_publish;
use crate::sse::event_type;

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
    let event_type = Cow::Borrowed(allowed(name));
    Some((Durable { id, prev, event_type, data: utf8(data) }, token))
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: ReportedId,
    /// The id of the previous entry, if the publish script wrote it.
    pub prev: Option<ReportedId>,
    /// Its type; empty if it has none.
    pub event_type: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
    /// The length in bytes of the longest of its values that were too large to be read; 0 if it is
    /// complete.
    pub left_out: u64,
}

impl Entry {
    /// Returns the bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of::<Entry>() + self.event_type.len() + self.data.len()
    }
}

/// Returns the entries in a reply to XRANGE or XREVRANGE, in the same order. Everything that is not
/// an entry is skipped. The data of an entry that the script did not write is its field `data`, or
/// else its only field, or else a JSON object of its fields. The type is its field `event`, if
/// there is one.
pub fn entries(value: &Value) -> Vec<Entry> {
    list(value).iter().filter_map(entry).collect()
}

fn entry(value: &Value) -> Option<Entry> {
    let [id, fields] = list(value) else {
        return None;
    };
    let id = ReportedId::parse(bytes(id)?)?;
    let left_out = left_out_of(fields);
    let fields = pairs(fields)?;
    let field =
        |name: &[u8]| fields.iter().find(|(field, _)| *field == name).map(|&(_, content)| content);
    let prev = field(b"prev").and_then(ReportedId::parse);
    let data = match field(b"data") {
        Some(data) => utf8(data).into_owned(),
        None => data_of_others(&fields, prev.is_some()),
    };
    let event_type = field(b"event").map_or(&b""[..], allowed).to_vec();
    Some(Entry { id, prev, event_type, data, left_out })
}

/// Returns the data of an entry without a field `data`: its only field other than the type and
/// those of the script, or a JSON object of all of these.
fn data_of_others(fields: &[(&[u8], &[u8])], has_prev: bool) -> Vec<u8> {
    let others: Vec<_> = fields
        .iter()
        .filter(|(name, _)| *name != b"event" && !(has_prev && *name == b"prev"))
        .collect();
    match others[..] {
        [] => Vec::new(),
        [(_, only)] => utf8(only).into_owned(),
        ref several => {
            let members: Vec<_> = several
                .iter()
                .map(|(name, content)| format!("{}:{}", json(name), json(content)))
                .collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        }
    }
}

fn json(text: &[u8]) -> serde_json::Value {
    String::from_utf8_lossy(text).into()
}

fn allowed(name: &[u8]) -> &[u8] {
    if event_type::check(name).is_ok() {
        name
    } else {
        b""
    }
}

fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Returns the length of the longest of an entry's values that were skipped.
fn left_out_of(fields: &Value) -> u64 {
    let longest = |values: &mut dyn Iterator<Item = &Value>| values.filter_map(left_out).max();
    let longest = match fields {
        Value::Map(map) => longest(&mut map.iter().flat_map(|(name, text)| [name, text])),
        _ => longest(&mut list(fields).iter()),
    };
    longest.unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        _ => &[],
    }
}

fn pairs(value: &Value) -> Option<Vec<(&[u8], &[u8])>> {
    match value {
        Value::Map(map) => {
            map.iter().map(|(name, text)| Some((bytes(name)?, bytes(text)?))).collect()
        }
        _ => {
            let pairs = list(value).chunks(2);
            pairs.map(|pair| Some((bytes(pair.first()?)?, bytes(pair.get(1)?)?))).collect()
        }
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        Value::Okay => Some(b"OK"),
        // It was skipped.
        Value::BigNumber(_) => Some(b""),
        _ => None,
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

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn texts(list: &[&str]) -> Value {
        Value::Array(list.iter().map(|item| text(item)).collect())
    }

    /// Type and data of an entry with these fields.
    fn read(fields: &[&str]) -> (String, String) {
        let page = Value::Array(vec![Value::Array(vec![text("7-1"), texts(fields)])]);
        let entries = entries(&page);
        assert_eq!(entries[0].id, EntryId { ms: 7, seq: 1 }.into());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (text(&entries[0].event_type), text(&entries[0].data))
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
    fn entries_have_their_data_where_applications_put_it() {
        let read = |fields: &[&str]| {
            let (event_type, data) = read(fields);
            format!("{event_type}|{data}")
        };
        assert_eq!(read(&["data", "D", "event", "E", "prev", "6-0"]), "E|D");
        assert_eq!(read(&["data", "D", "other", "O"]), "|D");
        assert_eq!(read(&["payload", "P"]), "|P");
        assert_eq!(read(&["event", "E", "payload", "P"]), "E|P");
        assert_eq!(read(&["event", "E"]), "E|");
        assert_eq!(read(&["event", "error", "data", "D"]), "|D");
        assert_eq!(read(&["b", "1", "a", "\"\n"]), r#"|{"b":"1","a":"\"\n"}"#);
        assert_eq!(read(&["prev", "first", "next", "last"]), r#"|{"prev":"first","next":"last"}"#);
    }

    #[test]
    fn anything_but_an_entry_is_skipped() {
        let good = Value::Array(vec![text("7-1"), texts(&["data", "D", "prev", "6-5"])]);
        let bad = [
            Value::Nil,
            Value::Array(vec![text("7-1")]),
            Value::Array(vec![text("7-1"), Value::Array(vec![text("data")])]),
            Value::Array(vec![text("7-1"), Value::Array(vec![text("data"), Value::Int(1)])]),
            Value::Array(vec![text("seven"), texts(&["data", "D"])]),
            Value::Array(vec![text("7-1-1"), texts(&["data", "D"])]),
        ];
        let page = Value::Array(bad.into_iter().chain([good]).collect());
        let read = entries(&page);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].prev, Some(EntryId { ms: 6, seq: 5 }.into()));
        assert_eq!(entries(&Value::Nil), []);
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

    #[test]
    fn an_entry_has_the_length_of_its_longest_skipped_value() {
        let number = |text: &str| Value::BigNumber(text.into());
        let of = |fields: Vec<Value>| {
            let entry = Value::Array(vec![text("7-1"), Value::Array(fields)]);
            let entries = entries(&Value::Array(vec![entry]));
            (entries[0].id.ms(), entries[0].left_out)
        };
        assert_eq!(of(vec![text("data"), number("700"), text("prev"), text("6-5")]), (7, 700));
        assert_eq!(of(vec![number("90"), text("a"), text("b"), number("800")]), (7, 800));
        assert_eq!(of(vec![text("data"), text("a")]), (7, 0));
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
