//! What went wrong with caches on a Redis server once.
// the server listens on a socket
#![cfg(all(unix, feature = "redis"))]

#[path = "../src/front/tier/redis/tests/server.rs"]
mod server;
use larder::*;
use server::{Server, eventually};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tier(server: &Server) -> RedisTierBuilder {
    RedisTier::connect(&server.url()).prefix("test:v1").timeout(secs(5))
}

// T9
#[test]
fn who_is_told_of_news_does_not_wait_for_one_who_asks() {
    let Some(server) = Server::start() else { return };
    let me: Arc<OnceLock<Cache<String, u64>>> = Arc::default();
    let is_told = Arc::new(AtomicBool::new(false));
    let one: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(tier(&server).open().unwrap()).build().unwrap();
    let other: Cache<String, u64> = Cache::builder()
        .max_entries(10)
        .load_timeout(secs(4))
        .tier(tier(&server).open().unwrap())
        .on_removal({
            let (me, is_told) = (me.clone(), is_told.clone());
            move |_: Removal<String, u64>| {
                is_told.store(true, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(200));
                _ = me.get().unwrap().get_or_load("b", || Ok::<_, String>(2));
            }
        })
        .build()
        .unwrap();
    me.set(other.clone()).unwrap();
    other.insert("a".to_owned(), 1);
    eventually(|| other.tier_pending() == 0);
    one.remove("a");
    eventually(|| is_told.load(Ordering::SeqCst));
    let begun = Instant::now();
    let got = other.get_or_load("b", || Ok::<_, String>(3));
    println!("{:?} {got:?} {:?}", begun.elapsed(), other.stats());
    assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
}

// T10
#[test]
fn what_the_source_does_not_have_gives_its_turn_back() {
    let Some(server) = Server::start() else { return };
    let shelf = || -> Cache<String, u64> {
        let tier = tier(&server).lease(secs(3)).open().unwrap();
        Cache::builder().max_entries(10).tier(tier).build().unwrap()
    };
    let one = shelf();
    let begun = Instant::now();
    let missing = |shelf: &Cache<String, u64>| {
        let got = shelf.at("a").load(|_| Ok::<_, String>(Loaded::<u64>::missing()));
        assert!(matches!(got, Err(LoadError::NotFound)), "{got:?}");
        eventually(|| shelf.tier_pending() == 0);
    };
    missing(&one);
    missing(&one);
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    missing(&shelf());
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
}

// a load that is overtaken here by a change gives its turn back
#[test]
fn a_load_that_is_not_noted_gives_its_turn_back() {
    let Some(server) = Server::start() else { return };
    let shelf = || -> Cache<String, u64> {
        let tier = tier(&server).lease(secs(3)).open().unwrap();
        Cache::builder().max_entries(10).tier(tier).build().unwrap()
    };
    let one = shelf();
    let begun = Instant::now();
    let heavy = one.at("a").load(|_| Ok::<_, String>(Loaded::new(1).ttl(Duration::ZERO)));
    assert!(heavy.is_ok());
    eventually(|| one.tier_pending() == 0);
    assert_eq!(one.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
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
    let told = Arc::new(AtomicBool::new(false));
    let me: Arc<OnceLock<LoadingCache<String, u64, Source>>> = Arc::default();
    let one: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(tier(&server).open().unwrap()).build().unwrap();
    let other = Cache::builder()
        .max_entries(10)
        .load_timeout(secs(4))
        .batch(5, Duration::from_millis(600))
        .tier(tier(&server).open().unwrap())
        .on_removal({
            let (me, told) = (me.clone(), told.clone());
            move |_: Removal<String, u64>| {
                told.store(true, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(200));
                _ = me.get().unwrap().load("c");
            }
        })
        .build_loading(Source)
        .unwrap();
    assert!(me.set(other.clone()).is_ok());
    other.insert("a".to_owned(), 1);
    eventually(|| other.tier_pending() == 0);
    one.remove("a");
    eventually(|| told.load(Ordering::SeqCst));
    let begun = Instant::now();
    let got = other.load("b");
    assert!(begun.elapsed() < secs(2), "{got:?} {:?}", begun.elapsed());
}
