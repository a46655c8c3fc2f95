//! Descriptors that are held for connections to Redis, so that clients that wait for one cannot
//! keep a worker without descriptors (`worker_rlimit_nofile`) from connecting again. nginx tries to
//! accept clients every half second. A descriptor that is given up only for a moment is therefore
//! hardly ever lost to a client.

use std::cell::RefCell;
use std::fs::File;
use std::time::Duration;

use tokio::time::sleep;

/// Number of descriptors. A connection needs one, and resolving its host name another; a broken
/// connection's descriptor may be lost to a client before it is reopened.
const WANTED: usize = 4;
/// The pause between attempts to reopen missing ones.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause between checks while none is missing.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static SPARE: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

/// A descriptor that was given up so that a connection can open one. Dropping this value reopens
/// it, if possible.
pub(super) struct Lent;

/// Gives one spare descriptor up until the result is dropped.
pub(super) fn lend() -> Lent {
    SPARE.with_borrow_mut(Vec::pop);
    Lent
}

impl Drop for Lent {
    fn drop(&mut self) {
        refill();
    }
}

/// Holds the spare descriptors of this thread, and reopens missing ones when that is possible.
/// Never ends.
pub(in crate::redis) async fn hold_spare() -> ! {
    loop {
        sleep(if refill() { IDLE_PAUSE } else { PAUSE }).await;
    }
}

/// Opens the missing descriptors, as far as possible. Returns whether none is missing.
fn refill() -> bool {
    SPARE.with_borrow_mut(|spare| {
        while spare.len() < WANTED {
            let Ok(file) = File::open("/dev/null") else { return false };
            spare.push(file);
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_lent_descriptor_is_free_until_it_is_taken_back() {
        assert!(refill());
        assert_eq!(held(), WANTED);
        let lent = lend();
        assert_eq!(held(), WANTED - 1);
        drop(lent);
        assert_eq!(held(), WANTED);
    }
}
