//! Loading while a thread waits.

use super::guard::admit;
use super::outcome::joined;
use crate::engine::guard::{Caller, Carried};
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Next};
use crate::engine::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::waiter::Waiter;
use crate::rules::got::Got;
use crate::rules::loaded::Loaded;
use crate::shard::look::Ask;
use crate::words::error::LoadError;
use equivalent::Equivalent;
use std::sync::Arc;
use std::time::Duration;

/// What a call that found nothing in the cache goes through: decide, then load or wait, and again
/// if what it waited for came to nothing.
pub(super) fn load<Q, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    ttl: Option<Duration>,
    load: impl FnOnce(&mut Lead<K, V, S>) -> Result<Loaded<V>, E>,
) -> Result<Got<V>, LoadError<E>>
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut has_joined = false;
    let mut carried = Carried::default();
    loop {
        match store.join(hash, key, Ask::default()) {
            Next::Look => match store.got(hash, key, false) {
                Looked::Value(got) => return Ok(got),
                Looked::Missing => return Err(LoadError::NotFound),
                Looked::Nothing => {}
            },
            Next::Recursive => return Err(LoadError::Recursive),
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                if let Some(result) = joined(wait(store, &flight)) {
                    return result;
                }
                carried.inherit(&flight);
            }
            Next::Lead(mut lead) => {
                match admit(store, &mut lead, Caller::Loads, &mut carried, None) {
                    Ok(()) => {
                        let result = load(&mut lead);
                        return lead.land(result, ttl);
                    }
                    Err(refusal) => {
                        if let Some(error) = lead.refuse(refusal) {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }
}

/// `get_or_insert_with`: whatever is not a value is answered by the caller's own closure.
pub(super) fn make<Q, K, V, S>(
    store: &Arc<Store<K, V, S>>,
    hash: u64,
    key: &Q,
    make: impl FnOnce() -> V,
) -> V
where
    Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    let mut has_joined = false;
    let mut carried = Carried::default();
    loop {
        match store.join(hash, key, Ask { over_missing: true, ..Ask::default() }) {
            Next::Look => {
                if let Looked::Value(got) = store.got(hash, key, false) {
                    return got.value;
                }
            }
            // inside its own load: the value is made, and the load that runs stores its own
            Next::Recursive => return make(),
            Next::Follow(flight) => {
                if !std::mem::replace(&mut has_joined, true) {
                    store.count_joined();
                }
                carried.put_down();
                if let Landing::Value(brought) = wait(store, &flight) {
                    return brought.value.clone();
                }
                carried.inherit(&flight);
            }
            Next::Lead(mut lead) => {
                if let Err(refusal) = admit(store, &mut lead, Caller::Makes, &mut carried, None) {
                    lead.refuse::<Never>(refusal);
                    continue;
                }
                let value = lead.run(make);
                return match lead.land::<Never>(Ok(Loaded::new(value)), None) {
                    Ok(got) => got.value,
                    Err(_) => unreachable!("a value was landed"),
                };
            }
        }
    }
}

/// The error of a load that has none.
pub(super) enum Never {}

pub(super) fn wait<K, V, S>(store: &Arc<Store<K, V, S>>, flight: &Arc<Flight<K, V>>) -> Landing<V> {
    let waiter = Waiter::new(Arc::clone(flight), store.clock.clone(), store.load_timeout);
    waiter.block().unwrap_or_else(|| given_up(store, flight))
}

/// The deadline came: the flight loses its key. It may have landed just before.
pub(super) fn given_up<K, V, S>(store: &Store<K, V, S>, flight: &Arc<Flight<K, V>>) -> Landing<V> {
    store.time_out(flight);
    flight.landing().unwrap_or(Landing::TimedOut)
}
