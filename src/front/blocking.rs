//! Loading for callers that block their thread. [`future`](super::future) is the async form.

use super::attempt::{Attempt, Step};
use super::call::{Call, Waited, limit_passed, limits};
use super::outcome::{Outcome, plain};
use crate::engine::guard::Entrance;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::engine::solo::Alias;
use crate::engine::store::Store;
use crate::engine::tier::Question;
use crate::parts::flight::Flight;
use crate::parts::waiter::Waiter;
use crate::rules::loaded::Loaded;
use crate::rules::tier::{TierError, TierFound};
use crate::words::block_on::block_on_until;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

/// Loads for a call that found nothing to serve: decides who loads, then loads or waits, and starts again if
/// what it waited for ended without an outcome. On failure returns a stale value if there is one, else the
/// error.
pub(super) fn load<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    call: Call,
    load: impl FnOnce(&mut Lead<K, V, S>) -> Result<Loaded<V>, E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut attempt = Attempt::to_load(store, hash, key, &call);
    let outcome = match lead(&mut attempt) {
        Break(outcome) => outcome,
        Continue(mut lead) => {
            let result = load(&mut lead);
            lead.land(result, call.ttl)
        }
    };
    attempt.finish(outcome)
}

/// A call with default options and a loader without a context, after a [glance](Store::glance) that found
/// nothing. It is a function of its own so that its callers have few registers to save, which makes their hits a
/// tenth faster; what it calls is kept apart for the same reason.
#[inline(never)]
pub(super) fn search<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    load: impl FnOnce() -> Result<Option<V>, E>,
) -> Result<V, LoadError<E>>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    match store.get_plain(hash, key, Purpose::Load) {
        Looked::Value(value) => Ok(value),
        Looked::Missing => Err(LoadError::NotFound),
        Looked::Nothing => load_simply(store, hash, key, load),
    }
}

/// A miss: begins as a load without a flight ([`Solo`](crate::engine::solo::Solo)) if nothing is known of the
/// key, else as any other.
#[inline(never)]
fn load_simply<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    load: impl FnOnce() -> Result<Option<V>, E>,
) -> Result<V, LoadError<E>>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let alias = Alias::new();
    if let Some(solo) = store.begin_solo(hash, key, &alias) {
        return solo.load(load);
    }
    let load = |lead: &mut Lead<K, V, S>| lead.run(|| load().map(Loaded::from));
    plain(self::load(store, hash, key, Call::plain::<E>(), load))
}

/// Waits until the call has an outcome, or is to call the source.
#[inline]
fn lead<Q, K, V, S, E>(
    attempt: &mut Attempt<'_, Q, K, V, S, E>,
) -> ControlFlow<Outcome<V, E>, Lead<K, V, S>>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let (store, key) = (attempt.store, attempt.key);
    loop {
        let mut lead = match attempt.next()? {
            Step::Lead(lead) => lead,
            Step::Wait(following) => {
                let waited = wait(store, &following.flight, key, attempt.call);
                attempt.waited(following, waited)?;
                continue;
            }
        };
        if let Some(question) = lead.question() {
            let found = asked(store, &mut lead, attempt.call.until, question);
            lead = attempt.answered(lead, found)?;
        }
        let entered = match attempt.enter(&mut lead) {
            Ok(Entrance::Open) => Ok(()),
            Ok(Entrance::Busy) => {
                let slot = attempt.queue(&lead).block();
                attempt.enter_with(&mut lead, slot)
            }
            Err(refusal) => Err(refusal),
        };
        match entered {
            Ok(()) => return Continue(lead),
            Err(refusal) => attempt.refused(lead, refusal)?,
        }
    }
}

/// `get_or_insert_with` after a [glance](Store::glance) that found nothing.
#[inline(never)]
pub(super) fn search_or_make<Q, K, V, S>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    make: impl FnOnce() -> V,
) -> V
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    match store.get_plain(hash, key, Purpose::Make) {
        Looked::Value(value) => value,
        Looked::Missing | Looked::Nothing => self::make(store, hash, key, make),
    }
}

/// Makes the value with the caller's own closure, unless another caller's load brings one.
#[inline(never)]
fn make<Q, K, V, S>(store: &Arc<Store<K, V, S>>, hash: u64, key: &Q, make: impl FnOnce() -> V) -> V
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    let alias = Alias::new();
    let Some(solo) = store.begin_solo(hash, key, &alias) else {
        return make_known(store, hash, key, make);
    };
    match solo.load(|| Ok::<_, Infallible>(Some(make()))) {
        Ok(value) => value,
        Err(_) => unreachable!("a value was landed"),
    }
}

/// The same for a key that is being loaded, has a stale value, or the like.
#[inline(never)]
fn make_known<Q, K, V, S>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    make: impl FnOnce() -> V,
) -> V
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    let call = Call::making();
    let mut attempt = Attempt::<_, _, _, _, Infallible>::to_make(store, hash, key, &call);
    let outcome = match lead(&mut attempt) {
        // inside a load of the same key: makes the value, which is not stored; the outer load stores its own
        Break(Err(LoadError::Recursive)) => return make(),
        Break(outcome) => outcome,
        Continue(mut lead) => {
            let value = lead.run(make);
            lead.land(Ok(Loaded::new(value)), call.ttl)
        }
    };
    match attempt.finish(outcome) {
        Ok(got) => got.value,
        Err(_) => unreachable!("a call that makes its value gets no errors"),
    }
}

/// Waits for the second tier's answer. `None` if the load's time or the caller's own is over first.
fn asked<K, V, S>(
    store: &Store<K, V, S>,
    lead: &mut Lead<K, V, S>,
    until: Option<Tick>,
    question: Question<K, V>,
) -> Option<Result<TierFound<K, V>, TierError>> {
    let deadline = until.map_or(lead.deadline(), |until| until.min(lead.deadline()));
    lead.run(|| block_on_until(question, &store.clock, deadline))
}

pub(super) fn wait<Q, K, V, S>(
    store: &Arc<Store<K, V, S>>,
    flight: &Arc<Flight<K, V>>,
    key: &Q,
    call: &Call,
) -> Waited<V>
where
    Q: ?Sized + Equivalent<K>,
    V: Clone,
{
    let mut limits = limits(store, call);
    loop {
        let waiter = Waiter::new(Arc::clone(flight), store.clock.clone(), limits);
        if let Some(landing) = waiter.block() {
            return call.outcome_of(landing);
        }
        if let Some(waited) = limit_passed(store, flight, key, &call.ask, &mut limits) {
            return waited;
        }
    }
}
