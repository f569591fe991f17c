//! Groups: what has a tag leaves with it, however much that is.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{Fixture, Record, checked, ms, secs, uncalled, wait_until, with_cache};
use larder::{Cache, Clock, How, Loaded, RemovalCause, StaleWhy};
use std::convert::Infallible;
use std::thread;
use std::time::{Duration, Instant};

/// Keys 0 to 29: multiples of two have the tag "even", of three "three", of six both.
fn fill(it: &Fixture) {
    for key in 0..30 {
        let tags = [(2, "even"), (3, "three")];
        let tags = tags.iter().filter(|(n, _)| key % n == 0).map(|(_, tag)| *tag);
        it.at(&key).tags(tags).insert(key);
    }
}

fn kept(it: &Fixture) -> Vec<u64> {
    (0..30).filter(|key| it.get(key).is_some()).collect()
}

fn load(it: &Fixture, value: u64) -> u64 {
    it.at(&1).tag("t").load(|_| Ok::<_, Infallible>(value)).unwrap().value
}

#[test]
fn what_has_a_tag_goes_with_it_and_nothing_else() {
    with_cache(
        |builder| builder,
        |it| {
            fill(it);
            it.remove_tag("nobody has this one");
            assert_eq!(kept(it).len(), 30);
            it.remove_tag("even");
            assert_eq!(kept(it), (0..30).filter(|key| key % 2 > 0).collect::<Vec<_>>());
            it.remove_tag("three");
            let rest = |key: &u64| key % 2 > 0 && key % 3 > 0;
            assert_eq!(kept(it), (0..30).filter(rest).collect::<Vec<_>>());
            fill(it);
            assert_eq!(kept(it).len(), 30, "what is stored after the removal stays");
        },
    );
}

#[test]
fn what_a_tag_removed_is_not_there_in_any_other_way() {
    with_cache(
        |builder| builder.time_to_live(secs(9)).stale_if_error(secs(60)),
        |it| {
            it.at(&1).tag("t").insert(10);
            it.at(&2).insert(20);
            it.remove_tag("t");
            assert!(!it.contains(&1) && it.peek(&1).is_none() && !it.expire(&1));
            assert_eq!(it.entries().map(|(key, _)| key).collect::<Vec<_>>(), [2]);
            assert_eq!(it.remove_if(|key, _| *key == 1), 0);
            // removed is not stale
            let failed = it.at(&1).load(|cx| {
                assert!(cx.stale().is_none());
                Err::<u64, _>("away")
            });
            assert_eq!(failed.unwrap_err().loader(), Some(&"away"));
            assert_eq!(it.remove(&1), None);
        },
    );
}

#[test]
fn what_a_tag_removed_counts_until_it_is_freed_and_is_reported_as_removed() {
    with_cache(
        |builder| builder,
        |it| {
            fill(it);
            it.remove_tag("even");
            assert_eq!((it.len(), it.removals.count()), (30, 0));
            assert_eq!(it.sweep(), 15);
            assert_eq!(it.len(), 15);
            let told = it.removals.take();
            assert_eq!(told.len(), 15);
            assert!(told.iter().all(|told| told.0 % 2 == 0 && told.2 == RemovalCause::Removed));
            assert_eq!((it.stats().removed, it.stats().expired), (15, 0));
            assert_eq!(it.sweep(), 0);

            it.remove_tag("three");
            it.insert(3, 33);
            assert!(it.removals.take().contains(&(3, 3, RemovalCause::Removed)));
        },
    );
}

#[test]
fn inserts_free_what_a_tag_removed() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(1_000).shards(1));
    for key in 0..500 {
        cache.at(&key).tag("t").insert(key);
    }
    for key in 500..520 {
        cache.at(&key).tag("other").insert(key);
    }
    cache.remove_tag("t");
    for n in 0..1_000 {
        // others are removed too, all the time, and do not keep it from getting on
        cache.remove_tag("unknown");
        cache.insert(1_000, n);
    }
    assert_eq!(cache.len(), 21);
}

#[test]
fn what_is_evicted_after_its_tag_was_removed_was_removed() {
    let removals = Record::new();
    let cache = checked(
        Cache::<u64, u64>::builder().max_entries(1).shards(1).on_removal(removals.listener()),
    );
    cache.at(&1).tag("t").insert(10);
    cache.remove_tag("t");
    cache.insert(2, 20);
    assert_eq!(removals.take(), [(1, 10, RemovalCause::Removed)]);
    assert_eq!((cache.stats().removed, cache.stats().evicted), (1, 0));
}

#[test]
fn a_cache_that_nobody_uses_lets_go_of_what_a_tag_removed() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100));
    for key in 0..50 {
        cache.at(&key).tag("t").insert(key);
    }
    cache.remove_tag("t");
    wait_until(|| cache.is_empty()); // the keeper, a second later
}

#[test]
fn the_loader_may_say_the_tags() {
    with_cache(
        |builder| builder,
        |it| {
            let load = |_: &_| Ok::<_, Infallible>(Loaded::new(10).tag("a").tag("b".to_owned()));
            it.at(&1).tag("c").load(load).unwrap();
            for (n, tag) in ["a", "b", "c"].into_iter().enumerate() {
                assert_eq!(it.get(&1), Some(10));
                it.remove_tag(tag);
                assert_eq!(it.get(&1), None);
                it.at(&1).tag("c").load(load).unwrap();
                assert_eq!(it.stats().loads, n as u64 + 2);
            }
        },
    );
}

#[test]
fn an_entry_has_the_tags_of_its_last_value() {
    with_cache(
        |builder| builder,
        |it| {
            it.at(&1).tag("old").insert(10);
            it.at(&1).tag("new").insert(11);
            it.remove_tag("old");
            assert_eq!(it.get(&1), Some(11));
            it.insert(1, 12);
            it.remove_tag("new");
            assert_eq!(it.get(&1), Some(12));
        },
    );
}

#[test]
fn what_is_missing_has_tags_too() {
    with_cache(
        |builder| builder.negative_ttl(secs(9)),
        |it| {
            let ask = |answer: Option<u64>| {
                let got = it.at(&1).tag("t").load(|_| Ok::<_, Infallible>(answer));
                got.ok().map(|got| got.value)
            };
            assert_eq!((ask(None), ask(Some(7))), (None, None), "it is kept");
            it.remove_tag("t");
            assert_eq!(ask(None), None);
            assert_eq!(it.stats().loads, 2);
            it.expire_tag("t");
            assert_eq!(ask(Some(8)), Some(8));
        },
    );
}

#[test]
fn a_load_in_flight_with_that_tag_is_fenced() {
    let removals: [fn(&Fixture); 2] = [|it| it.remove_tag("t"), |it| it.expire_tag("t")];
    for write in removals {
        with_cache(
            |builder| builder.time_to_live(secs(60)),
            |it| {
                let gate = Gate::new();
                let slow = |_| async { Ok::<_, String>(gate.pass_async(10).await) };
                let mut leader = Task::new(it.at(&1).tags(["s", "t"]).load_async(slow));
                leader.pend();
                let mut waiter = Task::new(it.at(&1).load_async(|_| async { uncalled::<u64>() }));
                waiter.pend();
                write(it);
                // who comes after it does not wait for what is older
                let mut late = Task::new(it.at(&1).load_async(|_| async { Ok::<_, String>(20) }));
                assert_eq!(late.finish().unwrap().how, How::Loaded);
                gate.open();
                let (led, waited) = (leader.finish().unwrap(), waiter.finish().unwrap());
                assert_eq!((led.value, waited.value, waited.how), (10, 10, How::Joined));
                assert_eq!((it.get(&1), it.stats().fenced), (Some(20), 1));
            },
        );
        with_cache(
            |builder| builder,
            |it| {
                let during = |_: &_| {
                    write(it);
                    Ok::<_, String>(10)
                };
                assert_eq!(it.at(&1).tag("t").load(during).unwrap().value, 10);
                assert_eq!((it.get(&1), it.stats().fenced), (None, 1));
                assert_eq!((load(it, 11), it.get(&1)), (11, Some(11)));
            },
        );
    }
}

/// Nobody knew when it started that it would have that tag: neither the load nor the cache.
#[test]
fn a_load_that_names_its_tag_at_the_end_is_fenced() {
    for is_known in [true, false] {
        with_cache(
            |builder| builder,
            |it| {
                if is_known {
                    it.at(&2).tag("t").insert(2);
                }
                let gate = Gate::new();
                let slow =
                    |_| async { Ok::<_, String>(Loaded::new(gate.pass_async(10).await).tag("t")) };
                let mut leader = Task::new(it.at(&1).load_async(slow));
                leader.pend();
                it.remove_tag("t");
                // it cannot be known yet that this one is too late for it
                let anew = |_| async { Ok::<_, String>(Loaded::new(20).tag("t")) };
                let mut late = Task::new(it.at(&1).load_async(anew));
                late.pend();
                gate.open();
                assert_eq!(leader.finish().unwrap().value, 10);
                assert_eq!(it.get(&1), None);
                assert_eq!(late.finish().unwrap().value, 20, "it looks again, and loads");
                assert_eq!((it.get(&1), it.stats().fenced), (Some(20), 1));
            },
        );
    }
}

#[test]
fn loads_with_other_tags_are_left_alone() {
    with_cache(
        |builder| builder,
        |it| {
            it.at(&2).tag("other").insert(2);
            let during = |_: &_| {
                it.remove_tag("other");
                it.expire_tag("other");
                Ok::<_, Infallible>(10)
            };
            it.at(&1).tag("t").load(during).unwrap();
            it.at(&3).load(during).unwrap();
            assert_eq!((it.get(&1), it.get(&3), it.stats().fenced), (Some(10), Some(10), 0));
        },
    );
}

#[test]
fn an_expired_tag_ends_freshness_and_the_windows_apply() {
    with_cache(
        |builder| builder.time_to_live(secs(100)).stale_if_error(secs(10)),
        |it| {
            let fail = |want: Option<u64>| {
                let got = it.at(&1).load(|_| Err::<u64, _>("away"));
                assert_eq!(got.ok().map(|got| (got.value, got.how)), {
                    want.map(|value| (value, How::Stale(StaleWhy::LoadFailed)))
                });
            };
            it.at(&1).tag("t").insert(10);
            it.advance(secs(1));
            it.expire_tag("t");
            assert_eq!((it.get(&1), it.contains(&1)), (None, false));
            let peeked = it.peek(&1).unwrap();
            assert_eq!((peeked.value, peeked.fresh_for), (10, Duration::ZERO));
            assert_eq!(peeked.how, How::Stale(StaleWhy::Expired));
            fail(Some(10));
            it.advance(secs(9));
            // its end does not move, however often the tag is expired
            it.expire_tag("t");
            it.advance(ms(999));
            assert!(it.peek(&1).is_some());
            it.advance(ms(1));
            assert!(it.peek(&1).is_none());
            assert_eq!(it.sweep(), 1);
            assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Expired)]);
        },
    );
}

#[test]
fn what_had_expired_before_its_tag_did_ends_when_it_would_have() {
    with_cache(
        |builder| builder.time_to_live(secs(1)).stale_if_error(secs(10)),
        |it| {
            it.at(&1).tag("t").insert(10);
            it.advance(secs(5));
            it.expire_tag("t");
            it.advance(ms(5_999));
            assert!(it.peek(&1).is_some());
            it.advance(ms(1));
            assert!(it.peek(&1).is_none());
        },
    );
}

#[test]
fn what_was_expired_by_its_tag_may_be_removed_by_it() {
    with_cache(
        |builder| builder.time_to_live(secs(100)).stale_if_error(secs(10)),
        |it| {
            it.at(&1).tag("t").insert(10);
            it.expire_tag("t");
            it.remove_tag("t");
            assert!(it.peek(&1).is_none());
            assert_eq!(load(it, 11), 11);
            it.remove_tag("t");
            it.expire_tag("t");
            assert!(it.peek(&1).is_none(), "removed is not stale");
        },
    );
}

/// The source says that the value is still right: it is fresh again, and has its tags.
#[test]
fn a_value_that_is_renewed_keeps_its_tags() {
    with_cache(
        |builder| builder.time_to_live(secs(10)).stale_if_error(secs(60)),
        |it| {
            it.at(&1).tag("t").insert(10);
            it.expire_tag("t");
            let unchanged = |_: &_| Ok::<_, Infallible>(Loaded::unchanged());
            assert_eq!(it.at(&1).load(unchanged).unwrap().value, 10);
            assert_eq!(it.get(&1), Some(10));
            it.expire_tag("t");
            assert_eq!(it.get(&1), None, "it still has that tag");

            let during = |_: &_| {
                it.remove_tag("t");
                Ok::<_, Infallible>(Loaded::unchanged())
            };
            assert_eq!(it.at(&1).load(during).unwrap().value, 10);
            assert_eq!((it.get(&1), it.peek(&1).is_some()), (None, false));
            assert_eq!(it.stats().fenced, 1);
        },
    );
}

#[test]
fn tags_move_along_when_the_table_grows() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(10_000).shards(1));
    for key in 0..5_000 {
        let tag = if key % 7 == 0 { "seven" } else { "other" };
        cache.at(&key).tag(tag).insert(key);
    }
    cache.remove_tag("seven");
    let left = (0..5_000).filter(|key| cache.get(key).is_some()).count();
    assert_eq!(left, (0..5_000).filter(|key| key % 7 > 0).count());
}

#[test]
fn there_are_no_more_tags_than_entries_have() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100).shards(1));
    for key in 0..20_000 {
        cache.at(&key).tag(&format!("tag {key}")).insert(key);
        cache.remove_tag(&format!("gone {key}"));
    }
    assert!(cache.tags() <= 300, "{} tags", cache.tags());
    cache.clear();
    cache.sweep();
    assert_eq!(cache.tags(), 0);
    // a name that comes back goes on counting
    cache.at(&1).tag("tag 1").insert(1);
    assert_eq!(cache.get(&1), Some(1));
    cache.remove_tag("tag 1");
    assert_eq!(cache.get(&1), None);
}

#[test]
fn the_handle_for_news_knows_tags() {
    with_cache(
        |builder| builder.time_to_live(secs(9)),
        |it| {
            let news = it.invalidator();
            it.at(&1).tag("a").insert(1);
            it.at(&2).tag("b").insert(2);
            assert!(news.remove_tag("a") && news.expire_tag("b"));
            assert_eq!((it.get(&1), it.get(&2)), (None, None));
        },
    );
    let news = Cache::<u64, u64>::new(1).invalidator();
    assert!(!news.remove_tag("a") && !news.expire_tag("b"));
}

#[test]
fn threads_that_wait_for_what_a_tag_removed_load_anew() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let gate = &gate;
                let slow = |_: &_| Ok::<_, String>(gate.pass(10));
                let leader = scope.spawn(move || it.at(&1).tag("t").load(slow).unwrap().value);
                gate.wait_until_entered(1);
                it.remove_tag("t");
                assert_eq!(load(it, 20), 20);
                gate.open();
                assert_eq!((leader.join().unwrap(), it.get(&1)), (10, Some(20)));
            });
        },
    );
}

/// However many have the tag: to go over them would take milliseconds. Says how long it takes, which is
/// worth a look where it is optimised, with a million of them:
/// `cargo test --release --test tags at_once -- --nocapture`.
#[test]
fn what_has_a_tag_leaves_at_once_however_much_it_is() {
    let (entries, most) = if cfg!(debug_assertions) {
        (100_000, Duration::from_millis(1))
    } else {
        (1_000_000, Duration::from_micros(10))
    };
    let (clock, _hand) = Clock::manual();
    let cache: Cache<u64, u64> =
        Cache::builder().max_entries(entries + entries / 10).clock(clock).build().unwrap();
    for key in 0..entries {
        cache.at(&key).tag("all").insert(key);
    }
    assert!(cache.len() >= entries);
    let mut took: Vec<Duration> = (0..101)
        .map(|_| {
            let begun = Instant::now();
            cache.remove_tag("all");
            begun.elapsed()
        })
        .collect();
    println!("first {:?}", took[0]);
    took.sort_unstable();
    println!("median {:?}, worst {:?} of {}", took[50], took[100], took.len());
    assert!(took[50] < most);
    assert!((0..entries).step_by(1_000).all(|key| cache.get(&key).is_none()));
}

/// The eviction's hand passes hot entries over and over, and rewrites what stands beside them.
#[test]
fn entries_that_eviction_spared_keep_their_tags() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100).shards(1));
    // full before they come, so that they have to be hit on their way into the main queue
    (1_000..1_200).for_each(|key| cache.insert(key, key));
    for key in 0..50 {
        cache.at(&key).tag("kept").insert(key);
        for round in 0..40 {
            (0..=key).for_each(|key| _ = cache.get(&key));
            cache.insert(2_000 + key * 40 + round, round);
        }
    }
    let spared = (0..50).filter(|key| cache.contains(key)).count();
    assert!(spared > 10, "only {spared} of what was hot stayed");
    cache.remove_tag("kept");
    assert!((0..50).all(|key| cache.get(&key).is_none()));
}
