//! Many keys in one call.
//!
//! The call leads the keys that nobody is loading yet, and loads them with one call of the loader; only then
//! does it wait for the keys that others load. So it never waits while others may be waiting for it, and two
//! batches that want some of the same keys cannot deadlock.

use super::attempt::{Attempt, Following, Step};
use super::call::{Call, Waited};
use super::future::poll_batch;
use super::guard::{admit_many, admit_many_async};
use super::outcome::Outcome;
use super::tier::ask::{ask_many, ask_many_async};
use super::{blocking, future};
use crate::engine::batch::Batch;
use crate::engine::guard::{Permit, Refusal, refuse_all};
use crate::engine::lead::Lead;
use crate::engine::look::Looked;
use crate::engine::store::Store;
use crate::engine::tier::inquiry::Settled;
use crate::engine::unreported::Later;
use crate::parts::stack;
use crate::parts::waiter::TaskAlarm;
use crate::rules::loaded::Loaded;
use crate::rules::many::Many;
use crate::words::error::LoadError;
use hashbrown::HashTable;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::ops::ControlFlow::{Break, Continue};
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
struct Wanted<'k, K, V, S, E> {
    key: &'k K,
    /// `None` if a fresh value was found at once, and when the outcome is final.
    attempt: Option<Attempt<'k, K, K, V, S, E>>,
    outcome: Option<Outcome<V, E>>,
}

impl<K, V, S, E> Wanted<'_, K, V, S, E>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// If there is an outcome, makes it final: an error is replaced by a value that may be served now, if there is
    /// one.
    fn close(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.outcome = Some(match self.attempt.take() {
                Some(attempt) => attempt.finish(outcome),
                None => outcome,
            });
        }
    }
}

/// One call for many keys.
struct ManyCall<'k, K, V, S, E> {
    wanted: Vec<Wanted<'k, K, V, S, E>>,
}

/// What is to be done for the keys that have no outcome yet. The numbers are indices into `wanted`.
struct Round<K, V, S> {
    led: Vec<usize>,
    leads: Vec<Lead<K, V, S>>,
    followed: Vec<(usize, Following<K, V>)>,
}

impl<'k, K, V, S, E> ManyCall<'k, K, V, S, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Looks all keys up, without a load.
    fn new(store: &'k Arc<Store<K, V, S>>, keys: &'k [K], options: &'k Call) -> Self {
        let mut wanted: Vec<Wanted<'k, K, V, S, E>> = Vec::with_capacity(keys.len());
        let mut seen = HashTable::with_capacity(keys.len());
        for key in keys {
            let hash = store.hash(key);
            if seen.find(hash, |&(_, at): &(u64, usize)| wanted[at].key == key).is_some() {
                continue;
            }
            seen.insert_unique(hash, (hash, wanted.len()), |&(hash, _)| hash);
            let outcome = match store.got_or_search(hash, key, &options.ask) {
                Looked::Value(got) => Some(Ok(got)),
                Looked::Missing => Some(Err(LoadError::NotFound)),
                Looked::Nothing => None,
            };
            let attempt = outcome.is_none().then(|| Attempt::to_load(store, hash, key, options));
            wanted.push(Wanted { key, attempt, outcome });
        }
        Self { wanted }
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
            let Some(attempt) = &mut wanted.attempt else { continue };
            match attempt.next() {
                Break(outcome) => wanted.outcome = Some(outcome),
                Continue(Step::Wait(following)) => round.followed.push((at, following)),
                Continue(Step::Lead(lead)) => {
                    round.led.push(at);
                    running.push(stack::enter(lead.id()));
                    round.leads.push(lead);
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
            match &mut wanted.attempt {
                Some(attempt) if attempt.may_serve() => {
                    // served now, since the value may be gone when the other keys have been loaded
                    wanted.outcome = attempt.refused(lead, Refusal::Overloaded).break_value();
                }
                _ => {
                    led.push(at);
                    leads.push(lead);
                }
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
    fn close(&mut self) {
        self.wanted.iter_mut().for_each(Wanted::close);
    }

    /// Takes over the result of waiting for a joined flight. Without a result the key is open again.
    fn waited(&mut self, at: usize, following: Following<K, V>, waited: Waited<V>) {
        let wanted = &mut self.wanted[at];
        if let Some(attempt) = &mut wanted.attempt {
            wanted.outcome = attempt.waited(following, waited).break_value();
        }
        wanted.close();
    }

    fn finish(self) -> Many<K, V, E> {
        let outcomes = self.wanted.into_iter();
        Many::gather(outcomes.filter_map(|wanted| Some((wanted.key.clone(), wanted.outcome?))))
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
    let options = Call::in_batch::<E>();
    let mut call = ManyCall::new(store, keys, &options);
    while !call.is_done() {
        // outlives the leads, also where this ends early: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let Round { mut led, mut leads, followed } = call.decide();
        let settled = ask_many(store, &mut leads, &options.ask, &mut later);
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
        call.close();
        for (at, following) in followed {
            let key = call.wanted[at].key;
            let waited = blocking::wait(store, &following.flight, key, &options);
            call.waited(at, following, waited);
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
    let options = Call::in_batch::<E>();
    let mut call = ManyCall::new(store, keys, &options);
    while !call.is_done() {
        // outlives the leads, also where this ends early: a listener may ask for any of their keys
        let mut later = Later::new(store);
        let Round { mut led, mut leads, followed } = call.decide();
        let settled = ask_many_async(store, &mut leads, &options.ask, &mut later).await;
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
        call.close();
        for (at, following) in followed {
            let key = call.wanted[at].key;
            let waited = future::wait(store, &following.flight, key, &options).await;
            call.waited(at, following, waited);
        }
    }
    call.finish()
}
