//! The one who loads: from the decision to lead until the loader is done.

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

/// The right and the duty to load a key. It ends in [`land`](Self::land) or
/// [`time_out`](Self::time_out); dropped before, it hands the key on: those who wait look again,
/// and the first of them leads.
pub(crate) struct Lead<K, V, S> {
    pub(super) store: Arc<Store<K, V, S>>,
    pub(super) flight: Arc<Flight<K, V>>,
    /// Leave to call the source, where the cache guards it.
    pub(super) permit: Permit,
    /// What few loads have: a lead is handed on from one to the next, and each time copied.
    extras: Option<Box<LeadExtras<V>>>,
    pub(super) progress: Progress,
}

/// Where a lead stands, and so what its end means. A whole word: it is read with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Progress {
    /// Nothing of the user's runs.
    Waiting,
    /// Nor now, but it did: if the lead is dropped now, so was the loader's future.
    Begun,
    /// The loader is running: if the lead is dropped now, it panicked.
    Running,
    /// The same for the user's code that lands what it brought; its time is counted already.
    Landing,
    /// It has come to its end.
    Done,
}

/// What a lead has if somebody said so.
struct LeadExtras<V> {
    /// The tags that its caller said.
    names: Option<FoundTags>,
    /// What the loader was shown.
    old: Option<Old<V>>,
    /// What the second tier gave for what it brings.
    ticket: Option<tier::TicketHeld>,
    /// It came too late, and was the first to notice: that is to be told.
    is_late: bool,
}

impl<V> Default for LeadExtras<V> {
    fn default() -> Self {
        Self { names: None, old: None, ticket: None, is_late: false }
    }
}

impl<K, V, S> Lead<K, V, S> {
    pub(super) fn new(store: Arc<Store<K, V, S>>, flight: Arc<Flight<K, V>>) -> Self {
        if !flight.is_in_batch() && store.guards.is_none() && store.tier.is_none() {
            // others are counted when they may begin
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

    /// For a load that no caller waits for: lets go of the cache, and of the caller's time.
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

    /// The same before it begins: until a runtime comes to it, nobody waits with it. Whoever wants
    /// the key takes it, and loads.
    pub(super) fn send_away(self) -> Away<K, V, S> {
        {
            let _board = self.store.cell(self.flight.hash).shard.write();
            // one who came already waits with it, and its time runs: the runtime's may be long
            if !self.flight.has_followers() {
                self.flight.give_way();
            }
        }
        {
            let mut sent_away = self.store.sent_away.lock();
            if sent_away.len() == sent_away.capacity() {
                sent_away.retain(|flight| flight.strong_count() > 0);
            }
            sent_away.push(Arc::downgrade(&self.flight));
        }
        self.away()
    }

    /// It begins, or its caller has it back. `false` if somebody has taken the key meanwhile.
    pub(super) fn resume(&self) -> bool
    where
        K: Send + Sync,
        V: Send + Sync,
    {
        self.keep_way();
        // those who wait are woken when it begins
        let is_wanted = self.flight.waiters() > 0;
        self.flight.begin(self.store.clock.now());
        is_wanted || !self.flight.is_grounded()
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

    /// What it brings has these tags. To be said before the loader runs: from then on nobody joins
    /// it after something has happened to one of them.
    pub(crate) fn tag<'t>(&mut self, names: impl Iterator<Item = &'t str>) {
        if let Some(names) = self.store.tags.find(names) {
            self.flight.tag(names.clone().since(self.flight.since));
            self.extras.get_or_insert_default().names = Some(names);
        }
    }

    /// The tags of what it brings: those that its caller said, those that the loader says, and
    /// those of the value that it renews.
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

    /// When the load is given up.
    pub(crate) fn deadline(&self) -> u64 {
        self.store.deadline(&self.flight)
    }

    /// The load took too long: the key is free, and everybody who waits is told.
    pub(crate) fn time_out(mut self) {
        if self.time_out_quietly() {
            self.store.emit_timed_out(&self.flight);
        }
        self.store.emit_transitions();
    }

    /// The same, and whether there is something to tell of.
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

    /// The loader failed: everybody who waits is told.
    fn fail<E: Send + Sync + 'static>(&mut self, error: Arc<E>) -> LoadError<E> {
        self.land_failed(Landing::Failed(error.clone()));
        LoadError::Loader(error)
    }

    /// As landing a failure, for a loader that failed several keys at once. Told of later.
    pub(super) fn fail_with<E: Send + Sync + 'static>(&mut self, error: Arc<E>) -> LoadError<E> {
        let now = self.count_time();
        self.time_out_if_late(now);
        self.fail(error)
    }

    /// Too late, also where nobody has noticed yet: what it brings is its own caller's only.
    fn time_out_if_late(&mut self, now: Tick) {
        if now >= self.deadline() {
            self.lose_key();
        }
    }

    /// Its time is over. Told of later.
    pub(super) fn lose_key(&mut self) {
        if self.store.time_out_quietly(&self.flight) {
            self.extras.get_or_insert_default().is_late = true;
        }
    }

    /// Tells of what became of it, when all that landed with it has landed.
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

    /// Its flight, for its own caller, who waits for it while another one loads.
    pub(crate) fn join(&self) -> Arc<Flight<K, V>> {
        self.flight.follow(self.flight.since);
        Arc::clone(&self.flight)
    }

    /// Its flight's identity, for the stack of what runs.
    pub(crate) fn id(&self) -> usize {
        self.flight.id()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.flight.hash
    }

    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    /// It waits for a slot, and nobody for it: whoever wants the key takes it.
    /// (The time it may take does not run meanwhile.)
    pub(super) fn give_way(&self) {
        let _board = self.store.cell(self.flight.hash).shard.write();
        // one who came already waits with it
        if self.flight.has_followers() { self.flight.wait() } else { self.flight.give_way() }
    }

    /// It has its slot. Under the lock, so that the key has one load: whoever comes either has taken
    /// it by now, or waits.
    pub(super) fn keep_way(&self) {
        let _board = self.store.cell(self.flight.hash).shard.write();
        self.flight.keep_way();
    }

    /// The loader that ran for it and for others panicked. Told of later.
    pub(super) fn panic_quietly(&mut self) {
        self.release();
        self.land_failed(Landing::Panicked);
    }

    /// The future that loaded it and others was dropped. Told of later: whether it is this that became of it.
    pub(super) fn abandon_quietly(&mut self) -> bool {
        self.release();
        self.progress = Progress::Done;
        self.store.cell(self.flight.hash).shard.write().take_off(&self.flight);
        self.flight.land(Landing::Abandoned)
    }

    /// It does not come to a call of the source.
    pub(super) fn land_without(&mut self, landing: Landing<V>) {
        self.progress = Progress::Done;
        self.store.cell(self.flight.hash).shard.write().take_off(&self.flight);
        self.flight.land(landing);
    }

    /// It came to nothing, and everybody who waits is told so.
    fn land_failed(&mut self, landing: Landing<V>) {
        self.progress = Progress::Done;
        if !self.flight.is_in_batch() {
            self.store.counts.load_failures.add(1);
        }
        self.store.fail(&self.flight, landing);
    }

    /// The user's code panicked.
    fn land_panicked(&mut self) {
        self.land_failed(Landing::Panicked);
        self.store.emit_panicked(&self.flight);
    }

    /// What the loader was shown, if it was shown anything.
    fn old(&self) -> Option<&Old<V>> {
        self.extras.as_ref()?.old.as_ref()
    }

    /// What the second tier gave for what it brings.
    pub(super) fn keep_ticket(&mut self, ticket: tier::TicketHeld) {
        self.extras.get_or_insert_default().ticket = Some(ticket);
    }

    pub(super) fn ticket(&self) -> Option<&tier::TicketHeld> {
        self.extras.as_ref()?.ticket.as_ref()
    }

    pub(super) fn take_ticket(&mut self) -> Option<tier::TicketHeld> {
        self.extras.as_mut()?.ticket.take()
    }

    /// Only what something newer kept out counts; a timeout has been counted as one.
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
    /// What the loader gets to see.
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

/// What a lead has, but for the cache.
pub(super) struct DetachedLead<K, V> {
    pub(super) flight: Arc<Flight<K, V>>,
    pub(super) permit: Permit,
    extras: Option<Box<LeadExtras<V>>>,
    pub(super) progress: Progress,
}

/// What a load is to replace, as its loader was shown it.
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
    /// What stands under a flight's key and is not gone.
    fn old(&self, flight: &Flight<K, V>) -> Option<Old<V>> {
        let shard = self.cell(flight.hash).shard.read();
        let (value, notes) = shard.old(flight, &self.terms())?;
        Some(Old { value: Arc::new(value), notes })
    }
}

/// What a loader can ask about its own load.
struct LoadWatch<K, V> {
    flight: Arc<Flight<K, V>>,
    clock: Clock,
    deadline: Tick,
}

impl<K: Send + Sync, V: Send + Sync> LoadFate for LoadWatch<K, V> {
    fn is_abandoned(&self) -> bool {
        // past the deadline it has lost its key, also where nobody has come to take it yet
        self.flight.is_grounded() || self.flight.is_outdated() || self.clock.now() >= self.deadline
    }
}

impl<K, V, S> Drop for Lead<K, V, S> {
    fn drop(&mut self) {
        self.release();
        match self.progress {
            Progress::Done => {}
            Progress::Running => {
                self.count_time();
                self.permit.hand_back(TrialVerdict::Failure);
                self.land_panicked();
            }
            Progress::Landing => self.land_panicked(),
            Progress::Waiting | Progress::Begun => {
                let has_begun = self.progress == Progress::Begun;
                // else somebody who waited has given it up at `load_timeout`, and counted that
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
