//! The bound holds at every moment, and an insert that needs much room gets it.

use super::explore::{draw, explore};
use super::setting::{Shelf, Source, builder};
use shuttle::thread;
use std::convert::Infallible;

const MAX: u64 = 10;

fn weighed(shards: usize) -> Shelf {
    builder().0.max_weight(MAX).weigher(|_, weight| *weight).shards(shards).build().unwrap()
}

fn insert(shelf: &Shelf, entries: Vec<(u32, u64)>) -> thread::JoinHandle<()> {
    let shelf = shelf.clone();
    thread::spawn(move || entries.into_iter().for_each(|(key, weight)| shelf.insert(key, weight)))
}

fn sample(shelf: &Shelf) -> thread::JoinHandle<()> {
    let shelf = shelf.clone();
    thread::spawn(move || {
        for _ in 0..10 {
            assert!(shelf.weight() <= MAX && shelf.len() <= MAX, "{shelf:?}");
            thread::yield_now();
        }
    })
}

fn done(shelf: &Shelf, threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
    let held: u64 = shelf.entries().map(|(_, got)| got.value).sum();
    assert_eq!((held, shelf.entries().count() as u64), (shelf.weight(), shelf.len()));
    shelf.validate();
}

/// One of the three takes nearly all there is, out of all shards.
#[test]
fn bounds_hold_at_every_moment() {
    explore(|| {
        let shelf = weighed(2 + draw(2));
        let light = |from: u32| (from..from + 4).map(|key| (key, 1 + draw(4) as u64)).collect();
        let heavy = vec![(9, 1), (draw(12) as u32, 8 + draw(3) as u64), (9, 2)];
        let threads = [sample(&shelf), insert(&shelf, light(0)), insert(&shelf, light(2))];
        let heavy = insert(&shelf, heavy);
        done(&shelf, threads.into_iter().chain([heavy]));
    });
}

/// Neither waits for ever for what the other one has got hold of.
#[test]
fn two_heavy_inserts_do_not_wait_for_each_other() {
    explore(|| {
        let shelf = weighed(2 + draw(2));
        // full before they begin, in all shards
        (0..10).for_each(|key| shelf.insert(key, 1));
        let heavy = || insert(&shelf, vec![(20 + draw(8) as u32, 6 + draw(5) as u64)]);
        let threads = [heavy(), heavy(), sample(&shelf)];
        done(&shelf, threads);
        assert!(!shelf.is_empty(), "the one that came last is there");
    });
}

/// What is heavier than its predecessor needs more room than that one leaves.
#[test]
fn heavier_successors_find_room() {
    explore(|| {
        let shelf = weighed(2);
        let mut threads = vec![sample(&shelf)];
        for _ in 0..3 {
            threads.push(insert(&shelf, vec![(1, 1 + draw(4) as u64), (1, 5 + draw(5) as u64)]));
        }
        done(&shelf, threads);
    });
}

/// Fewer entries than a shard each: the room for one is in another shard.
#[test]
fn entries_are_bounded_over_all_shards() {
    explore(|| {
        let shelf = builder().0.max_entries(2).shards(2).build().unwrap();
        let over = shelf.clone();
        let sampler = thread::spawn(move || {
            for _ in 0..10 {
                assert!(over.len() <= 2, "{over:?}");
                thread::yield_now();
            }
        });
        let numbers = |from: u32| (from..from + 4).map(|key| (key, 1)).collect();
        let threads = [sampler, insert(&shelf, numbers(0)), insert(&shelf, numbers(2))];
        done(&shelf, threads.into_iter().chain([insert(&shelf, numbers(4))]));
        assert!(!shelf.is_empty());
    });
}

/// It lets go of its shard's lock meanwhile, but not of its key: nobody else loads it.
#[test]
fn a_heavy_load_keeps_its_key_while_it_makes_room() {
    explore(|| {
        let shelf = weighed(2);
        (0..10).for_each(|key| shelf.insert(key, 1));
        let source = Source::default();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, source) = (shelf.clone(), source.clone());
                thread::spawn(move || {
                    let load = || Ok::<_, Infallible>(source.load() + MAX - 2);
                    assert_eq!(shelf.get_or_load(&20, load).unwrap(), MAX - 1);
                })
            })
            .collect();
        done(&shelf, callers.into_iter().chain([sample(&shelf)]));
        assert_eq!((source.begun(), shelf.flights()), (1, 0));
    });
}
