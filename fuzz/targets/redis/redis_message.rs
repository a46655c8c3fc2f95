//! Messages agree with a second parser, what the publish script writes is read back, and nothing is
//! trusted without the token.

use crate::fuzz::input::Input;
use crate::hub::ReportedId;
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::message::{parse, parse_control, Control, Message};
use crate::redis::token::Token;
use crate::sse::channel::check_publish;
use crate::sse::event_type;
use crate::sse::id::EntryId;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const MARK: &str = "\x01sse ";
/// The longest first line.
const MAX_HEAD: usize = 160;

pub fn run(input: &[u8]) {
    check(input);
    check(&[MARK.as_bytes(), input].concat());
    check(&[MARK.as_bytes(), TOKEN.as_bytes(), b" ", input].concat());
    check_control(input);
    check_control(&[MARK.as_bytes(), TOKEN.as_bytes(), b" forget ", input].concat());
    check_written(Input(input));
}

/// Compares the parser with the other one.
fn check(bytes: &[u8]) {
    let token = Token::parse(TOKEN.as_bytes());
    let (parsed, other) = (parse(bytes, token), reference(bytes));
    match (&parsed, other) {
        (Message::Plain(data), None) => assert_eq!(data[..], *lossy(bytes)),
        (Message::Doubtful(id), Some(other)) => {
            assert!(*id == other.id && other.token != TOKEN.as_bytes());
        }
        (Message::Durable(event), Some(other)) => {
            assert_eq!(other.token, TOKEN.as_bytes());
            assert_eq!((event.id, event.prev), (other.id, other.prev));
            assert_eq!(event.data[..], *lossy(other.data));
            let allowed = event_type::check(other.event_type).is_ok();
            assert_eq!(event.event_type[..], *if allowed { other.event_type } else { b"" });
        }
        _ => panic!("{parsed:?} is not what the other parser found"),
    }
    // Bytes that are not UTF-8 become three at most.
    if let Message::Durable(event) = &parsed {
        assert!(event.prev < event.id && event.data.len() <= 3 * bytes.len());
    }
    // Without a token nothing is believed.
    assert!(!matches!(parse(bytes, None), Message::Durable(_)));
    assert_eq!(parse(bytes, None).id(), parsed.id());
    if !matches!(parsed, Message::Doubtful(_)) {
        assert_eq!(BufferedMessage::copy_of(&parsed).message(), parsed);
    }
}

struct Parts<'a> {
    token: &'a [u8],
    id: ReportedId,
    prev: ReportedId,
    event_type: &'a [u8],
    data: &'a [u8],
}

/// Parses `\x01sse TOKEN ID PREV TYPELEN\n` TYPE DATA in the obvious way.
fn reference(bytes: &[u8]) -> Option<Parts<'_>> {
    let rest = bytes.strip_prefix(MARK.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n').filter(|end| *end < MAX_HEAD)?;
    let words: Vec<&[u8]> = rest[..end].split(|byte| *byte == b' ').collect();
    let [token, id, prev, length] = words[..] else { return None };
    let (id, prev) = (ReportedId::parse(id)?, ReportedId::parse(prev)?);
    let length = String::from_utf8(length.to_vec()).ok()?;
    let is_number = !length.is_empty() && length.chars().all(|char| char.is_ascii_digit());
    let length: usize = length.parse().ok().filter(|_| is_number)?;
    let body = &rest[end + 1..];
    let is_valid = id > prev && length <= body.len();
    is_valid.then(|| Parts { token, id, prev, event_type: &body[..length], data: &body[length..] })
}

fn lossy(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).into_owned().into_bytes()
}

fn check_control(bytes: &[u8]) {
    let token = Token::parse(TOKEN.as_bytes());
    let parsed = parse_control(bytes, token);
    let unknown = parse_control(bytes, None);
    match parsed {
        None => assert_eq!(unknown, None),
        Some(Control::Marker(number)) => {
            assert_eq!(unknown, parsed);
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(
                text.trim_start_matches('+').trim_start_matches('0'),
                match number {
                    0 => String::new(),
                    number => number.to_string(),
                }
            );
        }
        Some(Control::Forget(channel, id) | Control::Doubtful(channel, id)) => {
            assert_eq!(unknown, Some(Control::Doubtful(channel, id)));
            assert_eq!(check_publish(channel), Ok(()));
            let rest = format!(" forget {id}\n").into_bytes();
            assert!(bytes.ends_with(&[&rest, channel].concat()));
            let is_ours = bytes.starts_with(format!("{MARK}{TOKEN} ").as_bytes());
            assert_eq!(matches!(parsed, Some(Control::Forget(..))), is_ours);
        }
    }
}

/// Checks that what the script writes is read back.
fn check_written(mut input: Input<'_>) {
    let mut entry = || EntryId { ms: input.number(), seq: input.number() };
    let (one, two) = (entry(), entry());
    let (name, data) = (input.piece(), input.rest());
    let (id, prev) = (ReportedId::from(one.max(two)), ReportedId::from(one.min(two)));
    let head = format!("{MARK}{TOKEN} {id} {prev} {}\n", name.len());
    let bytes = [head.as_bytes(), name, data].concat();
    check(&bytes);
    let parsed = parse(&bytes, Token::parse(TOKEN.as_bytes()));
    let is_event =
        matches!(&parsed, Message::Durable(event) if (event.id, event.prev) == (id, prev));
    assert_eq!(is_event, id > prev);

    let forget = format!("{MARK}{TOKEN} forget {id}\n");
    let bytes = [forget.as_bytes(), name].concat();
    let control = parse_control(&bytes, Token::parse(TOKEN.as_bytes()));
    let wanted = check_publish(name).is_ok().then_some(Control::Forget(name, id));
    assert_eq!(control, wanted);
}
