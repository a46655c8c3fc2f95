//! Descriptors that are held for connections to Redis, so that clients that wait for one cannot
//! keep a worker without descriptors (`worker_rlimit_nofile`) from connecting again.
//!
//! nginx tries every half second to accept a client. What is lent for a moment only is thereby
//! hardly ever lost to one.

use std::cell::RefCell;
use std::fs::File;
use std::time::Duration;

use tokio::time::sleep;

/// How many are held. A connection needs one, and the lookup of its host name another; a broken
/// connection's descriptor may be lost to a client before it is taken back.
const WANTED: usize = 4;
/// The pause between attempts to hold as many again.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause between checks while all are held.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static SPARE: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

/// A descriptor that was given up for somebody else to open one. Dropping it takes one back, if
/// there is one.
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

/// Holds the spare descriptors of this thread, and takes one back whenever there is one again.
/// Never ends.
pub(in crate::redis) async fn hold_spare() -> ! {
    loop {
        sleep(if refill() { IDLE_PAUSE } else { PAUSE }).await;
    }
}

/// Opens what is missing, as far as the process may. Returns whether all are held.
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
