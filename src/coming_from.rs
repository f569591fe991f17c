//! What the names in other caches are called here.
//!
//! Nothing is defined here. (The search of these pages knows most of those names too: look for `get_with` or
//! `fail_safe`.) For moka and `quick_cache` the README of the crate has such tables, and a comparison.
//!
//! - [cached](#cached), whose macros memoize functions
//! - [Caffeine, Guava](#caffeine-and-guava)
//! - [`FusionCache`](#fusioncache), `HybridCache`
//! - [groupcache, singleflight](#groupcache-and-singleflight)
//! - [A life that depends on the value](#a-life-that-depends-on-the-value), moka's `Expiry`
//! - [What larder has not](#what-larder-has-not)
//!
//! # cached
//!
//! A memoized function is one with a cache in a `static`; there is no macro that writes it. All of these run
//! the body once for callers who come at once, as `sync_writes = "by_key"` does.
//!
//! ```
//! use larder::{Cache, LoadError};
//! use std::{io, sync::LazyLock, time::Duration};
//!
//! // #[cached(max_size = 1_000)]
//! fn digits(n: u64) -> usize {
//!     static DIGITS: LazyLock<Cache<u64, usize>> = LazyLock::new(|| Cache::new(1_000));
//!     DIGITS.get_or_insert_with(&n, || n.to_string().len())
//! }
//!
//! // #[cached(max_size = 1_000, ttl_secs = 60, key = "String", convert = { path.to_owned() })]
//! fn read(path: &str) -> Result<String, LoadError<io::Error>> {
//!     static FILES: LazyLock<Cache<String, String>> = LazyLock::new(|| {
//!         let minute = Duration::from_secs(60);
//!         let built = Cache::builder().max_entries(1_000).time_to_live(minute).build();
//!         built.expect("nothing contradicts the bound")
//!     });
//!     FILES.get_or_load(path, || std::fs::read_to_string(path)) // a failure is not cached
//! }
//!
//! assert_eq!(digits(1_024), 4);
//! assert!(read("/no/such/file").unwrap_err().loader().is_some());
//! ```
//!
//! | cached | larder |
//! |---|---|
//! | `max_size`, `ttl_secs` | [`max_entries`](crate::CacheBuilder::max_entries), [`time_to_live`](crate::CacheBuilder::time_to_live) |
//! | `refresh = true` | [`time_to_idle`](crate::CacheBuilder::time_to_idle) |
//! | `expires = true`, `Expires` | [as below](#a-life-that-depends-on-the-value) |
//! | a function that returns a `Result` | [`get_or_load`](crate::Cache::get_or_load): `Ok` is cached. For `cache_err`: [`error_backoff`](crate::CacheBuilder::error_backoff) |
//! | one that returns an `Option` | [`get_or_load_optional`](crate::Cache::get_or_load_optional). For `cache_none`: [`negative_ttl`](crate::CacheBuilder::negative_ttl) |
//! | an `async fn` | the calls that end in `_async` |
//! | `result_fallback` | [`stale_if_error`](crate::CacheBuilder::stale_if_error), which has an end |
//! | `key`, `convert` | the key of the call: `&(a, b)`, or a struct that borrows its parts ([`ToKey`](crate::ToKey)) |
//! | `with_cached_flag` | [`at(..).load(..)`](crate::At::load), whose [`how`](crate::Got::how) tells |
//! | `#[once]` | a key of `()`: `Cache<(), Config>` |
//! | `on_evict` | [`on_removal`](crate::CacheBuilder::on_removal) |
//! | `RedisCache` | [`tier`](crate::CacheBuilder::tier), with the feature `redis` |
//!
//! # Caffeine and Guava
//!
//! | Caffeine | larder |
//! |---|---|
//! | `getIfPresent`, `put`, `invalidate`, `invalidateAll()` | [`get`](crate::Cache::get), [`insert`](crate::Cache::insert), [`remove`](crate::Cache::remove), [`clear`](crate::Cache::clear) |
//! | `get(key, mappingFunction)` | [`get_or_load`](crate::Cache::get_or_load), [`get_or_insert_with`](crate::Cache::get_or_insert_with) |
//! | `getAll(keys, mappingFunction)` | [`get_or_load_many`](crate::Cache::get_or_load_many), whose [`Many`](crate::Many) may be partial |
//! | `LoadingCache`, `CacheLoader` | [`LoadingCache`](crate::LoadingCache), [`Loader`](crate::Loader), or a closure ([`build_loading_fn`](crate::CacheBuilder::build_loading_fn)) |
//! | `loadAll`, `reload(key, oldValue)` | [`Loader::load_many`](crate::Loader::load_many); [`Loader::load`](crate::Loader::load) for both, with the old value in [`LoadCx::stale`](crate::LoadCx::stale) |
//! | `AsyncCache`, `AsyncLoadingCache` | every [`Cache`](crate::Cache); [`AsyncLoadingCache`](crate::AsyncLoadingCache) |
//! | `maximumSize`, `maximumWeight`, `weigher` | [`max_entries`](crate::CacheBuilder::max_entries), [`max_weight`](crate::CacheBuilder::max_weight), [`weigher`](crate::CacheBuilder::weigher) |
//! | `expireAfterWrite`, `expireAfterAccess` | [`time_to_live`](crate::CacheBuilder::time_to_live), [`time_to_idle`](crate::CacheBuilder::time_to_idle) |
//! | `refreshAfterWrite(r)` with `expireAfterWrite(e)` | `time_to_live(e)` and [`refresh_ahead`](crate::CacheBuilder::refresh_ahead) with [`At`](crate::RefreshAhead::At)`(r / e)`, in a cache that owns its loader |
//! | `refreshAfterWrite(r)` alone | `time_to_live(r)` and [`stale_while_revalidate`](crate::CacheBuilder::stale_while_revalidate)`(Duration::MAX)` in such a cache; `load` always has a value then, and [`get`](crate::Cache::get) returns fresh ones only |
//! | `expireAfter(Expiry)`, `policy().expireVariably()` | [as below](#a-life-that-depends-on-the-value) |
//! | `asMap().compute`, `computeIfPresent`, `merge` | [`alter`](crate::Cache::alter), which holds no lock and may call again |
//! | `asMap().putIfAbsent`, `computeIfAbsent` | [`get_or_insert_with`](crate::Cache::get_or_insert_with) |
//! | `asMap().entrySet()`, `containsKey` | [`entries`](crate::Cache::entries), [`contains`](crate::Cache::contains) |
//! | `removalListener`, `evictionListener` | [`on_removal`](crate::CacheBuilder::on_removal), on the thread that made the value leave |
//! | `recordStats`, `stats()` | always on: [`stats`](crate::Cache::stats) |
//! | `estimatedSize`, `cleanUp` | [`len`](crate::Cache::len), which is exact; [`sweep`](crate::Cache::sweep), seldom needed |
//! | `scheduler`, `executor`, `ticker` | a thread of its own sweeps; [`runtime`](crate::CacheBuilder::runtime) for refreshes; [`clock`](crate::CacheBuilder::clock) |
//! | `policy().getIfPresentQuietly`, `ageOf` | [`peek`](crate::Cache::peek), with age and remaining life |
//!
//! # `FusionCache`
//!
//! Options of an entry are settings of the cache here: build one per kind of value (they take the place of
//! named caches). Those that a call or a loader can set for itself are marked with *.
//!
//! | `FusionCache` | larder |
//! |---|---|
//! | `GetOrSet`, `GetOrSetAsync`, `GetOrCreateAsync` | [`get_or_load`](crate::Cache::get_or_load), [`get_or_load_async`](crate::Cache::get_or_load_async), or `at(&key)`[`.load(..)`](crate::At::load) |
//! | `TryGet`, `GetOrDefault` | [`get`](crate::Cache::get): an `Option`. With `AllowStaleOnReadOnly`: [`peek`](crate::Cache::peek) |
//! | `Set`, with tags | [`insert`](crate::Cache::insert), `at(&key)`[`.tag(..)`](crate::At::tag)`.insert(..)` |
//! | `Remove`, `Expire`, `Clear` | [`remove`](crate::Cache::remove), [`expire`](crate::Cache::expire) (may be served stale), [`clear`](crate::Cache::clear) (nothing is left to be served stale) |
//! | `RemoveByTag` | [`remove_tag`](crate::Cache::remove_tag), or [`expire_tag`](crate::Cache::expire_tag), which leaves values to be served stale |
//! | `Duration`* | [`time_to_live`](crate::CacheBuilder::time_to_live); [`At::ttl`](crate::At::ttl), [`Loaded::ttl`](crate::Loaded::ttl) |
//! | adaptive caching | the loader returns a [`Loaded`](crate::Loaded): [`ttl`](crate::Loaded::ttl), [`tag`](crate::Loaded::tag), [`no_store`](crate::Loaded::no_store) |
//! | `JitterMaxDuration` | [`jitter`](crate::CacheBuilder::jitter): a share, and it shortens lives |
//! | `IsFailSafeEnabled`, `FailSafeMaxDuration` | [`stale_if_error`](crate::CacheBuilder::stale_if_error), which counts from the expiry, and has a fixed end |
//! | `FailSafeThrottleDuration` | [`error_backoff`](crate::CacheBuilder::error_backoff)`(d, d)`, or with a greater maximum; 1 s by default |
//! | `failSafeDefaultValue`* | [`At::fallback`](crate::At::fallback) |
//! | `EagerRefreshThreshold` | [`refresh_ahead`](crate::CacheBuilder::refresh_ahead) with [`At`](crate::RefreshAhead::At)`(0.9)`; in the background in a cache that owns its loader |
//! | `FactorySoftTimeout` | [`soft_timeout`](crate::CacheBuilder::soft_timeout): the load goes on. In a cache that owns its loader, the caller that loads is freed too |
//! | `FactoryHardTimeout` | [`load_timeout`](crate::CacheBuilder::load_timeout): what comes later is not stored |
//! | the same with `AllowTimedOutFactoryBackgroundCompletion`* | [`At::timeout`](crate::At::timeout); for an async load in a cache with [`detached_loads`](crate::CacheBuilder::detached_loads) |
//! | `ctx.NotModified()`, `ctx.Modified(..)`, `ctx.ETag` | [`Loaded::unchanged`](crate::Loaded::unchanged), [`Loaded::new`](crate::Loaded::new) with [`validator`](crate::Loaded::validator), [`LoadCx::validator`](crate::LoadCx::validator) |
//! | `ctx.StaleValue`, `ctx.Fail(..)` | [`LoadCx::stale`](crate::LoadCx::stale), which needs a stale window; an `Err` |
//! | second level, backplane, auto-recovery | one [`tier`](crate::CacheBuilder::tier): it stores, tells the other processes, and is told again what it missed |
//! | `DistributedCacheDuration`, its timeouts | settings of the tier (`RedisTier`) |
//! | events, logging | [`on_event`](crate::CacheBuilder::on_event), [`on_removal`](crate::CacheBuilder::on_removal), [`stats`](crate::Cache::stats) |
//! | `EnableAutoClone` | every caller gets a clone; what is in an [`Arc`](std::sync::Arc) is shared |
//! | `CacheName`, `Size` | [`name`](crate::CacheBuilder::name), [`weigher`](crate::CacheBuilder::weigher) |
//!
//! # groupcache and singleflight
//!
//! | Go | larder |
//! |---|---|
//! | `singleflight.Group.Do` | [`get_or_load`](crate::Cache::get_or_load): it caches too. To share loads and keep nothing: `Cache::new(0)` |
//! | `Forget(key)` | [`remove`](crate::Cache::remove): the next caller loads anew |
//! | `shared` of `Do` | [`At::load`](crate::At::load), where [`how`](crate::Got::how) is [`Joined`](crate::How::Joined) |
//! | `groupcache.NewGroup(name, bytes, getter)` | [`name`](crate::CacheBuilder::name), [`max_weight`](crate::CacheBuilder::max_weight), a [`Loader`](crate::Loader) |
//! | peers, the hot cache | none: processes share by a [`tier`](crate::CacheBuilder::tier), and each has its own copies |
//!
//! # A life that depends on the value
//!
//! Where others take a policy object (`Expiry` in moka and Caffeine), the life is set where the value comes
//! from: by the loader, and by a function of yours through which all writes go.
//!
//! ```
//! use larder::{Cache, ConfigError, Loaded};
//! use std::{io, time::Duration};
//!
//! #[derive(Clone)]
//! struct Token {
//!     text: String,
//!     holds: Duration,
//! }
//!
//! struct Tokens(Cache<String, Token>);
//!
//! impl Tokens {
//!     /// After creation and after an update alike.
//!     fn set(&self, user: &str, token: Token) {
//!         self.0.at(user).ttl(token.holds).insert(token);
//!     }
//!
//!     fn get(&self, user: &str) -> Option<Token> {
//!         let fetched = self.0.at(user).load(|_| {
//!             let token = fetch(user)?;
//!             let holds = token.holds;
//!             Ok::<_, io::Error>(Loaded::new(token).ttl(holds))
//!         });
//!         Some(fetched.ok()?.value)
//!     }
//! }
//! # fn fetch(user: &str) -> io::Result<Token> {
//! #     Ok(Token { text: user.to_owned(), holds: Duration::from_secs(20) })
//! # }
//!
//! let tokens = Tokens(Cache::builder().max_entries(1_000).build()?);
//! assert_eq!(tokens.get("ada").unwrap().text, "ada");
//! assert!(tokens.0.peek("ada").unwrap().fresh_for <= Duration::from_secs(20));
//! tokens.set("ada", Token { text: "new".to_owned(), holds: Duration::from_secs(60) });
//! assert!(tokens.0.peek("ada").unwrap().fresh_for > Duration::from_secs(20));
//! # Ok::<_, ConfigError>(())
//! ```
//!
//! To change a value and keep what is left of its life, call [`keep_life`](crate::At::keep_life). Reads prolong
//! lives by [`time_to_idle`](crate::CacheBuilder::time_to_idle) only, which is one duration for the whole cache.
//!
//! # What larder has not
//!
//! - a life that reads prolong for single entries (`expireAfterRead`)
//! - other settings for single entries than those marked above; a way to read the settings of a cache back
//! - pinned entries, priorities, another eviction policy, a bound that changes while the cache is in use
//! - weak or soft references as values: store a [`Weak`](std::sync::Weak)
//! - a call that expires everything: give all entries a [tag](crate::At::tag), and expire that
//! - a call that leaves out one of the two tiers (`SkipMemoryCache..`, `SkipDistributedCache..`)
//! - an async closure for `alter`, an async removal listener: send to a channel, of which a task reads
