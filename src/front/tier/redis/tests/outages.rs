//! The server is slow, away, or the connection is cut.

use super::proxy::Proxy;
use super::server::{PATIENCE, eventually, wait, within};
use super::{
    Change, Recorder, answers, ask, builder, entry, key, ms, need_server, patient, put, tier, value,
};
use crate::RedisTier;
use crate::rules::tier::{Tier, TierError};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

#[test]
fn a_server_that_was_away_is_found_again_and_what_was_missed_is_told() {
    let mut server = need_server!();
    let tier = tier(&server);
    let recorder = Recorder::on(&tier);
    put(&tier, "ada", "Ada");
    assert!(tier.is_connected());
    server.kill();
    eventually(|| !tier.is_connected());
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(matches!(ask(&tier), Err(TierError::Unreachable(_))));
        let removal = [super::Change::Remove(key("ada"))];
        assert!(matches!(wait(tier.apply(&removal)), Err(TierError::Unreachable(_))));
    }
    assert!(begun.elapsed() < PATIENCE, "one of them has waited");
    assert_eq!(recorder.count("missed"), 0);
    server.restart();
    eventually(|| tier.is_connected());
    // it was told before anything was answered
    assert_eq!(recorder.count("missed"), 1);
    assert_eq!(ask(&tier), Ok(None));
    put(&tier, "ada", "Ada");
    assert_eq!(value(&tier, "ada").as_deref(), Some("Ada"));
    let stats = tier.stats();
    assert_eq!((stats.connects, stats.disconnects), (2, 1));
    assert!(stats.errors >= 200);
    // and news come over the new connection
    server.client().say("DEL test:v1::ada");
    recorder.hears("changed ada");
}

#[test]
fn all_that_waits_fails_at_once_when_the_connection_is_lost() {
    let mut server = need_server!();
    let tier = tier(&server);
    server.stop();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..10).map(|_| scope.spawn(|| ask(&tier))).collect();
        eventually(|| tier.stats().calls == 10);
        server.kill();
        for asked in asked {
            assert!(matches!(asked.join().unwrap(), Err(TierError::Unreachable(_))));
        }
    });
}

#[test]
fn a_slow_server_is_left_alone_until_it_answers() {
    let server = need_server!();
    let tier = builder(&server).timeout(ms(100)).open().unwrap();
    server.stop();
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(ask(&tier), Err(TierError::TimedOut));
        assert!(begun.elapsed() >= ms(95) && begun.elapsed() < PATIENCE);
    }
    for _ in 0..100 {
        assert_eq!(ask(&tier), Err(TierError::TimedOut));
    }
    assert_eq!(tier.stats().timeouts, 3, "they were sent");
    assert!(tier.is_connected());
    server.go_on();
    eventually(|| answers(&tier));
    assert_eq!(tier.stats().connects, 1);
}

#[test]
fn what_timed_out_may_come_again() {
    let server = need_server!();
    let slow = builder(&server).timeout(ms(100)).open().unwrap();
    let other = tier(&server);
    put(&other, "ada", "old");
    server.stop();
    let removal = [Change::Remove(key("ada"))];
    assert_eq!(wait(slow.apply(&removal)), Err(TierError::TimedOut));
    server.go_on();
    eventually(|| wait(slow.apply(&removal)).is_ok());
    assert_eq!(value(&other, "ada"), None);
}

#[test]
fn starting_without_a_server() {
    let mut server = need_server!();
    server.kill();
    let error = builder(&server).open().unwrap_err();
    assert!(matches!(error, TierError::Unreachable(_)), "{error}");
    let tier = builder(&server).lazy().open().unwrap();
    let recorder = Recorder::on(&tier);
    assert!(!tier.is_connected() && !answers(&tier));
    server.restart();
    eventually(|| answers(&tier));
    assert_eq!(recorder.count("missed"), 1);
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let server = need_server!();
    let tiers = [tier(&server), tier(&server)];
    let mut other = server.client();
    let mut clients = || {
        let list = other.bytes("CLIENT LIST");
        String::from_utf8(list).unwrap().lines().count()
    };
    eventually(|| clients() == 3);
    let copy = tiers[0].clone();
    drop(tiers);
    eventually(|| clients() == 2);
    assert!(answers(&copy));
    drop(copy);
    eventually(|| clients() == 1);
}

#[test]
fn a_connection_cut_in_the_middle_of_a_reply_is_made_again() {
    let server = need_server!();
    let proxy = Proxy::start(&server);
    let cut = patient(RedisTier::connect(&proxy.url()).prefix("test:v1")).open().unwrap();
    let recorder = Recorder::on(&cut);
    put(&cut, "ada", &"x".repeat(10_000));
    for (round, allowed) in [0, 1, 50, 200, 5_000].into_iter().enumerate() {
        eventually(|| answers(&cut));
        proxy.allowance.store(allowed, Ordering::Relaxed);
        let error = ask(&cut).unwrap_err();
        assert!(matches!(error, TierError::Unreachable(_)), "{allowed}: {error}");
        proxy.allowance.store(usize::MAX, Ordering::Relaxed);
        eventually(|| recorder.count("missed") > round);
    }
    eventually(|| answers(&cut));
    assert_eq!(value(&cut, "ada").map(|value| value.len()), Some(10_000));
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up_though_nobody_asks() {
    let server = need_server!();
    let proxy = Proxy::start(&server);
    let tier = RedisTier::connect(&proxy.url()).prefix("test:v1").timeout(PATIENCE);
    // a slow machine has to have made its connections within this time
    let tier = tier.connect_timeout(ms(3_000)).open().unwrap();
    let recorder = Recorder::on(&tier);
    proxy.stalled.set(usize::MAX);
    eventually(|| !tier.is_connected());
    server.client().say("SET test:v1::ada unheard");
    proxy.stalled.set(0);
    eventually(|| tier.is_connected());
    assert!(recorder.count("missed") >= 1);
    assert!(answers(&tier));
    drop(proxy);
}

#[test]
fn the_last_connection_is_hung_up_on_before_the_new_one_is_used() {
    let server = need_server!();
    let proxy = Proxy::start(&server);
    let tier = RedisTier::connect(&proxy.url()).prefix("test:v1").timeout(ms(3_000));
    let tier = tier.connect_timeout(ms(3_000)).open().unwrap();
    put(&tier, "ada", "1");
    proxy.stalled.set(1);
    // it stays within the proxy
    let late = [Change::Write(key("ada"), entry("ada", "late"))];
    assert!(wait(tier.apply(&late)).is_err());
    eventually(|| tier.is_connected() && tier.stats().connects >= 2);
    let newest = [Change::Write(key("ada"), entry("ada", "newest"))];
    eventually(|| wait(tier.apply(&newest)).is_ok());
    // and now it arrives
    proxy.stalled.set(0);
    let direct = super::tier(&server);
    assert!(!within(ms(200), || value(&direct, "ada").as_deref() != Some("newest")));
}

#[test]
fn a_server_without_memory_forgets_what_is_to_go() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    put(&a, "ada", "Ada");
    let recorder = Recorder::on(&b);
    server.client().say("CONFIG SET maxmemory 1");
    let removal = [Change::Remove(key("ada"))];
    assert_eq!(wait(a.apply(&removal)), Err(TierError::Refused("OOM".into())));
    recorder.hears("changed ada");
    assert_eq!(value(&b, "ada"), None);
    let writing = [Change::Write(key("ada"), entry("ada", "x"))];
    // Valkey 9 lets a script go on that has deleted something; Redis refuses this one
    let is_written = wait(a.apply(&writing)).is_ok();
    assert_eq!(value(&b, "ada").is_some(), is_written);
    server.client().say("CONFIG SET maxmemory 0");
    assert_eq!(wait(a.apply(&removal)), Ok(()));
}
