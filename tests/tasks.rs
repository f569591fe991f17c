//! Threads and tasks of a real runtime together, and what wakers may do.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{checked, ms, secs, uncalled, with_cache};
use larder::{Cache, Clock, LoadCx, LoadError};
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::thread;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

#[test]
fn sixty_four_threads_and_tasks_share_one_load() {
    for leader_is_a_task in [false, true] {
        let cache = checked(Cache::<u64, u64>::builder().max_entries(100));
        let (gate, calls, runtime) = (Gate::new(), Arc::new(AtomicUsize::new(0)), runtime());
        let thread = || {
            let (cache, gate, calls) = (Cache::clone(&cache), gate.clone(), Arc::clone(&calls));
            thread::spawn(move || {
                cache.get_or_load(&1, || {
                    calls.fetch_add(1, SeqCst);
                    Ok::<_, String>(gate.pass(10))
                })
            })
        };
        let task = || {
            let (cache, gate, calls) = (Cache::clone(&cache), gate.clone(), Arc::clone(&calls));
            runtime.spawn(async move {
                let load = || async {
                    calls.fetch_add(1, SeqCst);
                    Ok::<_, String>(gate.pass_async(10).await)
                };
                cache.get_or_load_async(&1, load).await
            })
        };
        let (mut threads, mut tasks) = (Vec::new(), Vec::new());
        if leader_is_a_task {
            tasks.push(task());
        } else {
            threads.push(thread());
        }
        gate.wait_until_entered(1);
        while threads.len() < 32 {
            threads.push(thread());
        }
        while tasks.len() < 32 {
            tasks.push(task());
        }
        cache.wait_until_joined(63);
        gate.open();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap(), 10);
        }
        for task in tasks {
            assert_eq!(runtime.block_on(task).unwrap().unwrap(), 10);
        }
        assert_eq!((calls.load(SeqCst), cache.stats().loads), (1, 1));
    }
}

#[test]
fn aborted_tasks_hand_over_until_one_loads() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100));
    let (gate, runtime) = (Gate::new(), runtime());
    let spawn = |gate: Gate| {
        let cache = Cache::clone(&cache);
        runtime.spawn(async move {
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            cache.get_or_load_async(&1, load).await
        })
    };
    let mut leader = spawn(gate.clone());
    gate.wait_until_entered(1);
    for round in 1..20 {
        let next = spawn(gate.clone());
        cache.wait_until_joined(round);
        leader.abort();
        assert!(runtime.block_on(leader).unwrap_err().is_cancelled());
        gate.wait_until_entered(usize::try_from(round).unwrap() + 1);
        leader = next;
    }
    gate.open();
    assert_eq!(runtime.block_on(leader).unwrap().unwrap(), 10);
    assert_eq!(cache.stats().loads, 20);
}

#[test]
fn a_runtime_that_is_shut_down_with_loads_in_flight_leaves_no_trace() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100).shards(1));
    let (gate, runtime) = (Gate::new(), runtime());
    for key in [1, 1, 1, 2, 2, 2] {
        let (cache, gate) = (Cache::clone(&cache), gate.clone());
        runtime.spawn(async move {
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            cache.get_or_load_async(&key, load).await
        });
    }
    gate.wait_until_entered(2);
    cache.wait_until_joined(4);
    // tasks are dropped one by one, each hands its key to one that is dropped next
    drop(runtime);
    assert_eq!((cache.flights(), cache.len()), (0, 0));
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(20)).unwrap(), 20);
}

#[test]
fn a_waker_may_use_the_cache_when_it_is_called_and_when_it_is_dropped() {
    struct Meddling(Cache<u64, u64>, AtomicBool);
    impl Wake for Meddling {
        fn wake(self: Arc<Self>) {
            self.0.insert(2, 20);
            self.0.remove(&1);
            self.1.store(true, SeqCst);
        }
    }
    impl Drop for Meddling {
        fn drop(&mut self) {
            self.0.insert(3, 30);
            self.0.flights();
        }
    }
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(100).shards(1);
    let cache = checked(builder.clock(clock).load_timeout(secs(5)));
    let meddling = || Arc::new(Meddling(Cache::clone(&cache), AtomicBool::new(false)));

    for ends_by_timeout in [false, true] {
        let gate = Gate::new();
        let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
        let mut leader = Task::new(cache.get_or_load_async(&1, load));
        leader.pend();
        let (first, second) = (meddling(), meddling());
        let mut waiter = Task::new(cache.get_or_load_async(&1, || ready(uncalled())));
        assert!(waiter.poll_with(&Waker::from(Arc::clone(&first))).is_pending());
        let swapped = Arc::downgrade(&first);
        drop(first);
        assert!(waiter.poll_with(&Waker::from(Arc::clone(&second))).is_pending());
        assert!(swapped.upgrade().is_none(), "the cache keeps the last waker only");
        let mut gone = Task::new(cache.get_or_load_async(&1, || ready(uncalled())));
        assert!(gone.poll_with(&Waker::from(meddling())).is_pending());
        drop(gone);
        if ends_by_timeout {
            hand.advance(secs(5));
            assert!(waiter.finish().unwrap_err().is_timeout());
            drop(leader);
        } else {
            gate.open();
            assert_eq!(leader.finish().unwrap(), 10);
            assert_eq!(waiter.finish().unwrap(), 10);
        }
        assert!(second.1.load(SeqCst), "woken");
        assert_eq!(cache.get(&1), None, "a waker took it out");
    }
    cache.clear();
}

#[test]
fn a_waker_that_panics_leaves_nobody_else_asleep() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("expected: a waker's");
        }
    }
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async { Ok::<_, String>(gate.pass_async(10).await) };
            let mut leader = Task::new(it.get_or_load_async(&1, load));
            leader.pend();
            let mut bad = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            assert!(bad.poll_with(&Waker::from(Arc::new(Panicking))).is_pending());
            let mut good = Task::new(it.get_or_load_async(&1, || ready(uncalled())));
            good.pend();
            gate.open();
            assert_eq!(leader.finish().unwrap(), 10);
            assert_eq!((good.wakes(), good.finish().unwrap(), bad.finish().unwrap()), (1, 10, 10));
        },
    );
}

#[test]
fn a_load_with_a_system_clock_times_out_by_itself() {
    let builder = Cache::<u64, u64>::builder().max_entries(100);
    let cache = checked(builder.load_timeout(ms(5)));
    let gate = Gate::new();
    thread::scope(|scope| {
        let late = scope.spawn(|| cache.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
        gate.wait_until_entered(1);
        // a thread or a task: it waits 5 ms, or finds that they are over and leads
        let other = cache.get_or_load(&1, || Ok::<_, String>(20));
        assert!(matches!(other, Ok(20) | Err(LoadError::TimedOut)));
        gate.open();
        assert_eq!(late.join().unwrap().unwrap(), 10);
    });
    let hung = cache.get_or_load_async(&2, pending::<Result<u64, String>>);
    assert!(block_on(hung).unwrap_err().is_timeout());
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

fn assert_sync<T: Send + Sync + 'static>(_: &T) {}

#[test]
fn futures_can_be_sent_to_other_threads() {
    let cache = checked(Cache::<String, u64>::builder().max_entries(10));
    drop(assert_send(cache.get_or_load_async("a", || async { Ok::<_, String>(1) })));
    drop(assert_send(cache.get_or_load_optional_async("a", || async { Ok::<_, String>(None) })));
    drop(assert_send(cache.get_or_insert_with_async("a", || async { 1 })));
    let load_async = |_: LoadCx<u64>| async { Ok::<_, String>(1) };
    drop(assert_send(cache.at("a").load_async(load_async)));
    assert_sync(&Cache::clone(&cache));
    assert_sync(&cache.entries());
}

#[test]
fn the_async_fronts_agree_with_the_blocking_ones() {
    with_cache(
        |builder| builder.negative_ttl(secs(1)),
        |it| {
            let none = it.get_or_load_optional_async(&1, || ready(Ok::<_, String>(None)));
            assert_eq!(block_on(none).unwrap(), None);
            let some = it.get_or_load_optional_async(&2, || ready(Ok::<_, String>(Some(20))));
            assert_eq!(block_on(some).unwrap(), Some(20));
            assert_eq!(block_on(it.get_or_insert_with_async(&1, || ready(10))), 10);
            let got = block_on(it.at(&3).ttl(ms(7)).load_async(|_| ready(Ok::<_, String>(30))));
            assert_eq!((got.unwrap().fresh_for, it.len()), (ms(7), 3));
        },
    );
}
