//! The program behind `scripts/bench`: `load` makes clients and events, `floor` is the bare server
//! that everything is compared with, `run` starts servers and loads and tells what they cost.
//!
//! They are three processes at run time, so that each one's processor time can be told apart.

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

const USAGE: &str =
    "usage: sse-bench load | floor | run [options]; scripts/bench --help tells more";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let told = match part.as_str() {
        "load" => load::main(Flags::new(arguments)),
        "floor" => floor::main(Flags::new(arguments)),
        "run" => drive::main(Flags::new(arguments)),
        _ => Err(USAGE.into()),
    };
    match told {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::from(2)
        }
    }
}
