//! Operations during which the process dies: the next owner of the lock finds each of them
//! completed or not begun, and performs it again.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use super::*;
use crate::hub::memory::region::Died;

impl Run {
    pub fn die(&mut self) {
        let stores = self.random.of(&[0, 1, 3, 6, 12, 24, 48, 96]) + self.random.below(8) as i64;
        match self.random.below(5) {
            0 => self.die_sweeping(stores),
            1 => self.die_changing_history(stores),
            _ => self.die_publishing(stores),
        }
    }

    /// Runs an operation that dies before its `stores`-th store. Returns whether it did.
    fn dies(&mut self, stores: i64, operation: impl FnOnce(&Hub)) -> bool {
        self.hub.region.die_before(stores);
        let ended = catch_unwind(AssertUnwindSafe(|| operation(&self.hub)));
        let is_alive = self.hub.region.defuse();
        if let Err(panic) = ended {
            if is_alive || !panic.is::<Died>() {
                resume_unwind(panic);
            }
        }
        if !is_alive {
            self.hub = Hub::attach(self.hub.region.clone()).unwrap();
            self.hub.check();
        }
        !is_alive
    }

    fn die_publishing(&mut self, stores: i64) {
        let (new, now) = (self.new_publish(), self.model.now);
        let mut done = None;
        if !self.dies(stores, |hub| done = Some(new.publish(hub, now))) {
            // As if it had been published just now.
            let done = done.unwrap();
            self.publish_done(&new, done);
            return;
        }
        self.is_settled = false;
        self.model.channels.entry(new.channel.clone()).or_default();
        let mut appended = 0;
        if self.hub.head() > self.model.head {
            appended = new.texts.len();
            let name = new.key_name();
            let known = name.as_ref().and_then(|name| self.model.key(name));
            assert!(known.is_none(), "a repetition was appended");
            let ids = self.model.append(&new.channel, &new.with_len(), new.finishes);
            if let Some(name) = name {
                self.model.remember(name, ids);
            }
        }
        self.model.sync(&self.hub, Wanted::Unknown(&new.channel), appended);
        self.publish_now(&new);
    }

    fn die_sweeping(&mut self, stores: i64) {
        let now = self.model.now;
        self.dies(stores, |hub| while !hub.sweep(now).unwrap().round {});
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        self.sweep_all();
    }

    fn die_changing_history(&mut self, stores: i64) {
        let (history, runs) = (self.new_history(), new_runs(&mut self.random));
        self.dies(stores, |hub| hub.set_history(history, runs).unwrap());
        (self.model.history, self.model.runs) = (history, runs);
        self.hub.set_history(history, runs).unwrap();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        // The history is the new one, so only sweeps move the channels that are left.
        self.sweep_all();
    }
}
