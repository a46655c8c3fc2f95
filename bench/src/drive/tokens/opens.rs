//! Streams that are opened one after the other, each over a new connection: a client receives the
//! response header and the first bytes, and disconnects.

use super::issuer::Algorithm;
use super::TokenRig;
use crate::drive::figures::Figures;
use crate::drive::generator::Generator;
use crate::drive::options::Options;
use crate::drive::process::cpu_us;
use crate::drive::run::number;
use std::time::{Duration, SystemTime};

/// Streams that are opened, and before that, so that nginx has allocated what it needs.
const OPENS: usize = 40_000;
const QUICK_OPENS: usize = 2_000;
const WARM_OPENS: usize = 500;
/// Clients that connect at the same time.
const AT_ONCE: usize = 64;
/// How long the token is valid.
const VALID: Duration = Duration::from_secs(3600);

pub fn measure(options: &Options, algorithm: Algorithm) -> Result<Figures, String> {
    let rig = TokenRig::start(options, algorithm, AT_ONCE)?;
    let opens = if options.quick { QUICK_OPENS } else { OPENS };
    let expires = super::returns::unix_seconds(SystemTime::now() + VALID);
    let header = rig.issuer.header(expires)?;
    open(&rig, WARM_OPENS, &header)?;
    let processes = rig.server.processes();
    let before = cpu_us(&processes);
    let seconds = open(&rig, opens, &header)?;
    let cpu = cpu_us(&processes) - before;
    let opens = opens as f64;
    let figures = [("opens_per_s", opens / seconds), ("open_us", cpu / opens)];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Opens so many streams. Returns how many seconds that took.
fn open(rig: &TokenRig, opens: usize, header: &str) -> Result<f64, String> {
    let options = [
        format!("--to=127.0.0.1:{}", rig.server.port),
        format!("--clients={opens}"),
        format!("--dialing={AT_ONCE}"),
        format!("--header={header}"),
        "--leaving".into(),
    ];
    let line = Generator::start(&options, 1)?.next_line()?;
    let refused = number(&line, "refused");
    if refused > 0.0 {
        return Err(format!("{refused} streams were not opened"));
    }
    Ok(number(&line, "seconds"))
}
