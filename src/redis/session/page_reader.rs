//! Fetches the pages of channels that are catching up.

use std::collections::HashSet;
use std::rc::Rc;

use ::redis::RedisError;
use tokio::time::Instant;

use crate::hub::{pattern_of, Loss, SyncState};
use crate::redis::catch_up::{CatchUp, FetchPolicy, Fetched};
use crate::redis::context::HubContext;
use crate::redis::ended::shown;
use crate::redis::fetcher::Fetcher;
use crate::redis::link::Link;
use crate::redis::stream_page::PageRequest;
use crate::redis::subscribe::{RefusedChannels, WantedChannel};
use crate::sse::id::EntryId;

/// Maximum number of channels in one request.
pub(super) const TOGETHER: usize = 512;

/// What was fetched of a channel.
pub struct CaughtUp {
    pub name: Box<[u8]>,
    pub known: SyncState,
    pub fetched: Fetched,
    /// What else is lost, between its entries.
    pub between: Vec<EntryId>,
    /// Reads the rest, if there is more.
    pub rest: Option<CatchUp>,
}

impl CaughtUp {
    /// Returns the value for a channel or pattern of which nothing has to be fetched.
    pub fn nothing(name: Box<[u8]>, known: SyncState) -> CaughtUp {
        CaughtUp { name, known, fetched: Fetched::default(), between: Vec::new(), rest: None }
    }
}

/// The first pages of some channels.
#[derive(Default)]
pub struct FirstPages {
    pub caught: Vec<CaughtUp>,
    pub refused: RefusedChannels,
    /// Channels that did not fit into the request.
    pub left: Vec<WantedChannel>,
}

/// A channel with more than one page.
pub(super) struct Long {
    pub(super) name: Box<[u8]>,
    pub(super) catch_up: CatchUp,
    pub(super) since: Instant,
}

/// A further page of a channel.
pub struct Further {
    pub(super) long: Long,
    pub(super) page: Result<(Fetched, bool), RedisError>,
}

/// Everything that a fetch needs.
#[derive(Clone)]
pub struct PageReader {
    pub(super) context: Rc<HubContext>,
    pub(super) subscriber: Link,
    pub(super) fetcher: Rc<Fetcher>,
    pub(super) policy: FetchPolicy,
}

impl PageReader {
    /// Connects in advance.
    pub async fn open(&self) -> Result<(), String> {
        self.fetcher.open().await
    }

    /// Returns the first pages of some of these channels, and those that cannot be read. The
    /// streams of `rewound` may have lost their newest entries.
    pub async fn first_pages(
        &self,
        some: Vec<WantedChannel>,
        rewound: HashSet<Box<[u8]>>,
    ) -> Result<FirstPages, String> {
        let mut pages = FirstPages::default();
        let (patterns, channels): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        // The history of patterns is not fetched.
        pages
            .caught
            .extend(patterns.into_iter().map(|(name, known)| CaughtUp::nothing(name, known)));
        let catch_ups = channels.iter().take(TOGETHER);
        let mut catch_ups: Vec<CatchUp> = catch_ups
            .map(|(name, known)| {
                self.context.catch_up(name, *known).of_rewound(rewound.contains(name))
            })
            .collect();
        let ranges: Vec<PageRequest> = catch_ups.iter().map(|one| one.range(self.policy)).collect();
        let replies =
            if ranges.is_empty() { Vec::new() } else { self.fetcher.pages(&ranges).await? };
        let names: Vec<&[u8]> =
            channels.iter().take(replies.len()).map(|(name, _)| &**name).collect();
        let forgotten = self.fetcher.watermarks(&names).await?;
        for (catch_up, forgotten) in catch_ups.iter_mut().zip(forgotten) {
            catch_up.forgotten = forgotten;
        }
        let mut channels = channels.into_iter();
        for ((reply, mut catch_up), (name, known)) in
            replies.into_iter().zip(catch_ups.drain(..)).zip(channels.by_ref())
        {
            match reply {
                Ok(page) => {
                    let (fetched, done) = catch_up.take(page, self.policy);
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
        // Messages that were sent before the replies arrive before the reply to this.
        self.subscriber.ping().await.map_err(|why| why.to_string())?;
        Ok(pages)
    }

    /// Reads all further pages of a channel, up to `most` bytes. `None` if it has more, or can
    /// no longer be read.
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
        let mut pages = self.fetcher.pages(&[catch_up.range(self.policy)]).await?;
        let page = pages.pop().unwrap_or_else(|| Ok(Default::default()));
        Ok(page.map(|page| catch_up.take(page, self.policy)))
    }

    /// Returns the next page of a channel.
    pub(super) async fn further(&self, mut long: Long) -> Result<Further, String> {
        let page = self.next_page(&mut long.catch_up).await?;
        self.subscriber.ping().await.map_err(|why| why.to_string())?;
        Ok(Further { long, page })
    }
}
