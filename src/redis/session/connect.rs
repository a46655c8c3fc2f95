//! Opens a connection: corrects the clock, subscribes to all channels that have streams, and
//! catches them up. Live messages wait in the inbox until then.

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
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::heartbeat::agree;
use crate::redis::session::page_reader::CaughtUp;
use crate::redis::session::subscriptions::TOGETHER;
use crate::redis::session::{Holder, Session};
use crate::redis::subscribe::WantedChannel;
use crate::redis::subscription_table::SubscriptionState;
use crate::redis::token::{Agreed, Token};

/// How long all messages wait until the events that open streams have missed are read.
const SOON: Duration = Duration::from_secs(2);

impl Session {
    /// Connects and synchronizes all channels.
    pub async fn open(context: Rc<HubContext>, holder: Holder) -> Result<Session, Ended> {
        let mut session = Session::connect(context, holder).await?;
        session.prepare().await?;
        session.subscribe_control().await?;
        session.begin_epoch().await?;
        Ok(session)
    }

    /// Exchanges settings with Redis, before the connection serves.
    pub(in crate::redis) async fn prepare(&mut self) -> Result<(), Ended> {
        match self.context.hub.source() {
            Source::Streams => self.choose_growth_source().await,
            Source::PubSub | Source::Alone => self.set_clock().await,
        }
    }

    /// Connects, without a subscription.
    pub(in crate::redis) async fn connect(
        context: Rc<HubContext>,
        holder: Holder,
    ) -> Result<Session, Ended> {
        let (inbox, pushes) = Inbox::new();
        let link = link::connect(
            &context.address,
            &context.names.clock(),
            Some(pushes),
            &context.bounds(),
        )
        .await
        .map_err(|error| Ended::Lost(error.to_string()))?;
        Ok(Session::new(context, holder, link, inbox))
    }

    /// Reads the time in Redis, raises the hub's clock above all known ids, stores the
    /// `history` settings, and agrees with Redis on the token of durable events.
    async fn set_clock(&mut self) -> Result<(), Ended> {
        let names = &self.context.names;
        let mut ask = agree("HSET", &self.context, Token::random());
        ask.cmd("TIME");
        ask.cmd("XREVRANGE").arg(names.clock()).arg("+").arg("-").arg("COUNT").arg(1);
        ask.ignore_errors();
        let reply: Result<Vec<Result<Value, RedisError>>, _> =
            ask.query_async(&mut self.link.connection).await;
        let mut replies = reply.map_err(lost)?;
        // A Redis that is full, or read-only for this user, is still usable. What the user
        // has no permission to read is treated as unknown.
        let mut last = || replies.pop().unwrap_or(Ok(Value::Nil));
        let (clock, time, got, set) = (last(), last(), last(), last());
        self.set_time(redis_epoch(&time.unwrap_or(Value::Nil), self.context.now()));
        self.take_token(Agreed::read(set, got));
        let clock = entries(&clock.unwrap_or(Value::Nil));
        let clock = clock.first().map(|entry| entry.id);
        self.correct_clock(clock).await
    }

    pub(in crate::redis) async fn subscribe_control(&mut self) -> Result<(), Ended> {
        let control = self.context.names.control();
        match self.link.connection.subscribe(control).await {
            Ok(()) => Ok(()),
            // Without the control channel, only handovers are not exact.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    /// Starts a new epoch: from here on, only channels that this connection has synchronized count
    /// as in sync.
    pub(in crate::redis) async fn begin_epoch(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        let mut names = self.channels_with_streams().await?;
        // Channels that an earlier connection has joined, but that no longer have listeners, are
        // left later, after the usual time.
        names.extend(self.joined_by(self.holder.claim.slot).await?);
        let before = std::mem::take(&mut self.channels);
        let added = self.join(names).await?;
        for name in before.names() {
            // A successor has already subscribed to it.
            if let Some(channel) = self.channels.get_mut(name) {
                channel.state = SubscriptionState::CatchingUp(self.waiting_bytes.for_channel());
            }
        }
        // Streams of these channels are open, so the events that they have missed are
        // appended in one common order. The history of others is fetched afterwards, in
        // parts.
        let (mut first, later): (Vec<_>, Vec<_>) = added.into_iter().partition(|(name, known)| {
            matches!(known, SyncState::Interrupted(_)) || pattern_of(name).is_some()
        });
        // Patterns last: messages of these channels that arrive through patterns are duplicates
        // then.
        first.sort_by_key(|(name, _)| pattern_of(name).is_some());
        let mut subscribed = Vec::with_capacity(first.len());
        for some in first.chunks(TOGETHER) {
            let (some, refused) = self.channel_subscriber().subscribe(some.to_vec()).await?;
            subscribed.extend(some);
            self.refuse(refused).await?;
        }
        if subscribed.iter().any(|(name, _)| pattern_of(name).is_none()) {
            self.page_reader().open().await.map_err(Ended::Lost)?;
        }
        let (caught, left) = self.catch_up_together(subscribed).await?;
        let received = self.received;
        self.with_lock(|| hub.new_epoch(fence, received)).await?;
        // Events of other channels are appended before theirs.
        for (name, known) in left.iter().chain(&later) {
            self.announce_catch_up(name, *known).await?;
        }
        self.catch_ups.unsettled = left.iter().map(|(name, _)| name.clone()).collect();
        let unread = self.append_all(&caught).await?;
        self.with_lock(|| hub.set_link(fence, RedisState::Up)).await?;
        let settled = caught.iter().filter(|one| !unread.contains_key(&one.name));
        for CaughtUp { name, known, fetched, .. } in settled {
            self.settled(name, *known, fetched).await?;
        }
        self.catch_ups.unsettled.extend(unread.keys().cloned());
        self.await_messages(&left);
        if self.catch_ups.unsettled.is_empty() {
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

    /// Fetches the entries that these channels are missing, within limits of size and time,
    /// because no events are delivered meanwhile. Returns the fetched ones and the channels
    /// that are left.
    pub(in crate::redis) async fn catch_up_together(
        &mut self,
        subscribed: Vec<WantedChannel>,
    ) -> Result<(Vec<CaughtUp>, Vec<WantedChannel>), Ended> {
        // The history of patterns is not fetched. None of them is left for later: their
        // messages are processed at once, and a gap event has to be sent before.
        let (patterns, mut left): (Vec<_>, Vec<_>) =
            subscribed.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        let until = Instant::now() + SOON;
        let mut caught: Vec<CaughtUp> =
            patterns.into_iter().map(|(name, known)| CaughtUp::nothing(name, known)).collect();
        let (mut long, mut bytes) = (Vec::new(), 0);
        let most = self.context.most_held();
        while !left.is_empty() && bytes < most {
            let (reader, rewound) = (self.page_reader(), self.rewound_of(&left));
            let pages = reader.first_pages(left.clone(), rewound);
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
            let reader = self.page_reader();
            match timeout_at(until, reader.whole(one, most.saturating_sub(bytes))).await {
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
