//! Users that were disconnected, on this or another nginx. They are entries of a stream in Redis,
//! which is read once a second, so that nothing is lost while the connection is.
//!
//! The id of an entry is its number. If some are missing, or the stream was deleted, it is unknown
//! which users were disconnected, and the streams of all users end.

use ::redis::{cmd, Cmd, RedisError};

use crate::hub::{Displaced, ReportedUser, Revocation};
use crate::redis::context::LogLevel;
use crate::redis::ended::{shown, Ended};
use crate::redis::link::{Link, Unanswered};
use crate::redis::script::KEPT;
use crate::redis::session::Session;
use crate::redis::stream_page::is_its_own;

/// An entry of the stream: its id, and its fields and values.
type UserEntry = (String, Vec<Vec<u8>>);

/// What was read of the stream.
#[derive(Debug, Default)]
struct UsersRead {
    /// The number of its newest entry; 0 if it has none.
    newest: u64,
    /// The entries after the one that was known, oldest first.
    entries: Vec<UserEntry>,
}

impl Session {
    /// Reads the stream, unless it is being read.
    pub(in crate::redis) fn request_users(&mut self) {
        if std::mem::replace(&mut self.users_requested, true) {
            return;
        }
        let (link, key) = (self.link.clone(), self.context.names.users());
        let known = self.context.hub.users_read();
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            let read = read_users(&link, key, known).await;
            finished.report(Ok(read), async move |session: &mut Session, read| {
                session.users_requested = false;
                match read {
                    Ok(read) => session.apply_users(known, read).await,
                    Err(Unanswered::Failed(error)) if is_its_own(&error) => {
                        session.log_users_refused(&error);
                        Ok(())
                    }
                    // The next attempt, or the heartbeat, shows whether the connection is lost. If
                    // it is, its end follows the messages that it has still delivered.
                    Err(Unanswered::Failed(_) | Unanswered::Stalled) => Ok(()),
                }
            });
        });
    }

    fn log_users_refused(&mut self, error: &RedisError) {
        if !std::mem::replace(&mut self.users_refusal_logged, true) {
            self.context.log(
                LogLevel::Warn,
                format_args!(
                    "cannot read which users were disconnected ({}): {}; their streams \
                     continue, and their tokens are not revoked here",
                    String::from_utf8_lossy(&self.context.names.users()),
                    shown(error),
                ),
            );
        }
    }

    /// Disconnects the users in these entries, which follow the one with the number `known`.
    async fn apply_users(&mut self, known: u64, read: UsersRead) -> Result<(), Ended> {
        if read.newest == known {
            return Ok(());
        }
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        let mut number = known;
        for (id, fields) in &read.entries {
            let Some(next) = number_of(id) else { continue };
            if next != number + 1 {
                // Entries in between are missing. They count as read, or a process that follows one
                // that dies before the next entry would end all streams once more.
                self.with_lock(|| hub.lose_users(fence, next - 1)).await?;
            }
            number = next;
            let text = |name: &[u8]| {
                let mut pairs = fields.chunks_exact(2);
                let value = pairs.find_map(|pair| match pair {
                    [key, value] if key == name => Some(value.as_slice()),
                    _ => None,
                });
                value.unwrap_or_default()
            };
            let time = |name| std::str::from_utf8(text(name)).ok()?.parse::<u64>().ok();
            let user = hub.user(text(b"user"));
            let (issued_before, until) = (time(b"issued_before"), time(b"until"));
            let revocation = match (issued_before, until.filter(|until| *until != 0)) {
                (Some(issued_before), Some(until)) => {
                    Some(Revocation { user, issued_before, until })
                }
                _ => None,
            };
            let (reported, now) = (ReportedUser { number, user, revocation }, self.context.now());
            let applied = self.with_lock(|| hub.apply_users(fence, &reported, now)).await?;
            if applied == Displaced::Revocation {
                self.context.log(
                    LogLevel::Warn,
                    format_args!(
                        "too many revoked users; the revocation that would have ended first is no \
                         longer in force"
                    ),
                );
            }
        }
        if number != read.newest {
            // The stream was deleted, and has perhaps begun again.
            self.with_lock(|| hub.lose_users(fence, read.newest)).await?;
        }
        let all: Vec<usize> = (0..hub.slots()).collect();
        self.context.wake(&all);
        Ok(())
    }
}

/// Reads the entries after the one with the number `known`.
async fn read_users(link: &Link, key: Vec<u8>, known: u64) -> Result<UsersRead, Unanswered> {
    let mut newest = cmd("XREVRANGE");
    newest.arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
    let newest = request(link, newest).await?;
    let newest = newest.first().and_then(|(id, _)| number_of(id)).unwrap_or(0);
    if newest <= known {
        return Ok(UsersRead { newest, entries: Vec::new() });
    }
    let mut range = cmd("XRANGE");
    range.arg(&key).arg(format!("{}-0", known + 1)).arg(format!("{newest}-0"));
    range.arg("COUNT").arg(KEPT);
    Ok(UsersRead { newest, entries: request(link, range).await? })
}

async fn request(link: &Link, command: Cmd) -> Result<Vec<UserEntry>, Unanswered> {
    link.reply(async |to| command.query_async(to).await).await
}

/// Returns the number of an entry with this id.
fn number_of(id: &str) -> Option<u64> {
    let (number, _) = id.split_once('-')?;
    number.parse().ok().filter(|number| *number < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_entry_is_the_first_part_of_its_id() {
        assert_eq!(["0-0", "7-0", "7-1"].map(number_of), [Some(0), Some(7), Some(7)]);
        assert_eq!(["", "7", "-1", "x-0", "-"].map(number_of), [None; 5]);
        // The number after it is one, too.
        let last = [u64::MAX - 1, u64::MAX].map(|number| number_of(&format!("{number}-0")));
        assert_eq!(last, [Some(u64::MAX - 1), None]);
    }
}
