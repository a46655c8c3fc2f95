//! Decides which process holds a hub's subscription. One process holds it until it exits; the
//! others wait for the lease, or for a holder that is shutting down.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout, Instant};

use crate::hub::{Counter, FencingToken, LeaseError, LeaseGuard, Locked, RedisState, SlotClaim};
use crate::redis::backoff::Backoff;
use crate::redis::context::{HubContext, LogLevel, ThreadEvent};
use crate::redis::ended::Ended;
use crate::redis::phase::Phase;
use crate::redis::session::handover_successor::Successor;
use crate::redis::session::{Holder, Session};
use crate::redis::task::Task;
use crate::redis::wakes::ThreadWaker;

/// How often a process without the subscription checks whether it has to take over.
const LOOK: Duration = Duration::from_millis(200);
/// How often the holder of the subscription reports that it is alive.
const BEAT: Duration = Duration::from_millis(500);
/// How long connecting and synchronizing may take.
const OPENING: Duration = Duration::from_secs(30);
/// After a connection that was shorter than this, the next one is delayed briefly.
const SHORT: Duration = Duration::from_secs(1);
/// Number of consecutive short connections that is logged.
const MANY: u32 = 5;

/// How a process gets the subscription.
enum Chance {
    /// No process holds it.
    Lease(LeaseGuard),
    /// Its holder is shutting down, or does not respond.
    Succession(LeaseGuard),
}

/// Connects one hub to Redis while this process holds the subscription.
pub struct Supervisor {
    context: Rc<HubContext>,
    phase: watch::Receiver<Phase>,
    wakes: ThreadWaker,
    backoff: Backoff,
    /// When Redis became unreachable, if that has been logged.
    away: Option<Instant>,
    /// Whether a connection was lost or could not be made since the last one that succeeded.
    lost: bool,
    /// Whether it has been logged that the hub's lock is not available.
    locked: bool,
    /// Consecutive connections that did not last.
    short: u32,
}

impl Supervisor {
    /// Returns the supervisor of a hub.
    pub fn new(
        context: Rc<HubContext>,
        phase: watch::Receiver<Phase>,
        wakes: ThreadWaker,
    ) -> Supervisor {
        Supervisor {
            context,
            phase,
            wakes,
            backoff: Backoff::default(),
            away: None,
            lost: false,
            locked: false,
            short: 0,
        }
    }

    /// Runs the supervisor, and restarts it once if it panics.
    pub async fn supervised(
        context: Rc<HubContext>,
        phase: watch::Receiver<Phase>,
        wakes: ThreadWaker,
    ) {
        loop {
            let supervisor = Supervisor::new(context.clone(), phase.clone(), wakes.clone());
            if tokio::task::spawn_local(supervisor.run()).await.is_ok() {
                break;
            }
            context.log(
                LogLevel::Alert,
                format_args!(
                    "the task that manages the connection to Redis panicked and was restarted"
                ),
            );
            sleep(Duration::from_secs(1)).await;
        }
        context.outbox.put(ThreadEvent::Retired);
    }

    /// Holds the subscription whenever no other process does, until this process quits.
    pub async fn run(mut self) {
        while let Some(chance) = self.chance().await {
            let Some(slot) = self.context.hub.claim_slot() else {
                // No slot is free: another process will subscribe.
                drop(chance);
                self.pause(Duration::from_secs(1)).await;
                continue;
            };
            self.context.hub.set_waker(slot, self.wakes.waker);
            match chance {
                Chance::Lease(lease) => self.hold(lease, slot).await,
                Chance::Succession(held) => self.succeed(held, slot).await,
            }
            self.context.hub.release_slot(slot);
            // The cause is unlikely to be gone at once.
            self.pause(LOOK).await;
        }
    }

    async fn chance(&mut self) -> Option<Chance> {
        loop {
            if *self.phase.borrow_and_update() != Phase::Serving {
                return None;
            }
            let hub = &self.context.hub;
            // A successor has the fencing token before it has the lease, so no other process may
            // take the lease in between.
            if let Some(succession) = hub.try_succeed() {
                if let Some(lease) = hub.try_lease() {
                    return Some(Chance::Lease(lease));
                }
                if hub.is_retiring() || hub.is_silent(self.context.now()) {
                    return Some(Chance::Succession(succession));
                }
            }
            self.pause(LOOK).await;
        }
    }

    /// Waits until the time is over or the process's phase changes.
    async fn pause(&mut self, time: Duration) {
        let _ = timeout(time, self.phase.changed()).await;
    }

    /// Holds the lease, and with it the subscription.
    async fn hold(&mut self, _lease: LeaseGuard, slot: SlotClaim) {
        let Some(holder) = self.become_holder(slot).await else { return };
        self.connect_again(holder).await;
    }

    async fn become_holder(&mut self, slot: SlotClaim) -> Option<Holder> {
        let fence = loop {
            match self.context.hub.take_fencing_token(slot, self.context.now()) {
                Ok(fence) => break fence,
                Err(_) if *self.phase.borrow() == Phase::Serving => self.pause(LOOK).await,
                Err(_) => return None,
            }
        };
        Some(self.holder_with(slot, fence))
    }

    fn holder_with(&self, slot: SlotClaim, fence: FencingToken) -> Holder {
        Holder { claim: slot, fence, woken: self.wakes.woken.clone() }
    }

    /// Reconnects until this process no longer holds the subscription.
    async fn connect_again(&mut self, holder: Holder) {
        let _heartbeat = self.beat(holder.fence);
        loop {
            let opened = {
                let opening = Session::open(self.context.clone(), holder.clone());
                tokio::select! {
                    opened = timeout(OPENING, opening) => opened.unwrap_or_else(|_| {
                        Err(Ended::Lost("synchronizing the channels took too long".into()))
                    }),
                    _ = self.phase.changed() => return,
                }
            };
            let wait = match opened {
                Ok(session) => match self.serve(session).await {
                    Ok(wait) => wait,
                    Err(_) => return,
                },
                Err(Ended::Lost(why)) => self.away(&why),
                Err(Ended::Locked(locked)) => self.locked(locked),
                Err(_) => return,
            };
            let link = if self.away.is_some() { RedisState::Down } else { RedisState::Connecting };
            if self.context.hub.set_link(holder.fence, link) == Err(LeaseError::Fenced) {
                return;
            }
            self.pause(wait).await;
            while self.context.hub.is_stuck() && *self.phase.borrow() == Phase::Serving {
                self.pause(LOOK).await;
            }
            if *self.phase.borrow() != Phase::Serving {
                return;
            }
        }
    }

    /// Reports twice a second that this thread is alive, until the task is dropped.
    fn beat(&self, fence: FencingToken) -> Task {
        let context = self.context.clone();
        Task::spawn(async move {
            while context.hub.holds_token(fence) {
                context.hub.beat(fence, context.now());
                sleep(BEAT).await;
            }
        })
    }

    /// Serves a connection until it ends. Returns how long to wait before the next one if it was
    /// lost.
    async fn serve(&mut self, mut session: Session) -> Result<Duration, Ended> {
        self.is_back(&session.link.address);
        let since = Instant::now();
        let why = match session.live(&mut self.phase).await {
            Ended::Lost(why) => why,
            Ended::Locked(locked) => return Ok(self.locked(locked)),
            Ended::Fenced | Ended::Retired | Ended::Stopped => return Err(Ended::Retired),
        };
        self.lost = true;
        self.context
            .log(LogLevel::Info, format_args!("lost the connection to Redis, reconnecting: {why}"));
        // The next connection is usually stable. If it is not, there is no need to hurry.
        let short = since.elapsed() < SHORT;
        self.short = if short { self.short + 1 } else { 0 };
        if self.short == MANY {
            let what = format_args!(
                "connections to Redis keep failing shortly after they are established: {why}"
            );
            self.context.log(LogLevel::Warn, what);
        }
        Ok(if short { Duration::from_millis(fastrand::u64(50..250)) } else { Duration::ZERO })
    }

    fn is_back(&mut self, address: &str) {
        self.backoff.reset();
        if std::mem::take(&mut self.lost) {
            self.context.hub.count(Counter::Reconnects, 1);
        }
        if std::mem::take(&mut self.locked) {
            let what = format_args!("receiving events from Redis again");
            self.context.log(LogLevel::Notice, what);
        }
        if let Some(away) = self.away.take() {
            self.context.log(
                LogLevel::Notice,
                format_args!(
                    "Redis is reachable again at {address} after {} ms",
                    away.elapsed().as_millis()
                ),
            );
        }
    }

    /// Handles a hub that accepts no events. Returns how long to wait before the next connection.
    fn locked(&mut self, locked: Locked) -> Duration {
        self.lost = true;
        if !std::mem::replace(&mut self.locked, true) {
            let what = format_args!("cannot receive events from Redis: {locked}");
            self.context.log(LogLevel::Warn, what);
        }
        LOOK
    }

    /// Handles a connection that could not be made. Returns how long to wait before the next
    /// attempt.
    fn away(&mut self, why: &str) -> Duration {
        self.lost = true;
        if self.away.is_none() {
            self.away = Some(Instant::now());
            self.context.log(
                LogLevel::Warn,
                format_args!(
                    "Redis is unreachable: {why}; streams stay open, but publishing over HTTP is \
                     rejected until it is reachable again"
                ),
            );
        }
        self.backoff.next()
    }

    /// Takes over from a holder that is shutting down or stopped, and takes the lease when that
    /// process releases it.
    async fn succeed(&mut self, succession: LeaseGuard, slot: SlotClaim) {
        let candidate = self.holder_with(slot, FencingToken::none());
        let prepared = tokio::select! {
            prepared = Successor::prepare(self.context.clone(), candidate) => prepared,
            _ = self.phase.changed() => return,
        };
        let Ok(successor) = prepared else { return };
        let mut phase = self.phase.clone();
        // A process that is to quit completes this, and hands the subscription over again.
        let taken = tokio::select! {
            taken = successor.take_over() => taken,
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => return,
        };
        // If this failed, it is repeated, or the lease becomes free.
        let Ok(session) = taken else { return };
        let holder = session.holder.clone();
        let _heartbeat = self.beat(holder.fence);
        let hub = self.context.hub.clone();
        let _lease_task = Task::spawn(async move {
            let lease = loop {
                match hub.try_lease() {
                    Some(lease) => break lease,
                    None => sleep(LOOK / 4).await,
                }
            };
            drop(succession);
            let _held = lease;
            std::future::pending::<()>().await;
        });
        if let Ok(wait) = self.serve(session).await {
            self.pause(wait).await;
            self.connect_again(holder).await;
        }
    }
}
