//! What is subscribed to: just the channels that have streams. One is joined when somebody listens, and
//! left a while after the last one went, so that a client which reconnects finds it in step.

use ::redis::aio::MultiplexedConnection;
use ::redis::RedisError;

use super::catch_up::{fetch, Ask, Fetched};
use super::joined::{Joined, Level};
use super::message::{Durable, Message};
use super::session::{shown, Ended, Session};
use crate::hub::{Knowledge, Membership, Signal};
use crate::sse::escaped::Escaped;
use crate::sse::id::Stamp;

/// Channels in one SUBSCRIBE.
pub(super) const TOGETHER: usize = 512;
/// How long a channel without listeners stays subscribed, in ms.
const GRACE: u64 = 10_000;
/// How long after a refusal a channel is asked for again, in ms.
const RETRY: u64 = 10_000;

/// A channel that this process subscribes to.
pub struct Channel {
    pub member: Membership,
    pub state: State,
    /// The highest number of a durable event of it.
    pub last: Stamp,
    /// Since when nobody listens (ms).
    pub quiet: Option<u64>,
}

/// How far its subscription is.
pub enum State {
    /// Confirmation or history is on its way; messages wait for that.
    Joining { held: Vec<Held> },
    /// It has everything.
    InStep,
    /// Redis does not allow it; asked again then (ms).
    Refused { until: u64 },
}

/// A message that waits.
pub struct Held {
    /// The numbers, of a durable event.
    numbers: Option<(Stamp, Stamp)>,
    event_type: Vec<u8>,
    data: Vec<u8>,
}

/// What a task of the session brings back.
pub enum Done {
    /// Channels were subscribed to, and what they lacked was fetched.
    Joined { caught: Vec<Caught>, refused: Vec<Box<[u8]>> },
    /// Streams were read further.
    Read(super::streams::Round),
    /// The connection is of no use any more.
    Lost(String),
}

/// A channel that is to be joined, and what is known of it.
pub type Asked = (Box<[u8]>, Knowledge);

/// A channel that was asked for, and what is there of it.
pub struct Caught {
    pub name: Box<[u8]>,
    pub known: Knowledge,
    pub fetched: Fetched,
}

impl Held {
    /// A message, kept.
    pub fn of(message: &Message<'_>) -> Held {
        match message {
            Message::Plain(data) => {
                Held { numbers: None, event_type: Vec::new(), data: data.to_vec() }
            }
            Message::Durable(event) => Held {
                numbers: Some((event.id, event.prev)),
                event_type: event.event_type.to_vec(),
                data: event.data.to_vec(),
            },
        }
    }

    /// The message again.
    pub fn message(&self) -> Message<'_> {
        match self.numbers {
            None => Message::Plain((&self.data).into()),
            Some((id, prev)) => Message::Durable(Durable {
                id,
                prev,
                event_type: (&self.event_type).into(),
                data: (&self.data).into(),
            }),
        }
    }
}

impl Session {
    /// Looks for channels that were wanted since the last look.
    pub(super) fn look_at_log(&mut self) -> Result<(), Ended> {
        let hub = self.joined.hub.clone();
        let head = hub.head();
        let mut wanted = Vec::new();
        while self.read < head {
            let Some(descriptor) = hub.descriptor(self.read + 1) else {
                // The log was faster: the table knows.
                self.read = head;
                wanted = self.heard()?;
                break;
            };
            if descriptor.signal() == Some(Signal::Wanted) {
                let name = self.patiently_locked(|| hub.wanted_name(descriptor.channel))?;
                wanted.extend(name);
            }
            self.read += 1;
        }
        self.want(wanted)
    }

    /// All channels that some process has streams of.
    pub(super) fn heard(&self) -> Result<Vec<Vec<u8>>, Ended> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(bucket) = from {
            let (names, next) = self.patiently_locked(|| self.joined.hub.heard(bucket))?;
            all.extend(names);
            from = next;
        }
        Ok(all)
    }

    /// Subscribes to channels, if they are not subscribed to.
    pub(super) fn want(&mut self, names: Vec<Vec<u8>>) -> Result<(), Ended> {
        if names.is_empty() || self.is_frozen() {
            return Ok(());
        }
        let joined = self.join(names)?;
        for some in joined.chunks(TOGETHER) {
            let some = some.to_vec();
            self.spawn_join(some, self.subscribe);
        }
        Ok(())
    }

    /// Takes a place in the records of channels that are not subscribed to. Which, and what is known of
    /// them.
    pub(super) fn join(&mut self, names: Vec<Vec<u8>>) -> Result<Vec<Asked>, Ended> {
        let (hub, seat) = (self.joined.hub.clone(), self.tenant.seat);
        let mut joined = Vec::with_capacity(names.len());
        for name in names {
            if self.channels.contains_key(&name[..]) {
                continue;
            }
            let now = self.joined.now();
            let member = match hub.join(seat, &name, now) {
                Ok(member) => member,
                Err(crate::hub::JoinError::Full) => continue,
                Err(crate::hub::JoinError::Busy(locked)) => {
                    return Err(Ended::Lost(locked.to_string()))
                }
            };
            let known = self.patiently_locked(|| hub.knowledge(member))?;
            let name: Box<[u8]> = name.into();
            let state = State::Joining { held: Vec::new() };
            let channel = Channel { member, state, last: Stamp::default(), quiet: None };
            self.channels.insert(name.clone(), channel);
            joined.push((name, known));
        }
        Ok(joined)
    }

    fn spawn_join(&mut self, some: Vec<Asked>, subscribe: Subscribe) {
        let (mut connection, finished) = (self.link.connection.clone(), self.finished.clone());
        let (joined, terms) = (self.joined.clone(), self.terms());
        tokio::task::spawn_local(async move {
            let result = async {
                let (some, refused) = match subscribe {
                    Subscribe::First => allowed(&mut connection, &joined, some).await?,
                    Subscribe::Not => (some, Vec::new()),
                };
                let asks: Vec<Ask> = some
                    .iter()
                    .map(|(name, known)| Ask { key: joined.key(name), known: *known })
                    .collect();
                let fetched = fetch(&mut connection, &asks, terms).await?;
                let caught = some.into_iter().zip(fetched);
                let caught = caught
                    .map(|((name, known), fetched)| Caught { name, known, fetched })
                    .collect();
                Ok(Done::Joined { caught, refused })
            };
            let done = result.await.unwrap_or_else(|error: RedisError| Done::Lost(shown(&error)));
            let _ = finished.send(done);
        });
    }

    /// Events of a channel were missed before this message.
    pub(super) fn catch_up_again(&mut self, name: &[u8], message: Held) -> Result<(), Ended> {
        let Some(channel) = self.channels.get_mut(name) else { return Ok(()) };
        channel.state = State::Joining { held: vec![message] };
        let (member, known) = (channel.member, Knowledge::Interrupted(channel.last));
        let (hub, fence) = (&self.joined.hub, self.tenant.fence);
        self.patiently(|| hub.out_of_step(fence, member))?;
        self.spawn_join(vec![(name.into(), known)], Subscribe::Not);
        Ok(())
    }

    /// Takes what a task has brought.
    pub(super) fn finish(&mut self, done: Done) -> Result<(), Ended> {
        match done {
            Done::Lost(why) => Err(Ended::Lost(why)),
            Done::Read(round) => self.read_further(round),
            Done::Joined { caught, refused } => {
                // What has come before this must not be taken for something that comes after it.
                self.take_in()?;
                for Caught { name, known, fetched } in &caught {
                    self.settle(name, *known, fetched)?;
                }
                self.refuse(refused);
                Ok(())
            }
        }
    }

    /// Channels that the user may not subscribe to.
    pub(super) fn refuse(&mut self, names: Vec<Box<[u8]>>) {
        let until = self.joined.now().mono + RETRY;
        if let (Some(first), false) = (names.first(), self.told_refused) {
            self.told_refused = true;
            self.joined.log(
                Level::Warn,
                format_args!(
                    "Redis does not allow its user to subscribe to channel \"{}\", nor to {} others",
                    Escaped(first),
                    names.len() - 1
                ),
            );
        }
        for name in names {
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.state = State::Refused { until };
            }
        }
    }

    /// Asks again for channels that were refused a while ago.
    pub(super) fn retry_refused(&mut self) -> Result<(), Ended> {
        let now = self.joined.now().mono;
        let due =
            |channel: &Channel| matches!(channel.state, State::Refused { until } if until <= now);
        let names: Vec<Vec<u8>> = self
            .channels
            .iter()
            .filter(|(_, channel)| due(channel))
            .map(|(name, _)| name.to_vec())
            .collect();
        for name in &names {
            self.channels.remove(&name[..]);
        }
        self.want(names)
    }

    /// Leaves channels that nobody has listened to for a while.
    pub(super) fn leave_quiet(&mut self) -> Result<(), Ended> {
        if self.is_frozen() {
            return Ok(());
        }
        let (hub, fence, now) =
            (self.joined.hub.clone(), self.tenant.fence, self.joined.now().mono);
        let mut left = Vec::new();
        for (name, channel) in &mut self.channels {
            if matches!(channel.state, State::Joining { .. }) {
                continue;
            }
            // A lock that is not to be had now is to be had in a second.
            if hub.is_heard(channel.member).unwrap_or(true) {
                channel.quiet = None;
            } else if now.saturating_sub(*channel.quiet.get_or_insert(now)) >= GRACE {
                match hub.leave_unheard(fence, channel.member) {
                    Ok(true) => left.push(name.clone()),
                    Ok(false) => channel.quiet = None,
                    Err(crate::hub::BridgeError::Busy(_)) => {}
                    Err(crate::hub::BridgeError::Fenced) => return Err(Ended::Fenced),
                }
            }
        }
        for name in &left {
            self.channels.remove(name);
        }
        self.unsubscribe(left);
        Ok(())
    }

    fn unsubscribe(&self, names: Vec<Box<[u8]>>) {
        if names.is_empty() || self.subscribe == Subscribe::Not {
            return;
        }
        let mut connection = self.link.connection.clone();
        let subjects: Vec<Vec<u8>> = names.iter().map(|name| self.joined.subject(name)).collect();
        tokio::task::spawn_local(async move {
            for some in subjects.chunks(TOGETHER) {
                // A connection that fails tells so itself.
                let _ = connection.unsubscribe(some).await;
            }
        });
    }
}

/// Whether channels are to be subscribed to before they are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribe {
    First,
    /// They are already, or their streams are read instead.
    Not,
}

/// Subscribes, and waits for the confirmation: which channels are subscribed to now, and which the user
/// may not. One name that is forbidden has Redis refuse the whole command, so it is halved then.
pub(super) async fn allowed(
    connection: &mut MultiplexedConnection,
    joined: &Joined,
    some: Vec<Asked>,
) -> Result<(Vec<Asked>, Vec<Box<[u8]>>), RedisError> {
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    let mut left = vec![some];
    while let Some(mut some) = left.pop() {
        if some.is_empty() {
            continue;
        }
        let subjects: Vec<Vec<u8>> = some.iter().map(|(name, _)| joined.subject(name)).collect();
        match connection.subscribe(&subjects).await {
            Ok(()) => yes.append(&mut some),
            Err(error) if error.code() == Some("NOPERM") && some.len() > 1 => {
                let half = some.split_off(some.len() / 2);
                left.push(some);
                left.push(half);
            }
            Err(error) if error.code() == Some("NOPERM") => {
                no.extend(some.into_iter().map(|(name, _)| name));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((yes, no))
}
