//! Ids have one spelling each, and whatever is spelled otherwise is not an id.

use super::input::Input;
use crate::sse::id::{EntryId, Id, MAX_LEN};

pub fn run(input: &[u8]) {
    let parsed = Id::parse(input);
    assert_eq!(parsed, reference(input));
    if let Some(id) = parsed {
        let mut written = Vec::new();
        id.write(&mut written);
        assert_eq!(written, input);
        assert_eq!(id.to_string().as_bytes(), input);
        assert!(id.text_len() == input.len() && input.len() <= MAX_LEN);
    }

    let mut input = Input(input);
    let id = EntryId { ms: input.number(), seq: input.number() };
    assert_eq!(Id::parse(Id::Durable(id).to_string().as_bytes()), Some(Id::Durable(id)));
    let (before, after) = (id.before(), id.after());
    assert!(before < id && before.after() == id || id == EntryId::default() && before == id);
    let last = EntryId { ms: u64::MAX, seq: u64::MAX };
    assert!(after > id && after.before() == id || id == last && after == id);
}

/// Parses an id in the obvious way.
fn reference(text: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(text).ok()?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let numbers: Vec<u64> = text.split('-').map(number).collect::<Option<_>>()?;
    let tag = |tag: u64| u32::try_from(tag).ok();
    match numbers[..] {
        [ms, seq] => Some(Id::Durable(EntryId { ms, seq })),
        [ms, seq, of] => Some(Id::Local { entry_id: EntryId { ms, seq }, tag: tag(of)? }),
        [ms, seq, of, pos] => {
            Some(Id::Placed { entry_id: EntryId { ms, seq }, tag: tag(of)?, pos })
        }
        _ => None,
    }
}
