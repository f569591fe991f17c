//! An in-process cache for values that are slow to get: [`get_or_load`](Cache::get_or_load) asks
//! the source once, however many threads and tasks want the value.
//!
//! # What goes wrong without it
//!
//! Most caches begin as a map behind a lock, with an expiry time beside each value. That works until traffic
//! grows, and then it fails in three ways:
//!
//! * **Stampede.** A popular value expires, and until the next one is stored, every request asks the
//!   database for the same row. The source is slowest just when it is asked most.
//! * **Resurrection.** A load reads the old row; the row is updated and the cached value removed; then the
//!   load finishes and stores the old row. The old value is in the cache again, for a whole time to live,
//!   and nothing in any log says so.
//! * **Memory.** Values that nobody asks for again stay, until the process runs out of memory and is killed.
//!
//! larder is a bounded map with an answer to each: all callers of a key share one load (single-flight); a
//! load does not store its result once something newer has happened to its key; and eviction keeps the map
//! within its bound at every moment.
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
//! Tasks use the same cache, through the calls that end in `_async`. A thread and a task that want the
//! same key wait for the same load. Any async runtime will do.
//!
//! ```
//! # use larder::{Cache, LoadError};
//! # async fn select_user(id: u64) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
//! # async fn handler(users: &Cache<u64, String>) -> Result<(), LoadError<std::io::Error>> {
//! let name = users.get_or_load_async(&42, || select_user(42)).await?;
//! # Ok(()) }
//! ```
//!
//! A `Cache` is a handle: clone it freely, all clones are one cache. Values are returned as clones too, so
//! put large ones into an [`Arc`](std::sync::Arc).
//!
//! # Expiry: how long a value lives
//!
//! For ever, unless you give it a time to live (TTL): [`time_to_live`](CacheBuilder::time_to_live) is for
//! all values of the cache, [`at(..).ttl(..)`](At::ttl) for what one call stores, and [`Loaded::ttl`] is
//! for loaders that learn it from the source. [`jitter`](CacheBuilder::jitter) shortens each life by a
//! random share, so that values that were loaded together do not expire together. It never lengthens one:
//! no value is fresh for longer than its TTL.
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
//! [`time_to_idle`](CacheBuilder::time_to_idle) expires values that have not been used for that long, even if
//! their TTL has not ended; using a value never prolongs its TTL. The cache does not serve an expired value
//! (unless a [window](#stale-values) allows it), nor count it as a hit, nor show it in a walk over the
//! [`entries`](Cache::entries). Its memory is freed by later inserts, by [`sweep`](Cache::sweep), or in the
//! background within about a minute, whether or not anybody asks for the key again.
//!
//! # One load per key (single-flight)
//!
//! The first caller that finds nothing loads; all others wait for that load. Looking the key up and deciding
//! who loads it is a single step, so no second load can begin in between.
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
//! * **A later write wins.** If somebody calls [`insert`](Cache::insert), [`remove`](Cache::remove),
//!   [`expire`](Cache::expire), [`remove_if`](Cache::remove_if) or [`clear`](Cache::clear) while a load
//!   runs, the callers who already wait for the load get its result, but the cache does not store it.
//!   Callers who come after the write find what was written, or load again.
//! * **An error reaches all who waited, at once**, and it is the same one for all. They do not retry one
//!   after the other. Nothing is stored, and the next call loads again.
//! * **A load that hangs loses its key.** After [`load_timeout`](CacheBuilder::load_timeout) (60 s unless
//!   set) those who wait get [`TimedOut`](LoadError::TimedOut), and the next caller starts a load of its
//!   own. If the first one still finishes, its result is not stored.
//! * **Dropped futures harm nobody.** A caller that waits may be dropped at any time. If the caller that loads
//!   is dropped, one of those who wait takes over with its own loader; if nobody waits, nothing is left behind.
//!   (A cache with an async loader can let such a load [go on](CacheBuilder::detached_loads).)
//! * **A panic stays with its caller.** It unwinds the caller whose loader panicked; those who waited get
//!   [`Panicked`](LoadError::Panicked), and the key can be loaded at once.
//! * **A loader that asks the cache for its own key** gets an error, [`Recursive`](LoadError::Recursive),
//!   instead of waiting for itself. It may ask for other keys. Two deadlocks are not detected, and end at
//!   `load_timeout`: a loader that waits for a task which it spawned and which asks for the same key, and two
//!   loaders that ask for each other's keys.
//!
//! The first of these (a later write wins), seen from inside a loader:
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
//! # Stale values
//!
//! When a value expires, its callers wait while it is loaded again, and if the source is down at that moment,
//! they get an error. You can allow the cache to serve the old value for some time longer:
//!
//! ```text
//! stored            expiry          + stale_while_revalidate        + stale_if_error
//!   |---- fresh -----|--- revalidate -----|-------- error only ---------|  gone
//! ```
//!
//! * Within [`stale_while_revalidate`](CacheBuilder::stale_while_revalidate) the first caller who finds
//!   the value expired loads, and all others get the old value at once.
//! * Within [`stale_if_error`](CacheBuilder::stale_if_error) callers wait for the load, and get the old
//!   value if the load fails, times out or panics under another caller.
//!
//! Both windows begin at the expiry and have a fixed end: serving a value does not prolong them (RFC 5861).
//! [`expire`](Cache::expire) ends a value's life early, and its windows begin at that moment. A value that
//! was [removed](Cache::remove) is never served again.
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
//! After a load has failed, the cache pauses before it loads that key again: for a second, if it has a stale
//! value to serve meanwhile. [`error_backoff`](CacheBuilder::error_backoff) sets a different pause, which
//! doubles with each failure and applies to keys without a stale value too. If a load does not fail but is slow,
//! [`soft_timeout`](CacheBuilder::soft_timeout) limits how long callers wait for it before they get the stale
//! value.
//!
//! [`at`](Cache::at) makes further settings for a single call: [`max_age`](At::max_age) accepts only values
//! that were stored recently, [`force`](At::force) always loads, [`timeout`](At::timeout) limits how long
//! this caller waits, and [`fallback`](At::fallback) is a value to return instead of an error. The loader of
//! such a call can see the value that it is to replace. If the source says that nothing has changed, the
//! loader returns [`Loaded::unchanged`], and the cached value begins a new life.
//!
//! # Many keys at once
//!
//! A page that shows fifty things should not need fifty queries. [`get_or_load_many`](Cache::get_or_load_many)
//! calls its loader once, with those of the keys that are neither cached nor being loaded. Other callers who
//! want one of these keys meanwhile, alone or in a batch, wait for the same load. What was found is returned
//! along with what failed; [`into_result`](Many::into_result) makes one `Result` of both.
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
//! # A cache that owns its loader (read-through)
//!
//! Give the cache its loader (read-through), and callers pass only the key. If a value is asked for shortly
//! before it expires, such a cache can reload it in the background, so that no caller waits:
//! [`refresh_ahead`](CacheBuilder::refresh_ahead) says when. Within `stale_while_revalidate` it reloads in
//! the background too, and every caller gets the old value at once.
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
//! A [`LoadingCache`] is a [`Cache`] as well. Its closure may also return an `Option`, or a [`Loaded`] with a
//! life of its own; and for one call the cache's settings can be changed:
//! `pages.at("/news").force().read_through()` loads the page in any case, and waits for it. If you implement
//! [`Loader`] yourself, it can load many keys with one query; [`batch`](CacheBuilder::batch) coalesces the
//! misses of single calls into such queries. For async sources there are [`AsyncLoader`],
//! [`AsyncLoadingCache`] and, for an async closure,
//! [`build_loading_async_fn`](CacheBuilder::build_loading_async_fn). Async callers may be dropped (clients
//! hang up, handlers have timeouts), and their loads with them: if the source is slower than they are willing
//! to wait, each of them asks it, and nothing is cached. With
//! [`detached_loads`](CacheBuilder::detached_loads) such a load goes on in the background, for whoever comes
//! next. Background loads run on a [`Runtime`]: a few threads of the cache's own, tokio, or in tests one that
//! the test steps by hand ([`SteppingRuntime`]).
//!
//! # Writes to the source
//!
//! After changing a row, remove it from the cache, and the next caller loads it. A load in flight at that moment
//! is not stored, whichever version of the row it has read. But three things can still leave the old row in the
//! cache for a whole TTL:
//!
//! * The removal comes before the write is visible to others (before the commit of a transaction, or while
//!   replicas lag behind), and a load that begins in between reads and stores the old row.
//! * The removal never comes: the write returns an error although it arrived, or the handler is dropped
//!   between the two.
//! * Somebody else writes the row.
//!
//! To rule out the first two, tell the cache about the write: [`write_through`](Cache::write_through) writes to
//! the source and then to the cache, and [`writing`](Cache::writing) puts a fence around a write made by other
//! means. No load that overlaps such a write is stored. If the write fails, the cache keeps nothing under the
//! key, since the write may have arrived all the same.
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
//! If others write too, and something reports their changes (a change feed, a message bus, a database hook),
//! give the receiver an [`invalidator`](Cache::invalidator): it removes and expires entries as the cache
//! does, but does not keep the cache alive.
//!
//! If callers should not wait for the source at all, use a [`WriteBehind`]. It puts their changes into a
//! bounded queue, shows them in this process at once, and writes them to the source a moment later: in
//! batches, only the last change of each key, with retries after a failure. A crash loses what is not written
//! yet; the page of [`WriteBehind`] says how much that can be. (For an async writer there is
//! `AsyncWriteBehind`, with the feature `tokio`.)
//!
//! # Read-modify-write
//!
//! For a count, a limit or a session, the new value depends on the current one. A `get` and an `insert` lose
//! what others do in between; [`alter`](Cache::alter) does not. It calls a closure with the fresh value, or
//! `None`, and stores what the closure returns if nothing else has happened to the key; otherwise it calls
//! the closure again. (A closure that may fail is for [`try_alter`](Cache::try_alter).) A change begins a new
//! life, as an insert does, unless it is told to [keep](At::keep_life) the old one:
//!
//! ```
//! # use larder::Cache;
//! # use std::time::Duration;
//! let sent: Cache<String, u32> = Cache::builder()
//!     .max_entries(100_000)
//!     .time_to_live(Duration::from_secs(3600))
//!     .build()?;
//! // five mails an hour, counted from the first
//! let may_send = |to: &str| {
//!     sent.at(to).keep_life().alter(|n| Some(n.unwrap_or(0) + 1)).is_some_and(|n| n <= 5)
//! };
//! assert_eq!((0..7).filter(|_| may_send("ada@example.org")).count(), 5);
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! A count that is evicted is lost. Counts that have to reach the source go through [`WriteBehind::alter`]:
//! page views, say, are counted in memory and written every second.
//!
//! # Tags: removing what belongs together
//!
//! One row often appears in several entries: in lists, pages, sums. Give all of them a tag that names the
//! row. [`remove_tag`](Cache::remove_tag) removes every entry with a tag, in the time of one look-up however
//! many there are, and no load that began before it stores an entry with that tag afterwards.
//! [`expire_tag`](Cache::expire_tag) expires them instead. A caller names the tags that it knows, with
//! [`At::tag`]; a loader names those that it learns from the source, with [`Loaded::tag`].
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
//! # Protecting the source: limits and a circuit breaker
//!
//! With one load per key, a thousand keys still mean a thousand loads at once, and a source that is down is
//! still asked for each of them. Two settings limit that, over all keys together:
//!
//! * [`max_concurrent_loads`](CacheBuilder::max_concurrent_loads): at most that many loads run at once; the
//!   others wait in line, first come, first served, threads and tasks alike. A loader that loads another key
//!   from the cache needs no second slot for it.
//! * [`circuit_breaker`](CacheBuilder::circuit_breaker): after a number of failures in a row no load runs for
//!   a while. Callers get a stale value, where a window allows one, or
//!   [`CircuitOpen`](LoadError::CircuitOpen), at once. Then a single load probes whether the source is back.
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
//! # Events, counters, and `explain`
//!
//! A cache that serves stale values, or refreshes in the background, hides the failures of its source. To see
//! them, give [`on_event`](CacheBuilder::on_event) a handler for your log and your alarms. It is called when
//! a load fails, panics, times out or is dropped with its caller (above all for background refreshes, whose
//! errors no caller sees), when the circuit breaker opens and closes, and when a second tier fails or leaves
//! entries out.
//!
//! ```
//! use larder::{Cache, Event};
//! use std::io;
//!
//! let users: Cache<u64, String> = Cache::builder()
//!     .max_entries(1_000)
//!     .on_event(|event| match event {
//!         Event::LoadFailed { key, error, .. } => {
//!             eprintln!("users: {key}: {:?}", error.downcast_ref::<io::Error>());
//!         }
//!         event => eprintln!("users: {event}"),
//!     })
//!     .build()?;
//! # Ok::<_, larder::ConfigError>(())
//! ```
//!
//! [`stats`](Cache::stats) counts: hits, misses, loads, those that failed, values stored and evicted, and
//! more. [`counts`](Stats::counts) gives all of them with their names, for whatever collects metrics.
//!
//! [`explain`](Cache::explain) reports on one key: how old its value is, until when it is fresh and until
//! when it may be served stale, when its last load failed and when the next one may begin, whether a load
//! is running and how many callers wait for it, and the state of the breaker and the slots. [`Stats`] counts
//! for the whole cache, and estimates [how much longer](Stats::unchanged_lives) its values could live.
//!
//! # "Not found" (negative caching)
//!
//! "There is no such row" is an answer too, and often the one that is asked for most. A loader of
//! [`get_or_load_optional`](Cache::get_or_load_optional) returns `Ok(None)`, and the cache keeps that answer
//! for [`negative_ttl`](CacheBuilder::negative_ttl) (negative caching). It replaces the cached value, counts
//! as an entry, and ends with the next `insert` or `remove` of its key. An error is different: it replaces
//! nothing, and is never taken for "not found".
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
//! [`LoadError<E>`] says how a load failed, with the loader's own error `E` in an `Arc`, since all who waited
//! get the same one. `E` has to be `Send + Sync + 'static`: `anyhow::Error` is, and
//! `Box<dyn Error + Send + Sync>`, but not plain `Box<dyn Error>`. `?` converts a `LoadError` into any of the
//! three, and into an error type of your own that is [made from it](LoadError).
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
//! Calls for one key may have loaders with different error types. If a caller waits for a load that fails
//! with another error type than its own, it looks again, and may load itself.
//!
//! # Bounds: entries or weight
//!
//! A cache is bounded by entries or by weight, and [`build`](CacheBuilder::build) refuses one that
//! is neither, unless you call [`unbounded`](CacheBuilder::unbounded). The call that stores a value makes
//! room for it first: [`len`](Cache::len) and [`weight`](Cache::weight) are never above their bounds, not
//! even for a moment, and no maintenance is put off until later.
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
//! The bound is for the cache as a whole: one value may take all of the weight. A value that weighs more
//! than that is not stored; the caller who loaded it gets it all the same. Of two values that are asked for
//! equally often, the heavier one is evicted first.
//!
//! # Removal listener
//!
//! The listener that you give to [`on_removal`](CacheBuilder::on_removal) is called once for every value that
//! leaves the cache, with the reason. It runs on the thread that made the value leave, with no lock held.
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
//! [`stats`](Cache::stats) counts these too. (The listener also gets values that were never stored: those
//! written with a TTL of zero, as `Expired` and not counted, and those that are too heavy, as `Rejected`.)
//!
//! # Warm restarts (snapshots)
//!
//! With the feature `snapshot`, `save_to_file` saves what a cache holds, and `load_from_file` restores it in
//! the next process, each value with what is left of its life, so that a deploy does not send all requests to
//! the database at once. If the file is damaged, the error says where; what comes before the damage is
//! restored, and the rest has to be loaded. (Types with serde's `skip_serializing_if`, `flatten`, `untagged` or
//! the like cannot be saved as they are; `save_to` says more.)
//!
//! # Several processes (a second tier)
//!
//! A cache in one process is lost on restart and not shared. With the feature `redis`, a Redis or Valkey
//! server that you already run becomes its second tier, and all calls stay as they are:
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
//! (`open` fails if there is no server; with `lazy()` a process starts without one and connects later.)
//!
//! The one load of a key asks the tier first, and then the source. The cache sends every change made here to
//! the tier. When another process changes a key, its copy here is removed, and a load of it in flight here is
//! not stored. While the tier cannot be reached, callers go to the source; what is removed meanwhile is
//! removed from the tier once it is back. [`CacheBuilder::tier`] says more, [`MemoryTier`] stands in for a
//! server in tests, and [`Tier`] is the trait to write another one.
//!
//! Keys and values become bytes by serde. The default codec, `Postcard`, is small and fast, but its bytes have
//! no field names: it refuses values of which serde's `skip_serializing_if` leaves a field out, and does not
//! suit types with `skip_serializing`, `flatten`, `untagged` or `tag`, nor `serde_json::Value`. What it cannot
//! write, or not read back, is left out of the tier, and [`on_event`](CacheBuilder::on_event) is told so. Give
//! such types the other codec: `.codec(Json)`.
//!
//! Worth watching: [`tier_pending`](Cache::tier_pending) and [`Stats::tier_errors`], which grow while the
//! tier cannot be reached or refuses requests; [`Stats::tier_skipped`], which grows if types and codec do not
//! suit each other; the counters of the `RedisTier` itself; and the load on the source after the tier has come
//! back.
//!
//! # HTTP caching headers
//!
//! With the feature `http`, `Upstream` reads from an upstream's header fields how long its response may be
//! kept, and the `ETag` to revalidate it with. `Downstream` writes such fields for a cached value, and
//! decides which requests to answer with `304 Not Modified`.
//!
//! # Testing code that caches
//!
//! Give the cache a clock that moves only when the test says so. Everything timed obeys it, even the timeouts
//! of callers who wait, and nothing happens in the background.
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
//! (`tokio::time::pause` stops tokio's clock, but not a cache's. Changes still reach a second tier in real
//! time: a test calls [`tier_flush`](Cache::tier_flush) to wait for them.) [`seed`](CacheBuilder::seed) makes
//! the random draws of the jitter repeatable as well (with several shards, add a fixed
//! [`hasher`](CacheBuilder::hasher)), and a [`SteppingRuntime`] runs refreshes one by one, when the test says
//! so. (In an async test, a call that waits for such work is awaited with its
//! [`run_until`](SteppingRuntime::run_until).)
//!
//! # Keys
//!
//! Look-ups take keys in borrowed form: a `Cache<String, V>` takes `&str`, a `Cache<Vec<u8>, V>`
//! takes `&[u8]`. For a composite key, write a struct that borrows its parts, hashes like the key and
//! is [`Equivalent`] to it, and say with [`ToKey`] how a key is made of it. Then no look-up allocates; a
//! load makes the key when it has to:
//!
//! ```
//! use larder::{Cache, Equivalent, ToKey};
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
//! impl ToKey<(String, u32)> for Sensor<'_> {
//!     fn to_key(&self) -> (String, u32) {
//!         (self.0.to_owned(), self.1)
//!     }
//! }
//!
//! let cache: Cache<(String, u32), f64> = Cache::new(1_000);
//! let read = |place, n| cache.get_or_load(&Sensor(place, n), || "19.0".parse::<f64>());
//! assert_eq!(read("cellar", 1).unwrap(), 19.0);
//! assert_eq!(cache.get(&Sensor("cellar", 1)), Some(19.0));
//! ```
//!
//! The calls that may store (those that load, [`alter`](Cache::alter), and what [`At`] does) need [`ToKey`];
//! the key type itself has it, and so have `str` for `String`, `[T]` for `Vec<T>` and `Path` for `PathBuf`.
//! With keys of `Arc<str>` they take a `&Arc::from("..")`, or [a struct](ToKey) that spares a hit the
//! allocation; with keys of `&'static str` a `&".."`, where a look-up takes a `&str`.
//!
//! # Your code and the cache's locks
//!
//! No lock is held while a loader, weigher, predicate or listener of yours runs, or while a key or value of
//! yours is dropped: all of these may use the cache. Three things run under a shard's lock and must not use
//! the cache:
//!
//! * `Eq` of keys, under the shared or the exclusive lock;
//! * `Clone` of values (and of keys, where a walk returns them), under the shared lock, or under one that a reader
//!   of a shard that is written to has to itself;
//! * `Hash` of keys, in one case only: when a second tier tells of another process's change.
//!
//! Each may panic; the cache stays valid.
//!
//! # What it costs
//!
//! A **hit** hashes the key, takes its shard's lock in shared mode, compares sixteen one-byte tags at once,
//! compares the key, reads a clock (where values expire and reads are frequent, that is one load from
//! memory), increments a small saturating counter beside the entry, and clones the value. It allocates
//! nothing. Writers of the same shard wait for each other; by default there are sixteen shards per core, if
//! the bound leaves 512 entries for each. While a shard is only read, up to 63 threads read it without
//! writing shared memory; any more share one reader counter.
//!
//! A **miss** that loads takes the lock twice more, once to decide who loads and once to store, and
//! clones the key and the value. It allocates a record of the load only if somebody else waits for
//! it, or if the cache has more to do with a load than to store its value ([`get_or_load`](Cache::get_or_load)
//! says which caches these are).
//!
//! **Memory**: about 1.45 × (key + value + 8) + 17 bytes per entry once the cache is full (52 for `u64` to
//! `u64`), plus what keys and values own on the heap. A time to idle and a weigher add twelve bytes each. A
//! cache starts with a few KiB, and its tables grow with what is stored: each is twice as large as the one
//! before it, or half as large again where `max_entries` does not say how many entries there will be. A shard
//! of a few hundred entries or more prepares its next table little by little, during the inserts before it is
//! needed.
//!
//! **Threads**: the first cache with a time to live, or the first task that waits for a load, starts one
//! thread for the whole process (`larder-keeper`). It wakes tasks whose timeout is over, has expired entries
//! swept from quiet caches, and sleeps until the next of these is due. While reads are frequent, it also
//! reads the clock every 2 ms, so that hits need not. It keeps no cache alive, and ends with the last one.
//! Each sweep runs on a thread that ends with it (`larder-sweeper`, four at most in a process): your removal
//! listeners and the `Drop`s of expired values run there, and delay nothing but further sweeps. A
//! [`LoadingCache`] that refreshes has up to eight threads of its own (`larder-loader`), which end after ten
//! idle seconds, and with the cache. A cache with a second tier has a thread that sends changes to the tier
//! (`larder-tier`), and a `RedisTier` one for its connection (`larder-redis`). None of these threads exists
//! in a child process made by `fork` without `exec`: do not use caches there.
//!
//! # Use something else when
//!
//! * **[moka](https://docs.rs/moka)**: you want the cache that has been in production for years, a time to
//!   live that reads can change (`Expiry`), or LRU for a workload in which only recency counts.
//! * **[quick_cache](https://docs.rs/quick_cache)**: nothing expires, and you want few dependencies, pinned
//!   entries, or a single-threaded variant.
//! * **[cached](https://docs.rs/cached)**: you want to memoize a function with one attribute, or to
//!   keep results on disk.
//! * **[foyer](https://docs.rs/foyer)**: the cache is larger than memory and continues on disk.
//! * **a map, or a [`LazyLock`](std::sync::LazyLock)**: the keys are few and known, and nothing changes.
//!
//! To share entries between processes, give the cache a second tier: [`CacheBuilder::tier`].
//!
//! The names that other caches have for what is here: [`coming_from`]. How it is built, and why: [`design`].

// docs.rs says of each item which feature it needs
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(larder_loom, larder_shuttle))))]

// From the top layer downwards, as a call goes through them; `design` says which file is which.
pub mod coming_from; // the names of other caches, for readers of the documentation
pub mod design; // how the crate is built, and why: read this first
mod front; // the public handles; how threads block and tasks wait
mod engine; // the core: all shards of a cache, who loads, where a result is stored
mod shard; // one shard: its entries and its loads in flight, as plain data
mod parts; // data structures that know nothing of caches: table, eviction, flights, budget
mod rules; // decisions as pure functions, and the public types that go in and out
mod words; // the basis for all others: clock, errors, locks, runtimes
mod builder; // the builder: settings, their checks and defaults
#[cfg(all(test, any(larder_loom, larder_shuttle)))]
mod models; // what loom and shuttle explore

pub use builder::CacheBuilder;
pub use equivalent::Equivalent;
pub use front::at::At;
#[cfg(not(larder_loom))]
pub use front::behind::at::ChangeAt;
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
pub use front::snapshot::options::Snapshot;
#[cfg(feature = "snapshot")]
pub use front::snapshot::restore::Restored;
#[cfg(feature = "snapshot")]
pub use front::snapshot::save::Saved;
pub use front::tier::memory::MemoryTier;
#[cfg(feature = "redis")]
pub use front::tier::redis::{
    __fuzz_tier_frame, Codec, CodecError, Json, Postcard, RedisTier, RedisTierBuilder,
    RedisTierStats,
};
pub use front::warm::Warmed;
pub use front::writing::WriteFence;
pub use rules::ahead::RefreshAhead;
pub use rules::altered::Altered;
pub use rules::event::Event;
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
pub use words::optional::OptionalExt;
pub use words::removal::{Removal, RemovalCause};
pub use words::runtime::{Refused, Runtime};
pub use words::stepping::SteppingRuntime;
pub use words::tier_key::TierKey;
pub use words::to_key::ToKey;

/// The examples of the README are tests.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
