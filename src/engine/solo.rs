//! A load without a flight, as most are: one that nobody but its caller knows of. In a cache that needs nothing
//! of a load but its value, a load begins in a *seat* on its shard's board, and gets a flight only if somebody
//! else comes for its key.
//!
//! In every case that is not simple it becomes a [`Lead`].

use super::lead::{Lead, Progress};
use super::store::Store;
use super::unreported::Unreported;
use crate::parts::credit::Credit;
use crate::parts::stack;
use crate::rules::loaded::Loaded;
use crate::shard::outbox::Outbox;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::sync::Arc;

/// Identifies such a load by an address, which is unique while its caller does not move this.
#[derive(Debug)]
pub(crate) struct Alias(u8);

impl Alias {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }
}

/// The right and the duty to load a key, as a [`Lead`] has it.
pub(crate) struct Solo<'s, K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    store: &'s Arc<Store<K, V, S>>,
    hash: u64,
    alias: &'s Alias,
    began: Tick,
    /// It has landed, or a [`Lead`] will land it.
    is_over: bool,
}

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Begins such a load; `None` if the key is being loaded, cached or the like, or if this cache needs flights
    /// for its loads.
    #[inline]
    pub(crate) fn begin_solo<'s, Q>(
        self: &'s Arc<Self>,
        hash: u64,
        key: &Q,
        alias: &'s Alias,
    ) -> Option<Solo<'s, K, V, S>>
    where
        Q: ?Sized + Equivalent<K> + ToKey<K>,
    {
        if !self.shortcuts.loads || self.is_in_handler() {
            return None;
        }
        // the user's `Clone` runs before the lock is taken, and its `Drop` after
        let mut owned = Some(key.to_key());
        let unwritten;
        let (is_seated, began) = {
            let mut shard = self.cell(hash).shard.write();
            unwritten = owned.as_ref().and_then(|key| self.queues.latest(hash, key));
            let (now, since) = (self.clock.now(), self.tags.version());
            (unwritten.is_none() && shard.sit((hash, alias.id()), &mut owned, now, since), now)
        };
        if !is_seated {
            return None;
        }
        self.lookups.miss();
        self.lookups.load();
        Some(Solo { store: self, hash, alias, began, is_over: false })
    }
}

impl<K, V, S> Solo<'_, K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Runs the user's loader, stores its result if the key is still this load's, and then reports what had
    /// to leave.
    #[inline]
    pub(crate) fn load<E: Send + Sync + 'static>(
        self,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<V, LoadError<E>> {
        // declared first: if its `Clone` panics, waiters are told before it is dropped
        let value;
        let mut solo = self;
        let result = {
            let _running = stack::enter(solo.alias.id());
            load()
        };
        value = match result {
            Ok(Some(value)) => value,
            other => return solo.land_otherwise(other.map(Loaded::from)),
        };
        // the user's `Clone` runs before the lock is taken
        let mut stored = Some(value.clone());
        let store = solo.store;
        let mut credit = Credit::new(&store.budget);
        let mut out = Outbox::new();
        let landed = {
            let mut shard = store.cell(solo.hash).shard.write();
            let terms = store.terms();
            let alias = solo.alias.id();
            let landed = shard.land_seated(alias, &mut stored, &mut credit, &terms, &mut out);
            if landed.is_ok() {
                store.ledger.note(solo.hash);
            }
            landed.map(|stamp| (stamp.fresh_for(terms.now), terms.now))
        };
        solo.is_over = true;
        // what is left of the credit goes back: whatever comes next may need just that
        drop(credit);
        match landed {
            Ok((life, now)) => {
                let took = now.saturating_sub(solo.began);
                if took > 0 {
                    store.counts.load_millis.add(took);
                }
                store.will_expire(life);
                if store.hears() {
                    store.report_all(out);
                }
                Ok(value)
            }
            Err(flight) => {
                let Some(flight) = flight else { unreachable!("a load lands once") };
                let lead = Lead::risen(Arc::clone(store), flight, Progress::Waiting);
                let unreported = Unreported { store, out: &mut out };
                let got = lead.land(Ok(Loaded::new(value)), None);
                // Dropped after the landing: the `Drop` of a clone made in vain, or of what had expired, may
                // wait for somebody who waits for this load.
                drop(stored);
                drop(unreported);
                store.deliver(out);
                got.map(|got| got.value)
            }
        }
    }

    /// The loader returned something else than a value.
    #[cold]
    fn land_otherwise<E: Send + Sync + 'static>(
        mut self,
        result: Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        match self.rise(Progress::Waiting) {
            Some(lead) => lead.land(result, None).map(|got| got.value),
            None => unreachable!("a load lands once"),
        }
    }

    /// Turns it into a load like any other, with a flight.
    fn rise(&mut self, progress: Progress) -> Option<Lead<K, V, S>> {
        self.is_over = true;
        let flight = self.store.cell(self.hash).shard.write().rise(self.alias.id())?;
        Some(Lead::risen(Arc::clone(self.store), flight, progress))
    }
}

impl<K, V, S> Drop for Solo<'_, K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.is_over {
            // the user's code panicked
            drop(self.rise(Progress::Running));
        }
    }
}
