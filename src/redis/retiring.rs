//! A holder of the subscription leaves it to another process: its side of the takeover.

use std::time::Duration;

use tokio::time::Instant;

use super::channels::State;
use super::session::{Ended, Session};
use super::thread::Phase;
use crate::hub::BridgeError;

/// How long a successor is waited for.
const WAIT: Duration = Duration::from_secs(3);

/// How far a holder that wants to leave has come.
pub struct Retiring {
    since: Instant,
    /// The successor for which the subscription stays as it is.
    heir: Option<u64>,
}

impl Session {
    /// Whether the subscription must stay as it is, for a successor that makes the same.
    pub(super) fn is_frozen(&self) -> bool {
        self.retiring.as_ref().is_some_and(|retiring| retiring.heir.is_some())
    }

    /// The process is told to quit, or to end.
    pub(super) fn retire(&mut self, phase: Phase) -> Result<(), Ended> {
        match phase {
            Phase::Serving => Ok(()),
            Phase::Stopping => Err(Ended::Stopped),
            Phase::Retiring => {
                let (hub, fence) = (&self.joined.hub, self.tenant.fence);
                self.patiently(|| hub.retire(fence))?;
                self.retiring = Some(Retiring { since: Instant::now(), heir: None });
                Ok(())
            }
        }
    }

    /// One step further, every few milliseconds.
    pub(super) fn retire_further(&mut self) -> Result<(), Ended> {
        let Some(retiring) = &self.retiring else { return Ok(()) };
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        let waited = retiring.since.elapsed();
        if !hub.bears(fence) {
            return Err(Ended::Fenced);
        }
        if waited > WAIT || !hub.has_others(&[self.tenant.seat]) {
            return Err(Ended::Retired);
        }
        match (retiring.heir, hub.heir()) {
            (None, Some(heir)) => self.freeze(heir),
            (Some(known), Some(heir)) if known != heir => self.freeze(heir),
            (Some(_), _) => self.thaw_without_heir(),
            (None, None) => Ok(()),
        }
    }

    /// A successor has come: it gets the channels that are in step, and no other is taken up.
    fn freeze(&mut self, heir: u64) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        self.channels.retain(|channel| {
            let stays = matches!(channel.state, State::InStep);
            if !stays {
                // If not now, then with the seat.
                let _ = hub.leave(channel.member);
            }
            stays
        });
        self.patiently(|| hub.freeze(fence, heir))?;
        if let Some(retiring) = &mut self.retiring {
            retiring.heir = Some(heir);
        }
        Ok(())
    }

    /// The successor may be gone: then this process goes on until another comes.
    fn thaw_without_heir(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        let Some(held) = hub.try_succeed() else { return Ok(()) };
        match hub.forget_heir(fence, &held) {
            Ok(()) => {}
            Err(BridgeError::Fenced) => return Err(Ended::Fenced),
            Err(BridgeError::Busy(_)) => return Ok(()),
        }
        drop(held);
        if let Some(retiring) = &mut self.retiring {
            retiring.heir = None;
        }
        let heard = self.heard()?;
        self.want(heard)
    }
}
