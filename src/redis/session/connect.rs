//! A connection begins: the clock is set right, everything that is heard is subscribed to and caught
//! up, and only then live messages are taken. They wait in the inbox meanwhile.

use std::rc::Rc;
use std::time::Duration;

use ::redis::{RedisError, Value};
use tokio::time::{timeout_at, Instant};

use crate::hub::{pattern_of, RedisState, Source, SyncState};
use crate::redis::context::HubContext;
use crate::redis::ended::{lost, Ended};
use crate::redis::entry::{entries, Entry};
use crate::redis::inbox::Inbox;
use crate::redis::link;
use crate::redis::session::catch_up_queue::CaughtUp;
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::heartbeat::agree;
use crate::redis::session::subscriptions::TOGETHER;
use crate::redis::session::{Holder, Session};
use crate::redis::subscribe::WantedChannel;
use crate::redis::subscription_table::SubscriptionState;
use crate::redis::token::{Agreed, Token};

/// How long all messages wait for what streams in progress have missed.
const SOON: Duration = Duration::from_secs(2);

impl Session {
    /// Connects, and brings everything in step.
    pub async fn open(joined: Rc<HubContext>, tenant: Holder) -> Result<Session, Ended> {
        let mut session = Session::connect(joined, tenant).await?;
        session.prepare().await?;
        session.subscribe_control().await?;
        session.begin_epoch().await?;
        Ok(session)
    }

    /// What is to be set or known before a connection serves.
    pub(in crate::redis) async fn prepare(&mut self) -> Result<(), Ended> {
        match self.joined.hub.source() {
            Source::Streams => self.choose_way().await,
            Source::PubSub | Source::Alone => self.set_clock().await,
        }
    }

    /// Connects, without a subscription.
    pub(in crate::redis) async fn connect(
        joined: Rc<HubContext>,
        tenant: Holder,
    ) -> Result<Session, Ended> {
        let (inbox, pushes) = Inbox::new();
        let link =
            link::connect(&joined.address, &joined.names.clock(), Some(pushes), &joined.bounds())
                .await
                .map_err(|error| Ended::Lost(error.to_string()))?;
        Ok(Session::new(joined, tenant, link, inbox))
    }

    /// Learns what time it is in Redis, raises the hub's clock there above all that was given, says what
    /// history owes, and agrees with Redis on the token that messages of the publish script bear.
    async fn set_clock(&mut self) -> Result<(), Ended> {
        let names = &self.joined.names;
        let mut ask = agree("HSET", &self.joined, Token::random());
        ask.cmd("TIME");
        ask.cmd("XREVRANGE").arg(names.clock()).arg("+").arg("-").arg("COUNT").arg(1);
        ask.ignore_errors();
        let answer: Result<Vec<Result<Value, RedisError>>, _> =
            ask.query_async(&mut self.link.connection).await;
        let mut answers = answer.map_err(lost)?;
        // A Redis that is full, or that this user may only read, can be read all the same; what this user
        // may not ask is not known, and that is all.
        let mut last = || answers.pop().unwrap_or(Ok(Value::Nil));
        let (clock, time, got, set) = (last(), last(), last(), last());
        self.redis_epoch = redis_epoch(&time.unwrap_or(Value::Nil), self.joined.now());
        self.take_token(Agreed::read(set, got));
        let clock = entries(&clock.unwrap_or(Value::Nil));
        let clock = clock.first().map(|entry| entry.id);
        self.set_right(clock).await
    }

    pub(in crate::redis) async fn subscribe_control(&mut self) -> Result<(), Ended> {
        let control = self.joined.names.control();
        match self.link.connection.subscribe(control).await {
            Ok(()) => Ok(()),
            // Without it a takeover is not exact, all else is.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    /// From here on nothing counts as in step that this connection has not brought in step.
    pub(in crate::redis) async fn begin_epoch(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        let mut names = self.heard().await?;
        // What an earlier connection has joined and nobody listens to any more is left in good order.
        names.extend(self.joined_by(self.tenant.seat.slot).await?);
        let before = std::mem::take(&mut self.channels);
        let joined = self.join(names).await?;
        for name in before.names() {
            // A successor has subscribed to it already.
            if let Some(channel) = self.channels.get_mut(name) {
                channel.state = SubscriptionState::Joining(self.waiting_bytes.of_channel());
            }
        }
        // Streams of these have gone on, so what they missed comes in the order of all. History of others
        // is fetched afterwards, a part at a time.
        let (mut first, later): (Vec<_>, Vec<_>) = joined.into_iter().partition(|(name, known)| {
            matches!(known, SyncState::Interrupted(_)) || pattern_of(name).is_some()
        });
        // Patterns last: what they bring of these channels is a double then.
        first.sort_by_key(|(name, _)| pattern_of(name).is_some());
        let mut subscribed = Vec::with_capacity(first.len());
        for some in first.chunks(TOGETHER) {
            let (some, refused) = self.joining().allowed(some.to_vec()).await?;
            subscribed.extend(some);
            self.refuse(refused).await?;
        }
        if subscribed.iter().any(|(name, _)| pattern_of(name).is_none()) {
            self.asking().open().await.map_err(Ended::Lost)?;
        }
        let (caught, left) = self.catch_up_together(subscribed).await?;
        self.with_lock(|| hub.new_epoch(fence)).await?;
        self.catching.unsettled = left.iter().map(|(name, _)| name.clone()).collect();
        let unread = self.append_all(&caught).await?;
        self.with_lock(|| hub.set_link(fence, RedisState::Up)).await?;
        let settled = caught.iter().filter(|one| !unread.contains_key(&one.name));
        for CaughtUp { name, known, fetched, .. } in settled {
            self.settled(name, *known, fetched).await?;
        }
        self.catching.unsettled.extend(unread.keys().cloned());
        self.await_messages(&left);
        if self.catching.unsettled.is_empty() {
            self.with_lock(|| hub.settled(fence)).await?;
        }
        self.catch_up(left);
        for (name, messages) in unread {
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.is_rewound = true;
            }
            self.catch_up_again(&name, messages).await?;
        }
        self.settle_doubts().await?;
        self.wanted.extend(later);
        self.join_wanted();
        Ok(())
    }

    /// Fetches what these channels lack, as far as that is not much and comes soon; the others are left for
    /// later, for nothing is told to anybody meanwhile.
    pub(in crate::redis) async fn catch_up_together(
        &mut self,
        subscribed: Vec<WantedChannel>,
    ) -> Result<(Vec<CaughtUp>, Vec<WantedChannel>), Ended> {
        // Of patterns nothing is fetched. None is left for later: what they bring is taken at once, and a
        // gap before it has to be told first.
        let (patterns, mut left): (Vec<_>, Vec<_>) =
            subscribed.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        let until = Instant::now() + SOON;
        let mut caught: Vec<CaughtUp> =
            patterns.into_iter().map(|(name, known)| CaughtUp::nothing(name, known)).collect();
        let (mut long, mut bytes) = (Vec::new(), 0);
        let most = self.joined.most_held();
        while !left.is_empty() && bytes < most {
            let (asking, rewound) = (self.asking(), self.rewound_of(&left));
            let pages = asking.first_pages(left.clone(), rewound);
            let Ok(pages) = timeout_at(until, pages).await else {
                break;
            };
            let pages = pages.map_err(Ended::Lost)?;
            self.refuse(pages.refused).await?;
            for one in pages.caught {
                let entries = one.fetched.entries.iter();
                bytes += entries.map(Entry::size).sum::<usize>();
                match &one.rest {
                    Some(_) => long.push(one),
                    None => caught.push(one),
                }
            }
            left = pages.left;
        }
        for one in long {
            let asked = (one.name.clone(), one.known);
            let asking = self.asking();
            match timeout_at(until, asking.whole(one, most.saturating_sub(bytes))).await {
                Ok(Err(why)) => return Err(Ended::Lost(why)),
                Ok(Ok(Some(one))) => {
                    bytes += one.fetched.entries.iter().map(Entry::size).sum::<usize>();
                    caught.push(one);
                }
                Ok(Ok(None)) | Err(_) => left.push(asked),
            }
        }
        Ok((caught, left))
    }
}
