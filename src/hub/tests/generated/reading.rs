//! The reading half of the generated operations: where streams start, what they receive, and what
//! is read without the lock.

use super::*;
use crate::hub::invariants::inspection::FoundStart;

impl Run {
    /// Returns one or more of the channels that one process has joined.
    fn some_channels(&mut self) -> Option<(BTreeSet<String>, Vec<Membership>)> {
        let (_, claim, _) = self.some_member()?;
        let mut names = BTreeSet::new();
        let mut members = Vec::new();
        let pick = self.random.next();
        for (i, (name, channel)) in self.model.channels.iter().enumerate() {
            if let Some((member, _)) = channel.joined.get(&claim.slot) {
                if members.is_empty() || pick >> (i % 64) & 1 == 1 {
                    names.insert(name.clone());
                    members.push(*member);
                }
            }
        }
        Some((names, members))
    }

    /// Generates a client with the id of some event, or with one that is not from this hub.
    fn some_id(&mut self) -> (Option<LogOrder>, String) {
        let stamps: Vec<LogOrder> = self
            .model
            .channels
            .values()
            .flat_map(|channel| &channel.log)
            .map(|e| e.place)
            .collect();
        let foreign = ["0-0-0", "17-3", "evil", "99999999999999-0-7", "1700000000000-0-8"];
        if stamps.is_empty() || self.random.below(6) == 0 {
            return (None, self.random.of(&foreign).into());
        }
        let place = self.random.of(&stamps);
        (Some(place), place.id(Kind::Local, 7).to_string())
    }

    pub fn resume(&mut self) {
        let Some((names, members)) = self.some_channels() else { return };
        let (place, id) = self.some_id();
        let now = self.model.now;
        let beginning =
            self.hub.begin_whole(&members, &Resume::From(id.clone().into()), now).unwrap();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        assert_eq!(beginning.end.position, self.model.head);
        let mut cursor = beginning.cursor.unwrap();
        let (gaps, given) = all_of(&self.hub, &mut cursor, self.random.of(&[1, 3, 64]), now);

        let count = self.model.history.count as usize;
        // With `runs`, returning clients receive what is retained even if no history is owed.
        let is_kept = count > 0 || self.model.runs.count > 0;
        let expected: Vec<String> = match place {
            Some(_) if !is_kept => Vec::new(),
            Some(place) => {
                texts(self.model.behind(&names, |other| other.entry_id > place.entry_id))
            }
            None => texts(self.owed(&names, count)),
        };
        assert_eq!(given, expected, "after {id}");
        let lost = place.is_none_or(|place| {
            names.iter().any(|name| {
                let channel = &self.model.channels[name];
                let newest = channel.log.last().map_or(LogOrder::START, |event| event.place);
                let low_watermark = if !is_kept {
                    channel.low_watermark.max(newest)
                } else {
                    channel.low_watermark
                };
                low_watermark.entry_id > place.entry_id
            })
        });
        assert_eq!(gaps.len(), usize::from(lost), "gap after {id}");
        self.returns_with_the_gaps_id(&members, &gaps, given);
        if let ([member], Some(place)) = (&*members, place) {
            self.resume_in_run(*member, &names, place);
        }
    }

    /// A client of one channel receives what is after its id, up to the first finish.
    fn resume_in_run(&self, member: Membership, names: &BTreeSet<String>, place: LogOrder) {
        if self.model.history.count.max(self.model.runs.count) == 0 {
            return;
        }
        let resume = Resume::From(place.id(Kind::Local, 7).to_string().into());
        let now = self.model.now;
        let begun = self.hub.begin(&[member], &resume, Runs::Separate, now).unwrap();
        let channel = &self.model.channels[names.first().unwrap()];
        let has_gap = channel.low_watermark.entry_id > place.entry_id;
        let rest = self.model.behind(names, |other| other.entry_id > place.entry_id);
        let last = rest.iter().position(|event| event.ends_run).map_or(rest.len(), |last| last + 1);
        let is_first_lost = has_gap
            && channel.run.position > channel.low_watermark.position
            && rest.first().is_none_or(|first| first.place.position > channel.run.position);
        let expected = if is_first_lost { Vec::new() } else { texts(rest[..last].to_vec()) };
        let mut cursor = begun.cursor.unwrap();
        let mut given = Vec::new();
        let finished = loop {
            let batch = self.hub.slice_of(&mut cursor, 3, usize::MAX, now).unwrap();
            cursor.gap_sent(&batch);
            for found in &batch.events {
                given.push(text(&found.event));
                cursor.delivered(found);
            }
            if batch.finished || batch.done {
                break batch.finished;
            }
        };
        assert_eq!(given, expected, "a run after {place:?}");
        let ends = rest[..last].last().is_some_and(|event| event.ends_run);
        let is_over = channel.run.is_finished && rest.is_empty();
        assert_eq!(finished, is_first_lost || ends || is_over, "the end of a run after {place:?}");
        if begun.is_over {
            assert!(is_over && !has_gap);
        }
    }

    /// A client that received only the gap event and resumes with its id receives the same again
    /// (of several channels also the surplus of one of them), and for one channel no second gap
    /// event.
    fn returns_with_the_gaps_id(&self, members: &[Membership], gaps: &[Id], given: Vec<String>) {
        if let [gap] = gaps {
            let (again, mut same) = resumed(&self.hub, members, &gap.to_string(), self.model.now);
            if members.len() > 1 {
                same.retain(|text| given.contains(text));
            }
            assert_eq!(same, given, "after the gap's {gap}");
            assert!(again == 0 || members.len() > 1, "a second gap after {gap}");
        }
    }

    /// Returns the newest events of each channel, at most `count`.
    fn owed(&self, names: &BTreeSet<String>, count: usize) -> Vec<&model::ModelEvent> {
        let newest = |name: &String| {
            let retained = self.model.channels[name].retained();
            let events = &retained[retained.len().saturating_sub(count)..];
            events.first().map_or(u64::MAX, |event| event.place.position)
        };
        let first: Vec<(&String, u64)> = names.iter().map(|name| (name, newest(name))).collect();
        let mut owed = Vec::new();
        for (name, first) in first {
            let one = BTreeSet::from([name.clone()]);
            owed.extend(self.model.behind(&one, |place| place.position >= first));
        }
        owed.sort_by_key(|event| event.place);
        owed
    }

    pub fn begin_fresh(&mut self) {
        let Some((names, members)) = self.some_channels() else { return };
        let newest = self.random.of(&[0, 1, 5, u64::MAX]);
        let given = fresh(&self.hub, &members, newest, self.model.now);
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        let count = self.model.history.count.min(newest) as usize;
        assert_eq!(given, texts(self.owed(&names, count)));
    }

    /// A client without an id that asks for what was published from a time on.
    pub fn begin_since(&mut self) {
        let Some((names, members)) = self.some_channels() else { return };
        let ago = self.random.of(&[0, 5, 40, 300, 5_000, 1 << 40]);
        let now = self.model.now;
        let resume = Resume::Since { ms: now.wall.saturating_sub(ago) };
        let mut begun = self.hub.begin_whole(&members, &resume, now).unwrap();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        let (gaps, given) = match &mut begun.cursor {
            None => (Vec::new(), Vec::new()),
            Some(cursor) => all_of(&self.hub, cursor, self.random.of(&[1, 3, 64]), now),
        };

        // Times are compared in whole milliseconds, so perhaps two more are given.
        let first = now.mono.saturating_sub(ago).saturating_sub(2);
        let mut wanted: Vec<&model::ModelEvent> = names
            .iter()
            .flat_map(|name| self.model.channels[name].retained())
            .filter(|event| event.born >= first)
            .collect();
        wanted.sort_by_key(|event| event.place);
        let owes_nothing = self.model.history.count == 0;
        let expected = if owes_nothing { Vec::new() } else { texts(wanted.clone()) };
        assert_eq!(given, expected, "since {ago} ms ago");
        let channels = names.iter().map(|name| &self.model.channels[name]);
        let lost = |channel: &&model::ModelChannel| {
            channel.log[..channel.lost].iter().any(|event| event.born >= first + 2)
        };
        let has_lost =
            channels.clone().any(|channel| lost(&channel)) || owes_nothing && !wanted.is_empty();
        let may_have_lost = channels.clone().any(|channel| {
            let has_older = channel.retained().first().is_some_and(|event| event.born < first);
            channel.low_watermark != LogOrder::START && !has_older
        }) || owes_nothing && !wanted.is_empty();
        assert!(gaps.len() == 1 || !has_lost, "no gap since {ago} ms ago");
        assert!(gaps.is_empty() || may_have_lost, "a gap for nothing since {ago} ms ago");
    }

    /// A client without an id receives the newest run of each channel, and nothing if one of them
    /// has lost its beginning.
    pub fn begin_in_run(&mut self) {
        let Some((names, members)) = self.some_channels() else { return };
        let now = self.model.now;
        let resume = Resume::InRun(Vec::new());
        let begun = self.hub.begin(&members, &resume, Runs::Separate, now).unwrap();
        let given = begun.cursor.map(|mut cursor| {
            while !self.hub.lock().unwrap().locate_all(&mut cursor, now, &mut Budget::for_visit()) {
            }
            self.model.sync(&self.hub, Wanted::Nothing, 0);
            let mut given = Vec::new();
            loop {
                let batch = self.hub.slice_of(&mut cursor, 3, usize::MAX, now).unwrap();
                for found in &batch.events {
                    given.push(text(&found.event));
                    cursor.delivered(found);
                }
                if batch.finished || batch.done {
                    return given;
                }
            }
        });
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        let is_cut = |name: &String| {
            let channel = &self.model.channels[name];
            let is_left_out =
                channel.run.is_finished && (names.len() > 1 || channel.retained().is_empty());
            channel.start == FoundStart::Cut && !is_left_out
        };
        if names.iter().any(is_cut) {
            // If its beginning expires only now, the first batch has a gap event.
            return;
        }
        assert!(!begun.is_incomplete);
        let runs = names.iter().filter_map(|name| self.model.channels[name].whole_run());
        let mut events: Vec<_> = runs.flatten().collect();
        events.sort_by_key(|event| event.place);
        assert_eq!(given.unwrap_or_default(), texts(events), "whole runs");
    }

    /// Starts to follow a stream that is behind.
    pub fn follow(&mut self) {
        let Some((names, members)) = self.some_channels() else { return };
        let until = self.model.head - self.random.below(self.model.head.min(5) + 1);
        let since = until - self.random.below(until.min(60) + 1);
        let wanted = |place: LogOrder| place.position > since && place.position <= until;
        let expected = self.model.behind(&names, wanted);
        let expected = expected.iter().map(|event| event.place.position).collect();
        let cursor = ReplayCursor::since(
            Received::at(since, Elsewhere::Nothing),
            until,
            members.into_iter(),
        );
        self.followed = Some(Followed { cursor, names, expected });
        let slice = self.slice();
        let followed = self.followed.as_ref().unwrap();
        let low_watermarks =
            followed.names.iter().map(|name| self.model.channels[name].low_watermark.position);
        let lost = low_watermarks
            .clone()
            .any(|low_watermark| low_watermark > since && low_watermark <= until);
        let lost_beyond = low_watermarks.clone().any(|low_watermark| low_watermark > until);
        assert!(slice.gap.is_some() || !lost, "no gap");
        assert!(slice.gap.is_none() || lost || lost_beyond, "a gap for nothing");
        self.gap_sent(&slice);
    }

    /// A gap event covers everything that is gone by now.
    fn gap_sent(&mut self, slice: &ReplayBatch) {
        let Some(followed) = &mut self.followed else { return };
        if slice.gap.is_some() {
            followed.cursor.gap_sent(slice);
            let retained = |position: &u64| {
                let events = followed.names.iter().map(|name| self.model.channels[name].retained());
                events.flatten().any(|event| event.place.position == *position)
            };
            followed.expected.retain(retained);
        }
    }

    fn slice(&mut self) -> ReplayBatch {
        let (now, most) = (self.model.now, self.random.of(&[1, 2, 20]));
        let followed = self.followed.as_mut().unwrap();
        let slice = self.hub.slice_of(&mut followed.cursor, most, 10_000, now).unwrap();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        slice
    }

    /// Receives one more batch: the next expected events, or a gap event before those left out.
    pub fn give_on(&mut self) {
        if self.followed.is_none() {
            return;
        }
        let slice = self.slice();
        let handed = self.random.below(slice.events.len() as u64 + 1) as usize;
        self.gap_sent(&slice);
        let Some(followed) = &mut self.followed else { return };
        for found in &slice.events[..handed] {
            let position = found.event.place.position;
            assert_eq!(followed.expected.pop_front(), Some(position), "left out without a gap");
            followed.cursor.delivered(found);
            let logged = self.model.channels.values().flat_map(|channel| &channel.log);
            let logged = logged.clone().find(|event| event.place.position == position).unwrap();
            assert_eq!(text(&found.event), logged.text);
            assert_eq!(found.event.place, logged.place);
        }
        if slice.done && handed == slice.events.len() {
            let until = followed.cursor.until();
            let low_watermark = |name: &String| self.model.channels[name].low_watermark.position;
            // What is missing at the end was reported, or is left to the next replay to report.
            let next_tells = followed.names.iter().any(|name| low_watermark(name) > until);
            assert!(followed.expected.is_empty() || next_tells);
            self.followed = None;
        }
    }

    pub fn forget_what_is_followed(&mut self) {
        self.followed = None;
    }

    /// Reads up to the head without the lock.
    pub fn read_on(&mut self) {
        let now = self.model.now;
        let mut copied = EventCopy::default();
        let all: Vec<(&model::ModelEvent, bool)> = self
            .model
            .channels
            .values()
            .flat_map(|channel| {
                let lost = channel.lost;
                channel.log.iter().enumerate().map(move |(i, event)| (event, i >= lost))
            })
            .collect();
        for position in self.read + 1..=self.hub.head() {
            let Some(descriptor) = self.hub.descriptor(position) else {
                assert!(self.hub.head() - position >= self.hub.layout.ring as u64);
                continue;
            };
            let blocks_for_event = all.iter().find(|(event, _)| event.place.position == position);
            assert_eq!(blocks_for_event.is_none(), descriptor.signal().is_some());
            let Some(&(event, retained)) = blocks_for_event else { continue };
            let whole = self.hub.copy(descriptor, now, &mut copied);
            assert_eq!(whole, retained && !self.model.is_old(event));
            if whole {
                assert_eq!((text(&copied), copied.place), (event.text.clone(), event.place));
            }
        }
        self.read = self.hub.head();
    }
}

fn texts(events: Vec<&model::ModelEvent>) -> Vec<String> {
    events.into_iter().map(|event| event.text.clone()).collect()
}

/// Reports which seed and step failed.
struct FailedSeed(u64, usize);

impl Drop for FailedSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, step {}", self.0, self.1);
        }
    }
}

fn run(seed: u64) {
    set_visit_steps([1024, 8, 30][seed as usize % 3]);
    let mut run = Run::new(Random::new(seed));
    let mut failed = FailedSeed(seed, 0);
    for step in 0..STEPS {
        failed.1 = step;
        run.step();
    }
}

/// Performs the operations that a fuzzer has chosen.
#[cfg(fuzzing)]
pub fn run_choices(bytes: &[u8]) {
    let mut random = Random::from_bytes(bytes);
    set_visit_steps(random.of(&[1024, 8, 30]));
    let mut run = Run::new(random);
    while !run.random.is_spent() {
        run.step();
    }
}

#[test]
fn generated_operations_agree_with_the_model() {
    let runs = std::env::var("HUB_TEST_RUNS").ok().and_then(|runs| runs.parse().ok());
    for seed in 0..runs.unwrap_or(40) {
        run(seed);
    }
}
