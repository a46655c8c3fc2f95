//! The thread of a worker process that does all the work with Redis, on a runtime of its own, for
//! all hubs of the process that are connected to one.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::mpsc as startup;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::phase::Phase;
use super::publisher::{Publisher, PublisherRequest};
use super::wakes::ThreadWaker;
use crate::redis::context::{HubContext, ThreadEvent};
use crate::redis::link::hold_spare;
use crate::redis::supervisor::Supervisor;

/// How long remaining tasks may take when the thread ends.
const LAST: Duration = Duration::from_millis(100);

/// The running thread.
pub struct Thread {
    phase: watch::Sender<Phase>,
    requests: mpsc::UnboundedSender<(usize, PublisherRequest)>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts the thread with `spawn`, which must block all signals in it. `publish` refers to the
    /// hubs by their numbers.
    pub fn start(
        hubs: Vec<(usize, HubContext)>,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<Thread> {
        let (phase, watched) = watch::channel(Phase::Serving);
        let (requests, inbound) = mpsc::unbounded_channel();
        let (ready, started) = startup::channel();
        let main = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                let outbox = hubs.first().map(|(_, context)| context.outbox.clone());
                let local = LocalSet::new();
                let serving = AssertUnwindSafe(|| {
                    local.block_on(&runtime, run(hubs, watched, inbound));
                });
                if let (Err(_), Some(outbox)) = (catch_unwind(serving), outbox) {
                    outbox.put(ThreadEvent::Died);
                }
                drop(local);
                // A host name that is being resolved must not keep the process alive.
                runtime.shutdown_timeout(LAST);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        let handle = spawn(Box::new(main))?;
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Thread { phase, requests, handle: Some(handle) })
    }

    /// Passes on a request, whose result is put into the outbox. Returns false if the thread has
    /// ended.
    pub fn publish(&self, hub: usize, request: PublisherRequest) -> bool {
        self.requests.send((hub, request)).is_ok()
    }

    /// Hands the subscriptions over to other processes, because this one quits. Channels that are
    /// catching up are read before that, if it does not take longer than `patience`.
    /// `ThreadEvent::Retired` reports the completion for each hub.
    pub fn retire(&self, patience: Duration) {
        self.phase.send_replace(Phase::Retiring { patience });
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopping);
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

pub(super) async fn run(
    hubs: Vec<(usize, HubContext)>,
    mut phase: watch::Receiver<Phase>,
    mut requests: mpsc::UnboundedReceiver<(usize, PublisherRequest)>,
) {
    let Some((_, first)) = hubs.first() else { return };
    let wakes = ThreadWaker::for_this_thread(first.wakers);
    tokio::task::spawn_local(hold_spare());
    let mut publishers = Vec::new();
    let mut supervisors = Vec::new();
    for (number, context) in hubs {
        let context = Rc::new(context);
        let publisher = Rc::new(Publisher::new(context.clone()));
        let supervisor = Supervisor::supervised(context, phase.clone(), wakes.clone());
        publishers.push((number, publisher));
        supervisors.push(tokio::task::spawn_local(supervisor));
    }
    loop {
        tokio::select! {
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Stopping {
                    break;
                }
            }
            Some((hub, request)) = requests.recv() => {
                let publisher = publishers.iter().find(|(number, _)| *number == hub);
                if let Some((_, publisher)) = publisher {
                    tokio::task::spawn_local(publisher.clone().publish(request));
                }
            }
        }
    }
    // Each releases its locks, which only this thread can.
    for supervisor in supervisors {
        let _ = tokio::time::timeout(LAST, supervisor).await;
    }
}
