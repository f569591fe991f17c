//! What a shard stores.

use crate::parts::budget::Budget;
use crate::parts::eviction::Admission;
use crate::parts::group::Hash;
use crate::parts::tags::{TagFate, Tagged, Tags};
use crate::rules::expiry::{Lives, Stamp};
use crate::words::tick::Tick;
use std::sync::Arc;

/// A value with its key: the content of a slot, and all that a hit touches.
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    /// Eight bytes that are never zero, which makes an `Option<Entry>` as small as an `Entry`.
    pub(crate) stamp: Stamp,
}

/// "The source has no such value", remembered for a while.
pub(crate) struct Missing<K> {
    pub(crate) key: K,
    pub(crate) stamp: Stamp,
}

/// Data that few values have. It is kept aside, by slot, and follows its entry: when the table grows, when
/// the entry is replaced, and when it leaves.
///
/// A field added here travels the whole way (loader, [`Put`], shard) by itself; it only has to be filled in
/// where a [`Put`] is made, and read where a [`Got`](crate::Got) is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// The source's name for this version of the value.
    pub(crate) validator: Option<Arc<str>>,
    pub(crate) tags: Option<Tagged>,
    /// How its life began, if that was before it is stored. Used on the way in only.
    pub(crate) begun: Option<LifeBegan>,
}

/// How a life began that is not drawn when the value is stored. Ages and times in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LifeBegan {
    /// In another process, which used it last so long ago.
    Elsewhere { age: u64, unused: u64 },
    /// The same, and it ends now, and its stale windows begin.
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "made by snapshots"))]
    EndingNow { age: u64, unused: u64 },
    /// The same, and it ended some time ago.
    Over { age: u64, over_for: u64 },
    /// With the value that this one replaces.
    Before(Stamp),
}

impl LifeBegan {
    /// The stamp of a life that has `ttl` ticks left, if it is not over.
    pub(super) fn stamp(self, now: Tick, ttl: u64) -> Stamp {
        match self {
            Self::Elsewhere { age, .. } => Stamp::restored(now, ttl, age),
            Self::EndingNow { age, .. } => Stamp::restored(now, ttl, age).cut(now),
            Self::Over { age, over_for } => Stamp::over(now, over_for, age),
            Self::Before(stamp) => stamp,
        }
    }

    /// When the value was used last.
    pub(super) fn used(self, now: Tick) -> Tick {
        match self {
            // no clock shows when that was if it is longer ago than clocks go back
            Self::Elsewhere { unused, .. } | Self::EndingNow { unused, .. } => {
                now.saturating_sub(unused).max(1)
            }
            Self::Over { .. } | Self::Before(_) => now,
        }
    }
}

impl Notes {
    /// The notes of a loaded or written value, if it has any: most have none.
    #[inline]
    pub(crate) fn of(validator: Option<Arc<str>>, tags: Option<Tagged>) -> Option<Box<Self>> {
        if validator.is_none() && tags.is_none() {
            return None;
        }
        Some(Box::new(Self { validator, tags, begun: None }))
    }

    /// Whether there is nothing to keep, and nothing to use on the way in.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { validator, tags, begun } = self;
        validator.is_none() && tags.is_none() && begun.is_none()
    }

    /// What has happened to its tags since its load started.
    pub(crate) fn fate(&self) -> TagFate {
        self.tags.as_ref().map_or(TagFate::Untouched, Tagged::fate)
    }
}

/// What is to be stored.
pub(crate) struct Put<K, V> {
    pub(crate) hash: Hash,
    pub(crate) key: K,
    /// `None` for "there is none".
    pub(crate) value: Option<V>,
    /// How much of the cache's budget it takes.
    pub(crate) units: u64,
    /// Ticks, before jitter; with zero it is refused.
    pub(crate) ttl: u64,
    /// How many ticks it took to load, at least one; zero for what was not loaded.
    pub(crate) took: u64,
    /// What is to be kept aside for it.
    pub(crate) notes: Option<Box<Notes>>,
    /// The policy's decision, if it was asked already: it is asked only once, since it then forgets what it
    /// knew of a newcomer.
    pub(crate) admission: Option<Admission>,
}

impl<K, V> Put<K, V> {
    /// A value that was not loaded, with nothing beside it.
    #[inline]
    pub(crate) fn of(hash: u64, key: K, value: V, units: u64, ttl: u64) -> Self {
        let (hash, value) = (Hash::new(hash), Some(value));
        Self { hash, key, value, units, ttl, took: 0, notes: None, admission: None }
    }

    /// Whether it is a value for which nothing is to be kept aside but what the shard keeps for all.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.value.is_some() && self.notes.is_none()
    }

    /// Whether the life that it has of the value before it is over.
    pub(crate) fn is_over(&self, now: Tick) -> bool {
        let begun = self.notes.as_ref().and_then(|notes| notes.begun);
        matches!(begun, Some(LifeBegan::Before(stamp)) if !stamp.is_fresh(now))
    }

    /// Whether something has happened to its tags since its load started.
    pub(crate) fn is_outdated(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.fate() != TagFate::Untouched)
    }
}

/// The time and the settings that hold during a critical section. The time is read after the lock was taken,
/// so that nothing is served by a clock that was read before a wait.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) now: Tick,
    pub(crate) lives: &'a Lives,
    pub(crate) budget: &'a Budget,
    pub(crate) tags: &'a Tags,
    /// Ticks.
    pub(crate) load_timeout: u64,
}
