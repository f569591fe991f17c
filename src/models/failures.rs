//! What waiters get when a load brings no value.

use super::explore::explore;
use super::setting::{KEY, Moments, Shelf, shelf};
use crate::LoadError;
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FOLLOWERS: u64 = 3;

/// Fails when all the others wait for it; the number tells whose failure it was.
fn fail(shelf: &Shelf, loads: &AtomicU64) -> Result<u64, u64> {
    let load = loads.fetch_add(1, Ordering::SeqCst);
    while shelf.stats().joined < FOLLOWERS {
        thread::yield_now();
    }
    Err(load)
}

fn error(result: Result<u64, LoadError<u64>>) -> Arc<u64> {
    match result {
        Err(LoadError::Loader(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// `FusionCache`, bentocache, quick-cache: with a lock around the load, those who wait run their own
/// failing loads one after the other.
#[test]
fn all_who_wait_get_the_same_error() {
    explore(|| {
        let (shelf, loads) = (shelf(), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, loads) = (shelf.clone(), Arc::clone(&loads));
                thread::spawn(move || error(shelf.get_or_load(&KEY, || fail(&shelf, &loads))))
            })
            .collect();
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, loads) = (shelf.clone(), Arc::clone(&loads));
                spawn(async move {
                    let load = || async {
                        let load = loads.fetch_add(1, Ordering::SeqCst);
                        while shelf.stats().joined < FOLLOWERS {
                            shuttle::future::yield_now().await;
                        }
                        Err(load)
                    };
                    error(shelf.get_or_load_async(&KEY, load).await)
                })
            })
            .collect();
        let mut errors: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        errors.extend(tasks.into_iter().map(|task| block_on(task).unwrap()));
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])), "{errors:?}");
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert_eq!((shelf.flights(), shelf.len()), (0, 0));
    });
}

/// One call's moments, and the loads that it led and got the failure of.
struct CallRecord {
    called: u64,
    led: Option<u64>,
    got: u64,
    returned: u64,
}

/// Nobody gets a failure that is older than the call, or one that he has been told of already; and
/// nobody leads after he has waited.
#[test]
fn a_failure_is_that_of_a_load_one_waited_for() {
    explore(|| {
        let (shelf, moments) = (shelf(), Moments::default());
        let call = |shelf: &Shelf, moments: &Moments| {
            let called = moments.next();
            let mut led = None;
            let result = shelf.get_or_load(&KEY, || {
                let load = moments.next();
                led = Some(load);
                thread::yield_now();
                Err::<u64, _>(load)
            });
            CallRecord { called, led, got: *error(result), returned: moments.next() }
        };
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, moments) = (shelf.clone(), moments.clone());
                thread::spawn(move || {
                    let calls = [call(&shelf, &moments), call(&shelf, &moments)];
                    assert_ne!(calls[0].got, calls[1].got, "the key is loadable at once");
                    calls
                })
            })
            .collect();
        let calls: Vec<_> = callers.into_iter().flat_map(|t| t.join().unwrap()).collect();
        for call in &calls {
            let leader = calls.iter().find(|other| other.led == Some(call.got)).unwrap();
            assert!(call.called < leader.returned, "it was over when the call came");
            assert!(call.led.is_none_or(|load| call.got == load), "who led has his own");
        }
        let led = calls.iter().filter(|call| call.led.is_some()).count();
        assert_eq!(led as u64, shelf.stats().loads);
        assert_eq!((shelf.flights(), shelf.len()), (0, 0));
    });
}

/// moka #43, groupcache #38: those who waited are told, and the key is loadable.
#[test]
fn all_who_wait_are_told_of_a_panic() {
    explore(|| {
        let (shelf, loads) = (shelf(), Arc::new(AtomicU64::new(0)));
        let panicked = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..=FOLLOWERS)
            .map(|n| {
                let (shelf, loads) = (shelf.clone(), Arc::clone(&loads));
                let panicked = Arc::clone(&panicked);
                let load = {
                    let shelf = shelf.clone();
                    // with no word to the panic hook, which would print a schedule each time
                    move || -> Result<u64, u64> { resume_unwind(Box::new(fail(&shelf, &loads))) }
                };
                thread::spawn(move || {
                    let call = || match n % 2 {
                        0 => shelf.get_or_load(&KEY, load),
                        _ => block_on(shelf.get_or_load_async(&KEY, || async { load() })),
                    };
                    match catch_unwind(AssertUnwindSafe(call)) {
                        Err(_) => panicked.fetch_add(1, Ordering::SeqCst),
                        Ok(Err(LoadError::Panicked)) => 0,
                        Ok(other) => panic!("{other:?}"),
                    };
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!((loads.load(Ordering::SeqCst), panicked.load(Ordering::SeqCst)), (1, 1));
        assert_eq!((shelf.flights(), shelf.len()), (0, 0));
        assert_eq!(shelf.get_or_load(&KEY, || Ok::<_, u64>(9)).unwrap(), 9);
        shelf.validate();
    });
}
