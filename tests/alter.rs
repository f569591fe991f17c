//! Changing a value by what stands there: what it is shown, what becomes of what it returns, and what makes it
//! look again.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{Checked, Fixture, checked, ms, secs, uncalled, with_cache};
use larder::RemovalCause::{Expired, Rejected, Removed, Replaced};
use larder::{Altered, Cache, Clock, LoadError, Stats};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// One more.
#[allow(clippy::unnecessary_wraps, reason = "what a change looks like")]
fn count(n: Option<u64>) -> Option<u64> {
    Some(n.unwrap_or(0) + 1)
}

#[test]
fn what_is_returned_stands_there_and_nothing_removes() {
    with_cache(
        |builder| builder.time_to_live(ms(100)),
        |it| {
            assert_eq!((it.alter(&1, count), it.get(&1)), (Some(1), Some(1)));
            assert_eq!((it.alter(&1, count), it.get(&1)), (Some(2), Some(2)));
            assert_eq!(it.alter(&1, |n| n.filter(|n| *n > 5)), None);
            assert_eq!((it.contains(&1), it.len()), (false, 0));
            assert_eq!(it.alter(&1, |n| n), None);
            assert_eq!(it.removals.take(), [(1, 1, Replaced), (1, 2, Removed)]);
            let Stats { insertions, replaced, removed, .. } = it.stats();
            assert_eq!((insertions, replaced, removed), (2, 1, 1));
        },
    );
}

#[test]
fn what_is_kept_is_not_touched() {
    with_cache(
        |builder| builder.time_to_live(ms(100)),
        |it| {
            it.at(&1).tag("t").insert(10);
            it.removals.take();
            it.advance(ms(60));
            assert_eq!(it.alter(&1, Altered::Keep), Some(10));
            assert_eq!(it.alter(&1, |_| Altered::Keep(Some(77))), Some(77), "as it says");
            assert_eq!(it.alter(&2, Altered::Keep), None);
            assert_eq!((it.peek(&1).unwrap().fresh_for, it.len()), (ms(40), 1));
            assert_eq!((it.stats().insertions, it.removals.take()), (1, vec![]));
            assert_eq!(it.alter(&1, |_| Altered::Remove), None);
            assert_eq!(it.removals.take(), [(1, 10, Removed)]);
            assert_eq!(it.alter(&1, |_| None), None);
            assert_eq!(it.alter(&1, |_| Some(4)), Some(4));
        },
    );
}

#[test]
fn it_is_a_write_and_no_look_up() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).time_to_idle(ms(60)),
        |it| {
            it.alter(&1, count);
            it.advance(ms(50));
            it.alter(&1, count);
            let before = it.stats();
            assert_eq!((before.hits, before.misses), (0, 0));
            it.advance(ms(59));
            assert_eq!(it.get(&1), Some(2), "in use, and 59 of 100 ms old");
            it.advance(ms(41));
            assert_eq!(it.alter(&1, |n| n), None, "its second life is over");
        },
    );
}

#[test]
fn what_is_past_its_life_is_not_shown() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).stale_if_error(secs(9)).negative_ttl(secs(9)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(100));
            assert!(it.peek(&1).is_some(), "stale");
            assert_eq!(it.alter(&1, |n| n), None);
            assert!(it.peek(&1).is_some(), "nothing was seen, and nothing was done");
            assert_eq!(it.alter(&1, count), Some(1));
            let missing = it.get_or_load_optional(&2, || Ok::<_, String>(None));
            assert_eq!(missing.unwrap(), None);
            assert_eq!((it.alter(&2, count), it.get(&2)), (Some(1), Some(1)));
        },
    );
}

/// Changes key 1, and does something to the cache from another thread between the look and the store.
fn disturbed(
    it: &Fixture,
    disturb: impl Fn(&Checked<u64, u64>) + Sync,
) -> (Vec<Option<u64>>, Option<u64>) {
    let mut seen = Vec::new();
    let cache = &it.cache;
    let new = cache.alter(&1, |found| {
        if seen.is_empty() {
            thread::scope(|scope| scope.spawn(|| disturb(cache)).join().unwrap());
        }
        seen.push(found);
        found.map(|n| n + 1)
    });
    (seen, new)
}

#[test]
fn whatever_is_done_to_the_key_meanwhile_is_looked_at() {
    type Disturb = fn(&Checked<u64, u64>);
    let writes: [(&str, Disturb, Option<u64>); 9] = [
        ("insert", |it| it.insert(1, 20), Some(20)),
        ("at().insert", |it| it.at(&1).tag("t").insert(20), Some(20)),
        ("remove", |it| _ = it.remove(&1), None),
        ("expire", |it| _ = it.expire(&1), None),
        ("clear", |it| it.clear(), None),
        ("remove_if", |it| _ = it.remove_if(|_, _| true), None),
        ("alter", |it| _ = it.alter(&1, |_| Some(20)), Some(20)),
        ("forced load", |it| _ = it.at(&1).force().load(|_| Ok::<_, String>(20)), Some(20)),
        (
            "write_through",
            |it| it.write_through(1, 20, |_, _| Ok::<_, String>(())).unwrap(),
            Some(20),
        ),
    ];
    with_cache(
        |builder| builder.time_to_live(secs(9)),
        |it| {
            for (name, write, then) in writes {
                it.insert(1, 10);
                let expected = (vec![Some(10), then], then.map(|n| n + 1));
                assert_eq!(disturbed(it, write), expected, "{name}");
                assert_eq!(it.get(&1), then.map(|n| n + 1), "{name}");
            }
        },
    );
}

#[test]
fn a_removal_that_has_begun_before_the_look_is_seen_when_it_is_done() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let (looked, removed) = (Gate::new(), Gate::new());
            thread::scope(|scope| {
                let mut change = None;
                let count = it.remove_if(|_, _| {
                    change = Some(scope.spawn(|| {
                        let mut seen = Vec::new();
                        it.alter(&1, |found| {
                            seen.push(found);
                            looked.open();
                            removed.pass(());
                            found.map(|n| n + 1)
                        });
                        seen
                    }));
                    looked.pass(());
                    true
                });
                removed.open();
                let seen = change.unwrap().join().unwrap();
                assert_eq!((count, seen, it.get(&1)), (1, vec![Some(10), None], None));
            });
        },
    );
}

/// What is done to a tag is done to no key, and found out later.
#[test]
fn what_is_done_to_the_tags_of_what_it_was_shown_is_looked_at() {
    type Disturb = fn(&Checked<u64, u64>);
    let removes: Disturb = |it| it.remove_tag("t");
    let expires: Disturb = |it| it.expire_tag("t");
    let removes_and_frees: Disturb = |it| {
        it.remove_tag("t");
        it.sweep();
    };
    with_cache(
        |builder| builder.time_to_live(secs(9)).stale_if_error(secs(9)),
        |it| {
            for disturb in [removes, expires, removes_and_frees] {
                it.at(&1).tag("t").insert(10);
                assert_eq!(disturbed(it, disturb), (vec![Some(10), None], None));
                assert_eq!(it.get(&1), None);
            }
            it.at(&1).tag("t").insert(10);
            let seen = disturbed(it, |it| it.remove_tag("another"));
            assert_eq!(seen, (vec![Some(10)], Some(11)));
        },
    );
}

#[test]
fn what_it_does_to_its_tags_itself_is_not() {
    with_cache(
        |builder| builder,
        |it| {
            let mut others = vec![true, false];
            let mut change = |calls: &mut u32, found| {
                *calls += 1;
                it.remove_tag("t");
                if *calls == 1 && others.pop() == Some(true) {
                    thread::scope(|scope| scope.spawn(|| it.expire_tag("t")).join().unwrap());
                }
                it.at(&1).tag("t").insert(98);
                count(found)
            };
            for expected in [(1, Some(11)), (2, Some(99))] {
                it.at(&1).tag("t").insert(10);
                let mut calls = 0;
                let new = it.alter(&1, |found| change(&mut calls, found));
                assert_eq!((calls, new), expected);
            }
        },
    );
}

/// What was changed is another value, also where its life is the same.
#[test]
fn a_removal_does_not_take_what_it_was_not_asked_about() {
    with_cache(
        |builder| builder.time_to_live(secs(9)),
        |it| {
            it.insert(1, 10);
            it.insert(2, 20);
            let mut asked = Vec::new();
            let count = it.remove_if(|key, value| {
                asked.push((*key, *value));
                if (*key, *value) == (1, 10) {
                    assert_eq!(it.at(&1).keep_life().alter(count), Some(11));
                }
                *value < 11
            });
            asked.sort_unstable();
            assert_eq!((count, asked), (0, vec![(1, 10), (2, 20)]));
            assert_eq!(it.get(&1), Some(11));
            // from now on it is as any other
            assert_eq!((it.remove_if(|_, value| *value < 12), it.get(&1)), (1, None));
        },
    );
}

#[test]
fn what_is_done_to_other_keys_is_not() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let seen = disturbed(it, |it| (2..200).for_each(|key| it.insert(key, key)));
            assert_eq!(seen, (vec![Some(10)], Some(11)));
        },
    );
}

#[test]
fn what_it_does_to_its_key_itself_is_overwritten() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let mut calls = 0;
            let new = it.alter(&1, |found| {
                calls += 1;
                it.remove(&1);
                it.alter(&2, |_| it.alter(&1, |_| Some(99)));
                it.clear();
                it.insert(1, 98);
                found.map(|n| n + 1)
            });
            assert_eq!((calls, new, it.get(&1)), (1, Some(11), Some(11)));
        },
    );
}

/// Changes key 1, and inserts it meanwhile, when its thread ends. Tells how often it was called.
struct AtTheEnd(Cache<u64, u64>, Sender<u32>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let mut calls = 0;
        self.0.alter(&1, |found| {
            calls += 1;
            if calls == 1 {
                self.0.insert(1, 98);
            }
            count(found)
        });
        self.1.send(calls).unwrap();
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn what_it_does_to_its_key_itself_is_known_while_a_thread_ends() {
    let it = checked(Cache::builder().max_entries(100));
    let (calls, called) = channel();
    let at_the_end = AtTheEnd(it.clone(), calls);
    let change = || {
        // before whatever a change needs of its thread: that goes first
        AT_THE_END.set(Some(at_the_end));
        it.alter(&1, count)
    };
    thread::scope(|scope| assert_eq!(scope.spawn(change).join().unwrap(), Some(1)));
    // a thread that is over may not have ended
    assert_eq!((called.recv().unwrap(), it.get(&1)), (1, Some(2)));
}

#[test]
fn a_load_that_is_under_way_is_not_stored() {
    let it = checked(Cache::builder().max_entries(100));
    let gate = Gate::new();
    let mut load = Task::new(it.get_or_load_async(&1, || gate.pass_async(Ok::<_, String>(7))));
    load.pend();
    assert_eq!(it.alter(&1, |n| n), None);
    assert_eq!(it.flights(), 1, "nothing was done");
    assert_eq!(it.alter(&1, count), Some(1));
    gate.open();
    assert_eq!((load.finish().unwrap(), it.get(&1), it.stats().fenced), (7, Some(1), 1));
}

#[test]
fn a_life_that_is_kept_is_not_made_longer() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).jitter(0.5),
        |it| {
            it.at(&1).keep_life().alter(count);
            let end = it.elapsed() + it.peek(&1).unwrap().fresh_for;
            for n in 2..20 {
                it.advance(ms(2));
                assert_eq!(it.at(&1).keep_life().alter(count), Some(n));
                assert_eq!(it.elapsed() + it.peek(&1).unwrap().fresh_for, end);
            }
            it.at(&1).keep_life().insert(70);
            let got = it.peek(&1).unwrap();
            assert_eq!((got.value, it.elapsed() + got.fresh_for, got.age), (70, end, ms(36)));
            it.advance(end.saturating_sub(it.elapsed()));
            assert_eq!(it.at(&1).keep_life().ttl(ms(7)).alter(count), Some(1), "a new one");
            assert!(it.peek(&1).unwrap().fresh_for <= ms(7));
        },
    );
}

#[test]
fn a_life_that_ends_meanwhile_is_not_kept() {
    with_cache(
        |builder| builder.time_to_live(ms(100)),
        |it| {
            it.insert(1, 10);
            let mut seen = Vec::new();
            let new = it.at(&1).keep_life().alter(|found| {
                it.advance(ms(100));
                seen.push(found);
                count(found)
            });
            assert_eq!((seen, new), (vec![Some(10), None], Some(1)));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(100));
        },
    );
}

#[test]
fn nor_is_one_that_ends_while_its_successor_is_weighed() {
    let (clock, hand) = Clock::manual();
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let weigh = move |_: &u64, _: &u64| {
        if slow.swap(false, SeqCst) {
            hand.advance(ms(100));
        }
        1
    };
    let builder = Cache::builder().max_weight(100).weigher(weigh);
    let it = checked(builder.time_to_live(ms(100)).clock(clock));
    it.insert(1, 10);
    is_slow.store(true, SeqCst);
    let mut seen = Vec::new();
    let new = it.at(&1).keep_life().alter(|found| {
        seen.push(found);
        count(found)
    });
    assert_eq!((seen, new, it.get(&1)), (vec![Some(10), None], Some(1), Some(1)));
}

#[test]
fn what_lives_for_ever_goes_on_to() {
    let it = checked(Cache::<u64, u64>::builder().max_entries(100));
    (0..3).for_each(|_| _ = it.at(&1).keep_life().alter(count));
    let got = it.peek(&1).unwrap();
    assert_eq!((got.value, got.fresh_for), (3, std::time::Duration::MAX));
}

#[test]
fn tags_are_those_of_the_value_before_or_those_that_were_said() {
    with_cache(
        |builder| builder.time_to_live(secs(9)),
        |it| {
            for keeps in [false, true] {
                it.at(&1).tag("odd").tag("prime").insert(1);
                let at = it.at(&1);
                let at = if keeps { at.keep_life() } else { at };
                assert_eq!((at.alter(count), it.get(&1)), (Some(2), Some(2)));
                it.remove_tag("odd");
                assert_eq!(it.get(&1), None);
                it.at(&1).tag("odd").insert(1);
                it.at(&1).tag("even").alter(count);
                it.remove_tag("odd");
                assert_eq!(it.get(&1), Some(2));
                it.expire_tag("even");
                assert_eq!(it.get(&1), None);
            }
        },
    );
}

#[test]
fn what_is_done_to_the_tags_that_it_is_given_is_looked_at() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let mut calls = 0;
            let new = it.at(&1).tag("odd").alter(|found| {
                calls += 1;
                if calls == 1 {
                    thread::scope(|scope| scope.spawn(|| it.remove_tag("odd")).join().unwrap());
                }
                count(found)
            });
            assert_eq!((calls, new, it.get(&1)), (2, Some(11), Some(11)));
            // its own doing
            let new = it.at(&1).tag("prime").alter(|found| {
                it.remove_tag("prime");
                count(found)
            });
            assert_eq!((new, it.get(&1)), (Some(12), Some(12)));
            it.remove_tag("prime");
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn what_is_not_to_be_stored_takes_what_was_there_with_it() {
    let removals = common::Record::new();
    let builder = Cache::builder().max_weight(10).weigher(|_, n| *n).shards(4);
    let it = checked(builder.on_removal(removals.listener()));
    it.insert(1, 3);
    assert_eq!(it.alter(&1, |_| Some(11)), Some(11));
    assert_eq!((it.len(), removals.take()), (0, vec![(1, 3, Replaced), (1, 11, Rejected)]));
    it.insert(1, 3);
    it.at(&1).ttl(ms(0)).alter(|_| Some(4));
    assert_eq!((it.len(), removals.take()), (0, vec![(1, 3, Removed), (1, 4, Expired)]));

    let none = checked(Cache::<u64, u64>::builder().max_entries(0));
    assert_eq!((none.alter(&1, count), none.alter(&1, count), none.len()), (Some(1), Some(1), 0));
}

/// What grows may need room of other shards.
#[test]
fn it_may_take_all_there_is() {
    let it = checked(Cache::<u64, u64>::builder().max_weight(64).weigher(|_, n| *n).shards(4));
    (100..164).for_each(|key| it.insert(key, 1));
    for n in 1..=64 {
        assert_eq!((it.alter(&1, count), it.get(&1)), (Some(n), Some(n)));
        assert!(it.weight() <= 64);
    }
    assert_eq!(it.len(), 1);
}

#[test]
fn nothing_has_happened_where_it_panics() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let panics = || it.alter(&1, |_| -> Option<u64> { panic!("in a change") });
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            assert_eq!((it.get(&1), it.alter(&1, count)), (Some(10), Some(11)));
        },
    );
}

#[test]
fn nothing_is_lost_by_many_at_once() {
    let it = checked(Cache::builder().max_entries(1_000).time_to_live(secs(600)).jitter(0.1));
    let add = |key: u64| (0..5_000).for_each(|_| _ = it.alter(&key, count));
    thread::scope(|scope| {
        for key in [1, 1, 1, 2, 2] {
            scope.spawn(move || add(key));
        }
        // and others write and read beside them
        scope.spawn(|| (0..20_000).for_each(|n| it.insert(3 + n % 900, n)));
        scope.spawn(|| (0..20_000).for_each(|_| _ = it.get(&1)));
    });
    assert_eq!((it.get(&1), it.get(&2)), (Some(15_000), Some(10_000)));
}

#[test]
fn a_load_inside_of_it_is_a_load() {
    let it = checked(Cache::builder().max_entries(100));
    let sum = it.alter(&1, |_| {
        let one = it.get_or_load(&2, || Ok::<_, String>(5)).unwrap();
        // nobody else loads it: this is not called recursive
        let own = it.get_or_load(&1, || Ok::<_, String>(one + 1)).unwrap();
        Some(one + own)
    });
    assert_eq!((sum, it.get(&1), it.get(&2)), (Some(11), Some(11), Some(5)));
    let found: Result<u64, LoadError<String>> = it.get_or_load(&1, uncalled);
    assert_eq!(found.unwrap(), 11);
}

#[test]
fn a_fixed_window_ends_when_it_would_have_however_often_it_is_counted() {
    let (clock, hand) = Clock::manual();
    let it =
        checked(Cache::<u64, u64>::builder().max_entries(9).time_to_live(secs(60)).clock(clock));
    let mut allowed = 0;
    for _ in 0..240 {
        hand.advance(ms(500));
        allowed += u64::from(it.at(&1).keep_life().alter(count) <= Some(10));
    }
    assert_eq!(allowed, 20, "ten in each of two minutes");
}
