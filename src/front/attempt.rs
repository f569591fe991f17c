//! One call that loads on a miss, without the waiting: decides what its caller does next, and what each outcome
//! means for it. The [blocking](super::blocking) and the [async](super::future) front drive it; all that they
//! add is how to wait:
//!
//! ```text
//! next ──► wait, waited ──► next
//!   └────► question, answered ──► enter ──► [queue, enter_with] ──► load, land ──► finish
//!                                   └─────────► refused ──► next
//! ```
//!
//! What returns a `ControlFlow` breaks with the call's outcome, for [`finish`](Attempt::finish), and continues
//! with what is to be done for it.

use super::call::{Call, Waited};
use super::outcome::{Outcome, followed, joined};
use crate::engine::guard::{Caller, Carried, Entrance, Refusal};
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Search};
use crate::engine::store::Store;
use crate::parts::flight::Flight;
use crate::parts::slots::LoadSlot;
use crate::parts::turn::{NoSlot, Turn};
use crate::rules::got::{Got, How, StaleWhy};
use crate::rules::tier::{TierError, TierFound};
use crate::words::error::LoadError;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::marker::PhantomData;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

/// One call for one key, from the look-up that found nothing to its outcome.
pub(super) struct Attempt<'c, Q: ?Sized, K, V, S, E> {
    pub(super) store: &'c Arc<Store<K, V, S>>,
    pub(super) hash: u64,
    pub(super) key: &'c Q,
    pub(super) call: &'c Call,
    caller: Caller,
    /// Counts the look-up when it is dropped: as a miss, unless told otherwise.
    search: Search<'c>,
    round: Round,
    /// Its first round was a refresh: if all fails, the value that was due may still be there, and be fresh.
    began_as_refresh: bool,
    may_offload: bool,
    has_joined: bool,
    carried: Carried,
    /// The loader's error.
    fails_with: PhantomData<fn() -> E>,
}

/// How far the call has come. It looks again whenever what it waited for ended without an outcome for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// It has not looked yet.
    First,
    /// What it leads now is the refresh of a value that is due.
    Refresh,
    Later,
}

/// What the caller does next.
pub(super) enum Step<K, V, S> {
    /// Wait for a load, then report how that ended: [`Attempt::waited`].
    Wait(Following<K, V>),
    /// Ask the second tier ([`Attempt::answered`]), then the source ([`Attempt::enter`]).
    Lead(Lead<K, V, S>),
}

/// A flight to wait for.
pub(super) struct Following<K, V> {
    pub(super) flight: Arc<Flight<K, V>>,
    /// It is the caller's own load, which runs in the background.
    is_own: bool,
}

impl<K, V> Following<K, V> {
    /// Of another caller's load.
    pub(super) fn of(flight: Arc<Flight<K, V>>) -> Self {
        Self { flight, is_own: false }
    }
}

impl<'c, Q, K, V, S, E> Attempt<'c, Q, K, V, S, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// A call that loads.
    #[inline]
    pub(super) fn to_load(
        store: &'c Arc<Store<K, V, S>>,
        hash: u64,
        key: &'c Q,
        call: &'c Call,
    ) -> Self {
        Self::new(store, hash, key, call, Caller::Loads)
    }

    /// `get_or_insert_with`, which cannot fail, with the options of [`Call::making`].
    #[inline]
    pub(super) fn to_make(
        store: &'c Arc<Store<K, V, S>>,
        hash: u64,
        key: &'c Q,
        call: &'c Call,
    ) -> Self {
        Self::new(store, hash, key, call, Caller::Makes)
    }

    #[inline]
    fn new(
        store: &'c Arc<Store<K, V, S>>,
        hash: u64,
        key: &'c Q,
        call: &'c Call,
        caller: Caller,
    ) -> Self {
        Self {
            store,
            hash,
            key,
            call,
            caller,
            search: store.search(),
            round: Round::First,
            began_as_refresh: false,
            may_offload: call.may_offload,
            has_joined: false,
            carried: Carried::default(),
            fails_with: PhantomData,
        }
    }

    /// Decides what to do, or ends the call.
    #[inline]
    pub(super) fn next(&mut self) -> ControlFlow<Outcome<V, E>, Step<K, V, S>> {
        let (store, hash, key, ask) = (self.store, self.hash, self.key, &self.call.ask);
        if self.round == Round::First {
            self.round = Round::Later;
            if let Some(lead) = store.lead_ahead(hash, key, ask) {
                (self.round, self.began_as_refresh) = (Round::Refresh, true);
                return Continue(self.offload(lead));
            }
        } else {
            self.round = Round::Later;
        }
        loop {
            match store.join(hash, key, ask) {
                Next::Look => match store.got(hash, key, ask) {
                    Looked::Value(got) => return Break(Ok(got)),
                    Looked::Missing if !self.makes() => return Break(Err(LoadError::NotFound)),
                    Looked::Missing | Looked::Nothing => {}
                },
                Next::Serve(got) => return Break(Ok(got)),
                Next::Failed(landing) => {
                    if let Some(outcome) = joined(landing) {
                        return Break(outcome);
                    }
                }
                Next::Recursive => return Break(Err(LoadError::Recursive)),
                Next::Follow(flight) => {
                    if !std::mem::replace(&mut self.has_joined, true) {
                        store.count_joined();
                    }
                    return Continue(self.follow(flight, false));
                }
                Next::Lead(lead) => return Continue(self.offload(lead)),
                // not handed over: a closure is run by its own caller, even if that could be served stale
                Next::Revalidate(lead) => return Continue(Step::Lead(lead)),
            }
        }
    }

    /// If its load can run on the cache's runtime, hands the load over and makes the caller a follower of it. Tried
    /// once per call: with a runtime that accepts tasks and drops them, a call would never end.
    #[inline]
    fn offload(&mut self, lead: Lead<K, V, S>) -> Step<K, V, S> {
        if !std::mem::take(&mut self.may_offload) {
            return Step::Lead(lead);
        }
        match self.store.send_out(lead, &self.call.ask, &self.carried) {
            Ok(flight) => self.follow(flight, true),
            Err(lead) => Step::Lead(lead),
        }
    }

    fn follow(&mut self, flight: Arc<Flight<K, V>>, is_own: bool) -> Step<K, V, S> {
        self.carried.put_down();
        Step::Wait(Following { flight, is_own })
    }

    /// The wait for a load is over. Goes on if the caller has to look again.
    pub(super) fn waited(
        &mut self,
        Following { flight, is_own }: Following<K, V>,
        waited: Waited<V>,
    ) -> ControlFlow<Outcome<V, E>> {
        let outcome = match waited {
            Waited::Landed(landing) => followed(landing, is_own),
            Waited::Stale(got) => Some(Ok(got)),
            Waited::CallerTimedOut { is_in_line } => Some(self.timed_out(is_in_line)),
        };
        match outcome {
            // a call that makes its value has neither an error to return nor a timeout: it goes on
            Some(outcome) if outcome.is_ok() || !self.makes() => Break(outcome),
            _ => {
                self.carried.inherit(&flight);
                Continue(())
            }
        }
    }

    /// The second tier has answered; `None` if the load's time or the caller's own was over first. Goes on with
    /// the lead if the source is to be asked.
    pub(super) fn answered(
        &mut self,
        mut lead: Lead<K, V, S>,
        found: Option<Result<TierFound<K, V>, TierError>>,
    ) -> ControlFlow<Outcome<V, E>, Lead<K, V, S>> {
        if found.is_none() && self.is_late() {
            return Break(self.lead_timed_out(lead));
        }
        // if the tier takes until `load_timeout`, the followers time out by themselves, and this caller asks the
        // source
        let found = found.unwrap_or(Err(TierError::TimedOut));
        match lead.answer(found, |age| self.call.ask.accepts(age), self.makes()) {
            Some(entry) => Break(lead.land_kept(entry, self.call.ttl)),
            None => Continue(lead),
        }
    }

    /// Asks for permission to call the source. If all slots are taken, refuses if the caller can be served
    /// something stale.
    #[inline]
    pub(super) fn enter(&mut self, lead: &mut Lead<K, V, S>) -> Result<Entrance, Refusal> {
        let entrance = lead.enter(self.caller, &mut self.carried)?;
        if entrance == Entrance::Busy && self.may_serve() {
            return Err(Refusal::Overloaded);
        }
        Ok(entrance)
    }

    /// Whether there is something to serve if the load that it leads does not begin.
    pub(super) fn may_serve(&self) -> bool {
        let (store, hash, key, ask) = (self.store, self.hash, self.key, &self.call.ask);
        self.leads_refresh() && store.is_good(hash, key, ask) || store.is_servable(hash, key, ask)
    }

    /// All slots were taken: what to wait for, until the caller's own time is over.
    pub(super) fn queue(&mut self, lead: &Lead<K, V, S>) -> Turn<'c> {
        lead.queue(self.store, &mut self.carried, self.call.until)
    }

    /// As [`enter`](Self::enter), after the wait for a slot.
    pub(super) fn enter_with(
        &mut self,
        lead: &mut Lead<K, V, S>,
        slot: Result<LoadSlot, NoSlot>,
    ) -> Result<(), Refusal> {
        lead.enter_with(slot?, self.caller, &mut self.carried)
    }

    /// The source may not be called. Goes on if the caller has to look again.
    pub(super) fn refused(
        &mut self,
        lead: Lead<K, V, S>,
        refusal: Refusal,
    ) -> ControlFlow<Outcome<V, E>> {
        let error = lead.refuse(refusal);
        if self.makes() {
            // if this is a refresh, the fresh value is found at the next look
            let is_overloaded = refusal == Refusal::Overloaded;
            let served = is_overloaded.then(|| self.servable(StaleWhy::Overloaded)).flatten();
            return served.map_or(Continue(()), |got| Break(Ok(got)));
        }
        let Some(error) = error else { return Continue(()) };
        let served = self.serve_or_error(self.leads_refresh(), error);
        // if it was refused because there was a stale value, which is gone now, it tries again, and waits for a slot
        if served.is_ok() || refusal != Refusal::Overloaded || self.is_late() {
            return Break(served);
        }
        Continue(())
    }

    /// Ends the call: on failure serves a stale value if there is one. Counts the look-up as a stale hit if a stale
    /// value is returned, else as a miss.
    #[inline]
    pub(super) fn finish(self, outcome: Outcome<V, E>) -> Outcome<V, E> {
        match outcome {
            Err(error) => self.finish_without(error),
            Ok(got) => {
                if matches!(got.how, How::Stale(_)) {
                    self.search.was_served_stale();
                }
                Ok(got)
            }
        }
    }

    #[cold]
    fn finish_without(mut self, error: LoadError<E>) -> Outcome<V, E> {
        // before user code clones what is served: a slot is not held for that
        self.carried.put_down();
        let served = self.serve_or_error(self.began_as_refresh, error);
        if let Ok(Got { how: How::Stale(_), .. }) = served {
            self.search.was_served_stale();
        }
        served
    }

    /// Returns a value that may be served now, else the error: for every caller whose load brought no value,
    /// leader or follower. If the load was a refresh (`was_refresh`), the value that it was to replace may still be
    /// fresh. Costs a look-up under a shared lock if the cache has stale windows.
    fn serve_or_error(&self, was_refresh: bool, error: LoadError<E>) -> Outcome<V, E> {
        if was_refresh && !matches!(error, LoadError::NotFound) {
            if let Looked::Value(got) = self.store.got(self.hash, self.key, &self.call.ask) {
                return Ok(got);
            }
        }
        let why = match &error {
            // the source's answer, and a mistake in the program: neither is a failure of the source
            LoadError::NotFound | LoadError::Recursive => return Err(error),
            LoadError::Loader(_)
            | LoadError::TimedOut
            | LoadError::Panicked
            | LoadError::NothingToRenew => StaleWhy::LoadFailed,
            LoadError::Overloaded => StaleWhy::Overloaded,
            LoadError::CircuitOpen => StaleWhy::CircuitOpen,
        };
        self.servable(why).ok_or(error)
    }

    /// This caller leads, and ran out of time before its load was done: by `load_timeout`, which all waiters are
    /// told, or by its own timeout, and then one of the waiters leads.
    pub(super) fn lead_timed_out(&self, lead: Lead<K, V, S>) -> Outcome<V, E> {
        if lead.deadline() <= self.store.clock.now() {
            lead.time_out();
            return Err(LoadError::TimedOut);
        }
        drop(lead);
        self.timed_out(false)
    }

    /// The caller's own timeout is over, while the load goes on or waits for a slot (`is_in_line`): returns a stale
    /// value, else the error.
    fn timed_out(&self, is_in_line: bool) -> Outcome<V, E> {
        let (why, error) = if is_in_line {
            (StaleWhy::Overloaded, LoadError::Overloaded)
        } else {
            (StaleWhy::SoftTimeout, LoadError::TimedOut)
        };
        self.servable(why).ok_or(error)
    }

    fn servable(&self, why: StaleWhy) -> Option<Got<V>> {
        self.store.servable(self.hash, self.key, &self.call.ask, why)
    }

    /// Whether the caller's own time is over.
    fn is_late(&self) -> bool {
        self.call.until.is_some_and(|at| at <= self.store.clock.now())
    }

    fn leads_refresh(&self) -> bool {
        self.round == Round::Refresh
    }

    fn makes(&self) -> bool {
        self.caller == Caller::Makes
    }
}
