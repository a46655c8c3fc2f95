//! Lists of channel names agree with a second, slower parser.

use super::input::Input;
use crate::sse::channel::{check, check_publish, is_own, names, NameError, MAX_LEN, MAX_NAMES};
use crate::sse::event_type;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let split = (input.byte() & 1 == 1).then_some(b',');
    let mut values = Vec::new();
    for _ in 0..input.below(5) {
        values.push(input.piece());
    }
    values.push(input.rest());
    let listed = names(&values, split);
    assert_eq!(listed, reference(&values, split));
    for name in listed.iter().flatten() {
        // As an event type it stays on its line.
        let as_type = event_type::check(name);
        assert!(
            matches!(as_type, Ok(()) | Err(event_type::TypeError::Reserved)) || name.len() > 128
        );
    }
}

fn reference(values: &[&[u8]], split: Option<u8>) -> Result<Vec<Box<[u8]>>, NameError> {
    let mut found: Vec<Box<[u8]>> = Vec::new();
    for value in values {
        let parts: Vec<&[u8]> = match split {
            Some(separator) => value.split(|byte| *byte == separator).collect(),
            None => vec![value],
        };
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let verdict = reference_check(part);
            assert_eq!(check(part), verdict);
            let reserved = verdict.is_ok() && part.starts_with(b"sse.");
            assert_eq!(is_own(part), part.starts_with(b"sse."));
            let publishable = if reserved { Err(NameError::Reserved) } else { verdict };
            assert_eq!(check_publish(part), publishable);
            verdict?;
            let is_new = !found.contains(&part.into());
            if is_new && found.len() == MAX_NAMES {
                return Err(NameError::TooMany);
            }
            if is_new {
                found.push(part.into());
            }
        }
    }
    if found.is_empty() {
        return Err(NameError::None);
    }
    Ok(found)
}

fn reference_check(name: &[u8]) -> Result<(), NameError> {
    if name.len() > MAX_LEN {
        return Err(NameError::TooLong);
    }
    let Ok(text) = String::from_utf8(name.to_vec()) else { return Err(NameError::NotUtf8) };
    let is_control = |char: char| matches!(u32::from(char), 0..=0x1f | 0x7f..=0x9f);
    if text.chars().any(is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(())
}
