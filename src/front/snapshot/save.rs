//! Saving every fresh entry, while the cache may be in use.

use super::error::SnapshotError;
use super::frame::{Encoder, Header, RecordNotes};
use crate::engine::restore::Walked;
use crate::engine::store::Store;
use crate::parts::tags::Tagged;
use crate::rules::expiry::NEVER;
use crate::shard::walk::Cursor;
use crate::words::tick::Tick;
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

/// How much a [`save_to`](crate::Cache::save_to) wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// How many entries.
    pub entries: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Writes the cache's entries. `begun` is the header's time by the cache's clock.
pub(super) fn save<K, V, S>(
    store: &Store<K, V, S>,
    writer: impl Write,
    header: &Header,
    begun: Tick,
) -> Result<Saved, SnapshotError>
where
    K: Serialize + Clone,
    V: Serialize + Clone,
{
    let mut encoder = Encoder::new(writer, header)?;
    for shard in 0..store.shards() {
        let mut cursor = Cursor::default();
        while !cursor.is_done() {
            // taken before the walk: remaining lives count from the header's time
            let since = store.clock.now() - begun;
            for Walked { key, got, left, unused, tags } in store.walk_in_full(shard, &mut cursor) {
                let left = match left {
                    NEVER.. => u64::MAX,
                    left => left + since,
                };
                let age = millis(got.age).saturating_sub(since);
                let tags = tags.iter().flat_map(Tagged::iter).collect();
                let notes = RecordNotes { left, age, validator: got.validator.as_deref(), tags };
                encoder.entry(&notes, unused.saturating_sub(since), &key, &got.value)?;
            }
        }
    }
    let (entries, bytes) = encoder.finish()?;
    Ok(Saved { entries, bytes })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER).min(NEVER)
}
