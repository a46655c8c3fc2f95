//! Events that a stream's client has received elsewhere, or claims to have.

use crate::hub::{Elsewhere, Now};
use crate::sse::id::EntryId;

/// What a client had received, or claims to have received, before its stream started.
#[derive(Debug)]
pub struct Past {
    pub elsewhere: Elsewhere,
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
    pub fn new(
        (elsewhere, claim): (Elsewhere, Option<EntryId>),
        client_id: &[u8],
        epoch: u64,
        now: Now,
    ) -> Option<Box<Past>> {
        let claim = claim.map(|entry_id| Claim {
            entry_id,
            client_id: client_id.into(),
            epoch,
            since: now.mono,
            parked: false,
        });
        let is_empty = elsewhere == Elsewhere::Nothing && claim.is_none();
        (!is_empty).then(|| Box::new(Past { elsewhere, claim }))
    }
}
