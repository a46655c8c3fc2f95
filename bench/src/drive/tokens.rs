//! Tokens (`sse_jwt`): what their verification costs when streams are opened, and what happens when
//! many streams end at the same moment because their permission does, and their clients return with
//! new tokens. Both are compared with streams without tokens.

mod issuer;
mod opens;
mod returns;

use super::figures::{Figures, Series};
use super::mode::Unit;
use super::options::Options;
use super::progress::passing;
use super::server::{Server, Wanted};
use super::table::{markdown, written};
use super::transport::Transport;
use super::variant::{Kind, Module, Pieces, Variant};
use issuer::{Algorithm, Issuer};
use serde_json::{Map, Value};
use std::fs;
use std::time::Duration;

/// A column: title, figure, unit.
type Column = (&'static str, &'static str, Unit);

const OPENS: &[Column] = &[
    ("opens per second", "opens_per_s", Unit::PerSecond),
    ("CPU per open", "open_us", Unit::Micros),
];
const RETURNS: &[Column] = &[
    ("a file meanwhile: median", "file_p50_us", Unit::Millis),
    ("99th percentile", "file_p99_us", Unit::Millis),
    ("longest", "file_max_us", Unit::Millis),
    ("until all have returned", "returned_us", Unit::Millis),
    ("CPU per client", "return_us", Unit::Micros),
];

/// Streams without tokens. They end at the time in the request, if it has one.
const WITHOUT: Pieces = Pieces {
    module: Module::Ours,
    http: "",
    stream: "sse_stream $arg_c; sse_expires $arg_until;",
    publish: "sse_publish $arg_c;",
    more: "",
};
/// Streams with tokens that are signed with a secret, and with a private key. The file is the
/// issuer's.
const SECRET: Pieces = Pieces {
    http: "sse_jwt_key token.key secret;",
    stream: "sse_jwt bearer; sse_stream $arg_c;",
    ..WITHOUT
};
const PUBLIC: Pieces = Pieces { http: "sse_jwt_key token.key;", ..SECRET };

/// A server, and the issuer of its tokens.
struct TokenRig {
    server: Server,
    issuer: Issuer,
}

impl TokenRig {
    /// Starts a server for this many clients.
    fn start(options: &Options, algorithm: Algorithm, clients: usize) -> Result<TokenRig, String> {
        let directory = options.directory.join("tokens").join(algorithm.name());
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let issuer = Issuer::new(algorithm, &directory)?;
        let pieces = match algorithm {
            Algorithm::None => WITHOUT,
            Algorithm::Hs256 => SECRET,
            Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => PUBLIC,
        };
        let server = Server::start(&Wanted {
            variant: &Variant { name: "tokens", kind: Kind::Nginx(pieces) },
            place: &options.place,
            directory: &directory,
            workers: 1,
            clients,
            transport: Transport::Plain,
        })?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(TokenRig { server, issuer })
    }
}

/// Runs all rounds, prints the tables, and returns the figures and the errors.
pub fn run(options: &Options) -> (Value, Vec<String>) {
    let mut all: Vec<Series> = Algorithm::ALL.iter().map(|_| Series::default()).collect();
    for round in 1..=options.rounds {
        for (algorithm, series) in Algorithm::ALL.into_iter().zip(&mut all) {
            let mut figures = Figures::new();
            for (part, measured) in [
                ("opens", opens::measure as fn(&Options, Algorithm) -> Result<Figures, String>),
                ("returns", returns::measure),
            ] {
                passing("");
                eprintln!("tokens ({part}), round {round}: {}", algorithm.name());
                match measured(options, algorithm) {
                    Ok(more) => figures.extend(more),
                    Err(why) => {
                        let place = format!("tokens ({part}), {}", algorithm.name());
                        series.errors.push(format!("{place}, round {round}: {why}"));
                    }
                }
            }
            series.rounds.push(figures);
        }
    }
    print("tokens: a stream is opened and closed".into(), OPENS, &all);
    let clients = returns::clients(options);
    print(format!("tokens: {clients} streams end at once, and return"), RETURNS, &all);
    let errors = all.iter().flat_map(|series| series.errors.clone()).collect();
    let named = Algorithm::ALL.iter().map(|algorithm| algorithm.name().to_owned());
    let series: Map<String, Value> = named.zip(all.iter().map(Series::as_json)).collect();
    (Value::Object(series), errors)
}

/// Prints a table with a row for each algorithm. Ratios are to the row without tokens.
fn print(title: String, columns: &[Column], all: &[Series]) {
    let titles = columns.iter().map(|(title, ..)| (*title).to_owned());
    let mut lines = vec![std::iter::once(title).chain(titles).collect::<Vec<_>>()];
    for (algorithm, series) in Algorithm::ALL.iter().zip(all) {
        let cells = columns.iter().map(|(_, name, unit)| {
            let Some(value) = series.median(name) else { return "–".to_owned() };
            let text = written(value, *unit);
            match all.first().and_then(|base| base.median(name)) {
                Some(base) if *algorithm != Algorithm::None && base > 0.0 => {
                    format!("{text} ({:.2}×)", value / base)
                }
                _ => text,
            }
        });
        lines.push(std::iter::once(algorithm.name().to_owned()).chain(cells).collect());
    }
    println!("{}", markdown(&lines));
}
