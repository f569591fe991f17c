//! What is said about a snapshot, and the calls that save and restore a cache.

use super::error::SnapshotError;
use super::file::replace;
use super::frame::{Decoder, Header};
use super::restore::{Restored, WriteWatch, restore};
use super::save::{Saved, save};
use crate::front::cache::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::hash::{BuildHasher, Hash};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How a cache is saved and restored, where [`Cache::save_to`] and [`Cache::load_from`] do not say
/// enough.
///
/// ```
/// use larder::{Cache, Snapshot};
///
/// let before: Cache<u64, String> = Cache::new(1_000);
/// before.insert(42, "Ada".to_owned());
/// let snapshot = Snapshot::new().schema(3); // to be raised when the types change
/// let mut bytes = Vec::new();
/// assert_eq!(snapshot.save_to(&before, &mut bytes)?.entries, 1);
///
/// let after: Cache<u64, String> = Cache::new(1_000);
/// assert_eq!(snapshot.load_from(&after, &bytes[..])?.restored, 1);
/// assert_eq!(after.get(&42).unwrap(), "Ada");
/// # Ok::<_, larder::SnapshotError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until a cache is saved or restored"]
pub struct Snapshot {
    schema: u32,
    revalidate: bool,
    /// What time it is, for tests.
    at: Option<SystemTime>,
}

impl Snapshot {
    /// Schema 0; entries come back as fresh as they were.
    pub fn new() -> Self {
        Self::default()
    }

    /// A number for the shape of keys and values, written with them: a snapshot with another one is
    /// refused. Raise it whenever their types change, or what they mean. The bytes name no fields,
    /// so a snapshot of older types may otherwise be read as nonsense.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Restores entries with their life at its end: what may be served stale is, and the first use
    /// of each loads it anew (with its validator, so that the source may answer `unchanged`). For
    /// data that may have changed while the process was away. In a cache without stale windows
    /// nothing is left of such an entry: all count as [`expired`](Restored::expired).
    pub fn revalidate(mut self, revalidate: bool) -> Self {
        self.revalidate = revalidate;
        self
    }

    /// What the wall clock says.
    #[doc(hidden)]
    pub fn at(mut self, now: SystemTime) -> Self {
        self.at = Some(now);
        self
    }

    /// Milliseconds since 1970.
    fn now(&self) -> u64 {
        let now = self.at.unwrap_or_else(SystemTime::now);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// As [`Cache::save_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn save_to<K, V, S>(
        &self,
        cache: &Cache<K, V, S>,
        writer: impl Write,
    ) -> Result<Saved, SnapshotError>
    where
        K: Serialize + Clone,
        V: Serialize + Clone,
    {
        let store = &cache.store;
        // one moment by two clocks: the snapshot says the first, what is left is counted by the second
        let begun = store.clock.now();
        let time_to_live = store.lives().ttl;
        let header = Header { schema: self.schema, written: self.now(), time_to_live };
        save(store, writer, &header, begun)
    }

    /// As [`Cache::load_from`].
    ///
    /// # Errors
    ///
    /// As there, and [`Schema`](SnapshotError::Schema).
    pub fn load_from<K, V, S>(
        &self,
        cache: &Cache<K, V, S>,
        reader: impl Read,
    ) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned + Hash + Eq + Clone + Send + Sync + 'static,
        V: DeserializeOwned + Clone + Send + Sync + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        // before anything is read: that may take its time
        let watch = WriteWatch::new(&cache.store);
        let (decoder, header) = Decoder::new(reader, self.schema)?;
        // a clock that was set back says nothing about how long it was; nothing lives longer for it
        let away = self.now().saturating_sub(header.written);
        restore(&watch, decoder, &header, away, self.revalidate)
    }

    /// As [`Cache::save_to_file`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn save_to_file<K, V, S>(
        &self,
        cache: &Cache<K, V, S>,
        path: impl AsRef<Path>,
    ) -> Result<Saved, SnapshotError>
    where
        K: Serialize + Clone,
        V: Serialize + Clone,
    {
        replace(path.as_ref(), |file| self.save_to(cache, file))
    }

    /// As [`Cache::load_from_file`].
    ///
    /// # Errors
    ///
    /// As there, and [`Schema`](SnapshotError::Schema).
    pub fn load_from_file<K, V, S>(
        &self,
        cache: &Cache<K, V, S>,
        path: impl AsRef<Path>,
    ) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned + Hash + Eq + Clone + Send + Sync + 'static,
        V: DeserializeOwned + Clone + Send + Sync + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.load_from(cache, BufReader::with_capacity(1 << 18, File::open(path)?))
    }
}

impl<K, V, S> Cache<K, V, S> {
    /// Writes down what the cache holds, for [`load_from`](Self::load_from) after a restart: every
    /// fresh entry with its key, value, remaining life, age, validator and tags. A cached "not found" and
    /// what is past its life are left out. Returns how much there was.
    ///
    /// The cache is used meanwhile: shard by shard, a few entries at a time are cloned under the
    /// shared lock, as by [`entries`](Self::entries), so this is no picture of one moment. It blocks
    /// on the writer, which need not be buffered. The bytes are those of
    /// [postcard](https://docs.rs/postcard), which serializes by position: a snapshot is read again
    /// by the types that wrote it. See [`Snapshot::schema`] for when they change. Types that only a
    /// format with names can read back are written, and refused when they are read: `serde_json::Value`,
    /// and what has serde's `untagged`, `flatten` or `skip_serializing_if`. (The feature
    /// `snapshot` switches on serde's `rc`, for values in an `Arc`.)
    ///
    /// # Errors
    ///
    /// [`Io`](SnapshotError::Io) from the writer, [`Serialize`](SnapshotError::Serialize) from a key
    /// or value, [`TooLarge`](SnapshotError::TooLarge). What was written by then is of no use.
    pub fn save_to(&self, writer: impl Write) -> Result<Saved, SnapshotError>
    where
        K: Serialize + Clone,
        V: Serialize + Clone,
    {
        Snapshot::new().save_to(self, writer)
    }

    /// [`save_to`](Self::save_to) a file, as a whole or not at all: it is written beside `path`,
    /// synchronised, and renamed. Whoever reads `path` finds the old snapshot or the new one, after a
    /// crash too.
    ///
    /// # Errors
    ///
    /// As `save_to`; `path` is as it was then.
    pub fn save_to_file(&self, path: impl AsRef<Path>) -> Result<Saved, SnapshotError>
    where
        K: Serialize + Clone,
        V: Serialize + Clone,
    {
        Snapshot::new().save_to_file(self, path)
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Restores what [`save_to`](Self::save_to) wrote, entry by entry as inserts do it, so all bounds
    /// hold. Returns what became of them.
    ///
    /// Lives go on where they were: the time between the two is told by the wall clock, and taken off
    /// each, and off each time to idle: nobody has used a value meanwhile. If that clock was set back in between, nothing is taken off; if it was set ahead, more
    /// expires. Where this cache's time to live is shorter than that of the cache that was saved, no
    /// restored value grows older than this one's, also none that was given a longer life of its own. What
    /// stands in this cache when an entry's turn comes is newer, and so is what was stored, removed or expired
    /// since this call began: the entry is skipped. (What was removed before the call comes back.) A load that is
    /// in flight is not disturbed. Nothing is drawn again: jitter was taken off before.
    /// (The age of a value that never expires starts anew.)
    ///
    /// Reads to the end of the snapshot and no further. Blocks are checked before they are believed,
    /// and no more is allocated than a block takes, so a damaged file costs a cold start, and not
    /// the process. It is no protection against files that somebody has forged: those may hold any
    /// entries, and whatever their types' `Deserialize` does with hostile bytes.
    ///
    /// # Errors
    ///
    /// [`Damaged`](SnapshotError::Damaged) says where; what stood before that is restored.
    /// [`NotASnapshot`](SnapshotError::NotASnapshot), [`Format`](SnapshotError::Format) and
    /// [`Schema`](SnapshotError::Schema) before anything is. [`Io`](SnapshotError::Io) from the reader.
    pub fn load_from(&self, reader: impl Read) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        Snapshot::new().load_from(self, reader)
    }

    /// [`load_from`](Self::load_from) a file.
    ///
    /// # Errors
    ///
    /// As there; [`Io`](SnapshotError::Io) with [`NotFound`](std::io::ErrorKind::NotFound) where there
    /// is no file, as at the first start.
    pub fn load_from_file(&self, path: impl AsRef<Path>) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        Snapshot::new().load_from_file(self, path)
    }
}
