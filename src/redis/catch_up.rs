//! What a channel has missed, or never had: fetched from its stream in Redis when it is subscribed to.
//!
//! Only what comes after the confirmation of the subscription is fetched. An event is kept in the stream
//! before it is told, so whatever is not in the answer comes as a message, and what is in both is known
//! by its number.

use ::redis::aio::MultiplexedConnection;
use ::redis::{pipe, Pipeline, RedisError, Value};

use super::message::{entries, Entry};
use crate::hub::{History, Knowledge, Missing, Source};
use crate::sse::id::Stamp;

/// Entries that one command fetches.
pub(super) const PAGE: usize = 500;
/// Channels whose streams are asked for in one go at most, and entries that these may have.
const TOGETHER: usize = 200;
const ENTRIES: usize = 5_000;
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
}

/// What was fetched of one channel.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Entries by rising number, none of which the hub has had.
    pub entries: Vec<Entry>,
    /// What is gone before them.
    pub missing: Missing,
    /// The number of the newest event that Redis has, if it has any.
    pub newest: Option<Stamp>,
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
        let some = &asks[..together(asks, lengths, terms)];
        all.extend(fetch_some(connection, some, terms).await?);
    }
    Ok(all)
}

/// The same in one go, as far as one page of each is enough.
async fn fetch_some(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
    terms: Terms,
) -> Result<Vec<Result<Fetched, RedisError>>, RedisError> {
    let mut pipeline = pipe();
    pipeline.ignore_errors();
    for ask in asks {
        first_page(&mut pipeline, ask, terms);
    }
    let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
    let begin = beginnings(connection, asks, terms).await?;
    let mut all = Vec::with_capacity(asks.len());
    for ((ask, answer), begin) in asks.iter().zip(answers).zip(begin) {
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
        all.push(Ok(judge(ask, found, begin, terms)));
    }
    Ok(all)
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

/// Where the streams begin that applications write, if something was before: their entries do not say
/// what came before them.
async fn beginnings(
    connection: &mut MultiplexedConnection,
    asks: &[Ask],
    terms: Terms,
) -> Result<Vec<Option<Stamp>>, RedisError> {
    if terms.source != Source::Streams {
        return Ok(vec![None; asks.len()]);
    }
    let mut pipeline = pipe();
    pipeline.ignore_errors();
    for ask in asks {
        pipeline.cmd("XINFO").arg("STREAM").arg(&ask.key);
    }
    let answers: Vec<Result<Value, RedisError>> = pipeline.query_async(connection).await?;
    Ok(answers.into_iter().map(|answer| trimmed(&answer.ok()?)).collect())
}

/// The first entry of a stream that was trimmed, by the answer to XINFO STREAM. Redis before 7 does not
/// say whether it was; then it may have been.
fn trimmed(about: &Value) -> Option<Stamp> {
    let Value::Map(about) = about else { return None };
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
    let first = entries(&Value::Array(vec![field("first-entry")?.clone()])).first()?.id;
    (!whole).then_some(first)
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

pub(super) fn page<'a>(pipeline: &'a mut Pipeline, key: &[u8], after: Stamp) -> &'a mut Pipeline {
    let after = format!("({}-{}", after.ms, after.seq);
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

/// What of the entries, by rising number, the hub gets, and what is missing before them. `begin` is the
/// first entry of a stream that was trimmed and does not say of what.
fn judge(ask: &Ask, mut found: Vec<Entry>, begin: Option<Stamp>, terms: Terms) -> Fetched {
    let newest = found.last().map(|entry| entry.id);
    let gone = match ask.known {
        Knowledge::Nothing => begins_behind(&mut found, begin, terms),
        Knowledge::Left(had) | Knowledge::Interrupted(had) => {
            let before_first = found.first().and_then(|first| first.prev);
            before_first.or(begin.map(Stamp::before)).filter(|gone| *gone > had)
        }
    };
    let missing = gone.map_or(Missing::Nothing, Missing::UpTo);
    Fetched { entries: found, missing, newest }
}

/// Takes away what is not owed; the number of the newest event before the rest.
fn begins_behind(found: &mut Vec<Entry>, begin: Option<Stamp>, terms: Terms) -> Option<Stamp> {
    let owed = usize::try_from(terms.history.count).unwrap_or(MOST);
    let too_many = found.len().saturating_sub(owed);
    let age = terms.history.age;
    let oldest = if age == 0 { 0 } else { terms.now.saturating_sub(age) };
    let too_old = found.iter().take_while(|entry| entry.id.ms < oldest).count();
    let left_out = found.drain(..too_many.max(too_old)).next_back().map(|entry| entry.id);
    let before_first = || found.first().and_then(|first| first.prev);
    match left_out.or_else(before_first).or(begin.map(Stamp::before)) {
        Some(gone) => Some(gone).filter(|gone| *gone > Stamp::default()),
        // There is no stream. If there was one, nothing has been added to it for so long.
        None if found.is_empty() && age > 0 && terms.source == Source::PubSub => {
            let kept = DAY.max(age.saturating_mul(2));
            Some(Stamp { ms: terms.now.saturating_sub(kept), seq: 0 })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_763_807_585_123;

    fn entry(ms: u64, prev: Option<u64>) -> Entry {
        let stamp = |ms| Stamp { ms, seq: 0 };
        let (event_type, data) = (Vec::new(), Vec::new());
        Entry { id: stamp(ms), prev: prev.map(stamp), event_type, data }
    }

    fn judged(known: Knowledge, found: Vec<Entry>, count: u64, age: u64) -> (Vec<u64>, Missing) {
        judged_of(Source::PubSub, None, known, found, (count, age))
    }

    fn judged_of(
        source: Source,
        begin: Option<u64>,
        known: Knowledge,
        found: Vec<Entry>,
        (count, age): (u64, u64),
    ) -> (Vec<u64>, Missing) {
        let terms = Terms { history: History { count, age }, source, now: NOW };
        let begin = begin.map(|ms| Stamp { ms, seq: 0 });
        let judged = judge(&Ask { key: Vec::new(), known }, found, begin, terms);
        (judged.entries.iter().map(|entry| entry.id.ms).collect(), judged.missing)
    }

    fn up_to(ms: u64) -> Missing {
        Missing::UpTo(Stamp { ms, seq: 0 })
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
        let ask = |known| Ask { key: Vec::new(), known };
        let history = History { count: 2_000, age: 0 };
        let terms = Terms { history, source: Source::PubSub, now: NOW };
        let had = Knowledge::Left(Stamp::default());
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
    fn of_a_foreign_stream_that_was_trimmed_what_came_before_may_be_lost() {
        let before = |ms: u64| Missing::UpTo(Stamp { ms, seq: 0 }.before());
        let found = || vec![entry(7, None), entry(8, None)];
        let had = |ms| Knowledge::Interrupted(Stamp { ms, seq: 0 });
        let judged = |begin, known| judged_of(Source::Streams, begin, known, found(), (5, 1 << 50));
        assert_eq!(judged(None, Knowledge::Nothing), (vec![7, 8], Missing::Nothing));
        assert_eq!(judged(Some(7), Knowledge::Nothing), (vec![7, 8], before(7)));
        assert_eq!(judged(Some(7), had(5)), (vec![7, 8], before(7)));
        assert_eq!(judged(Some(3), had(5)), (vec![7, 8], Missing::Nothing));
        assert_eq!(judged(None, had(5)), (vec![7, 8], Missing::Nothing));
        let none = judged_of(Source::Streams, None, Knowledge::Nothing, vec![], (5, 1_000));
        assert_eq!(none, (vec![], Missing::Nothing));
    }

    #[test]
    fn a_known_channel_has_a_hole_only_if_an_event_behind_what_it_had_is_gone() {
        let had = Knowledge::Interrupted(Stamp { ms: 5, seq: 0 });
        assert_eq!(judged(had, vec![entry(8, Some(5))], 1, 1), (vec![8], Missing::Nothing));
        assert_eq!(judged(had, vec![entry(8, Some(3))], 1, 1), (vec![8], Missing::Nothing));
        assert_eq!(judged(had, vec![entry(8, Some(7))], 1, 1), (vec![8], up_to(7)));
        assert_eq!(judged(had, vec![], 1, 1), (vec![], Missing::Nothing));
    }
}
