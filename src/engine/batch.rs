//! Several keys, one loader.

use super::guard::Permit;
use super::lead::{Lead, Progress};
use super::put::By;
use super::store::Store;
use super::unreported::Unreported;
use crate::parts::breaker::TrialVerdict;
use crate::parts::moments::{Moment, Unasked};
use crate::parts::stack;
use crate::parts::tags::Version;
use crate::rules::expiry::ticks;
use crate::rules::got::Got;
use crate::rules::loaded::{Answer, Loaded};
use crate::rules::tag::Tag;
use crate::shard::entry::{Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash as StdHash};
use std::sync::Arc;

/// The right and the duty to load several keys at once. Each key has its own flight, so that whoever wants
/// one of them waits for that alone; they are counted as one load. It ends in [`land`](Self::land) or
/// [`time_out`](Self::time_out); dropped before that, it hands all keys on.
pub(crate) struct Batch<K, V, S> {
    store: Arc<Store<K, V, S>>,
    leads: Vec<Lead<K, V, S>>,
    started: Tick,
    /// When it began: what is written after that is newer than what the loader brings.
    since: Moment,
    /// The same for changes of tags.
    version: Version,
    /// One permit, since it is one call of the source, however many keys.
    permit: Permit,
    progress: Progress,
}

impl<K, V, S> Batch<K, V, S> {
    /// To be made just before the loader is called. `leads` come from joins with `in_batch`.
    pub(crate) fn new(
        store: Arc<Store<K, V, S>>,
        leads: Vec<Lead<K, V, S>>,
        permit: Permit,
    ) -> Self {
        store.lookups.load();
        let (started, since) = (store.clock.now(), store.ledger.watch());
        let version = store.tags.version();
        Self { store, leads, started, since, version, permit, progress: Progress::Waiting }
    }

    /// Runs a part of the user's loader: a whole blocking one, or one poll of an async one.
    pub(crate) fn run<R>(&mut self, part: impl FnOnce() -> R) -> R {
        let _running = stack::enter_all(self.leads.iter().map(Lead::id));
        let _inside = self.permit.enter();
        self.progress = Progress::Running;
        let result = part();
        self.progress = Progress::Begun;
        result
    }

    /// The tick at which the load is given up.
    pub(crate) fn deadline(&self) -> Tick {
        self.store.timeouts.deadline(self.started)
    }

    /// The load took too long: frees the keys, and tells all waiters.
    pub(crate) fn time_out(mut self) {
        self.count_time();
        self.permit.hand_back(TrialVerdict::Failure);
        let mut leads = std::mem::take(&mut self.leads);
        leads.retain_mut(Lead::time_out_quietly);
        // when all have landed: waiters of the last one should not wait for what a handler does
        for lead in &leads {
            self.store.emit_timed_out(&lead.flight);
        }
        self.store.emit_transitions();
    }

    fn count_time(&self) {
        let took = self.store.clock.now().saturating_sub(self.started);
        self.store.counts.load_millis.add(took);
    }
}

impl<K, V, S> Batch<K, V, S>
where
    K: StdHash + Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// The loader is done: every key gets its part of the reply, or the error. A key that a successful reply
    /// does not have is "not found". A value that was not asked for is stored if nothing newer was written to
    /// its key meanwhile. Returns the outcomes, in the order of the leads.
    pub(crate) fn land<E: Send + Sync + 'static>(
        mut self,
        reply: Result<Vec<(K, Loaded<V>)>, E>,
    ) -> Vec<Result<Got<V>, LoadError<E>>> {
        self.count_time();
        let verdict = match &reply {
            Ok(_) => TrialVerdict::Success,
            Err(error) => self.permit.verdict_of(error),
        };
        self.permit.hand_back(verdict);
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.store.counts.load_failures.add(1);
                let error = Arc::new(error);
                let mut leads = std::mem::take(&mut self.leads);
                let fail = |lead: &mut Lead<_, _, _>| Err(lead.fail_with(Arc::clone(&error)));
                let landed: Vec<_> = leads.iter_mut().map(fail).collect();
                Self::emit(&leads, &landed);
                return landed;
            }
        };
        // `Hash` and `Eq` of keys are user code as well
        self.progress = Progress::Landing;
        let (store, mut out) = (Arc::clone(&self.store), Outbox::new());
        // what left is reported when all have landed: a listener may ask for any of these keys
        let unreported = Unreported { store: &store, out: &mut out };
        // a weigher that asks for one of these keys gets `Recursive`
        let running = stack::enter_all(self.leads.iter().map(Lead::id));
        let (brought, extra) = self.assign(reply, unreported.out);
        // before the batch's own values land, which the ledger takes for writes too; and if these are late,
        // the extra ones are not stored either
        let now = store.clock.now();
        let extra = Some(extra).filter(|_| self.leads.iter().all(|lead| now < lead.deadline()));
        let unasked = Unasked::new(self.since);
        for (hash, key, loaded) in extra.into_iter().flatten() {
            store.put_extra(hash, key, loaded, (&unasked, self.version), unreported.out);
        }
        self.progress = Progress::Done;
        let mut leads = std::mem::take(&mut self.leads);
        let land = |(lead, loaded): (&mut Lead<K, V, S>, Option<Loaded<V>>)| {
            let loaded = Ok(loaded.unwrap_or_else(Loaded::missing));
            lead.land_quietly(loaded, None, unreported.out)
        };
        let landed: Vec<_> = leads.iter_mut().zip(brought).map(land).collect();
        drop(running);
        drop(unreported);
        store.deliver(out);
        Self::emit(&leads, &landed);
        landed
    }

    /// Emits the events of their outcomes, when all have landed.
    fn emit<E: Send + Sync + 'static>(
        leads: &[Lead<K, V, S>],
        landed: &[Result<Got<V>, LoadError<E>>],
    ) {
        for (lead, landed) in leads.iter().zip(landed) {
            lead.emit(landed);
        }
    }

    /// Splits the reply into the part of each lead and the rest. Of two values of one key the last one
    /// counts, as in a map.
    #[allow(clippy::type_complexity, reason = "two lists, taken apart at once")]
    fn assign(
        &self,
        reply: Vec<(K, Loaded<V>)>,
        out: &mut Outbox<K, V>,
    ) -> (Vec<Option<Loaded<V>>>, Vec<(u64, K, Loaded<V>)>) {
        let hash_of = |&index: &usize| self.leads[index].hash();
        let mut places = HashTable::with_capacity(self.leads.len());
        for index in 0..self.leads.len() {
            places.insert_unique(hash_of(&index), index, hash_of);
        }
        let mut brought: Vec<_> = self.leads.iter().map(|_| None).collect();
        let mut extra = Vec::new();
        for (key, loaded) in reply {
            let hash = self.store.hash(&key);
            match places.find(hash, |&index| *self.leads[index].key() == key) {
                Some(&index) => {
                    if let Some(Loaded { answer: Answer::Value(value), .. }) =
                        brought[index].replace(loaded)
                    {
                        out.unstored(key, Some(value));
                    }
                }
                None => extra.push((hash, key, loaded)),
            }
        }
        (brought, extra)
    }
}

impl<K, V, S> Drop for Batch<K, V, S> {
    fn drop(&mut self) {
        self.store.ledger.leave();
        if self.progress == Progress::Running {
            self.count_time();
            self.permit.hand_back(TrialVerdict::Failure);
        }
        let mut leads = std::mem::take(&mut self.leads);
        match self.progress {
            Progress::Running | Progress::Landing => {
                self.store.counts.load_failures.add(1);
                leads.iter_mut().for_each(Lead::panic_quietly);
                for lead in &leads {
                    lead.emit_panicked();
                }
            }
            // a batch that has landed has no leads any more
            Progress::Begun if !leads.is_empty() => {
                self.permit.hand_back(TrialVerdict::Unknown);
                // else waiters have given them up at `load_timeout`, and counted that
                leads.retain_mut(Lead::abandon_quietly);
                self.store.counts.abandoned.add(u64::from(!leads.is_empty()));
                for lead in &leads {
                    self.store.emit_abandoned(&lead.flight);
                }
            }
            Progress::Begun | Progress::Waiting | Progress::Done => {}
        }
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Stores a value that a batch was not asked for, if nothing has happened to its key since the batch
    /// began.
    fn put_extra(
        &self,
        hash: u64,
        key: K,
        loaded: Loaded<V>,
        (unasked, version): (&Unasked, Version),
        out: &mut Outbox<K, V>,
    ) {
        let Loaded { answer, ttl, validator, tags, store } = loaded;
        let value = match answer {
            Answer::Value(value) if store => value,
            Answer::Value(value) => return out.unstored(key, Some(value)),
            Answer::Missing | Answer::Unchanged => return out.key(key),
        };
        let units = self.units(&key, Some(&value));
        let ttl = ttl.map_or(self.lives.ttl, ticks);
        let tags = self.tags.find(tags.iter().map(Tag::as_str)).map(|names| names.since(version));
        let notes = Notes::of(validator, tags);
        let put = Put { notes, ..Put::of(hash, key, value, units, ttl) };
        self.put(hash, put, By::Extra(unasked), out);
    }
}
