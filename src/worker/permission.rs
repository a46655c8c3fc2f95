//! What access checks say about a client whose stream is opened.

use super::keys::StreamKey;
use super::socket::Socket;
use super::Worker;
use crate::hub::{Now, UserHash};

/// What a client may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// When it ends, in ms of the wall clock.
    pub expires: Option<u64>,
    /// The user to whom it was given.
    pub user: Option<PermittedUser>,
}

/// A user whose access was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermittedUser {
    /// The user.
    pub hash: UserHash,
    /// How many users had been disconnected before the check.
    pub seen: u64,
}

impl<S: Socket> Worker<S> {
    /// Sets the permission of the client of a stream that has just been opened.
    pub fn set_permission(&mut self, key: StreamKey, permission: Permission, now: Now) {
        if let Some(expires) = permission.expires {
            self.set_expiry(key, expires, now);
        }
        if let Some(user) = permission.user {
            self.set_user(key, user);
        }
    }
}
