//! Users that an administrator has disconnected, and whose tokens were revoked.
//!
//! The region has a ring of the users that were disconnected last, with a counter of all that ever
//! were. A process compares the counter with the one that it has seen, and reads what is new. If it
//! has missed more than the ring holds, it cannot determine which users were disconnected. Users
//! are stored as keyed hashes of their names, so names of any length fit.

use std::hash::Hasher;

use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{header, revocation};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::{Hub, Now};

/// A user, as a keyed hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserHash(u64);

/// The users that were disconnected after a certain one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectedUsers {
    /// These, each with its number.
    Listed(Vec<(u64, UserHash)>),
    /// Too many to be known. The number is that of the last one.
    Unknown(u64),
}

/// The revocation of a user's tokens. Times are in ms of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The user.
    pub user: UserHash,
    /// Tokens that were issued before this time are revoked.
    pub issued_before: u64,
    /// When the revocation ends.
    pub until: u64,
}

/// A user that an entry of Redis' stream disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedUser {
    /// The number of the entry.
    pub number: u64,
    /// The user.
    pub user: UserHash,
    /// The revocation of its tokens, if they are revoked.
    pub revocation: Option<Revocation>,
}

/// What a revocation has replaced in a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displaced {
    /// Nothing that was in force.
    Nothing,
    /// The revocation that would have ended first.
    Revocation,
}

impl Hub {
    /// Returns the hash of a user's name.
    pub fn user(&self, name: &[u8]) -> UserHash {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.region.get(header::SEED));
        // Channels' names have hashes with the same key.
        hasher.write(b"user ");
        hasher.write(name);
        UserHash(hasher.finish())
    }

    /// Returns how many users were disconnected.
    pub fn disconnections(&self) -> u64 {
        self.region.get(header::DISCONNECTIONS)
    }

    /// Disconnects a user. All processes must be woken afterwards.
    pub fn disconnect(&self, user: UserHash) -> Result<(), Locked> {
        let guard = self.lock()?;
        let mut change = guard.change();
        guard.disconnect(&mut change, user);
        change.commit();
        Ok(())
    }

    /// Returns the users that were disconnected after the one with this number.
    pub fn disconnected_since(&self, number: u64) -> Result<DisconnectedUsers, Locked> {
        let guard = self.lock()?;
        let newest = guard.get(header::DISCONNECTIONS);
        if newest.saturating_sub(number) > self.layout.users as u64 {
            return Ok(DisconnectedUsers::Unknown(newest));
        }
        let user = |number| (number, UserHash(guard.get(self.layout.disconnected(number))));
        Ok(DisconnectedUsers::Listed((number + 1..=newest).map(user).collect()))
    }

    /// Returns the number of changes of the revocations.
    pub fn revocation_changes(&self) -> u64 {
        self.region.get(header::REVOCATION_CHANGES)
    }

    /// Revokes a user's tokens at `now` (ms of the wall clock). An earlier revocation of the user is
    /// not shortened. In a full table, replaces the revocation that ends first.
    pub fn revoke(&self, new: Revocation, now: u64) -> Result<Displaced, Locked> {
        let guard = self.lock()?;
        let mut change = guard.change();
        let displaced = guard.revoke(&mut change, new, now);
        change.commit();
        Ok(displaced)
    }

    /// Returns the number of the newest entry of Redis' stream of disconnected users that was read.
    pub fn users_read(&self) -> u64 {
        self.region.get(header::USERS_READ)
    }

    /// Disconnects a user because of an entry of Redis' stream. All processes must be woken
    /// afterwards.
    pub fn apply_users(
        &self,
        token: FencingToken,
        reported: &ReportedUser,
        now: Now,
    ) -> Result<Displaced, LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        let displaced = match reported.revocation {
            Some(revocation) => guard.revoke(&mut change, revocation, now.wall),
            None => Displaced::Nothing,
        };
        guard.disconnect(&mut change, reported.user);
        change.set(header::USERS_READ, reported.number);
        change.commit();
        Ok(displaced)
    }

    /// Records that entries of Redis' stream up to this number are missing, so that it is unknown
    /// which users were disconnected. All processes must be woken afterwards.
    pub fn lose_users(&self, token: FencingToken, number: u64) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        // More than the ring holds.
        change.add(header::DISCONNECTIONS, self.layout.users as i64 + 1);
        change.set(header::USERS_READ, number);
        change.commit();
        Ok(())
    }

    /// Returns all revocations, and the number of changes that have led to them.
    pub fn all_revocations(&self) -> Result<(u64, Vec<Revocation>), Locked> {
        let guard = self.lock()?;
        let read = |entry: usize| {
            let word = |word| guard.get(self.layout.revocation(entry, word));
            let (issued_before, until) = (word(revocation::ISSUED_BEFORE), word(revocation::UNTIL));
            Revocation { user: UserHash(word(revocation::USER)), issued_before, until }
        };
        let all = (0..self.layout.users).map(read).filter(|entry| entry.until != 0).collect();
        Ok((guard.get(header::REVOCATION_CHANGES), all))
    }

    /// Returns when the revocation of a user's tokens ends, in ms of the wall clock; 0 if they were
    /// not revoked.
    pub fn revocation_end(&self, user: UserHash) -> Result<u64, Locked> {
        let (_, all) = self.all_revocations()?;
        let own = all.into_iter().find(|entry| entry.user == user);
        Ok(own.map_or(0, |entry| entry.until))
    }
}

impl Guard<'_> {
    /// Adds a user to the ring.
    fn disconnect(&self, change: &mut Transaction<'_>, user: UserHash) {
        let number = self.get(header::DISCONNECTIONS) + 1;
        change.set(self.hub.layout.disconnected(number), user.0);
        change.set(header::DISCONNECTIONS, number);
    }

    /// Adds a revocation to the table: to the same user's, which it does not shorten, or in the
    /// place of none, or of the one that ends first.
    fn revoke(&self, change: &mut Transaction<'_>, new: Revocation, now: u64) -> Displaced {
        let layout = &self.hub.layout;
        let until = |entry: usize| self.get(layout.revocation(entry, revocation::UNTIL));
        let user = |entry: usize| self.get(layout.revocation(entry, revocation::USER));
        let own = |entry: &usize| user(*entry) == new.user.0 && until(*entry) != 0;
        let all = 0..layout.users;
        let place = all.clone().find(own).or_else(|| all.min_by_key(|entry| until(*entry)));
        let Some(entry) = place else { return Displaced::Nothing };
        let (mut issued_before, mut end) = (new.issued_before, new.until);
        let is_own = own(&entry);
        if is_own {
            let known = self.get(layout.revocation(entry, revocation::ISSUED_BEFORE));
            (issued_before, end) = (issued_before.max(known), end.max(until(entry)));
        }
        let is_displaced = !is_own && until(entry) > now;
        change.set(layout.revocation(entry, revocation::USER), new.user.0);
        change.set(layout.revocation(entry, revocation::ISSUED_BEFORE), issued_before);
        change.set(layout.revocation(entry, revocation::UNTIL), end);
        change.add(header::REVOCATION_CHANGES, 1);
        if is_displaced {
            Displaced::Revocation
        } else {
            Displaced::Nothing
        }
    }
}
