//! The options of one call that may load, and what its caller gets if the load brings no value. Shared by the
//! [blocking](super::blocking) and the [async](super::future) front.

use super::outcome::Outcome;
use crate::engine::guard::{Carried, Refusal};
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Search};
use crate::engine::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::Limits;
use crate::rules::got::{Got, How, StaleWhy};
use crate::shard::ask::Ask;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;
use std::time::Duration;

/// The options of one call that loads on a miss.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) ask: Ask,
    /// The time to live of what it stores, if it is not the cache's.
    pub(super) ttl: Option<Duration>,
    /// The tick at which its caller stops waiting, if it has a timeout.
    pub(super) until: Option<Tick>,
    /// Its loader is the cache's own, so the cache's runtime can run it.
    pub(super) may_offload: bool,
}

impl Call {
    /// A call with default options, whose loader's errors are `E`.
    pub(super) fn plain<E: 'static>() -> Self {
        Self { ask: Ask::of::<E>(), ttl: None, until: None, may_offload: false }
    }

    /// The same for a call that uses the cache's own loader.
    pub(super) fn of_owner<E: 'static>() -> Self {
        Self { may_offload: true, ..Self::plain::<E>() }
    }

    /// The same for a key that is loaded together with others.
    pub(super) fn in_batch<E: 'static>() -> Self {
        let mut call = Self::plain::<E>();
        call.ask.in_batch = true;
        call
    }

    /// `get_or_insert_with`, which cannot fail: it gets no errors, and loads over a cached "not found".
    pub(super) fn making() -> Self {
        let ask = Ask { over_missing: true, ..Ask::default() };
        Self { ask, ttl: None, until: None, may_offload: false }
    }

    /// The result of waiting for a flight. If it is a value of the second tier that is older than this caller
    /// accepts, the caller has to look again.
    pub(super) fn outcome_of<V>(&self, landing: Landing<V>) -> Waited<V> {
        let age = match &landing {
            Landing::Value(brought) => brought.age,
            _ => None,
        };
        let is_refused = age.is_some_and(|age| !self.ask.accepts(age));
        Waited::Landed(if is_refused { Landing::Abandoned } else { landing })
    }
}

/// If the caller is to lead and its load can run on the cache's runtime, hands the load over and makes the
/// caller a follower of it. Returns what the caller does next, and whether the flight that it follows is its
/// own load. Tried once per call: with a runtime that accepts tasks and drops them, it would never end.
#[inline]
pub(super) fn offload<K, V, S>(
    store: &Arc<Store<K, V, S>>,
    next: Next<K, V, S>,
    ask: &Ask,
    carried: &Carried,
    may_offload: &mut bool,
) -> (Next<K, V, S>, bool)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    match next {
        Next::Lead(lead) if std::mem::take(may_offload) => match store.send_out(lead, ask, carried)
        {
            Ok(flight) => (Next::Follow(flight), true),
            Err(lead) => (Next::Lead(lead), false),
        },
        next => (next, false),
    }
}

/// Returns a stale value if one may be served, else the error: for every caller whose load brought no value,
/// leader or follower. Costs a look-up under a shared lock if the cache has stale windows.
pub(super) fn stale_or_error<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    error: LoadError<E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
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
    store.servable(hash, key, ask, why).ok_or(error)
}

/// The same for a caller whose load may have been a refresh (`is_ahead`): then the value that it was to replace
/// may still be fresh, and is returned.
pub(super) fn serve_or_error<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    is_ahead: bool,
    error: LoadError<E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K>,
    K: Eq,
    V: Clone,
{
    if is_ahead && !matches!(error, LoadError::NotFound) {
        if let Looked::Value(got) = store.got(hash, key, ask) {
            return Ok(got);
        }
    }
    stale_or_error(store, hash, key, ask, error)
}

/// The caller's own timeout is over, while the load goes on or waits for a slot (`is_in_line`): returns a stale
/// value, else the error.
pub(super) fn caller_timed_out<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    is_in_line: bool,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    let (why, error) = if is_in_line {
        (StaleWhy::Overloaded, LoadError::Overloaded)
    } else {
        (StaleWhy::SoftTimeout, LoadError::TimedOut)
    };
    store.servable(hash, key, ask, why).ok_or(error)
}

/// This caller leads, and ran out of time before its load was done: by `load_timeout`, which all waiters are
/// told, or by its own timeout, and then one of the waiters leads.
pub(super) fn lead_timed_out<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    lead: Lead<K, V, S>,
    key: &Q,
    call: &Call,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    if lead.deadline() <= store.clock.now() {
        lead.time_out();
        return Err(LoadError::TimedOut);
    }
    let hash = lead.hash();
    drop(lead);
    caller_timed_out(store, hash, key, &call.ask, false)
}

/// The load of this caller was refused (no slot, or the breaker is open): returns a value that may be served
/// instead, else the error. `None` if the caller has to try again and wait for a slot: it was refused because
/// there was a stale value, which is gone now, and its own timeout is not over.
pub(super) fn serve_refused<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    call: &Call,
    is_ahead: bool,
    (refusal, error): (Refusal, LoadError<E>),
) -> Option<Outcome<V, E>>
where
    Q: ?Sized + Equivalent<K>,
    K: Eq,
    V: Clone,
{
    let served = serve_or_error(store, hash, key, &call.ask, is_ahead, error);
    let is_late = || call.until.is_some_and(|at| at <= store.clock.now());
    (served.is_ok() || refusal != Refusal::Overloaded || is_late()).then_some(served)
}

/// Returns a stale value if the load was refused for want of a slot: for calls that cannot return an error.
pub(super) fn stale_if_overloaded<Q, K, V, S>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    refusal: Refusal,
) -> Option<Got<V>>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    (refusal == Refusal::Overloaded)
        .then(|| store.servable(hash, key, ask, StaleWhy::Overloaded))
        .flatten()
}

/// Ends the look-up's count: as a stale hit if a stale value is returned, else as a miss.
pub(super) fn count_served<V, E>(search: Search<'_>, result: Outcome<V, E>) -> Outcome<V, E> {
    if let Ok(Got { how: How::Stale(_), .. }) = result {
        search.was_served_stale();
    }
    result
}

/// How a follower's wait ended.
pub(super) enum Waited<V> {
    Landed(Landing<V>),
    /// The load takes long, and this stale value is served instead.
    Stale(Got<V>),
    /// The caller's own timeout is over; the load runs, or still waits for a slot.
    CallerTimedOut {
        is_in_line: bool,
    },
}

/// The limits on a caller's wait for a load.
pub(super) fn limits<K, V, S>(store: &Store<K, V, S>, call: &Call) -> Limits {
    let minds_line = store.serves_stale();
    Limits { load: store.load_timeout, soft: store.soft_timeout(), own: call.until, minds_line }
}

/// One of the limits has passed: returns how the wait ends, or `None` if it goes on until the next limit.
pub(super) fn limit_passed<Q, K, V, S>(
    store: &Store<K, V, S>,
    flight: &Arc<Flight<K, V>>,
    key: &Q,
    ask: &Ask,
    limits: &mut Limits,
) -> Option<Waited<V>>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    let now = store.clock.now();
    let is_over = |ticks: u64| flight.started().saturating_add(ticks) <= now;
    if is_over(limits.load) {
        // the flight loses its key; it may have landed just before
        store.time_out(flight);
        return Some(Waited::Landed(flight.landing().unwrap_or(Landing::TimedOut)));
    }
    if limits.soft.is_some_and(is_over) {
        // tried once: what may not be served stale now may not be later either
        limits.soft = None;
        let got = store.servable(flight.hash, key, ask, StaleWhy::SoftTimeout);
        if let Some(got) = got {
            return Some(Waited::Stale(got));
        }
    }
    let is_in_line = flight.is_waiting();
    if is_in_line && std::mem::take(&mut limits.minds_line) {
        // tried once as well
        let got = store.servable(flight.hash, key, ask, StaleWhy::Overloaded);
        if let Some(got) = got {
            return Some(Waited::Stale(got));
        }
    }
    limits.own.is_some_and(|at| at <= now).then_some(Waited::CallerTimedOut { is_in_line })
}
