//! Wakes the Redis thread when another process needs something from it, with one waker for all its
//! hubs.

use std::fs::File;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::redis::context::SharedWakers;

/// How often a thread without a waker polls.
const POLL: Duration = Duration::from_millis(50);

/// Changes whenever another process wakes the thread.
pub type Woken = watch::Receiver<()>;

/// The waker of the thread, shared by the sessions of all its hubs.
#[derive(Clone)]
pub struct ThreadWaker {
    /// Its number; `None` if none was left.
    pub waker: Option<usize>,
    /// Changes whenever the thread is woken.
    pub woken: Woken,
}

impl ThreadWaker {
    /// Claims a waker for the calling thread, and waits for it as long as there are sessions. If
    /// none is left, the sessions are woken every 50 ms.
    pub fn for_this_thread(wakers: &dyn SharedWakers) -> ThreadWaker {
        let (woken, receiver) = watch::channel(());
        let claimed = wakers.claim().and_then(|(waker, eventfd)| Ok((waker, readable(eventfd)?)));
        let (waker, eventfd) = match claimed {
            Ok((waker, eventfd)) => (Some(waker), Some(eventfd)),
            Err(_) => (None, None),
        };
        tokio::task::spawn_local(async move {
            while !woken.is_closed() {
                wait(eventfd.as_ref()).await;
                woken.send_replace(());
            }
        });
        ThreadWaker { waker, woken: receiver }
    }
}

/// Converts an eventfd to a pipe, which tokio can read.
fn readable(eventfd: File) -> std::io::Result<pipe::Receiver> {
    pipe::Receiver::from_file_unchecked(eventfd)
}

/// Waits until the thread is woken, and clears the eventfd; without one, waits for `POLL`.
async fn wait(eventfd: Option<&pipe::Receiver>) {
    match eventfd {
        Some(eventfd) if eventfd.readable().await.is_ok() => {
            // Its count is then 0.
            let _ = eventfd.try_read(&mut [0; 8]);
        }
        _ => sleep(POLL).await,
    }
}
