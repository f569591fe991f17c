//! From the right to load to leave to call the source, as a thread and as a task.

use crate::engine::guard::{Caller, Carried, Entrance, Leave, Refusal};
use crate::engine::lead::Lead;
use crate::engine::store::Store;
use crate::words::tick::Tick;

/// Asks for leave; where all slots are taken, is refused if its caller `may_serve` something stale,
/// and else blocks this thread until it is its turn, or until `deadline`.
#[inline]
pub(super) fn admit<K, V, S>(
    store: &Store<K, V, S>,
    lead: &mut Lead<K, V, S>,
    caller: Caller,
    carried: &mut Carried,
    deadline: Option<Tick>,
    may_serve: impl FnOnce() -> bool,
) -> Result<(), Refusal>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    match lead.enter(caller, carried)? {
        Entrance::Open => Ok(()),
        Entrance::Busy if may_serve() => Err(Refusal::Overloaded),
        Entrance::Busy => {
            let slot = lead.queue(store, carried, deadline).block()?;
            lead.enter_with(slot, caller, carried)
        }
    }
}

/// The same for a task.
pub(super) async fn admit_async<K, V, S>(
    store: &Store<K, V, S>,
    lead: &mut Lead<K, V, S>,
    caller: Caller,
    carried: &mut Carried,
    deadline: Option<Tick>,
    may_serve: impl FnOnce() -> bool,
) -> Result<(), Refusal>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    match lead.enter(caller, carried)? {
        Entrance::Open => Ok(()),
        Entrance::Busy if may_serve() => Err(Refusal::Overloaded),
        Entrance::Busy => {
            let slot = lead.queue(store, carried, deadline).await?;
            lead.enter_with(slot, caller, carried)
        }
    }
}

/// As [`admit`], for keys that are loaded at once.
pub(super) fn admit_many<K, V, S>(
    store: &Store<K, V, S>,
    leads: &[Lead<K, V, S>],
) -> Result<Leave, Refusal>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    match store.enter_many()? {
        Some(leave) => Ok(leave),
        None => store.enter_many_with(store.queue_many(leads, None).block()?),
    }
}

/// The same for a task.
pub(super) async fn admit_many_async<K, V, S>(
    store: &Store<K, V, S>,
    leads: &[Lead<K, V, S>],
) -> Result<Leave, Refusal>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    match store.enter_many()? {
        Some(leave) => Ok(leave),
        None => store.enter_many_with(store.queue_many(leads, None).await?),
    }
}
