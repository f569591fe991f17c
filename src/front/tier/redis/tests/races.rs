//! A load that is out of date stores nothing, whoever made it so.

use super::{
    Change, apply, entry, get, key, load, need_server, put, tag, tagged, ticket, tier, value, write,
};
use crate::rules::tier::TierTicket;

#[test]
fn a_load_stores_where_nothing_happened() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let seen = ticket(&a, "ada");
    load(&a, entry("ada", "one"), &seen);
    assert_eq!(value(&b, "ada").as_deref(), Some("one"));
    // over what it has seen, but only once
    let seen = ticket(&a, "ada");
    load(&a, entry("ada", "two"), &seen);
    load(&a, entry("ada", "three"), &seen);
    assert_eq!(value(&b, "ada").as_deref(), Some("two"));
    assert_eq!(a.stats().refused_stores, 1);
    // without a ticket, or with one of nobody's
    load(&a, entry("bob", "x"), &TierTicket::default());
    load(&a, entry("bob", "x"), &TierTicket::new(*b"\x01\x02"));
    assert!(get(&a, "bob").entry.is_none());
}

#[test]
fn whatever_another_does_to_the_key_ends_a_load() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    for is_there in [false, true] {
        let changes = [
            Change::Remove(key("ada")),
            Change::Expire(key("ada")),
            Change::Write(key("ada"), entry("ada", "newer")),
            Change::Clear,
        ];
        for change in changes {
            if is_there {
                let mut old = entry("ada", "old");
                old.stale_for = super::ms(60_000);
                write(&a, old);
            } else {
                server.client().say("DEL test:v1::ada");
            }
            let seen = ticket(&a, "ada");
            let refused = a.stats().refused_stores;
            apply(&b, [change.clone()]);
            load(&a, entry("ada", "outdated"), &seen);
            assert_ne!(value(&b, "ada").as_deref(), Some("outdated"), "{change:?} {is_there}");
            assert_eq!(a.stats().refused_stores, refused + 1, "{change:?} {is_there}");
            // one that begins afterwards stores
            let seen = ticket(&a, "ada");
            load(&a, entry("ada", "after"), &seen);
            assert_eq!(value(&b, "ada").as_deref(), Some("after"), "{change:?} {is_there}");
            // and in the other order the change wins as well
            apply(&b, [change.clone()]);
            assert_ne!(value(&a, "ada").as_deref(), Some("after"), "{change:?} {is_there}");
        }
    }
}

#[test]
fn a_tag_ends_loads_and_what_stands() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    for change in [Change::RemoveTag(tag("t")), Change::ExpireTag(tag("t"))] {
        for tags in [&["t"][..], &["s", "t", "u"]] {
            let seen = ticket(&a, "ada");
            apply(&b, [change.clone()]);
            load(&a, tagged("ada", "outdated", tags), &seen);
            assert_eq!(value(&b, "ada"), None, "{change:?}");
            load(&a, tagged("ada", "after", tags), &ticket(&a, "ada"));
            assert_eq!(value(&b, "ada").as_deref(), Some("after"), "{change:?}");
            apply(&b, [change.clone()]);
            assert_eq!(value(&a, "ada"), None, "{change:?}");
            // other tags do not matter, once they are known
            put(&a, "bob", "Bob");
            write(&a, tagged("eve", "Eve", &["s"]));
            let seen = ticket(&a, "eve");
            apply(&b, [change.clone()]);
            assert_eq!(value(&a, "eve").as_deref(), Some("Eve"));
            load(&a, tagged("eve", "Eve 2", &["s"]), &seen);
            assert_eq!(value(&b, "eve").as_deref(), Some("Eve 2"));
            assert_eq!(value(&b, "bob").as_deref(), Some("Bob"));
        }
    }
}

#[test]
fn what_a_tag_expired_is_over_since_then() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let mut there = tagged("ada", "Ada", &["t"]);
    there.stale_for = super::ms(60_000);
    write(&a, there.clone());
    // it is not over for longer than since the tag expired
    super::server::eventually(|| get(&a, "ada").entry.unwrap().age > super::ms(300));
    let before = std::time::Instant::now();
    apply(&b, [Change::ExpireTag(tag("t"))]);
    let found = get(&a, "ada").entry.unwrap();
    assert!(found.fresh_for.is_zero());
    assert!(found.over_for <= before.elapsed(), "{:?}", found.over_for);
    super::server::eventually(|| get(&a, "ada").entry.unwrap().over_for > super::ms(50));
    // a removal leaves nothing of it
    apply(&b, [Change::RemoveTag(tag("t"))]);
    assert!(get(&a, "ada").entry.is_none());
}

#[test]
fn a_marker_that_is_lost_counts_as_a_removal() {
    let server = need_server!();
    let tier = tier(&server);
    write(&tier, tagged("ada", "Ada", &["t", "u"]));
    assert_eq!(value(&tier, "ada").as_deref(), Some("Ada"));
    server.client().say("DEL test:v1#tag:t");
    assert!(get(&tier, "ada").entry.is_none());
    // a removal that the server has forgotten still ends a load that began before it
    let seen = ticket(&tier, "ada");
    apply(&tier, [Change::RemoveTag(tag("t"))]);
    server.client().say("DEL test:v1#tag:t");
    load(&tier, tagged("ada", "outdated", &["t"]), &seen);
    assert!(get(&tier, "ada").entry.is_none());
    load(&tier, tagged("ada", "after", &["t"]), &ticket(&tier, "ada"));
    assert_eq!(value(&tier, "ada").as_deref(), Some("after"));
}

#[test]
fn numbers_that_are_lost_count_as_clear() {
    let server = need_server!();
    let tier = tier(&server);
    put(&tier, "ada", "Ada");
    let seen = ticket(&tier, "bob");
    server.client().say("DEL test:v1#meta");
    assert!(get(&tier, "ada").entry.is_none());
    load(&tier, entry("bob", "outdated"), &seen);
    assert!(get(&tier, "bob").entry.is_none());
    put(&tier, "ada", "again");
    assert_eq!(value(&tier, "ada").as_deref(), Some("again"));
}

#[test]
fn what_comes_last_stands() {
    let server = need_server!();
    let tier = tier(&server);
    let written = |text| Change::Write(key("ada"), entry("ada", text));
    apply(&tier, [written("1"), Change::Remove(key("ada")), written("2")]);
    assert_eq!(value(&tier, "ada").as_deref(), Some("2"));
    apply(&tier, [written("3"), Change::Clear]);
    assert_eq!(value(&tier, "ada"), None);
    apply(&tier, [Change::Clear, written("4")]);
    assert_eq!(value(&tier, "ada").as_deref(), Some("4"));
    // also if the server forgot the scripts
    server.client().say("SCRIPT FLUSH");
    apply(&tier, [written("5"), Change::Remove(key("ada"))]);
    assert_eq!(value(&tier, "ada"), None);
    server.client().say("SCRIPT FLUSH");
    apply(&tier, [Change::Remove(key("ada")), written("6")]);
    assert_eq!(value(&tier, "ada").as_deref(), Some("6"));
}

#[test]
fn nothing_is_left_lying_about() {
    let server = need_server!();
    let tier = tier(&server);
    write(&tier, tagged("ada", "Ada", &["t"]));
    load(&tier, entry("ada", "x"), &ticket(&tier, "bob"));
    apply(&tier, [Change::Expire(key("ada")), Change::RemoveTag(tag("t")), Change::Clear]);
    let mut other = server.client();
    assert_eq!(other.int("DBSIZE"), 3, "{:?}", other.say("KEYS *"));
    for name in ["test:v1::ada", "test:v1#tag:t"] {
        assert!(other.int(&format!("PTTL {name}")) > 0, "{name}");
    }
}

#[test]
fn a_value_outlives_all_loads_that_began_before_it() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let seen = ticket(&a, "ada");
    let mut short = entry("ada", "newer");
    short.fresh_for = super::ms(1);
    write(&b, short);
    super::server::eventually(|| get(&b, "ada").entry.is_none());
    // the place only looks as it did, and would be as it was if the value were gone
    assert!(!super::server::within(super::ms(30), || false));
    load(&a, entry("ada", "outdated"), &seen);
    assert!(get(&b, "ada").entry.is_none());
}
