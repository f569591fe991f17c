//! A hung load does not keep its key.

use super::explore::{draw, explore};
use super::futures::Gate;
use super::setting::{KEY, Shelf, builder};
use crate::{LoadError, ManualClock};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(10);

type Outcome = Result<u64, LoadError<Infallible>>;

fn shelf() -> (Shelf, ManualClock) {
    let (builder, hand) = builder();
    (builder.max_entries(100).load_timeout(TIMEOUT).build().unwrap(), hand)
}

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

/// Moves the clock, in two steps, to where the load that began at its start is overdue.
fn advance(hand: &ManualClock) {
    for _ in 0..2 {
        hand.advance(TIMEOUT / 2);
        thread::yield_now();
    }
}

/// A leader whose source hangs until the gate is opened, and then brings 1.
fn hang(shelf: &Shelf, gate: &Gate) -> thread::JoinHandle<Outcome> {
    let leader = thread::spawn({
        let (shelf, gate) = (shelf.clone(), gate.clone());
        move || {
            let hung = || {
                gate.pass();
                Ok(1)
            };
            shelf.get_or_load(&KEY, hung)
        }
    });
    until(|| shelf.flights() == 1);
    leader
}

/// The first of those who wait that finds the time over tells the others: each kind is to be woken
/// without the help of another one.
fn frees_the_key(threads: u64, tasks: u64) {
    explore(move || {
        let (shelf, hand) = shelf();
        let gate = Gate::default();
        let leader = hang(&shelf, &gate);
        let unused = || -> Result<u64, Infallible> { panic!("the flight is not over") };
        let ask = |_| {
            let shelf = shelf.clone();
            thread::spawn(move || shelf.get_or_load(&KEY, unused))
        };
        let ask_async = |_| {
            let shelf = shelf.clone();
            spawn(async move { shelf.get_or_load_async(&KEY, || async { unused() }).await })
        };
        let followers: Vec<_> = (0..threads).map(ask).collect();
        let pending: Vec<_> = (0..tasks).map(ask_async).collect();
        // from here on they are on their way to sleep
        until(|| shelf.stats().joined == threads + tasks);
        thread::spawn(move || advance(&hand));

        let mut outcomes: Vec<Outcome> =
            followers.into_iter().map(|thread| thread.join().unwrap()).collect();
        outcomes.extend(pending.into_iter().map(|task| block_on(task).unwrap()));
        assert!(outcomes.iter().all(|o| matches!(o, Err(LoadError::TimedOut))), "{outcomes:?}");

        assert_eq!(shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)).unwrap(), 2);
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 1, "its own result is its own");
        assert_eq!(shelf.get(&KEY), Some(2), "and comes too late to be stored");
        assert_eq!((shelf.flights(), shelf.stats().load_timeouts), (0, 1));
        shelf.validate();
    });
}

/// `FusionCache`, dialogporten #4252: waiters are freed, and so is the key.
#[test]
fn timed_out_load_frees_the_key() {
    frees_the_key(2, 1);
}

#[test]
fn timed_out_load_frees_a_thread() {
    frees_the_key(1, 0);
}

#[test]
fn timed_out_load_frees_a_task() {
    frees_the_key(0, 1);
}

/// Nobody waits, nobody notices: the load loses its key to the next caller, or when it lands.
#[test]
fn timed_out_load_that_nobody_waits_for_frees_the_key() {
    explore(|| {
        let (shelf, hand) = shelf();
        let gate = Gate::default();
        let leader = hang(&shelf, &gate);
        advance(&hand);
        let next = (draw(2) == 0).then(|| {
            let shelf = shelf.clone();
            thread::spawn(move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)).unwrap())
        });
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 1);
        let loaded = next.map(|caller| caller.join().unwrap());
        assert_eq!(shelf.get(&KEY), loaded);
        assert!(loaded.is_none_or(|value| value == 2));
        assert_eq!((shelf.flights(), shelf.stats().load_timeouts), (0, 1));
        shelf.validate();
    });
}

/// Callers come before, while and after the time runs out: each waits and is told, or leads.
#[test]
fn whoever_comes_as_the_time_runs_out_is_told_or_leads() {
    explore(|| {
        let (shelf, hand) = shelf();
        let gate = Gate::default();
        let leader = hang(&shelf, &gate);
        let mover = thread::spawn(move || advance(&hand));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let shelf = shelf.clone();
                thread::spawn(move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)))
            })
            .collect();
        let task = spawn({
            let shelf = shelf.clone();
            async move { shelf.get_or_load_async(&KEY, || async { Ok::<_, Infallible>(2) }).await }
        });
        let mut outcomes: Vec<Outcome> =
            threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        outcomes.push(block_on(task).unwrap());
        let told = |o: &Outcome| matches!(o, Ok(2) | Err(LoadError::TimedOut));
        assert!(outcomes.iter().all(told), "{outcomes:?}");

        mover.join().unwrap();
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 1);
        let loaded = outcomes.iter().any(Result::is_ok);
        assert_eq!(shelf.get(&KEY), loaded.then_some(2));
        assert_eq!((shelf.flights(), shelf.stats().load_timeouts), (0, 1));
        shelf.validate();
    });
}

/// An async leader is told as well, and its loader's future is dropped.
#[test]
fn timed_out_loader_is_dropped() {
    struct Flag(Arc<AtomicBool>);

    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    explore(|| {
        let (shelf, hand) = shelf();
        let is_dropped = Arc::new(AtomicBool::new(false));
        let leader = spawn({
            let (shelf, flag) = (shelf.clone(), Flag(Arc::clone(&is_dropped)));
            async move {
                let hung = || async move {
                    let _flag = flag;
                    std::future::pending::<Result<u64, Infallible>>().await
                };
                shelf.get_or_load_async(&KEY, hung).await
            }
        });
        until(|| shelf.flights() == 1);
        let follower = thread::spawn({
            let shelf = shelf.clone();
            move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2))
        });
        let mover = thread::spawn(move || advance(&hand));
        assert!(matches!(block_on(leader).unwrap(), Err(LoadError::TimedOut)));
        assert!(is_dropped.load(Ordering::SeqCst));
        let outcome = follower.join().unwrap();
        assert!(matches!(outcome, Ok(2) | Err(LoadError::TimedOut)), "{outcome:?}");
        mover.join().unwrap();
        assert_eq!(shelf.get(&KEY), outcome.ok());
        assert_eq!((shelf.flights(), shelf.stats().load_timeouts), (0, 1));
        shelf.validate();
    });
}

/// A load that lands as its time runs out is stored or timed out, for everybody or for nobody.
#[test]
fn landing_and_timeout_at_once() {
    explore(|| {
        let (shelf, hand) = shelf();
        let callers: Vec<_> = (0..2)
            .map(|n| {
                let shelf = shelf.clone();
                thread::spawn(move || {
                    let load = || {
                        thread::yield_now();
                        Ok::<_, Infallible>(n)
                    };
                    shelf.at(&KEY).load(|_| load())
                })
            })
            .collect();
        advance(&hand);
        for caller in callers {
            match caller.join().unwrap() {
                // what was stored is there for ever, and what was not is told apart
                Ok(got) if !got.fresh_for.is_zero() => {
                    assert_eq!(shelf.get(&KEY), Some(got.value));
                }
                Ok(_) | Err(LoadError::TimedOut) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}
