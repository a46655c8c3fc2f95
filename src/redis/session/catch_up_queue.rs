//! Catches channels up in the background. A channel with a large history or slow replies delays no
//! other channel. The first pages of several channels are requested together. A channel with more
//! pages continues on another connection, page by page, in turn with other such channels.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use tokio::time::{Duration, Instant};

use crate::hub::{shown as shown_name, SyncState};
use crate::redis::catch_up::{CatchUp, Fetched};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::{shown, Ended};
use crate::redis::fetcher::Fetcher;
use crate::redis::log_limit::LogLimit;
use crate::redis::session::page_reader::{
    CaughtUp, FirstPages, Further, Long, PageReader, TOGETHER,
};
use crate::redis::session::Session;
use crate::redis::subscribe::{RefusedChannels, WantedChannel};
use crate::redis::subscription_table::SubscriptionState;
use crate::redis::task::Task;
use crate::sse::escaped::Escaped;

/// How long a channel may take before it is logged.
const LOG_AFTER: Duration = Duration::from_secs(5);

/// A request for first pages that has taken this long is slow.
const SLOW: Duration = Duration::from_secs(1);

/// The channels that are catching up.
pub struct CatchUpQueue {
    /// Channels of which nothing has been fetched.
    first: VecDeque<WantedChannel>,
    /// Channels with more than one page.
    long: VecDeque<Long>,
    first_task: Option<Task>,
    /// When `first_task` was started.
    first_since: Instant,
    long_task: Option<Task>,
    /// The channel whose page was requested.
    in_progress: Option<(Box<[u8]>, Instant)>,
    fetchers: Fetchers,
    /// Channels with open streams that have missed events, and that have not caught up since
    /// the connection started.
    pub(in crate::redis) unsettled: HashSet<Box<[u8]>>,
    log_limit: LogLimit,
}

struct Fetchers {
    first: Rc<Fetcher>,
    long: Rc<Fetcher>,
    strays: Rc<Fetcher>,
}

impl CatchUpQueue {
    /// Returns an empty queue that reads from this node.
    pub fn new(context: &Rc<HubContext>, node: &str) -> CatchUpQueue {
        let fetcher = || Rc::new(Fetcher::new(context.clone(), node.to_owned()));
        CatchUpQueue {
            first: VecDeque::new(),
            long: VecDeque::new(),
            first_task: None,
            first_since: Instant::now(),
            long_task: None,
            in_progress: None,
            fetchers: Fetchers { first: fetcher(), long: fetcher(), strays: fetcher() },
            unsettled: HashSet::new(),
            log_limit: LogLimit::default(),
        }
    }

    /// Whether channels have more than one page, or first pages take long.
    pub fn is_long(&self) -> bool {
        let is_slow = self.first_task.is_some() && self.first_since.elapsed() >= SLOW;
        is_slow || self.long_task.is_some() || !self.long.is_empty()
    }

    /// Whether no channel is catching up.
    pub fn is_idle(&self) -> bool {
        let is_reading = self.first_task.is_some() || self.long_task.is_some();
        !is_reading && self.first.is_empty() && self.long.is_empty()
    }

    /// Returns the fetcher for channels that are matched only by patterns. It has a connection
    /// of its own, so that these and first pages do not delay each other.
    pub fn fetcher_of_strays(&self) -> Rc<Fetcher> {
        self.fetchers.strays.clone()
    }

    /// Aborts all requests.
    pub fn stop(&mut self) {
        (self.first_task, self.long_task, self.in_progress) = (None, None, None);
        self.first.clear();
        self.long.clear();
    }
}

impl Session {
    /// What is needed to fetch first pages.
    pub(in crate::redis) fn page_reader(&self) -> PageReader {
        self.page_reader_with(self.catch_ups.fetchers.first.clone())
    }

    fn page_reader_with(&self, fetcher: Rc<Fetcher>) -> PageReader {
        let (context, subscriber) = (self.context.clone(), self.link.clone());
        PageReader { context, subscriber, fetcher, policy: self.fetch_policy() }
    }

    /// Returns those of these channels whose streams may have lost their newest entries.
    pub(in crate::redis) fn rewound_of(&self, some: &[WantedChannel]) -> HashSet<Box<[u8]>> {
        let is_rewound = |name: &[u8]| {
            self.clock_fell_back || self.channels.get(name).is_some_and(|one| one.is_rewound)
        };
        some.iter().map(|(name, _)| name).filter(|name| is_rewound(name)).cloned().collect()
    }

    /// Queues channels whose subscription was confirmed.
    pub(in crate::redis) fn catch_up(&mut self, asked: impl IntoIterator<Item = WantedChannel>) {
        self.catch_ups.first.extend(asked);
        self.fetch_first();
    }

    /// Queues a channel with more than one page.
    pub(in crate::redis) fn catch_up_further(&mut self, name: Box<[u8]>, catch_up: CatchUp) {
        self.catch_ups.long.push_back(Long { name, catch_up, since: Instant::now() });
        self.fetch_further();
    }

    fn fetch_first(&mut self) {
        if self.catch_ups.first_task.is_some() || self.catch_ups.first.is_empty() {
            return;
        }
        let count = self.catch_ups.first.len().min(TOGETHER);
        let some: Vec<WantedChannel> = self.catch_ups.first.drain(..count).collect();
        let (reader, finished) = (self.page_reader(), self.finished.clone());
        let rewound = self.rewound_of(&some);
        self.catch_ups.first_since = Instant::now();
        self.catch_ups.first_task = Some(Task::spawn(async move {
            finished.report(reader.first_pages(some, rewound).await, Session::process_first_pages);
        }));
    }

    fn fetch_further(&mut self) {
        if self.catch_ups.long_task.is_some() {
            return;
        }
        let Some(long) = self.catch_ups.long.pop_front() else { return };
        self.catch_ups.in_progress = Some((long.name.clone(), long.since));
        let reader = self.page_reader_with(self.catch_ups.fetchers.long.clone());
        let finished = self.finished.clone();
        self.catch_ups.long_task = Some(Task::spawn(async move {
            finished.report(reader.further(long).await, Session::process_further_page);
        }));
    }

    /// Processes first pages.
    pub(in crate::redis) async fn process_first_pages(
        &mut self,
        pages: FirstPages,
    ) -> Result<(), Ended> {
        if self.catch_ups.first_task.take().is_none() {
            // The request was aborted after it had completed.
            return Ok(());
        }
        // Messages that arrived before the pages must be processed before them.
        self.process_inbox().await?;
        for asked in pages.left.into_iter().rev() {
            self.catch_ups.first.push_front(asked);
        }
        self.refuse(pages.refused).await?;
        for CaughtUp { name, known, fetched, rest, .. } in pages.caught {
            if !self.is_catching_up(&name) {
                continue;
            }
            self.append_fetched(&name, known, &fetched).await?;
            match rest {
                Some(catch_up) => self.catch_up_further(name, catch_up),
                None => self.reached_end(name, known, fetched).await?,
            }
        }
        self.fetch_first();
        Ok(())
    }

    /// Processes a further page of a channel.
    pub(in crate::redis) async fn process_further_page(
        &mut self,
        further: Further,
    ) -> Result<(), Ended> {
        if self.catch_ups.long_task.take().is_none() {
            return Ok(());
        }
        self.catch_ups.in_progress = None;
        let Further { long, page } = further;
        self.process_inbox().await?;
        if self.is_catching_up(&long.name) {
            let known = long.catch_up.known();
            match page {
                Ok((fetched, done)) => {
                    self.append_fetched(&long.name, known, &fetched).await?;
                    if done {
                        let missing = long.catch_up.missing();
                        self.reached_end(long.name, known, Fetched { missing, ..fetched }).await?;
                    } else {
                        self.catch_ups.long.push_back(long);
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

    fn is_catching_up(&self, name: &[u8]) -> bool {
        let channel = self.channels.get(name);
        channel.is_some_and(|channel| matches!(channel.state, SubscriptionState::CatchingUp(_)))
    }

    /// Handles the end of a channel's stream. If messages of the channel were dropped while it
    /// was read, they are in the stream by now.
    async fn reached_end(
        &mut self,
        name: Box<[u8]>,
        known: SyncState,
        fetched: Fetched,
    ) -> Result<(), Ended> {
        let waiting = match self.channels.get_mut(&name).map(|channel| &mut channel.state) {
            Some(SubscriptionState::CatchingUp(waiting)) => waiting,
            _ => return Ok(()),
        };
        if !waiting.was_full() {
            return self.settled(&name, known, &fetched).await;
        }
        let had = known.had();
        let had = SyncState::Interrupted(fetched.newest.unwrap_or(had).max(had));
        let catch_up = CatchUp::new(self.context.key(&name), had, None);
        self.catch_up_further(name, catch_up);
        Ok(())
    }

    /// Housekeeping, once a second: logs slow channels, and closes idle connections.
    pub(in crate::redis) fn supervise_catch_ups(&mut self) {
        let Fetchers { first, long, strays } = &self.catch_ups.fetchers;
        let all = [long, first, strays];
        all.iter().for_each(|fetcher| fetcher.close_idle());
        let trouble = all.iter().find_map(|fetcher| fetcher.trouble());
        let all = self.catch_ups.long.iter().map(|long| (&long.name, long.since));
        let in_progress = self.catch_ups.in_progress.iter().map(|(name, since)| (name, *since));
        let slowest = all.chain(in_progress).min_by_key(|(_, since)| *since);
        let what = match slowest.filter(|(_, since)| since.elapsed() > LOG_AFTER) {
            Some((name, since)) => format!(
                "channel \"{}\" has not caught up with Redis after {} s: {}; other channels are \
                 not affected",
                Escaped(shown_name(name)),
                since.elapsed().as_secs(),
                trouble.as_deref().unwrap_or("its history is large"),
            ),
            None => match trouble {
                Some(why) => format!("channels cannot catch up with Redis: {why}"),
                None => return,
            },
        };
        if self.catch_ups.log_limit.permits() {
            self.context.log(LogLevel::Warn, format_args!("{what}"));
        }
    }
}
