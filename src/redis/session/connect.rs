//! A connection begins: the clock is set right, everything that is heard is subscribed to and caught
//! up, and only then live messages are taken. They wait in the inbox meanwhile.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ::redis::{RedisError, Value};
use tokio::time::{timeout_at, Instant};

use crate::hub::{pattern_of, IncomingEvent, Provenance, RedisState, Source, SyncState};
use crate::redis::buffered_message::BufferedMessage;
use crate::redis::context::HubContext;
use crate::redis::ended::{lost, Ended};
use crate::redis::inbox::{Inbox, Push};
use crate::redis::link;
use crate::redis::message::{Control, Entry, Message};
use crate::redis::session::catch_up_queue::CaughtUp;
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::forget::is_later;
use crate::redis::session::heartbeat::agree;
use crate::redis::session::ingest::{is_fetched, parsed, MessageTarget};
use crate::redis::session::subscriptions::TOGETHER;
use crate::redis::session::{Holder, Session};
use crate::redis::subscribe::WantedChannel;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};
use crate::redis::token::{Agreed, Token};
use crate::sse::id::EntryId;

/// How long a connection waits for what streams in progress have missed before it serves.
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
        let clock = crate::redis::message::entries(&clock.unwrap_or(Value::Nil));
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
        let mut names = self.heard()?;
        // What an earlier connection has joined and nobody listens to any more is left in good order.
        names.extend(self.joined_by(self.tenant.seat.slot)?);
        let before = std::mem::take(&mut self.channels);
        let joined = self.join(names)?;
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
            let (some, refused) = self.joining().allowed(some.to_vec()).await.map_err(lost)?;
            subscribed.extend(some);
            self.refuse(refused)?;
        }
        let (caught, left) = self.catch_up_together(subscribed).await?;
        self.patiently(|| hub.new_epoch(fence))?;
        self.catching.unsettled = left.iter().map(|(name, _)| name.clone()).collect();
        self.append_all(&caught)?;
        self.patiently(|| hub.set_link(fence, RedisState::Up))?;
        for CaughtUp { name, known, fetched, .. } in &caught {
            self.settled(name, *known, fetched)?;
        }
        self.await_messages(&left);
        if left.is_empty() {
            self.patiently(|| hub.settled(fence))?;
        }
        self.catch_up(left);
        self.settle_doubts()?;
        self.wanted.extend(later);
        self.join_wanted();
        Ok(())
    }

    /// Fetches what these channels lack, as far as that is not much and comes soon; the others are left for
    /// later, for nothing is told to anybody meanwhile.
    async fn catch_up_together(
        &mut self,
        subscribed: Vec<WantedChannel>,
    ) -> Result<(Vec<CaughtUp>, Vec<WantedChannel>), Ended> {
        // Of patterns nothing is fetched. None is left for later: what they bring is taken at once, and a
        // gap before it has to be told first.
        let (patterns, mut left): (Vec<_>, Vec<_>) =
            subscribed.into_iter().partition(|(name, _)| pattern_of(name).is_some());
        if !left.is_empty() {
            self.asking().open().await.map_err(Ended::Lost)?;
        }
        let until = Instant::now() + SOON;
        let mut caught: Vec<CaughtUp> =
            patterns.into_iter().map(|(name, known)| CaughtUp::nothing(name, known)).collect();
        let (mut long, mut bytes) = (Vec::new(), 0);
        let most = self.joined.most_held();
        while !left.is_empty() && bytes < most {
            let asking = self.asking();
            let Ok(pages) = timeout_at(until, asking.first_pages(left.clone())).await else {
                break;
            };
            let pages = pages.map_err(Ended::Lost)?;
            self.refuse(pages.refused)?;
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

    /// Appends what was fetched of all channels and what has come meanwhile, in the order of the
    /// numbers: channels were asked one after the other, and a message of one may be older than what
    /// another had when it was asked.
    fn append_all(&mut self, caught: &[CaughtUp]) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        let (patterns, named): (Vec<_>, Vec<_>) =
            caught.iter().partition(|caught| pattern_of(&caught.name).is_some());
        let members = patterns.iter().filter_map(|caught| self.channels.get(&caught.name));
        let members: Vec<_> = members.map(|channel| channel.member).collect();
        self.patiently(|| hub.patterns_subscribed(fence, &members, self.clock))?;
        for CaughtUp { name, fetched, .. } in named {
            self.lose(name, fetched)?;
        }
        let pushes = self.inbox.take();
        let messages: Vec<_> = pushes.iter().map(|push| parsed(push, self.token)).collect();
        let latest = self.latest();
        let mut arrivals = Vec::new();
        let mut newest = HashMap::new();
        let mut mark = self.clock;
        for CaughtUp { name, known, fetched, .. } in caught {
            newest.insert(&name[..], fetched);
            // A number that is not believed stands where the one before it does.
            let mut order = EntryId::default();
            for entry in self.readable(name, &fetched.entries) {
                let arrival = self.fetched(name, *known, entry);
                order = arrival.provenance.entry_id().unwrap_or(order);
                arrivals.push((order, arrival));
            }
            mark = mark.max(fetched.newest.and_then(|id| id.checked(latest)).unwrap_or_default());
        }
        // What came before the first durable message came after everything that the clock had given.
        let mut told = self.clock;
        for (push, message) in pushes.iter().zip(&messages) {
            let whose = self.whose(push)?;
            if let MessageTarget::Control(Control::Forget(name, up_to)) = whose {
                self.forget(name, up_to)?;
                arrivals.retain(|(_, arrival): &(_, IncomingEvent<'_>)| {
                    arrival.channel != name || is_later(arrival.provenance, up_to)
                });
                continue;
            }
            if let MessageTarget::Control(Control::Doubtful(name, _)) = whose {
                // What was fetched of it may have been read before.
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.is_doubted(false);
                }
                continue;
            }
            let MessageTarget::Channel(name) = whose else { continue };
            if let Push::TooLarge { bytes, .. } = push {
                self.tell_too_large(name, *bytes);
            }
            let Some(message) = message else { continue };
            if let Message::Doubtful(id) = message {
                self.doubt_later(name, *id)?;
                continue;
            }
            let fetched = newest.get(name);
            if fetched.is_some_and(|fetched| is_fetched(message, fetched)) {
                continue;
            }
            let is_joining =
                |channel: &FollowedChannel| matches!(channel.state, SubscriptionState::Joining(_));
            if fetched.is_none() && self.channels.get(name).is_some_and(is_joining) {
                self.hold(name, BufferedMessage::of(message));
                continue;
            }
            let mut arrival = self.arrival(name, message);
            if !self.channels.get(name).is_some_and(FollowedChannel::comes_by_name) {
                arrival.provenance = arrival.provenance.strayed();
            }
            told = told.max(arrival.provenance.entry_id().unwrap_or_default());
            if let (Provenance::Live(id), Some(channel)) =
                (arrival.provenance, self.channels.get_mut(name))
            {
                channel.last = channel.last.max(id.reported());
            }
            arrivals.push((told, arrival));
        }
        // Stable: of one channel, and of what came as a message, they are in order already.
        arrivals.sort_by_key(|(number, _)| *number);
        let arrivals: Vec<_> = arrivals.into_iter().map(|(_, arrival)| arrival).collect();
        self.append(&arrivals)?;
        self.patiently(|| hub.raise_high_watermark(fence, mark))
    }
}
