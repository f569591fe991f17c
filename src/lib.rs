//! An in-process cache for values that are slow to get: [`get_or_load`](Cache::get_or_load) asks
//! the source once, however many threads and tasks want the value.
//!
//! # What goes wrong without it
//!
//! The cache that everybody writes first is a map behind a lock with a time beside each value. It
//! works until there is load, and then fails in three ways:
//!
//! * **Stampede.** A popular value expires, and until its successor is stored every request that
//!   comes asks the database for the same row. The source is slowest just when it is asked most.
//! * **Resurrection.** A load reads the old row; the row is updated and the cached value removed;
//!   the load comes back and stores what it read. The old value is in the cache again, for a whole
//!   TTL, and nothing in any log says so.
//! * **Memory.** What nobody asks for again stays, until the process is killed for it.
//!
//! larder is a bounded map with one answer to each: loads that are shared, loads that lose their
//! right to store when something newer happens, and an eviction rule that keeps the bound at every
//! moment.
//!
//! # A first cache
//!
//! ```
//! use larder::{Cache, LoadError};
//!
//! fn select_user(id: u64) -> Result<String, std::io::Error> {
//!     Ok(format!("user {id}")) // a query, in real life
//! }
//!
//! let users: Cache<u64, String> = Cache::new(10_000); // entries, at most
//!
//! let name = users.get_or_load(&42, || select_user(42))?;
//! assert_eq!(name, "user 42");
//! assert_eq!(users.get(&42), Some(name)); // no query
//! # Ok::<_, LoadError<std::io::Error>>(())
//! ```
//!
//! Tasks use the same cache through the calls that end in `_async`; a thread and a task that want
//! the same key wait for the same load. No runtime is asked for.
//!
//! ```
//! # use larder::{Cache, LoadError};
//! # async fn select_user(id: u64) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
//! # async fn handler(users: &Cache<u64, String>) -> Result<(), LoadError<std::io::Error>> {
//! let name = users.get_or_load_async(&42, || select_user(42)).await?;
//! # Ok(()) }
//! ```
//!
//! A `Cache` is a handle: clone it freely, all clones are one cache. Values come as clones too, so
//! put what is large into an [`Arc`](std::sync::Arc).
//!
//! # How long a value lives
//!
//! For ever, unless something is said: [`time_to_live`](CacheBuilder::time_to_live) for all of
//! them, [`at(..).ttl(..)`](At::ttl) for one call, [`Loaded::ttl`] where only the source knows.
//! [`jitter`](CacheBuilder::jitter) takes a random share off each life, so that what was loaded
//! together does not expire together. It only ever shortens: the TTL is what it says, the longest
//! that a value is served.
//!
//! ```
//! use larder::Cache;
//! use std::time::Duration;
//!
//! let minute = Duration::from_secs(60);
//! let rates: Cache<String, f64> = Cache::builder()
//!     .max_entries(1_000)
//!     .time_to_live(minute)
//!     .jitter(0.1)
//!     .build()?;
//!
//! rates.insert("EUR".to_owned(), 1.08);
//! let left = rates.peek("EUR").unwrap().fresh_for;
//! assert!(left <= minute && left > minute * 8 / 10); // drawn from 54 s to 60 s
//!
//! rates.at("BTC").ttl(Duration::from_secs(1)).insert(97_000.0);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! [`time_to_idle`](CacheBuilder::time_to_idle) ends the life of what is not used, earlier than the
//! TTL but never later. An expired value is not served (unless a [window](#fresh-enough) allows it),
//! walked over or counted as a hit; its memory
//! is freed by later inserts, by [`sweep`](Cache::sweep), or in the background within about a
//! minute, whether or not anybody asks for it again.
//!
//! # One load per key
//!
//! The first caller that finds nothing loads; all others wait for that load. That is decided in one
//! step, so there is no moment between looking and waiting in which a second load could begin.
//!
//! ```
//! use larder::Cache;
//! use std::convert::Infallible;
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//!
//! let cache: Cache<String, u32> = Cache::new(100);
//! let loads = AtomicU32::new(0);
//! std::thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             cache.get_or_load("answer", || {
//!                 loads.fetch_add(1, Relaxed);
//!                 Ok::<_, Infallible>(42)
//!             })
//!         });
//!     }
//! });
//! assert_eq!(loads.into_inner(), 1);
//! ```
//!
//! What else holds while a load is in flight:
//!
//! * **A later write wins.** [`insert`](Cache::insert), [`remove`](Cache::remove),
//!   [`expire`](Cache::expire), [`remove_if`](Cache::remove_if) and [`clear`](Cache::clear) take
//!   the key away from the load. Those who were waiting get what it brings, it is not stored, and
//!   whoever comes after the write loads anew.
//! * **An error reaches all who waited, at once**, and it is the same one for all. They do not try
//!   one after the other. Nothing is stored, and the next call loads again.
//! * **A load that hangs gives up its key.** After [`load_timeout`](CacheBuilder::load_timeout), 60
//!   s unless set, those who wait get [`TimedOut`](LoadError::TimedOut), the next caller loads, and
//!   what the late one brings is not stored.
//! * **Dropped futures harm nobody.** A waiter that goes away leaves the list. If it is the leader
//!   that is dropped, one of those who wait leads with its own loader; without any, no trace is
//!   left.
//! * **A panic stays with its caller.** It unwinds the one whose loader it was; those who waited
//!   get [`Panicked`](LoadError::Panicked), and the key can be loaded at once.
//! * **Asking for one's own key** inside its loader is an error,
//!   [`Recursive`](LoadError::Recursive), and no deadlock. Other keys are fine. Two deadlocks are
//!   not detected, and end at `load_timeout`: a loader that awaits a task which it spawned and which
//!   asks for the same key, and two loaders that ask for each other's.
//!
//! The first of these, seen from inside a loader:
//!
//! ```
//! # use larder::Cache;
//! # use std::convert::Infallible;
//! let prices: Cache<String, u32> = Cache::new(100);
//! let price = prices.get_or_load("lamp", || {
//!     let read = 10; // from the database
//!     prices.insert("lamp".to_owned(), 20); // meanwhile, somebody changes it
//!     Ok::<_, Infallible>(read)
//! });
//! assert_eq!(price.unwrap(), 10);
//! assert_eq!(prices.get("lamp"), Some(20)); // and not 10, for the next hour
//! ```
//!
//! # Fresh enough
//!
//! When a life ends, somebody waits for the next value, and if the source is down at that moment
//! nobody gets any. A cache may be told that the old one will do for a while:
//!
//! ```text
//! stored            expiry          + stale_while_revalidate        + stale_if_error
//!   |---- fresh -----|--- revalidate -----|-------- error only ---------|  gone
//! ```
//!
//! * Within [`stale_while_revalidate`](CacheBuilder::stale_while_revalidate) the first caller who
//!   finds it loads, and everybody else is served the old value at once.
//! * Within [`stale_if_error`](CacheBuilder::stale_if_error) callers wait for that load, and are
//!   served the old value if it fails, times out or panics.
//!
//! Both windows count from the expiry and end for good: no use of a value prolongs them (RFC 5861).
//! [`expire`](Cache::expire) ends a life early and leaves the windows; [`remove`](Cache::remove)
//! leaves nothing: what was removed is never served again.
//!
//! ```
//! use larder::{Cache, Clock, How, StaleWhy};
//! use std::time::Duration;
//!
//! let (clock, hand) = Clock::manual();
//! let prices: Cache<String, u32> = Cache::builder()
//!     .max_entries(1_000)
//!     .time_to_live(Duration::from_secs(60))
//!     .stale_while_revalidate(Duration::from_secs(10))
//!     .stale_if_error(Duration::from_secs(3600))
//!     .clock(clock)
//!     .build()?;
//! prices.insert("lamp".to_owned(), 10);
//! hand.advance(Duration::from_secs(100));
//!
//! let got = prices.at("lamp").load(|_| Err::<u32, _>("the shop is closed")).unwrap();
//! assert_eq!((got.value, got.how), (10, How::Stale(StaleWhy::LoadFailed)));
//! assert_eq!(prices.get("lamp"), None); // `get` returns what is fresh
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! What failed is left alone for a while: for a second if there is a stale value to serve, and as
//! [`error_backoff`](CacheBuilder::error_backoff) says if there is none, twice as long after each
//! failure. [`soft_timeout`](CacheBuilder::soft_timeout) serves it to those who would wait too long
//! for a load that is not failing but slow.
//!
//! One call may want something else than the others, and [`at`](Cache::at) is where it says so:
//! [`max_age`](At::max_age) or [`force`](At::force) for a caller that cannot take what the cache
//! calls fresh, [`timeout`](At::timeout) for one in a hurry, [`fallback`](At::fallback) for one that
//! wants no errors. A loader is shown what it replaces, and if its source says that nothing has
//! changed it answers [`Loaded::unchanged`], which renews the life of what is there.
//!
//! # Many keys at once
//!
//! A page shows fifty things, and fifty queries are fifty times the wait.
//! [`get_or_load_many`](Cache::get_or_load_many) calls its loader once, with the keys that nobody
//! has and nobody is loading. Each of them has a load of its own for everybody else, so a single
//! call and a batch share what they want both. What succeeds is returned beside what failed.
//!
//! ```
//! # use larder::Cache;
//! # fn select(ids: &[u64]) -> Result<Vec<(u64, String)>, std::io::Error> {
//! #     Ok(ids.iter().filter(|id| **id < 100).map(|id| (*id, format!("user {id}"))).collect())
//! # }
//! let users: Cache<u64, String> = Cache::new(1_000);
//! let many = users.get_or_load_many(&[1, 2, 700], |ids| select(ids)); // .. WHERE id IN (..)
//! assert_eq!((many.got.len(), many.missing, many.failed), (2, vec![700], vec![]));
//! ```
//!
//! # A cache that loads by itself
//!
//! Give the cache its loader (read-through), and callers name the key and nothing else. Then it can
//! load again what is asked for before it expires, in the background, so that nobody waits:
//! [`refresh_ahead`](CacheBuilder::refresh_ahead) says when. Within `stale_while_revalidate` it
//! reloads in the background too, and every caller is served at once.
//!
//! ```
//! use larder::{Cache, RefreshAhead};
//! use std::time::Duration;
//!
//! # fn render(path: &String) -> Result<String, std::io::Error> { Ok(format!("page {path}")) }
//! let pages = Cache::builder()
//!     .max_entries(10_000)
//!     .time_to_live(Duration::from_secs(60))
//!     .refresh_ahead(RefreshAhead::CostAware { beta: 1.0 }) // as early as a page is slow
//!     .build_loading_fn(|path: &String| render(path))?;
//! pages.warm(["/".to_owned(), "/news".to_owned()]).wait();
//! assert_eq!(pages.load("/news").unwrap(), "page /news");
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! [`LoadingCache`] is a [`Cache`] as well. A [`Loader`] of your own may also say that there is no
//! such value, or load many keys in one trip, into which [`batch`](CacheBuilder::batch) gathers the
//! misses of single calls; [`AsyncLoader`] and [`AsyncLoadingCache`] are the same for sources that
//! are awaited, and an async closure will do there too
//! ([`build_loading_async_fn`](CacheBuilder::build_loading_async_fn)). [`Runtime`] is where it all runs: a few threads of the cache's own, tokio, or a
//! test's hand ([`SteppingRuntime`]).
//!
//! # Writing
//!
//! Who changes a row removes it from the cache, and the next caller loads it. That is enough where
//! the write and the removal are one step for everybody else, and they are not: between the two a
//! load may read the old row and store it after the removal. So tell the cache of the write.
//! [`write_through`](Cache::write_through) writes to the source and then to the cache, and
//! [`writing`](Cache::writing) is a fence around a write that is done by other means. No load that
//! overlaps either is stored, and a write that fails leaves nothing cached, since it may have
//! arrived all the same.
//!
//! ```
//! # use larder::Cache;
//! # fn update(id: &u64, name: &String) -> std::io::Result<()> { Ok(()) }
//! # fn rename_all_in_a_transaction() -> std::io::Result<()> { Ok(()) }
//! # let users: Cache<u64, String> = Cache::new(1_000);
//! users.write_through(42, "Ada".to_owned(), |id, name| update(id, name))?;
//! assert_eq!(users.get(&42).unwrap(), "Ada");
//!
//! let fence = users.writing(&42); // .hold_for(..) where replicas lag behind
//! rename_all_in_a_transaction()?;
//! drop(fence);
//! assert_eq!(users.get(&42), None); // and nobody has stored the old one meanwhile
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! Where others write, and somebody tells (a change feed, a message bus, a hook of the database),
//! give the one who is told an [`invalidator`](Cache::invalidator): it removes and expires like the
//! cache, and does not keep it alive.
//!
//! Where callers should not wait for the source at all, a [`WriteBehind`] takes their changes into
//! a bounded queue, shows them at once in this process, and writes them a moment later in batches, the last change
//! of each key, again and again until they are written. Its page says what that costs: what a crash
//! loses. (`AsyncWriteBehind`, with the feature `tokio`, for a writer that is async.)
//!
//! # What changes together
//!
//! A row stands in more than its own entry: in lists, pages, sums. Tags say so.
//! [`remove_tag`](Cache::remove_tag) removes all that has a tag, in the time of a look-up however
//! much it is, and keeps loads in flight from storing what they read before;
//! [`expire_tag`](Cache::expire_tag) only ends its freshness. A caller says the tags that it knows,
//! by [`At::tag`], a loader those that it learns from the source, by [`Loaded::tag`].
//!
//! ```
//! use larder::{Cache, Loaded};
//!
//! let pages: Cache<String, String> = Cache::new(1_000);
//! pages.at("/courses").tag("courses").load(|_| {
//!     // made of all courses, and of the teacher whose name the source has just told
//!     Ok::<_, std::io::Error>(Loaded::new("..".to_owned()).tag("teacher 7"))
//! })?;
//! pages.remove_tag("teacher 7");
//! assert_eq!(pages.get("/courses"), None);
//! # Ok::<_, larder::LoadError<std::io::Error>>(())
//! ```
//!
//! # Sparing the source
//!
//! One load per key still lets a thousand keys ask for a thousand things at once, and a source that is
//! down be asked by everybody. Two settings, each for all keys together:
//!
//! * [`max_concurrent_loads`](CacheBuilder::max_concurrent_loads): at most that many loads run at once, the
//!   others wait in line, first come, first served, threads and tasks alike. A load inside a load
//!   uses its parent's slot.
//! * [`circuit_breaker`](CacheBuilder::circuit_breaker): after a number of failures in a row the source
//!   is left alone for a while, and callers are told [`CircuitOpen`](LoadError::CircuitOpen) at once;
//!   then a single load finds out whether it is back.
//!
//! ```
//! use larder::Cache;
//! use std::time::Duration;
//!
//! let cache: Cache<u64, String> = Cache::builder()
//!     .max_entries(1_000)
//!     .max_concurrent_loads(8) // what the connection pool holds
//!     .circuit_breaker(5, Duration::from_secs(10))
//!     .build()?;
//! for id in 0..5 {
//!     cache.get_or_load(&id, || Err("connection refused")).unwrap_err();
//! }
//! let error = cache.get_or_load(&5, || -> Result<_, &str> { unreachable!() }).unwrap_err();
//! assert!(error.is_circuit_open());
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! # Why is it as it is?
//!
//! [`explain`](Cache::explain) tells of one key what an engineer asks at three in the morning: how
//! old its value is and until when it is served in which way, when its last load failed and when the
//! next one is tried, whether one is under way and how many wait for it, and how breaker and slots
//! stand. [`Stats`] tells of the whole cache, [how much longer](Stats::unchanged_lives) its values
//! could live included.
//!
//! # When the source has none
//!
//! That there is no such row is an answer, and often the one that is asked for most.
//! [`get_or_load_optional`](Cache::get_or_load_optional) takes it as `Ok(None)` and keeps it for
//! [`negative_ttl`](CacheBuilder::negative_ttl). It replaces what stood there, counts as an entry,
//! and is forgotten by the next `insert` or `remove` of its key. An error is not an answer: it
//! replaces nothing and is never taken for "none".
//!
//! ```
//! # use larder::Cache;
//! # use std::time::Duration;
//! let users: Cache<u64, String> =
//!     Cache::builder().max_entries(1_000).negative_ttl(Duration::from_secs(5)).build()?;
//! let nobody = users.get_or_load_optional(&7, || Ok::<_, std::io::Error>(None));
//! assert_eq!(nobody.unwrap(), None);
//! // for five seconds nobody asks the database for user 7
//! let nobody = users.get_or_load_optional(&7, || -> Result<_, std::io::Error> { unreachable!() });
//! assert_eq!(nobody.unwrap(), None);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! # Errors
//!
//! [`LoadError<E>`] says how a load failed, with the loader's own error `E` in an `Arc`, since all
//! who waited get the same one. `E` has to be `Send + Sync + 'static`: `anyhow::Error` is, and
//! `Box<dyn Error + Send + Sync>`, but not plain `Box<dyn Error>`. `?` carries a `LoadError` into
//! all three.
//!
//! ```
//! # use larder::{Cache, LoadError};
//! # let cache: Cache<u64, String> = Cache::new(100);
//! match cache.get_or_load(&1, || Err("no connection")) {
//!     Ok(value) => println!("{value}"),
//!     Err(LoadError::Loader(error)) => assert_eq!(*error, "no connection"),
//!     Err(LoadError::TimedOut) => println!("later, perhaps"),
//!     Err(other) => panic!("{other}"),
//! }
//! ```
//!
//! Calls for one key may have loaders with different errors: a caller that waited for a load whose
//! error it cannot name looks again, and may load itself.
//!
//! # Bounds
//!
//! A cache is bounded by entries or by weight, and [`build`](CacheBuilder::build) refuses one that
//! is neither, unless [`unbounded`](CacheBuilder::unbounded) is said. Room is made before a value
//! is stored, inside the call that stores it: [`len`](Cache::len) and [`weight`](Cache::weight) are
//! never above their bounds, not even for a moment, and no upkeep is put off.
//!
//! ```
//! # use larder::Cache;
//! # use std::sync::Arc;
//! let pages: Cache<String, Arc<[u8]>> = Cache::builder()
//!     .max_weight(64 << 20) // bytes, as this weigher counts
//!     .weigher(|url: &String, page: &Arc<[u8]>| (url.len() + page.len()) as u64)
//!     .build()?;
//! pages.insert("/".to_owned(), vec![0; 1_000].into());
//! assert_eq!(pages.weight(), 1_001);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! The weight is the whole cache's: one value may take all of it. What alone weighs more is not
//! stored; the caller who loaded it has it all the same. Of two values that are asked for alike, the
//! heavier one goes first.
//!
//! # What leaves
//!
//! Every value that leaves is reported once, with the reason, to
//! [`on_removal`](CacheBuilder::on_removal): in the thread that made it leave, with no lock held.
//!
//! ```
//! use larder::{Cache, RemovalCause};
//! use std::sync::{Arc, Mutex};
//!
//! let log = Arc::new(Mutex::new(Vec::new()));
//! let left = log.clone();
//! let cache: Cache<String, u32> = Cache::builder()
//!     .max_entries(1)
//!     .on_removal(move |removal| left.lock().unwrap().push((removal.value, removal.cause)))
//!     .build()?;
//! cache.insert("one".to_owned(), 1);
//! cache.insert("two".to_owned(), 2);
//! cache.remove("two");
//! let left = log.lock().unwrap();
//! assert_eq!(*left, [(1, RemovalCause::Evicted), (2, RemovalCause::Removed)]);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! [`stats`](Cache::stats) counts the same and more: hits, misses, loads, loads that were waited
//! for, that failed, that were kept from storing.
//!
//! # After a restart
//!
//! With the feature `snapshot`, `save_to_file` writes down what a cache holds, and `load_from_file`
//! restores it in the next process, with the lives that are left, so that a deploy does not send all
//! requests to the database at once. A damaged file is an error that says where, and costs a cold
//! start.
//!
//! # Several processes
//!
//! A cache in one process is lost on restart and not shared. With the feature `redis` a server that is
//! there already, Redis or Valkey, becomes its second tier, and all calls stay as they are:
//!
#![cfg_attr(feature = "redis", doc = "```no_run")]
#![cfg_attr(not(feature = "redis"), doc = "```ignore")]
//! use larder::{Cache, RedisTier};
//! use std::time::Duration;
//! # fn select(id: u64) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
//!
//! let tier = RedisTier::connect("redis://127.0.0.1:6379")
//!     .prefix("shop:users:v3") // a version of the types is part of it
//!     .time_to_live(Duration::from_secs(3_600))
//!     .open()?; // or .await
//! let users: Cache<u64, String> = Cache::builder()
//!     .max_entries(100_000)
//!     .time_to_live(Duration::from_secs(60))
//!     .jitter(0.1)
//!     .tier(tier)
//!     .build()?;
//! users.get_or_load(&42, || select(42))?; // this process, else the tier, else the source
//! users.remove(&42); // in all processes, within milliseconds
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! (`open` fails where there is no server; with `lazy()` a process starts without, and connects later.)
//!
//! The tier is asked within a key's one load, and told of every change; changes of others take the copy out
//! here and fence loads in flight, as removals here do. If it cannot be reached, callers go to the source,
//! and what was removed meanwhile is removed there when it is back. [`CacheBuilder::tier`] says what holds,
//! [`MemoryTier`] is a double for tests, and [`Tier`] a trait for other servers.
//!
//! Worth watching: [`tier_pending`](Cache::tier_pending) and [`Stats::tier_errors`], which grow while the tier
//! cannot be reached, or refuses; what a `RedisTier` counts by itself; and the source's load when it is back.
//!
//! # HTTP on either side
//!
//! With the feature `http`, `Upstream` reads how long an answer may be kept, and by which version it
//! is asked for again; `Downstream` says the same of a cached value, and knows which requests are
//! answered by `304 Not Modified`.
//!
//! # Testing code that caches
//!
//! Hand the cache a clock that moves only when the test says so. Everything timed obeys it, the
//! timeouts of callers who wait included, and nothing happens in the background.
//!
//! ```
//! use larder::{Cache, Clock};
//! use std::time::Duration;
//!
//! let (clock, hand) = Clock::manual();
//! let cache: Cache<String, u32> = Cache::builder()
//!     .max_entries(10)
//!     .time_to_live(Duration::from_secs(60))
//!     .clock(clock)
//!     .build()?;
//! cache.insert("price".to_owned(), 101);
//! hand.advance(Duration::from_secs(59));
//! assert_eq!(cache.get("price"), Some(101));
//! hand.advance(Duration::from_secs(1));
//! assert_eq!(cache.get("price"), None);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! (`tokio::time::pause` stops tokio's clock, and no cache's. Changes go out to a second tier in real time:
//! a test waits for them by [`tier_flush`](Cache::tier_flush).)
//! [`seed`](CacheBuilder::seed) makes the draws of the jitter repeatable as well (with several shards together
//! with a fixed [`hasher`](CacheBuilder::hasher)), and a [`SteppingRuntime`] runs refreshes one by one, when
//! the test says so.
//!
//! # Keys
//!
//! Look-ups take keys in borrowed form: a `Cache<String, V>` takes `&str`, a `Cache<Vec<u8>, V>`
//! takes `&[u8]`. For a composite key, write a struct that borrows its parts, hashes like the key
//! and is [`Equivalent`] to it; then a look-up allocates nothing:
//!
//! ```
//! use larder::{Cache, Equivalent};
//!
//! #[derive(Hash)] // field by field, as the tuple does
//! struct Sensor<'a>(&'a str, u32);
//!
//! impl Equivalent<(String, u32)> for Sensor<'_> {
//!     fn equivalent(&self, key: &(String, u32)) -> bool {
//!         self.0 == key.0 && self.1 == key.1
//!     }
//! }
//!
//! let cache: Cache<(String, u32), f64> = Cache::new(1_000);
//! cache.insert(("roof".to_owned(), 7), 21.5);
//! assert_eq!(cache.get(&Sensor("roof", 7)), Some(21.5));
//!
//! // a call that may store needs a key that it can make an owned one of
//! let read = |place: &str, n| match cache.get(&Sensor(place, n)) {
//!     Some(value) => Ok(value),
//!     None => cache.get_or_load(&(place.to_owned(), n), || "19.0".parse::<f64>()),
//! };
//! assert_eq!(read("cellar", 1).unwrap(), 19.0);
//! ```
//!
//! The loading calls, and [`At`], ask for `ToOwned<Owned = K>` as well: that is the key type
//! itself, or `str` for `String`, `[T]` for `Vec<T>`, `Path` for `PathBuf`. (The two look-ups above
//! count as two in the stats.) With keys of `Arc<str>` a look-up takes a `&str`, and a loading call an
//! `Arc<str>`, which is made of one by `.into()`.
//!
//! # Your code and our locks
//!
//! No lock is held while a loader, weigher, predicate or listener of yours runs, or while a key or value of
//! yours is dropped: all of these may use the cache. Three things run under a shard's lock and must not use
//! the cache:
//!
//! * `Eq` of keys, under the shared or the exclusive lock;
//! * `Clone` of values (and of keys, where a walk returns them), under the shared lock;
//! * `Hash` of keys, in one case only: when a second tier tells of another process's change.
//!
//! Each may panic; the cache stays valid.
//!
//! # What it costs
//!
//! A **hit** hashes the key, takes its shard's lock in shared mode, compares sixteen one-byte tags
//! at once, compares the key, reads a clock (where values expire and reads are frequent that is one
//! load from memory), raises a small counter beside the entry until it is at its limit, and clones
//! the value. It allocates nothing. Writers of the same shard wait for each other; shards are eight
//! a core by default, where the bound allows 512 entries for each. While a shard is read and not written,
//! its readers write nothing that they share, up to 63 threads; further ones count
//! themselves in a word of the shard's.
//!
//! A **miss** that loads takes the lock twice more, once to decide who loads and once to store, and
//! clones the key and the value. The load in flight is allocated when somebody else waits for it.
//!
//! **Memory**: about 1.45 × (key + value + 8) + 17 bytes an entry once the cache is full, which for
//! `u64` to `u64` is 52, and what keys and values own on the heap. A time to idle or a weigher adds
//! twelve bytes each. A cache starts with some KiB and grows with what is stored: by half, or up to its
//! full size by doubling, and a shard of some hundred entries and more makes the next table ready with
//! the last newcomers before it is needed.
//!
//! **Threads**: the first cache with a time to live, or the first task that waits for a load,
//! starts one thread for the whole process (`larder-keeper`). It sleeps until something is due,
//! winds the clock while reads are frequent, holds the caches weakly, and ends with the last of
//! them. A [`LoadingCache`] that refreshes has up to eight of its own (`larder-loader`), which end
//! after ten idle seconds, and with the cache. A cache with a second tier has one that tells it of changes
//! (`larder-tier`), and a `RedisTier` one with its connection (`larder-redis`). A child made by `fork` without `exec` has no such thread: do not use caches there.
//!
//! # Use something else when
//!
//! * **[moka](https://docs.rs/moka)**: you want the cache that has been in production for years, a
//!   read-modify-write of one entry (`and_compute_with`), a life that reads and updates can change
//!   (`Expiry`), or LRU for a workload in which only recency counts.
//! * **[quick_cache](https://docs.rs/quick_cache)**: nothing expires, and you want few
//!   dependencies, an entry API, pinned entries, or a variant for one thread.
//! * **[cached](https://docs.rs/cached)**: you want to memoize a function with one attribute, or to
//!   keep results on disk.
//! * **[foyer](https://docs.rs/foyer)**: the cache is larger than memory and goes on on disk.
//! * **a map, or a [`LazyLock`](std::sync::LazyLock)**: the set of keys is known and small, and
//!   nothing changes.
//!
//! To share entries between processes there is a second tier: [`CacheBuilder::tier`].
//!
//! How it is built, and why: [`design`].

// docs.rs says of each item which feature it needs
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(larder_loom, larder_shuttle))))]

// In the order in which they are read: the path of a call, from the caller's hand downwards.
pub mod design; // the map of the house
mod front; // what callers hold, and its two ways to wait
mod engine; // the core: every shard of a cache, who leads, where a load lands
mod shard; // one shard: its entries, its loads in flight
mod parts; // structures, each usable alone: table, eviction, flight, budget
mod rules; // decisions, as functions of values: lives, results, counts
mod words; // what all others speak in: clock, errors, locks
mod builder; // assembly
#[cfg(all(test, any(larder_loom, larder_shuttle)))]
mod models; // what loom and shuttle explore

pub use builder::CacheBuilder;
pub use equivalent::Equivalent;
pub use front::at::At;
#[cfg(not(larder_loom))]
pub use front::behind::builder::WriteBehindBuilder;
#[cfg(all(feature = "tokio", not(larder_loom)))]
pub use front::behind::tasks::{AsyncWriteBehind, AsyncWriteBehindBuilder, AsyncWriter};
#[cfg(not(larder_loom))]
pub use front::behind::threads::WriteBehind;
#[cfg(not(larder_loom))]
pub use front::behind::writer::{Change, GaveUp, Unwritten, WhenFull, WriteError, Writer};
pub use front::cache::Cache;
pub use front::entries::Entries;
#[cfg(feature = "http")]
pub use front::http::downstream::Downstream;
#[cfg(feature = "http")]
pub use front::http::upstream::Upstream;
pub use front::invalidator::Invalidator;
pub use front::loader::{AsyncFnLoader, AsyncLoader, FnLoader, Loader};
pub use front::loading::LoadingCache;
pub use front::loading_async::AsyncLoadingCache;
#[cfg(feature = "snapshot")]
pub use front::snapshot::error::SnapshotError;
#[cfg(feature = "snapshot")]
pub use front::snapshot::options::{Restored, Saved, Snapshot};
pub use front::tier::memory::MemoryTier;
#[cfg(feature = "redis")]
pub use front::tier::redis::{
    __fuzz_tier_frame, Codec, CodecError, Json, Postcard, RedisTier, RedisTierBuilder,
    RedisTierStats,
};
pub use front::warm::Warmed;
pub use front::writing::WriteFence;
pub use rules::ahead::RefreshAhead;
pub use rules::explain::{
    BreakerState, End, Explanation, Failing, SlotsUsed, Standing, TierState, Underway,
};
pub use rules::got::{Got, How, StaleWhy};
pub use rules::loaded::{LoadCx, LoadReason, Loaded};
pub use rules::many::Many;
pub use rules::stats::Stats;
pub use rules::tag::Tag;
pub use rules::tier::{Tier, TierChange, TierEntry, TierFound, TierTicket, TierWatcher};
pub use words::clock::{Clock, ManualClock};
pub use words::error::{ConfigError, Given, LoadError, TierError};
pub use words::removal::{Removal, RemovalCause};
pub use words::runtime::{Refused, Runtime};
pub use words::stepping::SteppingRuntime;
pub use words::tier_key::TierKey;

/// The examples of the README are tests.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
