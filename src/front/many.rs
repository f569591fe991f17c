//! Many keys in one call.
//!
//! The call leads the keys that nobody is loading yet, and loads them with one call of the loader; only then
//! does it wait for the keys that others load. So it never waits while others may be waiting for it, and two
//! batches that want some of the same keys cannot deadlock.

use super::call::{self, Waited, count_served, serve_or_error};
use super::future::poll_batch;
use super::guard::{admit_many, admit_many_async};
use super::outcome::{Outcome, joined};
use super::tier::ask::{ask_many, ask_many_async};
use super::{blocking, future};
use crate::engine::batch::Batch;
use crate::engine::guard::{Permit, Refusal, refuse_all};
use crate::engine::join::Next;
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Search};
use crate::engine::store::Store;
use crate::engine::tier::inquiry::Settled;
use crate::engine::unreported::Later;
use crate::parts::flight::Flight;
use crate::parts::stack;
use crate::parts::waiter::TaskAlarm;
use crate::rules::loaded::Loaded;
use crate::rules::many::Many;
use crate::shard::ask::Ask;
use crate::words::error::LoadError;
use hashbrown::HashTable;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The reply of a loader of many keys.
pub(super) type LoaderReply<K, V, E> = Result<Vec<(K, Loaded<V>)>, E>;

/// Converts the reply of a closure that returns plain values.
pub(super) fn plain<K, V>(reply: impl IntoIterator<Item = (K, V)>) -> Vec<(K, Loaded<V>)> {
    reply.into_iter().map(|(key, value)| (key, Loaded::new(value))).collect()
}

/// A key that was asked for; duplicates in the list share one.
struct Wanted<'k, K, V, E> {
    key: &'k K,
    hash: u64,
    has_joined: bool,
    /// This call refreshes it ahead of its expiry.
    is_ahead: bool,
    /// `None` if a fresh value was found at once.
    search: Option<Search<'k>>,
    outcome: Option<Outcome<V, E>>,
}

impl<K: Eq, V: Clone, E> Wanted<'_, K, V, E> {
    /// If its load failed, replaces the error by a value that may be served now, if there is one.
    fn serve<S>(&mut self, store: &Store<K, V, S>, ask: &Ask) {
        let (hash, key, is_ahead) = (self.hash, self.key, self.is_ahead);
        let serve = |outcome: Outcome<V, E>| {
            outcome.or_else(|error| serve_or_error(store, hash, key, ask, is_ahead, error))
        };
        self.outcome = self.outcome.take().map(serve);
    }
}

/// One call for many keys.
struct ManyCall<'k, K, V, S, E> {
    store: &'k Arc<Store<K, V, S>>,
    options: call::Call,
    wanted: Vec<Wanted<'k, K, V, E>>,
}

/// What is to be done for the keys that have no outcome yet. The numbers are indices into `wanted`.
struct Round<K, V, S> {
    led: Vec<usize>,
    leads: Vec<Lead<K, V, S>>,
    followed: Vec<(usize, Arc<Flight<K, V>>)>,
}

impl<'k, K, V, S, E> ManyCall<'k, K, V, S, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Looks all keys up, without a load.
    fn new(store: &'k Arc<Store<K, V, S>>, keys: &'k [K]) -> Self {
        let mut options = call::Call::plain::<E>();
        options.ask.in_batch = true;
        let mut wanted: Vec<Wanted<'k, K, V, E>> = Vec::with_capacity(keys.len());
        let mut seen = HashTable::with_capacity(keys.len());
        for key in keys {
            let hash = store.hash(key);
            if seen.find(hash, |&at: &usize| wanted[at].key == key).is_some() {
                continue;
            }
            seen.insert_unique(hash, wanted.len(), |&at| wanted[at].hash);
            let outcome = match store.got_or_search(hash, key, &options.ask) {
                Looked::Value(got) => Some(Ok(got)),
                Looked::Missing => Some(Err(LoadError::NotFound)),
                Looked::Nothing => None,
            };
            let search = outcome.is_none().then(|| store.search());
            wanted.push(Wanted { key, hash, has_joined: false, is_ahead: false, search, outcome });
        }
        Self { store, options, wanted }
    }

    fn is_done(&self) -> bool {
        self.wanted.iter().all(|wanted| wanted.outcome.is_some())
    }

    /// Decides for every open key who loads it. Does not wait.
    fn decide(&mut self) -> Round<K, V, S> {
        let mut round = Round { led: Vec::new(), leads: Vec::new(), followed: Vec::new() };
        // a runtime may run a due refresh on this thread, and its loader may ask for a key that is led already
        let mut running = Vec::new();
        for (at, wanted) in self.wanted.iter_mut().enumerate() {
            while wanted.outcome.is_none() {
                let (hash, key, ask) = (wanted.hash, wanted.key, &self.options.ask);
                let ahead = (!wanted.is_ahead).then(|| self.store.lead_ahead(hash, key, ask));
                let ahead = ahead.flatten();
                wanted.is_ahead |= ahead.is_some();
                match ahead.map_or_else(|| self.store.join(hash, key, ask), Next::Lead) {
                    Next::Look => match self.store.got(hash, key, ask) {
                        Looked::Value(got) => wanted.outcome = Some(Ok(got)),
                        Looked::Missing => wanted.outcome = Some(Err(LoadError::NotFound)),
                        Looked::Nothing => {}
                    },
                    Next::Serve(got) => wanted.outcome = Some(Ok(got)),
                    Next::Failed(landing) => wanted.outcome = joined(landing),
                    Next::Recursive => wanted.outcome = Some(Err(LoadError::Recursive)),
                    Next::Follow(flight) => {
                        if !std::mem::replace(&mut wanted.has_joined, true) {
                            self.store.count_joined();
                        }
                        round.followed.push((at, flight));
                        break;
                    }
                    Next::Lead(lead) | Next::Revalidate(lead) => {
                        round.led.push(at);
                        running.push(stack::enter(lead.id()));
                        round.leads.push(lead);
                        break;
                    }
                }
            }
        }
        round
    }

    /// Takes over the second tier's answers: these keys need no load.
    fn settled(&mut self, led: &mut Vec<usize>, settled: Settled<V, E>) {
        for (at, outcome) in settled.into_iter().rev() {
            self.wanted[led.remove(at)].outcome = Some(outcome);
        }
    }

    fn keys(&self, led: &[usize]) -> Vec<K> {
        led.iter().map(|&at| self.wanted[at].key.clone()).collect()
    }

    /// No slot is free: keys that can be served a stale or still fresh value are not loaded.
    fn spare(&mut self, led: &mut Vec<usize>, leads: &mut Vec<Lead<K, V, S>>) {
        let both = std::mem::take(led).into_iter().zip(std::mem::take(leads));
        for (at, lead) in both {
            let wanted = &mut self.wanted[at];
            let (hash, key, ask) = (wanted.hash, wanted.key, &self.options.ask);
            let is_good = wanted.is_ahead && self.store.is_good(hash, key, ask);
            if is_good || self.store.is_servable(hash, key, ask) {
                // served now, since the value may be gone when the other keys have been loaded
                let refused = lead.refuse(Refusal::Overloaded).map(|e| (Refusal::Overloaded, e));
                wanted.outcome = refused.and_then(|refused| {
                    call::serve_refused(
                        self.store,
                        hash,
                        key,
                        &self.options,
                        wanted.is_ahead,
                        refused,
                    )
                });
            } else {
                led.push(at);
                leads.push(lead);
            }
        }
    }

    /// The keys that this call is to load now, if it may call the source at all. A key that was written to while
    /// the call waited for a slot is open again.
    #[allow(clippy::type_complexity, reason = "two lists of one length and the permit for both")]
    fn admitted(
        &mut self,
        led: Vec<usize>,
        leads: Vec<Lead<K, V, S>>,
        permit: Option<Result<Permit, Refusal>>,
    ) -> Option<(Vec<usize>, Vec<Lead<K, V, S>>, Permit)> {
        match permit? {
            Ok(permit) => {
                let both = led.into_iter().zip(leads);
                let (led, leads): (Vec<_>, Vec<_>) =
                    both.filter(|(_, lead)| !lead.is_outdated()).unzip();
                (!led.is_empty()).then_some((led, leads, permit))
            }
            Err(refusal) => {
                for (at, error) in led.into_iter().zip(refuse_all(leads, refusal)) {
                    self.wanted[at].outcome = error.map(Err);
                }
                None
            }
        }
    }

    /// The loader is done with the keys that this call leads.
    fn landed(&mut self, batch: Batch<K, V, S>, led: &[usize], reply: LoaderReply<K, V, E>) {
        for (&at, outcome) in led.iter().zip(batch.land(reply)) {
            self.wanted[at].outcome = Some(outcome);
        }
    }

    /// Serves stale values for failed loads now, before it waits for others: a window may end meanwhile.
    fn serve(&mut self) {
        for wanted in &mut self.wanted {
            wanted.serve(self.store, &self.options.ask);
        }
    }

    /// Takes over the result of waiting for a joined flight. Without a result the key is open again.
    fn waited(&mut self, at: usize, waited: Waited<V>) {
        self.wanted[at].outcome = match waited {
            Waited::Landed(landing) => joined(landing),
            Waited::Stale(got) => Some(Ok(got)),
            // cannot happen: a call for many keys has no timeout of its own
            Waited::CallerTimedOut { .. } => Some(Err(LoadError::TimedOut)),
        };
        self.wanted[at].serve(self.store, &self.options.ask);
    }

    fn finish(self) -> Many<K, V, E> {
        Many::gather(self.wanted.into_iter().filter_map(|wanted| {
            let Wanted { key, search, outcome, .. } = wanted;
            let outcome = match search {
                Some(search) => count_served(search, outcome?),
                None => outcome?,
            };
            Some((key.clone(), outcome))
        }))
    }
}

/// Loads many keys, blocking the thread.
pub(super) fn load<K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    keys: &[K],
    mut load: impl FnMut(&[K]) -> LoaderReply<K, V, E>,
) -> Many<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut call = ManyCall::new(store, keys);
    while !call.is_done() {
        // outlives the leads, also where this ends early: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let Round { mut led, mut leads, followed } = call.decide();
        let settled = ask_many(store, &mut leads, &call.options.ask, &mut later);
        call.settled(&mut led, settled);
        let spare = |leads: &mut _| call.spare(&mut led, leads);
        let admitted = admit_many(store, &mut leads, spare);
        if let Some((led, leads, permit)) = call.admitted(led, leads, admitted) {
            let keys = call.keys(&led);
            let mut batch = Batch::new(Arc::clone(store), leads, permit);
            let reply = batch.run(|| load(&keys));
            call.landed(batch, &led, reply);
        }
        drop(later);
        call.serve();
        for (at, flight) in followed {
            let waited = blocking::wait(store, &flight, call.wanted[at].key, &call.options);
            call.waited(at, waited);
        }
    }
    call.finish()
}

/// The same for a loader of one key: each key is loaded by itself, and fails by itself.
pub(super) fn load_each<K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    keys: &[K],
    mut load_one: impl FnMut(&K) -> Result<Loaded<V>, E>,
) -> Many<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut many = Many::empty();
    let mut seen = HashSet::with_capacity(keys.len());
    for key in keys.iter().filter(|&key| seen.insert(key)) {
        let of_one = |_: &[K]| Ok(vec![(key.clone(), load_one(key)?)]);
        many.append(load(store, std::slice::from_ref(key), of_one));
    }
    many
}

/// How many keys of one call a loader of one key loads at once: as many as `warm` gives to one call of a loader
/// of many. Each wake-up of the task polls all of them.
const LOADS_AT_ONCE: usize = 32;

/// The async form of [`load_each`]: up to [`LOADS_AT_ONCE`] keys are loaded at once.
pub(super) async fn load_each_async<'k, K, V, S, E, F, Fut>(
    store: &'k Arc<Store<K, V, S>>,
    keys: &'k [K],
    load_one: F,
) -> Many<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Loaded<V>, E>>,
{
    let mut seen = HashSet::with_capacity(keys.len());
    let mut waiting = keys.iter().filter(|&key| seen.insert(key)).enumerate();
    let load_one = &load_one;
    let start = |key: &'k K| {
        let of_one =
            move |_: Vec<K>| async move { Ok(vec![(key.clone(), load_one(key.clone()).await?)]) };
        Box::pin(load_async(store, std::slice::from_ref(key), of_one, |reply| reply))
    };
    let (mut running, mut done) = (Vec::new(), Vec::new());
    poll_fn(|task| {
        loop {
            let more = waiting.by_ref().take(LOADS_AT_ONCE - running.len());
            running.extend(more.map(|(at, key)| (at, start(key))));
            let before = running.len();
            running.retain_mut(|(at, load)| match load.as_mut().poll(task) {
                Poll::Ready(many) => {
                    done.push((*at, many));
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return if before == 0 { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    done.sort_unstable_by_key(|(at, _)| *at);
    let mut all = Many::empty();
    for (_, many) in done {
        all.append(many);
    }
    all
}

/// The async form of [`load`].
pub(super) async fn load_async<K, V, S, R, E, F, Fut>(
    store: &Arc<Store<K, V, S>>,
    keys: &[K],
    mut load: F,
    reply: impl Fn(R) -> LoaderReply<K, V, E>,
) -> Many<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = R>,
{
    let mut call = ManyCall::new(store, keys);
    while !call.is_done() {
        // outlives the leads, also where this ends early: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let Round { mut led, mut leads, followed } = call.decide();
        let settled = ask_many_async(store, &mut leads, &call.options.ask, &mut later).await;
        call.settled(&mut led, settled);
        let spare = |leads: &mut _| call.spare(&mut led, leads);
        let admitted = admit_many_async(store, &mut leads, spare).await;
        if let Some((led, leads, permit)) = call.admitted(led, leads, admitted) {
            let keys = call.keys(&led);
            let mut batch = Batch::new(Arc::clone(store), leads, permit);
            let outcome = {
                let mut loader = pin!(batch.run(|| load(keys)));
                let mut alarm = TaskAlarm::default();
                poll_fn(|task| {
                    // the reply may be an iterator of the user's
                    let poll = |task: &mut Context<'_>| loader.as_mut().poll(task).map(&reply);
                    poll_batch(store, &mut batch, poll, &mut alarm, task)
                })
                .await
            };
            if let Some(reply) = outcome {
                call.landed(batch, &led, reply);
            } else {
                batch.time_out();
                for at in led {
                    call.wanted[at].outcome = Some(Err(LoadError::TimedOut));
                }
            }
        }
        drop(later);
        call.serve();
        for (at, flight) in followed {
            let waited = future::wait(store, &flight, call.wanted[at].key, &call.options).await;
            call.waited(at, waited);
        }
    }
    call.finish()
}
