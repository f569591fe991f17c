//! What went wrong with caches on a Redis server once.
// the server listens on a socket
#![cfg(all(unix, feature = "redis"))]

#[path = "../src/front/tier/redis/tests/server.rs"]
mod server;

use larder::{
    Cache, CacheBuilder, LoadCx, LoadError, Loaded, Loader, LoadingCache, RedisTier,
    RedisTierBuilder, Removal,
};
use server::{PATIENCE, Server, eventually};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

fn tier(server: &Server) -> RedisTierBuilder {
    let tier = RedisTier::connect(&server.url()).prefix("test:v1");
    tier.timeout(PATIENCE).connect_timeout(PATIENCE)
}

fn builder(tier: RedisTierBuilder) -> CacheBuilder<String, u64> {
    Cache::builder().max_entries(10).tier(tier.open().unwrap())
}

/// The cache, or what loads for it, that a listener uses.
type Own<C> = Arc<OnceLock<C>>;

/// A listener that comes when a key of its cache is being loaded, and then does something with that.
fn in_between<C>(own: &Own<C>, act: fn(&C)) -> impl Fn(Removal<String, u64>) + use<C>
where
    C: Deref<Target = Cache<String, u64>>,
{
    let own = Arc::clone(own);
    move |_| {
        let Some(own) = own.get() else { return };
        eventually(|| own.flights() > 0);
        act(own);
    }
}

/// Has a key removed by another process, whose news wait for `load`, which must not wait for them.
fn overlaps(server: &Server, cache: &Cache<String, u64>, load: impl FnOnce()) {
    let one = builder(tier(server)).build().unwrap();
    cache.insert("a".to_owned(), 1);
    cache.tier_flush().unwrap();
    one.remove("a");
    let begun = Instant::now();
    load();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

/// So that a plain cache can be had as one that loads can.
#[derive(Clone)]
struct Plain(Cache<String, u64>);

impl Deref for Plain {
    type Target = Cache<String, u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[test]
fn who_is_told_of_news_does_not_wait_for_one_who_asks() {
    let Some(server) = Server::start() else { return };
    let own: Own<Plain> = Arc::default();
    let act = |own: &Plain| _ = own.get_or_load("b", || Ok::<_, String>(2));
    let cache = builder(tier(&server)).load_timeout(2 * PATIENCE).on_removal(in_between(&own, act));
    let cache = cache.build().unwrap();
    assert!(own.set(Plain(cache.clone())).is_ok());
    overlaps(&server, &cache, || _ = cache.get_or_load("b", || Ok::<_, String>(3)));
}

struct Source;

impl Loader<String, u64> for Source {
    type Error = String;

    fn load(&self, _: &String, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(1))
    }
}

#[test]
fn who_is_told_of_news_gathers_with_nobody() {
    let Some(server) = Server::start() else { return };
    let own: Own<LoadingCache<String, u64, Source>> = Arc::default();
    let act = |own: &LoadingCache<String, u64, Source>| _ = own.load("c");
    let cache =
        builder(tier(&server)).load_timeout(2 * PATIENCE).batch(5, Duration::from_millis(600));
    let cache = cache.on_removal(in_between(&own, act)).build_loading(Source).unwrap();
    assert!(own.set(cache.clone()).is_ok());
    overlaps(&server, &cache, || _ = cache.load("b"));
}

/// Loads `first`, and then sees that its turn, which would be kept for long, was given back.
fn gives_its_turn_back(first: impl Fn(&Cache<String, u64>)) {
    let Some(server) = Server::start() else { return };
    let shelf = || builder(tier(&server).lease(2 * PATIENCE)).build().unwrap();
    let (one, begun) = (shelf(), Instant::now());
    for shelf in [&one, &one, &shelf()] {
        first(shelf);
        shelf.tier_flush().unwrap();
    }
    assert_eq!(one.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn what_the_source_does_not_have_gives_its_turn_back() {
    gives_its_turn_back(|shelf| {
        let got = shelf.at("a").load(|_| Ok::<_, String>(Loaded::<u64>::missing()));
        assert!(matches!(got, Err(LoadError::NotFound)), "{got:?}");
    });
}

#[test]
fn what_is_not_to_be_kept_gives_its_turn_back() {
    gives_its_turn_back(|shelf| {
        let got = shelf.at("a").load(|_| Ok::<_, String>(Loaded::new(1).ttl(Duration::ZERO)));
        assert!(got.is_ok());
    });
}
