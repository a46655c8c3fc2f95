//! The successor's side of a handover: it subscribes to the holder's channels and publishes a
//! marker. Both read it at the same place in the order of all messages, so it marks where the
//! holder stops and the successor continues. `hub::handover` has the words in shared memory that
//! the two exchange.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ::redis::cmd;
use tokio::time::{sleep, timeout, Instant};

use crate::hub::{FencingToken, Hub, Membership, RedisState, SlotClaim, SyncState, TakenOver};
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::Ended;
use crate::redis::entry_counter::EntryCounter;
use crate::redis::inbox::Push;
use crate::redis::session::repeats::Repeats;
use crate::redis::session::{Holder, Session};
use crate::redis::subscribe::Subscribe;
use crate::redis::subscription_table::SubscriptionState;

/// How long the holder may take to respond, and to read the marker.
const REPLY: Duration = Duration::from_millis(500);
const MARKER: Duration = Duration::from_secs(2);
/// How often shared memory is polled meanwhile.
const STEP: Duration = Duration::from_millis(2);

/// Takes the subscription over, for the process that holds the succession. Returns the live
/// session. `as_holder` returns this process as a holder with a fencing token.
pub async fn take_over(
    context: Rc<HubContext>,
    claim: SlotClaim,
    as_holder: impl Fn(FencingToken) -> Holder,
) -> Result<Session, Ended> {
    let hub = context.hub.clone();
    let successor = fastrand::u64(1..);
    hub.announce_successor(successor).map_err(Ended::Locked)?;
    if let Some(holder) = hub.holder_slot() {
        context.wake(&[holder]);
    }
    let frozen = wait_until(REPLY, || hub.is_frozen(successor)).await;
    // Nothing is appended before this process has the fencing token.
    let mut session = Session::connect(context.clone(), as_holder(FencingToken::none())).await?;
    session.read = hub.head();
    session.prepare().await?;
    session.subscribe_control().await?;
    session.subscribe_as_holder().await?;
    let behind = if frozen { session.read_marker(successor).await? } else { None };
    let passed = || hub.has_read_marker(successor) || !hub.is_retiring();
    let in_time = behind.is_some() && wait_until(MARKER, passed).await;
    let (fence, taken) =
        session.with_lock(|| hub.take_over(claim, successor, context.now())).await?;
    session.holder = as_holder(fence);
    match (taken, behind) {
        (TakenOver::Behind(count), Some(behind)) => session.continue_after(count, behind).await?,
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
