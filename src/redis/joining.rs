//! Channels are joined in Redis: subscribed to, and asked for what they lack.
//!
//! What they lack is asked for on the connection that the process publishes with. Redis ends the
//! connection of a subscriber whose answers pile up, and history may be large. It must be the subscriber's
//! node that answers: another was its master once, and has its own past.

use std::rc::Rc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, RedisError, Value};

use super::catch_up::{fetch, Ask, Fetched, Terms};
use super::joined::Joined;
use super::publisher::Publisher;
use super::session::shown;
use super::watermarks::watermarks;
use crate::hub::{pattern_of, Knowledge};

/// A channel that is to be joined, and what is known of it.
pub type Asked = (Box<[u8]>, Knowledge);

/// Whether channels are to be subscribed to before they are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribe {
    First,
    /// They are already, or their streams are read instead.
    Not,
}

/// A channel that was joined, and what is there of it.
pub struct Caught {
    pub name: Box<[u8]>,
    pub known: Knowledge,
    pub fetched: Fetched,
}

/// Channels that cannot be had, and why.
#[derive(Default)]
pub struct Refused {
    pub names: Vec<Box<[u8]>>,
    pub why: Option<String>,
}

/// What is needed to join channels.
pub struct Joining {
    pub joined: Rc<Joined>,
    pub subscriber: MultiplexedConnection,
    pub asker: Rc<Publisher>,
    /// Where the subscriber leads to.
    pub node: String,
    pub terms: Terms,
    pub subscribe: Subscribe,
}

impl Joining {
    /// Joins some channels, not too many at a time. An error says why the connection is of no use.
    pub async fn join(mut self, some: Vec<Asked>) -> Result<(Vec<Caught>, Refused), String> {
        let (some, mut refused) = match self.subscribe {
            Subscribe::First => self.allowed(some).await.map_err(|error| shown(&error))?,
            Subscribe::Not => (some, Refused::default()),
        };
        let asks: Vec<Ask> = some
            .iter()
            .filter(|(name, _)| pattern_of(name).is_none())
            .map(|(name, known)| self.ask(name, *known))
            .collect();
        let names: Vec<&[u8]> = some
            .iter()
            .map(|(name, _)| &**name)
            .filter(|name| pattern_of(name).is_none())
            .collect();
        let mut fetched = self.fetch(&asks, &names).await?.into_iter();
        // What was told before the answers were given is here before this is answered.
        let ping: Result<Value, _> = cmd("PING").query_async(&mut self.subscriber).await;
        ping.map_err(|error| shown(&error))?;
        let mut caught = Vec::with_capacity(some.len());
        for (name, known) in some {
            let fetched = match pattern_of(&name) {
                Some(_) => Ok(Fetched::default()),
                None => fetched.next().unwrap_or_else(|| Ok(Fetched::default())),
            };
            match fetched {
                Ok(fetched) => caught.push(Caught { name, known, fetched }),
                Err(error) => {
                    refused
                        .why
                        .get_or_insert(format!("its stream cannot be read: {}", shown(&error)));
                    refused.names.push(name);
                }
            }
        }
        Ok((caught, refused))
    }

    /// Subscribes, and waits for the confirmation: which channels are subscribed to now, and which the
    /// user may not. One name that is forbidden has Redis refuse the whole command, so it is halved
    /// then.
    pub async fn allowed(&mut self, some: Vec<Asked>) -> Result<(Vec<Asked>, Refused), RedisError> {
        let (mut yes, mut no) = (Vec::new(), Refused::default());
        let (patterns, channels): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        let mut left = vec![patterns, channels];
        while let Some(mut some) = left.pop() {
            let Some((first, _)) = some.first() else { continue };
            let subjects: Vec<Vec<u8>> =
                some.iter().map(|(name, _)| self.joined.subject(name)).collect();
            let answer = match pattern_of(first) {
                Some(_) => self.subscriber.psubscribe(&subjects).await,
                None => self.subscriber.subscribe(&subjects).await,
            };
            match answer {
                Ok(()) => yes.append(&mut some),
                Err(error) if error.code() != Some("NOPERM") => return Err(error),
                Err(_) if some.len() > 1 => {
                    let half = some.split_off(some.len() / 2);
                    left.push(some);
                    left.push(half);
                }
                Err(_) => {
                    no.why.get_or_insert("its user may not subscribe to it".to_owned());
                    no.names.extend(some.into_iter().map(|(name, _)| name));
                }
            }
        }
        Ok((yes, no))
    }

    /// Fetches what these channels lack, without what is forgotten of them.
    async fn fetch_remembered(
        &self,
        connection: &mut MultiplexedConnection,
        asks: &[Ask],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Fetched, RedisError>>, RedisError> {
        let source = self.joined.hub.source();
        let marks = watermarks(connection, &self.joined.names, source, names).await?;
        let mut all = fetch(connection, asks, self.terms).await?;
        for (fetched, mark) in all.iter_mut().zip(marks) {
            if let (Ok(fetched), Some(mark)) = (fetched, mark) {
                fetched.forget(mark, self.terms.latest);
            }
        }
        Ok(all)
    }

    fn ask(&self, name: &[u8], known: Knowledge) -> Ask {
        let entry = match known {
            Knowledge::Nothing => None,
            // If it is not to be had now, it is not known.
            _ => self.joined.hub.newest_entry(name).ok().flatten(),
        };
        Ask { key: self.joined.key(name), known, entry }
    }

    async fn fetch(
        &self,
        asks: &[Ask],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Fetched, RedisError>>, String> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let mut may_be_outdated = true;
        loop {
            let mut link = self.asker.connection_to(&self.node).await?;
            let error = match self.fetch_remembered(&mut link.connection, asks, names).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            self.asker.give_up(&link);
            // One of before Redis went away shows only now that it is broken.
            let broken = error.code().is_none() && !error.is_timeout();
            if !std::mem::take(&mut may_be_outdated) || !broken {
                return Err(shown(&error));
            }
        }
    }
}
