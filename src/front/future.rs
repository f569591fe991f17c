//! Loading for async callers. Engine and flights are those of [`blocking`](super::blocking); only the waiting
//! differs.

use super::attempt::{Attempt, Step};
use super::call::{Call, Waited, limit_passed, limits};
use super::outcome::Outcome;
use crate::engine::batch::Batch;
use crate::engine::guard::Entrance;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::engine::store::Store;
use crate::engine::tier::Question;
use crate::parts::flight::Flight;
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
use std::ops::ControlFlow::{self, Break, Continue};
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
    let mut attempt = Attempt::to_load(store, hash, key, &call);
    let outcome = match lead(&mut attempt).await {
        Break(outcome) => outcome,
        Continue(mut lead) => {
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
                None => attempt.lead_timed_out(lead),
            }
        }
    };
    finish(attempt.finish(outcome))
}

/// The async form of [`blocking::lead`](super::blocking::lead).
async fn lead<Q, K, V, S, E>(
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
                let waited = wait(store, &following.flight, key, attempt.call).await;
                attempt.waited(following, waited)?;
                continue;
            }
        };
        if let Some(question) = lead.question() {
            let found = asked(store, &mut lead, attempt.call.until, question).await;
            lead = attempt.answered(lead, found)?;
        }
        let entered = match attempt.enter(&mut lead) {
            Ok(Entrance::Open) => Ok(()),
            Ok(Entrance::Busy) => {
                let slot = attempt.queue(&lead).await;
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
    let call = Call::making();
    let mut attempt = Attempt::<_, _, _, _, Infallible>::to_make(store, hash, key, &call);
    let outcome = match lead(&mut attempt).await {
        // inside a load of the same key: makes the value, which is not stored; the outer load stores its own
        Break(Err(LoadError::Recursive)) => return make().await,
        Break(outcome) => outcome,
        Continue(mut lead) => {
            let value = {
                let mut maker = pin!(lead.run(make));
                poll_fn(|task| lead.run(|| maker.as_mut().poll(task))).await
            };
            lead.land(Ok(Loaded::new(value)), call.ttl)
        }
    };
    match attempt.finish(outcome) {
        Ok(got) => got.value,
        Err(_) => unreachable!("a call that makes its value gets no errors"),
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
