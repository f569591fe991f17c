//! Freeing expired entries: on demand, and in the background in a cache that nobody uses.

use super::store::Store;
use crate::rules::expiry::NEVER;
use crate::shard::outbox::Outbox;
use crate::words::clock::Ticking;
use crate::words::keeper::ScheduledJob;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::tick::Tick;
use std::sync::Weak;

/// How many slots are looked at while a shard's lock is held once: some tens of microseconds.
const AT_ONCE: usize = 1_024;

/// The shortest and the longest time between two background sweeps, in ticks: expired values of an unused
/// cache are freed a minute late at worst.
const PAUSE: std::ops::RangeInclusive<u64> = 1_000..=60_000;

/// What the keeper does for a store.
pub(super) struct Upkeep<T> {
    /// The store, as the keeper has it on its list.
    store: Weak<T>,
    /// Whether a sweep is on that list.
    is_swept: AtomicBool,
    /// Keeps the time for its look-ups.
    _ticking: Option<Ticking>,
}

impl<T> Upkeep<T> {
    pub(super) fn new(store: Weak<T>, ticking: Option<Ticking>) -> Self {
        Self { store, is_swept: AtomicBool::new(false), _ticking: ticking }
    }
}

impl<K, V, S> Store<K, V, S> {
    /// Frees every entry that has expired, or whose tag was removed; returns how many there were.
    pub(crate) fn sweep(&self) -> u64 {
        let mut freed = 0;
        for cell in &self.cells {
            let mut left = cell.shard.read().slots();
            while left > 0 {
                let mut out = Outbox::new();
                {
                    let mut shard = cell.shard.write();
                    let terms = self.terms();
                    if terms.now < shard.earliest(terms.tags) {
                        break;
                    }
                    freed += shard.examine(left.min(AT_ONCE), usize::MAX, &terms, &mut out);
                    left = left.saturating_sub(AT_ONCE);
                }
                self.deliver(out);
            }
            let mut out = Outbox::new();
            {
                let mut shard = cell.shard.write();
                shard.shrink();
                shard.release_failures(self.clock.now(), &mut out);
            }
        }
        self.tags.sweep();
        freed
    }

    /// The earliest tick at which anything may expire.
    fn earliest(&self) -> Tick {
        let earliest = self.cells.iter().map(|cell| cell.shard.read().earliest(&self.tags)).min();
        earliest.unwrap_or(Tick::MAX)
    }

    fn next_sweep(&self, now: Tick) -> Option<Tick> {
        let earliest = self.earliest();
        (earliest < NEVER)
            .then(|| now + earliest.saturating_sub(now).clamp(*PAUSE.start(), *PAUSE.end()))
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Something that expires was stored: sees to it that a sweep will come. With a manual clock none comes:
    /// nothing happens behind a test's back.
    pub(super) fn request_sweep(&self) {
        if self.upkeep.is_swept.load(Ordering::Relaxed) || self.clock.is_manual() {
            return;
        }
        if !self.upkeep.is_swept.swap(true, Ordering::SeqCst) {
            let now = self.clock.now();
            let at = self.next_sweep(now).unwrap_or(now + PAUSE.start());
            let me: Weak<dyn ScheduledJob> = self.upkeep.store.clone();
            self.clock.schedule(at, me);
        }
    }
}

impl<K, V, S> ScheduledJob for Store<K, V, S>
where
    K: Send + Sync,
    V: Send + Sync,
    S: Send + Sync,
{
    fn run(&self, now: Tick) -> Option<Tick> {
        self.sweep();
        self.next_sweep(now).or_else(|| {
            self.upkeep.is_swept.store(false, Ordering::SeqCst);
            // an insert between the look and the store of the flag found the flag still up
            let next = self.next_sweep(now)?;
            (!self.upkeep.is_swept.swap(true, Ordering::SeqCst)).then_some(next)
        })
    }
}
