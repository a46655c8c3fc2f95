//! The connections that are subscribed, as reported by Redis.

use crate::drive::redis::Redis;
use crate::resp::RedisConnection;
use std::time::{Duration, Instant};

/// Polling interval.
const EVERY: Duration = Duration::from_millis(2);
/// Maximum waiting time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is subscribed to something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subscriber {
    pub id: u64,
    pub channels: usize,
}

/// Polls Redis' list of clients.
pub struct SubscriberWatch(RedisConnection);

impl SubscriberWatch {
    pub fn open(redis: &Redis) -> Result<Self, String> {
        redis.connect().map(Self)
    }

    pub fn subscribers(&mut self) -> Result<Vec<Subscriber>, String> {
        Ok(self.0.ask(&["CLIENT", "LIST"])?.lines().filter_map(subscriber).collect())
    }

    /// Waits until the subscribers satisfy the condition, and returns when they did.
    pub fn wait(
        &mut self,
        what: &str,
        wanted: impl Fn(&[Subscriber]) -> bool,
    ) -> Result<Instant, String> {
        let since = Instant::now();
        loop {
            let found = self.subscribers()?;
            if wanted(&found) {
                return Ok(Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("{what}: not within {PATIENCE:?}; there are {found:?}"));
            }
            std::thread::sleep(EVERY);
        }
    }
}

fn subscriber(line: &str) -> Option<Subscriber> {
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
    let channels = field("sub=")?.parse().ok().filter(|channels| *channels > 0)?;
    Some(Subscriber { id: field("id=")?.parse().ok()?, channels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_as_redis_lists_them() {
        let line = "id=7 addr=127.0.0.1:1 fd=8 name= age=0 db=0 sub=12 psub=0 multi=-1";
        assert_eq!(subscriber(line), Some(Subscriber { id: 7, channels: 12 }));
        assert_eq!(subscriber("id=7 sub=0 psub=0"), None);
    }
}
