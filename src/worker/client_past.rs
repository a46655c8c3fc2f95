//! Events that a stream's client has received elsewhere, or claims to have.

use crate::hub::{AlreadySeen, Now};
use crate::sse::id::EntryId;

/// What a client had received, or claims to have received, before its stream started.
#[derive(Debug)]
pub struct Past {
    pub seen: AlreadySeen,
    /// The client's id, if it is higher than every id of this hub.
    pub claim: Option<Claim>,
}

/// An id higher than every id that this hub has seen.
#[derive(Debug)]
pub struct Claim {
    pub entry_id: EntryId,
    /// The id as the client sent it.
    pub client_id: Box<[u8]>,
    /// The epoch of the subscription in Redis, and the time since when this stream has observed it
    /// (ms).
    pub epoch: u64,
    pub since: u64,
    /// Whether the stream waits for the next tick; until then the claim is not checked again.
    pub parked: bool,
}

impl Past {
    /// Returns the past of a stream that starts now; `None` if the client has received nothing of
    /// what is still to arrive.
    pub fn new(seen: AlreadySeen, client_id: &[u8], epoch: u64, now: Now) -> Option<Box<Past>> {
        let claim = (seen.ahead > EntryId::default()).then(|| Claim {
            entry_id: seen.ahead,
            client_id: client_id.into(),
            epoch,
            since: now.mono,
            parked: false,
        });
        (seen != AlreadySeen::default()).then(|| Box::new(Past { seen, claim }))
    }
}
