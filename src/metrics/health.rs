//! Health checks of load balancers: one word, and a status by which they decide.

use crate::hub::RedisState;

/// The content type of the response.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Whether this nginx should receive new streams. The order is by severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Everything works.
    Ok,
    /// Redis cannot be reached. Streams stay open and can be opened; other instances that use the
    /// same Redis are in the same state, so no load balancer should act on it.
    Degraded,
    /// The hub's lock is not available, so streams cannot be opened.
    Locked,
    /// The process is shutting down.
    Draining,
}

impl Health {
    /// Returns the health of a hub whose lock is available.
    pub fn with_redis(redis: RedisState) -> Health {
        match redis {
            RedisState::Off | RedisState::Up => Health::Ok,
            RedisState::Connecting | RedisState::Down => Health::Degraded,
        }
    }

    /// Returns the body of the response, a line.
    pub fn line(self) -> &'static str {
        match self {
            Health::Ok => "ok\n",
            Health::Degraded => "degraded\n",
            Health::Locked => "locked\n",
            Health::Draining => "draining\n",
        }
    }

    /// Returns the HTTP status: 200 if the instance should stay in a load balancer, or else 503.
    pub fn status(self) -> u16 {
        if self <= Health::Degraded {
            200
        } else {
            503
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_without_redis_stays_in_the_load_balancer() {
        let statuses = [Health::Ok, Health::Degraded, Health::Locked, Health::Draining]
            .map(|health| (health.line(), health.status()));
        let expected = [("ok\n", 200), ("degraded\n", 200), ("locked\n", 503), ("draining\n", 503)];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn the_worst_hub_counts() {
        let worst = [Health::Degraded, Health::Locked, Health::Ok].into_iter().max();
        assert_eq!(worst, Some(Health::Locked));
    }

    #[test]
    fn only_a_hub_that_misses_its_redis_is_degraded() {
        use RedisState::{Connecting, Down, Off, Up};
        let of = |states: [RedisState; 2]| states.map(Health::with_redis);
        assert_eq!(of([Off, Up]), [Health::Ok; 2]);
        assert_eq!(of([Connecting, Down]), [Health::Degraded; 2]);
    }
}
