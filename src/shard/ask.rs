//! What one caller accepts: of a value, of a load, of a failure.

use crate::parts::flight::{Flight, Landing};
use crate::rules::expiry::NEVER;
use crate::words::tick::Tick;
use std::any::TypeId;

/// What a caller who may load says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Load also where it is known that the source has none.
    pub(crate) over_missing: bool,
    /// The load is one of several that one loader does at once: they are counted together.
    pub(crate) in_batch: bool,
    /// A value older than so many ticks is not for this caller, nor is a load that began before.
    pub(crate) max_age: u64,
    /// `force`: no value, and no load whose number is below this one; zero if it was not said.
    pub(crate) since: u64,
    /// The type of the errors that the caller can be told; one that has none is told no failure.
    pub(crate) error: Option<TypeId>,
}

impl Default for Ask {
    fn default() -> Self {
        Self { over_missing: false, in_batch: false, max_age: NEVER, since: 0, error: None }
    }
}

impl Ask {
    pub(crate) fn of<E: 'static>() -> Self {
        Self { error: Some(TypeId::of::<E>()), ..Self::default() }
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.since > 0
    }

    /// Whether the caller takes not just any value that the cache calls fresh.
    pub(crate) fn is_choosy(&self) -> bool {
        self.is_forced() || self.max_age < NEVER
    }

    /// Whether a value so many ticks old is one for this caller.
    pub(crate) fn accepts(&self, age: u64) -> bool {
        !self.is_forced() && age <= self.max_age
    }

    pub(super) fn may_join<K, V>(&self, flight: &Flight<K, V>, now: Tick) -> bool {
        flight.number >= self.since && now.saturating_sub(flight.started()) <= self.max_age
    }

    pub(super) fn can_be_told<V>(&self, landing: &Landing<V>) -> bool {
        match landing {
            Landing::Failed(error) => self.error == Some((**error).type_id()),
            _ => self.error.is_some(),
        }
    }
}
