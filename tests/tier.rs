//! A second tier behind caches: what one has, others find; what one removes, none keeps.
//!
//! Two caches on one `MemoryTier` are two processes. Changes reach the tier in the background:
//! `settled` waits until they have.

mod common;

use common::gate::Gate;
use common::{Checked, Watchdog, checked, ms, parting, secs, wait_until, watched};
use larder::{
    Cache, CacheBuilder, Clock, How, LoadError, LoadReason, Loaded, ManualClock, MemoryTier,
    RefreshAhead, StaleWhy, SteppingRuntime, Tag, Tier, TierChange, TierEntry, TierError,
    TierFound, TierKey, TierTicket, TierWatcher, WriteBehind,
};
use parking_lot::Mutex;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

type Shared = MemoryTier<String, u64>;
type Process = Checked<String, u64>;

/// The tier's own time to live.
const TIER_TTL: Duration = Duration::from_secs(100);

struct Two {
    one: Process,
    other: Process,
    tier: Shared,
    hand: ManualClock,
}

fn two(with: impl Fn(CacheBuilder<String, u64>) -> CacheBuilder<String, u64>) -> Two {
    let (clock, hand) = Clock::manual();
    let tier = MemoryTier::with(clock.clone(), TIER_TTL);
    let process = || {
        let builder = Cache::builder().max_entries(100).time_to_live(secs(10));
        checked(with(builder.clock(clock.clone())).tier(tier.join()))
    };
    Two { one: process(), other: process(), tier, hand }
}

/// Waits until all changes of a cache have reached its tier.
fn settled(cache: &Cache<String, u64>) {
    wait_until(|| cache.tier_pending() == 0);
    cache.tier_flush().unwrap();
}

fn uncalled<T>() -> Result<T, String> {
    panic!("the source was asked")
}

fn load(cache: &Cache<String, u64>, key: &str, value: u64) -> u64 {
    let value = cache.get_or_load(key, || Ok::<_, String>(value)).unwrap();
    settled(cache);
    value
}

/// How the value of "a" comes, if not by a load.
fn how(cache: &Cache<String, u64>) -> (u64, How) {
    let got = cache.at("a").load(|_| uncalled::<u64>()).unwrap();
    (got.value, got.how)
}

#[test]
fn what_one_process_loaded_the_others_do_not() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    assert_eq!(load(&one, "a", 1), 1);
    assert_eq!(tier.len(), 1);
    assert_eq!(how(&other), (1, How::Tier));
    assert_eq!(how(&other), (1, How::Fresh));
    let (first, second) = (one.stats(), other.stats());
    assert_eq!((first.loads, first.tier_hits, first.tier_misses), (1, 0, 1));
    assert_eq!((second.loads, second.tier_hits, second.tier_misses), (0, 1, 0));
    assert_eq!((second.hits, second.misses), (1, 1));
    // `get` looks here only, and a hit asks nobody
    let asked = tier.asked();
    assert_eq!((one.get("a"), one.get("b")), (Some(1), None));
    assert_eq!(tier.asked(), asked);
}

#[test]
fn tasks_and_plain_calls_ask_it_too() {
    let Two { one, other, .. } = two(|builder| builder.negative_ttl(secs(5)));
    for key in ["a", "b", "c", "d"] {
        load(&one, key, 1);
    }
    one.get_or_load_optional("none", || Ok::<_, String>(None)).unwrap();
    settled(&one);
    let ready = |future: std::pin::Pin<Box<dyn Future<Output = u64> + '_>>| {
        let mut future = future;
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("a tier in memory answers at once"),
        }
    };
    let load = other.get_or_load_async("a", || async { uncalled::<u64>() });
    assert_eq!(ready(Box::pin(async { load.await.unwrap() })), 1);
    let made = other.get_or_insert_with_async("b", || async { panic!("it was made") });
    assert_eq!(ready(Box::pin(made)), 1);
    assert_eq!(other.get_or_insert_with("c", || panic!("it was made")), 1);
    let at = other.at("d").load_async(|_| async { uncalled::<u64>() });
    assert_eq!(ready(Box::pin(async { at.await.unwrap().value })), 1);
    assert_eq!(other.get_or_load_optional("none", uncalled).unwrap(), None);
    // "there is none" is no answer for who makes one
    assert_eq!(two(|b| b.negative_ttl(secs(5))).one.get_or_insert_with("none", || 7), 7);
    assert_eq!(other.stats().loads, 0);
    assert_eq!(other.stats().tier_hits, 5);
}

#[test]
fn a_copy_lives_as_long_as_here_and_no_longer_than_there() {
    let Two { one, other, hand, .. } = two(|builder| builder);
    load(&one, "a", 1);
    hand.advance(secs(95));
    // of the tier's 100 seconds 5 are left
    let got = other.at("a").load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.age, got.fresh_for), (secs(95), secs(5)));
    assert_eq!(other.peek("a").unwrap().age, secs(95));
    hand.advance(secs(5));
    assert_eq!(other.get("a"), None);
    assert_eq!(load(&other, "a", 2), 2);
    // 10 is what the cache says, and what a caller or a loader says is said there too
    hand.advance(secs(1));
    let got = one.at("a").load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.age, got.fresh_for), (2, secs(1), secs(10)));
    one.at("b").ttl(secs(3)).insert(3);
    one.at("c").load(|_| Ok::<_, String>(Loaded::new(4).ttl(secs(2)))).unwrap();
    settled(&one);
    hand.advance(secs(1));
    let left = |key| other.at(key).load(|_| uncalled::<u64>()).unwrap().fresh_for;
    assert_eq!((left("b"), left("c")), (secs(2), secs(1)));
}

#[test]
fn without_a_life_of_its_own_it_keeps_nothing_longer_than_a_cache_would() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), None);
    let process = || {
        let builder = Cache::builder().max_entries(100).time_to_live(secs(10)).jitter(0.5);
        checked(builder.clock(clock.clone()).tier(tier.join()))
    };
    let (one, other) = (process(), process());
    let keys: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for key in &keys {
        one.get_or_load(key.as_str(), || Ok::<_, String>(1)).unwrap();
    }
    one.tier_flush().unwrap();
    // what was loaded together does not end together there either
    hand.advance(secs(8));
    let copied = keys.iter().filter(|key| {
        let got = other.at(key.as_str()).load(|_| Ok::<_, String>(2)).unwrap();
        assert!(got.value == 2 || got.fresh_for <= secs(2), "older than its time to live");
        got.how == How::Tier
    });
    assert!((1..50).contains(&copied.count()));
}

#[test]
fn what_a_tier_cannot_keep_is_refused_when_the_cache_is_built() {
    let tier = Shared::new();
    let builder = || Cache::<String, u64>::builder().max_entries(10).tier(tier.clone());
    let error = builder().time_to_idle(secs(1)).build().unwrap_err();
    assert_eq!(error, larder::ConfigError::TimeToIdleWithTier);
    let cache = builder().build().unwrap();
    let error = builder().build().unwrap_err();
    assert!(matches!(error, larder::ConfigError::Tier(TierError::Invalid(_))), "{error}");
    drop(cache);
    builder().build().unwrap();
}

#[test]
fn jitter_shortens_the_lives_of_copies() {
    let Two { one, other, .. } = two(|builder| builder.jitter(0.5).seed(7));
    let keys: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for key in &keys {
        one.insert(key.clone(), 1);
    }
    settled(&one);
    let lives: Vec<_> = keys
        .iter()
        .map(|key| other.at(key.as_str()).load(|_| uncalled::<u64>()).unwrap().fresh_for)
        .collect();
    assert!(lives.iter().all(|life| (secs(5)..=secs(10)).contains(life)), "{lives:?}");
    assert!(lives.iter().any(|life| *life < secs(7)) && lives.iter().any(|life| *life > secs(8)));
}

#[test]
fn a_removal_takes_the_copies_of_all_processes() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    how(&other);
    assert_eq!(one.remove("a"), Some(1));
    settled(&one);
    assert_eq!((other.get("a"), tier.len()), (None, 0));
    assert_eq!(other.stats().tier_news, 2); // the load, before it had a copy, and the removal
    assert_eq!(load(&other, "a", 2), 2);
    // also by one who has no copy
    assert_eq!(one.remove("a"), None);
    settled(&one);
    assert_eq!((other.get("a"), tier.len()), (None, 0));
}

#[test]
fn an_insert_replaces_the_copies_of_all_processes() {
    let Two { one, other, .. } = two(|builder| builder);
    load(&one, "a", 1);
    how(&other);
    one.insert("a".to_owned(), 2);
    settled(&one);
    assert_eq!(other.get("a"), None);
    assert_eq!(how(&other), (2, How::Tier));
    one.write_through("a".to_owned(), 3, |_, _| Ok::<_, String>(())).unwrap();
    settled(&one);
    assert_eq!(how(&other), (3, How::Tier));
    one.write_through("a".to_owned(), 4, |_, _| Err("refused")).unwrap_err();
    settled(&one);
    assert_eq!(load(&other, "a", 5), 5);
    drop(one.writing("a"));
    settled(&one);
    assert_eq!(load(&other, "a", 6), 6);
    one.at("a").ttl(Duration::ZERO).insert(7);
    settled(&one);
    assert_eq!(load(&other, "a", 8), 8);
}

#[test]
fn a_change_by_what_is_here_is_told_like_any_other() {
    let Two { one, other, hand, .. } = two(|builder| builder);
    load(&one, "a", 1);
    assert_eq!(how(&other), (1, How::Tier));
    hand.advance(secs(4));
    let more = |n: Option<u64>| n.map(|n| n + 1);
    assert_eq!(one.at("a").keep_life().alter(more), Some(2));
    settled(&one);
    assert_eq!((other.get("a"), how(&other)), (None, (2, How::Tier)));
    assert_eq!(other.peek("a").unwrap().fresh_for, secs(6), "what was left of the life it kept");
    assert_eq!(other.alter("a", |_| None), None);
    settled(&other);
    assert_eq!(load(&one, "a", 7), 7);
    // what is there and not here is not asked for, and stays
    settled(&one);
    assert_eq!(other.alter("a", more), None);
    settled(&other);
    assert_eq!(how(&other), (7, How::Tier));
}

#[test]
fn a_life_that_is_kept_is_no_younger_there_and_ends_when_it_would_have() {
    let Two { one, other, hand, .. } = two(|builder| builder.jitter(0.5));
    one.insert("a".to_owned(), 1);
    hand.advance(secs(4));
    let left = one.peek("a").unwrap().fresh_for;
    one.at("a").keep_life().alter(|n| n.map(|n| n + 1));
    settled(&one);
    // what a copy would draw of its own is longer
    let got = other.at("a").ttl(Duration::MAX).load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.how, got.age, got.fresh_for), (2, How::Tier, secs(4), left));
}

#[test]
fn what_expired_is_not_fresh_anywhere_and_may_be_served_stale() {
    let Two { one, other, hand, .. } = two(|builder| builder.stale_if_error(secs(60)));
    load(&one, "a", 1);
    how(&other);
    assert!(one.expire("a"));
    settled(&one);
    assert_eq!(other.get("a"), None);
    hand.advance(secs(1));
    let got = other.at("a").load(|_| Err::<u64, _>("the source is away")).unwrap();
    assert_eq!((got.value, got.how), (1, How::Stale(StaleWhy::LoadFailed)));
    hand.advance(secs(5)); // the source was left alone for that long
    assert_eq!(load(&other, "a", 2), 2);
    assert_eq!(how(&one), (2, How::Tier));
}

#[test]
fn what_is_past_its_life_there_is_shown_to_the_loader_and_served_if_that_fails() {
    let Two { one, other, hand, .. } = two(|builder| builder.stale_if_error(secs(60)));
    let load = |_: &_| Ok::<_, String>(Loaded::new(1).validator("v1").tag("some"));
    one.at("a").ttl(secs(10)).load(load).unwrap();
    settled(&one);
    hand.advance(secs(30));
    // a process that never had it
    let got = other.at("a").load(|cx| {
        assert_eq!((cx.stale(), cx.validator()), (Some(&1), Some("v1")));
        Err::<u64, _>("the source is away")
    });
    let got = got.unwrap();
    assert_eq!((got.value, got.how), (1, How::Stale(StaleWhy::LoadFailed)));
    assert_eq!(got.age, secs(30));
    // it does not live longer for having been copied: 10 + 60 seconds after its load it is gone
    hand.advance(secs(39));
    assert!(other.at("a").load(|_| Err::<u64, _>("away")).is_ok());
    hand.advance(secs(1));
    let error = other.at("a").load(|_| Err::<u64, _>("away")).unwrap_err();
    assert!(matches!(error, LoadError::Loader(_)));
    // what is renewed is renewed there too
    let Two { one, other, hand, .. } = two(|builder| builder.stale_if_error(secs(60)));
    one.at("a").ttl(secs(10)).load(load).unwrap();
    settled(&one);
    hand.advance(secs(20));
    let got = other.at("a").ttl(secs(10)).load(|_| Ok::<Loaded<u64>, String>(Loaded::unchanged()));
    assert_eq!(got.unwrap().value, 1);
    settled(&other);
    let got = one.at("a").load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.how, got.validator.as_deref()), (1, How::Tier, Some("v1")));
    other.remove_tag("some");
    settled(&other);
    assert_eq!(one.get("a"), None);
}

#[test]
fn a_stale_copy_is_served_while_it_is_loaded_again() {
    let Two { one, other, hand, .. } = two(|builder| builder.stale_while_revalidate(secs(60)));
    one.at("a").ttl(secs(10)).insert(1);
    settled(&one);
    hand.advance(secs(20));
    let gate = Gate::new();
    thread::scope(|scope| {
        let first = scope.spawn(|| other.get_or_load("a", || Ok::<_, String>(gate.pass(2))));
        gate.wait_until_entered(1);
        let got = other.at("a").load(|_| uncalled::<u64>()).unwrap();
        assert_eq!((got.value, got.how), (1, How::Stale(StaleWhy::Revalidating)));
        gate.open();
        assert_eq!(first.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn of_many_keys_one_that_is_loaded_in_the_background_is_one_load() {
    let ((clock, hand), runtime) = (Clock::manual(), SteppingRuntime::new());
    let tier = Shared::with(clock.clone(), secs(10));
    let builder = Cache::builder().max_entries(100).time_to_live(secs(10)).clock(clock).tier(tier);
    let builder = builder.stale_while_revalidate(secs(10)).runtime(runtime.clone());
    let cache = builder.build_loading_fn(|_: &String| Ok::<_, String>(2)).unwrap();
    let _checked = watched(&cache);
    cache.insert("a".to_owned(), 1);
    settled(&cache);
    hand.advance(secs(10));
    let many = cache.load_many(&["a".to_owned()]);
    assert_eq!(many.got[0].1.how, How::Stale(StaleWhy::Revalidating));
    runtime.run_until_stalled();
    assert_eq!((cache.get("a"), cache.stats().loads), (Some(2), 1));
}

#[test]
fn tags_reach_all_processes() {
    let Two { one, other, tier, .. } = two(|builder| builder.stale_if_error(secs(60)));
    one.at("a").tag("said").load(|_| Ok::<_, String>(Loaded::new(1).tag("loaded"))).unwrap();
    one.at("b").tag("said").insert(2);
    one.at("c").insert(3);
    settled(&one);
    for key in ["a", "b", "c"] {
        other.get_or_load(key, uncalled).unwrap();
    }
    // by a process whose copy has them from the tier
    other.remove_tag("loaded");
    settled(&other);
    assert_eq!((one.get("a"), one.get("b"), one.get("c")), (None, Some(2), Some(3)));
    assert_eq!(load(&one, "a", 4), 4);
    one.expire_tag("said");
    settled(&one);
    assert_eq!((other.get("b"), other.get("c")), (None, Some(3)));
    let got = other.at("b").load(|_| Err::<u64, _>("away")).unwrap();
    assert_eq!((got.value, got.how), (2, How::Stale(StaleWhy::LoadFailed)));
    assert_eq!(tier.len(), 3);
    other.clear();
    settled(&other);
    assert_eq!((one.len(), one.get("c")), (0, None));
    assert_eq!(load(&one, "c", 5), 5);
}

#[test]
fn the_windows_of_what_expired_by_its_tag_end_there_too() {
    let Two { one, other, hand, .. } = two(|builder| builder.stale_if_error(secs(20)));
    one.at("a").tag("some").insert(1);
    settled(&one);
    hand.advance(secs(1));
    one.expire_tag("some");
    settled(&one);
    let late = |other: &Process| other.at("a").load(|_| Err::<u64, _>("away")).map(|got| got.value);
    hand.advance(secs(19));
    assert_eq!(late(&other).unwrap(), 1);
    hand.advance(secs(1));
    assert!(late(&other).is_err());
}

#[test]
fn what_is_written_with_a_tag_that_goes_meanwhile_is_in_no_process() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    let write = |key: &str, happens: &dyn Fn()| {
        let write = |_: &String, _: &u64| {
            happens();
            Ok::<_, String>(())
        };
        one.at(key).tag(key).write_through(1, write).unwrap();
    };
    write("a", &|| one.remove_tag("a"));
    write("b", &|| one.expire_tag("b"));
    write("c", &|| {
        other.remove_tag("c");
        settled(&other);
    });
    // a weigher, for what another thread might do at that moment
    let own = Arc::new(Mutex::new(None::<Cache<String, u64>>));
    let weigher = {
        let own = Arc::clone(&own);
        move |_: &String, _: &u64| {
            own.lock().take().inspect(|own| own.remove_tag("d"));
            1
        }
    };
    let third = checked(Cache::builder().max_weight(100).weigher(weigher).tier(tier.join()));
    *own.lock() = Some((*third).clone());
    third.at("d").tag("d").insert(1);
    assert_eq!(third.get("d"), None);
    settled(&one);
    settled(&third);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(one.get(key), None);
        assert_eq!((load(&one, key, 2), load(&other, key, 3)), (2, 2), "{key}");
    }
}

#[test]
fn remove_if_takes_out_there_what_it_found_here() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
        one.insert(key.to_owned(), n as u64);
        settled(&one);
        other.get_or_load(key, uncalled).unwrap();
    }
    assert_eq!(one.remove_if(|_, value| *value > 0), 2);
    settled(&one);
    assert_eq!((other.get("a"), other.get("b"), other.get("c")), (Some(0), None, None));
    assert_eq!(tier.len(), 1);
}

/// What a load does that began before something happened to its key, in the other process.
fn a_load_that_began_before(happens: impl Fn(&Two), stands: Option<u64>) {
    let it = two(|builder| builder);
    let gate = Gate::new();
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let load = |_: &_| Ok::<_, String>(Loaded::new(gate.pass(1)).tag("some"));
            it.other.at("a").load(load).unwrap().value
        });
        gate.wait_until_entered(1);
        happens(&it);
        settled(&it.one);
        gate.open();
        assert_eq!(load.join().unwrap(), 1);
    });
    settled(&it.other);
    assert_eq!(it.other.get("a"), None, "an old value is cached");
    match stands {
        Some(value) => assert_eq!(how(&it.one).0, value, "an old value reached the tier"),
        None => assert_eq!(load(&it.one, "a", 9), 9, "an old value reached the tier"),
    }
}

#[test]
fn a_load_that_began_before_a_change_elsewhere_stores_nothing_anywhere() {
    a_load_that_began_before(|it| _ = it.one.remove("a"), None);
    a_load_that_began_before(|it| it.one.insert("a".to_owned(), 2), Some(2));
    a_load_that_began_before(|it| _ = it.one.expire("a"), None);
    a_load_that_began_before(|it| it.one.remove_tag("some"), None);
    a_load_that_began_before(|it| it.one.clear(), None);
}

#[test]
fn nor_where_it_does_not_hear_of_the_change() {
    // the message is lost: its own copy stays, for as long as it lives, but the tier is not led astray
    for change in [
        |cache: &Process| _ = cache.remove("a"),
        |cache: &Process| _ = cache.expire("a"),
        |cache: &Process| cache.remove_tag("some"),
        |cache: &Process| cache.clear(),
    ] {
        let it = two(|builder| builder);
        it.tier.deafen(true);
        let gate = Gate::new();
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let load = |_: &_| Ok::<_, String>(Loaded::new(gate.pass(1)).tag("some"));
                it.other.at("a").load(load).unwrap().value
            });
            gate.wait_until_entered(1);
            change(&it.one);
            settled(&it.one);
            gate.open();
            load.join().unwrap();
        });
        settled(&it.other);
        assert_eq!(load(&it.one, "a", 9), 9, "an old value reached the tier");
    }
}

#[test]
fn while_it_cannot_be_reached_the_source_is_asked() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    tier.fail(true);
    assert_eq!(other.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
    assert_eq!((other.stats().tier_errors, other.stats().loads), (1, 1));
    let state = |cache: &Process| cache.explain("a").tier.map(|tier| (tier.is_asked, tier.pending));
    assert_eq!((state(&one), state(&other)), (Some((true, 0)), Some((true, 0))));
    // a removal that does not arrive is remembered, and until it has arrived nobody asks for the key
    assert_eq!(one.remove_everywhere("a"), Err(TierError::Unreachable("the test says so".into())));
    assert_eq!((one.tier_pending(), state(&one)), (1, Some((false, 1))));
    let asked = tier.asked();
    assert_eq!(one.get_or_load("a", || Ok::<_, String>(3)).unwrap(), 3);
    assert_eq!((tier.asked(), one.stats().tier_errors), (asked, 0));
    tier.fail(false);
    settled(&one);
    assert_eq!(load(&other, "a", 4), 4, "what was removed meanwhile came back");
}

#[test]
fn a_value_that_was_written_while_it_could_not_be_reached_is_removed_there() {
    let Two { one, other, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    tier.fail(true);
    one.insert("a".to_owned(), 2);
    let waker = Waker::noop();
    let mut all = Box::pin(one.remove_everywhere_async("b"));
    while all.as_mut().poll(&mut Context::from_waker(waker)).is_pending() {
        thread::yield_now();
    }
    tier.fail(false);
    settled(&one);
    // it may have arrived, and others may have written since: nobody knows, so nothing is there
    assert_eq!(load(&other, "a", 3), 3);
}

#[test]
fn what_may_have_been_missed_is_asked_for_again() {
    let Two { one, other, tier, .. } = two(|builder| builder.negative_ttl(secs(5)));
    for key in ["a", "b"] {
        load(&one, key, 1);
        other.get_or_load(key, uncalled).unwrap();
    }
    other.get_or_load_optional("none", || Ok::<_, String>(None)).unwrap();
    tier.deafen(true);
    one.remove("a");
    settled(&one);
    assert_eq!(other.get("a"), Some(1), "it could not know");
    tier.deafen(false);
    tier.fail(true);
    assert_eq!(other.get("b"), Some(1), "meanwhile what is here is served as it lives");
    tier.fail(false);
    assert_eq!((other.get("a"), other.get("b")), (None, None));
    assert_eq!(other.get_or_load("b", uncalled).unwrap(), 1);
    assert_eq!(load(&other, "a", 2), 2);
}

#[test]
fn what_others_removed_unheard_is_not_served_when_the_source_fails() {
    let Two { one, other, tier, hand } =
        two(|builder| builder.stale_if_error(secs(1_000)).error_backoff(ms(0), ms(0)));
    for key in ["a", "b"] {
        load(&one, key, 1);
        other.get_or_load(key, uncalled).unwrap();
    }
    tier.deafen(true);
    one.remove("a");
    settled(&one);
    tier.deafen(false);
    tier.fail(true);
    tier.fail(false);
    hand.advance(secs(1));
    let away = || Err::<u64, _>("away".to_owned());
    assert_eq!(other.get_or_load("b", away).unwrap(), 1, "it is still there");
    assert!(other.get_or_load("a", away).is_err(), "the tier knows that it is gone");
    // and where the tier cannot be asked nobody knows
    other.get_or_load("b", uncalled).unwrap();
    tier.fail(true);
    tier.fail(false);
    tier.fail(true);
    assert_eq!(other.get_or_load("b", away).unwrap(), 1);
    tier.fail(false);
}

#[test]
fn what_others_changed_unheard_is_served_to_nobody_before_it_was_asked_for() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), TIER_TTL);
    let builder = || {
        let builder = Cache::builder().max_entries(100).time_to_live(secs(10));
        builder.stale_while_revalidate(secs(1_000)).clock(clock.clone()).tier(tier.join())
    };
    let one = checked(builder());
    let runtime = SteppingRuntime::new();
    let loading = builder().runtime(runtime.clone());
    let other = loading.build_loading_fn(|_: &String| uncalled::<u64>()).unwrap();
    let _checked = watched(&other);
    load(&one, "a", 1);
    assert_eq!(other.load("a").unwrap(), 1);
    tier.deafen(true);
    one.insert("a".to_owned(), 2);
    settled(&one);
    tier.deafen(false);
    tier.fail(true);
    tier.fail(false);
    assert_eq!(other.load("a").unwrap(), 2);
    // what is past its life otherwise is served at once
    hand.advance(secs(10));
    assert_eq!(other.load("a").unwrap(), 2);
    assert_eq!(runtime.ready(), 1);
    runtime.shut_down();
}

#[test]
fn what_is_due_is_taken_from_a_tier_that_keeps_it_for_long() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), TIER_TTL);
    let builder = || {
        let builder = Cache::builder().max_entries(100).time_to_live(secs(10));
        builder.refresh_ahead(RefreshAhead::At(0.8)).clock(clock.clone()).tier(tier.join())
    };
    let one = checked(builder());
    let (runtime, loads) = (SteppingRuntime::new(), Arc::new(AtomicUsize::new(0)));
    let loading = builder().runtime(runtime.clone());
    let counted = Arc::clone(&loads);
    let other = loading
        .build_loading_fn(move |_: &String| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(2)
        })
        .unwrap();
    let _checked = watched(&other);
    load(&one, "a", 1);
    hand.advance(secs(50));
    assert_eq!(other.load("a").unwrap(), 1);
    // most of its life there is over, none of it here
    assert_eq!((other.get("a"), runtime.ready()), (Some(1), 0));
    hand.advance(secs(8));
    assert_eq!((other.get("a"), runtime.run_until_stalled()), (Some(1), 1));
    let got = other.peek("a").unwrap();
    assert_eq!((got.value, got.age, got.fresh_for), (1, secs(58), secs(10)));
    assert_eq!(loads.load(Ordering::SeqCst), 0);
    // who says so has it from the source
    other.refresh("a");
    runtime.run_until_stalled();
    assert_eq!((other.get("a"), loads.load(Ordering::SeqCst)), (Some(2), 1));
    settled(&other);
    // and so has what the tier is about to let go
    hand.advance(secs(91));
    assert_eq!(one.get_or_load("a", uncalled).unwrap(), 2);
    assert_eq!(other.load("a").unwrap(), 2);
    hand.advance(secs(8));
    assert_eq!((other.get("a"), runtime.run_until_stalled()), (Some(2), 1));
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[test]
fn that_the_source_has_nothing_is_told_only_where_there_was_something() {
    let Two { one, other, hand, .. } = two(|builder| builder.stale_if_error(secs(1_000)));
    for key in ["x", "y", "z"] {
        assert_eq!(one.get_or_load_optional(key, || Ok::<_, String>(None)).unwrap(), None);
    }
    settled(&one);
    assert_eq!(other.stats().tier_news, 0);
    load(&one, "a", 1);
    assert_eq!(other.get_or_load("a", uncalled).unwrap(), 1);
    let before = other.stats().tier_news;
    hand.advance(TIER_TTL);
    assert_eq!(one.get_or_load_optional("a", || Ok::<_, String>(None)).unwrap(), None);
    settled(&one);
    assert_eq!(other.stats().tier_news, before + 1);
    assert!(other.get_or_load("a", || Err::<u64, _>("away")).is_err(), "nor is it served on error");
}

#[test]
fn force_goes_to_the_source_and_max_age_as_far_as_it_must() {
    let Two { one, other, hand, .. } = two(|builder| builder);
    load(&one, "a", 1);
    hand.advance(secs(5));
    let got = other.at("a").max_age(secs(5)).load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.how), (1, How::Tier));
    hand.advance(secs(1));
    let got = other.at("a").max_age(secs(5)).load(|_| Ok::<_, String>(2)).unwrap();
    assert_eq!((got.value, got.how), (2, How::Loaded));
    settled(&other);
    assert_eq!(how(&one), (2, How::Tier));
    let got = one.at("a").force().load(|cx| {
        assert_eq!(cx.reason(), LoadReason::Forced);
        Ok::<_, String>(3)
    });
    assert_eq!(got.unwrap().how, How::Loaded);
    settled(&one);
    assert_eq!(how(&other), (3, How::Tier));
}

#[test]
fn many_keys_are_one_question() {
    let Two { one, other, .. } = two(|builder| builder);
    for key in ["a", "b", "c"] {
        load(&one, key, 1);
    }
    let keys: Vec<String> = ["a", "x", "b", "y", "c"].map(str::to_owned).to_vec();
    let many = other.get_or_load_many(&keys, |missing: &[String]| {
        assert_eq!(missing, ["x", "y"]);
        Ok::<_, String>(missing.iter().map(|key| (key.clone(), 2)).collect::<Vec<_>>())
    });
    let got: Vec<_> =
        many.got.iter().map(|(key, got)| (key.as_str(), got.value, got.how)).collect();
    let (kept, loaded) = (How::Tier, How::Loaded);
    let all = [("a", 1, kept), ("x", 2, loaded), ("b", 1, kept), ("y", 2, loaded), ("c", 1, kept)];
    assert_eq!(got, all);
    assert_eq!((other.stats().loads, other.stats().tier_hits), (1, 3));
    settled(&other);
    // all of it by the tier, and no call of the source
    let many = one.get_or_load_many(&keys, |_: &[String]| uncalled::<Vec<(String, u64)>>());
    assert_eq!(many.got.len(), 5);
    let Two { one, .. } = Two { one, ..two(|builder| builder) };
    one.clear();
    settled(&one);
    let load = |missing: Vec<String>| async move {
        Ok::<_, String>(missing.into_iter().map(|key| (key, 3)).collect::<Vec<_>>())
    };
    let mut many = Box::pin(other.get_or_load_many_async(&keys, load));
    match many.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(many) => assert!(many.got.iter().all(|(_, got)| got.value == 3)),
        Poll::Pending => panic!("nothing is to be waited for"),
    }
}

/// A tier that does as another one, but holds back its answers, and counts its questions.
struct Slow {
    inner: Shared,
    gate: Gate,
    questions: Arc<AtomicUsize>,
    released: Arc<AtomicUsize>,
}

impl Slow {
    fn over(inner: &Shared, gate: &Gate) -> Self {
        Self {
            inner: inner.join(),
            gate: gate.clone(),
            questions: Arc::default(),
            released: Arc::default(),
        }
    }
}

impl Tier<String, u64> for Slow {
    async fn get(&self, key: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.get(key).await;
        self.gate.pass_async(()).await;
        found
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.inner.apply(changes).await
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        self.inner.watch(watcher)
    }

    fn release(&self, _: &TierKey, _: &TierTicket) {
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn news_that_come_between_the_answer_and_its_copy_win() {
    let Two { one, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    let gate = Gate::new();
    let slow = Slow::over(&tier, &gate);
    let other = checked(Cache::builder().max_entries(100).tier(slow));
    thread::scope(|scope| {
        let load = scope.spawn(|| other.get_or_load("a", uncalled));
        gate.wait_until_entered(1);
        one.remove("a");
        settled(&one);
        gate.open();
        // it asked before the removal, and is told what was there
        assert_eq!(load.join().unwrap().unwrap(), 1);
    });
    assert_eq!(other.get("a"), None, "a removed value was copied");
    assert_eq!(other.stats().fenced, 1);
}

#[test]
fn one_process_asks_once_whoever_waits() {
    let Two { one, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    let gate = Gate::new();
    let slow = Slow::over(&tier, &gate);
    let (questions, released) = (Arc::clone(&slow.questions), Arc::clone(&slow.released));
    let other = checked(Cache::builder().max_entries(100).tier(slow));
    thread::scope(|scope| {
        let first = scope.spawn(|| other.at("a").load(|_| uncalled::<u64>()).unwrap());
        gate.wait_until_entered(1);
        let second = scope.spawn(|| other.at("a").load(|_| uncalled::<u64>()).unwrap());
        other.wait_until_joined(1);
        // one who takes no old values waits too, and then loads
        let third = scope.spawn(|| {
            let load = |_: &_| Ok::<_, String>(2);
            other.at("a").force().load(load).unwrap()
        });
        wait_until(|| questions.load(Ordering::SeqCst) == 2 || other.stats().joined == 2);
        gate.open();
        assert_eq!(first.join().unwrap().how, How::Tier);
        assert_eq!(second.join().unwrap().how, How::Joined);
        assert_eq!((third.join().unwrap().value, other.get("a")), (2, Some(2)));
    });
    assert!(questions.load(Ordering::SeqCst) <= 2);
    // a load that fails gives its turn back
    let before = released.load(Ordering::SeqCst);
    other.get_or_load("b", || Err::<u64, _>("away")).unwrap_err();
    assert_eq!(released.load(Ordering::SeqCst), before + 1);
    drop(other);
    let _ = tier;
}

#[test]
fn a_task_that_is_dropped_while_it_asks_hands_the_key_on() {
    let Two { one, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    let gate = Gate::new();
    let other = checked(Cache::builder().max_entries(100).tier(Slow::over(&tier, &gate)));
    let mut asking = Box::pin(other.get_or_load_async("a", || async { uncalled::<u64>() }));
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(other.flights(), 1);
    drop(asking);
    assert_eq!(other.flights(), 0);
    gate.open();
    assert_eq!(how(&other), (1, How::Tier));
}

#[test]
fn one_that_never_answers_costs_the_load_timeout() {
    let (clock, hand) = Clock::manual();
    let tier = Slow::over(&MemoryTier::new(), &Gate::new());
    let builder = Cache::builder().max_entries(100).load_timeout(secs(1)).clock(clock);
    let cache = checked(builder.tier(tier));
    let mut asking = Box::pin(cache.get_or_load_async("b", || async { Ok::<_, String>(7) }));
    let mut task = Context::from_waker(Waker::noop());
    assert!(asking.as_mut().poll(&mut task).is_pending());
    hand.advance(secs(1));
    match asking.as_mut().poll(&mut task) {
        Poll::Ready(result) => assert_eq!(result.unwrap(), 7),
        Poll::Pending => panic!("its time is over"),
    }
    // but not longer than its caller waits
    let load = |_| async { uncalled::<u64>() };
    let mut asking = Box::pin(cache.at("c").timeout(ms(10)).load_async(load));
    assert!(asking.as_mut().poll(&mut task).is_pending());
    hand.advance(ms(10));
    match asking.as_mut().poll(&mut task) {
        Poll::Ready(result) => assert!(matches!(result, Err(LoadError::TimedOut))),
        Poll::Pending => panic!("its time is over"),
    }
    let keys = ["a".to_owned()];
    let load = |keys: Vec<String>| async { Ok::<_, String>(keys.into_iter().map(|key| (key, 7))) };
    let mut many = Box::pin(cache.get_or_load_many_async(&keys, load));
    assert!(many.as_mut().poll(&mut task).is_pending());
    hand.advance(secs(1));
    match many.as_mut().poll(&mut task) {
        Poll::Ready(many) => assert_eq!(many.got[0].1.value, 7),
        Poll::Pending => panic!("its time is over"),
    }
}

/// A cache of threads whose tier answers when the gate is open.
fn waiting(gate: &Gate) -> (CacheBuilder<String, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let tier = Slow::over(&MemoryTier::new(), gate);
    let builder = Cache::builder().max_entries(100).load_timeout(secs(1)).clock(clock);
    (builder.tier(tier), hand)
}

#[test]
fn a_thread_waits_for_its_answer_no_longer_than_it_said() {
    let gate = Gate::new();
    let (builder, hand) = waiting(&gate);
    let cache = checked(builder.time_to_live(secs(10)).stale_if_error(secs(100)));
    let lead = |key| cache.at(key).timeout(ms(10)).load(|_| uncalled::<u64>());
    thread::scope(|scope| {
        let leader = scope.spawn(|| lead("a"));
        gate.wait_until_entered(1);
        let patient = scope.spawn(|| cache.get_or_load("a", || Ok::<_, String>(7)));
        cache.wait_until_joined(1);
        hand.advance(ms(10));
        assert!(matches!(leader.join().unwrap(), Err(LoadError::TimedOut)));
        // its impatience is its own: who waits with it leads, and asks anew
        gate.wait_until_entered(2);
        gate.open();
        assert_eq!(patient.join().unwrap().unwrap(), 7);
    });
    assert_eq!((cache.stats().loads, cache.stats().load_timeouts), (1, 0));
}

#[test]
fn what_is_stale_is_served_to_a_thread_whose_patience_is_over() {
    let gate = Gate::new();
    let (builder, hand) = waiting(&gate);
    let cache = checked(builder.time_to_live(secs(10)).stale_if_error(secs(100)));
    cache.insert("a".to_owned(), 1);
    settled(&cache);
    hand.advance(secs(20));
    thread::scope(|scope| {
        let load = || cache.at("a").timeout(ms(10)).load(|_| uncalled::<u64>()).unwrap();
        let leader = scope.spawn(load);
        gate.wait_until_entered(1);
        hand.advance(ms(10));
        let got = leader.join().unwrap();
        assert_eq!((got.value, got.how), (1, How::Stale(StaleWhy::SoftTimeout)));
    });
    assert_eq!((cache.flights(), cache.stats().load_timeouts), (0, 0));
}

#[test]
fn one_that_never_answers_costs_a_thread_the_load_timeout_too() {
    let gate = Gate::new();
    let (builder, hand) = waiting(&gate);
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let load = move |_: &String| Ok::<_, String>(counted.fetch_add(1, Ordering::SeqCst) as u64);
    let cache = builder.build_loading_fn(load).unwrap();
    let cache_of_threads = watched(&cache);
    let cache_of_threads = &*cache_of_threads;
    let keys = ["a".to_owned()];
    let in_time = |asks: usize, call: &(dyn Fn() -> u64 + Sync)| {
        thread::scope(|scope| {
            let asking = scope.spawn(call);
            gate.wait_until_entered(asks);
            hand.advance(ms(999));
            assert_eq!(cache_of_threads.flights(), 1);
            hand.advance(ms(1));
            assert_eq!(asking.join().unwrap(), 7);
        });
    };
    in_time(1, &|| cache_of_threads.get_or_load("a", || Ok::<_, String>(7)).unwrap());
    in_time(2, &|| cache_of_threads.get_or_insert_with("a", || 7));
    in_time(3, &|| {
        let load = |keys: &[String]| Ok::<_, String>(vec![(keys[0].clone(), 7)]);
        cache_of_threads.get_or_load_many(&keys, load).got[0].1.value
    });
    // one that is patient for longer has no answer then
    thread::scope(|scope| {
        let load = || cache_of_threads.at("a").timeout(secs(1)).load(|_| uncalled::<u64>());
        let asking = scope.spawn(load);
        gate.wait_until_entered(4);
        hand.advance(secs(1));
        assert!(matches!(asking.join().unwrap(), Err(LoadError::TimedOut)));
    });
    // nor does it keep a thread of the cache's own
    cache.refresh("a");
    gate.wait_until_entered(5);
    hand.advance(secs(1));
    wait_until(|| loads.load(Ordering::SeqCst) == 1 && cache.flights() == 0);
    assert_eq!(cache.stats().tier_errors, 4);
}

#[test]
fn it_is_asked_before_the_source_is_guarded() {
    let Two { one, other, .. } =
        two(|builder| builder.max_concurrent_loads(1).circuit_breaker(1, secs(60)));
    load(&one, "a", 1);
    other.get_or_load("b", || Err::<u64, _>("away")).unwrap_err();
    assert!(matches!(other.get_or_load("c", uncalled), Err(LoadError::CircuitOpen)));
    assert_eq!(how(&other), (1, How::Tier));
    assert_eq!((other.stats().loads, other.stats().circuit_open), (1, 1));
}

#[test]
fn a_cache_that_loads_by_itself_asks_it_for_misses_and_refreshes_at_the_source() {
    let (clock, hand) = Clock::manual();
    let tier = MemoryTier::with(clock.clone(), None);
    let calls = Arc::new(AtomicUsize::new(0));
    let process = || {
        let calls = Arc::clone(&calls);
        let builder = Cache::builder()
            .max_entries(100)
            .time_to_live(secs(10))
            .refresh_ahead(RefreshAhead::At(0.5))
            .clock(clock.clone())
            .tier(tier.join());
        let load = move |_: &String| Ok::<_, String>(calls.fetch_add(1, Ordering::SeqCst) as u64);
        builder.build_loading_fn(load).unwrap()
    };
    let (one, other) = (process(), process());
    assert_eq!(one.load("a").unwrap(), 0);
    settled(&one);
    assert_eq!(other.load("a").unwrap(), 0);
    assert_eq!(other.load_many(&["a".to_owned()]).got[0].1.value, 0);
    other.warm(["a".to_owned()]).wait();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    hand.advance(secs(6));
    assert_eq!(other.load("a").unwrap(), 0);
    wait_until(|| other.get("a") == Some(1));
    // it is told a moment after it is there, and the others have the fresh one from there
    // (a hit would find its own value due)
    wait_until(|| !one.contains("a"));
    assert_eq!(one.load("a").unwrap(), 1);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// Has to be asked for "b" alone.
struct Source;
impl larder::Loader<String, u64> for Source {
    type Error = String;
    fn load(&self, _: &String, _: &larder::LoadCx<u64>) -> Result<Loaded<u64>, String> {
        panic!("keys are gathered")
    }
    fn load_many(&self, keys: &[String]) -> Result<Vec<(String, Loaded<u64>)>, String> {
        assert_eq!(keys, ["b"]);
        Ok(vec![("b".to_owned(), Loaded::new(2))])
    }
}

#[test]
fn keys_that_are_gathered_are_asked_for_together() {
    let Two { one, tier, .. } = two(|builder| builder);
    load(&one, "a", 1);
    let builder = Cache::builder().max_entries(100).batch(2, secs(50)).tier(tier.join());
    let other = builder.build_loading(Source).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| other.load("a"));
        wait_until(|| other.flights() == 1);
        let second = scope.spawn(|| other.load("b"));
        assert_eq!(first.join().unwrap().unwrap(), 1);
        assert_eq!(second.join().unwrap().unwrap(), 2);
    });
    assert_eq!((other.stats().tier_hits, other.stats().loads), (1, 1));
}

/// Of two parts, of which only one is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lossy {
    hashed: u32,
    not: u32,
}

impl Hash for Lossy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hashed.hash(state);
    }
}

#[test]
fn keys_of_one_name_do_not_get_each_others_values() {
    let tier = MemoryTier::new();
    let cache = || checked(Cache::<Lossy, u64>::builder().max_entries(100).tier(tier.join()));
    let (one, other) = (cache(), cache());
    let (a, b) = (Lossy { hashed: 1, not: 1 }, Lossy { hashed: 1, not: 2 });
    assert_eq!(TierKey::of(&a), TierKey::of(&b));
    one.insert(a.clone(), 1);
    wait_until(|| one.tier_pending() == 0);
    assert_eq!(other.get_or_load(&b, || Ok::<_, String>(2)).unwrap(), 2);
    wait_until(|| other.tier_pending() == 0);
    assert_eq!((one.get(&a), other.get(&b)), (None, Some(2)));
    assert_eq!(one.get_or_load(&a, || Ok::<_, String>(3)).unwrap(), 3);
}

#[test]
fn other_hashers_find_what_the_news_are_about() {
    #[derive(Clone, Default)]
    struct Sip(std::hash::RandomState);
    impl std::hash::BuildHasher for Sip {
        type Hasher = std::hash::DefaultHasher;
        fn build_hasher(&self) -> Self::Hasher {
            self.0.build_hasher()
        }
    }
    let tier = MemoryTier::new();
    let builder = || Cache::<(u32, String), u64>::builder().max_entries(100);
    let one = checked(builder().hasher(Sip::default()).tier(tier.join()));
    let other = checked(builder().tier(tier.join()));
    let key = |n| (n, "part".to_owned());
    for n in 0..20 {
        one.insert(key(n), 1);
    }
    wait_until(|| one.tier_pending() == 0);
    for n in 0..20 {
        other.get_or_load(&key(n), uncalled).unwrap();
        other.remove(&key(n));
    }
    wait_until(|| other.tier_pending() == 0);
    assert!((0..20).all(|n| one.get(&key(n)).is_none()));
}

#[test]
fn what_is_written_behind_is_not_read_from_there_before_the_source_has_it() {
    let Two { one, other, .. } = two(|builder| builder);
    load(&one, "a", 1);
    how(&other);
    let gate = Gate::new();
    let writer = {
        let gate = gate.clone();
        move |_: &[larder::Change<'_, String, u64>]| {
            gate.pass(());
            Ok::<_, String>(())
        }
    };
    let queue = WriteBehind::builder((*one).clone(), writer).max_delay(Duration::ZERO);
    let queue = queue.build().unwrap();
    queue.put("a".to_owned(), 2).unwrap();
    gate.wait_until_entered(1);
    settled(&one);
    // the source has 1, and whoever loads that now
    assert_eq!(load(&other, "a", 1), 1);
    gate.open();
    queue.flush().unwrap();
    settled(&one);
    assert_eq!(load(&other, "a", 2), 2, "what was loaded before the write stayed");
    assert_eq!(one.get("a"), None, "and so another process's load of it here");
}

/// What the last handle does to changes that are on their way.
#[test]
fn the_last_changes_are_made_before_the_cache_is_gone() {
    let _watchdog = Watchdog::start();
    let tier = MemoryTier::new();
    for n in 0..20 {
        let cache: Cache<String, u64> =
            Cache::builder().max_entries(10).tier(tier.join()).build().unwrap();
        cache.insert(n.to_string(), n);
        parting(|| drop(cache), || tier.len() as u64 == n + 1);
        assert_eq!(tier.len() as u64, n + 1);
    }
    // where they cannot be, for no longer than a second
    tier.fail(true);
    let cache: Cache<String, u64> = Cache::builder().max_entries(10).tier(tier).build().unwrap();
    cache.insert("x".to_owned(), 1);
    drop(cache);
}

/// A tier whose every call panics.
struct Broken(AtomicBool);

impl Tier<String, u64> for Broken {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        assert!(!self.0.load(Ordering::SeqCst), "expected: get");
        Err(TierError::TimedOut)
    }

    async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
        panic!("expected: apply")
    }
}

#[test]
fn one_that_panics_wedges_no_key() {
    let builder = Cache::builder().max_entries(10);
    let cache = checked(builder.tier(Broken(AtomicBool::new(true))));
    let panicked = thread::scope(|scope| {
        let load = || cache.get_or_load("a", || Ok::<_, String>(1));
        scope.spawn(load).join().is_err()
    });
    assert!(panicked);
    assert_eq!(cache.flights(), 0);
    let error = cache.remove_everywhere("a").unwrap_err();
    assert_eq!(error, TierError::Refused("it panicked".into()));
    // its key has a change that is not made, so it is not asked, and the load goes through
    assert_eq!(cache.get_or_load("a", || Ok::<_, String>(1)).unwrap(), 1);
}

#[test]
fn who_is_told_of_news_may_use_the_cache_and_does_not_wait_for_the_tier() {
    let tier = Shared::new();
    let one = checked(Cache::builder().max_entries(10).tier(tier.join()));
    let other = Arc::new(std::sync::OnceLock::<Cache<String, u64>>::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let (other, told) = (Arc::clone(&other), Arc::clone(&told));
        move |gone: larder::Removal<String, u64>| {
            let cache = other.get().unwrap();
            let loaded = cache.get_or_load("b", || Ok::<_, String>(2)).unwrap();
            told.lock().push((gone.key, loaded, cache.remove_everywhere("c")));
        }
    };
    let builder = Cache::builder().max_entries(10).tier(tier.join()).on_removal(listener);
    other.set(builder.build().unwrap()).unwrap();
    load(&one, "a", 1);
    load(&one, "b", 1);
    assert_eq!(how(other.get().unwrap()), (1, How::Tier));
    one.remove("a");
    settled(&one);
    let told = told.lock();
    let refused = TierError::Refused(
        "the thread that tells the tier, or brings its news, cannot wait for it".into(),
    );
    assert_eq!(*told, [("a".to_owned(), 2, Err(refused))]);
}

#[test]
fn without_one_a_removal_everywhere_says_so() {
    let cache: Cache<String, u64> = Cache::new(10);
    cache.insert("a".to_owned(), 1);
    assert_eq!(cache.remove_everywhere("a"), Err(TierError::NoTier));
    assert_eq!((cache.get("a"), cache.tier_pending()), (None, 0));
}

/// What a tier is told, in the order in which it is told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<TierChange<String, u64>>>>, Gate);

impl Tier<String, u64> for Heard {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        Ok(TierFound::new(None, TierTicket::default()))
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.0.lock().extend_from_slice(changes);
        self.1.pass_async(()).await;
        Ok(())
    }
}

#[test]
fn of_a_key_it_is_told_the_last_change_and_all_in_their_order() {
    let tier = Heard::default();
    let cache = checked(Cache::builder().max_entries(10).tier(tier.clone()));
    cache.remove("first");
    tier.1.wait_until_entered(1);
    cache.insert("a".to_owned(), 1);
    cache.insert("b".to_owned(), 1);
    cache.insert("a".to_owned(), 2);
    cache.expire("b");
    cache.expire("c");
    cache.remove_tag("t");
    cache.remove("d");
    tier.1.open();
    settled(&cache);
    let told: Vec<_> = tier
        .0
        .lock()
        .iter()
        .map(|change| match change {
            TierChange::Write(key, entry) => format!("{key} = {}", entry.value.unwrap()),
            TierChange::Remove(key) => format!("-{key}"),
            TierChange::Expire(key) => format!("~{key}"),
            TierChange::RemoveTag(tag) => format!("-#{}", tag.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    // the tier has never seen what was expired at "b": what it has there is older
    assert_eq!(told, ["-first", "a = 2", "-b", "~c", "-#t", "-d"]);
}

/// So many writes there are: more than are kept.
const BURST: usize = 70_000;

/// Makes the next changes when those who make more are held back, or have made all.
#[derive(Clone, Default)]
struct Behind {
    written: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
}

impl Tier<String, u64> for Behind {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        Ok(TierFound::new(None, TierTicket::default()))
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        wait_until(|| {
            let written = self.written.load(Ordering::SeqCst);
            let is_crowd = written - self.told.load(Ordering::SeqCst) >= 32_000;
            (0..2_000).for_each(|_| std::hint::spin_loop());
            written == BURST || is_crowd && written == self.written.load(Ordering::SeqCst)
        });
        let writes = changes.iter().filter(|change| matches!(change, TierChange::Write(..)));
        self.told.fetch_add(writes.count(), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_burst_of_writes_is_held_back_and_all_of_it_arrives() {
    let tier = Behind::default();
    let cache = checked(Cache::builder().max_entries(10).tier(tier.clone()));
    for n in 0..BURST {
        cache.insert(n.to_string(), n as u64);
        tier.written.fetch_add(1, Ordering::SeqCst);
    }
    settled(&cache);
    assert_eq!(tier.told.load(Ordering::SeqCst), BURST);
}

#[test]
fn more_changes_than_are_kept_become_one() {
    let tier = Heard::default();
    let cache = checked(Cache::builder().max_entries(10).tier(tier.clone()));
    cache.remove("first");
    tier.1.wait_until_entered(1);
    for n in 0..70_000 {
        cache.remove(n.to_string().as_str());
    }
    assert!(cache.tier_pending() <= 1 << 16);
    tier.1.open();
    settled(&cache);
    let told = tier.0.lock();
    assert!(told.iter().any(|change| matches!(change, TierChange::Clear)));
    assert!(told.len() < 10_000);
}

#[test]
fn nothing_of_the_users_is_in_debug_texts() {
    let entry = TierEntry::new("secret".to_owned(), Some("secret".to_owned()));
    let key = TierKey::of("secret");
    let change = TierChange::Write(key.clone(), entry.clone());
    let tier = MemoryTier::<String, String>::new();
    let texts = format!("{entry:?} {key:?} {change:?} {tier:?} {:?}", TierTicket::new(*b"secret"));
    assert!(!texts.contains("secret"), "{texts}");
    let _ = (Tag::from("t"), ms(1));
}
