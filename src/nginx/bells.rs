//! Bells: eventfds that wake the process which has a slot of a hub.
//!
//! Made by the master before it forks, once for a hub's zone, and kept over reloads, so that
//! workers of every generation hold all of them and can wake one another. Each configuration that
//! uses them holds a reference; the last one to go closes them.

use crate::redis::joined::Doorbells;
use crate::worker::Bells;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One eventfd for each slot of a hub.
pub struct EventFds(Vec<File>);

static KNOWN: Mutex<Vec<(String, Weak<EventFds>)>> = Mutex::new(Vec::new());

impl EventFds {
    /// The bells of the zone of this name: those of the configuration before, or `count` new ones.
    pub fn of_zone(zone: &str, count: usize) -> io::Result<Arc<EventFds>> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, bells)| bells.strong_count() > 0);
        let old = known.iter().find(|(name, _)| name == zone).and_then(|(_, old)| old.upgrade());
        if let Some(old) = old {
            return Ok(old);
        }
        let files = (0..count).map(|_| eventfd()).collect::<io::Result<Vec<_>>>()?;
        let new = Arc::new(EventFds(files));
        known.push((zone.to_owned(), Arc::downgrade(&new)));
        Ok(new)
    }

    /// The number of slots that have a bell.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Doorbells for EventFds {
    fn listen(&self, slot: usize) -> io::Result<File> {
        self.0.get(slot).ok_or(io::ErrorKind::NotFound)?.try_clone()
    }
}

impl Bells for EventFds {
    fn ring(&self, slot: usize) {
        // A bell that cannot take one more ring is ringing already.
        let _ = self.0.get(slot).map(|mut bell| bell.write(&1u64.to_ne_bytes()));
    }
}

/// The bells as a worker takes them.
pub struct Shared(pub Arc<EventFds>);

impl Bells for Shared {
    fn ring(&self, slot: usize) {
        self.0.ring(slot);
    }
}

/// A new eventfd that never blocks and is not handed on to other programs.
pub fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers are involved.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
