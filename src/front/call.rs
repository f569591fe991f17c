//! What one caller says about its own call, and what it gets when its load comes to nothing.

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

/// One call that loads what it does not find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) ask: Ask,
    /// The life of what it stores, if it says one.
    pub(super) ttl: Option<Duration>,
    /// The tick until which it waits, if it has said how long.
    pub(super) until: Option<Tick>,
    /// Its loader is the cache's own, which may run somewhere else.
    pub(super) may_be_sent: bool,
}

impl Call {
    /// One that says nothing of itself, and whose loader's errors are `E`.
    pub(super) fn plain<E: 'static>() -> Self {
        Self { ask: Ask::of::<E>(), ttl: None, until: None, may_be_sent: false }
    }

    /// The same with the loader that the cache owns.
    pub(super) fn of_owner<E: 'static>() -> Self {
        Self { may_be_sent: true, ..Self::plain::<E>() }
    }

    /// What a flight came to that this caller waited for. What the second tier had may be older than it
    /// takes: then it looks again.
    pub(super) fn takes<V>(&self, landing: Landing<V>) -> Waited<V> {
        let age = match &landing {
            Landing::Value(brought) => brought.age,
            _ => None,
        };
        let is_refused = age.is_some_and(|age| !self.ask.accepts(age));
        Waited::Landed(if is_refused { Landing::Abandoned } else { landing })
    }
}

/// What a caller does next, and whether the load that it follows is its own, which it has sent away: once
/// a call, or it would go on for ever with a runtime that takes what it does not run.
#[inline]
pub(super) fn sent<K, V, S>(
    store: &Arc<Store<K, V, S>>,
    next: Next<K, V, S>,
    ask: &Ask,
    carried: &Carried,
    may_be_sent: &mut bool,
) -> (Next<K, V, S>, bool)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    match next {
        Next::Lead(lead) if std::mem::take(may_be_sent) => match store.send_out(lead, ask, carried)
        {
            Ok(flight) => (Next::Follow(flight), true),
            Err(lead) => (Next::Lead(lead), false),
        },
        next => (next, false),
    }
}

/// Stale, else the error: what everybody gets whose load came to nothing, however it did, and
/// whoever it was that led. One look-up under a shared lock, where there are windows.
pub(super) fn stale_or<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    error: LoadError<E>,
) -> Result<Got<V>, LoadError<E>>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    let why = match &error {
        // an answer, and a mistake: neither is a failure of the source
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

/// The same for one who may have loaded ahead of need: what it was to replace is still good.
pub(super) fn served_or<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    is_ahead: bool,
    error: LoadError<E>,
) -> Result<Got<V>, LoadError<E>>
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
    stale_or(store, hash, key, ask, error)
}

/// A caller whose own patience is over: the load goes on, or goes on waiting in line.
pub(super) fn impatient<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    ask: &Ask,
    is_in_line: bool,
) -> Result<Got<V>, LoadError<E>>
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

/// The load was given up: its time is over, or only this caller's patience, and whoever waits leads on.
pub(super) fn late<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    lead: Lead<K, V, S>,
    key: &Q,
    call: &Call,
) -> Result<Got<V>, LoadError<E>>
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
    impatient(store, hash, key, &call.ask, false)
}

/// What one whose load did not begin, and who was to be served something instead, gets: that, or an error if
/// there was nothing for it to be served. None if that has gone meanwhile, and its patience has not: then it
/// gets in line.
pub(super) fn spared<Q, K, V, S, E>(
    store: &Store<K, V, S>,
    hash: u64,
    key: &Q,
    call: &Call,
    is_ahead: bool,
    (refusal, error): (Refusal, LoadError<E>),
) -> Option<Result<Got<V>, LoadError<E>>>
where
    Q: ?Sized + Equivalent<K>,
    K: Eq,
    V: Clone,
{
    let served = served_or(store, hash, key, &call.ask, is_ahead, error);
    let is_late = || call.until.is_some_and(|at| at <= store.clock.now());
    (served.is_ok() || refusal != Refusal::Overloaded || is_late()).then_some(served)
}

/// What one who cannot be told of a refusal is served instead, if there was no slot and there is
/// something.
pub(super) fn overloaded<Q, K, V, S>(
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

/// Counts what the look-up turned out to be.
pub(super) fn counted<V, E>(
    search: Search<'_>,
    result: Result<Got<V>, LoadError<E>>,
) -> Result<Got<V>, LoadError<E>> {
    if let Ok(Got { how: How::Stale(_), .. }) = result {
        search.was_served_stale();
    }
    result
}

/// What a follower's wait came to.
pub(super) enum Waited<V> {
    Landed(Landing<V>),
    /// It takes long, and there is something to serve meanwhile.
    Stale(Got<V>),
    /// It takes longer than this caller waits; or it has not even begun, and stands in line.
    Impatient {
        is_in_line: bool,
    },
}

/// How long a caller waits for a load.
pub(super) fn limits<K, V, S>(store: &Store<K, V, S>, call: &Call) -> Limits {
    let minds_line = store.serves_stale();
    Limits { load: store.load_timeout, soft: store.soft_timeout(), own: call.until, minds_line }
}

/// One of the limits came. What that means; `None` for going on to wait for the next one.
pub(super) fn over<Q, K, V, S>(
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
        // once: what could not be served now will not be later
        limits.soft = None;
        let got = store.servable(flight.hash, key, ask, StaleWhy::SoftTimeout);
        if let Some(got) = got {
            return Some(Waited::Stale(got));
        }
    }
    let is_in_line = flight.is_waiting();
    if is_in_line && std::mem::take(&mut limits.minds_line) {
        // once, as well
        let got = store.servable(flight.hash, key, ask, StaleWhy::Overloaded);
        if let Some(got) = got {
            return Some(Waited::Stale(got));
        }
    }
    limits.own.is_some_and(|at| at <= now).then_some(Waited::Impatient { is_in_line })
}
