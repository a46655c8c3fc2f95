//! Channels are caught up: what they lack is fetched beside everything else, and a channel that
//! lacks much, or whose answers are slow, keeps nobody waiting but itself.
//!
//! Channels whose first page is to come go together, as many as fit. One that lacks more goes on by
//! itself, page by page and in turn with others of its kind, over another connection.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use ::redis::RedisError;
use tokio::time::{Duration, Instant};

use crate::hub::{pattern_of, shown as shown_name, Loss, SyncState};
use crate::redis::catch_up::{CatchUp, FetchPolicy, Fetched};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::{shown, Ended};
use crate::redis::fetcher::Fetcher;
use crate::redis::link::Link;
use crate::redis::session::Session;
use crate::redis::stream_page::PageRequest;
use crate::redis::subscribe::{RefusedChannels, WantedChannel};
use crate::redis::subscription_table::SubscriptionState;
use crate::redis::task::Task;
use crate::sse::escaped::Escaped;
use crate::sse::id::EntryId;

/// After how long it is told that a channel is not caught up, and how often.
const TELL: Duration = Duration::from_secs(5);
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Channels that are asked together at most.
const TOGETHER: usize = 512;

/// What is there of a channel.
pub struct CaughtUp {
    pub name: Box<[u8]>,
    pub known: SyncState,
    pub fetched: Fetched,
    /// What else is lost, between its entries.
    pub between: Vec<EntryId>,
    /// There is more.
    pub rest: Option<CatchUp>,
}

impl CaughtUp {
    /// Nothing is to be fetched.
    pub fn nothing(name: Box<[u8]>, known: SyncState) -> CaughtUp {
        CaughtUp { name, known, fetched: Fetched::default(), between: Vec::new(), rest: None }
    }
}

/// The first pages of some channels.
#[derive(Default)]
pub struct FirstPages {
    pub caught: Vec<CaughtUp>,
    pub refused: RefusedChannels,
    /// Those whose turn has not come.
    pub left: Vec<WantedChannel>,
}

/// A channel that lacks more than one page.
struct Long {
    name: Box<[u8]>,
    catch_up: CatchUp,
    since: Instant,
}

/// A further page of a channel.
pub struct Further {
    long: Long,
    page: Result<(Fetched, bool), RedisError>,
}

/// What is being caught up.
pub struct CatchUpQueue {
    /// Channels of which nothing has been fetched.
    first: VecDeque<WantedChannel>,
    /// Those that lack more than a page.
    long: VecDeque<Long>,
    first_task: Option<Task>,
    long_task: Option<Task>,
    /// The channel whose page is on its way.
    on_the_way: Option<(Box<[u8]>, Instant)>,
    fetchers: Fetchers,
    /// Channels whose streams have missed something, and that have not caught up since the
    /// connection began.
    pub(in crate::redis) unsettled: HashSet<Box<[u8]>>,
    told: Option<Instant>,
}

struct Fetchers {
    first: Rc<Fetcher>,
    long: Rc<Fetcher>,
    strays: Rc<Fetcher>,
}

impl CatchUpQueue {
    /// Nothing is caught up. All that is needed is at this node.
    pub fn new(joined: &Rc<HubContext>, node: &str) -> CatchUpQueue {
        let fetcher = || Rc::new(Fetcher::new(joined.clone(), node.to_owned()));
        CatchUpQueue {
            first: VecDeque::new(),
            long: VecDeque::new(),
            first_task: None,
            long_task: None,
            on_the_way: None,
            fetchers: Fetchers { first: fetcher(), long: fetcher(), strays: fetcher() },
            unsettled: HashSet::new(),
            told: None,
        }
    }

    /// Whether there are channels whose first page is still to come.
    pub fn is_beginning(&self) -> bool {
        self.first_task.is_some() || !self.first.is_empty()
    }

    /// Reads the streams of channels that only patterns match. It has a connection of its own, so
    /// that these and first pages do not delay each other.
    pub fn fetcher_of_strays(&self) -> Rc<Fetcher> {
        self.fetchers.strays.clone()
    }

    /// Stops, and forgets what was begun.
    pub fn stop(&mut self) {
        (self.first_task, self.long_task, self.on_the_way) = (None, None, None);
        self.first.clear();
        self.long.clear();
    }
}

/// What is needed to fetch.
#[derive(Clone)]
pub struct PageReader {
    joined: Rc<HubContext>,
    subscriber: Link,
    fetcher: Rc<Fetcher>,
    terms: FetchPolicy,
}

impl PageReader {
    /// Makes the connection.
    pub async fn open(&self) -> Result<(), String> {
        self.fetcher.open().await
    }

    /// The first pages of the first of these channels, and what is wrong with them. The streams of
    /// `rewound` may have lost their newest entries.
    pub async fn first_pages(
        &self,
        some: Vec<WantedChannel>,
        rewound: HashSet<Box<[u8]>>,
    ) -> Result<FirstPages, String> {
        let mut pages = FirstPages::default();
        let (patterns, channels): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        // Of what matches a pattern nothing is fetched.
        pages
            .caught
            .extend(patterns.into_iter().map(|(name, known)| CaughtUp::nothing(name, known)));
        let catch_ups = channels.iter().take(TOGETHER);
        let mut catch_ups: Vec<CatchUp> = catch_ups
            .map(|(name, known)| {
                self.joined.catch_up(name, *known).of_rewound(rewound.contains(name))
            })
            .collect();
        let ranges: Vec<PageRequest> = catch_ups.iter().map(|one| one.range(self.terms)).collect();
        let answers = match ranges.is_empty() {
            true => Vec::new(),
            false => self.fetcher.pages(&ranges).await?,
        };
        let names: Vec<&[u8]> =
            channels.iter().take(answers.len()).map(|(name, _)| &**name).collect();
        let forgotten = self.fetcher.watermarks(&names).await?;
        for (catch_up, forgotten) in catch_ups.iter_mut().zip(forgotten) {
            catch_up.forgotten = forgotten;
        }
        let mut channels = channels.into_iter();
        for ((answer, mut catch_up), (name, known)) in
            answers.into_iter().zip(catch_ups.drain(..)).zip(channels.by_ref())
        {
            match answer {
                Ok(page) => {
                    let (fetched, done) = catch_up.take(page, self.terms);
                    let rest = (!done).then_some(catch_up);
                    let between = Vec::new();
                    pages.caught.push(CaughtUp { name, known, fetched, between, rest });
                }
                Err(error) => {
                    let why = || format!("its stream cannot be read: {}", shown(&error));
                    pages.refused.why.get_or_insert_with(why);
                    pages.refused.names.push(name);
                }
            }
        }
        pages.left = channels.collect();
        // What was told before the answers were given is here before this is answered.
        self.subscriber.ping().await.map_err(|why| why.to_string())?;
        Ok(pages)
    }

    /// All further pages of a channel of which the first is there, as long as they are no more than
    /// so many bytes together. `None`: it has more, or cannot be read any more.
    pub async fn whole(&self, mut one: CaughtUp, most: usize) -> Result<Option<CaughtUp>, String> {
        let mut bytes = 0;
        while let Some(catch_up) = &mut one.rest {
            let Ok((fetched, done)) = self.next_page(catch_up).await? else { return Ok(None) };
            bytes += fetched.entries.iter().map(|entry| entry.size()).sum::<usize>();
            if bytes > most {
                return Ok(None);
            }
            match fetched.missing {
                Loss::Nothing => {}
                Loss::UpTo(gone) if !one.fetched.entries.is_empty() => one.between.push(gone),
                _ if one.fetched.entries.is_empty() => one.fetched.missing = catch_up.missing(),
                _ => return Ok(None),
            }
            one.fetched.entries.extend(fetched.entries);
            (one.fetched.newest, one.fetched.added) = (fetched.newest, fetched.added);
            if done {
                one.rest = None;
            }
        }
        // As for first pages.
        self.subscriber.ping().await.map_err(|why| why.to_string())?;
        Ok(Some(one))
    }

    async fn next_page(
        &self,
        catch_up: &mut CatchUp,
    ) -> Result<Result<(Fetched, bool), RedisError>, String> {
        let mut pages = self.fetcher.pages(&[catch_up.range(self.terms)]).await?;
        let page = pages.pop().unwrap_or_else(|| Ok(Default::default()));
        Ok(page.map(|page| catch_up.take(page, self.terms)))
    }

    async fn further(&self, mut long: Long) -> Result<Further, String> {
        let page = self.next_page(&mut long.catch_up).await?;
        self.subscriber.ping().await.map_err(|why| why.to_string())?;
        Ok(Further { long, page })
    }
}

impl Session {
    /// What is needed to fetch first pages.
    pub(in crate::redis) fn asking(&self) -> PageReader {
        self.asking_with(self.catching.fetchers.first.clone())
    }

    fn asking_with(&self, fetcher: Rc<Fetcher>) -> PageReader {
        let (joined, subscriber) = (self.joined.clone(), self.link.clone());
        PageReader { joined, subscriber, fetcher, terms: self.terms() }
    }

    /// Returns those of these channels whose streams may have lost their newest entries.
    pub(in crate::redis) fn rewound_of(&self, some: &[WantedChannel]) -> HashSet<Box<[u8]>> {
        let is_rewound = |name: &[u8]| {
            self.clock_fell_back || self.channels.get(name).is_some_and(|one| one.is_rewound)
        };
        some.iter().map(|(name, _)| name).filter(|name| is_rewound(name)).cloned().collect()
    }

    /// These channels are subscribed to: what they lack is to be fetched.
    pub(in crate::redis) fn catch_up(&mut self, asked: impl IntoIterator<Item = WantedChannel>) {
        self.catching.first.extend(asked);
        self.fetch_first();
    }

    /// One that lacks more than a page.
    pub(in crate::redis) fn catch_up_further(&mut self, name: Box<[u8]>, catch_up: CatchUp) {
        self.catching.long.push_back(Long { name, catch_up, since: Instant::now() });
        self.fetch_further();
    }

    fn fetch_first(&mut self) {
        if self.catching.first_task.is_some() || self.catching.first.is_empty() {
            return;
        }
        let count = self.catching.first.len().min(TOGETHER);
        let some: Vec<WantedChannel> = self.catching.first.drain(..count).collect();
        let (asking, finished) = (self.asking(), self.finished.clone());
        let rewound = self.rewound_of(&some);
        self.catching.first_task = Some(Task::spawn(async move {
            finished.report(asking.first_pages(some, rewound).await, Session::take_first);
        }));
    }

    fn fetch_further(&mut self) {
        if self.catching.long_task.is_some() {
            return;
        }
        let Some(long) = self.catching.long.pop_front() else { return };
        self.catching.on_the_way = Some((long.name.clone(), long.since));
        let asking = self.asking_with(self.catching.fetchers.long.clone());
        let finished = self.finished.clone();
        self.catching.long_task = Some(Task::spawn(async move {
            finished.report(asking.further(long).await, Session::take_further);
        }));
    }

    /// Takes first pages.
    pub(in crate::redis) async fn take_first(&mut self, pages: FirstPages) -> Result<(), Ended> {
        if self.catching.first_task.take().is_none() {
            // It was stopped, and this was under way.
            return Ok(());
        }
        // What has come before this must not be taken for something that comes after it.
        self.take_in().await?;
        for asked in pages.left.into_iter().rev() {
            self.catching.first.push_front(asked);
        }
        self.refuse(pages.refused).await?;
        for CaughtUp { name, known, fetched, rest, .. } in pages.caught {
            if !self.is_joining(&name) {
                continue;
            }
            self.enter(&name, known, &fetched).await?;
            match rest {
                Some(catch_up) => self.catch_up_further(name, catch_up),
                None => self.reached_end(name, known, fetched).await?,
            }
        }
        self.fetch_first();
        Ok(())
    }

    /// Takes a further page of a channel.
    pub(in crate::redis) async fn take_further(&mut self, further: Further) -> Result<(), Ended> {
        if self.catching.long_task.take().is_none() {
            return Ok(());
        }
        self.catching.on_the_way = None;
        let Further { long, page } = further;
        self.take_in().await?;
        if self.is_joining(&long.name) {
            let known = long.catch_up.known();
            match page {
                Ok((fetched, done)) => {
                    self.enter(&long.name, known, &fetched).await?;
                    if done {
                        let missing = long.catch_up.missing();
                        self.reached_end(long.name, known, Fetched { missing, ..fetched }).await?;
                    } else {
                        self.catching.long.push_back(long);
                    }
                }
                Err(error) => {
                    let why = format!("its stream cannot be read: {}", shown(&error));
                    self.refuse(RefusedChannels { names: vec![long.name], why: Some(why) }).await?;
                }
            }
        }
        self.fetch_further();
        Ok(())
    }

    fn is_joining(&self, name: &[u8]) -> bool {
        let channel = self.channels.get(name);
        channel.is_some_and(|channel| matches!(channel.state, SubscriptionState::Joining(_)))
    }

    /// All that a channel's stream had has been appended. If messages of it were not kept
    /// meanwhile, they are in the stream by now.
    async fn reached_end(
        &mut self,
        name: Box<[u8]>,
        known: SyncState,
        fetched: Fetched,
    ) -> Result<(), Ended> {
        let waiting = match self.channels.get_mut(&name).map(|channel| &mut channel.state) {
            Some(SubscriptionState::Joining(waiting)) => waiting,
            _ => return Ok(()),
        };
        if !waiting.was_full() {
            return self.settled(&name, known, &fetched).await;
        }
        let had = known.had();
        let had = SyncState::Interrupted(fetched.newest.unwrap_or(had).max(had));
        let catch_up = CatchUp::new(self.joined.key(&name), had, None);
        self.catch_up_further(name, catch_up);
        Ok(())
    }

    /// Looks after what is being caught up, once a second.
    pub(in crate::redis) fn tend_catching(&mut self) {
        let Fetchers { first, long, strays } = &self.catching.fetchers;
        let all = [long, first, strays];
        all.iter().for_each(|fetcher| fetcher.rest());
        let trouble = all.iter().find_map(|fetcher| fetcher.trouble());
        let all = self.catching.long.iter().map(|long| (&long.name, long.since));
        let on_the_way = self.catching.on_the_way.iter().map(|(name, since)| (name, *since));
        let slowest = all.chain(on_the_way).min_by_key(|(_, since)| *since);
        let what = match slowest.filter(|(_, since)| since.elapsed() > TELL) {
            Some((name, since)) => format!(
                "channel \"{}\" is not caught up with Redis after {} s: {}; others go on",
                Escaped(shown_name(name)),
                since.elapsed().as_secs(),
                trouble.as_deref().unwrap_or("it has more to give than comes in that time"),
            ),
            None => match trouble {
                Some(why) => format!("channels cannot be caught up with Redis: {why}"),
                None => return,
            },
        };
        if self.catching.told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
            self.catching.told = Some(Instant::now());
            self.joined.log(LogLevel::Warn, format_args!("{what}"));
        }
    }
}
