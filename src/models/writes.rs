//! Writes at the source during loads: in the end, the cached value is the source's.

use super::explore::{draw, explore};
use super::futures::impatient;
use super::setting::{KEY, Moments, Row, Shelf, builder, shelf};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;
use std::time::Duration;

fn load(shelf: &Shelf, row: &Row) -> u64 {
    shelf.get_or_load(&KEY, || Ok::<_, Infallible>(row.read())).unwrap()
}

/// Writers `write` a value each, in no order; readers load. Nobody who begins after the only
/// writer's write has returned gets an older value, and in the end the cache has what the row has.
fn the_old_value_does_not_stay(writers: u64, write: fn(&Shelf, &Row, u64)) {
    explore(move || {
        let (shelf, row, written) = (shelf(), Row::default(), Moments::default());
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, row, written) = (shelf.clone(), row.clone(), written.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let floor = if writers == 1 { written.count() } else { 0 };
                        let value = load(&shelf, &row);
                        assert!(value >= floor, "{value} is older than {floor}");
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (1..=writers)
            .map(|value| {
                let (shelf, row, written) = (shelf.clone(), row.clone(), written.clone());
                thread::spawn(move || {
                    write(&shelf, &row, value);
                    written.reach(value);
                })
            })
            .collect();
        for thread in readers.into_iter().chain(writers) {
            thread.join().unwrap();
        }
        if let Some(cached) = shelf.get(&KEY) {
            assert_eq!(cached, row.now(), "the cache has what the source no longer has");
        }
        assert_eq!(load(&shelf, &row), row.now());
        assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
        shelf.validate();
    });
}

fn write_through(shelf: &Shelf, row: &Row, value: u64) {
    let write = |_: &u32, value: &u64| {
        row.write(*value);
        Ok::<_, Infallible>(())
    };
    shelf.write_through(KEY, value, write).unwrap();
}

fn fenced(shelf: &Shelf, row: &Row, value: u64) {
    let _fence = shelf.writing(&KEY);
    row.write(value);
}

#[test]
fn a_write_through_and_loads() {
    the_old_value_does_not_stay(1, write_through);
}

#[test]
fn two_writes_through_and_loads() {
    the_old_value_does_not_stay(2, write_through);
}

#[test]
fn a_fenced_write_and_loads() {
    the_old_value_does_not_stay(1, fenced);
}

#[test]
fn two_fenced_writes_and_loads() {
    the_old_value_does_not_stay(2, fenced);
}

/// It may have arrived, or not.
#[test]
fn a_write_that_fails_and_loads() {
    the_old_value_does_not_stay(1, |shelf, row, value| {
        let write = |_: &u32, value: &u64| {
            if draw(2) == 0 {
                row.write(*value);
            }
            Err(())
        };
        shelf.write_through(KEY, value, write).unwrap_err();
        // the readers' floor: what the source has
        row.write(value);
        shelf.remove(&KEY);
    });
}

/// Dropped at any of its awaits: the write may have arrived, or not.
#[test]
fn a_write_whose_future_is_dropped_and_loads() {
    explore(|| {
        let (shelf, row) = (shelf(), Row::default());
        let reader = thread::spawn({
            let (shelf, row) = (shelf.clone(), row.clone());
            move || _ = (load(&shelf, &row), load(&shelf, &row))
        });
        let writer = spawn({
            let (shelf, row) = (shelf.clone(), row.clone());
            async move {
                let write = |_, value| {
                    let row = row.clone();
                    async move {
                        row.write_async(value).await;
                        Ok::<_, Infallible>(())
                    }
                };
                let polls = draw(4);
                impatient(shelf.write_through_async(KEY, 1, write), polls).await;
            }
        });
        reader.join().unwrap();
        block_on(writer).unwrap();
        if let Some(cached) = shelf.get(&KEY) {
            assert_eq!(cached, row.now());
        }
        assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
        shelf.validate();
    });
}

/// Somebody else writes too, by means of his own, and removes the key: whatever the order at the
/// source, what stays is what that has.
#[test]
fn a_write_through_and_a_removal() {
    the_old_value_does_not_stay(2, |shelf, row, value| {
        if value == 1 {
            write_through(shelf, row, value);
        } else {
            row.write(value);
            shelf.remove(&KEY);
        }
    });
}

/// A replica lags behind: it has the new value when the clock has moved on.
#[test]
fn a_fence_that_is_held_and_loads_from_a_replica() {
    explore(|| {
        let (builder, hand) = builder();
        let (shelf, replica) = (builder.max_entries(100).build().unwrap(), Row::default());
        let reader = thread::spawn({
            let (shelf, replica) = (shelf.clone(), replica.clone());
            move || _ = (load(&shelf, &replica), load(&shelf, &replica))
        });
        let writer = thread::spawn({
            let shelf = shelf.clone();
            move || drop(shelf.writing(&KEY).hold_for(Duration::from_millis(10)))
        });
        writer.join().unwrap();
        replica.write(1);
        hand.advance(Duration::from_millis(10));
        assert_eq!(load(&shelf, &replica), 1);
        reader.join().unwrap();
        assert!(shelf.get(&KEY).is_none_or(|cached| cached == 1));
        assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
        shelf.validate();
    });
}
