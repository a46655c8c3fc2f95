//! What the client of a stream has received elsewhere, or claims to have.

use crate::hub::{AlreadySeen, Now};
use crate::sse::id::EntryId;

/// What a client has had, or claims to have had, before its stream began.
#[derive(Debug)]
pub struct Past {
    pub seen: AlreadySeen,
    /// The id that it came with, if that is above everything here.
    pub claim: Option<Claim>,
}

/// An id above everything that this hub has seen.
#[derive(Debug)]
pub struct Claim {
    pub entry_id: EntryId,
    /// The id as the client has it.
    pub client_id: Box<[u8]>,
    /// The subscription in Redis, and since when it is there as far as this stream has seen (ms).
    pub epoch: u64,
    pub since: u64,
    /// Whether the stream is among those that the next tick serves: until then nothing is judged again.
    pub parked: bool,
}

impl Past {
    /// Of a stream that begins now. `None`: nothing that is to come here has been had.
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
