//! How often a key is loaded.

use super::explore::{draw, explore};
use super::futures::impatient;
use super::setting::{KEY, Shelf, Source, shelf};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;

fn ask(shelf: &Shelf, source: &Source) -> thread::JoinHandle<u64> {
    let (shelf, source) = (shelf.clone(), source.clone());
    thread::spawn(move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(source.load())).unwrap())
}

async fn ask_async(shelf: Shelf, source: Source) -> u64 {
    shelf.get_or_load_async(&KEY, || source.load_async()).await.unwrap()
}

/// moka #195, otter #152: whoever comes while the flight leaves the board finds its value, and so
/// does whoever has been told of it.
#[test]
fn load_runs_once_when_a_call_arrives_as_another_completes() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let ask = |_| {
            let (shelf, source) = (shelf.clone(), source.clone());
            thread::spawn(move || {
                let load = || Ok::<_, Infallible>(source.load());
                let value = shelf.get_or_load(&KEY, load).unwrap();
                assert_eq!(shelf.get(&KEY), Some(value));
                value
            })
        };
        let threads: Vec<_> = (0..2).map(ask).collect();
        let tasks: Vec<_> =
            (0..2).map(|_| spawn(ask_async(shelf.clone(), source.clone()))).collect();
        let threads = threads.into_iter().map(|thread| thread.join().unwrap());
        let tasks = tasks.into_iter().map(|task| block_on(task).unwrap());
        assert_eq!(threads.chain(tasks).collect::<Vec<_>>(), [1; 4]);
        assert_eq!((source.begun(), source.most()), (1, 1));
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// Each write begins a new generation of its key, and each generation is loaded once.
#[test]
fn load_runs_once_a_generation() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let mut threads: Vec<_> = (0..2).map(|_| ask(&shelf, &source)).collect();
        threads.push(ask(&shelf, &source));
        let task = spawn(ask_async(shelf.clone(), source.clone()));
        let writer = thread::spawn({
            let shelf = shelf.clone();
            move || {
                shelf.remove(&KEY);
                thread::yield_now();
                shelf.expire(&KEY);
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        block_on(task).unwrap();
        writer.join().unwrap();
        assert!(source.begun() <= 3, "{} loads in three generations", source.begun());
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// pingora #931, moka #59, risingwave #3911: a leader that is dropped, wherever it stands, leaves
/// the lead to somebody who waits.
#[test]
fn leader_dropped_hands_over() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let fickle: Vec<_> = (0..7)
            .map(|_| spawn(impatient(ask_async(shelf.clone(), source.clone()), draw(5))))
            .collect();
        let patient: Vec<_> =
            (0..3).map(|_| spawn(ask_async(shelf.clone(), source.clone()))).collect();
        let threads: Vec<_> = (0..2).map(|_| ask(&shelf, &source)).collect();

        let mut values: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        values.extend(patient.into_iter().map(|task| block_on(task).unwrap()));
        values.extend(fickle.into_iter().filter_map(|task| block_on(task).unwrap()));
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
        assert_eq!((source.done(), source.most()), (1, 1));
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// With nobody left who would take over, nothing stays behind.
#[test]
fn a_flight_that_everybody_left_vanishes() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let fickle: Vec<_> = (0..4)
            .map(|_| spawn(impatient(ask_async(shelf.clone(), source.clone()), 1 + draw(2))))
            .collect();
        for task in fickle {
            block_on(task).unwrap();
        }
        assert_eq!(shelf.flights(), 0);
        assert_eq!(shelf.len(), source.done(), "one load at most came to its end");
        shelf.validate();
    });
}
