//! Asking the second tier for many keys at once, as a thread and as a task.

use crate::engine::lead::Lead;
use crate::engine::store::Store;
use crate::engine::tier::inquiry::{Inquiry, Settled, settle};
use crate::engine::unreported::Later;
use crate::parts::waiter::wait_until;
use crate::shard::ask::Ask;
use crate::words::block_on::block_on_until;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

/// Asks the tier for the keys of these leads, stores what it has, and keeps in `leads` those that have to load.
pub(in crate::front) fn ask_many<K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    leads: &mut Vec<Lead<K, V, S>>,
    ask: &Ask,
    later: &mut Later<K, V, S>,
) -> Settled<V, E>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Some(mut inquiry) = Inquiry::new(store, leads) else { return Vec::new() };
    let deadline = store.timeouts.deadline(store.clock.now());
    let asked = poll_fn(|task| inquiry.poll(task));
    let answers = block_on_until(asked, &store.clock, deadline);
    let answers = answers.unwrap_or_else(|| inquiry.give_up());
    settle(leads, answers, |age| ask.accepts(age), later)
}

/// The async form.
pub(in crate::front) async fn ask_many_async<K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    leads: &mut Vec<Lead<K, V, S>>,
    ask: &Ask,
    later: &mut Later<K, V, S>,
) -> Settled<V, E>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Some(mut inquiry) = Inquiry::new(store, leads) else { return Vec::new() };
    let deadline = store.timeouts.deadline(store.clock.now());
    let asked = pin!(poll_fn(|task| inquiry.poll(task)));
    let answers = wait_until(asked, &store.clock, deadline).await;
    let answers = answers.unwrap_or_else(|| inquiry.give_up());
    settle(leads, answers, |age| ask.accepts(age), later)
}
