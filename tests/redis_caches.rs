//! Caches on `RedisTier`s, as the processes that share a server have them; against a real one.
// the server listens on a socket
#![cfg(all(unix, feature = "redis"))]

#[path = "../src/front/tier/redis/tests/server.rs"]
mod server;

use larder::{
    Cache, CacheBuilder, Clock, How, Loaded, RedisTier, RedisTierBuilder, StaleWhy, Tier,
    TierFound, TierKey,
};
use server::{PATIENCE, Server, eventually, wait};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Shelf = Cache<String, u64>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tier(server: &Server) -> RedisTier {
    patient(RedisTier::connect(&server.url()).prefix("test:v1")).open().unwrap()
}

fn patient(builder: RedisTierBuilder) -> RedisTierBuilder {
    builder.timeout(PATIENCE).connect_timeout(PATIENCE)
}

fn shelf_on(
    tier: RedisTier,
    with: impl FnOnce(CacheBuilder<String, u64>) -> CacheBuilder<String, u64>,
) -> Shelf {
    with(Cache::builder().max_entries(1_000).time_to_live(secs(60))).tier(tier).build().unwrap()
}

fn shelf(server: &Server) -> Shelf {
    shelf_on(tier(server), |builder| builder)
}

fn settled(shelf: &Shelf) {
    eventually(|| shelf.tier_pending() == 0);
}

fn uncalled<T>() -> Result<T, String> {
    panic!("the source was asked")
}

fn load(shelf: &Shelf, key: &str, value: u64) -> u64 {
    let value = shelf.get_or_load(key, || Ok::<_, String>(value)).unwrap();
    settled(shelf);
    value
}

fn how(shelf: &Shelf, key: &str) -> (u64, How) {
    let got = shelf.at(key).load(|_| uncalled::<u64>()).unwrap();
    (got.value, got.how)
}

/// Waits until the other one has heard of a change: news of it that come later would take a copy that is
/// made after it along.
fn told<R>(other: &Shelf, change: impl FnOnce() -> R) -> R {
    let news = other.stats().tier_news;
    let changed = change();
    eventually(|| other.stats().tier_news > news);
    changed
}

#[test]
fn what_one_loads_the_other_has_and_what_one_removes_nobody_keeps() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (shelf(&server), shelf(&server));
    assert_eq!(told(&other, || load(&one, "ada", 1)), 1);
    assert_eq!(how(&other, "ada"), (1, How::Tier));
    assert_eq!(told(&other, || one.remove_everywhere("ada")), Ok(Some(1)));
    assert!(!other.contains("ada"));
    assert_eq!(told(&one, || load(&other, "ada", 2)), 2);
    // what stored it keeps its own copy, and has heard nothing from itself
    assert_eq!(how(&other, "ada"), (2, How::Fresh));
    told(&other, || one.insert("ada".to_owned(), 3));
    assert_eq!(how(&other, "ada"), (3, How::Tier));
    assert_eq!(how(&one, "ada"), (3, How::Fresh));
    told(&other, || one.at("bob").tag("people").insert(4));
    assert_eq!(how(&other, "bob").0, 4);
    other.remove_tag("people");
    settled(&other);
    eventually(|| !one.contains("bob"));
    assert_eq!(told(&other, || load(&one, "bob", 5)), 5);
    one.clear();
    settled(&one);
    eventually(|| other.is_empty());
    assert_eq!(load(&other, "ada", 6), 6);
}

#[test]
fn what_another_program_deletes_is_gone() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (shelf(&server), shelf(&server));
    told(&other, || load(&one, "ada", 1));
    how(&other, "ada");
    assert_eq!(server.client().int("DEL test:v1::ada"), 1);
    eventually(|| !one.contains("ada") && !other.contains("ada"));
    told(&other, || load(&one, "ada", 2));
    how(&other, "ada");
    server.client().say("FLUSHALL");
    eventually(|| one.is_empty() && other.is_empty());
    assert_eq!(load(&other, "ada", 3), 3);
    assert_eq!(how(&one, "ada"), (3, How::Tier));
}

#[test]
fn a_server_that_dies_costs_no_errors_and_brings_nothing_old_back() {
    let Some(mut server) = Server::start() else { return };
    let (first, second) = (tier(&server), tier(&server));
    let (one, other) =
        (shelf_on(first.clone(), |builder| builder), shelf_on(second.clone(), |builder| builder));
    told(&other, || load(&one, "ada", 1));
    told(&other, || load(&one, "bob", 1));
    how(&other, "ada");
    how(&other, "bob");
    server.kill();
    eventually(|| !first.is_connected() && !second.is_connected());
    // what is here is served, what is not is loaded, and what is removed is removed later
    assert_eq!(how(&other, "ada"), (1, How::Fresh));
    assert_eq!(other.get_or_load("new", || Ok::<_, String>(7)).unwrap(), 7);
    assert!(one.remove_everywhere("ada").is_err());
    assert!(one.tier_pending() > 0);
    server.restart();
    settled(&one);
    eventually(|| second.is_connected());
    eventually(|| !other.contains("ada") && !other.contains("bob"));
    assert_eq!(load(&other, "ada", 2), 2);
    assert_eq!(load(&one, "bob", 3), 3);
    assert_eq!(how(&other, "bob"), (3, How::Tier));
}

#[test]
fn one_that_is_slow_is_as_good_as_not_there() {
    let Some(server) = Server::start() else { return };
    let tier = patient(RedisTier::connect(&server.url()).prefix("slow:v1"));
    let tier = tier.timeout(Duration::from_millis(40)).open().unwrap();
    let cache = shelf_on(tier.clone(), |builder| builder);
    server.stop();
    for n in 0..20 {
        let value = cache.get_or_load(&*n.to_string(), || Ok::<_, String>(n)).unwrap();
        assert_eq!(value, n);
    }
    // and then none is waited for
    assert_eq!((tier.stats().timeouts, cache.stats().tier_errors), (3, 20));
}

#[test]
fn a_stale_value_of_another_process_is_served_when_the_source_fails() {
    let Some(server) = Server::start() else { return };
    let stale = |builder: CacheBuilder<String, u64>| builder.stale_if_error(secs(600));
    // a clock that stands still: what is past its life before it is on its way is not stored
    let (clock, _) = Clock::manual();
    let one = shelf_on(tier(&server), |builder| stale(builder).clock(clock));
    let load = |_: &_| Ok::<_, String>(Loaded::new(1).validator("v1"));
    one.at("ada").ttl(Duration::from_millis(5)).load(load).unwrap();
    settled(&one);
    drop(one);
    let later = shelf_on(tier(&server), stale);
    let mut how = How::Fresh;
    eventually(|| {
        let got = later.at("ada").load(|cx| {
            assert_eq!((cx.stale(), cx.validator()), (Some(&1), Some("v1")));
            Err::<u64, _>("the source is away")
        });
        let got = got.unwrap();
        assert_eq!(got.value, 1);
        how = got.how;
        // by the server's clock its life began a little later, and ends so
        !matches!(how, How::Tier | How::Fresh)
    });
    assert_eq!(how, How::Stale(StaleWhy::LoadFailed));
}

#[test]
fn with_a_lease_one_process_loads_for_all() {
    let Some(server) = Server::start() else { return };
    let tiers = [(); 3].map(|()| {
        let tier = patient(RedisTier::connect(&server.url()).prefix("lease:v1"));
        tier.lease(2 * PATIENCE).open().unwrap()
    });
    let shelves = tiers.each_ref().map(|tier| shelf_on(tier.clone(), |builder| builder));
    let loads = AtomicUsize::new(0);
    thread::scope(|scope| {
        for shelf in &shelves {
            scope.spawn(|| {
                let load = || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    // all of them have looked, and asked whose turn it is
                    eventually(|| tiers.iter().all(|tier| tier.stats().calls >= 2));
                    Ok::<_, String>(1)
                };
                assert_eq!(shelf.get_or_load("hot", load).unwrap(), 1);
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    // one that fails lets the next one go on at once
    shelves[0].get_or_load("bad", || Err::<u64, _>("away")).unwrap_err();
    let begun = Instant::now();
    assert_eq!(shelves[1].get_or_load("bad", || Ok::<_, String>(2)).unwrap(), 2);
    assert!(begun.elapsed() < PATIENCE, "it waited for a lease that was let go");
}

#[test]
fn many_keys_are_one_round_trip() {
    let Some(server) = Server::start() else { return };
    let one = shelf(&server);
    let keys: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    for key in &keys {
        one.insert(key.clone(), 1);
    }
    settled(&one);
    let tier = tier(&server);
    let other = shelf_on(tier.clone(), |builder| builder);
    let before = tier.stats().calls;
    let many = other.get_or_load_many(&keys, |_: &[String]| uncalled::<Vec<(String, u64)>>());
    assert_eq!((many.got.len(), tier.stats().calls - before), (100, 1));
}

/// What the child of the test below does: another process in earnest.
#[test]
fn a_process_of_its_own() {
    let Ok(url) = std::env::var("LARDER_TEST_SERVER") else { return };
    let tier = patient(RedisTier::connect(&url).prefix("test:v1")).open().unwrap();
    let shelf = shelf_on(tier.clone(), |builder| builder);
    assert_eq!(how(&shelf, "ada"), (1, How::Tier));
    shelf.remove_everywhere("ada").unwrap();
    shelf.insert("bob".to_owned(), 2);
    // the last handle waits for what is on its way, but not for long
    let begun = Instant::now();
    drop(shelf);
    if begun.elapsed() >= secs(1) {
        eventually(|| {
            let bob: TierFound<String, u64> = wait(tier.get(&TierKey::of("bob"))).unwrap();
            bob.entry.is_some()
        });
    }
}

#[test]
fn processes_share() {
    let Some(server) = Server::start() else { return };
    let here = shelf(&server);
    load(&here, "ada", 1);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_of_its_own"])
        .env("LARDER_TEST_SERVER", server.url())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    eventually(|| !here.contains("ada"));
    assert_eq!(how(&here, "bob"), (2, How::Tier));
    assert_eq!(load(&here, "ada", 3), 3);
}

/// Rows that are written and removed, read and loaded by three processes at once, while the connection of
/// one is cut again and again: in the end nobody has what the source no longer has.
#[test]
fn in_the_end_all_have_what_the_source_has() {
    const KEYS: usize = 4;
    let Some(server) = Server::start() else { return };
    let shelves = [shelf(&server), shelf(&server), shelf(&server)];
    let rows: [AtomicU64; KEYS] = Default::default();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (at, shelf) in shelves.iter().enumerate() {
            let (rows, done) = (&rows, &done);
            scope.spawn(move || {
                for n in 0..400 {
                    done.fetch_add(1, Ordering::SeqCst);
                    let row = (n * 7 + at) % KEYS;
                    let key = row.to_string();
                    match (n + at) % 8 {
                        0 => {
                            rows[row].fetch_add(1, Ordering::SeqCst);
                            shelf.remove(key.as_str());
                        }
                        1 => {
                            let fence = shelf.writing(key.as_str());
                            rows[row].fetch_add(1, Ordering::SeqCst);
                            drop(fence);
                        }
                        2 if n % 3 == 0 => {
                            rows[row].fetch_add(1, Ordering::SeqCst);
                            shelf.remove_tag("all");
                        }
                        _ => {
                            let read = |_: &_| {
                                let value = rows[row].load(Ordering::SeqCst);
                                thread::yield_now();
                                Ok::<_, String>(Loaded::new(value).tag("all"))
                            };
                            shelf.at(key.as_str()).load(read).unwrap();
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut client = server.client();
            for cut in 1..=5 {
                eventually(|| done.load(Ordering::SeqCst) >= cut * 200);
                client.say("CLIENT KILL TYPE normal SKIPME yes");
            }
        });
    });
    shelves.iter().for_each(settled);
    let agrees = |shelf: &Shelf| {
        (0..KEYS).all(|row| {
            let value = shelf.get(row.to_string().as_str());
            value.is_none_or(|value| value == rows[row].load(Ordering::SeqCst))
        })
    };
    // news are on their way for a moment
    eventually(|| shelves.iter().all(agrees));
    let late = shelf(&server);
    for (row, now) in rows.iter().enumerate() {
        let now = now.load(Ordering::SeqCst);
        assert_eq!(load(&late, &row.to_string(), now), now, "the tier has something old");
    }
    for shelf in &shelves {
        shelf.validate();
        assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
    }
}
