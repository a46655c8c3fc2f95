//! Lists of header names are safe in a header, and parsing them again changes nothing.

use crate::sse::header_names::parse;

pub fn run(input: &[u8]) {
    let Some(list) = parse(input) else { return };
    // With a space behind each comma it may be longer than a list may be.
    let again = parse(list.as_bytes());
    assert_eq!(again.as_deref(), (list.len() <= 1024).then_some(&list[..]), "{list:?}");
    assert!(list.len() <= 2 * input.len());
    let token = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
    };
    assert!(list.split(", ").all(token), "{list:?}");
    let names = |text: &str| -> Vec<String> {
        text.split([',', ' ', '\t']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(names(&list), names(std::str::from_utf8(input).unwrap()));
}
