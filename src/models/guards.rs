//! The guards: a limited number of loads at a time, and one probe of a source that failed.

use super::explore::{draw, explore};
use super::futures::{Gate, impatient};
use super::setting::{Shelf, Source, builder};
use crate::{LoadError, ManualClock};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(10);
const OPEN_FOR: Duration = Duration::from_millis(20);

fn limited(loads: usize) -> (Shelf, ManualClock) {
    let (builder, hand) = builder();
    let builder = builder.max_entries(100).load_timeout(TIMEOUT).max_concurrent_loads(loads);
    (builder.build().unwrap(), hand)
}

fn ask(shelf: &Shelf, source: &Source, key: u32) -> thread::JoinHandle<u64> {
    let (shelf, source) = (shelf.clone(), source.clone());
    thread::spawn(move || shelf.get_or_load(&key, || Ok::<_, Infallible>(source.load())).unwrap())
}

async fn ask_async(shelf: Shelf, source: Source, key: u32) -> u64 {
    shelf.get_or_load_async(&key, || source.load_async()).await.unwrap()
}

/// Nobody is left behind or in line, and every slot is there again.
fn is_quiet(shelf: &Shelf, loads: u64) {
    assert_eq!((shelf.flights(), shelf.loads_in_line()), (0, 0));
    assert!(shelf.stats().loads >= loads);
    shelf.validate();
    // a slot that was lost would leave this one in line for ever
    assert_eq!(shelf.get_or_load(&99, || Ok::<_, Infallible>(9)).unwrap(), 9);
}

/// Threads and tasks, some of which lose their patience in line or in their loader.
fn keeps_to_the_limit(limit: usize) {
    explore(move || {
        let ((shelf, _hand), source) = (limited(limit), Source::default());
        let threads: Vec<_> = (1..=2).map(|key| ask(&shelf, &source, key)).collect();
        // one of them for a key of the threads, one for its own
        let fickle: Vec<_> = [2, 3]
            .into_iter()
            .map(|key| spawn(impatient(ask_async(shelf.clone(), source.clone(), key), draw(6))))
            .collect();
        let patient: Vec<_> = [3, 4]
            .into_iter()
            .map(|key| spawn(ask_async(shelf.clone(), source.clone(), key)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for task in patient {
            block_on(task).unwrap();
        }
        for task in fickle {
            block_on(task).unwrap();
        }
        assert!(source.most() <= limit as u64, "{} at once", source.most());
        assert_eq!(source.done(), 4, "each key once");
        is_quiet(&shelf, 4);
    });
}

#[test]
fn loads_keep_to_a_limit_of_one() {
    keeps_to_the_limit(1);
}

#[test]
fn loads_keep_to_a_limit_of_two() {
    keeps_to_the_limit(2);
}

/// The load that is waited for inside a load comes to the line before, while or after that.
#[test]
fn a_load_inside_a_load_does_not_wait_for_its_own_slot() {
    explore(|| {
        let ((shelf, _hand), source) = (limited(1), Source::default());
        let outer = |key, inner_key| {
            let (shelf, source) = (shelf.clone(), source.clone());
            thread::spawn(move || {
                let load = || {
                    thread::yield_now();
                    shelf.get_or_load(&inner_key, || Ok::<_, Infallible>(source.load()))
                };
                shelf.get_or_load(&key, load).unwrap()
            })
        };
        let outers = [outer(1, 3), outer(2, 3)];
        let inner = ask(&shelf, &source, 3);
        let task = spawn(ask_async(shelf.clone(), source.clone(), 4));
        let values: Vec<_> = outers.into_iter().map(|outer| outer.join().unwrap()).collect();
        assert_eq!(inner.join().unwrap(), values[0]);
        assert_eq!(values[0], values[1]);
        block_on(task).unwrap();
        is_quiet(&shelf, 4);
    });
}

/// A load hangs, and time passes while others are on their way into the line.
#[test]
fn a_hung_load_loses_its_slot_to_the_next() {
    explore(|| {
        let ((shelf, hand), source) = (limited(1), Source::default());
        let gate = Gate::default();
        let hung = thread::spawn({
            let (shelf, gate) = (shelf.clone(), gate.clone());
            move || {
                let load = || {
                    gate.pass();
                    Ok::<_, Infallible>(7)
                };
                shelf.get_or_load(&1, load).unwrap()
            }
        });
        while shelf.stats().loads == 0 {
            thread::yield_now();
        }
        let mover = thread::spawn(move || {
            hand.advance(TIMEOUT / 2);
            thread::yield_now();
            hand.advance(TIMEOUT / 2);
        });
        let next = ask(&shelf, &source, 2);
        let task = spawn({
            let (shelf, source) = (shelf.clone(), source.clone());
            async move { shelf.get_or_load_async(&3, || source.load_async()).await }
        });
        next.join().unwrap();
        // one that had decided to load, and then came to it only as time had passed, is late itself
        let outcome = block_on(task).unwrap();
        assert!(matches!(outcome, Ok(_) | Err(LoadError::TimedOut)), "{outcome:?}");
        mover.join().unwrap();
        assert_eq!(source.most(), 1);
        gate.open();
        assert_eq!(hung.join().unwrap(), 7);
        is_quiet(&shelf, 3);
    });
}

/// What was written while a load stood in line is what its callers get, or they load after it.
#[test]
fn a_write_while_a_load_is_in_line_is_seen() {
    explore(|| {
        let ((shelf, _hand), source) = (limited(1), Source::default());
        let others: Vec<_> = (2..4).map(|key| ask(&shelf, &source, key)).collect();
        let caller = thread::spawn({
            let shelf = shelf.clone();
            move || shelf.get_or_load(&1, || Ok::<_, Infallible>(100)).unwrap()
        });
        shelf.insert(1, 200);
        let value = caller.join().unwrap();
        assert!(value == 100 || value == 200);
        assert_eq!(shelf.get(&1), Some(200));
        for other in others {
            other.join().unwrap();
        }
        is_quiet(&shelf, 2);
    });
}

/// A caller that takes nothing stale gets in line; one that does is served it, whether it comes to
/// that load before it gets there, or in line. If it went on waiting, this would be a deadlock.
#[test]
fn who_can_be_served_stale_waits_for_nobody_in_line() {
    explore(|| {
        let (builder, hand) = builder();
        let ms = Duration::from_millis;
        let builder = builder.max_entries(100).time_to_live(ms(5)).stale_if_error(ms(1_000));
        let shelf: Shelf = builder.max_concurrent_loads(1).build().unwrap();
        shelf.insert(1, 10);
        hand.advance(ms(5));
        let gate = Gate::default();
        let holder = thread::spawn({
            let (shelf, gate) = (shelf.clone(), gate.clone());
            move || {
                let load = || {
                    gate.pass();
                    Ok::<_, Infallible>(0)
                };
                shelf.get_or_load(&2, load).unwrap()
            }
        });
        while shelf.stats().loads == 0 {
            thread::yield_now();
        }
        let strict = thread::spawn({
            let shelf = shelf.clone();
            move || shelf.at(&1).max_age(ms(1)).load(|_| Ok::<_, Infallible>(11)).unwrap().value
        });
        let load = || -> Result<u64, Infallible> { unreachable!("it is served stale") };
        let others = [
            thread::spawn({
                let shelf = shelf.clone();
                move || shelf.get_or_load(&1, load).unwrap()
            }),
            thread::spawn({
                let shelf = shelf.clone();
                move || {
                    let call = async { shelf.get_or_load_async(&1, || async { load() }).await };
                    block_on(call).unwrap()
                }
            }),
        ];
        for other in others {
            assert_eq!(other.join().unwrap(), 10);
        }
        gate.open();
        holder.join().unwrap();
        assert_eq!(strict.join().unwrap(), 11);
        is_quiet(&shelf, 2);
    });
}

type Outcome = Result<u64, LoadError<&'static str>>;

/// One failure opens it.
fn fragile() -> (Shelf, ManualClock) {
    let (builder, hand) = builder();
    let builder = builder.max_entries(100).load_timeout(TIMEOUT).circuit_breaker(1, OPEN_FOR);
    let shelf = builder.build().unwrap();
    let failed: Outcome = shelf.get_or_load(&0, || Err("away"));
    assert!(failed.is_err());
    (shelf, hand)
}

fn probe(shelf: &Shelf, source: &Source, key: u32) -> thread::JoinHandle<Outcome> {
    let (shelf, source) = (shelf.clone(), source.clone());
    thread::spawn(move || shelf.get_or_load(&key, || Ok(source.load())))
}

/// Time passes while callers come: while the breaker is not closed, one of them at most is at the
/// source, and none before its time.
#[test]
fn only_one_probes() {
    explore(|| {
        let ((shelf, hand), source) = (fragile(), Source::default());
        let failing = draw(2) == 0;
        hand.advance(OPEN_FOR - Duration::from_millis(1));
        assert!(matches!(probe(&shelf, &source, 1).join().unwrap(), Err(LoadError::CircuitOpen)));
        let mover = thread::spawn(move || hand.advance(Duration::from_millis(1)));
        let calls = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (1..=3)
            .map(|key| {
                let (shelf, source, calls) = (shelf.clone(), source.clone(), calls.clone());
                thread::spawn(move || {
                    let load = || {
                        let value = source.load();
                        calls.fetch_add(1, Ordering::SeqCst);
                        if failing { Err("away") } else { Ok(value) }
                    };
                    shelf.get_or_load(&key, load)
                })
            })
            .collect();
        let outcomes: Vec<Outcome> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        mover.join().unwrap();
        let calls = calls.load(Ordering::SeqCst);
        if failing {
            assert!(calls <= 1, "{calls} probes, and each one fails");
        } else if calls > 1 {
            // once the first had succeeded the others went through
            assert!(outcomes.iter().any(Result::is_ok));
        }
        let stopped = outcomes.iter().filter(|o| matches!(o, Err(LoadError::CircuitOpen))).count();
        assert_eq!(stopped as u64 + calls, 3);
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// A probe whose future is dropped, wherever it stands, leaves the probing to the next.
#[test]
fn a_dropped_probe_is_followed_by_another() {
    explore(|| {
        let ((shelf, hand), source) = (fragile(), Source::default());
        hand.advance(OPEN_FOR);
        let fickle: Vec<_> = (1..=3)
            .map(|key| {
                let (shelf, source) = (shelf.clone(), source.clone());
                let ask = async move {
                    let load = || async { source.load_async().await.map_err(|_| "never") };
                    let outcome: Outcome = shelf.get_or_load_async(&key, load).await;
                    outcome
                };
                spawn(impatient(ask, 1 + draw(2)))
            })
            .collect();
        let thread = probe(&shelf, &source, 4);
        for task in fickle {
            let outcome = block_on(task).unwrap();
            assert!(matches!(outcome, None | Some(Ok(_) | Err(LoadError::CircuitOpen))));
        }
        let outcome = thread.join().unwrap();
        assert!(matches!(outcome, Ok(_) | Err(LoadError::CircuitOpen)));
        // whoever was dropped has left nothing that would stop this one
        assert!(probe(&shelf, &source, 5).join().unwrap().is_ok());
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}
