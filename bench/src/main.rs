//! The program behind `scripts/bench`: `load` generates clients and events, `floor` is the bare
//! server that everything is compared with, and `run` starts servers and loads and reports what
//! they cost.
//!
//! At run time they are three processes, so that their processor times can be measured separately.

mod body;
mod clock;
mod drive;
mod event;
mod flags;
mod floor;
mod h2;
mod head;
mod histogram;
mod load;
mod resp;
mod socket;

use flags::Flags;
use std::process::ExitCode;

const USAGE: &str = "usage: sse-bench load | floor | run [options]; see scripts/bench --help";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let result = match part.as_str() {
        "load" => load::main(Flags::new(arguments)),
        "floor" => floor::main(Flags::new(arguments)),
        "run" => drive::main(Flags::new(arguments)),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::from(2)
        }
    }
}
