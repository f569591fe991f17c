//! Loading for callers that block their thread. [`future`](super::future) is the async form.

use super::call::{
    Call, Waited, caller_timed_out, count_served, lead_timed_out, limit_passed, limits, offload,
    serve_or_error, serve_refused, stale_if_overloaded,
};
use super::guard::admit;
use super::outcome::{Outcome, followed, joined, plain};
use crate::engine::guard::{Caller, Carried};
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::engine::solo::Alias;
use crate::engine::store::Store;
use crate::engine::tier::Question;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::Waiter;
use crate::rules::loaded::Loaded;
use crate::rules::tier::{TierError, TierFound};
use crate::shard::ask::Ask;
use crate::words::block_on::block_on_until;
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::convert::Infallible;
use std::sync::Arc;

/// Loads for a call that found nothing to serve: decides who loads, then loads or waits, and starts again if
/// what it waited for ended without an outcome. On failure returns a stale value if there is one, else the
/// error.
pub(super) fn load<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    call: &Call,
    load: impl FnOnce(&mut Lead<K, V, S>) -> Result<Loaded<V>, E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let search = store.search();
    let ahead = store.lead_ahead(hash, key, &call.ask);
    let is_ahead = ahead.is_some();
    let result = decide(store, hash, key, call, ahead, load);
    let result =
        result.or_else(|error| serve_or_error(store, hash, key, &call.ask, is_ahead, error));
    count_served(search, result)
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
    plain(self::load(store, hash, key, &Call::plain::<E>(), load))
}

fn decide<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    call: &Call,
    mut ahead: Option<Lead<K, V, S>>,
    load: impl FnOnce(&mut Lead<K, V, S>) -> Result<Loaded<V>, E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut has_joined = false;
    let mut carried = Carried::default();
    let mut may_offload = call.may_offload;
    loop {
        let is_ahead = ahead.is_some();
        let next = ahead.take().map_or_else(|| store.join(hash, key, &call.ask), Next::Lead);
        let (next, is_own) = offload(store, next, &call.ask, &carried, &mut may_offload);
        match next {
            Next::Look => match store.got(hash, key, &call.ask) {
                Looked::Value(got) => return Ok(got),
                Looked::Missing => return Err(LoadError::NotFound),
                Looked::Nothing => {}
            },
            Next::Serve(got) => return Ok(got),
            Next::Failed(landing) => {
                if let Some(result) = joined(landing) {
                    return result;
                }
            }
            Next::Recursive => return Err(LoadError::Recursive),
            Next::Follow(flight) => {
                if !is_own && !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                match wait(store, &flight, key, call) {
                    Waited::Landed(landing) => {
                        if let Some(result) = followed(landing, is_own) {
                            return result;
                        }
                    }
                    Waited::Stale(got) => return Ok(got),
                    Waited::CallerTimedOut { is_in_line } => {
                        return caller_timed_out(store, hash, key, &call.ask, is_in_line);
                    }
                }
                carried.inherit(&flight);
            }
            // a closure is run by its own caller, even if that could be served stale
            Next::Lead(mut lead) | Next::Revalidate(mut lead) => {
                if let Some(question) = lead.question() {
                    let asked = asked(store, &mut lead, call.until, question);
                    if asked.is_none() && call.until.is_some_and(|at| at <= store.clock.now()) {
                        return lead_timed_out(store, lead, key, call);
                    }
                    // if the tier takes until `load_timeout`, the followers time out by themselves, and this
                    // caller asks the source
                    let found = asked.unwrap_or(Err(TierError::TimedOut));
                    if let Some(entry) = lead.answer(found, |age| call.ask.accepts(age), false) {
                        return lead.land_kept(entry, call.ttl);
                    }
                }
                let may_serve = || is_ahead || store.is_servable(hash, key, &call.ask);
                match admit(store, &mut lead, Caller::Loads, &mut carried, call.until, may_serve) {
                    Ok(()) => {
                        let result = load(&mut lead);
                        return lead.land(result, call.ttl);
                    }
                    Err(refusal) => {
                        let refused = lead.refuse(refusal).map(|error| (refusal, error));
                        let served =
                            |refused| serve_refused(store, hash, key, call, is_ahead, refused);
                        if let Some(served) = refused.and_then(served) {
                            return served;
                        }
                    }
                }
            }
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
    let search = store.search();
    let call = making();
    let mut ahead = store.lead_ahead(hash, key, &call.ask);
    let mut has_joined = false;
    let mut carried = Carried::default();
    let got: Result<_, LoadError<Infallible>> = loop {
        let is_ahead = ahead.is_some();
        match ahead.take().map_or_else(|| store.join(hash, key, &call.ask), Next::Lead) {
            Next::Look => {
                if let Looked::Value(got) = store.got(hash, key, &call.ask) {
                    break Ok(got);
                }
            }
            Next::Serve(got) => break Ok(got),
            // inside a load of the same key: makes the value, which is not stored; the outer load stores its own
            Next::Recursive => return make(),
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                match wait(store, &flight, key, &call) {
                    Waited::Landed(Landing::Value(brought)) => return brought.value.clone(),
                    Waited::Stale(got) => break Ok(got),
                    // this call has neither an error to return nor a timeout: it goes on
                    Waited::Landed(_) | Waited::CallerTimedOut { .. } => {}
                }
                carried.inherit(&flight);
            }
            Next::Failed(_) => unreachable!("a call that makes its value gets no errors"),
            Next::Lead(mut lead) | Next::Revalidate(mut lead) => {
                if let Some(question) = lead.question() {
                    let found = asked(store, &mut lead, None, question);
                    let found = found.unwrap_or(Err(TierError::TimedOut));
                    if let Some(entry) = lead.answer(found, |age| call.ask.accepts(age), true) {
                        break lead.land_kept(entry, None);
                    }
                }
                // if this is a refresh, the fresh value is found at the next look
                let may_serve = || is_ahead || store.is_servable(hash, key, &call.ask);
                let caller = Caller::Makes;
                if let Err(refusal) = admit(store, &mut lead, caller, &mut carried, None, may_serve)
                {
                    lead.refuse::<Infallible>(refusal);
                    if let Some(got) = stale_if_overloaded(store, hash, key, &call.ask, refusal) {
                        break Ok(got);
                    }
                    continue;
                }
                let value = lead.run(make);
                break lead.land::<Infallible>(Ok(Loaded::new(value)), None);
            }
        }
    };
    match count_served(search, got) {
        Ok(got) => got.value,
        Err(_) => unreachable!("a value was landed"),
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

/// The options of `get_or_insert_with`, which cannot fail: it gets no errors, and loads over a cached "not
/// found".
pub(super) fn making() -> Call {
    Call {
        ask: Ask { over_missing: true, ..Ask::default() },
        ttl: None,
        until: None,
        may_offload: false,
    }
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
