//! One trait over every cache, and an adapter for each.
//!
//! Every library is taken as its users get it: its default shards, hasher and policy, and a TTL
//! wherever it has one.

use std::borrow::Borrow;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policies::random::mix;

/// Long enough that nothing expires while it is measured; what is measured is the check.
const TTL: Duration = Duration::from_mins(5);

/// The types of keys and values a table is about.
pub trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
    const IS_NUMBERS: bool;
    /// What a lookup borrows from a key: `str` for `String`.
    type Lookup: ?Sized + Hash + Eq + ToOwned<Owned = Self::Key> + Sync;
    type Key: Borrow<Self::Lookup> + Hash + Eq + Clone + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Distinct for distinct ids, and scattered: neighbouring ids are not neighbouring keys.
    fn key(id: u64) -> Self::Key;
    fn value(key: &Self::Key) -> Self::Value;
}

/// `u64` to `u64`.
pub struct Numbers;

impl Kind for Numbers {
    const NAME: &'static str = "u64 to u64";
    const IS_NUMBERS: bool = true;
    type Lookup = u64;
    type Key = u64;
    type Value = u64;

    fn key(id: u64) -> u64 {
        mix(id)
    }

    fn value(key: &u64) -> u64 {
        *key
    }
}

/// `String` of 16 characters to `Arc<[u8; 100]>`.
pub struct Strings;

impl Kind for Strings {
    const NAME: &'static str = "String to Arc<[u8; 100]>";
    const IS_NUMBERS: bool = false;
    type Lookup = str;
    type Key = String;
    type Value = Arc<[u8; 100]>;

    fn key(id: u64) -> String {
        format!("{:016x}", mix(id))
    }

    fn value(key: &String) -> Arc<[u8; 100]> {
        Arc::new([key.as_bytes()[0]; 100])
    }
}

/// What one operation of a throughput row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Get,
    /// Three quarters get, one quarter insert.
    Mixed,
    GetOrInsert,
    GetOrLoad,
    Insert,
}

pub trait Contender<K: Kind>: Send + Sync {
    fn get(&self, key: &K::Key) -> Option<K::Value>;

    fn insert(&self, key: &K::Key, value: K::Value);

    /// What the library offers for it, else what its user would write.
    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        self.get(key).unwrap_or_else(|| {
            let value = make();
            self.insert(key, value.clone());
            value
        })
    }

    /// The same by way of the library's single flight with a loader that may fail, where it has one.
    fn get_or_load(&self, key: &K::Key, load: &dyn Fn() -> K::Value) -> K::Value {
        self.get_or_insert(key, load)
    }

    /// `None` where the library cannot say.
    fn len(&self) -> Option<u64>;

    /// Does the housekeeping that the library puts off, if any.
    fn settle(&self) {}

    /// Applies `op` to every key; the number of lookups that hit.
    ///
    /// Provided here, it is compiled once per contender: the call through `dyn` is paid once a
    /// batch, and what is timed inside are direct calls.
    fn run(&self, op: Op, keys: &[K::Key]) -> usize {
        let get = |key| usize::from(black_box(self.get(key)).is_some());
        match op {
            Op::Get => keys.iter().map(get).sum(),
            Op::Mixed => (0u32..)
                .zip(keys)
                .map(|(i, key)| {
                    // one in four, without a period short enough for a branch predictor's taste
                    if i.wrapping_mul(0x9E37_79B9) >> 30 == 0 {
                        self.insert(key, K::value(key));
                        0
                    } else {
                        get(key)
                    }
                })
                .sum(),
            Op::GetOrInsert => {
                for key in keys {
                    black_box(self.get_or_insert(key, &|| K::value(key)));
                }
                0
            }
            Op::GetOrLoad => {
                for key in keys {
                    black_box(self.get_or_load(key, &|| K::value(key)));
                }
                0
            }
            Op::Insert => {
                for key in keys {
                    self.insert(key, K::value(key));
                }
                0
            }
        }
    }
}

/// A contender by name, built for a capacity in entries.
pub struct Entrant<K: Kind> {
    pub name: &'static str,
    pub build: fn(u64) -> Box<dyn Contender<K>>,
}

impl<K: Kind> Entrant<K> {
    /// A map without a bound, which evicts nothing: a limit for hits, and no cache.
    pub fn is_map(&self) -> bool {
        MAPS.contains(&self.name)
    }
}

pub const LARDER: &str = "larder";
const MAPS: [&str; 2] = ["papaya", "dashmap"];

/// The one that ratios are against.
pub const BASELINE: &str = "quick_cache";

/// Those named in `only`, or if none is, those that are in a table by `default`.
pub fn select<K: Kind>(only: &[String], default: &[&str]) -> Result<Vec<Entrant<K>>, String> {
    let mut all = entrants::<K>();
    if let Some(name) = only.iter().find(|name| all.iter().all(|e| e.name != **name)) {
        let names: Vec<_> = all.iter().map(|e| e.name).collect();
        return Err(format!("no contender {name:?} among {}", names.join(", ")));
    }
    all.retain(|e| match only {
        [] => default.contains(&e.name),
        only => only.iter().any(|name| name == e.name),
    });
    Ok(all)
}

/// Everyone, in the order of the tables.
pub fn entrants<K: Kind>() -> Vec<Entrant<K>> {
    vec![
        Entrant { name: LARDER, build: |n| Box::new(Larder::<K>::new(n)) },
        Entrant { name: BASELINE, build: |n| Box::new(QuickCache::<K>::new(n)) },
        Entrant { name: "quick_cache+deadline", build: |n| Box::new(Deadlines::<K>::new(n)) },
        Entrant { name: "moka", build: |n| Box::new(Moka::<K>::new(n)) },
        Entrant { name: "mini-moka", build: |n| Box::new(MiniMoka::<K>::new(n)) },
        Entrant {
            name: "foyer-lru",
            build: |n| Box::new(Foyer::<K>::new(n, foyer_memory::LruConfig::default())),
        },
        Entrant {
            name: "foyer-lfu",
            build: |n| Box::new(Foyer::<K>::new(n, foyer_memory::LfuConfig::default())),
        },
        Entrant {
            name: "foyer-s3fifo",
            build: |n| Box::new(Foyer::<K>::new(n, foyer_memory::S3FifoConfig::default())),
        },
        Entrant { name: "cached", build: |n| Box::new(Cached::<K>::new(n)) },
        Entrant { name: "scc", build: |n| Box::new(Scc::<K>::new(n)) },
        Entrant { name: "tinyufo", build: |n| Box::new(TinyUfo::<K>::new(n)) },
        Entrant { name: "papaya", build: |_| Box::new(Papaya::<K>::new()) },
        Entrant { name: "dashmap", build: |_| Box::new(DashMap::<K>::new()) },
    ]
}

pub struct Larder<K: Kind>(pub larder::Cache<K::Key, K::Value>);

impl<K: Kind> Larder<K> {
    pub fn new(capacity: u64) -> Self {
        let builder = larder::Cache::builder().max_entries(capacity);
        let cache = builder.time_to_live(TTL).jitter(0.1).build();
        Self(cache.expect("these settings are valid"))
    }

    /// Whose values live for ever, so that no clock is asked for.
    pub fn timeless(capacity: u64) -> Self {
        Self(larder::Cache::new(capacity))
    }

    /// Split otherwise than by default.
    pub fn sharded(capacity: u64, shards: u64) -> Self {
        let builder = larder::Cache::builder().max_entries(capacity).shards(shards as usize);
        let cache = builder.time_to_live(TTL).jitter(0.1).build();
        Self(cache.expect("these settings are valid"))
    }
}

impl<K: Kind> Contender<K> for Larder<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get(key.borrow())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        self.0.get_or_insert_with(key.borrow(), make)
    }

    fn get_or_load(&self, key: &K::Key, load: &dyn Fn() -> K::Value) -> K::Value {
        let got = self.0.get_or_load(key.borrow(), || Ok::<_, std::convert::Infallible>(load()));
        got.unwrap_or_else(|_| panic!("the loader cannot fail"))
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len())
    }
}

struct QuickCache<K: Kind>(quick_cache::sync::Cache<K::Key, K::Value>);

impl<K: Kind> QuickCache<K> {
    fn new(capacity: u64) -> Self {
        Self(quick_cache::sync::Cache::new(capacity as usize))
    }
}

impl<K: Kind> Contender<K> for QuickCache<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get(key.borrow())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        let Ok(value) =
            self.0.get_or_insert_with(key.borrow(), || Ok::<_, std::convert::Infallible>(make()));
        value
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

/// `quick_cache` with the TTL that its users add by hand: a deadline beside the value.
struct Deadlines<K: Kind>(quick_cache::sync::Cache<K::Key, (K::Value, Instant)>);

impl<K: Kind> Deadlines<K> {
    fn new(capacity: u64) -> Self {
        Self(quick_cache::sync::Cache::new(capacity as usize))
    }
}

impl<K: Kind> Contender<K> for Deadlines<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        let (value, deadline) = self.0.get(key.borrow())?;
        if Instant::now() < deadline {
            return Some(value);
        }
        // another thread may have stored a fresh one meanwhile
        self.0.remove_if(key.borrow(), |(_, deadline)| *deadline <= Instant::now());
        None
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), (value, Instant::now() + TTL));
    }

    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        self.get(key).unwrap_or_else(|| {
            let Ok((value, _)) = self.0.get_or_insert_with(key.borrow(), || {
                Ok::<_, std::convert::Infallible>((make(), Instant::now() + TTL))
            });
            value
        })
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

struct Moka<K: Kind>(moka::sync::Cache<K::Key, K::Value>);

impl<K: Kind> Moka<K> {
    fn new(capacity: u64) -> Self {
        Self(moka::sync::Cache::builder().max_capacity(capacity).time_to_live(TTL).build())
    }
}

impl<K: Kind> Contender<K> for Moka<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get(key.borrow())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        self.0.get_with_by_ref(key.borrow(), make)
    }

    fn get_or_load(&self, key: &K::Key, load: &dyn Fn() -> K::Value) -> K::Value {
        let got =
            self.0.try_get_with_by_ref(key.borrow(), || Ok::<_, std::convert::Infallible>(load()));
        got.unwrap_or_else(|_| panic!("the loader cannot fail"))
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.entry_count())
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

struct MiniMoka<K: Kind>(mini_moka::sync::Cache<K::Key, K::Value>);

impl<K: Kind> MiniMoka<K> {
    fn new(capacity: u64) -> Self {
        Self(mini_moka::sync::Cache::builder().max_capacity(capacity).time_to_live(TTL).build())
    }
}

impl<K: Kind> Contender<K> for MiniMoka<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        // it keeps its keys in an `Arc`, and so cannot look one up by `&str`
        self.0.get(key)
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.entry_count())
    }

    fn settle(&self) {
        mini_moka::sync::ConcurrentCacheExt::sync(&self.0);
    }
}

struct Foyer<K: Kind>(foyer_memory::Cache<K::Key, K::Value>);

impl<K: Kind> Foyer<K> {
    fn new(capacity: u64, eviction: impl Into<foyer_memory::EvictionConfig>) -> Self {
        let builder = foyer_memory::CacheBuilder::new(capacity as usize);
        Self(builder.with_eviction_config(eviction).build())
    }
}

impl<K: Kind> Contender<K> for Foyer<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get(key.borrow()).map(|entry| entry.value().clone())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.entries() as u64)
    }
}

struct Cached<K: Kind>(cached::stores::ShardedLruTtlCache<K::Key, K::Value>);

impl<K: Kind> Cached<K> {
    fn new(capacity: u64) -> Self {
        Self(cached::stores::ShardedLruTtlCache::new(capacity as usize, TTL))
    }
}

impl<K: Kind> Contender<K> for Cached<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get::<K::Lookup>(key.borrow())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.set(key.clone(), value);
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

struct Scc<K: Kind>(scc::HashCache<K::Key, K::Value>);

impl<K: Kind> Scc<K> {
    /// It rounds the capacity up to a power of two.
    fn new(capacity: u64) -> Self {
        Self(scc::HashCache::with_capacity(0, capacity as usize))
    }
}

impl<K: Kind> Contender<K> for Scc<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        // `read_sync` would be faster, but is no use in the eyes of its eviction
        self.0.get_sync(key.borrow()).map(|entry| entry.get().clone())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.entry_sync(key.clone()).put_entry(value);
    }

    fn get_or_insert(&self, key: &K::Key, make: &dyn Fn() -> K::Value) -> K::Value {
        // holds the bucket's lock while the value is made
        self.0.entry_sync(key.clone()).or_put_with(make).1.get().clone()
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

struct TinyUfo<K: Kind>(tinyufo::TinyUfo<K::Key, K::Value>);

impl<K: Kind> TinyUfo<K> {
    fn new(capacity: u64) -> Self {
        Self(tinyufo::TinyUfo::new(capacity as usize, capacity as usize))
    }
}

impl<K: Kind> Contender<K> for TinyUfo<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        // it keeps hashes in place of keys
        self.0.get(key)
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        // by its policy, which may refuse
        self.0.put(key.clone(), value, 1);
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

/// The maps have the hasher that most of the caches have, so that what differs is the map.
struct Papaya<K: Kind>(papaya::HashMap<K::Key, K::Value, ahash::RandomState>);

impl<K: Kind> Papaya<K> {
    fn new() -> Self {
        Self(papaya::HashMap::with_hasher(ahash::RandomState::new()))
    }
}

impl<K: Kind> Contender<K> for Papaya<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.pin().get::<K::Lookup>(key.borrow()).cloned()
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.pin().insert(key.clone(), value);
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

struct DashMap<K: Kind>(dashmap::DashMap<K::Key, K::Value, ahash::RandomState>);

impl<K: Kind> DashMap<K> {
    fn new() -> Self {
        Self(dashmap::DashMap::with_hasher(ahash::RandomState::new()))
    }
}

impl<K: Kind> Contender<K> for DashMap<K> {
    fn get(&self, key: &K::Key) -> Option<K::Value> {
        self.0.get::<K::Lookup>(key.borrow()).map(|value| value.clone())
    }

    fn insert(&self, key: &K::Key, value: K::Value) {
        self.0.insert(key.clone(), value);
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}
