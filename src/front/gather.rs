//! Misses that come one after the other, loaded by one call.
//!
//! The first caller that misses opens a gathering and waits; those who miss meanwhile hand it their
//! keys. When the time is over, or enough keys are there, the first one loads them all, on its own
//! time, and each of the others has what its key's flight brings. So nothing runs in the background,
//! and a gathering is over when its first caller goes away: then the keys are handed on.

use super::call::{Call, Waited, counted, impatient, stale_or};
use super::guard::{admit_many, admit_many_async};
use super::many::LoaderReply;
use super::outcome::joined;
use super::tier::ask::{ask_many, ask_many_async};
use super::{blocking, future};
use crate::engine::batch::Batch;
use crate::engine::guard::Refusal;
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::Looked;
use crate::engine::store::Store;
use crate::engine::tier::inquiry::Settled;
use crate::engine::unreported::Later;
use crate::parts::flight::Flight;
use crate::parts::waiter::Bell;
use crate::rules::got::Got;
use crate::words::error::LoadError;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::unpark::Unpark;
use equivalent::Equivalent;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Where the callers of one cache meet.
pub(crate) struct Gather<K, V, S> {
    /// So many keys are enough.
    most: usize,
    /// So many ticks are.
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
    /// No key is added any more.
    is_closed: bool,
    first: Waker,
}

/// The first caller of a gathering. Dropped before it loads, it hands all keys on.
struct First<'g, K, V, S> {
    gather: &'g Gather<K, V, S>,
    gathering: Arc<Gathering<K, V, S>>,
}

/// What a caller who leads is to do.
enum GatherPart<'g, K, V, S> {
    First(First<'g, K, V, S>),
    /// Its key is in somebody's gathering.
    Follow(Arc<Flight<K, V>>),
}

impl<K, V, S> Gather<K, V, S> {
    pub(crate) fn new(most: usize, patience: u64) -> Self {
        Self { most, patience, open: Mutex::new(None) }
    }

    /// So many keys are enough.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// `alone` is who must not wait for another caller. The first one's time runs since it led: from then on
    /// it can be seen.
    fn join(&self, lead: Lead<K, V, S>, alone: bool) -> GatherPart<'_, K, V, S> {
        let flight = lead.join();
        let mut open = self.open.lock();
        if let Some(gathering) = open.as_ref().filter(|_| !alone) {
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
            if let Some(first) = first {
                first.wake();
            }
            return GatherPart::Follow(flight);
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
    /// Whether it is time; if not, `waker` is woken when the gathering is full.
    fn is_over(&self, now: Tick, waker: &Waker) -> bool {
        let mut waker = waker.clone();
        let is_closed = {
            let mut state = self.gathering.state.lock();
            std::mem::swap(&mut state.first, &mut waker);
            state.is_closed
        };
        drop(waker);
        is_closed || now >= self.gathering.until
    }

    /// Closes the gathering. The keys in it, the first caller's own ahead.
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

/// There is no leave to call the source: each key's caller is told so.
fn refuse<K, V, S, E>(leads: Vec<Lead<K, V, S>>, refusal: Refusal) -> Option<LoadError<E>> {
    let mut own = None;
    for (at, lead) in leads.into_iter().enumerate() {
        let error = lead.refuse(refusal);
        if at == 0 {
            own = error;
        }
    }
    own
}

/// There is no slot, and the first caller can be served without one: it goes, and the others look again,
/// to be served likewise or to gather anew.
fn leave_to_others<K, V, S, E>(leads: &mut Vec<Lead<K, V, S>>) -> Option<LoadError<E>> {
    let mut leads = std::mem::take(leads).into_iter();
    leads.next()?.refuse(Refusal::Overloaded)
}

/// What was written to while it waited for a slot is not loaded.
fn current<K, V, S>(leads: Vec<Lead<K, V, S>>) -> Vec<Lead<K, V, S>> {
    leads.into_iter().filter(|lead| !lead.is_outdated()).collect()
}

/// What the second tier had for the first caller's own key.
fn first_of<V, E>(settled: Settled<V, E>) -> Option<Outcome<V, E>> {
    settled.into_iter().find(|(at, _)| *at == 0).map(|(_, outcome)| outcome)
}

fn keys<K: Clone, V, S>(leads: &[Lead<K, V, S>]) -> Vec<K> {
    leads.iter().map(|lead| lead.key().clone()).collect()
}

type Outcome<V, E> = Result<Got<V>, LoadError<E>>;

/// Loads while a thread waits.
pub(super) fn load<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    gather: &Gather<K, V, S>,
    hash: u64,
    key: &Q,
    load: impl Fn(&[K]) -> LoaderReply<K, V, E>,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let search = store.search();
    let mut call = Call::plain::<E>();
    call.ask.in_batch = true;
    let may_serve = || store.is_servable(hash, key, &call.ask);
    let (mut has_joined, mut has_gathered) = (false, false);
    let outcome = loop {
        let (flight, gathered) = match store.join(hash, key, &call.ask) {
            Next::Look => match store.got(hash, key, &call.ask) {
                Looked::Value(got) => break Ok(got),
                Looked::Missing => break Err(LoadError::NotFound),
                Looked::Nothing => continue,
            },
            Next::Serve(got) => break Ok(got),
            Next::Failed(landing) => match joined(landing) {
                Some(outcome) => break outcome,
                None => continue,
            },
            Next::Recursive => break Err(LoadError::Recursive),
            Next::Follow(flight) => (flight, false),
            Next::Lead(lead) | Next::Revalidate(lead) => {
                // where the first one went for want of a slot, the tier has been asked
                let has_gathered = std::mem::replace(&mut has_gathered, true);
                if has_gathered && may_serve() && store.is_crowded() {
                    break Err(lead.refuse(Refusal::Overloaded).unwrap_or(LoadError::Overloaded));
                }
                match gather.join(lead, store.brings_news()) {
                    GatherPart::Follow(flight) => {
                        store.hurry(&flight);
                        (flight, true)
                    }
                    GatherPart::First(first) => {
                        let waker = Waker::from(Unpark::this());
                        while !first.is_over(store.clock.now(), &waker) {
                            store.clock.park_until(Some(first.gathering.until));
                        }
                        // outlives the leads: a listener may ask for any of their keys
                        let mut later = Later::new(store);
                        let mut leads = first.close();
                        let own = leads[0].id();
                        let settled = ask_many(store, &mut leads, &call.ask, &mut later);
                        let mut kept = first_of(settled);
                        let spare = |leads: &mut _| {
                            if kept.is_none() && may_serve() {
                                kept = leave_to_others(leads).map(Err);
                            }
                        };
                        let Some(permit) = admit_many(store, &mut leads, spare) else {
                            match kept {
                                Some(outcome) => break outcome,
                                None => continue,
                            }
                        };
                        let permit = match permit {
                            Ok(permit) => permit,
                            Err(refusal) => match kept.or(refuse(leads, refusal).map(Err)) {
                                Some(outcome) => break outcome,
                                None => continue,
                            },
                        };
                        let leads = current(leads);
                        let is_own = leads.first().is_some_and(|lead| lead.id() == own);
                        if leads.is_empty() {
                            match kept {
                                Some(outcome) => break outcome,
                                None => continue,
                            }
                        }
                        let keys = keys(&leads);
                        let mut batch = Batch::new(Arc::clone(store), leads, permit);
                        let reply = batch.run(|| load(&keys));
                        let outcome = batch.land(reply).into_iter().next();
                        drop(later);
                        match kept.or(outcome.filter(|_| is_own)) {
                            Some(outcome) => break outcome,
                            None => continue,
                        }
                    }
                }
            }
        };
        if !gathered && !std::mem::replace(&mut has_joined, true) {
            store.count_joined();
        }
        match blocking::wait(store, &flight, key, &call) {
            Waited::Landed(landing) => {
                if let Some(outcome) = joined(landing) {
                    break outcome;
                }
            }
            Waited::Stale(got) => break Ok(got),
            Waited::Impatient { is_in_line } => {
                break impatient(store, hash, key, &call.ask, is_in_line);
            }
        }
    };
    counted(search, outcome.or_else(|error| stale_or(store, hash, key, &call.ask, error)))
}

/// Loads while a task waits: the twin of [`load`].
#[allow(clippy::too_many_lines, reason = "one loop, as its twin")]
pub(super) async fn load_async<Q, K, V, S, E, Fut>(
    store: &Arc<Store<K, V, S>>,
    gather: &Gather<K, V, S>,
    hash: u64,
    key: &Q,
    load: impl Fn(Vec<K>) -> Fut,
) -> Outcome<V, E>
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
    Fut: Future<Output = LoaderReply<K, V, E>>,
{
    let search = store.search();
    let mut call = Call::plain::<E>();
    call.ask.in_batch = true;
    let may_serve = || store.is_servable(hash, key, &call.ask);
    let (mut has_joined, mut has_gathered) = (false, false);
    let outcome = loop {
        let (flight, gathered) = match store.join(hash, key, &call.ask) {
            Next::Look => match store.got(hash, key, &call.ask) {
                Looked::Value(got) => break Ok(got),
                Looked::Missing => break Err(LoadError::NotFound),
                Looked::Nothing => continue,
            },
            Next::Serve(got) => break Ok(got),
            Next::Failed(landing) => match joined(landing) {
                Some(outcome) => break outcome,
                None => continue,
            },
            Next::Recursive => break Err(LoadError::Recursive),
            Next::Follow(flight) => (flight, false),
            Next::Lead(lead) | Next::Revalidate(lead) => {
                // where the first one went for want of a slot, the tier has been asked
                let has_gathered = std::mem::replace(&mut has_gathered, true);
                if has_gathered && may_serve() && store.is_crowded() {
                    break Err(lead.refuse(Refusal::Overloaded).unwrap_or(LoadError::Overloaded));
                }
                match gather.join(lead, store.brings_news()) {
                    GatherPart::Follow(flight) => {
                        store.hurry(&flight);
                        (flight, true)
                    }
                    GatherPart::First(first) => {
                        let mut bell = Bell::default();
                        poll_fn(|task| {
                            // set before looking: a clock that passes the end in between rings
                            bell.set(&store.clock, first.gathering.until, task.waker());
                            let is_over = first.is_over(store.clock.now(), task.waker());
                            if is_over { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await;
                        // outlives the leads: a listener may ask for any of their keys
                        let mut later = Later::new(store);
                        let mut leads = first.close();
                        let own = leads[0].id();
                        let settled =
                            ask_many_async(store, &mut leads, &call.ask, &mut later).await;
                        let mut kept = first_of(settled);
                        let spare = |leads: &mut _| {
                            if kept.is_none() && may_serve() {
                                kept = leave_to_others(leads).map(Err);
                            }
                        };
                        let permit = admit_many_async(store, &mut leads, spare).await;
                        let Some(permit) = permit else {
                            match kept {
                                Some(outcome) => break outcome,
                                None => continue,
                            }
                        };
                        let permit = match permit {
                            Ok(permit) => permit,
                            Err(refusal) => match kept.or(refuse(leads, refusal).map(Err)) {
                                Some(outcome) => break outcome,
                                None => continue,
                            },
                        };
                        let leads = current(leads);
                        let is_own = leads.first().is_some_and(|lead| lead.id() == own);
                        if leads.is_empty() {
                            match kept {
                                Some(outcome) => break outcome,
                                None => continue,
                            }
                        }
                        let keys = keys(&leads);
                        let mut batch = Batch::new(Arc::clone(store), leads, permit);
                        let reply = {
                            let mut loader = pin!(batch.run(|| load(keys)));
                            let mut bell = Bell::default();
                            poll_fn(|task| {
                                let polled = batch.run(|| loader.as_mut().poll(task));
                                if let Poll::Ready(reply) = polled {
                                    return Poll::Ready(Some(reply));
                                }
                                let deadline = batch.deadline();
                                bell.set(&store.clock, deadline, task.waker());
                                let is_over = deadline <= store.clock.now();
                                if is_over { Poll::Ready(None) } else { Poll::Pending }
                            })
                            .await
                        };
                        let Some(reply) = reply else {
                            batch.time_out();
                            break kept.unwrap_or(Err(LoadError::TimedOut));
                        };
                        let outcome = batch.land(reply).into_iter().next();
                        drop(later);
                        match kept.or(outcome.filter(|_| is_own)) {
                            Some(outcome) => break outcome,
                            None => continue,
                        }
                    }
                }
            }
        };
        if !gathered && !std::mem::replace(&mut has_joined, true) {
            store.count_joined();
        }
        match future::wait(store, &flight, key, &call).await {
            Waited::Landed(landing) => {
                if let Some(outcome) = joined(landing) {
                    break outcome;
                }
            }
            Waited::Stale(got) => break Ok(got),
            Waited::Impatient { is_in_line } => {
                break impatient(store, hash, key, &call.ask, is_in_line);
            }
        }
    };
    counted(search, outcome.or_else(|error| stale_or(store, hash, key, &call.ask, error)))
}
