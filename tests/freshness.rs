//! How long a value is served: lives, jitter, sliding expiry, and the clock behind them.

mod common;

use common::gate::Gate;
use common::{Record, checked, ms, secs, with_cache};
use larder::{Cache, Clock, How, LoadError, LoadReason, Loaded, RemovalCause, StaleWhy};
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

#[test]
fn a_value_is_fresh_one_millisecond_before_its_time_to_live_and_gone_at_it() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(299));
            assert_eq!(it.get(&1), Some(10));
            assert!(it.contains(&1));
            it.advance(Duration::from_nanos(999_999));
            assert_eq!(it.get(&1), Some(10), "not a nanosecond too early");
            it.advance(Duration::from_nanos(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn what_has_expired_is_nowhere_to_be_seen_before_it_is_freed() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(300));
            assert_eq!(it.get(&1), None);
            assert!(it.peek(&1).is_none(), "there is no stale window");
            assert!(!it.contains(&1));
            assert_eq!(it.entries().count(), 0);
            assert_eq!(it.remove_if(|_, _| true), 0);
            assert!(!it.expire(&1));
            let got = it.at(&1).load(|cx| {
                assert_eq!(cx.reason(), LoadReason::Expired);
                Ok::<_, String>(20)
            });
            assert_eq!(got.unwrap().how, How::Loaded);
        },
    );
}

#[test]
fn the_life_of_a_loaded_value_begins_when_it_is_stored() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            let slow = || {
                it.advance(ms(250));
                Ok::<_, String>(1)
            };
            assert_eq!(it.get_or_load(&1, slow).unwrap(), 1);
            it.advance(ms(299));
            assert_eq!(it.get(&1), Some(1));
            it.advance(ms(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn an_overwrite_begins_a_new_life() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(200));
            it.insert(1, 11);
            it.advance(ms(299));
            assert_eq!(it.get(&1), Some(11));
            it.advance(ms(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

fn lives(seed: u64) -> Vec<Duration> {
    let (clock, _) = Clock::manual();
    let cache = checked(
        Cache::<u64, u64>::builder()
            .max_entries(1_000)
            .shards(4)
            // with a hasher of its own choice a key may land in another shard
            .hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
            .time_to_live(secs(10))
            .jitter(0.25)
            .seed(seed)
            .clock(clock),
    );
    for key in 0..1_000 {
        cache.insert(key, key);
    }
    (0..1_000).map(|key| cache.peek(&key).unwrap().fresh_for).collect()
}

#[test]
fn jitter_only_shortens_and_spreads_over_its_whole_range() {
    let lives = lives(7);
    assert!(lives.iter().all(|life| (ms(7_500)..=secs(10)).contains(life)));
    // of 1,000 uniform draws, each twentieth of the range gets some
    for twentieth in 0..20 {
        let from = ms(7_500 + twentieth * 125);
        assert!(lives.iter().any(|life| (from..=from + ms(125)).contains(life)), "{from:?}");
    }
}

#[test]
fn the_same_seed_draws_the_same_lives_and_another_one_others() {
    assert_eq!(lives(7), lives(7));
    assert_ne!(lives(7), lives(8));
}

#[test]
fn one_shard_draws_the_same_lives_whatever_its_hasher() {
    let lives = || {
        let (clock, _) = Clock::manual();
        let builder = Cache::<u64, u64>::builder().max_entries(200).shards(1).clock(clock);
        let cache = checked(builder.time_to_live(secs(10)).jitter(0.25).seed(7));
        (0..100).for_each(|key| cache.insert(key, key));
        (0..100).map(|key| cache.peek(&key).unwrap().fresh_for).collect::<Vec<_>>()
    };
    assert_eq!(lives(), lives(), "each cache has a hasher of its own");
}

#[test]
fn with_a_hasher_that_is_given_the_same_entries_stay() {
    let left = || {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let builder = Cache::<u64, u64>::builder().max_entries(200).shards(4).hasher(hasher);
        let cache = checked(builder.seed(7));
        for turn in 0..5_000 {
            cache.get_or_insert_with(&(turn * turn % 701), || turn);
        }
        (0..701).filter(|key| cache.contains(key)).collect::<Vec<_>>()
    };
    assert_eq!(left(), left());
}

#[test]
fn a_drawn_life_is_kept_to_the_millisecond() {
    let (clock, hand) = Clock::manual();
    let cache = checked(
        Cache::<u64, u64>::builder()
            .max_entries(100)
            .time_to_live(secs(10))
            .jitter(1.0)
            .clock(clock),
    );
    cache.insert(1, 1);
    let life = cache.peek(&1).unwrap().fresh_for;
    assert!(life >= ms(1), "a life is never drawn down to nothing");
    hand.advance(life.saturating_sub(ms(1)));
    assert_eq!(cache.get(&1), Some(1));
    hand.advance(ms(1));
    assert_eq!(cache.get(&1), None);
}

#[test]
fn what_is_said_about_one_entry_wins_over_the_cache_and_the_loader_has_the_last_word() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            let fresh_for = |key| it.peek(&key).unwrap().fresh_for;
            it.at(&1).ttl(ms(50)).insert(1);
            it.at(&2).ttl(secs(50)).insert(2);
            assert_eq!((fresh_for(1), fresh_for(2)), (ms(50), secs(50)));

            it.at(&3).ttl(ms(70)).load(|_| Ok::<_, String>(3)).unwrap();
            assert_eq!(fresh_for(3), ms(70));
            let said = |_: &_| Ok::<_, String>(Loaded::new(4).ttl(ms(90)));
            let got = it.at(&4).ttl(ms(70)).load(said).unwrap();
            assert_eq!((fresh_for(4), got.fresh_for), (ms(90), ms(90)));

            it.insert(1, 1);
            assert_eq!(fresh_for(1), ms(300), "what was said was said about the old value");
        },
    );
}

#[test]
fn a_time_to_live_of_zero_stores_nothing_and_removes_what_was_there() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            it.at(&1).ttl(Duration::ZERO).insert(11);
            assert_eq!((it.get(&1), it.len()), (None, 0));
            let told = [(1, 10, RemovalCause::Removed), (1, 11, RemovalCause::Expired)];
            assert_eq!(it.removals.take(), told);

            let zero = |_: &_| Ok::<_, String>(Loaded::new(12).ttl(Duration::ZERO));
            let got = it.at(&1).load(zero).unwrap();
            assert_eq!((got.value, got.how, got.fresh_for), (12, How::Loaded, Duration::ZERO));
            assert_eq!((it.get(&1), it.len()), (None, 0));
            assert!(it.removals.take().is_empty(), "its caller has it");
        },
    );
    with_cache(
        |builder| builder.time_to_live(Duration::ZERO),
        |it| {
            it.insert(1, 10);
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(11)).unwrap(), 11);
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(12)).unwrap(), 12);
            assert_eq!(it.len(), 0);
        },
    );
}

#[test]
fn the_longest_durations_mean_for_ever() {
    for ttl in [Duration::MAX, secs(u64::MAX), secs(200 * 365 * 86_400)] {
        with_cache(
            |builder| builder.time_to_live(ttl).jitter(1.0).time_to_idle(ttl).negative_ttl(ttl),
            |it| {
                it.insert(1, 10);
                it.at(&2).ttl(Duration::MAX).insert(20);
                assert_eq!(it.get_or_load_optional(&3, || Ok::<_, String>(None)).unwrap(), None);
                assert_eq!(it.peek(&1).unwrap().fresh_for, Duration::MAX);
                it.advance(secs(60 * 365 * 86_400));
                it.sweep();
                assert_eq!((it.get(&1), it.get(&2)), (Some(10), Some(20)));
                let known = it.get_or_load(&3, common::uncalled);
                assert!(matches!(known, Err(LoadError::NotFound)));
            },
        );
    }
}

#[test]
fn the_shortest_duration_is_rounded_up_and_not_to_nothing() {
    with_cache(
        |builder| builder.time_to_live(Duration::from_nanos(1)),
        |it| {
            it.insert(1, 10);
            assert_eq!(it.get(&1), Some(10));
            it.advance(ms(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn a_hit_slides_the_idle_expiry_but_never_past_the_time_to_live() {
    with_cache(
        |builder| builder.time_to_idle(ms(100)).time_to_live(ms(250)),
        |it| {
            it.insert(1, 10);
            it.insert(2, 20);
            it.advance(ms(99));
            assert_eq!(it.get(&1), Some(10));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(100));
            it.advance(ms(1));
            assert_eq!(it.get(&2), None, "nobody used it");
            it.advance(ms(98));
            assert_eq!(it.get(&1), Some(10));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(52), "its time to live is the end");
            it.advance(ms(51));
            assert_eq!(it.get_or_load(&1, common::uncalled).unwrap(), 10);
            it.advance(ms(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn looking_without_using_does_not_slide_the_idle_expiry() {
    with_cache(
        |builder| builder.time_to_idle(ms(100)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(99));
            assert!(it.contains(&1));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(1));
            assert_eq!(it.entries().count(), 1);
            assert_eq!(it.remove_if(|_, _| false), 0);
            it.advance(ms(1));
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn an_idle_expiry_is_the_entrys_own_when_the_table_grows() {
    with_cache(
        |builder| builder.time_to_idle(ms(100)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(60));
            for key in 100..800 {
                it.insert(key, key);
            }
            it.advance(ms(40));
            assert_eq!(it.get(&1), None, "growing is no use of an entry");
            assert_eq!(it.get(&100), Some(100));
        },
    );
}

#[test]
fn got_tells_how_old_a_value_is_and_how_long_it_is_good_for() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            let got = it.at(&1).load(|_| Ok::<_, String>(10)).unwrap();
            assert_eq!((got.how, got.age, got.fresh_for), (How::Loaded, ms(0), ms(300)));
            it.advance(ms(120));
            let got = it.at(&1).load(|_| common::uncalled::<u64>()).unwrap();
            assert_eq!((got.how, got.age, got.fresh_for), (How::Fresh, ms(120), ms(180)));
            let (key, walked) = it.entries().next().unwrap();
            assert_eq!((key, walked), (1, got.clone()));
            assert_eq!(it.peek(&1), Some(got));
        },
    );
    let cache = checked(Cache::<u64, u64>::builder().max_entries(10));
    cache.insert(1, 10);
    let got = cache.peek(&1).unwrap();
    assert_eq!((got.how, got.fresh_for), (How::Fresh, Duration::MAX));
    assert_ne!(got.how, How::Stale(StaleWhy::Expired));
}

#[test]
fn the_clock_may_start_anywhere_and_stops_at_its_end() {
    let year = 365 * 86_400;
    for start in [0, 1, 34 * year, 35 * year, 69 * year, 70 * year, u64::MAX] {
        let (clock, hand) = Clock::manual_at(secs(start));
        let removals = Record::new();
        let cache = checked(
            Cache::<u64, u64>::builder()
                .max_entries(100)
                .time_to_live(ms(300))
                .time_to_idle(ms(200))
                .jitter(0.5)
                .clock(clock)
                .on_removal(removals.listener()),
        );
        cache.insert(1, 1);
        cache.at(&2).ttl(Duration::MAX).insert(2);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)), "from {start} s");
        cache.expire(&1);
        assert_eq!(cache.get(&1), None, "from {start} s");
        hand.advance(Duration::MAX);
        hand.advance(Duration::MAX);
        cache.sweep();
        cache.insert(3, 3);
        assert_eq!(cache.get(&3), Some(3), "the clock stands still now");
        assert_eq!(cache.get_or_load(&4, || Ok::<_, String>(4)).unwrap(), 4);
        cache.clear();
        assert_eq!(removals.count(), 4, "from {start} s");
    }
}

#[test]
fn the_clock_is_read_after_waiting_for_the_lock() {
    static HASHED: AtomicBool = AtomicBool::new(false);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::new);

    /// One that holds up compares, which is done under the lock, until the gate is open, and is
    /// equal to nothing; the others tell that they come.
    #[derive(Clone)]
    struct Key {
        holds_up: bool,
    }
    impl PartialEq for Key {
        fn eq(&self, _: &Self) -> bool {
            if self.holds_up {
                GATE.pass(());
            }
            !self.holds_up
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            1.hash(state);
            HASHED.store(!self.holds_up, SeqCst);
        }
    }

    let (clock, hand) = Clock::manual();
    let builder = Cache::<Key, u64>::builder().max_entries(10).time_to_live(ms(300)).clock(clock);
    let cache = checked(builder);
    cache.insert(Key { holds_up: false }, 10);
    thread::scope(|scope| {
        let writer = scope.spawn(|| assert!(!cache.expire(&Key { holds_up: true })));
        GATE.wait_until_entered(1);
        HASHED.store(false, SeqCst);
        let reader = scope.spawn(|| cache.get(&Key { holds_up: false }));
        common::wait_until(|| HASHED.load(SeqCst));
        // it goes on to wait for the lock, and there the life of what it wants ends
        (0..1_000).for_each(|_| thread::yield_now());
        hand.advance(ms(300));
        GATE.open();
        assert_eq!(reader.join().unwrap(), None);
        writer.join().unwrap();
    });
}
