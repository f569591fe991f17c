//! What a closure that loads for its cache may return.

mod common;

use common::tasks::block_on;
use common::{secs, watched};
use larder::{
    AsyncFnLoader, AsyncLoadingCache, Cache, CacheBuilder, Clock, FnLoader, Loaded, LoadingCache,
    ManualClock, SteppingRuntime,
};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::LazyLock;

/// Values live for a minute, and "not found" for five seconds.
fn builder<K, V>() -> (CacheBuilder<K, V>, ManualClock)
where
    K: Hash + Eq,
{
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .negative_ttl(secs(5))
        .clock(clock)
        .runtime(SteppingRuntime::new());
    (builder, hand)
}

/// In hundredths.
fn rate_of(pair: &str) -> Loaded<u64> {
    Loaded::new(108).ttl(secs(if pair == "EURUSD" { 10 } else { 20 }))
}

#[test]
fn a_value_may_have_a_life_of_its_own() {
    let (builder, hand) = self::builder::<String, u64>();
    let rates =
        builder.build_loading_fn(|pair: &String| Ok::<_, Infallible>(rate_of(pair))).unwrap();
    let (builder, other_hand) = self::builder::<String, u64>();
    let load = |pair: String| async move { Ok::<_, Infallible>(rate_of(&pair)) };
    let tasks = builder.build_loading_async_fn(load).unwrap();
    let _checked = (watched(&rates), watched(&tasks));
    for pair in ["EURUSD", "EURCHF"] {
        assert_eq!(rates.load(pair).unwrap(), block_on(tasks.load(pair)).unwrap());
    }
    hand.advance(secs(10));
    other_hand.advance(secs(10));
    assert_eq!((rates.get("EURUSD"), rates.get("EURCHF")), (None, Some(108)));
    assert_eq!((tasks.get("EURUSD"), tasks.get("EURCHF")), (None, Some(108)));
}

#[test]
fn a_value_may_not_be_there() {
    let name_of = |id: u64| Ok::<_, Infallible>((id != 7).then(|| format!("user {id}")));
    let (builder, hand) = self::builder::<u64, String>();
    let users = builder.build_loading_fn(move |id: &u64| name_of(*id)).unwrap();
    let (builder, other_hand) = self::builder::<u64, String>();
    let tasks = builder.build_loading_async_fn(move |id| ready(name_of(id))).unwrap();
    let _checked = (watched(&users), watched(&tasks));
    assert_eq!(users.load(&1).unwrap(), "user 1");
    assert_eq!(block_on(tasks.load(&1)).unwrap(), "user 1");
    for (loads, later) in [(2, 4), (2, 1), (3, 0)] {
        assert!(users.load(&7).unwrap_err().is_not_found());
        assert!(block_on(tasks.load(&7)).unwrap_err().is_not_found());
        assert_eq!((users.stats().loads, tasks.stats().loads), (loads, loads));
        hand.advance(secs(later));
        other_hand.advance(secs(later));
    }
    assert_eq!(users.load_many(&[1, 7]).missing, [7]);
    assert_eq!(block_on(tasks.load_many(&[1, 7])).missing, [7]);
}

#[test]
fn an_option_is_a_value_where_the_cache_holds_options() {
    let (builder, _hand) = self::builder::<u64, Option<u64>>();
    let halves =
        builder.build_loading_fn(|n: &u64| Ok::<_, Infallible>((n % 2 == 0).then(|| n / 2)));
    let halves = halves.unwrap();
    assert_eq!((halves.load(&4).unwrap(), halves.load(&3).unwrap()), (Some(2), None));
    assert_eq!(halves.get(&3), Some(None));
}

#[test]
fn the_type_of_a_plain_value_is_found_by_itself() {
    let squares =
        Cache::builder().max_entries(10).build_loading_fn(|n: &u32| Ok::<_, Infallible>(n * n));
    assert_eq!(squares.unwrap().load(&4).unwrap().leading_zeros(), 27);
    let lengths = Cache::builder()
        .max_entries(10)
        .runtime(SteppingRuntime::new())
        .build_loading_async_fn(|word: String| async move { Ok::<_, Infallible>(word.len()) });
    assert_eq!(block_on(lengths.unwrap().load("four")).unwrap().count_ones(), 1);
}

type Name = Result<String, Infallible>;
type Names = LoadingCache<u64, String, FnLoader<fn(&u64) -> Name>>;
type AsyncNames = AsyncLoadingCache<u64, String, AsyncFnLoader<fn(u64) -> Ready<Name>>>;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let name: fn(&u64) -> Name = |id| Ok(format!("user {id}"));
    Cache::builder().max_entries(100).build_loading_fn(name).expect("a bound is set")
});

#[test]
fn a_function_pointer_has_a_type_that_can_be_named() {
    struct App {
        names: AsyncNames,
    }
    let name: fn(u64) -> Ready<Name> = |id| ready(Ok(format!("user {id}")));
    let app = App { names: builder().0.build_loading_async_fn(name).unwrap() };
    assert_eq!(NAMES.load(&1).unwrap(), block_on(app.names.load(&1)).unwrap());
}

type BoxedFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;
type Boxed = Box<dyn Fn(u64) -> BoxedFuture + Send + Sync>;

#[test]
fn a_boxed_closure_can_be_named_and_its_loads_may_be_spawned() {
    fn may_be_spawned<F: Future + Send + 'static>(future: F) -> F::Output {
        block_on(future)
    }
    let prefix = "user".to_owned();
    let load: Boxed = Box::new(move |id| {
        let prefix = prefix.clone();
        Box::pin(async move { Ok(format!("{prefix} {id}")) })
    });
    let (builder, _hand) = builder();
    let cache: AsyncLoadingCache<u64, String, AsyncFnLoader<Boxed>> =
        builder.build_loading_async_fn(load).unwrap();
    let _checked = watched(&cache);
    let its = cache.clone();
    assert_eq!(may_be_spawned(async move { its.load(&1).await }).unwrap(), "user 1");
    let its = cache.clone();
    let got = may_be_spawned(async move { its.at(&2).read_through().await });
    assert_eq!(got.unwrap().value, "user 2");
    let its = cache.clone();
    let many = may_be_spawned(async move { its.load_many(&[3, 4]).await });
    assert_eq!(many.got.len(), 2);
}
