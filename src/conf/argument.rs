//! Parses arguments of directives: numbers, sizes, times, and values that may be set only once.

use crate::nginx::conf_error::ConfError;
use crate::nginx::core_conf::{parse_size, parse_time};

/// Parses a number from 1 to 4294967295.
pub fn number(text: &[u8]) -> Result<u64, ConfError> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| {
        let number: u64 = text.parse().ok()?;
        (number > 0 && number <= u64::from(u32::MAX)).then_some(number)
    });
    number.ok_or_else(|| ConfError::invalid(text))
}

/// Parses a size in bytes, in nginx's notation.
pub fn size(text: &[u8]) -> Result<usize, ConfError> {
    // Far larger than any sensible size, and small enough that arithmetic on it cannot overflow.
    let sensible = 1..1 << 40;
    parse_size(text).filter(|size| sensible.contains(size)).ok_or_else(|| ConfError::invalid(text))
}

/// Returns the argument of a directive that takes exactly one.
pub fn one<'a>(name: &[u8], arguments: &[&'a [u8]]) -> Result<&'a [u8], ConfError> {
    match arguments {
        [argument] => Ok(argument),
        _ => Err(ConfError::message(format_args!(
            "invalid number of arguments in \"{}\" directive",
            String::from_utf8_lossy(name)
        ))),
    }
}

/// Sets a value, and fails if it has been set before.
pub fn once<T>(setting: &mut Option<T>, value: T) -> Result<(), ConfError> {
    if setting.is_some() {
        return Err(ConfError::Duplicate);
    }
    *setting = Some(value);
    Ok(())
}

/// Parses a time in nginx's notation. Returns ms.
pub fn time(text: &[u8]) -> Result<u64, ConfError> {
    parse_time(text).ok_or_else(|| ConfError::invalid(text))
}
