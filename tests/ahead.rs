//! Refreshes ahead of need in a cache without a loader of its own: by a caller who has one.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Checked, checked, secs, wait_until};
use larder::{At, Cache, CacheBuilder, Clock, How, LoadReason, ManualClock, RefreshAhead};
use std::thread;

type Said<'c> = At<'c, u64, u64, ahash::RandomState, u64>;

/// A value under 1 that has been due for 20 s of the 50 s in which it is.
fn due(
    settings: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
) -> (Checked<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(20).time_to_live(secs(100)).clock(clock);
    let cache = checked(settings(builder.refresh_ahead(RefreshAhead::At(0.5))));
    cache.insert(1, 1);
    hand.advance(secs(70));
    (cache, hand)
}

fn forced(said: Said<'_>) -> Said<'_> {
    said.force()
}

fn choosy(said: Said<'_>) -> Said<'_> {
    said.max_age(secs(5))
}

#[test]
fn who_does_not_take_the_value_that_is_due_waits_for_a_slot() {
    for said in [forced, choosy] {
        let (cache, _hand) = due(|builder| builder.max_concurrent_loads(1));
        let gate = Gate::new();
        let mut busy =
            Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
        busy.pend();
        let mut task = Task::new(said(cache.at(&1)).load_async(|_| async { Ok::<_, String>(2) }));
        task.pend();
        drop(task);
        thread::scope(|scope| {
            let caller = scope.spawn(|| said(cache.at(&1)).load(|_| Ok::<_, String>(2)));
            wait_until(|| cache.loads_in_line() == 1 || caller.is_finished());
            assert_eq!(cache.get(&1), Some(1));
            gate.open();
            busy.finish().unwrap();
            let got = caller.join().unwrap().unwrap();
            assert_eq!((got.value, got.how), (2, How::Loaded));
        });
        assert_eq!((cache.stats().overloaded, cache.stats().refreshes), (0, 0));
    }
}

#[test]
fn a_load_is_told_what_its_caller_said_though_the_value_is_due() {
    for (said, reason) in [
        (forced as fn(Said<'_>) -> Said<'_>, LoadReason::Forced),
        (choosy, LoadReason::Expired),
        // it takes what is there, and is the first to find it due
        (|said| said.max_age(secs(80)), LoadReason::Refresh),
    ] {
        let (cache, hand) = due(|builder| builder);
        let got = said(cache.at(&1)).load(|cx| {
            assert_eq!((cx.reason(), cx.stale()), (reason, Some(&1)));
            Ok::<_, String>(2)
        });
        assert_eq!(got.unwrap().value, 2);
        hand.advance(secs(70));
        let got = block_on(said(cache.at(&1)).load_async(|cx| async move {
            assert_eq!((cx.reason(), cx.stale()), (reason, Some(&2)));
            Ok::<_, String>(3)
        }));
        assert_eq!(got.unwrap().value, 3);
        assert_eq!(cache.stats().loads, 2);
    }
}
