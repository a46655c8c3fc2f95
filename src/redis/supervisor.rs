//! Which process holds the subscription of a hub: one of all, for as long as it lives. The others wait for
//! the lease, or for a holder that is about to leave.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout, Instant};

use crate::hub::{Counter, FencingToken, LeaseError, LeaseGuard, Locked, RedisState, SlotClaim};
use crate::redis::backoff::Backoff;
use crate::redis::context::{HubContext, LogLevel, ThreadEvent};
use crate::redis::ended::Ended;
use crate::redis::phase::Phase;
use crate::redis::session::handover_successor::take_over;
use crate::redis::session::{Holder, Session};
use crate::redis::task::Task;
use crate::redis::wakes::ThreadWaker;

/// How often a process that holds nothing checks whether it is needed.
const LOOK: Duration = Duration::from_millis(200);
/// How often the holder of the subscription reports that it lives.
const BEAT: Duration = Duration::from_millis(500);
/// How long connecting and catching up may take.
const OPENING: Duration = Duration::from_secs(30);
/// A connection that lasts shorter than this is followed by a short pause.
const SHORT: Duration = Duration::from_secs(1);
/// This many of these, one after the other, are logged.
const MANY: u32 = 5;

/// How a process gets the subscription.
enum Chance {
    /// Nobody holds it.
    Lease(LeaseGuard),
    /// Its holder wants to leave.
    Succession(LeaseGuard),
}

/// Connects one hub to Redis whenever it is this process's turn.
pub struct Supervisor {
    joined: Rc<HubContext>,
    phase: watch::Receiver<Phase>,
    wakes: ThreadWaker,
    backoff: Backoff,
    /// Since when Redis is away, once that has been logged.
    away: Option<Instant>,
    /// A connection was lost, or failed, since the last one that succeeded.
    lost: bool,
    /// The hub's lock was not available, and that has been logged.
    locked: bool,
    /// Consecutive connections that did not last.
    short: u32,
}

impl Supervisor {
    /// Returns the supervisor of a hub.
    pub fn new(
        joined: Rc<HubContext>,
        phase: watch::Receiver<Phase>,
        wakes: ThreadWaker,
    ) -> Supervisor {
        Supervisor {
            joined,
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
        joined: Rc<HubContext>,
        phase: watch::Receiver<Phase>,
        wakes: ThreadWaker,
    ) {
        loop {
            let bridge = Supervisor::new(joined.clone(), phase.clone(), wakes.clone());
            if tokio::task::spawn_local(bridge.run()).await.is_ok() {
                break;
            }
            joined.log(
                LogLevel::Alert,
                format_args!("the supervisor of its Redis connection panicked and starts again"),
            );
            sleep(Duration::from_secs(1)).await;
        }
        joined.outbox.put(ThreadEvent::Retired);
    }

    /// Holds the subscription whenever it is this process's turn, until the process quits.
    pub async fn run(mut self) {
        while let Some(chance) = self.chance().await {
            let Some(slot) = self.joined.hub.claim_slot() else {
                // No slot is free: other processes will do it.
                drop(chance);
                self.pause(Duration::from_secs(1)).await;
                continue;
            };
            self.joined.hub.set_waker(slot, self.wakes.waker);
            match chance {
                Chance::Lease(lease) => self.hold(lease, slot).await,
                Chance::Succession(held) => self.succeed(held, slot).await,
            }
            self.joined.hub.release_slot(slot);
            // Whatever ended that is not better at once.
            self.pause(LOOK).await;
        }
    }

    async fn chance(&mut self) -> Option<Chance> {
        loop {
            if *self.phase.borrow_and_update() != Phase::Serving {
                return None;
            }
            let hub = &self.joined.hub;
            // A successor has the fencing token before it has the lease, and nobody may get in between.
            if let Some(succession) = hub.try_succeed() {
                if let Some(lease) = hub.try_lease() {
                    return Some(Chance::Lease(lease));
                }
                if hub.is_retiring() || hub.is_silent(self.joined.now()) {
                    return Some(Chance::Succession(succession));
                }
            }
            self.pause(LOOK).await;
        }
    }

    /// Waits, unless the process is told to quit.
    async fn pause(&mut self, time: Duration) {
        let _ = timeout(time, self.phase.changed()).await;
    }

    /// Holds the lease over any number of connections.
    async fn hold(&mut self, _lease: LeaseGuard, slot: SlotClaim) {
        let Some(tenant) = self.tenant(slot).await else { return };
        self.connect_again(tenant).await;
    }

    async fn tenant(&mut self, slot: SlotClaim) -> Option<Holder> {
        let fence = loop {
            match self.joined.hub.take_fencing_token(slot, self.joined.now()) {
                Ok(fence) => break fence,
                Err(_) if *self.phase.borrow() == Phase::Serving => self.pause(LOOK).await,
                Err(_) => return None,
            }
        };
        Some(self.tenant_with(slot, fence))
    }

    fn tenant_with(&self, slot: SlotClaim, fence: FencingToken) -> Holder {
        Holder { seat: slot, fence, woken: self.wakes.woken.clone() }
    }

    /// Connects again and again, until this process has no part in the subscription any more.
    async fn connect_again(&mut self, tenant: Holder) {
        let _beats = self.beat(tenant.fence);
        loop {
            let opened = {
                let opening = Session::open(self.joined.clone(), tenant.clone());
                tokio::select! {
                    opened = timeout(OPENING, opening) => opened.unwrap_or_else(|_| {
                        Err(Ended::Lost("it takes too long to bring all channels in step".into()))
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
            if self.joined.hub.set_link(tenant.fence, link) == Err(LeaseError::Fenced) {
                return;
            }
            self.pause(wait).await;
            while self.joined.hub.is_stuck() && *self.phase.borrow() == Phase::Serving {
                self.pause(LOOK).await;
            }
            if *self.phase.borrow() != Phase::Serving {
                return;
            }
        }
    }

    /// Reports twice a second that this thread lives, whatever it is waiting for, until the task is dropped.
    fn beat(&self, fence: FencingToken) -> Task {
        let joined = self.joined.clone();
        Task::spawn(async move {
            while joined.hub.holds_token(fence) {
                joined.hub.beat(fence, joined.now());
                sleep(BEAT).await;
            }
        })
    }

    /// Serves a connection until it ends. Returns how long to wait before the next one if it was lost.
    async fn serve(&mut self, mut session: Session) -> Result<Duration, Ended> {
        self.is_back(&session.link.address);
        let since = Instant::now();
        let why = match session.live(&mut self.phase).await {
            Ended::Lost(why) => why,
            Ended::Locked(locked) => return Ok(self.locked(locked)),
            Ended::Fenced | Ended::Retired | Ended::Stopped => return Err(Ended::Retired),
        };
        self.lost = true;
        self.joined.log(
            LogLevel::Info,
            format_args!("the connection to Redis is lost, and made anew: {why}"),
        );
        // Nearly always the next connection lasts; where none does, there is no hurry.
        let short = since.elapsed() < SHORT;
        self.short = if short { self.short + 1 } else { 0 };
        if self.short == MANY {
            let what = format_args!("Redis ends its connections again and again: {why}");
            self.joined.log(LogLevel::Warn, what);
        }
        Ok(if short { Duration::from_millis(fastrand::u64(50..250)) } else { Duration::ZERO })
    }

    fn is_back(&mut self, address: &str) {
        self.backoff.reset();
        if std::mem::take(&mut self.lost) {
            self.joined.hub.count(Counter::Reconnects, 1);
        }
        if std::mem::take(&mut self.locked) {
            let what = format_args!("events are taken in from Redis again");
            self.joined.log(LogLevel::Notice, what);
        }
        if let Some(away) = self.away.take() {
            self.joined.log(
                LogLevel::Notice,
                format_args!("Redis is back at {address} after {} ms", away.elapsed().as_millis()),
            );
        }
    }

    /// Handles a hub that accepts no events. Returns how long to wait before the next connection.
    fn locked(&mut self, locked: Locked) -> Duration {
        self.lost = true;
        if !std::mem::replace(&mut self.locked, true) {
            let what = format_args!("nothing is taken in from Redis: {locked}");
            self.joined.log(LogLevel::Warn, what);
        }
        LOOK
    }

    /// Handles a connection that could not be made. Returns how long to wait before the next attempt.
    fn away(&mut self, why: &str) -> Duration {
        self.lost = true;
        if self.away.is_none() {
            self.away = Some(Instant::now());
            self.joined.log(
                LogLevel::Warn,
                format_args!(
                    "Redis is away: {why}; streams stay open, publishing over HTTP is refused \
                     until it is back"
                ),
            );
        }
        self.backoff.next()
    }

    /// Takes over from a holder that wants to leave, or is stopped, and gets the lease as soon as that
    /// process gives it up.
    async fn succeed(&mut self, succession: LeaseGuard, slot: SlotClaim) {
        let template = self.tenant_with(slot, FencingToken::none());
        let with = |fence| Holder { fence, ..template.clone() };
        let taken = tokio::select! {
            taken = take_over(self.joined.clone(), slot, with) => taken,
            _ = self.phase.changed() => return,
        };
        // If it failed it is tried again, or the lease becomes free.
        let Ok(session) = taken else { return };
        let tenant = session.tenant.clone();
        let _beats = self.beat(tenant.fence);
        let hub = self.joined.hub.clone();
        let _office = Task::spawn(async move {
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
            self.connect_again(tenant).await;
        }
    }
}
