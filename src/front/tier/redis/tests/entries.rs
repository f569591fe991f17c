//! What is written is read, and how old it is then.

use super::super::codec::Json;
use super::server::{Reply, eventually, wait};
use super::{
    Change, Entry, Found, apply, builder, entry, get, key, load, ms, need_server, put, tagged,
    ticket, tier, value, write,
};
use crate::rules::tier::{Tier, TierTicket};
use std::time::{Duration, Instant};

#[test]
fn what_is_written_comes_back_with_all_that_was_said() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let mut there = tagged("ada", "Ada", &["people", "x:y"]);
    there.validator = Some("\"v1\"".into());
    there.age = ms(5_000);
    there.stale_for = ms(30_000);
    write(&a, there.clone());
    let found = get(&b, "ada").entry.unwrap();
    assert!(found.age >= ms(5_000) && found.age < ms(25_000));
    assert!(found.fresh_for <= Duration::from_secs(3600));
    assert!(found.fresh_for > Duration::from_secs(3580));
    assert_eq!(found.over_for, Duration::ZERO);
    let same = Entry { age: there.age, fresh_for: there.fresh_for, ..found };
    assert!(same == there);
    assert!(get(&b, "nobody").entry.is_none());
}

#[test]
fn that_there_is_nothing_comes_back_too() {
    let server = need_server!();
    let tier = tier(&server);
    load(&tier, Entry::new("gone".to_owned(), None), &ticket(&tier, "gone"));
    let found = get(&tier, "gone").entry.unwrap();
    assert!(found.value.is_none() && !found.fresh_for.is_zero());
}

#[test]
fn a_life_ends_and_its_stale_window_after_it() {
    let server = need_server!();
    let tier = builder(&server).tombstone(ms(1)).open().unwrap();
    let lives = |name: &str, fresh_for, stale_for| {
        let mut short = entry(name, "x");
        (short.fresh_for, short.stale_for) = (ms(fresh_for), ms(stale_for));
        write(&tier, short);
    };
    lives("ada", 200, 60_000);
    eventually(|| {
        let found = get(&tier, "ada").entry.expect("it is within its window");
        assert!(found.fresh_for <= ms(200));
        assert!(found.over_for.is_zero() || found.age >= ms(200));
        !found.over_for.is_zero()
    });
    lives("bob", 1, 300);
    eventually(|| match get(&tier, "bob").entry {
        Some(found) => {
            assert!(found.over_for < ms(300) && found.age <= ms(301));
            false
        }
        None => true,
    });
    eventually(|| server.client().int("EXISTS test:v1::bob") == 0);
}

#[test]
fn the_tiers_own_life_ends_a_longer_one() {
    let server = need_server!();
    let tier = builder(&server).time_to_live(Duration::from_secs(10)).open().unwrap();
    put(&tier, "ada", "Ada");
    let found = get(&tier, "ada").entry.unwrap();
    assert!(found.fresh_for <= Duration::from_secs(10));
    let longest = Tier::<String, String>::longest_life(&tier);
    assert_eq!(longest, Duration::from_secs(130));
    assert!(server.client().int("PTTL test:v1::ada") <= 130_000);
}

#[test]
fn what_expired_is_over_and_keeps_its_age_and_window() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let mut there = entry("ada", "Ada");
    there.age = ms(100_000);
    there.stale_for = ms(300_000);
    write(&a, there);
    apply(&b, [Change::Expire(key("ada"))]);
    let expired = Instant::now();
    let first = get(&a, "ada").entry.unwrap();
    assert!(first.fresh_for.is_zero() && first.over_for < ms(20_000));
    assert!(first.age >= ms(100_000) && first.age < ms(120_000));
    assert_eq!(first.stale_for, ms(300_000));
    // it does not begin to be over once more
    eventually(|| expired.elapsed() > ms(100));
    apply(&b, [Change::Expire(key("ada"))]);
    assert!(get(&a, "ada").entry.unwrap().over_for > ms(90));
    // without a window there is nothing left to serve
    put(&a, "bob", "Bob");
    apply(&b, [Change::Expire(key("bob")), Change::Expire(key("eve"))]);
    assert!(get(&a, "bob").entry.is_none() && get(&a, "eve").entry.is_none());
}

#[test]
fn what_has_no_life_is_not_stored() {
    let server = need_server!();
    let tier = tier(&server);
    let mut none = entry("ada", "Ada");
    none.fresh_for = Duration::ZERO;
    load(&tier, none.clone(), &ticket(&tier, "ada"));
    assert_eq!(server.client().int("EXISTS test:v1::ada"), 0);
    put(&tier, "ada", "older");
    write(&tier, none);
    assert!(get(&tier, "ada").entry.is_none());
}

#[test]
fn many_come_in_their_order() {
    let server = need_server!();
    let tier = tier(&server);
    let names: Vec<_> = (0..300).map(|n| format!("k{n}")).collect();
    let writes = names.iter().step_by(2).map(|name| {
        let tags: &[&str] = if name.ends_with('4') { &["four"] } else { &[] };
        Change::Write(key(name), tagged(name, name, tags))
    });
    apply(&tier, writes);
    let mut keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    keys.insert(100, key(&"x".repeat(2_000)));
    let calls = tier.stats().calls;
    let found: Vec<Found> = wait(tier.get_many(&keys)).unwrap();
    assert_eq!(tier.stats().calls - calls, 6);
    assert_eq!(found.len(), 301);
    for (found, key) in found.iter().zip(&keys) {
        let number = key.as_str().strip_prefix('k').map_or(1, |n| n.parse::<u32>().unwrap());
        let value = found.entry.as_ref().and_then(|entry| entry.value.as_deref());
        assert_eq!(value, (number % 2 == 0).then_some(key.as_str()));
    }
    assert_eq!(found[100].ticket, TierTicket::default());
    assert!(wait(Tier::<String, String>::get_many(&tier, &[])).unwrap().is_empty());
}

#[test]
fn foreign_bytes_are_nothing_and_are_replaced() {
    let server = need_server!();
    let (tier, mut other) = (tier(&server), server.client());
    other.say("RPUSH test:v1::list a b");
    other.say("SET test:v1::text hello-from-somebody-else");
    other.say("SET test:v1::short hi");
    put(&tier, "kept", "for ever");
    other.say("PERSIST test:v1::kept");
    for name in ["list", "text", "short", "kept"] {
        let found = get(&tier, name);
        assert!(found.entry.is_none(), "{name}");
        load(&tier, entry(name, "new"), &found.ticket);
        assert_eq!(value(&tier, name).as_deref(), Some("new"), "{name}");
    }
    assert_eq!(tier.stats().invalid_frames, 3);
    // another codec's
    let json = builder(&server).codec(Json).open().unwrap();
    assert!(get(&json, "text").entry.is_none());
    assert_eq!(json.stats().invalid_frames, 1);
    apply(&json, [Change::Write(key("text"), entry("text", "json"))]);
    assert_eq!(value(&json, "text").as_deref(), Some("json"));
}

#[test]
fn an_entry_says_whose_it_is() {
    let server = need_server!();
    let (tier, mut other) = (tier(&server), server.client());
    put(&tier, "ada", "Ada");
    put(&tier, "bob", "Bob");
    other.say("RENAME test:v1::ada test:v1::x");
    other.say("RENAME test:v1::bob test:v1::ada");
    other.say("RENAME test:v1::x test:v1::bob");
    assert_eq!(get(&tier, "ada").entry.unwrap().key, "bob");
    assert_eq!(get(&tier, "bob").entry.unwrap().key, "ada");
}

#[test]
fn what_is_prolonged_by_hand_lives_no_longer() {
    let server = need_server!();
    let tier = tier(&server);
    put(&tier, "ada", "Ada");
    server.client().say("PEXPIRE test:v1::ada 999999999");
    assert!(get(&tier, "ada").entry.unwrap().fresh_for <= Duration::from_secs(3600));
}

#[test]
fn what_is_too_large_is_neither_written_nor_read() {
    let server = need_server!();
    let small = builder(&server).max_value_size(1_000).open().unwrap();
    let large = tier(&server);
    put(&small, "ada", "Ada");
    // the older value must not stay
    put(&small, "ada", &"x".repeat(1_000));
    assert!(get(&large, "ada").entry.is_none());
    put(&large, "ada", &"x".repeat(5_000));
    let found = get(&small, "ada");
    assert!(found.entry.is_none());
    assert_eq!(small.stats().oversized, 2);
    load(&small, entry("ada", "small"), &found.ticket);
    assert_eq!(value(&large, "ada").as_deref(), Some("small"));
}

#[test]
fn long_names_are_never_kept() {
    let server = need_server!();
    let tier = tier(&server);
    let long = "x".repeat(1_025);
    put(&tier, &long, "x");
    apply(&tier, [Change::Remove(key(&long)), Change::Expire(key(&long))]);
    let found = get(&tier, &long);
    assert!(found.entry.is_none() && found.ticket == TierTicket::default());
    load(&tier, entry(&long, "x"), &found.ticket);
    // nor is what has such a tag
    put(&tier, "ada", "old");
    write(&tier, tagged("ada", "Ada", &[&long]));
    assert!(get(&tier, "ada").entry.is_none());
    let Reply::List(keys) = server.client().say("KEYS *x*") else { panic!("a list") };
    assert!(keys.is_empty());
}
