//! GET of `sse_admin` without a channel: a page of the list of channels, or the channels with the
//! most streams or events.

use super::{answer, argument, describe, not_served, AdminError};
use crate::hub::{ChannelInfo, Listing, ListingPage};
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, JobStatus};
use serde_json::{json, Value};
use std::cmp::Reverse;

/// Default and maximum number of channels in a response.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// A validated request for channels.
struct ChannelQuery {
    prefix: Vec<u8>,
    limit: usize,
    selection: Selection,
}

/// Which of the hub's channels a response contains.
enum Selection {
    /// Those from this cursor on.
    PageFrom(u64),
    /// Those with the most of something.
    Top(Key),
}

/// What channels are sorted by, in descending order.
#[derive(Clone, Copy)]
enum Key {
    Subscribers,
    Events,
}

/// Answers with channels. Scanning a large hub takes more than one turn of the event loop.
pub fn handle(request: &Request, hub: usize) -> Outcome {
    let mut scan = match ChannelQuery::read(request) {
        Ok(query) => Scan::new(query),
        Err(refused) => return answer(request, Err(refused)),
    };
    if let Some(channels) = scan.advance(hub) {
        return answer(request, channels);
    }
    let Ok((later, outcome)) = request.answer_later() else { return Outcome::ERROR };
    process::run_in_turns(hub, move |top| {
        if !later.is_awaited() {
            return JobStatus::Done;
        }
        match scan.advance(hub) {
            None => JobStatus::More,
            Some(channels) => {
                later.answer(top, |request| answer(request, channels));
                JobStatus::Done
            }
        }
    });
    outcome
}

impl ChannelQuery {
    /// Validates a request.
    fn read(request: &Request) -> Result<ChannelQuery, AdminError> {
        let prefix = argument(request, "prefix").unwrap_or_default();
        let limit = match number(request, "limit")? {
            None => DEFAULT_LIMIT,
            Some(limit @ 1..=MAX_LIMIT) => limit,
            Some(_) => return Err(AdminError::new(400, "limit must be a number from 1 to 1000")),
        };
        let from = number(request, "from")?;
        let selection = match (argument(request, "sort").as_deref(), from) {
            (None, from) => Selection::PageFrom(from.unwrap_or(0) as u64),
            (Some(_), Some(_)) => {
                return Err(AdminError::new(400, "sort and from cannot be combined"));
            }
            (Some(b"subscribers"), None) => Selection::Top(Key::Subscribers),
            (Some(b"events"), None) => Selection::Top(Key::Events),
            (Some(_), None) => {
                return Err(AdminError::new(400, "sort must be subscribers or events"));
            }
        };
        Ok(ChannelQuery { prefix, limit, selection })
    }
}

/// A scan of the hub's channels that is in progress.
struct Scan {
    query: ChannelQuery,
    listing: Listing,
    /// With `Selection::Top`, the first channels of those that were scanned, in order.
    top: Vec<ChannelInfo>,
}

impl Scan {
    fn new(query: ChannelQuery) -> Scan {
        let prefix = query.prefix.clone();
        let listing = match query.selection {
            Selection::PageFrom(from) => Listing::new(prefix, from, query.limit),
            Selection::Top(_) => Listing::new(prefix, 0, MAX_LIMIT),
        };
        Scan { query, listing, top: Vec::new() }
    }

    /// Continues for one hold of the hub's lock. Returns the response when it is complete.
    fn advance(&mut self, hub: usize) -> Option<Result<Value, AdminError>> {
        let page = match process::with(hub, |worker| worker.hub().list(&mut self.listing)) {
            Some(Ok(page)) => page?,
            Some(Err(locked)) => return Some(Err(locked.into())),
            None => return Some(Err(not_served())),
        };
        match self.query.selection {
            Selection::PageFrom(_) => Some(Ok(channels(&page.channels, page.next))),
            Selection::Top(key) => self.keep_top(page, key).map(Ok),
        }
    }

    /// Takes the channels of a page. Returns the response if it is the last one.
    fn keep_top(&mut self, page: ListingPage, key: Key) -> Option<Value> {
        self.top.extend(page.channels);
        self.top.sort_by_cached_key(|channel| {
            let value = match key {
                Key::Subscribers => channel.subscribers,
                Key::Events => channel.events,
            };
            (Reverse(value), channel.name.clone())
        });
        self.top.truncate(self.query.limit);
        match page.next {
            None => Some(channels(&self.top, None)),
            Some(next) => {
                self.listing = Listing::new(self.query.prefix.clone(), next, MAX_LIMIT);
                None
            }
        }
    }
}

/// Returns channels as JSON.
fn channels(channels: &[ChannelInfo], next: Option<u64>) -> Value {
    json!({ "channels": channels.iter().map(describe).collect::<Vec<_>>(), "next": next })
}

/// Parses an argument as a number.
fn number(request: &Request, name: &str) -> Result<Option<usize>, AdminError> {
    let Some(text) = argument(request, name) else { return Ok(None) };
    let digits = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(&text).ok().filter(|_| digits).and_then(|n| n.parse().ok());
    number.map(Some).ok_or_else(|| AdminError::new(400, format_args!("{name} must be a number")))
}
