//! Values past their lives, while threads and tasks read them, write them and load their successors.

use super::explore::{draw, explore};
use super::futures::Gate;
use super::setting::{KEY, Shelf, Source, builder};
use crate::{CacheBuilder, How, LoadError, Loaded, ManualClock, StaleWhy};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const TTL: Duration = Duration::from_millis(10);

type Configure = fn(
    CacheBuilder<u32, u64, super::setting::Fixed>,
) -> CacheBuilder<u32, u64, super::setting::Fixed>;

/// A cache whose value of the key, which is 100, has just come to the end of its life.
fn stale(settings: Configure) -> (Shelf, ManualClock) {
    let (builder, hand) = builder();
    let shelf = settings(builder.max_entries(100).time_to_live(TTL)).build().unwrap();
    shelf.insert(KEY, 100);
    hand.advance(TTL);
    (shelf, hand)
}

/// Whoever comes while one reloads does not wait, and nobody else loads.
#[test]
fn one_revalidates_and_the_others_are_served() {
    explore(|| {
        let (shelf, _hand) = stale(|builder| builder.stale_while_revalidate(MS * 10));
        let source = Source::default();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, source) = (shelf.clone(), source.clone());
                thread::spawn(move || {
                    let got = shelf.at(&KEY).load(|_| Ok::<_, String>(source.load())).unwrap();
                    (got.value, got.how)
                })
            })
            .collect();
        let task = spawn({
            let (shelf, source) = (shelf.clone(), source.clone());
            async move {
                let got = shelf.at(&KEY).load_async(|_| source.load_async()).await.unwrap();
                (got.value, got.how)
            }
        });
        let mut got: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        got.push(block_on(task).unwrap());
        assert_eq!(source.begun(), 1);
        assert_eq!(got.iter().filter(|got| **got == (1, How::Loaded)).count(), 1, "{got:?}");
        for got in got {
            let stale = (100, How::Stale(StaleWhy::Revalidating));
            // no `Joined`: nobody waits
            assert!([stale, (1, How::Loaded), (1, How::Fresh)].contains(&got), "{got:?}");
        }
        let stats = shelf.stats();
        assert_eq!(stats.hits + stats.stale_hits + stats.misses, 3);
        assert_eq!((shelf.get(&KEY), shelf.flights()), (Some(1), 0));
        shelf.validate();
    });
}

/// Once `remove` has returned, nobody who comes then is served what was removed: not stale, and not
/// for an error.
#[test]
fn removed_is_never_served_stale() {
    explore(|| {
        let (shelf, _hand) = stale(|builder| {
            builder.stale_while_revalidate(MS * draw(2) as u32 * 5).stale_if_error(MS * 10)
        });
        let is_removed = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, is_removed) = (shelf.clone(), Arc::clone(&is_removed));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let was_removed = is_removed.load(Ordering::SeqCst);
                        let got = shelf.get_or_load(&KEY, || {
                            thread::yield_now();
                            Err::<u64, _>("away")
                        });
                        match got {
                            Ok(value) => assert!(value == 100 && !was_removed, "it was removed"),
                            Err(error) => assert!(error.loader().is_some()),
                        }
                    }
                })
            })
            .collect();
        assert_eq!(shelf.remove(&KEY), None, "it was not fresh");
        is_removed.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!((shelf.len(), shelf.flights()), (0, 0));
        shelf.validate();
    });
}

/// In the error-only window a failed load is one load for all, and all are served the old value.
#[test]
fn a_failed_load_serves_all_who_waited() {
    explore(|| {
        let (shelf, _hand) = stale(|builder| builder.stale_if_error(MS * 10));
        let loads = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, loads) = (shelf.clone(), Arc::clone(&loads));
                thread::spawn(move || {
                    let fail = || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        Err::<u64, _>("away")
                    };
                    shelf.at(&KEY).load(|_| fail()).unwrap()
                })
            })
            .collect();
        for thread in threads {
            let got = thread.join().unwrap();
            assert_eq!(got.value, 100);
            let served = [StaleWhy::LoadFailed, StaleWhy::BackOff].map(How::Stale);
            assert!(served.contains(&got.how), "{got:?}");
        }
        // whoever came after the failure was held back: the clock stands still
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        let stats = shelf.stats();
        assert_eq!((stats.stale_hits, stats.misses, stats.load_failures), (3, 0, 1));
        shelf.validate();
    });
}

/// Windows end for good, and a clock that is moved while callers are on their way moves no end.
#[test]
fn the_end_of_the_windows_is_a_hard_one() {
    explore(|| {
        let (shelf, hand) =
            stale(|builder| builder.stale_while_revalidate(MS).stale_if_error(MS * 2));
        let is_over = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, is_over) = (shelf.clone(), Arc::clone(&is_over));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let was_over = is_over.load(Ordering::SeqCst);
                        let served = shelf.get_or_load(&KEY, || Err::<u64, _>("away")).is_ok();
                        assert!(!(was_over && served), "served after the last window");
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            hand.advance(MS);
            thread::yield_now();
        }
        is_over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(shelf.sweep(), 1);
        shelf.validate();
    });
}

/// Of a source that fails as long as it is asked, an explicit back-off lets one load through, and
/// the others are told its error, as the same one.
#[test]
fn a_failure_is_asked_for_once() {
    explore(|| {
        let (builder, _hand) = builder();
        let shelf: Shelf = builder
            .max_entries(100)
            .error_backoff(Duration::from_secs(1), Duration::from_secs(1))
            .build()
            .unwrap();
        let loads = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, loads) = (shelf.clone(), Arc::clone(&loads));
                thread::spawn(move || {
                    let fail = || {
                        thread::yield_now();
                        Err::<u64, _>(loads.fetch_add(1, Ordering::SeqCst))
                    };
                    match shelf.get_or_load(&KEY, fail).unwrap_err() {
                        LoadError::Loader(error) => error,
                        other => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        let errors: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])), "{errors:?}");
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        // a write ends it
        shelf.remove(&KEY);
        assert_eq!(shelf.get_or_load(&KEY, || Ok::<_, u64>(1)).unwrap(), 1);
        shelf.validate();
    });
}

/// A source that hangs: waiters are freed at the soft timeout, each kind without another's help.
#[test]
fn the_soft_timeout_frees_those_who_wait() {
    explore(|| {
        let (shelf, hand) = stale(|builder| builder.stale_if_error(MS * 100).soft_timeout(MS * 5));
        let gate = Gate::default();
        let leader = thread::spawn({
            let (shelf, gate) = (shelf.clone(), gate.clone());
            move || {
                shelf.get_or_load(&KEY, || {
                    gate.pass();
                    Ok::<_, String>(1)
                })
            }
        });
        while shelf.flights() == 0 {
            thread::yield_now();
        }
        let is_thread = draw(2) == 0;
        let served = if is_thread {
            let shelf = shelf.clone();
            let waits = move || shelf.at(&KEY).load(|_| Err::<u64, _>("one load a key".to_owned()));
            let waits = thread::spawn(waits);
            thread::yield_now();
            hand.advance(MS * 5);
            waits.join().unwrap()
        } else {
            let shelf = shelf.clone();
            let waits = spawn(async move {
                let load = |_| async { Err::<u64, _>("one load a key".to_owned()) };
                shelf.at(&KEY).load_async(load).await
            });
            thread::yield_now();
            hand.advance(MS * 5);
            block_on(waits).unwrap()
        };
        let got = served.unwrap();
        assert_eq!((got.value, got.how), (100, How::Stale(StaleWhy::SoftTimeout)));
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 1);
        assert_eq!(shelf.get(&KEY), Some(1), "the load went on");
        shelf.validate();
    });
}

/// Forced callers each get what was loaded after they came, and share it where they can.
#[test]
fn a_forced_caller_gets_nothing_older_than_its_call() {
    explore(|| {
        let (shelf, _hand) = stale(|builder| builder.stale_if_error(MS * 10));
        let source = Source::default();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, source) = (shelf.clone(), source.clone());
                thread::spawn(move || {
                    let before = source.begun();
                    let got = shelf.at(&KEY).force().load(|_| Ok::<_, String>(source.load()));
                    // loads bring their own number
                    assert!(got.unwrap().value > before, "it began before the call");
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(source.begun() <= 3);
        assert_eq!(shelf.flights(), 0);
        let got = shelf.get(&KEY);
        assert!(got.is_none_or(|value| value <= source.begun()), "{got:?}");
        shelf.validate();
    });
}

/// A loader's `unchanged` renews the value that it was shown, or none: what is written meanwhile
/// stays as it is, with a life of its own.
#[test]
fn unchanged_does_not_renew_what_came_meanwhile() {
    explore(|| {
        let (shelf, hand) = stale(|builder| builder.stale_if_error(MS * 10));
        let loads = thread::spawn({
            let shelf = shelf.clone();
            move || {
                shelf.at(&KEY).load(|cx| {
                    thread::yield_now();
                    Ok::<_, String>(match cx.stale() {
                        Some(_) => Loaded::unchanged(),
                        None => Loaded::new(1),
                    })
                })
            }
        });
        let writes = thread::spawn({
            let shelf = shelf.clone();
            move || match draw(2) {
                0 => shelf.at(&KEY).ttl(MS).insert(200),
                _ => drop(shelf.remove(&KEY)),
            }
        });
        let got = loads.join().unwrap().unwrap();
        writes.join().unwrap();
        hand.advance(MS);
        let now = shelf.peek(&KEY).filter(|got| got.how == How::Fresh);
        if let Some(now) = now {
            // it was loaded after the write, or the write came after it
            assert_ne!(now.value, 200, "its life was a millisecond");
            assert!(got.value == now.value && !got.fresh_for.is_zero(), "{got:?} {now:?}");
        }
        shelf.validate();
    });
}
