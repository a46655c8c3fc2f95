//! Two processes read the same messages, each at its own pace, and the first one dies or stops:
//! what is appended, and in which order.

use super::memory;
use crate::hub::tests::handover::one;
use crate::hub::tests::random::Random;

pub fn run(input: &[u8]) {
    memory::run(|| _ = one(&mut Random::from_bytes(input)));
}
