//! A hub and its model: the operations of the unit test of the hub, chosen by the fuzzer.

use super::memory;
use crate::hub::tests::generated::reading::run_choices;

/// A run of more is no different.
const LONGEST: usize = 2_000;

pub fn run(input: &[u8]) {
    memory::run(|| run_choices(&input[..input.len().min(LONGEST)]));
}
