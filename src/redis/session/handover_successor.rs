//! The successor's side of a handover: it subscribes to the holder's channels and publishes a
//! marker. Both read it at the same place in the order of all messages, so it marks where the
//! holder stops and the successor continues. `hub::handover` has the words in shared memory that
//! the two exchange.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ::redis::cmd;
use tokio::time::{sleep, timeout, Instant};

use crate::hub::{Hub, Membership, RedisState, SyncState, TakenOver};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::Ended;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::inbox::Push;
use crate::redis::session::handover_steps::SETTLE;
use crate::redis::session::repeats::Repeats;
use crate::redis::session::{Holder, Session};
use crate::redis::subscribe::Subscribe;
use crate::redis::subscription_table::SubscriptionState;

/// How long the holder may take to respond and to settle, and to read the marker.
const REPLY: Duration = SETTLE.saturating_add(Duration::from_secs(1));
const MARKER: Duration = Duration::from_secs(2);
/// How often shared memory is polled meanwhile.
const STEP: Duration = Duration::from_millis(2);

/// A successor that is subscribed to the holder's channels. Nothing is lost if it is dropped: the
/// holder continues.
pub struct Successor {
    session: Session,
    number: u64,
    /// The messages after the marker, if both processes can have read it.
    behind: Option<VecDeque<Push>>,
    /// Whether the holder has read the marker, or does not need to.
    in_time: bool,
}

impl Successor {
    /// Subscribes to the holder's channels, for the process that holds the succession. `holder` is
    /// this process without a fencing token, so it appends nothing.
    pub async fn prepare(context: Rc<HubContext>, holder: Holder) -> Result<Successor, Ended> {
        let hub = context.hub.clone();
        let number = fastrand::u64(1..);
        hub.announce_successor(number).map_err(Ended::Locked)?;
        if let Some(holder) = hub.holder_slot() {
            context.wake(&[holder]);
        }
        wait_until(REPLY, || hub.is_frozen(number) || is_gone(&context)).await;
        let frozen = hub.is_frozen(number);
        let mut session = Session::connect(context, holder).await?;
        session.read = hub.head();
        session.prepare().await?;
        session.subscribe_control().await?;
        session.subscribe_as_holder().await?;
        let behind = if frozen { session.read_marker(number).await? } else { None };
        let passed = || hub.has_read_marker(number) || !hub.is_retiring();
        let in_time = behind.is_some() && wait_until(MARKER, passed).await;
        Ok(Successor { session, number, behind, in_time })
    }

    /// Takes the subscription over, and returns the live session. If this were interrupted, the
    /// messages after the marker would be lost.
    pub async fn take_over(self) -> Result<Session, Ended> {
        let Successor { mut session, number, behind, in_time } = self;
        let (context, claim) = (session.context.clone(), session.holder.claim);
        let take_over = || context.hub.take_over(claim, number, context.now());
        let (fence, taken) = session.with_lock(take_over).await?;
        session.holder.fence = fence;
        match (taken, behind) {
            (TakenOver::Behind(count), Some(behind)) => {
                session.continue_after(count, behind).await?;
            }
            (_, behind) => {
                context.log(
                    LogLevel::Notice,
                    format_args!(
                        "took over the subscription in Redis from a process that does not respond; \
                         plain messages of {} may be lost",
                        if in_time { "a moment" } else { "up to 2 s" }
                    ),
                );
                session.restart(behind).await?;
            }
        }
        Ok(session)
    }
}

impl Session {
    /// Subscribes to the channels that the holder has joined.
    async fn subscribe_as_holder(&mut self) -> Result<(), Ended> {
        let hub = self.context.hub.clone();
        let Some(holder) = hub.holder_slot() else { return Ok(()) };
        let names = self.joined_by(holder).await?;
        let added = self.join(names).await?;
        if self.subscribe == Subscribe::First {
            let (_, refused) = self.channel_subscriber().subscribe(added.clone()).await?;
            if let Some(why) = refused.why {
                // The holder may have subscribed before its user's permissions changed.
                return Err(Ended::Lost(why));
            }
        }
        Ok(())
    }

    /// Publishes the marker and returns the messages after it, or `None` if it does not arrive.
    async fn read_marker(&mut self, successor: u64) -> Result<Option<VecDeque<Push>>, Ended> {
        let control = self.context.names.control();
        let publish = cmd("PUBLISH").arg(&control).arg(successor).to_owned();
        self.link.reply(async |to| publish.query_async::<i64>(to).await).await?;
        let marker = successor.to_string().into_bytes();
        let since = Instant::now();
        while since.elapsed() < MARKER {
            let _ = timeout(STEP * 10, self.inbox.filled()).await;
            let mut pushes = self.inbox.take_all();
            let at = pushes.iter().position(|push| {
                matches!(push, Push::Message { subject, payload }
                    if *subject == control && *payload == marker)
            });
            if let Some(at) = at {
                return Ok(Some(pushes.split_off(at + 1)));
            }
            if pushes.contains(&Push::End) {
                return Err(Ended::Lost("the connection was lost".into()));
            }
        }
        Ok(None)
    }

    /// Continues after the `count` plain messages that the holder appended after the marker.
    /// Nothing was missed.
    async fn continue_after(&mut self, count: u64, behind: VecDeque<Push>) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        for channel in self.channels.values_mut() {
            channel.state = SubscriptionState::InSync;
            // The holder has gone on until now.
            if let SyncState::Left(had) | SyncState::Interrupted(had) = known(&hub, channel.member)?
            {
                channel.last = had;
                channel.counter = EntryCounter::starting_at(had, None);
            }
        }
        self.with_lock(|| hub.set_link(fence, RedisState::Up)).await?;
        for channel in self.channels.values_mut().filter(|channel| !hub.in_sync(&[channel.member]))
        {
            // The holder has not looked up a doubtful message.
            channel.is_doubted(false);
            channel.is_rewound = true;
        }
        self.repeats = Repeats::after_takeover(count, Instant::now());
        self.process(&behind).await?;
        self.settle_doubts().await?;
        self.find_end_of_repeats();
        self.read_all_streams();
        let names = self.channels_with_streams().await?;
        self.want(names).await
    }

    /// Continues when it is unknown where the holder stopped: durable events are fetched, and
    /// only plain messages after the marker are known to be new.
    async fn restart(&mut self, behind: Option<VecDeque<Push>>) -> Result<(), Ended> {
        self.inbox.put_back(behind.unwrap_or_default());
        self.begin_epoch().await
    }
}

/// Whether the holder has exited or does not respond.
fn is_gone(context: &HubContext) -> bool {
    // Only this process may take the lease, because it is the successor.
    context.hub.is_silent(context.now()) || context.hub.try_lease().is_some()
}

/// What the hub knows of a channel.
fn known(hub: &Hub, member: Membership) -> Result<SyncState, Ended> {
    hub.sync_state(member).map_err(Ended::Locked)
}

async fn wait_until(longest: Duration, condition: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !condition() {
        if since.elapsed() > longest {
            return false;
        }
        sleep(STEP).await;
    }
    true
}
