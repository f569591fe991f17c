//! The leader of a load: from the decision to lead until the loader is done.

mod land;

use super::away::Away;
use super::guard::Permit;
use super::store::Store;
use super::tier;
use crate::parts::breaker::TrialVerdict;
use crate::parts::flight::{Flight, Landing};
use crate::parts::slots::Queued;
use crate::parts::stack;
use crate::parts::tags::{FoundTags, Tagged};
use crate::rules::loaded::{LoadCx, LoadFate};
use crate::rules::tag::Tag;
use crate::shard::entry::Notes;
use crate::words::clock::Clock;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use std::sync::Arc;

/// The right and the duty to load a key. It ends in [`land`](Self::land) or [`time_out`](Self::time_out).
/// Dropped before that, it hands the key on: the waiters look again, and the first of them leads.
pub(crate) struct Lead<K, V, S> {
    pub(super) store: Arc<Store<K, V, S>>,
    pub(super) flight: Arc<Flight<K, V>>,
    /// Permission to call the source, if the cache guards it.
    pub(super) permit: Permit,
    /// What few loads have. Boxed, because a lead is moved from function to function, and copied each time.
    extras: Option<Box<LeadExtras<V>>>,
    pub(super) progress: Progress,
}

/// How far a lead has come, and so what its drop means. A whole word: it is read with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Progress {
    /// No user code runs.
    Waiting,
    /// No user code runs, but it has: if the lead is dropped now, the loader's future was dropped.
    Begun,
    /// The loader is running: if the lead is dropped now, it panicked.
    Running,
    /// The same for user code that runs while the result is landed; the load's time is counted already.
    Landing,
    /// It has landed.
    Done,
}

/// What only some leads have.
struct LeadExtras<V> {
    /// The tags set by its caller.
    names: Option<FoundTags>,
    /// The old value, as the loader was shown it.
    old: Option<Old<V>>,
    /// The second tier's ticket for its result.
    ticket: Option<tier::TicketHeld>,
    /// It was done after its deadline, and was the first to notice: there is an event to emit.
    is_late: bool,
}

impl<V> Default for LeadExtras<V> {
    fn default() -> Self {
        Self { names: None, old: None, ticket: None, is_late: false }
    }
}

impl<K, V, S> Lead<K, V, S> {
    pub(super) fn new(store: Arc<Store<K, V, S>>, flight: Arc<Flight<K, V>>) -> Self {
        if !flight.is_in_batch() && !store.counts_begun() {
            store.lookups.load();
        }
        let (permit, progress) = (Permit::default(), Progress::Waiting);
        Self { store, flight, permit, extras: None, progress }
    }

    /// The lead of a load that began in a seat, and is counted already.
    pub(super) fn risen(
        store: Arc<Store<K, V, S>>,
        flight: Arc<Flight<K, V>>,
        progress: Progress,
    ) -> Self {
        Self { store, flight, permit: Permit::default(), extras: None, progress }
    }

    /// The lead of a load that was without a caller for a while.
    pub(super) fn again(store: Arc<Store<K, V, S>>, away: DetachedLead<K, V>) -> Self {
        let DetachedLead { flight, permit, extras, progress } = away;
        Self { store, flight, permit, extras, progress }
    }

    /// Turns it into a lead without a caller, which holds the cache weakly and is not bound to a caller's
    /// time.
    pub(crate) fn away(mut self) -> Away<K, V, S> {
        self.progress = Progress::Done;
        let detached = DetachedLead {
            flight: Arc::clone(&self.flight),
            permit: std::mem::take(&mut self.permit),
            extras: self.extras.take(),
            progress: Progress::Waiting,
        };
        Away::new(&self.store, detached)
    }

    /// The same before the load begins: until the runtime gets to it, nobody waits for it. Whoever wants the
    /// key takes it, and loads.
    pub(super) fn send_away(self) -> Away<K, V, S> {
        {
            let _board = self.store.cell(self.flight.hash).shard.write();
            // if somebody waits for it already, its time runs: the runtime may take long
            if !self.flight.has_followers() {
                self.flight.give_way();
            }
        }
        self.away()
    }

    /// The load begins, or its caller has it back. `false` if somebody has taken the key meanwhile.
    pub(super) fn resume(&self) -> bool
    where
        K: Send + Sync,
        V: Send + Sync,
    {
        self.keep_way();
        // asked first: `begin` wakes the waiters
        let is_wanted = self.flight.waiters() > 0;
        self.flight.begin(self.store.clock.now());
        is_wanted || !self.flight.is_grounded()
    }

    /// It has waited for others to be loaded with, and goes to the source now.
    pub(crate) fn begin_late(&self) {
        self.flight.begin_late(self.store.clock.now());
    }

    /// Runs a part of the user's loader: a whole blocking one, or one poll of an async one.
    pub(crate) fn run<R>(&mut self, part: impl FnOnce() -> R) -> R {
        let _running = stack::enter(self.flight.id());
        let _inside = self.permit.enter();
        self.progress = Progress::Running;
        let result = part();
        self.progress = Progress::Begun;
        result
    }

    /// Gives the result these tags. To be called before the loader runs: from then on nobody joins the flight
    /// after something has happened to one of the tags.
    pub(crate) fn tag<'t>(&mut self, names: impl Iterator<Item = &'t str>) {
        if let Some(names) = self.store.tags.find(names) {
            self.flight.tag(names.clone().since(self.flight.since));
            self.extras.get_or_insert_default().names = Some(names);
        }
    }

    /// The tags of the result: the caller's, the loader's (`said`), and those of the value that it renews
    /// (`old`).
    pub(super) fn tagged(&mut self, said: &[Tag], old: Option<Tagged>) -> Option<Tagged> {
        let own = self.extras.as_mut().and_then(|extras| extras.names.take());
        if own.is_none() && said.is_empty() && old.is_none() {
            return None; // as most are
        }
        let said = self.store.tags.find(said.iter().map(Tag::as_str));
        let all = [own, said, old.map(Tagged::into_names)];
        let names = all.into_iter().flatten().reduce(|some, more| some.and(&more))?;
        Some(names.since(self.flight.since))
    }

    /// The tick at which the load is given up.
    pub(crate) fn deadline(&self) -> u64 {
        self.store.deadline(&self.flight)
    }

    /// The load took too long: frees the key, and tells all waiters.
    pub(crate) fn time_out(mut self) {
        if self.time_out_quietly() {
            self.store.emit_timed_out(&self.flight);
        }
        self.store.emit_transitions();
    }

    /// The same without events. Returns whether there is one to emit.
    pub(super) fn time_out_quietly(&mut self) -> bool {
        self.progress = Progress::Done;
        self.count_time();
        self.permit.hand_back(TrialVerdict::Failure);
        self.store.time_out_quietly(&self.flight)
    }

    /// Adds the load's time to the count; returns when that was.
    fn count_time(&self) -> Tick {
        // The difference of two coarse ticks is 0 or a few ms for a load of some microseconds, and
        // right in the mean. Two exact readings would be a fifth of a load that returns at once.
        let now = self.store.clock.now();
        let took = now.saturating_sub(self.flight.started());
        if took > 0 && !self.flight.is_in_batch() {
            self.store.counts.load_millis.add(took);
        }
        now
    }

    /// The loader failed: tells all waiters.
    fn fail<E: Send + Sync + 'static>(&mut self, error: Arc<E>) -> LoadError<E> {
        self.land_failed(Landing::Failed(error.clone()));
        LoadError::Loader(error)
    }

    /// As [`land`](Self::land) with an error, for a loader that failed for several keys at once. Emits no
    /// event.
    pub(super) fn fail_with<E: Send + Sync + 'static>(&mut self, error: Arc<E>) -> LoadError<E> {
        let now = self.count_time();
        self.time_out_if_late(now);
        self.fail(error)
    }

    /// A load past its deadline loses its key, even if nobody has noticed yet: only its own caller gets the
    /// result.
    fn time_out_if_late(&mut self, now: Tick) {
        if now >= self.deadline() {
            self.lose_key();
        }
    }

    /// Its time is over: takes its key. Emits no event.
    pub(super) fn lose_key(&mut self) {
        if self.store.time_out_quietly(&self.flight) {
            self.extras.get_or_insert_default().is_late = true;
        }
    }

    /// Emits the event of its outcome, when all that landed with it has landed.
    pub(super) fn emit<R, E>(&self, landed: &Result<R, LoadError<E>>)
    where
        E: Send + Sync + 'static,
    {
        if self.is_late() {
            self.store.emit_timed_out(&self.flight);
        }
        self.store.emit_outcome(&self.flight, landed);
    }

    pub(super) fn is_late(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.is_late)
    }

    /// Its flight, for its own caller, which waits as a follower while another one loads.
    pub(crate) fn follow(&self) -> Arc<Flight<K, V>> {
        self.flight.follow(self.flight.since);
        Arc::clone(&self.flight)
    }

    /// Its flight's identity, for the thread's list of running loads.
    pub(crate) fn id(&self) -> usize {
        self.flight.id()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.flight.hash
    }

    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    /// It waits for a slot, and nobody waits for it: whoever wants the key takes it. (Its `load_timeout` does
    /// not run meanwhile.)
    pub(super) fn give_way(&self) {
        let _board = self.store.cell(self.flight.hash).shard.write();
        // if somebody waits for it already, it does not give way
        if self.flight.has_followers() { self.flight.wait() } else { self.flight.give_way() }
    }

    /// It has its slot. Takes the lock, so that the key has one load: whoever comes has either taken the key
    /// by now, or waits.
    pub(super) fn keep_way(&self) {
        let _board = self.store.cell(self.flight.hash).shard.write();
        self.flight.keep_way();
    }

    /// The loader that ran for it and for others panicked. Emits no event.
    pub(super) fn panic_quietly(&mut self) {
        self.release();
        self.time_out_if_late(self.store.clock.now());
        self.land_failed(Landing::Panicked);
    }

    /// The events of that.
    pub(super) fn emit_panicked(&self) {
        if self.is_late() {
            self.store.emit_timed_out(&self.flight);
        }
        self.store.emit_panicked(&self.flight);
    }

    /// The future that loaded it and others was dropped. Emits no event; returns whether this is the flight's
    /// outcome.
    pub(super) fn abandon_quietly(&mut self) -> bool {
        self.release();
        self.progress = Progress::Done;
        self.store.cell(self.flight.hash).shard.write().take_off(&self.flight);
        self.flight.land(Landing::Abandoned)
    }

    /// Lands without a call of the source.
    pub(super) fn land_without(&mut self, landing: Landing<V>) {
        self.progress = Progress::Done;
        self.store.cell(self.flight.hash).shard.write().take_off(&self.flight);
        self.flight.land(landing);
    }

    /// Lands a failure, and tells all waiters.
    fn land_failed(&mut self, landing: Landing<V>) {
        self.progress = Progress::Done;
        if !self.flight.is_in_batch() {
            self.store.counts.load_failures.add(1);
        }
        self.store.fail(&self.flight, landing);
    }

    /// User code panicked.
    fn land_panicked(&mut self) {
        self.land_failed(Landing::Panicked);
        self.emit_panicked();
    }

    /// The old value that the loader was shown, if any.
    fn old(&self) -> Option<&Old<V>> {
        self.extras.as_ref()?.old.as_ref()
    }

    /// Keeps the second tier's ticket for its result.
    pub(super) fn keep_ticket(&mut self, ticket: tier::TicketHeld) {
        self.extras.get_or_insert_default().ticket = Some(ticket);
    }

    pub(super) fn ticket(&self) -> Option<&tier::TicketHeld> {
        self.extras.as_ref()?.ticket.as_ref()
    }

    pub(super) fn take_ticket(&mut self) -> Option<tier::TicketHeld> {
        self.extras.as_mut()?.ticket.take()
    }

    /// Counts only results that something newer kept out; a timeout has been counted as such.
    fn count_fenced(&self) {
        if !matches!(self.flight.landing(), Some(Landing::TimedOut)) {
            self.store.counts.fenced.add(1);
        }
    }
}

impl<K, V, S> Lead<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The context that the loader is given.
    pub(crate) fn cx(&mut self) -> LoadCx<V> {
        let old = if self.flight.is_absent() { None } else { self.store.old(&self.flight) };
        let stale = old.as_ref().map(|old| Arc::clone(&old.value));
        let validator = old.as_ref().and_then(Old::validator);
        if old.is_some() {
            self.extras.get_or_insert_default().old = old;
        }
        let (flight, clock) = (self.flight.clone(), self.store.clock.clone());
        let fate = Arc::new(LoadWatch { flight, clock, deadline: self.deadline() });
        LoadCx::new(self.flight.reason, self.flight.attempt, stale, validator, fate)
    }
}

/// A lead without its handle to the cache.
pub(super) struct DetachedLead<K, V> {
    pub(super) flight: Arc<Flight<K, V>>,
    pub(super) permit: Permit,
    extras: Option<Box<LeadExtras<V>>>,
    pub(super) progress: Progress,
}

/// The value that a load is to replace, as its loader was shown it.
struct Old<V> {
    value: Arc<V>,
    notes: Option<Box<Notes>>,
}

impl<V> Old<V> {
    fn validator(&self) -> Option<Arc<str>> {
        self.notes.as_ref()?.validator.clone()
    }
}

impl<K: Eq, V: Clone, S> Store<K, V, S> {
    /// The value under a flight's key, if its last window is not over.
    fn old(&self, flight: &Flight<K, V>) -> Option<Old<V>> {
        let shard = self.cell(flight.hash).shard.read();
        let (value, notes) = shard.old(flight, &self.terms())?;
        Some(Old { value: Arc::new(value), notes })
    }
}

/// Lets a loader ask about its own load.
struct LoadWatch<K, V> {
    flight: Arc<Flight<K, V>>,
    clock: Clock,
    deadline: Tick,
}

impl<K: Send + Sync, V: Send + Sync> LoadFate for LoadWatch<K, V> {
    fn is_abandoned(&self) -> bool {
        // past the deadline it has lost its key, even if nobody has come to take it yet
        self.flight.is_grounded() || self.flight.is_outdated() || self.clock.now() >= self.deadline
    }
}

impl<K, V, S> Drop for Lead<K, V, S> {
    fn drop(&mut self) {
        self.release();
        match self.progress {
            Progress::Done => {}
            Progress::Running => {
                let now = self.count_time();
                self.permit.hand_back(TrialVerdict::Failure);
                self.time_out_if_late(now);
                self.land_panicked();
            }
            Progress::Landing => self.land_panicked(),
            Progress::Waiting | Progress::Begun => {
                let has_begun = self.progress == Progress::Begun;
                // else a waiter has given it up at `load_timeout`, and counted that
                let is_first = self.abandon_quietly();
                if is_first && has_begun {
                    self.store.counts.abandoned.add(1);
                    self.permit.hand_back(TrialVerdict::Unknown);
                    self.store.emit_abandoned(&self.flight);
                }
            }
        }
    }
}
