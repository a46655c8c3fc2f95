//! Blocking: the longest turn of an event loop, and the longest hold of the hub's lock, in the
//! worst situations that clients, publishers, and administrators can cause.
//!
//! The module is built with the feature `trace-blocking` and writes its measurements to the error
//! log at least once a second; `rig` reads them there. Each situation has a server of its own.

mod rig;
mod situations;

use super::figures::{Figures, Series};
use super::options::Options;
use super::progress::passing;
use super::table::markdown;
use rig::Longest;
use serde_json::{json, Map, Value};
use situations::{Scale, SITUATIONS};

/// Names of the figures.
const TURN: &str = "turn_ms";
const HOLD: &str = "hold_ms";

/// A situation's rounds, and the source location that held the lock longest.
#[derive(Default)]
struct Measured {
    series: Series,
    longest: Longest,
}

/// Runs all situations in all rounds, prints the table, and returns the figures and the errors.
pub fn run(options: &Options) -> (Value, Vec<String>) {
    let scale = if options.quick { Scale::FULL.quick() } else { Scale::FULL };
    let chosen = || SITUATIONS.iter().filter(|situation| options.has_situation(situation.name));
    let mut all: Vec<Measured> = chosen().map(|_| Measured::default()).collect();
    for round in 1..=options.rounds {
        for (situation, measured) in chosen().zip(&mut all) {
            passing("");
            eprintln!("blocking ({}), round {round}", situation.name);
            match (situation.run)(options, &scale, situation.name) {
                Ok(longest) => measured.add(longest),
                Err(why) => {
                    let error = format!("blocking ({}), round {round}: {why}", situation.name);
                    measured.series.errors.push(error);
                }
            }
        }
    }
    let head =
        ["situation", "longest turn of an event loop", "longest hold of the lock", "held by"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let mut figures = Map::new();
    for (situation, measured) in chosen().zip(&all) {
        lines.push(measured.line((situation.title)(&scale)));
        let place = &measured.longest.place;
        let entry = json!({ "figures": measured.series.as_json(), "held_by": place });
        figures.insert(situation.name.to_owned(), entry);
    }
    println!("{}", markdown(&lines));
    let errors = all.into_iter().flat_map(|measured| measured.series.errors).collect();
    (Value::Object(figures), errors)
}

impl Measured {
    fn add(&mut self, longest: Longest) {
        let figures = [(TURN, longest.turn_us), (HOLD, longest.hold_us)];
        let figures: Figures =
            figures.into_iter().map(|(name, us)| (name.to_owned(), us / 1e3)).collect();
        self.series.rounds.push(figures);
        self.longest.take_longer(longest);
    }

    fn line(&self, title: String) -> Vec<String> {
        let cell = |name: &str| {
            let ms = self.series.median(name);
            ms.map_or("–".to_owned(), |ms| format!("{ms:.2} ms"))
        };
        vec![title, cell(TURN), cell(HOLD), self.longest.place.clone()]
    }
}
