//! The situations. To add one, add an entry to [`SITUATIONS`].

use super::rig::{read_all, Longest, Parts, Rig};
use crate::drive::options::Options;
use crate::drive::page::Page;
use rustix::process::{kill_process, Pid, Signal};
use std::time::Duration;

/// The size of a situation.
pub struct Scale {
    events: usize,
    channels: usize,
    patterns: usize,
    /// Events on each of 64 channels.
    each: usize,
}

impl Scale {
    pub const FULL: Scale =
        Scale { events: 1_000_000, channels: 100_000, patterns: 1_000, each: 10_000 };

    /// Returns a tenth of this size.
    pub fn quick(&self) -> Scale {
        let Scale { events, channels, patterns, each } = self;
        Scale {
            events: events / 10,
            channels: channels / 10,
            patterns: patterns / 10,
            each: each / 10,
        }
    }
}

/// A situation.
pub struct Situation {
    pub name: &'static str,
    pub title: fn(&Scale) -> String,
    pub run: fn(&Options, &Scale, &str) -> Result<Longest, String>,
}

pub const SITUATIONS: &[Situation] = &[
    Situation {
        name: "forget",
        title: |scale| format!("DELETE of a channel with {} events", grouped(scale.events)),
        run: forget,
    },
    Situation {
        name: "expired",
        title: |scale| format!("a stream opens over {} expired events", grouped(scale.events)),
        run: expired,
    },
    Situation {
        name: "resume",
        title: |scale| {
            format!("a client returns to {} events with an old id", grouped(scale.events))
        },
        run: resume,
    },
    Situation {
        name: "list",
        title: |scale| {
            format!(
                "{} channels, listed with a prefix that no channel has",
                grouped(scale.channels)
            )
        },
        run: list,
    },
    Situation {
        name: "all-channels",
        title: |scale| {
            format!("a stream of the pattern `*` over {} channels", grouped(scale.channels))
        },
        run: all_channels,
    },
    Situation {
        name: "patterns",
        title: |scale| {
            format!("{} streams of patterns `*[244 bytes]Z`, a publish", grouped(scale.patterns))
        },
        run: patterns,
    },
    Situation {
        name: "resume-64",
        title: |scale| format!("64 channels of {} events, an old id", grouped(scale.each)),
        run: resume_64,
    },
    Situation {
        name: "replay-64",
        title: |scale| format!("64 channels of {} events, `sse_replay all`", grouped(scale.each)),
        run: replay_64,
    },
    Situation {
        name: "full-zone",
        title: |_| "an event of 256 KiB into a full zone".into(),
        run: full_zone,
    },
    Situation {
        name: "stopped",
        title: |_| "the lock's holder is stopped, 100 clients of another worker disconnect".into(),
        run: stopped,
    },
];

/// A hub with enough memory for everything, and an hour of history.
const ROOMY: Parts = Parts {
    http: "sse_hub default { zone 384m; history 1000000 1h; } client_max_body_size 1m; \
           client_body_buffer_size 1m; large_client_header_buffers 4 32k;",
    workers: 1,
    clients: 2_000,
};
/// A hub whose events expire soon after they have been published.
const BRIEF: Parts = Parts {
    http: "sse_hub default { zone 384m; history 1000000 10s; } client_max_body_size 1m; \
           client_body_buffer_size 1m;",
    ..ROOMY
};
const AGE: Duration = Duration::from_secs(10);
const SMALL: Parts = Parts {
    http: "sse_hub default { zone 32m; history 1000 1h; } client_max_body_size 1m; \
           client_body_buffer_size 1m;",
    ..ROOMY
};
const TWO_WORKERS: Parts = Parts { workers: 2, ..SMALL };

fn forget(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    rig.fill("big", scale.events)?;
    rig.begin()?;
    let answer = rig.page()?.ask("DELETE", "/admin?channel=big", "", b"")?.body_of(200)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if !answer.contains(&format!("\"events\":{}", scale.events)) {
        return Err(format!("not all events were forgotten: {answer}"));
    }
    rig.end(0)
}

fn expired(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &BRIEF)?;
    rig.fill("big", scale.events)?;
    std::thread::sleep(AGE);
    rig.begin()?;
    let _stream = rig.stream("/s?c=big", "")?;
    rig.end(0)
}

fn resume(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    let id = rig.fill("big", scale.events)?;
    rig.begin()?;
    // Repeat it, because nothing prevents a client from doing so.
    for _ in 0..3 {
        drop(rig.stream("/s?c=big", &format!("Last-Event-ID: {id}\r\n"))?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut stream = rig.stream("/s?c=big", &format!("Last-Event-ID: {id}\r\n"))?;
    all_of(read_all(&mut stream)?, scale.events - 1)?;
    rig.end(0)
}

/// Checks that the response contains all events, which have 32 bytes of data each.
fn all_of(bytes: usize, events: usize) -> Result<(), String> {
    if bytes >= 32 * events {
        Ok(())
    } else {
        Err(format!("{bytes} bytes are not enough for {events} events"))
    }
}

fn list(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    rig.publish_on((0..scale.channels).map(|number| format!("channel-{number}")))?;
    rig.begin()?;
    let mut page = rig.page()?;
    let mut from = 0;
    loop {
        let path = format!("/admin?prefix=nothing&limit=1000&from={from}");
        let answer = page.ask("GET", &path, "", b"")?.body_of(200)?;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        match answer.get("next").and_then(serde_json::Value::as_u64) {
            Some(next) => from = next,
            None => return rig.end(0),
        }
    }
}

fn all_channels(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    rig.publish_on((0..scale.channels).map(|number| format!("channel-{number}")))?;
    rig.begin()?;
    let mut stream = rig.stream("/like-all?c=*", "")?;
    let bytes = read_all(&mut stream)?;
    // Each channel has an id of at least this length.
    if bytes < 20 * scale.channels {
        return Err(format!("{bytes} bytes are not enough for {} events", scale.channels));
    }
    rig.end(0)
}

fn patterns(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    let mut streams = Vec::new();
    for number in 0..scale.patterns {
        streams.push(rig.stream(&format!("/like?c=*[{number:0244}]Z"), "")?);
    }
    rig.begin()?;
    for number in 0..20 {
        // A name that no pattern matches, and for which each pattern takes long to find that out.
        let channel = format!("{}-{number}", "x".repeat(240));
        rig.publish_on(std::iter::once(channel))?;
    }
    rig.end(0)
}

fn sixty_four(rig: &Rig, scale: &Scale) -> Result<(String, String), String> {
    let names: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    let mut first = None;
    for name in &names {
        let id = rig.fill(name, scale.each)?;
        first.get_or_insert(id);
    }
    Ok((names.join(","), first.unwrap_or_default()))
}

fn resume_64(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    let (names, id) = sixty_four(&rig, scale)?;
    rig.begin()?;
    let mut stream =
        rig.stream(&format!("/many?c={names}"), &format!("Last-Event-ID: {id}\r\n"))?;
    all_of(read_all(&mut stream)?, 64 * scale.each - 1)?;
    rig.end(0)
}

fn replay_64(options: &Options, scale: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &ROOMY)?;
    let (names, _) = sixty_four(&rig, scale)?;
    rig.begin()?;
    let mut stream = rig.stream(&format!("/all?c={names}"), "")?;
    all_of(read_all(&mut stream)?, 64 * scale.each)?;
    rig.end(0)
}

fn full_zone(options: &Options, _: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &SMALL)?;
    for number in 0..400 {
        rig.fill(&format!("c{number}"), 1_000)?;
    }
    rig.begin()?;
    let body = vec![b'x'; (256 << 10) - 64];
    for _ in 0..20 {
        rig.page()?.ask("POST", "/p?c=large", "", &body)?.body_of(201)?;
    }
    rig.end(0)
}

/// Stops a worker in the middle of a publish, again and again, until it holds the lock while
/// stopped.
fn stopped(options: &Options, _: &Scale, name: &str) -> Result<Longest, String> {
    let mut rig = Rig::start(options, name, &TWO_WORKERS)?;
    let [victim, other] = rig.workers()[..] else { return Err("there are not two workers".into()) };
    let signal = |signal: Signal| {
        let pid = Pid::from_raw(victim as i32).ok_or("no process")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    };
    let mut streams = Vec::new();
    for number in 0..100 {
        streams.push(Page::open_in(rig.port(), other)?.into_stream(&format!("/s?c=own-{number}"))?);
    }
    let (mut busy, mut probe) =
        (Page::open_in(rig.port(), victim)?, Page::open_in(rig.port(), other)?);
    let body = vec![b'x'; (256 << 10) - 64];
    rig.begin()?;
    for attempt in 0..1_000_u64 {
        busy.send("POST", "/p?c=large", "", &body)?;
        std::thread::sleep(Duration::from_micros(attempt * 37 % 2_000));
        signal(Signal::STOP)?;
        if probe.ask("POST", "/p?c=probe", "", b"probe")?.contains("stopped process") {
            streams.drain(..).for_each(drop);
            probe.ask("GET", "/pid", "", b"")?.body_of(200)?;
            std::thread::sleep(Duration::from_secs(3));
            let longest = rig.end(victim);
            signal(Signal::CONT)?;
            return longest;
        }
        signal(Signal::CONT)?;
        busy.answer()?.body_of(201)?;
    }
    Err("no worker could be stopped while it held the lock".into())
}

/// Formats a number with thousands separators.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_commas() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
