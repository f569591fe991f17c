//! Waiting for permission to call the source once for several keys: blocking and async.

use crate::engine::guard::{Permit, Refusal};
use crate::engine::lead::Lead;
use crate::engine::store::Store;
use crate::parts::turn::Turn;

/// Asks for permission to load several keys with one call of the loader, and waits for it. If all slots are taken,
/// `spare` first takes out the keys that need not be loaded now. `None` if none is left.
pub(super) fn admit_many<K, V, S>(
    store: &Store<K, V, S>,
    leads: &mut Vec<Lead<K, V, S>>,
    spare: impl FnOnce(&mut Vec<Lead<K, V, S>>),
) -> Option<Result<Permit, Refusal>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let turn = match enter_many(store, leads, spare)? {
        Ok(turn) => turn,
        Err(entered) => return Some(entered),
    };
    Some(turn.block().map_err(Refusal::from).and_then(|slot| store.enter_many_with(slot)))
}

/// The async form.
pub(super) async fn admit_many_async<K, V, S>(
    store: &Store<K, V, S>,
    leads: &mut Vec<Lead<K, V, S>>,
    spare: impl FnOnce(&mut Vec<Lead<K, V, S>>),
) -> Option<Result<Permit, Refusal>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let turn = match enter_many(store, leads, spare)? {
        Ok(turn) => turn,
        Err(entered) => return Some(entered),
    };
    Some(turn.await.map_err(Refusal::from).and_then(|slot| store.enter_many_with(slot)))
}

/// A turn to wait for, or the result if there is no need to wait.
#[allow(clippy::type_complexity, reason = "taken apart at once")]
fn enter_many<'s, K, V, S>(
    store: &'s Store<K, V, S>,
    leads: &mut Vec<Lead<K, V, S>>,
    spare: impl FnOnce(&mut Vec<Lead<K, V, S>>),
) -> Option<Result<Turn<'s>, Result<Permit, Refusal>>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if leads.is_empty() {
        return None;
    }
    match store.enter_many() {
        Ok(Some(permit)) => return Some(Err(Ok(permit))),
        Err(refusal) => return Some(Err(Err(refusal))),
        Ok(None) => {}
    }
    spare(leads);
    (!leads.is_empty()).then(|| Ok(store.queue_many(leads)))
}
