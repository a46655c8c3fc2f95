//! Limits how often a problem is logged that can recur with every message.

use std::time::Duration;

use tokio::time::Instant;

/// Minimum interval between two log lines about the same problem.
const INTERVAL: Duration = Duration::from_secs(60);

/// Permits one log line about a problem per minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimit {
    logged: Option<Instant>,
}

impl LogLimit {
    /// Returns whether the problem may be logged now. The caller logs it then.
    pub fn permits(&mut self) -> bool {
        let is_permitted = self.logged.is_none_or(|logged| logged.elapsed() >= INTERVAL);
        if is_permitted {
            self.logged = Some(Instant::now());
        }
        is_permitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_logged_at_once_and_then_once_a_minute() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut limit = LogLimit::default();
            let mut at = Vec::new();
            for second in 0..200 {
                for _ in 0..3 {
                    if limit.permits() {
                        at.push(second);
                    }
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert_eq!(at, [0, 60, 120, 180]);
        });
    }

    #[test]
    fn a_minute_after_a_line_the_next_one_is_permitted() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut limit = LogLimit::default();
            assert!(limit.permits());
            tokio::time::advance(INTERVAL - Duration::from_millis(1)).await;
            assert!(!limit.permits());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(limit.permits());
        });
    }
}
