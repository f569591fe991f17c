//! The options of one call that may load, and the limits on how long its caller waits for a load. Shared by the
//! [blocking](super::blocking) and the [async](super::future) front.

use crate::engine::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::Limits;
use crate::rules::got::{Got, StaleWhy};
use crate::shard::ask::Ask;
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
    let (load, soft) = (store.timeouts.load, store.timeouts.soft());
    Limits { load, soft, own: call.until, minds_line }
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
