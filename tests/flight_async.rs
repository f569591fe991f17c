//! One load a key: tasks that wait for each other's loads, polled by hand.

mod common;

use common::gate::Gate;
use common::tasks::{Task, Wakes, block_on};
use common::{checked, ms, secs, uncalled, with_cache};
use larder::{Cache, Clock, How, LoadError, Loaded};
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Instant;

#[test]
fn tasks_that_miss_one_key_share_one_load() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load =
                || it.at(&1).load_async(|_| async { Ok::<_, String>(gate.pass_async(10).await) });
            let mut tasks: Vec<_> = (0..8).map(|_| Task::new(load())).collect();
            tasks.iter_mut().for_each(Task::pend);
            assert_eq!((gate.entered(), it.stats().joined), (1, 7));
            gate.open();
            assert_eq!(tasks[0].finish().unwrap().how, How::Loaded);
            for task in &mut tasks[1..] {
                assert_eq!(task.wakes(), 1);
                let got = task.finish().unwrap();
                assert_eq!((got.value, got.how), (10, How::Joined));
            }
            assert_eq!((it.get(&1), it.stats().loads), (Some(10), 1));
        },
    );
}

#[test]
fn tasks_that_wait_for_a_failure_get_the_same_error() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let fail = || async { gate.pass_async(Err::<u64, _>("away".to_owned())).await };
            let mut tasks: Vec<_> =
                (0..8).map(|_| Task::new(it.get_or_load_async(&1, fail))).collect();
            tasks.iter_mut().for_each(Task::pend);
            let mut other = Task::new(it.get_or_load_async(&1, || ready(Err::<u64, u32>(7))));
            other.pend();
            gate.open();
            let errors: Vec<_> = tasks.iter_mut().map(|task| task.finish().unwrap_err()).collect();
            let LoadError::Loader(first) = &errors[0] else { panic!("{:?}", errors[0]) };
            for error in &errors {
                assert!(matches!(error, LoadError::Loader(same) if Arc::ptr_eq(same, first)));
            }
            assert_eq!(gate.entered(), 1);
            assert_eq!(other.finish().unwrap_err().loader(), Some(&7), "looks again, and leads");
        },
    );
}

#[test]
fn a_future_that_was_never_polled_does_nothing() {
    with_cache(
        |builder| builder,
        |it| {
            drop(it.get_or_load_async(&1, || ready(uncalled())));
            assert_eq!((it.flights(), it.stats().loads, it.stats().misses), (0, 0, 0));
        },
    );
}

#[test]
fn a_dropped_leader_hands_its_key_to_one_who_waits() {
    with_cache(
        |builder| builder,
        |it| {
            let second = Gate::new();
            let mut leader = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            leader.pend();
            let load = || async { Ok::<_, String>(second.pass_async(20).await) };
            let mut waiters: Vec<_> =
                (0..3).map(|_| Task::new(it.get_or_load_async(&1, load))).collect();
            waiters.iter_mut().for_each(Task::pend);
            drop(leader);
            assert!(waiters.iter().all(|waiter| waiter.wakes() == 1));
            waiters.iter_mut().for_each(Task::pend);
            assert_eq!((second.entered(), it.flights()), (1, 1), "one of them leads");
            second.open();
            for waiter in &mut waiters {
                assert_eq!(waiter.finish().unwrap(), 20);
            }
            assert_eq!((it.stats().loads, it.stats().joined), (2, 3));
        },
    );
}

#[test]
fn a_dropped_leader_hands_its_key_to_a_thread_that_waits() {
    with_cache(
        |builder| builder,
        |it| {
            let mut leader = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            leader.pend();
            thread::scope(|scope| {
                let waiter = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(20)));
                it.wait_until_joined(1);
                drop(leader);
                assert_eq!(waiter.join().unwrap().unwrap(), 20);
            });
            assert_eq!((it.get(&1), it.stats().loads), (Some(20), 2));
        },
    );
}

#[test]
fn a_leader_dropped_at_any_await_leaves_no_trace() {
    with_cache(
        |builder| builder,
        |it| {
            for polls in 1..6 {
                let mut steps = 0;
                let mut leader = Task::new(it.get_or_load_async(&polls, || {
                    poll_fn(move |task| {
                        steps += 1;
                        task.waker().wake_by_ref();
                        if steps < 6 { Poll::Pending } else { Poll::Ready(Ok::<_, String>(10)) }
                    })
                }));
                (0..polls).for_each(|_| leader.pend());
                assert_eq!(it.flights(), 1);
                drop(leader);
                assert_eq!((it.flights(), it.len()), (0, 0), "dropped after {polls} polls");
                assert_eq!(it.get_or_load(&polls, || Ok::<_, String>(polls)).unwrap(), polls);
                it.remove(&polls);
            }
            assert_eq!(it.stats().load_failures, 0, "nothing failed");
        },
    );
}

#[test]
fn a_dropped_waiter_touches_nobody() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            let mut leader = Task::new(it.get_or_load_async(&1, load));
            leader.pend();
            let waiter = || Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            let (mut gone, mut stays) = (waiter(), waiter());
            gone.pend();
            stays.pend();
            drop(gone);
            assert_eq!((leader.wakes(), stays.wakes(), it.flights()), (0, 0, 1));
            gate.open();
            assert_eq!((leader.finish().unwrap(), stays.finish().unwrap()), (10, 10));
        },
    );
}

#[test]
fn a_waiter_polled_with_another_waker_is_woken_through_that_one() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            let mut leader = Task::new(it.get_or_load_async(&1, load));
            leader.pend();
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            let (old, new) = (Wakes::new(), Wakes::new());
            assert!(waiter.poll_with(&Waker::from(Arc::clone(&old))).is_pending());
            assert!(waiter.poll_with(&Waker::from(Arc::clone(&new))).is_pending());
            gate.open();
            leader.finish().unwrap();
            assert_eq!((old.count(), new.count()), (0, 1));
            assert_eq!(waiter.finish().unwrap(), 10);
        },
    );
}

#[test]
fn a_waiter_polled_with_another_waker_is_timed_out_through_that_one() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let mut leader = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            leader.pend();
            let (old, new) = (Wakes::new(), Wakes::new());
            for wakes in [&old, &new] {
                assert!(leader.poll_with(&Waker::from(Arc::clone(wakes))).is_pending());
                assert!(waiter.poll_with(&Waker::from(Arc::clone(wakes))).is_pending());
            }
            it.advance(secs(5));
            assert_eq!((old.count(), new.count()), (0, 2));
            assert!(waiter.finish().unwrap_err().is_timeout());
            assert!(leader.finish().unwrap_err().is_timeout());
        },
    );
}

#[test]
fn at_its_timeout_an_async_load_is_dropped_and_everybody_told() {
    struct Told<'a>(&'a AtomicUsize);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let dropped = AtomicUsize::new(0);
            let mut leader = Task::new(it.get_or_load_async(&1, || async {
                let _told = Told(&dropped);
                pending::<Result<u64, String>>().await
            }));
            leader.pend();
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            waiter.pend();
            it.advance(ms(4_999));
            leader.pend();
            waiter.pend();
            assert_eq!((leader.wakes(), waiter.wakes()), (0, 0));
            it.advance(ms(1));
            assert!(leader.wakes() >= 1 && waiter.wakes() >= 1);
            assert!(leader.finish().unwrap_err().is_timeout());
            assert_eq!(dropped.load(SeqCst), 1, "the loader's future is gone");
            assert!(waiter.finish().unwrap_err().is_timeout());
            let stats = it.stats();
            assert_eq!((it.flights(), stats.load_timeouts, stats.load_failures), (0, 1, 0));
        },
    );
}

#[test]
fn a_leader_that_lives_and_is_not_polled_loses_the_key_at_the_timeout() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let gate = Gate::new();
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            let mut sleeper = Task::new(it.get_or_load_async(&1, load));
            sleeper.pend();
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            waiter.pend();
            gate.open();
            it.advance(secs(5));
            // nobody polls the leader, neither for its gate nor for its timeout
            assert!(waiter.finish().unwrap_err().is_timeout());
            let next = it.get_or_load_async(&1, || ready(Ok::<_, String>(20)));
            assert_eq!(block_on(next).unwrap(), 20);
            let own = sleeper.finish();
            assert!(matches!(own, Ok(10) | Err(LoadError::TimedOut)), "its own, or too late");
            assert_eq!((it.get(&1), it.stats().load_timeouts), (Some(20), 1));
        },
    );
}

#[test]
fn an_async_load_that_lost_its_key_is_not_stored() {
    with_cache(
        |builder| builder,
        |it| {
            for write in [
                &(|| it.insert(1, 30)) as &dyn Fn(),
                &|| assert_eq!(it.remove(&1), None),
                &|| assert!(!it.expire(&1)),
                &|| it.clear(),
                &|| assert_eq!(it.remove_if(|_, _| false), 0),
            ] {
                it.clear();
                let gate = Gate::new();
                let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
                let mut leader = Task::new(it.get_or_load_async(&1, load));
                let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
                leader.pend();
                waiter.pend();
                write();
                let left = it.get(&1);
                gate.open();
                assert_eq!((leader.finish().unwrap(), waiter.finish().unwrap()), (10, 10));
                assert_eq!(it.get(&1), left);
            }
            assert_eq!(it.stats().fenced, 5);
        },
    );
}

#[test]
fn a_dropped_leader_that_lost_its_key_leaves_the_newer_load_alone() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let mut old = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            old.pend();
            it.remove(&1);
            let load = || async { Ok::<_, String>(gate.pass_async(20).await) };
            let mut new = Task::new(it.get_or_load_async(&1, load));
            new.pend();
            drop(old);
            assert_eq!(it.flights(), 1);
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            waiter.pend();
            gate.open();
            assert_eq!((new.finish().unwrap(), waiter.finish().unwrap()), (20, 20));
            assert_eq!(it.get(&1), Some(20));
        },
    );
}

#[test]
fn a_panic_in_any_poll_is_told_to_who_waits_and_frees_the_key() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async {
                gate.pass_async(()).await;
                panic!("expected: a loader's")
            };
            let mut leader = Task::new(it.get_or_load_async::<_, String, _, _>(&1, load));
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            let mut maker = Task::new(it.get_or_insert_with_async(&1, || ready(30)));
            leader.pend();
            waiter.pend();
            maker.pend();
            gate.open();
            catch_unwind(AssertUnwindSafe(|| leader.poll())).unwrap_err();
            assert!(waiter.finish().unwrap_err().is_panic());
            assert_eq!(maker.finish(), 30);

            let start =
                || -> std::future::Ready<Result<u64, String>> { panic!("expected: before") };
            let mut leader = Task::new(it.get_or_load_async(&2, start));
            catch_unwind(AssertUnwindSafe(|| leader.poll())).unwrap_err();
            assert_eq!(it.flights(), 0);
            assert_eq!(it.get_or_load(&2, || Ok::<_, String>(20)).unwrap(), 20);
        },
    );
}

#[test]
fn so_is_one_where_its_result_is_converted() {
    struct Odd;

    impl From<Odd> for Loaded<u64> {
        fn from(_: Odd) -> Self {
            panic!("expected: a result of the user's own")
        }
    }

    let it = checked(Cache::<u64, u64>::builder().max_entries(100));
    let gate = Gate::new();
    let load = |_| gate.pass_async(Ok::<_, String>(Odd));
    let mut leader = Task::new(it.at(&1).load_async(load));
    let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
    leader.pend();
    waiter.pend();
    gate.open();
    catch_unwind(AssertUnwindSafe(|| leader.poll())).unwrap_err();
    assert!(waiter.finish().unwrap_err().is_panic());
    assert_eq!((it.stats().load_failures, it.stats().abandoned), (1, 0));
}

#[test]
fn an_async_loader_that_asks_for_its_own_key_is_told_so() {
    with_cache(
        |builder| builder.shards(1),
        |it| {
            let value = block_on(it.get_or_load_async(&1, || async {
                let own = it.get_or_load_async(&1, || ready(uncalled())).await;
                assert!(own.unwrap_err().is_recursive());
                assert!(it.get_or_load(&1, uncalled).unwrap_err().is_recursive());
                assert_eq!(it.get_or_insert_with_async(&1, || ready(5)).await, 5);
                let two = it.get_or_load_async(&2, || async {
                    let ring = it.get_or_load_async(&1, || ready(uncalled())).await;
                    assert!(ring.unwrap_err().is_recursive());
                    Ok::<_, String>(2)
                });
                Ok::<_, String>(two.await.unwrap() + 8)
            }));
            assert_eq!(value.unwrap(), 10);
            assert_eq!((it.get(&1), it.get(&2)), (Some(10), Some(2)));
        },
    );
}

#[test]
fn a_task_of_its_own_is_not_taken_for_the_loader() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            let mut leader = Task::new(it.get_or_load_async(&1, load));
            leader.pend();
            // on the same thread, between two polls of the loader
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            waiter.pend();
            gate.open();
            assert_eq!((leader.finish().unwrap(), waiter.finish().unwrap()), (10, 10));
        },
    );
}

/// A load that is given up is neither a failure nor a timeout, and is counted all the same.
#[test]
fn loads_that_are_dropped_before_they_are_done_are_counted() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(100).clock(clock);
    let it = checked(builder.load_timeout(ms(100)).circuit_breaker(1, ms(50)));
    let gate = Gate::new();
    let never = || gate.pass_async(Ok::<_, String>(1));
    let abandoned = || it.stats().abandoned;

    let mut dropped = Task::new(it.get_or_load_async(&1, never));
    dropped.pend();
    drop(dropped);
    assert_eq!(abandoned(), 1);
    // one that was not begun, and one that only waited
    drop(Task::new(it.get_or_load_async(&1, never)));
    let mut leads = Task::new(it.get_or_load_async(&1, never));
    leads.pend();
    let mut waits = Task::new(it.get_or_load_async(&1, never));
    waits.pend();
    drop(waits);
    assert_eq!(abandoned(), 1);
    drop(leads);
    assert_eq!(abandoned(), 2);

    let mut impatient = Task::new(it.at(&1).timeout(ms(10)).load_async(|_| never()));
    impatient.pend();
    hand.advance(ms(10));
    assert!(impatient.finish().unwrap_err().is_timeout());
    assert_eq!(abandoned(), 3);
    let mut many = Task::new(it.get_or_load_many_async(&[1, 2], |keys| {
        gate.pass_async(Ok::<_, String>(keys.into_iter().map(|key| (key, key)).collect::<Vec<_>>()))
    }));
    many.pend();
    drop(many);
    assert_eq!(abandoned(), 4, "one call of the loader");

    let mut late = Task::new(it.get_or_load_async(&1, never));
    late.pend();
    hand.advance(ms(100));
    assert!(late.finish().unwrap_err().is_timeout());
    hand.advance(ms(50));
    gate.open();
    assert_eq!(block_on(it.get_or_load_async(&1, never)).unwrap(), 1);
    let stats = it.stats();
    assert_eq!((stats.abandoned, stats.load_timeouts, stats.load_failures), (4, 1, 0));
}

/// The clock that caches go by lags some milliseconds behind, and a load's time is measured by it.
#[test]
fn a_load_has_all_of_its_time() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(10).load_timeout(ms(15)));
    for _ in 0..20 {
        let begun = Instant::now();
        let load = cache.get_or_load_async(&1, pending::<Result<u64, String>>);
        assert!(block_on(load).unwrap_err().is_timeout());
        assert!(begun.elapsed() >= ms(15), "after {:?}", begun.elapsed());
    }
}
