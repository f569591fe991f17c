//! Loading for async callers. Engine and flights are those of [`blocking`](super::blocking); only the waiting
//! differs.

use super::blocking::making;
use super::call::{
    Call, Waited, caller_timed_out, count_served, lead_timed_out, limit_passed, limits, offload,
    serve_or_error, serve_refused, stale_if_overloaded,
};
use super::guard::admit_async;
use super::outcome::{Outcome, followed, joined};
use crate::engine::batch::Batch;
use crate::engine::guard::{Caller, Carried};
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::engine::store::Store;
use crate::engine::tier::Question;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::{TaskAlarm, Waiter};
use crate::rules::loaded::Loaded;
use crate::rules::tier::{TierError, TierFound};
use crate::words::error::LoadError;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

/// The async form of [`blocking::load`](super::blocking::load), after a look-up that found nothing to serve.
/// `load` makes the loader's future, `finish` turns the outcome into what the caller returns. It is passed in,
/// instead of applied by an outer future, because each layer of futures would contain the loader's future once
/// more.
pub(super) async fn load<Q, K, V, S, R, E, F, Fut, T>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    call: Call,
    load: F,
    finish: impl FnOnce(Outcome<V, E>) -> T,
) -> T
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    R: Into<Loaded<V>>,
    E: Send + Sync + 'static,
    F: FnOnce(&mut Lead<K, V, S>) -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    let search = store.search();
    let mut ahead = store.lead_ahead(hash, key, &call.ask);
    let is_ahead = ahead.is_some();
    let result = 'decided: {
        let mut has_joined = false;
        let mut carried = Carried::default();
        let mut may_offload = call.may_offload;
        let mut lead = loop {
            let is_ahead = ahead.is_some();
            let next = ahead.take().map_or_else(|| store.join(hash, key, &call.ask), Next::Lead);
            let (next, is_own) = offload(store, next, &call.ask, &carried, &mut may_offload);
            match next {
                Next::Look => match store.got(hash, key, &call.ask) {
                    Looked::Value(got) => break 'decided Ok(got),
                    Looked::Missing => break 'decided Err(LoadError::NotFound),
                    Looked::Nothing => {}
                },
                Next::Serve(got) => break 'decided Ok(got),
                Next::Failed(landing) => {
                    if let Some(result) = joined(landing) {
                        break 'decided result;
                    }
                }
                Next::Recursive => break 'decided Err(LoadError::Recursive),
                Next::Follow(flight) => {
                    if !is_own && !std::mem::replace(&mut has_joined, true) {
                        store.count_joined();
                    }
                    carried.put_down();
                    match wait(store, &flight, key, &call).await {
                        Waited::Landed(landing) => {
                            if let Some(result) = followed(landing, is_own) {
                                break 'decided result;
                            }
                        }
                        Waited::Stale(got) => break 'decided Ok(got),
                        Waited::CallerTimedOut { is_in_line } => {
                            break 'decided caller_timed_out(
                                store, hash, key, &call.ask, is_in_line,
                            );
                        }
                    }
                    carried.inherit(&flight);
                }
                // a closure is run by its own caller, even if that could be served stale
                Next::Lead(mut lead) | Next::Revalidate(mut lead) => {
                    if let Some(question) = lead.question() {
                        let asked = asked(store, &mut lead, call.until, question).await;
                        if asked.is_none() && call.until.is_some_and(|at| at <= store.clock.now()) {
                            break 'decided lead_timed_out(store, lead, key, &call);
                        }
                        // if the tier takes until `load_timeout`, the followers time out by themselves, and this
                        // caller asks the source
                        let found = asked.unwrap_or(Err(TierError::TimedOut));
                        let accepts = |age| call.ask.accepts(age);
                        if let Some(entry) = lead.answer(found, accepts, false) {
                            break 'decided lead.land_kept(entry, call.ttl);
                        }
                    }
                    let may_serve = || is_ahead || store.is_servable(hash, key, &call.ask);
                    let (caller, until) = (Caller::Loads, call.until);
                    match admit_async(store, &mut lead, caller, &mut carried, until, may_serve)
                        .await
                    {
                        Ok(()) => break lead,
                        Err(refusal) => {
                            let refused = lead.refuse(refusal).map(|error| (refusal, error));
                            let served =
                                |refused| serve_refused(store, hash, key, &call, is_ahead, refused);
                            if let Some(served) = refused.and_then(served) {
                                break 'decided served;
                            }
                        }
                    }
                }
            }
        };
        let result = {
            let loader = load(&mut lead);
            let mut loader = pin!(loader);
            let mut alarm = TaskAlarm::default();
            let poll = |task: &mut Context<'_>| {
                poll_lead(store, &mut lead, call.until, loader.as_mut(), &mut alarm, task)
            };
            poll_fn(poll).await
        };
        // the loader's future has been dropped by now, even if it ran out of time: the next load may have its
        // slot
        match result {
            Some(result) => {
                // `Into` may be the user's code too
                let result = lead.run(|| result.map(Into::into));
                lead.land(result, call.ttl)
            }
            None => lead_timed_out(store, lead, key, &call),
        }
    };
    let result =
        result.or_else(|error| serve_or_error(store, hash, key, &call.ask, is_ahead, error));
    finish(count_served(search, result))
}

/// The async form of [`blocking::search_or_make`](super::blocking::search_or_make).
pub(super) async fn make<Q, K, V, S, F, Fut>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    make: F,
) -> V
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    F: FnOnce() -> Fut,
    Fut: Future<Output = V>,
{
    if let Looked::Value(value) = store.get(hash, key, Purpose::Make) {
        return value;
    }
    let search = store.search();
    let call = making();
    let mut ahead = store.lead_ahead(hash, key, &call.ask);
    let mut has_joined = false;
    let mut carried = Carried::default();
    let mut lead = loop {
        let is_ahead = ahead.is_some();
        match ahead.take().map_or_else(|| store.join(hash, key, &call.ask), Next::Lead) {
            Next::Look => {
                if let Looked::Value(got) = store.got(hash, key, &call.ask) {
                    return got.value;
                }
            }
            Next::Serve(got) => {
                search.was_served_stale();
                return got.value;
            }
            Next::Recursive => break None,
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                match wait(store, &flight, key, &call).await {
                    Waited::Landed(Landing::Value(brought)) => return brought.value.clone(),
                    Waited::Stale(got) => {
                        search.was_served_stale();
                        return got.value;
                    }
                    // this call has neither an error to return nor a timeout: it goes on
                    Waited::Landed(_) | Waited::CallerTimedOut { .. } => {}
                }
                carried.inherit(&flight);
            }
            Next::Failed(_) => unreachable!("a call that makes its value gets no errors"),
            Next::Lead(mut lead) | Next::Revalidate(mut lead) => {
                if let Some(question) = lead.question() {
                    // if the tier takes until `load_timeout`, the followers time out by themselves, and this
                    // caller asks the source
                    let found = asked(store, &mut lead, None, question).await;
                    let found = found.unwrap_or(Err(TierError::TimedOut));
                    if let Some(entry) = lead.answer(found, |age| call.ask.accepts(age), true) {
                        match lead.land_kept::<Infallible>(entry, None) {
                            Ok(got) => return got.value,
                            Err(_) => unreachable!("a value was landed"),
                        }
                    }
                }
                // if this is a refresh, the fresh value is found at the next look
                let may_serve = || is_ahead || store.is_servable(hash, key, &call.ask);
                let caller = Caller::Makes;
                match admit_async(store, &mut lead, caller, &mut carried, None, may_serve).await {
                    Ok(()) => break Some(lead),
                    Err(refusal) => {
                        lead.refuse::<Infallible>(refusal);
                        if let Some(got) = stale_if_overloaded(store, hash, key, &call.ask, refusal)
                        {
                            search.was_served_stale();
                            return got.value;
                        }
                    }
                }
            }
        }
    };
    let maker = match &mut lead {
        Some(lead) => lead.run(make),
        None => make(),
    };
    let mut maker = pin!(maker);
    let value = poll_fn(|task| match &mut lead {
        Some(lead) => lead.run(|| maker.as_mut().poll(task)),
        None => maker.as_mut().poll(task),
    })
    .await;
    // inside a load of the same key the value is not stored; the outer load stores its own
    let Some(lead) = lead else { return value };
    match lead.land::<Infallible>(Ok(Loaded::new(value)), None) {
        Ok(got) => got.value,
        Err(_) => unreachable!("a value was landed"),
    }
}

/// Waits for the second tier's answer. `None` if the load's time or the caller's own is over first.
async fn asked<K, V, S>(
    store: &Arc<Store<K, V, S>>,
    lead: &mut Lead<K, V, S>,
    until: Option<Tick>,
    mut question: Question<K, V>,
) -> Option<Result<TierFound<K, V>, TierError>> {
    let mut alarm = TaskAlarm::default();
    poll_fn(|task| poll_lead(store, lead, until, Pin::new(&mut question), &mut alarm, task)).await
}

/// Polls a leader's loader (or its question to the tier) once. `None` if the load's time or the caller's own is
/// over.
fn poll_lead<K, V, S, Fut: Future>(
    store: &Arc<Store<K, V, S>>,
    lead: &mut Lead<K, V, S>,
    until: Option<Tick>,
    loader: Pin<&mut Fut>,
    alarm: &mut TaskAlarm,
    task: &mut Context<'_>,
) -> Poll<Option<Fut::Output>> {
    if let Poll::Ready(result) = lead.run(|| loader.poll(task)) {
        return Poll::Ready(Some(result));
    }
    let deadline = until.map_or(lead.deadline(), |until| until.min(lead.deadline()));
    alarm.set(&store.clock, deadline, task.waker());
    if deadline <= store.clock.now() { Poll::Ready(None) } else { Poll::Pending }
}

/// The same for a loader of several keys, whose future `poll` polls.
pub(super) fn poll_batch<K, V, S, R>(
    store: &Arc<Store<K, V, S>>,
    batch: &mut Batch<K, V, S>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    alarm: &mut TaskAlarm,
    task: &mut Context<'_>,
) -> Poll<Option<R>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if let Poll::Ready(reply) = batch.run(|| poll(task)) {
        return Poll::Ready(Some(reply));
    }
    let deadline = batch.deadline();
    alarm.set(&store.clock, deadline, task.waker());
    if deadline <= store.clock.now() { Poll::Ready(None) } else { Poll::Pending }
}

pub(super) async fn wait<Q, K, V, S>(
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
        if let Some(landing) = waiter.await {
            return call.outcome_of(landing);
        }
        if let Some(waited) = limit_passed(store, flight, key, &call.ask, &mut limits) {
            return waited;
        }
    }
}
