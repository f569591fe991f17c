//! A second tier and the processes that share it: in the end neither they nor the tier have a value that the
//! source no longer has.

use super::explore::{draw, explore};
use super::setting::{Fixed, KEY, Moments, Row, Shelf};
use crate::{Cache, Clock, MemoryTier};
use shuttle::thread;
use std::convert::Infallible;
use std::time::Duration;

type SharedTier = MemoryTier<u32, u64>;

fn tier() -> SharedTier {
    MemoryTier::with(Clock::manual().0, Duration::from_secs(60))
}

fn process(tier: &SharedTier) -> Shelf {
    let builder = Cache::builder().hasher(Fixed::default()).seed(1).shards(1).max_entries(10);
    builder.clock(Clock::manual().0).tier(tier.join()).build().unwrap()
}

fn load(shelf: &Shelf, row: &Row) -> u64 {
    match draw(3) {
        0 => shelf.get_or_load(&KEY, || Ok::<_, Infallible>(row.read())).unwrap(),
        1 => shelf.get_or_insert_with(&KEY, || row.read()),
        _ => {
            let load = |keys: &[u32]| Ok::<_, Infallible>([(keys[0], row.read())]);
            shelf.get_or_load_many(&[KEY], load).got[0].1.value
        }
    }
}

fn settle(shelf: &Shelf) {
    while shelf.tier_pending() > 0 {
        thread::yield_now();
    }
}

/// One writes, and says so by `tell`, in its own process; both processes load.
fn nothing_old_stays(tell: fn(&Shelf)) {
    explore(move || {
        let (tier, row, told) = (tier(), Row::default(), Moments::default());
        let shelves = [process(&tier), process(&tier)];
        let mut threads: Vec<_> = shelves
            .iter()
            .enumerate()
            .map(|(at, shelf)| {
                let (shelf, row, told) = (shelf.clone(), row.clone(), told.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        // who is in the process that says so gets nothing older from then on
                        let floor = if at == 0 { told.count() } else { 0 };
                        let value = load(&shelf, &row);
                        assert!(value >= floor, "{value} is older than {floor}");
                    }
                })
            })
            .collect();
        let writer = shelves[0].clone();
        threads.push(thread::spawn({
            let (row, told) = (row.clone(), told.clone());
            move || {
                row.write(1);
                tell(&writer);
                told.reach(1);
            }
        }));
        for thread in threads {
            thread.join().unwrap();
        }
        shelves.iter().for_each(settle);
        for shelf in &shelves {
            if let Some(cached) = shelf.get(&KEY) {
                assert_eq!(cached, row.now(), "a process has what the source no longer has");
            }
            assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
            shelf.validate();
        }
        // one that comes later has it from the tier, or from the source
        assert_eq!(load(&process(&tier), &row), row.now(), "the tier has something old");
    });
}

#[test]
fn a_removal_and_loads_in_two_processes() {
    nothing_old_stays(|shelf| _ = shelf.remove(&KEY));
}

#[test]
fn an_expiry_and_loads_in_two_processes() {
    nothing_old_stays(|shelf| _ = shelf.expire(&KEY));
}

#[test]
fn a_clear_and_loads_in_two_processes() {
    nothing_old_stays(Cache::clear);
}

#[test]
fn an_insert_and_loads_in_two_processes() {
    nothing_old_stays(|shelf| shelf.insert(KEY, 1));
}

#[test]
fn a_fenced_write_and_loads_in_two_processes() {
    nothing_old_stays(|shelf| drop(shelf.writing(&KEY)));
}

/// Each writes what is newer than all before it. Whatever order the tier saw: in the end all agree.
#[test]
fn inserts_and_removals_of_two_processes() {
    explore(|| {
        let tier = tier();
        let shelves = [process(&tier), process(&tier)];
        let threads: Vec<_> = (1..=3_u64)
            .map(|value| {
                let shelf = shelves[value as usize % 2].clone();
                thread::spawn(move || match draw(3) {
                    0 => _ = shelf.remove(&KEY),
                    _ => shelf.insert(KEY, value),
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        shelves.iter().for_each(settle);
        let kept = load(&process(&tier), &Row::default());
        for shelf in &shelves {
            if let Some(cached) = shelf.get(&KEY) {
                assert_eq!(cached, kept, "a process has another value than the tier");
            }
        }
    });
}

/// Two write a value that takes its room from other shards, which lets others in between: the tier may have
/// nothing in the end, but not another value than the process.
#[test]
fn inserts_that_take_their_room_from_other_shards() {
    explore(|| {
        let tier = tier();
        let builder = Cache::builder().hasher(Fixed::default()).seed(1).shards(2).max_weight(10);
        let builder = builder.weigher(|key: &u32, _: &u64| if *key == KEY { 9 } else { 1 });
        let shelf = builder.clock(Clock::manual().0).tier(tier.join()).build().unwrap();
        (100..110).for_each(|key| shelf.insert(key, 0));
        let threads = [1, 2].map(|value| {
            let shelf = shelf.clone();
            thread::spawn(move || shelf.insert(KEY, value))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        settle(&shelf);
        let there = process(&tier).at(&KEY).load(|_| Err::<u64, _>("nothing")).ok();
        if let (Some(there), Some(here)) = (there, shelf.get(&KEY)) {
            assert_eq!(there.value, here);
        }
        shelf.validate();
    });
}

/// The tier cannot be reached for a while, and nobody hears of anything: what was removed meanwhile does
/// not come back.
#[test]
fn a_removal_while_it_cannot_be_reached() {
    explore(|| {
        let (tier, row) = (tier(), Row::default());
        let shelves = [process(&tier), process(&tier)];
        let outage = thread::spawn({
            let tier = tier.clone();
            move || {
                tier.fail(true);
                thread::yield_now();
                tier.fail(false);
            }
        });
        let reader = thread::spawn({
            let (shelf, row) = (shelves[1].clone(), row.clone());
            move || _ = (load(&shelf, &row), load(&shelf, &row))
        });
        row.write(1);
        shelves[0].remove(&KEY);
        outage.join().unwrap();
        reader.join().unwrap();
        shelves.iter().for_each(settle);
        for shelf in &shelves {
            if let Some(cached) = shelf.get(&KEY) {
                assert_eq!(cached, row.now(), "a process has what the source no longer has");
            }
        }
        assert_eq!(load(&process(&tier), &row), row.now(), "the tier has something old");
    });
}

/// A tag of a value goes while the value is written: then the value is not served anywhere, whichever was
/// first.
#[test]
fn a_fenced_write_and_the_removal_of_its_tag() {
    explore(|| {
        let tier = tier();
        let shelves = [process(&tier), process(&tier)];
        let remover = shelves[draw(2)].clone();
        let mut removal = None;
        let write = |_: &u32, _: &u64| {
            removal = Some(thread::spawn(move || remover.remove_tag("some")));
            Ok::<_, Infallible>(())
        };
        shelves[0].at(&KEY).tag("some").write_through(1, write).unwrap();
        removal.unwrap().join().unwrap();
        shelves.iter().for_each(settle);
        let late = process(&tier);
        for shelf in shelves.iter().chain([&late]) {
            let got = shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)).unwrap();
            assert_eq!(got, 2, "what was removed with its tag is back");
        }
    });
}
