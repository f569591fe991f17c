//! How much a cache may hold: never more than was said, at any moment, and not much less.

mod common;

use common::gate::Gate;
use common::{Checked, Record, checked, wait_until};
use larder::{Cache, CacheBuilder, RemovalCause};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ScopedJoinHandle};

fn entries(most: u64) -> CacheBuilder<u64, u64> {
    Cache::builder().max_entries(most)
}

/// Every entry weighs what its value says.
fn weight(most: u64) -> CacheBuilder<u64, u64> {
    Cache::builder().max_weight(most).weigher(|_, value| *value)
}

/// A small generator of its own, so that every run of a thread is the same.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Eight threads write all they can while a ninth looks at the bounds.
fn churn(cache: &Checked<u64, u64>, holds: impl Fn()) {
    let mut looks = 0_u64;
    thread::scope(|scope| {
        let writers = (0..8).map(|thread| {
            scope.spawn(move || {
                let mut state = thread;
                for _ in 0..4_000 {
                    let (key, value) = (random(&mut state) % 500, random(&mut state) % 60);
                    match random(&mut state) % 16 {
                        0 => drop(cache.remove(&key)),
                        1 => drop(cache.get_or_load(&key, || Ok::<_, String>(value))),
                        2 => drop(cache.get_or_load_optional(&key, || Ok::<_, String>(None))),
                        3 if value == 0 => cache.clear(),
                        4..8 => drop(cache.get(&key)),
                        _ => cache.insert(key, value),
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        while !writers.iter().all(ScopedJoinHandle::is_finished) {
            holds();
            looks += 1;
        }
        // the thread sanitizer sees a join, and not the end of a scope
        for writer in writers {
            writer.join().unwrap();
        }
    });
    holds();
    assert!(looks > 0);
}

#[test]
fn a_cache_says_what_its_bound_is() {
    let bounds = [entries(0), entries(100_000), weight(1_000_000), Cache::builder().unbounded()]
        .map(|builder| checked(builder).capacity());
    assert_eq!(bounds, [Some(0), Some(100_000), Some(1_000_000), None]);
}

#[test]
fn len_never_exceeds_the_bound_while_eight_threads_churn() {
    for (most, shards) in [(1, 1), (7, 4), (100, 1), (100, 4), (300, 16)] {
        let cache = checked(entries(most).shards(shards));
        churn(&cache, || {
            let len = cache.len();
            assert!(len <= most, "{len} of {most} entries, {shards} shards");
        });
    }
}

#[test]
fn weight_never_exceeds_the_bound_while_eight_threads_churn() {
    for (most, shards) in [(1, 1), (59, 4), (1_000, 1), (1_000, 4), (1_000, 16)] {
        let cache = checked(weight(most).shards(shards));
        churn(&cache, || {
            let weight = cache.weight();
            assert!(weight <= most, "weight {weight} of {most}, {shards} shards");
        });
    }
}

#[test]
fn a_cache_of_no_entries_stores_none_and_still_shares_loads() {
    for builder in [entries(0), entries(0).shards(8), weight(0), Cache::builder().max_entries(0)] {
        let removals = Record::new();
        let cache = checked(builder.on_removal(removals.listener()));
        cache.insert(1, 10);
        assert_eq!((cache.get(&1), cache.len(), cache.weight()), (None, 0, 0));
        assert_eq!(removals.take(), [(1, 10, RemovalCause::Rejected)]);

        let gate = Gate::new();
        thread::scope(|scope| {
            let load = || cache.get_or_load(&1, || Ok::<_, String>(gate.pass(10)));
            let callers = [scope.spawn(load), scope.spawn(load), scope.spawn(load)];
            cache.wait_until_joined(2);
            gate.open();
            for caller in callers {
                assert_eq!(caller.join().unwrap().unwrap(), 10);
            }
        });
        assert_eq!((gate.entered(), cache.len()), (1, 0));
        assert_eq!(cache.get_or_load_optional(&2, || Ok::<_, String>(None)).unwrap(), None);
        assert_eq!((cache.remove(&1), cache.entries().count(), cache.sweep()), (None, 0, 0));
        cache.clear();
    }
}

#[test]
fn a_cache_of_one_entry_keeps_the_last_one() {
    for shards in [1, 8] {
        let cache = checked(entries(1).shards(shards));
        for key in 0..100 {
            cache.insert(key, key);
            assert_eq!((cache.get(&key), cache.len()), (Some(key), 1));
        }
        assert_eq!(cache.stats().evicted, 99);
    }
}

#[test]
fn fewer_entries_than_shards_can_all_be_filled() {
    for most in [2, 3, 7] {
        let cache = checked(entries(most).shards(16));
        for key in 0..most {
            cache.insert(key, key);
        }
        assert_eq!((cache.len(), cache.stats().evicted), (most, 0));
        for key in 0..1_000 {
            cache.insert(key, key);
            assert!(cache.len() <= most && cache.get(&key) == Some(key));
        }
    }
}

#[test]
fn a_million_shards_are_a_hint() {
    for builder in [entries(100_000), weight(1_000_000), Cache::builder().unbounded()] {
        let cache = checked(builder.shards(1_000_000));
        for key in 0..2_000 {
            cache.insert(key, key % 10);
        }
        assert_eq!(cache.len(), 2_000);
    }
    let cache = checked(Cache::<u64, u64>::builder().unbounded().shards(0));
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn one_shard_evicts_nothing_live_below_its_capacity() {
    let cache = checked(entries(10_000).shards(1));
    for round in 0..3 {
        for key in 0..10_000 {
            cache.insert(key, key + round);
        }
        assert_eq!((cache.len(), cache.stats().evicted), (10_000, 0));
    }
    for key in 0..5_000 {
        assert_eq!(cache.remove(&key), Some(key + 2));
    }
    for key in 20_000..25_000 {
        cache.insert(key, key);
    }
    assert_eq!((cache.len(), cache.stats().evicted), (10_000, 0), "also after removals");
}

#[test]
fn a_cache_filled_exactly_to_its_capacity_keeps_nearly_all() {
    for builder in [entries(100_000), entries(100_000).shards(64)] {
        let cache = checked(builder);
        for key in 0..100_000 {
            cache.insert(key, key);
        }
        let kept = (0..100_000).filter(|key| cache.contains(key)).count();
        assert!(kept >= 99_000, "{kept} of 100,000");
    }
}

#[test]
fn an_unbounded_cache_keeps_everything() {
    let cache = checked(Cache::<u64, u64>::builder().unbounded());
    for key in 0..50_000 {
        cache.insert(key, key);
    }
    assert!((0..50_000).all(|key| cache.contains(&key)));
}

#[test]
fn one_entry_may_take_the_whole_budget() {
    let removals = Record::new();
    let cache = checked(weight(1_000).shards(8).on_removal(removals.listener()));
    for key in 0..200 {
        cache.insert(key, 5);
    }
    cache.insert(1_000, 1_000);
    assert_eq!((cache.get(&1_000), cache.len(), cache.weight()), (Some(1_000), 1, 1_000));
    let told = removals.take();
    assert_eq!(told.len(), 200);
    assert!(told.iter().all(|told| told.2 == RemovalCause::Evicted));
    cache.insert(1, 1);
    assert_eq!((cache.get(&1), cache.len()), (Some(1), 1));
}

#[test]
fn an_entry_beyond_the_budget_is_refused_and_takes_its_predecessor_along() {
    for shards in [1, 8] {
        let removals = Record::new();
        let cache = checked(weight(1_000).shards(shards).on_removal(removals.listener()));
        for too_much in [1_001, u64::MAX] {
            cache.insert(1, 10);
            cache.insert(2, 20);
            cache.insert(1, too_much);
            assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
            let told = [(1, 10, RemovalCause::Replaced), (1, too_much, RemovalCause::Rejected)];
            assert_eq!(removals.take(), told);

            let loaded = cache.get_or_load(&1, || Ok::<_, String>(too_much));
            assert_eq!((loaded.unwrap(), cache.get(&1)), (too_much, None));
            assert_eq!(removals.take(), [(1, too_much, RemovalCause::Rejected)]);
            assert_eq!(cache.remove(&2), Some(20));
            removals.take();
        }
        assert_eq!((cache.stats().rejected, cache.weight()), (4, 0));
    }
}

#[test]
fn the_largest_weight_fits_the_largest_budget() {
    let cache = checked(weight(u64::MAX).shards(4).negative_ttl(common::secs(1)));
    cache.insert(1, 1);
    cache.insert(2, u64::MAX);
    assert_eq!((cache.len(), cache.weight()), (1, u64::MAX));
    cache.insert(3, u64::MAX - 1);
    assert_eq!((cache.len(), cache.weight()), (1, u64::MAX - 1));
    cache.insert(4, 1);
    assert_eq!((cache.len(), cache.weight()), (2, u64::MAX));
    cache.insert(4, 2);
    assert!(cache.get(&4) == Some(2) && cache.len() == 1);
    let none = cache.get_or_load_optional(&5, || Ok::<_, String>(None));
    assert_eq!((none.unwrap(), cache.weight()), (None, 3));
}

#[test]
fn entries_of_no_weight_are_not_bounded() {
    for most in [0, 10] {
        let cache = checked(weight(most).shards(4));
        for key in 0..5_000 {
            cache.insert(key, 0);
        }
        assert_eq!((cache.len(), cache.weight()), (5_000, 0));
        cache.insert(5_000, most);
        assert_eq!((cache.weight(), cache.contains(&5_000)), (most, true));
    }
}

#[test]
fn a_replacement_is_weighed_anew() {
    for shards in [1, 4] {
        let removals = Record::new();
        let cache = checked(weight(100).shards(shards).on_removal(removals.listener()));
        cache.insert(1, 10);
        cache.insert(2, 40);
        cache.insert(1, 60);
        assert_eq!((cache.len(), cache.weight()), (2, 100), "heavier, and it fits");
        cache.insert(1, 5);
        assert_eq!((cache.len(), cache.weight()), (2, 45), "lighter");
        cache.insert(1, 61);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(61), None), "it makes room for itself");
        assert_eq!((cache.len(), cache.weight()), (1, 61));
        let told = removals.take();
        let causes = |key| told.iter().filter(|told| told.0 == key).map(|told| told.2).collect();
        let (one, two): (Vec<_>, Vec<_>) = (causes(1), causes(2));
        assert_eq!(one, [RemovalCause::Replaced; 3]);
        assert_eq!(two, [RemovalCause::Evicted]);
    }
}

/// Takes away all that tells keys apart.
#[derive(Default)]
struct Same;

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        0x5EED
    }
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let builder = Cache::<u64, u64>::builder().max_entries(1_000).shards(4);
    let cache = checked(builder.hasher(BuildHasherDefault::<Same>::default()));
    for key in 0..1_000 {
        cache.insert(key, key);
    }
    for key in 0..2_000 {
        assert!(cache.get(&key).is_none_or(|value| value == key && key < 1_000));
        let loaded = cache.get_or_load(&key, || Ok::<_, String>(key));
        assert_eq!(loaded.unwrap(), key);
    }
    assert!(cache.len() <= 1_000);
    let walked: Vec<_> = cache.entries().map(|(key, got)| (key, got.value)).collect();
    assert!(walked.iter().all(|(key, value)| key == value));
    assert_eq!(walked.len() as u64, cache.len());
}

#[test]
fn what_its_full_home_turned_away_expires_and_goes_with_its_tag_as_well() {
    let builder = Cache::<u64, u64>::builder().max_entries(1_000).shards(1);
    let cache = checked(builder.hasher(BuildHasherDefault::<Same>::default()));
    // of sixteen there is room for at home
    for key in 0..90 {
        cache.at(&key).tags(if key % 3 == 0 { &["t"][..] } else { &[] }).insert(key);
    }
    cache.remove_tag("t");
    (1..90).step_by(3).for_each(|key| assert!(cache.expire(&key)));
    for key in 0..90 {
        assert_eq!(cache.get(&key), (key % 3 == 2).then_some(key));
    }
}

#[test]
fn a_flood_of_keys_of_one_hash_costs_a_bounded_time_each() {
    // the watchdog is the bound; unoptimized code takes fewer of them for the same statement
    let keys = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    let builder = Cache::<u64, u64>::builder().unbounded().shards(1);
    let cache = checked(builder.hasher(BuildHasherDefault::<Same>::default()));
    for key in 0..keys {
        cache.insert(key, key);
        assert_eq!(cache.get(&key), Some(key));
    }
    let stats = cache.stats();
    assert_eq!((stats.insertions, cache.len() + stats.evicted), (keys, keys));
    println!("{} of {keys} keys of one hash were kept", cache.len());
}

#[test]
fn heavy_inserts_that_compete_for_the_whole_budget_all_end() {
    let cache = checked(weight(1_000).shards(8));
    let start = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for thread in 0..8 {
            let (cache, start) = (&cache, &start);
            threads.push(scope.spawn(move || {
                wait_until(|| start.load(SeqCst));
                for round in 0..300 {
                    cache.insert(thread * 1_000 + round, 1_000 - round % 3 * 400);
                    assert!(cache.weight() <= 1_000);
                }
            }));
        }
        start.store(true, SeqCst);
        // the thread sanitizer sees a join, and not the end of a scope
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert!(!cache.is_empty());
}

#[test]
fn the_room_that_an_insert_leaves_over_is_there_for_what_its_listener_inserts() {
    let itself: Arc<OnceLock<Weak<Checked<u64, u64>>>> = Arc::default();
    let builder = weight(100).shards(1).on_removal({
        let itself = Arc::clone(&itself);
        move |removal| {
            let cache = itself.get().and_then(Weak::upgrade);
            if let Some(cache) = cache.filter(|_| removal.key == 1) {
                cache.insert(3, 100);
            }
        }
    });
    let cache = Arc::new(checked(builder));
    itself.set(Arc::downgrade(&cache)).unwrap();
    cache.insert(1, 100);
    cache.insert(2, 1); // takes out the first one, and of its room leaves 99
    assert_eq!((cache.weight(), cache.get(&3)), (100, Some(100)));
}

/// Hits of 300,000 look-ups, half of them of keys below 100 and the others of any, each stored if it is
/// not there. A key weighs what `weigh` says.
fn hits(shards: usize, most: u64, weigh: fn(u64) -> u64) -> [u64; 2] {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let cache = checked(weight(most).shards(shards).seed(5).hasher(hasher));
    let (mut state, mut hits) = (1, [0; 2]);
    for _ in 0..300_000 {
        let pick = random(&mut state);
        let key = random(&mut state) % if pick % 2 == 0 { 100 } else { 10_000 };
        if cache.get(&key).is_none() {
            cache.insert(key, weigh(key));
        } else {
            hits[(key % 2) as usize] += 1;
        }
    }
    hits
}

#[test]
fn of_two_keys_used_alike_the_one_that_takes_less_room_stays_longer() {
    let [light, heavy] = hits(1, 50_000, |key| if key % 2 == 0 { 10 } else { 90 });
    assert!(light * 10 > heavy * 12, "{light} and {heavy}");
    let [even, odd] = hits(1, 50_000, |_| 50);
    assert!(even.abs_diff(odd) < even / 50, "{even} and {odd}");
}

#[test]
fn the_shards_of_a_weighted_cache_go_on_sharing_its_bound() {
    // one in a hundred weighs as much as half of the others: whoever makes room for that one, or
    // takes what it leaves, is off its share for good unless something brings it back
    let weigh = |key: u64| if key % 100 == 7 { 5_000 } else { 60 + key % 80 };
    let (one, many) = (hits(1, 80_000, weigh), hits(8, 80_000, weigh));
    let (one, many) = (one[0] + one[1], many[0] + many[1]);
    assert!(many * 100 > one * 97, "{many} hits of eight shards, {one} of one");
}

#[test]
fn a_heavy_entry_that_is_hit_outlives_light_ones_that_are_not() {
    for shards in [1, 4, 16] {
        let cache = checked(weight(1 << 20).shards(shards).seed(1));
        (0..1_024).for_each(|key| cache.insert(1_000 + key, 1 << 10));
        let mut hits = 0;
        for newcomer in 0..20_000 {
            for key in [1, 2] {
                if cache.get(&key).is_some() {
                    hits += 1;
                } else {
                    cache.insert(key, 250 << 10);
                }
            }
            cache.insert(10_000 + newcomer, 1 << 10);
        }
        assert!(hits > 38_000, "{hits} of 40,000 in {shards} shards");
    }
}
