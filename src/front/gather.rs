//! Batching: misses of single keys, gathered for a short while and loaded by one call of the loader.
//!
//! The first caller that misses opens a gathering and waits; those who miss meanwhile add their keys and follow
//! the flights of these. When the time is over, or the gathering is full, the first caller loads all keys, on
//! its own thread or in its own task. Nothing runs in the background: if the first caller goes away, the keys
//! are given up, and the other callers look again and gather anew.

use super::attempt::{Attempt, Following, Step};
use super::call::Call;
use super::future::poll_batch;
use super::guard::{admit_many, admit_many_async};
use super::many::LoaderReply;
use super::outcome::Outcome;
use super::tier::ask::{ask_many, ask_many_async};
use super::{blocking, future};
use crate::engine::batch::Batch;
use crate::engine::guard::{Permit, Refusal, refuse_all};
use crate::engine::lead::Lead;
use crate::engine::store::Store;
use crate::engine::tier::inquiry::Settled;
use crate::engine::unreported::Later;
use crate::parts::waiter::{TaskAlarm, wait_until};
use crate::words::block_on::block_on_until;
use crate::words::contain::wake_all;
use crate::words::error::LoadError;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The batching of one cache: finds the open gathering, or opens one.
pub(crate) struct Gather<K, V, S> {
    /// How many keys make a gathering full.
    most: usize,
    /// For how many ticks a gathering stays open.
    patience: u64,
    open: Mutex<Option<Arc<Gathering<K, V, S>>>>,
}

/// The keys of one call of the loader.
struct Gathering<K, V, S> {
    until: Tick,
    state: Mutex<State<K, V, S>>,
}

struct State<K, V, S> {
    leads: Vec<Lead<K, V, S>>,
    /// Closed: no key is added any more.
    is_closed: bool,
    first: Waker,
}

/// The first caller of a gathering. If it is dropped before it loads, all keys are given up, and their waiters
/// look again.
struct First<'g, K, V, S> {
    gather: &'g Gather<K, V, S>,
    gathering: Arc<Gathering<K, V, S>>,
}

/// What a caller that leads its key does next.
enum GatherPart<'g, K, V, S> {
    First(First<'g, K, V, S>),
    /// Its key is in another caller's gathering.
    Follow(Following<K, V>),
}

impl<K, V, S> Gather<K, V, S> {
    pub(crate) fn new(most: usize, patience: u64) -> Self {
        Self { most, patience, open: Mutex::new(None) }
    }

    /// How many keys make a gathering full.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Adds the key to the open gathering, or opens a new one. `alone` is set for callers that must not wait for
    /// others. The time of a gathering runs from when its first caller began to lead, since others can see the
    /// flight from then on. A gathering past its time waits only for its first caller, which may be a task that
    /// is never polled again; so later callers open another one.
    fn join(&self, lead: Lead<K, V, S>, alone: bool) -> GatherPart<'_, K, V, S> {
        let flight = lead.follow();
        let mut open = self.open.lock();
        let is_in_time = |open: &&Arc<Gathering<K, V, S>>| flight.started() < open.until;
        if let Some(gathering) = open.as_ref().filter(is_in_time).filter(|_| !alone) {
            let gathering = Arc::clone(gathering);
            let mut state = gathering.state.lock();
            state.leads.push(lead);
            let is_full = state.leads.len() >= self.most;
            state.is_closed = is_full;
            let first = is_full.then(|| std::mem::replace(&mut state.first, Waker::noop().clone()));
            drop(state);
            if is_full {
                *open = None;
            }
            drop(open);
            wake_all(first);
            return GatherPart::Follow(Following::of(flight));
        }
        let is_closed = alone || self.most <= 1;
        let state = State { leads: vec![lead], is_closed, first: Waker::noop().clone() };
        let until = flight.started().saturating_add(self.patience);
        let gathering = Arc::new(Gathering { until, state: Mutex::new(state) });
        if !is_closed {
            *open = Some(Arc::clone(&gathering));
        }
        drop(open);
        GatherPart::First(First { gather: self, gathering })
    }
}

impl<K, V, S> First<'_, K, V, S> {
    /// Waits until the gathering is full. It may be [over](Gathering::until) before.
    async fn full(&self) {
        poll_fn(|task| {
            let mut waker = task.waker().clone();
            let is_closed = {
                let mut state = self.gathering.state.lock();
                std::mem::swap(&mut state.first, &mut waker);
                state.is_closed
            };
            drop(waker);
            if is_closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Closes the gathering and begins the loads: a load's own time does not run while it waits for other keys.
    fn begin(&self) -> Vec<Lead<K, V, S>> {
        let leads = self.close();
        leads.iter().for_each(Lead::begin_late);
        leads
    }

    /// Closes the gathering. Returns its leads, the first caller's own ahead.
    fn close(&self) -> Vec<Lead<K, V, S>> {
        let mut open = self.gather.open.lock();
        let mut state = self.gathering.state.lock();
        state.is_closed = true;
        let leads = std::mem::take(&mut state.leads);
        drop(state);
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, &self.gathering)) {
            *open = None;
        }
        leads
    }
}

impl<K, V, S> Drop for First<'_, K, V, S> {
    fn drop(&mut self) {
        // those who wait look again, and gather anew
        drop(self.close());
    }
}

/// One call for one key.
struct GatherCall<'c, Q: ?Sized, K, V, S, E> {
    attempt: Attempt<'c, Q, K, V, S, E>,
    gather: &'c Gather<K, V, S>,
    has_gathered: bool,
}

impl<'c, Q, K, V, S, E> GatherCall<'c, Q, K, V, S, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn new(
        store: &'c Arc<Store<K, V, S>>,
        gather: &'c Gather<K, V, S>,
        hash: u64,
        key: &'c Q,
        options: &'c Call,
    ) -> Self {
        let attempt = Attempt::to_load(store, hash, key, options);
        Self { attempt, gather, has_gathered: false }
    }

    /// Decides what this call does next, or its result. Does not wait.
    fn decide(&mut self) -> ControlFlow<Outcome<V, E>, GatherPart<'c, K, V, S>> {
        let store = self.attempt.store;
        loop {
            let lead = match self.attempt.next()? {
                Step::Wait(following) => return Continue(GatherPart::Follow(following)),
                Step::Lead(lead) => lead,
            };
            // the second time, after its gathering found no slot: the tier has been asked already
            let has_gathered = std::mem::replace(&mut self.has_gathered, true);
            if has_gathered && self.attempt.may_serve() && store.is_crowded() {
                self.attempt.refused(lead, Refusal::Overloaded)?;
                continue;
            }
            let part = self.gather.join(lead, store.must_not_wait());
            if let GatherPart::Follow(following) = &part {
                store.hurry(&following.flight);
            }
            return Continue(part);
        }
    }

    /// No slot is free: if the first caller can be served a stale value, it gives the gathering up, and the
    /// others look again, to be served a stale value too or to gather anew. `own` is the result of the first
    /// caller's own key.
    fn spare(&mut self, leads: &mut Vec<Lead<K, V, S>>, own: &mut Option<Outcome<V, E>>) {
        if own.is_none() && self.attempt.may_serve() {
            let mut leads = std::mem::take(leads).into_iter();
            *own = leads
                .next()
                .and_then(|lead| self.attempt.refused(lead, Refusal::Overloaded).break_value());
        }
    }

    /// Waits for the gathering to close and loads it, blocking the thread. Returns the result of the first
    /// caller's own key; `None` if the caller has to look again.
    fn lead(
        &mut self,
        first: &First<'_, K, V, S>,
        load: impl Fn(&[K]) -> LoaderReply<K, V, E>,
    ) -> Option<Outcome<V, E>> {
        let (store, ask) = (self.attempt.store, &self.attempt.call.ask);
        block_on_until(first.full(), &store.clock, first.gathering.until);
        // outlives the leads: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let mut leads = first.begin();
        let first_id = leads[0].id();
        let mut own = first_of(ask_many(store, &mut leads, ask, &mut later));
        let permit = admit_many(store, &mut leads, |leads| self.spare(leads, &mut own));
        let Some((leads, permit)) = admitted(leads, permit, &mut own) else { return own };
        let is_own = leads[0].id() == first_id;
        let keys = keys(&leads);
        let mut batch = Batch::new(Arc::clone(store), leads, permit);
        let reply = batch.run(|| load(&keys));
        let loaded = batch.land(reply).into_iter().next();
        drop(later);
        own.or(loaded.filter(|_| is_own))
    }

    /// The async form of [`lead`](Self::lead).
    async fn lead_async<Fut>(
        &mut self,
        first: &First<'_, K, V, S>,
        load: impl Fn(Vec<K>) -> Fut,
    ) -> Option<Outcome<V, E>>
    where
        Fut: Future<Output = LoaderReply<K, V, E>>,
    {
        let (store, ask) = (self.attempt.store, &self.attempt.call.ask);
        wait_until(pin!(first.full()), &store.clock, first.gathering.until).await;
        // outlives the leads: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let mut leads = first.begin();
        let first_id = leads[0].id();
        let mut own = first_of(ask_many_async(store, &mut leads, ask, &mut later).await);
        let permit = admit_many_async(store, &mut leads, |leads| self.spare(leads, &mut own)).await;
        let Some((leads, permit)) = admitted(leads, permit, &mut own) else { return own };
        let is_own = leads[0].id() == first_id;
        let keys = keys(&leads);
        let mut batch = Batch::new(Arc::clone(store), leads, permit);
        let reply = {
            let mut loader = pin!(batch.run(|| load(keys)));
            let mut alarm = TaskAlarm::default();
            poll_fn(|task| {
                let poll = |task: &mut Context<'_>| loader.as_mut().poll(task);
                poll_batch(store, &mut batch, poll, &mut alarm, task)
            })
            .await
        };
        let Some(reply) = reply else {
            batch.time_out();
            return own.or(is_own.then_some(Err(LoadError::TimedOut)));
        };
        let loaded = batch.land(reply).into_iter().next();
        drop(later);
        own.or(loaded.filter(|_| is_own))
    }
}

/// The second tier's answer for the first caller's own key.
fn first_of<V, E>(settled: Settled<V, E>) -> Option<Outcome<V, E>> {
    settled.into_iter().find(|(at, _)| *at == 0).map(|(_, outcome)| outcome)
}

/// The gathered keys that are to be loaded now, if the source may be called at all: without those that were
/// written to during the wait for a slot. `own` is the result of the first caller's own key.
#[allow(clippy::type_complexity, reason = "taken apart at once")]
fn admitted<K, V, S, E>(
    leads: Vec<Lead<K, V, S>>,
    permit: Option<Result<Permit, Refusal>>,
    own: &mut Option<Outcome<V, E>>,
) -> Option<(Vec<Lead<K, V, S>>, Permit)> {
    match permit? {
        Ok(permit) => {
            let leads: Vec<_> = leads.into_iter().filter(|lead| !lead.is_outdated()).collect();
            (!leads.is_empty()).then_some((leads, permit))
        }
        Err(refusal) => {
            let refused = refuse_all(leads, refusal).into_iter().next().flatten();
            if own.is_none() {
                *own = refused.map(Err);
            }
            None
        }
    }
}

fn keys<K: Clone, V, S>(leads: &[Lead<K, V, S>]) -> Vec<K> {
    leads.iter().map(|lead| lead.key().clone()).collect()
}

/// Loads a key through the cache's batching, blocking the thread.
pub(super) fn load<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    gather: &Gather<K, V, S>,
    hash: u64,
    key: &Q,
    load: impl Fn(&[K]) -> LoaderReply<K, V, E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let options = Call::in_batch::<E>();
    let mut call = GatherCall::new(store, gather, hash, key, &options);
    let outcome = loop {
        let outcome = match call.decide() {
            Break(outcome) => Some(outcome),
            Continue(GatherPart::First(first)) => call.lead(&first, &load),
            Continue(GatherPart::Follow(following)) => {
                let waited = blocking::wait(store, &following.flight, key, &options);
                call.attempt.waited(following, waited).break_value()
            }
        };
        if let Some(outcome) = outcome {
            break outcome;
        }
    };
    call.attempt.finish(outcome)
}

/// The async form of [`load`].
pub(super) async fn load_async<Q, K, V, S, E, Fut>(
    store: &Arc<Store<K, V, S>>,
    gather: &Gather<K, V, S>,
    hash: u64,
    key: &Q,
    load: impl Fn(Vec<K>) -> Fut,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToKey<K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
    Fut: Future<Output = LoaderReply<K, V, E>>,
{
    let options = Call::in_batch::<E>();
    let mut call = GatherCall::new(store, gather, hash, key, &options);
    let outcome = loop {
        let outcome = match call.decide() {
            Break(outcome) => Some(outcome),
            Continue(GatherPart::First(first)) => call.lead_async(&first, &load).await,
            Continue(GatherPart::Follow(following)) => {
                let waited = future::wait(store, &following.flight, key, &options).await;
                call.attempt.waited(following, waited).break_value()
            }
        };
        if let Some(outcome) = outcome {
            break outcome;
        }
    };
    call.attempt.finish(outcome)
}
