use crate::flags::Flags;
use std::process::ExitCode;
pub fn main(_: Flags) -> Result<ExitCode, String> {
    Err("none".into())
}
