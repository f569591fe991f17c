//! What one caller accepts: which values, loads and failures.

use crate::parts::flight::{Flight, Landing};
use crate::rules::expiry::NEVER;
use crate::words::tick::Tick;
use std::any::TypeId;

/// The conditions of a caller that may load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Load even if it is known that the source has no such value.
    pub(crate) over_missing: bool,
    /// The load is one of several that one loader call does at once: they are counted together.
    pub(crate) in_batch: bool,
    /// This caller accepts no value older than so many ticks, and joins no load that began earlier than that.
    pub(crate) max_age: u64,
    /// `force`: this caller accepts no cached value, and joins no load with a number below this one; zero
    /// without `force`.
    pub(crate) since: u64,
    /// The error type of this caller; a caller without one is told of no failure.
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

    /// Whether the caller does not accept every value that is fresh by the cache's settings.
    pub(crate) fn is_choosy(&self) -> bool {
        self.is_forced() || self.max_age < NEVER
    }

    /// Whether the caller accepts a value that is so many ticks old.
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
