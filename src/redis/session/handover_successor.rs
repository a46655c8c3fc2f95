//! The successor's side of the takeover: it subscribes to what the holder subscribes to, and learns by
//! a marker, which both read at the same place among all messages, where the holder's work ends and its
//! own begins. `hub::handover` has the words that the two exchange.

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

/// How long the holder may take to answer, and to come to the marker.
const ANSWER: Duration = Duration::from_millis(500);
const MARKER: Duration = Duration::from_secs(2);
/// How often the region is looked at meanwhile.
const STEP: Duration = Duration::from_millis(2);

/// Takes the subscription over, for a process that holds the succession: the connection, live. `tenant`
/// makes the process's part of a fence.
pub async fn take_over(
    joined: Rc<HubContext>,
    seat: SlotClaim,
    tenant: impl Fn(FencingToken) -> Holder,
) -> Result<Session, Ended> {
    let hub = joined.hub.clone();
    let heir = fastrand::u64(1..);
    hub.announce_successor(heir).map_err(Ended::Locked)?;
    if let Some(holder) = hub.holder_slot() {
        joined.wake(&[holder]);
    }
    let frozen = wait_until(ANSWER, || hub.is_frozen(heir)).await;
    // The fence is not ours yet: nothing is appended before it is.
    let mut session = Session::connect(joined.clone(), tenant(FencingToken::none())).await?;
    session.read = hub.head();
    session.prepare().await?;
    session.subscribe_control().await?;
    session.subscribe_as_holder().await?;
    let behind = if frozen { session.read_marker(heir).await? } else { None };
    let passed = || hub.has_read_marker(heir) || !hub.is_retiring();
    let in_time = behind.is_some() && wait_until(MARKER, passed).await;
    let (fence, taken) = session.with_lock(|| hub.take_over(seat, heir, joined.now())).await?;
    session.tenant = tenant(fence);
    match (taken, behind) {
        (TakenOver::Behind(count), Some(behind)) => session.go_on(count, behind).await?,
        (_, behind) => {
            joined.log(
                LogLevel::Notice,
                format_args!(
                    "the subscription in Redis is taken over from a process that does not answer; \
                     plain messages of {} may be lost",
                    if in_time { "a moment" } else { "up to 2 s" }
                ),
            );
            session.begin_anew(behind).await?;
        }
    }
    Ok(session)
}

impl Session {
    /// Subscribes to the channels that the holder has in step.
    async fn subscribe_as_holder(&mut self) -> Result<(), Ended> {
        let hub = self.joined.hub.clone();
        let Some(holder) = hub.holder_slot() else { return Ok(()) };
        let names = self.joined_by(holder).await?;
        let joined = self.join(names).await?;
        if self.subscribe == Subscribe::First {
            let (_, refused) = self.joining().allowed(joined.clone()).await?;
            if let Some(why) = refused.why {
                // The holder may: its user has changed since.
                return Err(Ended::Lost(why));
            }
        }
        Ok(())
    }

    /// Publishes the marker and reads up to it: what has come behind it. `None`: it does not come back.
    async fn read_marker(&mut self, heir: u64) -> Result<Option<VecDeque<Push>>, Ended> {
        let control = self.joined.names.control();
        let publish = cmd("PUBLISH").arg(&control).arg(heir).to_owned();
        self.link.answer(async |to| publish.query_async::<i64>(to).await).await?;
        let marker = heir.to_string().into_bytes();
        let since = Instant::now();
        while since.elapsed() < MARKER {
            let _ = timeout(STEP * 10, self.inbox.filled()).await;
            let mut pushes = self.inbox.take();
            let at = pushes.iter().position(|push| {
                matches!(push, Push::Message { subject, payload }
                    if *subject == control && *payload == marker)
            });
            if let Some(at) = at {
                return Ok(Some(pushes.split_off(at + 1)));
            }
            if pushes.contains(&Push::End) {
                return Err(Ended::Lost("the connection is broken".into()));
            }
        }
        Ok(None)
    }

    /// The holder's work ends `count` plain messages behind the marker. Nothing was missed.
    async fn go_on(&mut self, count: u64, behind: VecDeque<Push>) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        for channel in self.channels.values_mut() {
            channel.state = SubscriptionState::InStep;
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
            // The holder did not come to look up a message.
            channel.is_doubted(false);
            channel.is_rewound = true;
        }
        self.repeats = Repeats::after_takeover(count, Instant::now());
        self.take(&behind).await?;
        self.settle_doubts().await?;
        self.find_end_of_repeats();
        self.read_all_streams();
        let heard = self.heard().await?;
        self.want(heard).await
    }

    /// Where the holder's work ended is not known: durable events are fetched, and of plain messages
    /// those behind the marker are new for sure.
    async fn begin_anew(&mut self, behind: Option<VecDeque<Push>>) -> Result<(), Ended> {
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
