//! The options of snapshots, and the calls that save and restore a cache.

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

/// Saves and restores caches with other settings than those of [`Cache::save_to`] and [`Cache::load_from`].
/// Not every type can be saved: [`save_to`](Cache::save_to) says which of serde's attributes stand in the way.
///
/// ```
/// use larder::{Cache, Snapshot};
///
/// let before: Cache<u64, String> = Cache::new(1_000);
/// before.insert(42, "Ada".to_owned());
/// let snapshot = Snapshot::new().schema(3); // raise it when the types change
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
    /// Makes the default settings: schema 0, and entries come back as fresh as they were.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a version number for the types of keys and values, which is written with them: a snapshot with
    /// another one is refused. Raise it whenever the types change, or what they mean. The bytes contain no
    /// field names, so a snapshot of older types may otherwise be read as nonsense.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Restores entries as if they had just expired: they are served stale where that is allowed, and the
    /// first use of each loads it again (with its validator, so that the source may answer `unchanged`). It
    /// is for data that may have changed while the process was down. In a cache without stale windows no
    /// entry is restored: all count as [`expired`](Restored::expired).
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

    /// Saves a cache as [`Cache::save_to`] does, with these settings.
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
        // the same moment by two clocks: the snapshot's header has the first, remaining lives are computed with
        // the second
        let begun = store.clock.now();
        let time_to_live = store.lives().ttl;
        let header = Header { schema: self.schema, written: self.now(), time_to_live };
        save(store, writer, &header, begun)
    }

    /// Restores a cache as [`Cache::load_from`] does, with these settings.
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
        // before anything is read, which may take long
        let watch = WriteWatch::new(&cache.store);
        let (decoder, header) = Decoder::new(reader, self.schema)?;
        // if the wall clock was set back, the elapsed time is unknown and taken as zero: no life gets longer by
        // that
        let away = self.now().saturating_sub(header.written);
        restore(&watch, decoder, &header, away, self.revalidate)
    }

    /// Saves a cache as [`Cache::save_to_file`] does, with these settings.
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

    /// Restores a cache as [`Cache::load_from_file`] does, with these settings.
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
    /// Saves the cache's entries, for [`load_from`](Self::load_from) after a restart: every fresh one with
    /// its key, value, remaining life, age, validator and tags. A cached "not found" and expired values are
    /// left out. Returns how much was written.
    ///
    /// The cache may be used meanwhile: shard by shard, a few entries at a time are cloned under the shared
    /// lock, as [`entries`](Self::entries) does, so the snapshot is not of a single moment. This blocks on
    /// the writer, which need not be buffered. The bytes are those of [postcard](https://docs.rs/postcard),
    /// which serializes by position: only the types that wrote a snapshot can read it. See
    /// [`Snapshot::schema`] for when they change. (The feature `snapshot` switches on serde's `rc`, for values
    /// in an `Arc`.)
    ///
    /// # Types that do not come back
    ///
    /// The bytes have no field names, so what is read has to have the same fields as what was written. Some of
    /// serde's attributes break that:
    ///
    /// * *Refused here*, with an error: a value with a named field that `skip_serializing_if` leaves out (the
    ///   error says which field of which type), and all values with `flatten`, or of unknown length. Write the
    ///   field always.
    /// * *Refused by [`load_from`](Self::load_from)*, as damage, since only the reader can tell:
    ///   `serde_json::Value`, and enums that are `untagged` or have a `tag`.
    /// * *Not noticed, and perhaps read as other values*: a field with `skip_serializing` or
    ///   `skip_deserializing` alone (`skip` does no harm), a nameless one with `skip_serializing_if`, and an
    ///   enum with a `skip`ped variant before others. Do not save these as they are.
    ///
    /// In all these cases, a cache can hold them in a type of your own that serializes as text, as JSON say.
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

    /// Saves the cache to a file as [`save_to`](Self::save_to) does, as a whole or not at all: the file is
    /// written beside `path`, synced, and renamed. Whoever reads `path` finds the old snapshot or the new
    /// one, even after a crash.
    ///
    /// # Errors
    ///
    /// As `save_to`; `path` is then as it was. (Or the new snapshot, if all but the last step succeeded, which
    /// makes its name in the directory last a power failure.)
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
    /// Restores what [`save_to`](Self::save_to) wrote, entry by entry, as inserts would, so all bounds hold.
    /// Returns what became of the entries.
    ///
    /// Lives go on where they were: the time since the snapshot was written, by the wall clock, is taken off
    /// each life and each time to idle. If that clock was set back in between, less is taken off, or nothing; if
    /// it was set ahead, more expires. If this cache's time to live is shorter than that of the saved cache, no
    /// restored value grows older than that, not even one that was given a longer life of its own. If a key
    /// is in this cache when its entry's turn comes, or was stored, removed or expired since this call began,
    /// that is newer, and the entry is skipped. (So are all that are left after a `clear` or a `remove_if`, and
    /// a few others: after 40,000 keys were written meanwhile, one of a hundred. What was removed before the
    /// call comes back.) A load in flight is not disturbed. While this runs, it takes half a mebibyte, and every
    /// other write to the cache takes one more lock, the same for all of them. Jitter is not drawn again: it
    /// was taken off before. (The age of a value that never expires starts anew.)
    ///
    /// This reads to the end of the snapshot and no further. Blocks are checked before they are used, and no
    /// more is allocated than a block takes, so a damaged file costs a cold start, not the process. It is no
    /// protection against forged files: they may contain any entries, and hostile bytes for the `Deserialize`
    /// of their types.
    ///
    /// # Errors
    ///
    /// [`Damaged`](SnapshotError::Damaged) says where; what comes before that is restored.
    /// [`NotASnapshot`](SnapshotError::NotASnapshot), [`Format`](SnapshotError::Format) and
    /// [`Schema`](SnapshotError::Schema), before anything is restored. [`Io`](SnapshotError::Io) from the
    /// reader.
    pub fn load_from(&self, reader: impl Read) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        Snapshot::new().load_from(self, reader)
    }

    /// Restores a snapshot from a file, as [`load_from`](Self::load_from) does.
    ///
    /// # Errors
    ///
    /// As there; [`Io`](SnapshotError::Io) with [`NotFound`](std::io::ErrorKind::NotFound) if there is no
    /// file, as at the first start.
    pub fn load_from_file(&self, path: impl AsRef<Path>) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        Snapshot::new().load_from_file(self, path)
    }
}
