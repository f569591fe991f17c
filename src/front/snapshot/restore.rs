//! Restoring a snapshot, entry by entry, while the cache may be in use.

use super::error::SnapshotError;
use super::frame::{Decoder, Header};
use crate::engine::restore::{Metadata, Since};
use crate::engine::store::Store;
use crate::rules::expiry::NEVER;
use crate::shard::entry::LifeBegan;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, Hash};
use std::io::Read;
use std::sync::Arc;

/// What became of a snapshot's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Entries that were stored in the cache; some may have been evicted since, to make room for others.
    pub restored: u64,
    /// Entries whose life, or `time_to_idle`, has ended since the snapshot was written, or that are older than
    /// this cache's time to live.
    pub expired: u64,
    /// Entries that were not stored, because something newer is there, or may have been while the snapshot was
    /// read, or because they weigh too much.
    pub skipped: u64,
}

/// Stores the entries of a snapshot that have not expired in the `away` milliseconds since it was written.
pub(super) fn restore<R, K, V, S>(
    watch: &WriteWatch<'_, K, V, S>,
    mut decoder: Decoder<R>,
    header: &Header,
    away: u64,
    revalidate: bool,
) -> Result<Restored, SnapshotError>
where
    R: Read,
    K: DeserializeOwned + Hash + Eq + Clone + Send + Sync + 'static,
    V: DeserializeOwned + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let store = watch.store;
    let (time_to_live, time_to_idle) = (store.lives().ttl, store.lives().idle);
    let is_shorter = time_to_live < header.time_to_live;
    // its life is over, and there is no window after it
    let is_over_at_once = revalidate && !store.lives().windows.is_any();
    let begun = store.clock.now();
    let mut sum = Restored::default();
    while let Some(records) = decoder.block::<K, V>(sum.restored)? {
        let passed = away.saturating_add(store.clock.now() - begun);
        for record in records {
            let age = record.age.saturating_add(passed).min(NEVER);
            let mut left = match record.left {
                u64::MAX => NEVER,
                left => left.saturating_sub(passed).min(NEVER - 1),
            };
            if is_shorter {
                left = left.min(time_to_live.saturating_sub(age));
            }
            // the time in which nobody could use it counts towards its idle time
            let unused = record.unused.saturating_add(passed).min(NEVER);
            if left == 0 || is_over_at_once || time_to_idle < NEVER && time_to_idle <= unused {
                sum.expired += 1;
                continue;
            }
            let hash = store.hash(&record.key);
            let begun = if revalidate {
                LifeBegan::EndingNow { age, unused }
            } else {
                LifeBegan::Elsewhere { age, unused }
            };
            let metadata = Metadata {
                left,
                begun,
                validator: record.validator.map(Arc::from),
                tags: record.tags,
            };
            if store.restore(hash, record.key, record.value, metadata, &watch.since) {
                sum.restored += 1;
            } else {
                sum.skipped += 1;
            }
        }
    }
    Ok(sum)
}

/// While it lives, writes are noted: what was written since is newer than any snapshot.
pub(super) struct WriteWatch<'a, K, V, S> {
    store: &'a Arc<Store<K, V, S>>,
    since: Since<'a>,
}

impl<'a, K, V, S> WriteWatch<'a, K, V, S> {
    pub(super) fn new(store: &'a Arc<Store<K, V, S>>) -> Self {
        Self { store, since: store.watch_writes() }
    }
}
