//! What leaves is reported once, with its cause, and outside of all locks.

mod common;

use common::doubles::{Counted, Ledger};
use common::{Record, checked, ms, secs, with_cache};
use larder::{Cache, Clock, RemovalCause};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

#[test]
fn every_way_out_has_its_cause() {
    with_cache(
        |builder| builder,
        |it| {
            let told = |what: &dyn Fn()| {
                it.removals.take();
                what();
                it.removals.take()
            };
            it.insert(1, 10);
            assert_eq!(told(&|| it.insert(1, 11)), [(1, 10, RemovalCause::Replaced)]);
            let removed = told(&|| assert_eq!(it.remove(&1), Some(11)));
            assert_eq!(removed, [(1, 11, RemovalCause::Removed)]);
            assert_eq!(told(&|| assert_eq!(it.remove(&1), None)), []);
            it.insert(2, 20);
            assert_eq!(told(&|| it.clear()), [(2, 20, RemovalCause::Removed)]);
            it.insert(3, 30);
            it.insert(4, 40);
            let removed = told(&|| assert_eq!(it.remove_if(|key, _| *key == 3), 1));
            assert_eq!(removed, [(3, 30, RemovalCause::Removed)]);
            it.expire(&4);
            let expired = told(&|| assert_eq!(it.sweep(), 1));
            assert_eq!(expired, [(4, 40, RemovalCause::Expired)]);
            let evicted = told(&|| (100..1_200).for_each(|key| it.insert(key, key)));
            assert!(evicted.len() >= 100);
            assert!(evicted.iter().all(|told| told.2 == RemovalCause::Evicted));
        },
    );
}

#[test]
fn what_was_stored_is_what_was_reported_and_what_is_there_after_a_churn() {
    for shards in [1, 4] {
        for weighted in [false, true] {
            let (clock, hand) = Clock::manual();
            let removals = Record::new();
            let builder = Cache::<u64, u64>::builder().shards(shards).clock(clock);
            let builder = builder.time_to_live(ms(50)).on_removal(removals.listener());
            let cache = checked(if weighted {
                builder.max_weight(600).weigher(|_, value| *value % 5)
            } else {
                builder.max_entries(200)
            });
            let inserted = AtomicU64::new(0);
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for thread in 0..8_u64 {
                    let (cache, hand, inserted) = (&cache, &hand, &inserted);
                    threads.push(scope.spawn(move || {
                        for step in 0..3_000_u64 {
                            let mix = (thread * 3_000 + step).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                            // every value is inserted once
                            let (key, value) = (mix >> 55, thread << 32 | step);
                            match (mix >> 40) % 32 {
                                0..4 => drop(cache.remove(&key)),
                                4 => drop(cache.remove_if(|key, _| key % 50 == mix % 50)),
                                5 => drop(cache.expire(&key)),
                                6 if step % 10 == 0 => cache.clear(),
                                7 => drop(cache.sweep()),
                                8 => hand.advance(ms(1)),
                                insert => {
                                    inserted.fetch_add(1, SeqCst);
                                    let ttl = if insert == 9 { step % 4 } else { 50 };
                                    cache.at(&key).ttl(ms(ttl)).insert(value);
                                }
                            }
                        }
                    }));
                }
                // the thread sanitizer sees a join, and not the end of a scope
                for thread in threads {
                    thread.join().unwrap();
                }
            });
            let live = cache.stats().insertions - left(&cache);
            assert_eq!(cache.len(), live, "there is no \"not found\" in this churn");
            let before = removals.count();
            // what is expired and not freed is not walked, but reported at the latest now
            cache.clear();
            assert_eq!(removals.count(), before + live);
            let mut values: Vec<_> = removals.take().into_iter().map(|told| told.1).collect();
            assert_eq!(values.len() as u64, inserted.load(SeqCst), "each of them once");
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len() as u64, inserted.load(SeqCst), "and none of them twice");
        }
    }
}

fn left(cache: &Cache<u64, u64>) -> u64 {
    let stats = cache.stats();
    stats.replaced + stats.removed + stats.expired + stats.evicted
}

#[test]
fn removals_by_one_thread_are_reported_in_their_order() {
    with_cache(
        |builder| builder,
        |it| {
            for value in 0..50 {
                it.insert(1, value);
            }
            it.remove(&1);
            let told: Vec<_> = it.removals.take().into_iter().map(|told| told.1).collect();
            assert_eq!(told, (0..50).collect::<Vec<_>>());
        },
    );
}

#[test]
fn what_a_listener_removes_is_reported_at_once() {
    let (handle, told) = (Arc::new(Mutex::new(None::<Cache<u64, u64>>)), Record::new());
    let (inner, record) = (Arc::clone(&handle), told.listener());
    let builder = Cache::<u64, u64>::builder().max_entries(20).shards(1);
    let cache = checked(builder.on_removal(move |removal| {
        let is_first = removal.value < 10;
        record(removal);
        let cache = inner.lock().take();
        if let Some(cache) = cache.filter(|_| is_first) {
            cache.insert(3, 30);
            cache.remove(&3);
        }
    }));
    (1..=2).for_each(|key| cache.insert(key, key));
    *handle.lock() = Some(Cache::clone(&cache));
    cache.clear();
    let told: Vec<_> = told.take().into_iter().map(|told| told.1).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[1], 30, "ahead of what left before it, in the same call as the first");
}

#[test]
fn a_listener_is_called_without_a_lock_and_may_use_the_cache() {
    let handle: Arc<Mutex<Option<Cache<u64, u64>>>> = Arc::default();
    let calls = Arc::new(AtomicU64::new(0));
    let (inner, called) = (Arc::clone(&handle), Arc::clone(&calls));
    let is_inside = AtomicBool::new(false);
    let builder = Cache::<u64, u64>::builder().max_entries(20).shards(1);
    let cache = checked(builder.on_removal(move |removal| {
        called.fetch_add(1, SeqCst);
        let cache = inner.lock().clone().unwrap();
        if is_inside.swap(true, SeqCst) {
            return; // told of what it did itself
        }
        cache.get(&removal.key);
        assert_eq!(cache.get_or_load(&1_000, || Ok::<_, String>(7)).unwrap(), 7);
        cache.insert(removal.key, 50);
        cache.remove(&removal.key);
        // from another thread too: a lock that this one may take twice would be found out
        let other = cache.clone();
        thread::spawn(move || other.remove_if(|_, _| false)).join().unwrap();
        is_inside.store(false, SeqCst);
    }));
    *handle.lock() = Some(Cache::clone(&cache));
    for key in 0..30 {
        cache.insert(key, key);
    }
    cache.insert(29, 29);
    cache.remove(&29);
    cache.remove_if(|key, _| key % 2 == 0);
    cache.expire(&27);
    cache.sweep();
    cache.clear();
    assert!(calls.load(SeqCst) > 30);
    assert_eq!(cache.stats().listener_panics, 0);
    // a listener that owns its cache keeps it: the cycle is ended by hand
    handle.lock().take();
}

#[test]
fn a_listener_that_panics_is_counted_and_called_again() {
    let removals = Record::new();
    let record = removals.listener();
    let builder = Cache::<u64, u64>::builder().max_entries(100);
    let cache = checked(builder.on_removal(move |removal| {
        let value = removal.value;
        record(removal);
        assert!(value % 2 == 0, "expected: a listener's");
    }));
    for key in 0..10 {
        cache.insert(key, key);
    }
    assert_eq!(cache.remove(&1), Some(1), "the caller does not notice");
    cache.clear();
    let mut told: Vec<_> = removals.take().into_iter().map(|told| told.0).collect();
    told.sort_unstable();
    assert_eq!(told, (0..10).collect::<Vec<_>>());
    assert_eq!(cache.stats().listener_panics, 5);
}

/// Uses its cache when it is dropped, as keys and values of one may.
struct Meddling {
    id: u64,
    cache: Arc<OnceLock<Cache<Meddling, Meddling>>>,
    drops: Arc<AtomicU64>,
}

impl Clone for Meddling {
    fn clone(&self) -> Self {
        Self { id: self.id, cache: Arc::clone(&self.cache), drops: Arc::clone(&self.drops) }
    }
}

thread_local! {
    static MEDDLES: AtomicBool = const { AtomicBool::new(false) };
}

impl Drop for Meddling {
    fn drop(&mut self) {
        // its own look-ups have keys that are dropped
        if MEDDLES.with(|meddles| meddles.swap(true, SeqCst)) {
            return;
        }
        if let Some(cache) = self.cache.get() {
            self.drops.fetch_add(1, SeqCst);
            cache.get(&self.clone());
            cache.len();
            cache.stats();
            // takes every lock there is, exclusively
            cache.remove_if(|_, _| false);
        }
        MEDDLES.with(|meddles| meddles.store(false, SeqCst));
    }
}

impl PartialEq for Meddling {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Meddling {}

impl std::hash::Hash for Meddling {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

#[test]
fn keys_and_values_are_dropped_without_a_lock_and_may_use_the_cache() {
    for listens in [false, true] {
        let (clock, hand) = Clock::manual();
        let builder = Cache::<Meddling, Meddling>::builder().max_weight(40).shards(1);
        let builder = builder.weigher(|_, value| if value.id == 99 { 99 } else { 2 });
        let builder = builder.negative_ttl(ms(5)).clock(clock);
        let cache = checked(if listens { builder.on_removal(|_| ()) } else { builder });
        let (handle, drops) = (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)));
        let new = |id| Meddling { id, cache: Arc::clone(&handle), drops: Arc::clone(&drops) };
        handle.set(Cache::clone(&cache)).ok();

        for id in 0..30 {
            cache.insert(new(id), new(id));
            cache.insert(new(id), new(id));
        }
        assert!(cache.stats().evicted > 0);
        cache.insert(new(1), new(99));
        cache.remove(&new(29));
        cache.remove_if(|key, _| key.id == 28);
        cache.expire(&new(27));
        cache.sweep();
        drop(cache.get_or_load(&new(40), || Ok::<_, String>(new(40))));
        drop(cache.get_or_load(&new(41), || Err::<Meddling, _>(new(41))));
        drop(cache.get_or_load_optional(&new(42), || Ok::<_, String>(None)));
        hand.advance(ms(5));
        cache.sweep();
        let fenced = cache.get_or_load(&new(43), || {
            cache.remove(&new(43));
            Ok::<_, String>(new(43))
        });
        drop(fenced);
        assert!(cache.entries().count() > 0);
        cache.clear();
        assert!(drops.load(SeqCst) > 100);
        MEDDLES.with(|meddles| meddles.store(true, SeqCst));
        drop((cache, new));
        drop(handle);
        MEDDLES.with(|meddles| meddles.store(false, SeqCst));
    }
}

#[test]
fn dropping_the_last_handle_drops_every_key_and_value_at_once() {
    let ledger = Ledger::new();
    for weighted in [false, true] {
        let builder = Cache::<Counted, Counted>::builder().negative_ttl(ms(50));
        let cache = checked(if weighted {
            builder.max_weight(500).weigher(|_, _| 1)
        } else {
            builder.max_entries(500)
        });
        for id in 0..1_000 {
            cache.insert(ledger.counted(id), ledger.counted(id));
            let _ =
                cache.get_or_load_optional(&ledger.counted(id + 5_000), || Ok::<_, String>(None));
        }
        let other = Cache::clone(&cache);
        let walk = other.entries();
        drop(cache);
        assert!(ledger.alive() > 500, "two handles are left");
        drop(other);
        drop(walk);
        assert_eq!(ledger.alive(), 0);
    }
}

#[test]
fn nothing_leaks_by_whatever_way_it_leaves() {
    let ledger = Ledger::new();
    let (clock, hand) = Clock::manual();
    let builder = Cache::<Counted, Counted>::builder().max_entries(100).shards(2);
    let cache = checked(builder.time_to_live(ms(100)).clock(clock).negative_ttl(ms(3)));
    for round in 0..2_000 {
        let (id, new) = (round % 300, |id| ledger.counted(id));
        cache.insert(new(id), new(round));
        match round % 11 {
            0 => drop(cache.remove(&new(id))),
            1 => drop(cache.get_or_load(&new(id + 500), || Ok::<_, String>(new(round)))),
            2 => drop(cache.get_or_load(&new(id + 500), || Err::<Counted, _>(new(round)))),
            3 => drop(cache.get_or_load_optional(&new(id + 900), || Ok::<_, u8>(None))),
            4 => hand.advance(ms(1)),
            5 => drop(cache.expire(&new(id))),
            6 if round % 7 == 0 => cache.clear(),
            7 => drop(cache.get(&new(id))),
            8 => drop(cache.get_or_load_async(&new(id), || async { Ok::<_, u8>(new(id)) })),
            _ => {}
        }
    }
    hand.advance(ms(100));
    cache.sweep();
    assert_eq!((cache.len(), ledger.alive()), (0, 0));
}

#[test]
fn a_predicate_may_keep_account() {
    let cache = checked(Cache::builder().max_entries(10).shards(4));
    (1..=4).for_each(|key| cache.insert(key, key * 10));
    let mut left = 2; // of many, so many go
    let removed = cache.remove_if(|_, _| {
        let goes = left > 0;
        left -= u64::from(goes);
        goes
    });
    assert_eq!((removed, cache.len()), (2, 2));
}

#[test]
fn what_expires_while_remove_if_is_at_it_goes_too() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(10).clock(clock).time_to_live(secs(3_600));
    let cache = checked(builder.stale_if_error(secs(100)));
    (0..3).for_each(|key| cache.insert(key, 10));
    let removed = cache.remove_if(|key, _| {
        hand.advance(ms(1));
        match key {
            0 => _ = cache.expire(key),
            1 => cache.insert(1, 11),
            _ => {}
        }
        true
    });
    assert_eq!(removed, 2, "what was written meanwhile is newer");
    assert!(cache.get_or_load(&0, || Err::<u64, _>("away")).is_err(), "and is not served stale");
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(11), None));
}

/// It is no value, and a predicate is shown values.
#[test]
fn a_predicate_leaves_not_found_as_it_is() {
    with_cache(
        |builder| builder.negative_ttl(secs(5)),
        |it| {
            it.insert(1, 10);
            let ask = |answer| it.get_or_load_optional(&2, || answer);
            assert_eq!(ask(Ok::<_, String>(None)).unwrap(), None);
            assert_eq!(it.remove_if(|_, _| true), 1);
            assert_eq!((ask(Ok(Some(20))).unwrap(), it.len()), (None, 1));
            it.remove(&2);
            assert_eq!(ask(Ok(Some(20))).unwrap(), Some(20));
        },
    );
}

/// Nothing else has happened to the value, so it is changed; and then it is not the one that was to go.
#[test]
fn what_is_made_of_a_value_while_a_predicate_looks_at_it_stays() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let removed = it.remove_if(|key, _| {
                it.at(key).keep_life().alter(|n| n.map(|n| n + 1));
                true
            });
            assert_eq!((removed, it.get(&1)), (0, Some(11)));
            assert_eq!((it.remove_if(|_, _| true), it.get(&1)), (1, None));
        },
    );
}

#[test]
fn what_the_source_has_no_more_was_removed_whether_or_not_that_is_kept() {
    for negative in [secs(0), secs(5)] {
        with_cache(
            |builder| builder.negative_ttl(negative),
            |it| {
                for weighs in [10, 11] {
                    it.insert(1, weighs);
                    let none = it.at(&1).force().load(|_| Ok::<Option<u64>, String>(None));
                    assert!(none.unwrap_err().is_not_found());
                    assert_eq!(it.removals.take(), [(1, weighs, RemovalCause::Removed)]);
                }
                let stats = it.stats();
                assert_eq!(
                    (stats.removed, stats.replaced, !it.is_empty()),
                    (2, 0, !negative.is_zero())
                );
            },
        );
    }
}

#[test]
fn what_is_written_without_a_life_is_reported_and_takes_out_what_was_there() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            it.at(&1).ttl(ms(0)).insert(11);
            let told = [(1, 10, RemovalCause::Removed), (1, 11, RemovalCause::Expired)];
            assert_eq!(it.removals.take(), told);
            let stats = it.stats();
            assert_eq!((stats.insertions, stats.removed, stats.expired), (1, 1, 0));
        },
    );
}
