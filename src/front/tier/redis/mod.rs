//! A second tier on a Redis server.
//!
//! `builder` sets it up; `setup` makes a connection, `link` is the thread that owns it, `line` the callers' end
//! of it, and `hub` the state that both share. `names` are the keys on the server, `frame` the bytes of an entry
//! (by a `codec`), `scripts` what must be atomic there. `reads` and `writes` are the operations, `ticket` the
//! version that a load saw. `trial` finds types that do not survive the codec, `trouble` words the errors.

mod builder;
mod chance;
mod codec;
mod frame;
mod hub;
mod line;
mod link;
mod names;
mod reads;
mod scripts;
mod setup;
mod stats;
// the server of the tests listens on a unix socket
#[cfg(all(test, unix, not(any(larder_loom, larder_shuttle))))]
mod tests;
mod ticket;
mod trial;
mod trouble;
mod writes;

use crate::rules::tier::{Tier, TierChange, TierError, TierFound, TierTicket, TierWatcher};
use crate::words::tier_key::TierKey;
use hub::{Hub, Settings};
use line::RedisLine;
use names::Names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::RedisTierBuilder;
pub use codec::{Codec, CodecError, Json, Postcard};
pub use stats::RedisTierStats;

/// A second [`Tier`] on a Redis server, which the caches of several processes share, and which outlives them.
/// It needs Redis 6 or newer, or Valkey (for RESP3, and for invalidations that the server pushes), and is
/// tested with Redis 6.2 and 7.0 and with Valkey 9.1. It does not support Redis Cluster.
///
/// ```no_run
/// use larder::RedisTier;
/// use std::time::Duration;
///
/// # async fn tasks() -> Result<(), larder::TierError> {
/// let tier = RedisTier::connect("redis://127.0.0.1:6379")
///     .prefix("shop:users:v3") // with a version of the types
///     .time_to_live(Duration::from_secs(3600))
///     .await?;
/// # Ok(()) }
///
/// # fn threads() -> Result<(), larder::TierError> {
/// let tier = RedisTier::connect("redis://127.0.0.1:6379").prefix("shop:users:v3").open()?;
/// # Ok(()) }
/// ```
///
/// Give it to the builder of one cache. It is a handle: a clone uses the same connection and counts in the
/// same [`stats`](Self::stats). The server does not report a connection's own changes back to it, so a second
/// cache on one tier would not hear of the first one's: building it fails, and it needs a tier of its own.
///
/// # What processes share
///
/// Processes that use one prefix must agree on types, codec, and how keys hash. When any of these changes,
/// raise the version in the prefix: entries under the old one expire by themselves. Data that cannot be read
/// is treated as absent, counted, told to the cache's handler of [events](crate::Event::TierSkipped), and
/// replaced; data that can be read but means something else is not noticed.
///
/// Keys and values are serialized by serde. (The feature `redis` switches on serde's `rc`, for values in an
/// [`Arc`].) Not every type suits the default codec, [`Postcard`], whose bytes have no field names: with types
/// that are `untagged` or have a `tag`, with `flatten`, `skip_serializing` or `serde_json::Value` nothing is
/// stored, and of types with `skip_serializing_if` only values that have all fields are. Such a value is
/// loaded by each process for itself, the handler of events is told so, and [`codec(Json)`](Json) is the
/// remedy.
///
/// Keys (as [`TierKey`]s) and tags longer than 1 KiB, and entries over
/// [`max_value_size`](RedisTierBuilder::max_value_size), are not stored; other processes hear of their
/// changes all the same.
///
/// # Where it runs
///
/// One thread, `larder-redis`, holds the connection and runs a small runtime of its own, so that threads that
/// block and tasks of any runtime can use the tier. It ends with the last handle. This thread also passes on
/// to the caches what the server reports, in the server's order, so removal listeners and the `Drop` of keys
/// and values run in it. They should be quick, as all calls wait for them, even beyond the timeout. They may
/// use the cache: a look-up in this tier from there fails at once, and the source is asked.
///
/// # What it costs
///
/// | | Round trips |
/// |---|---|
/// | `get` | 1, and 1 more if the entry has tags |
/// | `get` with [`lease`](RedisTierBuilder::lease), nothing fresh there | 2, and 1 for each look while another one loads |
/// | `get_many` | for every 128 keys: 1, and 1 more if any entry has tags |
/// | `apply` | for every 128 changes, or about 1 MiB of them: 1 |
/// | an idle connection | a ping a second |
///
/// On the server an entry takes 111 bytes more than its key and value, a removed key 21 bytes for as long as
/// [`tombstone`](RedisTierBuilder::tombstone) says, and each tag in use 32 bytes, besides their names and
/// what the server needs for any key. A prefix takes one small hash that does not expire. `Clear` frees
/// nothing at once: cleared entries are no longer read, and expire by themselves.
///
/// # When the server does not answer
///
/// Calls fail, and the cache goes on with its own copies and the source. A call fails after
/// [`timeout`](RedisTierBuilder::timeout); after three timeouts in a row calls fail at once, until a ping is
/// answered in time. A lost connection fails all calls at once. It is made again after 50 ms, then after up
/// to 5 s, with random differences so that processes do not reconnect all at once; then the caches are told
/// that they may have missed something. A connection on which nothing comes back is pinged once a second, and
/// given up [`connect_timeout`](RedisTierBuilder::connect_timeout) later: changes are missed unnoticed for no
/// longer than that.
///
/// # What it relies on
///
/// No two clocks are compared: an entry's age is told from its time to live on the server.
///
/// The server may evict anything without making a stale value appear, with one exception: if the mark of a
/// removal, or a value that was just written, is evicted (or deleted by hand) within
/// [`tombstone`](RedisTierBuilder::tombstone), a load that found nothing there before can store a value that
/// is old by then, and it stays until its own life ends. The same goes for a fail-over to a replica that has
/// not received a removal yet. That makes a `maxmemory-policy` that evicts what expires soonest
/// (`volatile-ttl`) a bad choice; `noeviction` and the `lru` and `lfu` policies are better. With `noeviction`
/// and no memory left, removals are made by `DEL`, and the cache tries again until it can leave the mark.
///
/// The server's user for the tier needs few rights: the keys `~prefix::*` and `~prefix#*`, no channels, and
/// the commands `hello`, `auth`, `ping`, `client|id`, `client|tracking`, `script|load`, `evalsha`, `multi`,
/// `exec`, `time`, `get`, `mget`, `set`, `getrange`, `del`, `rename`, `pttl`, `pexpire`, `hmget` and `hset`.
/// With `info` and `client|kill` as well, the tier has the server close a connection that the tier has given
/// up: without them, a value that was written over such a connection may arrive late, and overwrite a newer
/// one.
///
/// Others may delete keys on the server (`DEL`, `UNLINK`, `FLUSHALL`): the caches hear of it. What is written
/// there by hand is not read.
pub struct RedisTier<C = Postcard> {
    line: Arc<RedisLine>,
    codec: C,
}

impl RedisTier {
    /// Sets up a tier on the server at this URL: `redis://[user[:password]@]host[:port][/database]`, the same
    /// with `rediss://` for TLS (feature `redis-tls`; the certificate is checked against those that the
    /// system trusts, and there is no fallback), or `unix:///path`.
    ///
    /// ```no_run
    /// use larder::{Json, RedisTier};
    /// use std::time::Duration;
    ///
    /// // blocks the thread; a task writes `.await?` instead of `.open()?`
    /// let tier = RedisTier::connect("redis://cache.internal:6379/2")
    ///     .prefix("shop:prices:v1")
    ///     .timeout(Duration::from_millis(20))
    ///     .lease(Duration::from_secs(5))
    ///     .codec(Json)
    ///     .open()?;
    /// assert!(tier.is_connected());
    /// # Ok::<_, larder::TierError>(())
    /// ```
    pub fn connect(url: &str) -> RedisTierBuilder {
        RedisTierBuilder::new(url)
    }
}

impl<C> RedisTier<C> {
    /// Returns what this handle and its clones have counted.
    pub fn stats(&self) -> RedisTierStats {
        self.hub().counters.read()
    }

    /// Returns whether there is a connection, as far as is known. It may be slow.
    pub fn is_connected(&self) -> bool {
        self.hub().is_connected()
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.line.hub
    }

    fn settings(&self) -> &Settings {
        &self.hub().settings
    }

    fn names(&self) -> &Names {
        &self.settings().names
    }
}

impl<K, V, C> Tier<K, V> for RedisTier<C>
where
    K: Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    C: Codec,
{
    async fn get(&self, key: &TierKey) -> Result<TierFound<K, V>, TierError> {
        self.find(key).await
    }

    async fn get_many(&self, keys: &[TierKey]) -> Result<Vec<TierFound<K, V>>, TierError> {
        self.find_many(keys).await
    }

    async fn apply(&self, changes: &[TierChange<K, V>]) -> Result<(), TierError> {
        self.make(changes).await
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        self.hub().watch(watcher)
    }

    fn release(&self, key: &TierKey, ticket: &TierTicket) {
        self.release_ticket(key, ticket);
    }

    fn longest_load(&self) -> Duration {
        // a tombstone begins to end when it is made, and what a load brings is under way for a while
        Duration::from_millis(self.settings().tombstone / 8 * 7)
    }

    fn longest_life(&self) -> Duration {
        Duration::from_millis(self.hub().longest_life())
    }
}

/// Reads any bytes as what may stand under a key, as they are and with checksums that fit: for the
/// fuzzer, and no part of what larder promises.
#[doc(hidden)]
pub fn __fuzz_tier_frame(bytes: &[u8]) {
    fn read(bytes: &[u8]) {
        if let frame::Seen::Frame(frame) = frame::Frame::read(bytes) {
            for left in [0, 1, 60_000, u64::MAX] {
                let mut life = frame.life(left);
                life.end(left);
                _ = frame.entry::<String, (u8, Vec<String>), _>(&Postcard, life);
                _ = frame.entry::<String, (u8, Vec<String>), _>(&Json, life);
            }
        }
    }

    read(bytes);
    let mut bytes = bytes.to_vec();
    frame::mend(&mut bytes);
    read(&bytes);
}

impl<C: Clone> Clone for RedisTier<C> {
    fn clone(&self) -> Self {
        Self { line: Arc::clone(&self.line), codec: self.codec.clone() }
    }
}

impl<C> fmt::Debug for RedisTier<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("prefix", &self.names().prefix)
            .field("server", &self.settings().server)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
