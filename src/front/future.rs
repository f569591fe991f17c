//! Loading while a task waits. The same engine, the same flights; only the waiting differs.

use super::blocking::{Never, given_up};
use super::guard::admit_async;
use super::outcome::joined;
use crate::engine::guard::{Caller, Carried};
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Next};
use crate::engine::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::{Bell, Waiter};
use crate::rules::got::Got;
use crate::rules::loaded::Loaded;
use crate::shard::look::Ask;
use crate::words::error::LoadError;
use equivalent::Equivalent;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The async twin of [`blocking::load`](super::blocking::load). `load` makes the loader's future,
/// `finish` turns the outcome into what the front returns: one future for all fronts, with no other
/// one wrapped around it, since each layer would carry the loader's future once more.
pub(super) async fn load<Q, K, V, S, R, E, F, Fut, T>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    ttl: Option<Duration>,
    load: F,
    finish: fn(Result<Got<V>, LoadError<E>>) -> T,
) -> T
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    R: Into<Loaded<V>>,
    E: Send + Sync + 'static,
    F: FnOnce(&mut Lead<K, V, S>) -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    match store.got(hash, key, true) {
        Looked::Value(got) => return finish(Ok(got)),
        Looked::Missing => return finish(Err(LoadError::NotFound)),
        Looked::Nothing => {}
    }
    let mut has_joined = false;
    let mut carried = Carried::default();
    let mut lead = loop {
        match store.join(hash, key, Ask::default()) {
            Next::Look => match store.got(hash, key, false) {
                Looked::Value(got) => return finish(Ok(got)),
                Looked::Missing => return finish(Err(LoadError::NotFound)),
                Looked::Nothing => {}
            },
            Next::Recursive => return finish(Err(LoadError::Recursive)),
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                if let Some(result) = joined(wait(store, &flight).await) {
                    return finish(result);
                }
                carried.inherit(&flight);
            }
            Next::Lead(mut lead) => {
                match admit_async(store, &mut lead, Caller::Loads, &mut carried, None).await {
                    Ok(()) => break lead,
                    Err(refusal) => {
                        if let Some(error) = lead.refuse(refusal) {
                            return finish(Err(error));
                        }
                    }
                }
            }
        }
    };
    let loader = load(&mut lead);
    let mut loader = pin!(loader);
    let mut bell = Bell::default();
    let result =
        poll_fn(|task| poll_lead(store, &mut lead, loader.as_mut(), &mut bell, task)).await;
    finish(if let Some(result) = result {
        lead.land(result.map(Into::into), ttl)
    } else {
        lead.time_out();
        Err(LoadError::TimedOut)
    })
}

/// The async twin of [`blocking::make`](super::blocking::make).
pub(super) async fn make<Q, K, V, S, F, Fut>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    make: F,
) -> V
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    F: FnOnce() -> Fut,
    Fut: Future<Output = V>,
{
    if let Looked::Value(value) = store.get(hash, key) {
        return value;
    }
    let mut has_joined = false;
    let mut carried = Carried::default();
    let mut lead = loop {
        match store.join(hash, key, Ask { over_missing: true, ..Ask::default() }) {
            Next::Look => {
                if let Looked::Value(got) = store.got(hash, key, false) {
                    return got.value;
                }
            }
            Next::Recursive => break None,
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                if let Landing::Value(brought) = wait(store, &flight).await {
                    return brought.value.clone();
                }
                carried.inherit(&flight);
            }
            Next::Lead(mut lead) => {
                match admit_async(store, &mut lead, Caller::Makes, &mut carried, None).await {
                    Ok(()) => break Some(lead),
                    Err(refusal) => drop(lead.refuse::<Never>(refusal)),
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
    match lead.map(|lead| lead.land::<Never>(Ok(Loaded::new(value.clone())), None)) {
        Some(Ok(got)) => got.value,
        _ => value,
    }
}

/// One poll of a leader: its loader, then its time. `None` when the time is over.
fn poll_lead<K, V, S, Fut: Future>(
    store: &Arc<Store<K, V, S>>,
    lead: &mut Lead<K, V, S>,
    loader: Pin<&mut Fut>,
    bell: &mut Bell,
    task: &mut Context<'_>,
) -> Poll<Option<Fut::Output>> {
    if let Poll::Ready(result) = lead.run(|| loader.poll(task)) {
        return Poll::Ready(Some(result));
    }
    let deadline = lead.deadline();
    bell.set(&store.clock, deadline, task.waker());
    if deadline <= store.clock.now() { Poll::Ready(None) } else { Poll::Pending }
}

pub(super) async fn wait<K, V, S>(
    store: &Arc<Store<K, V, S>>,
    flight: &Arc<Flight<K, V>>,
) -> Landing<V> {
    let waiter = Waiter::new(Arc::clone(flight), store.clock.clone(), store.load_timeout);
    waiter.await.unwrap_or_else(|| given_up(store, flight))
}
