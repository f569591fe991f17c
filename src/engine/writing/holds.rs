//! Fences that are held for a while after their write, for replicas that lag.

use super::Leave;
use crate::engine::store::Store;
use crate::rules::expiry::NEVER;
use crate::words::clock::Alarm;
use crate::words::sync::Mutex;
use hashbrown::HashMap;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

/// The fences of one store that are held, with their alarms, which go with the store.
pub(in crate::engine) struct Holds(Mutex<Held>);

struct Held {
    /// The number of the last one.
    last: u64,
    /// By number. `None` until the alarm is set.
    alarms: HashMap<u64, Option<Alarm>, ahash::RandomState>,
}

impl Holds {
    pub(in crate::engine) fn new() -> Self {
        // the numbers are our own, no caller chooses them
        let alarms = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        Self(Mutex::new(Held { last: 0, alarms }))
    }

    fn add(&self) -> u64 {
        let mut held = self.0.lock();
        held.last += 1;
        let number = held.last;
        held.alarms.insert(number, None);
        number
    }

    /// Keeps the alarm. It may have rung already: then returns it.
    fn set(&self, number: u64, alarm: Alarm) -> Option<Alarm> {
        match self.0.lock().alarms.get_mut(&number) {
            Some(place) => place.replace(alarm),
            None => Some(alarm),
        }
    }

    fn remove(&self, number: u64) -> Option<Alarm> {
        self.0.lock().alarms.remove(&number).flatten()
    }
}

/// A fence that is held after its write, as its alarm calls it.
struct Hold<K, V, S> {
    store: Weak<Store<K, V, S>>,
    /// Its number among the held fences.
    number: u64,
    /// The key's hash, and the fence's number.
    fence: (u64, u64),
    key: K,
}

impl<K, V, S> Wake for Hold<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        let Some(store) = self.store.upgrade() else { return };
        // no lock is held when it is dropped
        drop(store.holds.remove(self.number));
        let clock = store.clock.clone();
        clock.aside(move || store.end_write_leaving(self.fence, &self.key, Leave::Nothing));
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Keeps a fence up for so many ticks from now, and ends the write then.
    pub(super) fn hold(self: &Arc<Self>, fence: (u64, u64), key: K, ticks: u64) {
        let number = self.holds.add();
        let at = self.clock.after(ticks.min(NEVER));
        let hold = Hold { store: Arc::downgrade(self), number, fence, key };
        let alarm = self.clock.alarm(at, Waker::from(Arc::new(hold)));
        drop(self.holds.set(number, alarm));
    }
}
