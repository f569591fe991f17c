//! What becomes of the expired, and of the answer "there is none".

mod common;

use common::tasks::block_on;
use common::{checked, ms, secs, with_cache};
use larder::{Cache, Clock, LoadError, Loaded, RemovalCause};
use std::cell::Cell;

#[test]
fn expire_ends_a_life_now_and_says_whether_there_was_one() {
    with_cache(
        |builder| builder.time_to_live(ms(300)).negative_ttl(ms(300)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(100));
            assert!(it.expire(&1));
            assert_eq!(it.get(&1), None);
            assert!(!it.expire(&1), "it is over already");
            assert!(!it.expire(&2), "there never was one");
            assert_eq!(it.sweep(), 1);
            assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Expired)]);

            let none = it.get_or_load_optional(&3, || Ok::<_, String>(None));
            assert_eq!(none.unwrap(), None);
            assert!(!it.expire(&3), "a \"not found\" is no value");
            assert_eq!(it.get_or_load(&3, || Ok::<_, String>(30)).unwrap(), 30);
        },
    );
}

#[test]
fn what_expired_before_it_was_overwritten_left_by_expiring() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            for (overwrite, what) in [
                (&(|| it.insert(1, 11)) as &dyn Fn(), "insert"),
                (&|| drop(it.get_or_load(&1, || Ok::<_, String>(11))), "a load"),
                (&|| assert_eq!(it.remove(&1), None), "remove"),
                (&|| it.clear(), "clear"),
            ] {
                it.clear();
                it.insert(1, 10);
                it.removals.take();
                it.advance(ms(300));
                overwrite();
                assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Expired)], "{what}");
            }
            it.clear();
            it.insert(1, 10);
            it.removals.take();
            it.insert(1, 11);
            assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Replaced)], "while it lived");
        },
    );
}

#[test]
fn a_sweep_frees_all_that_has_expired_and_nothing_else() {
    with_cache(
        |builder| builder.time_to_live(ms(300)).negative_ttl(ms(300)),
        |it| {
            for key in 0..200 {
                it.insert(key, key);
            }
            for key in 200..210 {
                let none = it.get_or_load_optional(&key, || Ok::<_, String>(None));
                assert_eq!(none.unwrap(), None);
            }
            it.advance(ms(299));
            for key in 300..320 {
                it.insert(key, key);
            }
            assert_eq!(it.sweep(), 0);
            it.advance(ms(1));
            assert_eq!(it.len(), 230, "what is not freed yet counts");
            assert_eq!(it.sweep(), 210);
            assert_eq!((it.len(), it.entries().count()), (20, 20));
            assert_eq!(it.sweep(), 0);
            let told = it.removals.take();
            assert_eq!(told.len(), 200, "a \"not found\" is no value that leaves");
            assert!(told.iter().all(|(_, _, cause)| *cause == RemovalCause::Expired));
            it.advance(ms(300));
            assert_eq!(it.sweep(), 20);
            assert_eq!((it.len(), it.weight()), (0, 0));
        },
    );
}

#[test]
fn a_sweep_in_the_middle_of_a_round_misses_nobody() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            // inserts leave the hand that looks for the expired anywhere
            for key in 0..300 {
                it.insert(key, key);
                it.advance(ms(7));
            }
            it.advance(ms(300));
            it.sweep();
            assert_eq!((it.len(), it.weight()), (0, 0));
            assert_eq!(it.removals.count(), 300);
        },
    );
}

#[test]
fn inserts_free_the_expired_without_traffic_on_their_keys() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            for key in 0..400 {
                it.insert(key, key);
            }
            it.advance(ms(300));
            // each insert looks at four entries of one shard, old and new
            for key in 1_000..1_500 {
                it.insert(key, key);
            }
            assert_eq!(it.stats().expired, 400, "{}", it.variant);
            assert_eq!(it.len(), 500);
        },
    );
}

#[test]
fn an_insert_looks_at_four_entries_and_not_at_four_slots() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(1_000).shards(1);
    let cache = checked(builder.time_to_live(ms(300)).clock(clock));
    (0..400).for_each(|key| cache.insert(key, key));
    hand.advance(ms(300));
    // a round is over when it has come past the old ones and those of the new ones that stand between
    (1_000..1_130).for_each(|key| cache.insert(key, key));
    assert_eq!(cache.stats().expired, 400);
}

#[test]
fn an_expired_entry_makes_room_before_a_fresh_one_does() {
    with_cache(
        |builder| builder,
        |it| {
            for key in 0..1_000 {
                it.at(&key).ttl(ms(if key < 500 { 10 } else { 10_000 })).insert(key);
            }
            let before = it.stats();
            it.advance(ms(10));
            it.sweep();
            for key in 2_000..2_400 {
                it.at(&key).ttl(ms(10_000)).insert(key);
            }
            let since = it.stats().since(&before);
            assert_eq!((since.expired + before.expired, since.evicted), (500, 0));
        },
    );
}

#[test]
fn not_found_is_remembered_for_its_own_time_to_the_millisecond() {
    with_cache(
        |builder| builder.time_to_live(ms(1_000)).negative_ttl(ms(50)).jitter(0.5),
        |it| {
            let calls = Cell::new(0);
            let ask = || {
                let none = it.get_or_load_optional(&1, || {
                    calls.set(calls.get() + 1);
                    Ok::<_, String>(None)
                });
                assert_eq!(none.unwrap(), None);
                calls.get()
            };
            assert_eq!((ask(), ask()), (1, 1));
            it.advance(ms(49));
            assert_eq!(ask(), 1);
            it.advance(ms(1));
            assert_eq!(ask(), 2);
            let stats = it.stats();
            assert_eq!((stats.hits, stats.misses, stats.load_failures), (2, 2, 0));
        },
    );
}

#[test]
fn who_makes_what_is_not_found_has_missed_it() {
    with_cache(
        |builder| builder.negative_ttl(secs(5)),
        |it| {
            let none = |key: u64| it.get_or_load_optional(&key, || Ok::<_, String>(None)).unwrap();
            assert_eq!((none(1), none(2), none(1)), (None, None, None));
            assert_eq!((it.stats().hits, it.stats().misses), (1, 2));
            assert_eq!(it.get_or_insert_with(&1, || 10), 10);
            assert_eq!(block_on(it.get_or_insert_with_async(&2, || async { 20 })), 20);
            assert_eq!((it.stats().hits, it.stats().misses), (1, 4));
            assert_eq!((it.get(&1), it.get(&2)), (Some(10), Some(20)));
        },
    );
}

#[test]
fn not_found_counts_as_an_entry_and_is_no_value() {
    with_cache(
        |builder| builder.negative_ttl(ms(50)),
        |it| {
            let missing = it.at(&1).load(|_| Ok::<_, String>(None));
            assert!(matches!(missing, Err(LoadError::NotFound)));
            assert_eq!((it.len(), it.weight()), (1, 1), "whatever the weigher says of values");
            assert_eq!(it.get(&1), None);
            assert!(!it.contains(&1) && it.peek(&1).is_none());
            assert_eq!(it.entries().count(), 0);
            assert_eq!(it.remove_if(|_, _| true), 0);
            assert_eq!(it.remove(&1), None);
            assert_eq!(it.len(), 0, "but it is forgotten by a removal");
            assert!(it.removals.take().is_empty());
        },
    );
}

#[test]
fn every_front_answers_from_a_known_not_found_but_get_or_insert_with() {
    with_cache(
        |builder| builder.negative_ttl(ms(50)),
        |it| {
            it.at(&1).load(|_| Ok::<_, String>(None)).unwrap_err();
            assert!(it.get_or_load(&1, common::uncalled).unwrap_err().is_not_found());
            let rich = it.at(&1).load(|_| common::uncalled::<u64>());
            assert!(rich.unwrap_err().is_not_found());
            assert_eq!(it.get_or_load_optional(&1, common::uncalled).unwrap(), None);
            let task = block_on(it.get_or_load_async(&1, || async { common::uncalled() }));
            assert!(task.unwrap_err().is_not_found());
            let task = it.get_or_load_optional_async(&1, || async { common::uncalled() });
            assert_eq!(block_on(task).unwrap(), None);

            assert_eq!(it.get_or_insert_with(&1, || 10), 10);
            assert_eq!(it.get(&1), Some(10));
            assert_eq!(it.len(), 1, "it took the place of the \"not found\"");
        },
    );
}

#[test]
fn not_found_without_a_negative_time_is_passed_on_and_not_kept() {
    with_cache(
        |builder| builder.time_to_live(ms(20)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(20));
            let none = it.get_or_load_optional(&1, || Ok::<_, String>(None));
            assert_eq!(none.unwrap(), None);
            assert_eq!(it.len(), 0, "what the source has no more does not stay");
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(11)).unwrap(), 11);
        },
    );
}

#[test]
fn a_loader_says_how_long_not_found_is_good_for() {
    with_cache(
        |builder| builder.negative_ttl(ms(50)),
        |it| {
            let missing = |_: &_| Ok::<_, String>(Loaded::missing().ttl(ms(80)));
            it.at(&1).ttl(ms(10)).load(missing).unwrap_err();
            it.advance(ms(79));
            assert!(it.get_or_load(&1, common::uncalled).unwrap_err().is_not_found());
            it.advance(ms(1));
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
        },
    );
}

#[test]
fn a_value_and_a_not_found_of_one_key_take_each_others_place() {
    with_cache(
        |builder| builder.time_to_live(ms(20)).negative_ttl(ms(50)),
        |it| {
            for _ in 0..3 {
                it.insert(1, 10);
                it.advance(ms(20));
                it.at(&1).load(|_| Ok::<_, String>(None)).unwrap_err();
                assert_eq!((it.len(), it.get(&1)), (1, None));
                it.insert(1, 11);
                assert_eq!((it.len(), it.get(&1)), (1, Some(11)));
                assert_eq!(it.remove(&1), Some(11));
                let causes = [RemovalCause::Expired, RemovalCause::Removed];
                let told = it.removals.take();
                assert_eq!(told.iter().map(|told| told.2).collect::<Vec<_>>(), causes);
            }
        },
    );
}

#[test]
fn a_failure_replaces_nothing_and_is_not_remembered() {
    with_cache(
        |builder| builder.negative_ttl(ms(50)),
        |it| {
            let error = it.get_or_load_optional(&1, || Err("away".to_owned())).unwrap_err();
            assert_eq!(error.loader().unwrap(), "away");
            assert_eq!(it.len(), 0);
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
            assert_eq!(it.stats().load_failures, 1);
        },
    );
}
