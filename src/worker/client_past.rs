//! What the client of a stream has received elsewhere, or claims to have.

use crate::hub::{Had, Now};
use crate::sse::id::Stamp;

/// What a client has had, or claims to have had, before its stream began.
#[derive(Debug)]
pub struct Past {
    pub had: Had,
    /// The id that it came with, if that is above everything here.
    pub claim: Option<Claim>,
}

/// An id above everything that this hub has seen.
#[derive(Debug)]
pub struct Claim {
    pub stamp: Stamp,
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
    pub fn new(had: Had, client_id: &[u8], epoch: u64, now: Now) -> Option<Box<Past>> {
        let claim = (had.ahead > Stamp::default()).then(|| Claim {
            stamp: had.ahead,
            client_id: client_id.into(),
            epoch,
            since: now.mono,
            parked: false,
        });
        (had != Had::default()).then(|| Box::new(Past { had, claim }))
    }
}
