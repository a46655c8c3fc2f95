//! A connection begins: the clock is set right, everything that is heard is subscribed to and caught
//! up, and only then live messages are taken. They wait in the inbox meanwhile.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::redis::{cmd, pipe, RedisError, Value};

use super::channels::Channels;
use super::inbox::Inbox;
use super::intake::{arrival, parsed, Whose};
use super::joined::Joined;
use super::joining::Caught;
use super::link;
use super::publisher::Publisher;
use super::session::{shown, Ended, Session, Tenant};
use super::subscriptions::TOGETHER;
use crate::hub::{How, Link, Source};
use crate::sse::id::{Id, Stamp};

impl Session {
    /// Connects, and brings everything in step.
    pub async fn open(
        joined: Rc<Joined>,
        tenant: Tenant,
        asker: Rc<Publisher>,
    ) -> Result<Session, Ended> {
        let mut session = Session::connect(joined, tenant, asker).await?;
        session.prepare().await?;
        session.subscribe_control().await?;
        session.begin_epoch().await?;
        Ok(session)
    }

    /// What is to be set or known before a connection serves.
    pub(super) async fn prepare(&mut self) -> Result<(), Ended> {
        match self.joined.hub.source() {
            Source::Streams => self.choose_way().await,
            Source::PubSub | Source::Alone => self.set_clock().await,
        }
    }

    /// Connects, without a subscription.
    pub(super) async fn connect(
        joined: Rc<Joined>,
        tenant: Tenant,
        asker: Rc<Publisher>,
    ) -> Result<Session, Ended> {
        let (inbox, pushes) = Inbox::new();
        let link = link::connect(&joined.address, &joined.names.clock(), Some(pushes))
            .await
            .map_err(|error| Ended::Lost(error.to_string()))?;
        Ok(Session::new(joined, tenant, link, inbox, asker))
    }

    /// Learns what time it is in Redis, raises the hub's clock there above all that was given, and says
    /// what history owes.
    async fn set_clock(&mut self) -> Result<(), Ended> {
        let names = &self.joined.names;
        let history = self.joined.hub.history();
        let mut pipeline = pipe();
        pipeline
            .cmd("TIME")
            .cmd("XREVRANGE")
            .arg(names.clock())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        pipeline
            .cmd("HSET")
            .arg(names.history())
            .arg("count")
            .arg(history.count)
            .arg("age")
            .arg(history.age)
            .ignore();
        let answer: Result<(Value, Value), _> =
            pipeline.query_async(&mut self.link.connection).await;
        let (time, clock) = match answer {
            Ok(answer) => answer,
            // Full, or read-only for this user: what is to be read can be read all the same.
            Err(error) if error.code().is_some() => self.read_clock().await.map_err(lost)?,
            Err(error) => return Err(lost(error)),
        };
        self.ahead = ahead(&time);
        let clock = super::message::entries(&clock).first().map(|entry| entry.id);
        let mark = self.patiently_locked(|| self.joined.hub.mark())?;
        self.clock = match clock {
            Some(clock) if clock >= mark => clock,
            None if mark == Stamp::default() => self.tick_clock("*").await,
            Some(_) | None => self.tick_clock(&format!("{}-{}", mark.ms, mark.seq)).await.max(mark),
        };
        Ok(())
    }

    /// Has the hub's clock give a number, this one or its own. Zero if it gives none: another nginx may
    /// have been faster, which is as good.
    async fn tick_clock(&mut self, id: &str) -> Stamp {
        let mut tick = cmd("XADD");
        tick.arg(self.joined.names.clock()).arg("MAXLEN").arg(1).arg(id).arg("t").arg("");
        let answer: Result<Vec<u8>, _> = tick.query_async(&mut self.link.connection).await;
        match answer.ok().and_then(|id| Id::parse(&id)) {
            Some(Id::Durable(stamp)) => stamp,
            _ => Stamp::default(),
        }
    }

    async fn read_clock(&mut self) -> Result<(Value, Value), RedisError> {
        let mut pipeline = pipe();
        let clock = self.joined.names.clock();
        pipeline.cmd("TIME").cmd("XREVRANGE").arg(clock).arg("+").arg("-").arg("COUNT").arg(1);
        pipeline.query_async(&mut self.link.connection).await
    }

    pub(super) async fn subscribe_control(&mut self) -> Result<(), Ended> {
        let control = self.joined.names.control();
        match self.link.connection.subscribe(control).await {
            Ok(()) => Ok(()),
            // Without it a takeover is not exact, all else is.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    /// From here on nothing counts as in step that this connection has not brought in step.
    pub(super) async fn begin_epoch(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        self.patiently(|| hub.new_epoch(fence))?;
        self.patiently(|| hub.set_link(fence, Link::Up))?;
        let mut names = self.heard()?;
        // What an earlier connection has joined and nobody listens to any more is left in good order.
        names.extend(self.joined_by(self.tenant.seat.slot)?);
        self.channels = Channels::default();
        let joined = self.join(names)?;
        let mut caught = Vec::with_capacity(joined.len());
        for some in joined.chunks(TOGETHER) {
            let joining = self.joining(self.subscribe).join(some.to_vec());
            let (some, refused) = joining.await.map_err(Ended::Lost)?;
            caught.extend(some);
            self.refuse(refused);
        }
        self.append_all(&caught)?;
        for Caught { name, known, fetched } in &caught {
            self.settled(name, *known, fetched)?;
        }
        Ok(())
    }

    /// Appends what was fetched of all channels and what has come meanwhile, in the order of the
    /// numbers: channels were asked one after the other, and a message of one may be older than what
    /// another had when it was asked.
    fn append_all(&mut self, caught: &[Caught]) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        for Caught { name, fetched, .. } in caught {
            self.lose(name, fetched)?;
        }
        let pushes = self.inbox.take();
        let messages: Vec<_> = pushes.iter().map(parsed).collect();
        let mut arrivals = Vec::new();
        let mut told = Stamp::default();
        for (push, message) in pushes.iter().zip(&messages) {
            let (Whose::Channel(name), Some(message)) = (self.whose(push)?, message) else {
                continue;
            };
            let arrival = arrival(name, message, self.joined.now().mono);
            if let How::Live(id) = arrival.how {
                told = told.max(id);
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.last = channel.last.max(id);
                }
            }
            arrivals.push((told, arrival));
        }
        for Caught { name, known, fetched } in caught {
            let entries = fetched.entries.iter();
            arrivals.extend(entries.map(|entry| (entry.id, self.fetched(name, *known, entry))));
        }
        // Stable: of one channel, and of what came as a message, they are in order already.
        arrivals.sort_by_key(|(number, _)| *number);
        let arrivals: Vec<_> = arrivals.into_iter().map(|(_, arrival)| arrival).collect();
        self.append(&arrivals)?;
        let newest = caught.iter().filter_map(|caught| caught.fetched.newest).max();
        let mark = newest.unwrap_or_default().max(self.clock);
        self.patiently(|| hub.raise_mark(fence, mark))
    }
}

pub(super) fn lost(error: RedisError) -> Ended {
    Ended::Lost(shown(&error))
}

/// What Redis' clock is ahead of this machine's (ms), by its answer to TIME.
pub(super) fn ahead(time: &Value) -> i64 {
    let Value::Array(parts) = time else { return 0 };
    let number = |value: Option<&Value>| match value {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    let (Some(seconds), Some(micros)) = (number(parts.first()), number(parts.get(1))) else {
        return 0;
    };
    let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    seconds.saturating_mul(1000).saturating_add(micros / 1000) - here as i64
}
