//! What a channel has missed, or never had: fetched from its stream in Redis when it is subscribed to.
//!
//! Only what comes after the confirmation of the subscription is fetched. An event is kept in the stream
//! before it is told, so whatever is not in the answer comes as a message, and what is in both is known
//! by its number.

use ::redis::aio::MultiplexedConnection;
use ::redis::{pipe, Pipeline, RedisError, Value};

use super::message::{entries, Entry};
use crate::hub::{History, Knowledge, Latest, Missing, ReportedId, Source};
use crate::sse::id::Stamp;

/// Entries that one command fetches.
pub(super) const PAGE: usize = 500;
/// Channels whose streams are asked for in one go at most, and entries that these may have.
const TOGETHER: usize = 200;
const ENTRIES: usize = 5_000;
/// Streams of which the first and the last entry are asked for in one go.
const FEW: usize = 32;
/// Entries of one channel that are fetched at most, and bytes of them; what is older is lost.
const MOST: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;
/// How long the publish script keeps the stream of a silent channel at least, in ms.
const DAY: u64 = 86_400_000;

/// What is to be fetched of one channel.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The key of its stream.
    pub key: Vec<u8>,
    /// What the hub knows.
    pub known: Knowledge,
    /// The newest entry that is known to have been there.
    pub entry: Option<ReportedId>,
}

/// What was fetched of one channel.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Entries by rising number, none of which the hub has had.
    pub entries: Vec<Entry>,
    /// What is gone before them.
    pub missing: Missing,
    /// The number of the newest event that Redis has, if it has any.
    pub newest: Option<ReportedId>,
}

impl Default for Fetched {
    /// Nothing, and nothing is missing.
    fn default() -> Fetched {
        Fetched { entries: Vec::new(), missing: Missing::Nothing, newest: None }
    }
}

/// By what the answer is judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What the hub owes.
    pub history: History,
    /// Who writes the streams.
    pub source: Source,
    /// The time in Redis, ms since 1970.
    pub now: u64,
    /// The latest time that an id can have.
    pub latest: Latest,
    /// Whether streams of the publish script may have fallen behind what they had.
    pub rewound: bool,
}

/// Fetches what these channels lack, in their order. A stream that cannot be read is its channel's own
/// affair; an error of the whole says that the connection is of no use.
pub async fn fetch(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
    terms: Terms,
) -> Result<Vec<Result<Fetched, RedisError>>, RedisError> {
    let lengths = lengths(connection, asks).await?;
    let mut all = Vec::with_capacity(asks.len());
    while all.len() < asks.len() {
        let (asks, lengths) = (&asks[all.len()..], &lengths[all.len()..]);
        let count = together(asks, lengths, terms);
        all.extend(fetch_some(connection, &asks[..count], &lengths[..count], terms).await?);
    }
    Ok(all)
}

/// Fetches all that there is of a stream that has started over.
async fn fetch_again(
    connection: &mut MultiplexedConnection,
    ask: &Ask,
    terms: Terms,
) -> Result<Fetched, RedisError> {
    let known = match ask.known {
        Knowledge::Interrupted(_) => Knowledge::Interrupted(ReportedId::default()),
        Knowledge::Nothing | Knowledge::Left(_) => Knowledge::Nothing,
    };
    let ask = Ask { key: ask.key.clone(), known, entry: None };
    let mut pipeline = pipe();
    first_page(&mut pipeline, &ask, terms);
    let answer: Vec<Value> = pipeline.query_async(connection).await?;
    let mut found = answer.first().map(entries).unwrap_or_default();
    if known == Knowledge::Nothing {
        found.reverse();
    } else {
        more_pages(connection, &ask, &mut found).await?;
    }
    let fetched = judge(&ask, found, None, terms);
    Ok(Fetched { missing: Missing::Everything, ..fetched })
}

/// The same in one go, as far as one page of each is enough.
async fn fetch_some(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
    lengths: &[usize],
    terms: Terms,
) -> Result<Vec<Result<Fetched, RedisError>>, RedisError> {
    let mut pipeline = pipe();
    pipeline.ignore_errors();
    for ask in asks {
        first_page(&mut pipeline, ask, terms);
    }
    let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
    let about = about_all(connection, asks, terms).await?;
    let mut all = Vec::with_capacity(asks.len());
    for (((ask, answer), about), length) in asks.iter().zip(answers).zip(about).zip(lengths) {
        let mut found = match answer {
            Ok(answer) => entries(&answer),
            Err(error) if is_its_own(&error) => {
                all.push(Err(error));
                continue;
            }
            Err(error) => return Err(error),
        };
        if ask.known == Knowledge::Nothing {
            found.reverse();
        } else {
            more_pages(connection, ask, &mut found).await?;
        }
        let is_gone = *length == 0 && found.is_empty();
        all.push(Ok(match about {
            _ if is_gone && is_lost(ask, terms) => {
                Fetched { missing: Missing::Everything, ..Fetched::default() }
            }
            Some(about) if about.started_over(ask) => fetch_again(connection, ask, terms).await?,
            about => judge(ask, found, about, terms),
        }));
    }
    Ok(all)
}

/// Whether a stream that is not there cannot simply have outlived its time.
fn is_lost(ask: &Ask, terms: Terms) -> bool {
    let kept = match terms.source {
        Source::Streams => return ask.entry.is_some(),
        Source::PubSub | Source::Alone => terms.kept(),
    };
    let is_kept =
        |entry: ReportedId| kept.is_none_or(|kept| entry.ms() > terms.now.saturating_sub(kept));
    ask.entry.is_some_and(is_kept)
}

impl Terms {
    /// How long the publish script keeps the stream of a silent channel, in ms; `None` for ever.
    fn kept(&self) -> Option<u64> {
        let age = self.history.age;
        (age > 0).then(|| DAY.max(age.saturating_mul(2)))
    }
}

/// How many entries the channels' streams have. What is no stream has none.
async fn lengths(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
) -> Result<Vec<usize>, RedisError> {
    let mut pipeline = pipe();
    pipeline.ignore_errors();
    for ask in asks {
        pipeline.cmd("XLEN").arg(&ask.key);
    }
    let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
    Ok(answers
        .into_iter()
        .map(|answer| match answer {
            Ok(Value::Int(length)) => usize::try_from(length).unwrap_or_default(),
            // Who may not ask that has to take it for a long one.
            Err(error) if error.code() == Some("NOPERM") => PAGE,
            _ => 0,
        })
        .collect())
}

/// Whether an error is about one key: it is no stream, or this user may not read it.
pub(super) fn is_its_own(error: &RedisError) -> bool {
    matches!(error.code(), Some("WRONGTYPE" | "NOPERM"))
}

/// What Redis says of a stream itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// Its first entry, if it has any.
    first: Option<ReportedId>,
    /// Nothing was ever taken out of it. Redis before 7 does not say it.
    whole: bool,
    /// The newest number that it ever had.
    pub newest: ReportedId,
}

/// What there is to know of these streams besides their entries: where those begin that applications write,
/// for their entries do not say what came before them; and how far those of the publish script are, where
/// that may be less than it was.
async fn about_all(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
    terms: Terms,
) -> Result<Vec<Option<About>>, RedisError> {
    let mut all = vec![None; asks.len()];
    let wanted = |ask: &Ask| match terms.source {
        Source::Streams => true,
        Source::PubSub | Source::Alone => terms.rewound && ask.entry.is_some(),
    };
    let wanted: Vec<usize> = (0..asks.len()).filter(|i| wanted(&asks[*i])).collect();
    // The answer has the first and the last entry.
    for some in wanted.chunks(FEW) {
        let mut pipeline = pipe();
        pipeline.ignore_errors();
        for i in some {
            pipeline.cmd("XINFO").arg("STREAM").arg(&asks[*i].key);
        }
        let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
        for (i, answer) in some.iter().zip(answers) {
            all[*i] = answer.ok().as_ref().and_then(About::read);
        }
    }
    Ok(all)
}

impl About {
    /// Reads an answer to XINFO STREAM.
    pub fn read(value: &Value) -> Option<About> {
        let Value::Map(about) = value else { return None };
        let field = |name: &str| {
            let is = |key: &Value| match key {
                Value::BulkString(key) => key == name.as_bytes(),
                Value::SimpleString(key) => key == name,
                _ => false,
            };
            about.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
        };
        let number = |name| match field(name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        let whole = number("entries-added").is_some_and(|added| number("length") == Some(added));
        let first = field("first-entry").cloned().unwrap_or(Value::Nil);
        let first = entries(&Value::Array(vec![first])).first().map(|entry| entry.id);
        let newest = match field("last-generated-id")? {
            Value::BulkString(id) => ReportedId::parse(id)?,
            Value::SimpleString(id) => ReportedId::parse(id.as_bytes())?,
            _ => return None,
        };
        Some(About { first, whole, newest })
    }

    /// Whether it is another stream than the one that was read, or has lost its end.
    fn started_over(&self, ask: &Ask) -> bool {
        let Some(entry) = ask.entry else { return false };
        self.newest < entry || self.whole && self.first.is_some_and(|first| first > entry)
    }

    /// The newest number that may have been taken out of it before it was read.
    fn lacks(&self, known: Knowledge) -> Option<ReportedId> {
        match self.first {
            // Everything that it had.
            None => Some(self.newest),
            // Where nothing is known of it, it may be another stream than the one that a client has read.
            Some(first) => (!self.whole || known == Knowledge::Nothing).then(|| first.before()),
        }
    }
}

/// How many of these channels are asked for in one go: no more entries than Redis answers in a moment.
fn together(asks: &[Ask], lengths: &[usize], terms: Terms) -> usize {
    let owed = terms.history.count.saturating_add(1).min(MOST as u64) as usize;
    let mut entries = 0;
    let few = asks.iter().zip(lengths).take(TOGETHER).take_while(|(ask, length)| {
        entries += match ask.known {
            Knowledge::Nothing => owed.min(**length),
            Knowledge::Left(_) | Knowledge::Interrupted(_) => PAGE.min(**length),
        };
        entries <= ENTRIES
    });
    few.count().max(1)
}

fn first_page(pipeline: &mut Pipeline, ask: &Ask, terms: Terms) {
    match ask.known {
        // One more than is owed: where history begins.
        Knowledge::Nothing => pipeline
            .cmd("XREVRANGE")
            .arg(&ask.key)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(terms.history.count.saturating_add(1).min(MOST as u64)),
        Knowledge::Left(had) | Knowledge::Interrupted(had) => page(pipeline, &ask.key, had),
    };
}

pub(super) fn page<'a>(
    pipeline: &'a mut Pipeline,
    key: &[u8],
    after: ReportedId,
) -> &'a mut Pipeline {
    // Redis takes it for an error to ask for what comes after the last id of all.
    let after = if after.is_last() { after.to_string() } else { format!("({after}") };
    pipeline.cmd("XRANGE").arg(key).arg(after).arg("+").arg("COUNT").arg(PAGE)
}

fn size(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| size_of::<Entry>() + entry.data.len()).sum()
}

async fn more_pages(
    connection: &mut MultiplexedConnection,
    ask: &Ask,
    found: &mut Vec<Entry>,
) -> Result<(), RedisError> {
    let mut last_page = found.len();
    let mut bytes = size(found);
    while last_page == PAGE {
        let Some(last) = found.last() else { break };
        let mut pipeline = pipe();
        page(&mut pipeline, &ask.key, last.id);
        let answer: Vec<Value> = pipeline.query_async(connection).await?;
        let next = answer.first().map(entries).unwrap_or_default();
        last_page = next.len();
        bytes += size(&next);
        if found.len() + last_page > MOST || bytes > MOST_BYTES {
            // The first that is left says what came before it, and so that the others are lost.
            bytes = size(&next);
            found.clear();
        }
        found.extend(next);
    }
    Ok(())
}

/// What of the entries, by rising number, the hub gets, and what is missing before them.
fn judge(ask: &Ask, mut found: Vec<Entry>, about: Option<About>, terms: Terms) -> Fetched {
    let had = match ask.known {
        Knowledge::Nothing => ReportedId::default(),
        Knowledge::Left(had) | Knowledge::Interrupted(had) => had,
    };
    found.retain(|entry| ask.known == Knowledge::Nothing || entry.id > had);
    let newest = found.last().map(|entry| entry.id);
    let lacks = || about.and_then(|about| about.lacks(ask.known));
    let gone = match ask.known {
        Knowledge::Nothing => begins_behind(&mut found, terms, lacks),
        Knowledge::Left(_) | Knowledge::Interrupted(_) => {
            found.first().and_then(|first| first.prev).or_else(lacks)
        }
    };
    let missing = match gone.filter(|gone| *gone > had) {
        None => Missing::Nothing,
        Some(gone) => gone.checked(terms.latest).map_or(Missing::Everything, Missing::UpTo),
    };
    let emptied = about.filter(|about| about.first.is_none()).map(|about| about.newest);
    Fetched { entries: found, missing, newest: newest.or(emptied) }
}

/// Takes away what is not owed; the number of the newest event before the rest.
fn begins_behind(
    found: &mut Vec<Entry>,
    terms: Terms,
    lacks: impl Fn() -> Option<ReportedId>,
) -> Option<ReportedId> {
    let owed = usize::try_from(terms.history.count).unwrap_or(MOST);
    let too_many = found.len().saturating_sub(owed);
    let age = terms.history.age;
    let oldest = if age == 0 { 0 } else { terms.now.saturating_sub(age) };
    let too_old = found.iter().take_while(|entry| entry.id.ms() < oldest).count();
    let left_out = found.drain(..too_many.max(too_old)).next_back().map(|entry| entry.id);
    let before_first = || found.first().and_then(|first| first.prev);
    let gone = left_out.or_else(before_first).or_else(lacks);
    if gone.is_some() || !found.is_empty() || terms.source != Source::PubSub {
        return gone;
    }
    // There is no stream. If there was one, nothing has been added to it for so long.
    let ms = terms.now.saturating_sub(terms.kept()?);
    Some(Stamp { ms, seq: 0 }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Now;

    const NOW: u64 = 1_763_807_585_123;

    fn stamp(ms: u64) -> Stamp {
        Stamp { ms, seq: 0 }
    }

    fn entry(ms: u64, prev: Option<u64>) -> Entry {
        let (event_type, data) = (Vec::new(), Vec::new());
        let id = |ms| stamp(ms).into();
        Entry { id: id(ms), prev: prev.map(id), event_type, data }
    }

    fn judged(known: Knowledge, found: Vec<Entry>, count: u64, age: u64) -> (Vec<u64>, Missing) {
        judged_of(Source::PubSub, None, known, found, (count, age))
    }

    fn judged_of(
        source: Source,
        about: Option<About>,
        known: Knowledge,
        found: Vec<Entry>,
        (count, age): (u64, u64),
    ) -> (Vec<u64>, Missing) {
        let judged = judge(&ask(known), found, about, terms(source, (count, age)));
        (judged.entries.iter().map(|entry| entry.id.ms()).collect(), judged.missing)
    }

    fn ask(known: Knowledge) -> Ask {
        let entry = match known {
            Knowledge::Nothing => None,
            Knowledge::Left(had) | Knowledge::Interrupted(had) => Some(had),
        };
        Ask { key: Vec::new(), known, entry }
    }

    fn terms(source: Source, (count, age): (u64, u64)) -> Terms {
        let latest = Latest::here(Now { wall: NOW, mono: 0 });
        Terms { history: History { count, age }, source, now: NOW, latest, rewound: false }
    }

    fn up_to(ms: u64) -> Missing {
        Missing::UpTo(stamp(ms))
    }

    fn about(first: u64, newest: u64, whole: bool) -> About {
        About { first: Some(stamp(first).into()), whole, newest: stamp(newest).into() }
    }

    #[test]
    fn of_an_unknown_channel_comes_what_is_owed_and_where_that_begins() {
        let found = || vec![entry(1, None), entry(2, Some(1)), entry(3, Some(2))];
        let nothing = Knowledge::Nothing;
        assert_eq!(judged(nothing, found(), 5, 0), (vec![1, 2, 3], Missing::Nothing));
        assert_eq!(judged(nothing, found(), 2, 0), (vec![2, 3], up_to(1)));
        assert_eq!(judged(nothing, found()[1..].to_vec(), 5, 0), (vec![2, 3], up_to(1)));
        assert_eq!(judged(nothing, found(), 0, 0), (vec![], up_to(3)));
        assert_eq!(judged(nothing, vec![entry(7, Some(0))], 5, 0), (vec![7], Missing::Nothing));
    }

    #[test]
    fn as_many_channels_are_asked_together_as_have_few_entries() {
        let terms = terms(Source::PubSub, (2_000, 0));
        let had = Knowledge::Left(ReportedId::default());
        let of = |known, length| together(&vec![ask(known); 300], &[length; 300], terms);
        assert_eq!(of(Knowledge::Nothing, 0), TOGETHER);
        assert_eq!(of(Knowledge::Nothing, 1_000), 5);
        assert_eq!(of(Knowledge::Nothing, 1_000_000), 2);
        assert_eq!(of(had, 1_000_000), 10);
        assert_eq!(together(&[ask(had)], &[1 << 40], terms), 1);
    }

    #[test]
    fn what_is_too_old_is_not_owed() {
        let found = vec![entry(NOW - 9_000, Some(5)), entry(NOW - 1_000, Some(NOW - 9_000))];
        let judged = judged(Knowledge::Nothing, found, 5, 5_000);
        assert_eq!(judged, (vec![NOW - 1_000], up_to(NOW - 9_000)));
    }

    #[test]
    fn where_there_is_no_stream_nothing_was_published_for_as_long_as_one_is_kept() {
        assert_eq!(judged(Knowledge::Nothing, vec![], 5, 1_000), (vec![], up_to(NOW - DAY)));
        assert_eq!(judged(Knowledge::Nothing, vec![], 5, DAY), (vec![], up_to(NOW - 2 * DAY)));
        assert_eq!(judged(Knowledge::Nothing, vec![], 5, 0), (vec![], Missing::Nothing));
    }

    #[test]
    fn of_a_foreign_stream_what_came_before_its_first_entry_may_be_lost() {
        let before = |ms: u64| Missing::UpTo(stamp(ms).before());
        let found = || vec![entry(7, None), entry(8, None)];
        let had = |ms| Knowledge::Interrupted(stamp(ms).into());
        let judged = |about, known| judged_of(Source::Streams, about, known, found(), (5, 1 << 50));
        for whole in [false, true] {
            assert_eq!(judged(None, Knowledge::Nothing), (vec![7, 8], Missing::Nothing));
            let nothing = Knowledge::Nothing;
            assert_eq!(judged(Some(about(7, 8, whole)), nothing), (vec![7, 8], before(7)));
            assert_eq!(judged(Some(about(3, 8, whole)), had(5)), (vec![7, 8], Missing::Nothing));
            assert_eq!(judged(None, had(5)), (vec![7, 8], Missing::Nothing));
        }
        assert_eq!(judged(Some(about(7, 8, false)), had(5)), (vec![7, 8], before(7)));
        let empty = |about| judged_of(Source::Streams, about, had(5), vec![], (5, 1_000)).1;
        assert_eq!(empty(None), Missing::Nothing);
        assert_eq!(empty(Some(about(5, 5, false))), Missing::Nothing);
        let emptied = About { first: None, ..about(0, 9, false) };
        assert_eq!(empty(Some(emptied)), up_to(9));
        let none = judged_of(Source::Streams, None, Knowledge::Nothing, vec![], (5, 1_000));
        assert_eq!(none, (vec![], Missing::Nothing));
    }

    #[test]
    fn a_stream_starts_over_when_its_ids_fall_back_or_it_is_whole_behind_what_was_read() {
        let read = ask(Knowledge::Interrupted(stamp(5).into()));
        assert!(!about(3, 5, true).started_over(&read));
        assert!(!about(7, 8, false).started_over(&read));
        assert!(about(1, 4, false).started_over(&read));
        assert!(about(7, 8, true).started_over(&read));
        let unread = Ask { entry: None, ..read };
        assert!(!about(1, 4, false).started_over(&unread));
    }

    #[test]
    fn a_stream_that_is_not_there_was_lost_unless_it_has_outlived_its_time() {
        let read = |ms| ask(Knowledge::Interrupted(stamp(ms).into()));
        let of = |source, age, ms| is_lost(&read(ms), terms(source, (5, age)));
        assert!(of(Source::PubSub, 1_000, NOW - 1_000));
        assert!(!of(Source::PubSub, 1_000, NOW - DAY));
        assert!(of(Source::PubSub, DAY, NOW - DAY) && !of(Source::PubSub, DAY, NOW - 2 * DAY));
        assert!(of(Source::PubSub, 0, 1) && of(Source::Streams, 1_000, 1));
        let unread = Ask { entry: None, ..read(NOW) };
        assert!(!is_lost(&unread, terms(Source::PubSub, (5, 0))));
    }

    #[test]
    fn what_is_lost_up_to_an_id_that_nobody_believes_may_be_everything() {
        let found = || vec![entry(NOW * 1_000 + 1, Some(NOW * 1_000))];
        let had = Knowledge::Interrupted(stamp(5).into());
        let gone = |known| judged(known, found(), 5, 0);
        for known in [had, Knowledge::Nothing] {
            assert_eq!(gone(known), (vec![NOW * 1_000 + 1], Missing::Everything));
        }
        let read = Knowledge::Interrupted(stamp(NOW * 1_000).into());
        assert_eq!(gone(read).1, Missing::Nothing);
    }

    #[test]
    fn a_known_channel_has_a_hole_only_if_an_event_behind_what_it_had_is_gone() {
        let had = Knowledge::Interrupted(stamp(5).into());
        assert_eq!(judged(had, vec![entry(8, Some(5))], 1, 1), (vec![8], Missing::Nothing));
        assert_eq!(judged(had, vec![entry(8, Some(3))], 1, 1), (vec![8], Missing::Nothing));
        assert_eq!(judged(had, vec![entry(8, Some(7))], 1, 1), (vec![8], up_to(7)));
        assert_eq!(judged(had, vec![], 1, 1), (vec![], Missing::Nothing));
    }
}
