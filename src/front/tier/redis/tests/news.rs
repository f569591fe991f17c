//! What others change is told.

use super::server::eventually;
use super::{
    Change, Recorder, apply, builder, entry, get, key, load, need_server, put, tag, tagged, ticket,
    tier, value, write,
};
use crate::rules::tier::{News, Tier, TierError, TierWatcher, Watch};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[test]
fn what_others_change_is_told_and_ones_own_changes_are_not() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let (at_a, at_b) = (Recorder::on(&a), Recorder::on(&b));
    put(&a, "written", "x");
    at_b.hears("changed written");
    load(&a, entry("loaded", "x"), &ticket(&a, "loaded"));
    at_b.hears("changed loaded");
    apply(&a, [Change::Expire(key("loaded"))]);
    at_b.hears("changed loaded");
    apply(&a, [Change::Remove(key("written"))]);
    at_b.hears("changed written");
    apply(&a, [Change::RemoveTag(tag("t:1"))]);
    at_b.hears("removed #t:1");
    apply(&a, [Change::ExpireTag(tag("t"))]);
    at_b.hears("expired #t");
    apply(&a, [Change::RemoveTag(tag(&"t".repeat(2_000)))]);
    at_b.hears(&format!("removed #{}", "t".repeat(2_000)));
    let long = "k:".repeat(1_000);
    put(&a, &long, "x");
    at_b.hears(&format!("changed {long}"));
    apply(&a, [Change::Clear]);
    at_b.hears("cleared");
    // by now all of it would have been told
    put(&b, "last", "x");
    at_a.hears("changed last");
    assert_eq!(at_a.told(), [""; 0]);
    assert_eq!(at_b.told(), [""; 0]);
    assert_eq!(b.stats().heard, 9);
}

#[test]
fn nothing_else_is_told() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let (at_a, at_b) = (Recorder::on(&a), Recorder::on(&b));
    write(&a, tagged("ada", "Ada", &["t"]));
    at_b.hears("changed ada");
    get(&b, "ada");
    // stores nothing
    load(&b, entry("ada", "x"), &ticket(&b, "bob"));
    put(&b, "last", "x");
    at_a.hears("changed last");
    put(&a, "last", "x");
    at_b.hears("changed last");
    assert_eq!((at_a.told().len(), at_b.told().len()), (0, 0));
}

#[test]
fn other_programs_are_heard() {
    let server = need_server!();
    let tier = tier(&server);
    let (recorder, mut other) = (Recorder::on(&tier), server.client());
    put(&tier, "ada", "Ada");
    put(&tier, "bob", "Bob");
    other.say("DEL test:v1::ada");
    recorder.hears("changed ada");
    assert!(get(&tier, "ada").entry.is_none());
    let seen = ticket(&tier, "bob");
    other.say("FLUSHALL");
    recorder.hears("cleared");
    load(&tier, entry("bob", "outdated"), &seen);
    assert!(get(&tier, "bob").entry.is_none());
    put(&tier, "bob", "again");
    assert_eq!(value(&tier, "bob").as_deref(), Some("again"));
}

#[test]
fn prefixes_do_not_hear_each_other() {
    let server = need_server!();
    let prefixes = ["p", "p:q", "p:q:r", "pq"];
    let tiers = prefixes.map(|prefix| builder(&server).prefix(prefix).open().unwrap());
    let recorders = tiers.each_ref().map(Recorder::on);
    for prefix in prefixes {
        let writer = builder(&server).prefix(prefix).open().unwrap();
        apply(&writer, [Change::Write(key("k"), tagged("k", prefix, &["t"]))]);
        apply(&writer, [Change::RemoveTag(tag("t")), Change::Clear]);
    }
    for recorder in &recorders {
        eventually(|| recorder.count("cleared") > 0);
        let mut told = recorder.told();
        told.sort();
        assert_eq!(told, ["changed k", "cleared", "removed #t"]);
    }
}

/// One that panics, one that is gone, one that is while another thread finds out, and one that asks the tier.
struct Odd {
    kind: &'static str,
    calls: AtomicUsize,
    tier: Mutex<Option<super::RedisTier>>,
    error: Mutex<Option<TierError>>,
}

impl Watch for Odd {
    fn is_alive(&self) -> bool {
        false // so that more of them may watch
    }

    fn told(&self, _: News<'_>) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            "panics" => panic!("expected: a listener panics"),
            "asks" => {
                let tier = self.tier.lock().unwrap();
                let ada = key("ada");
                let asked = Tier::<String, String>::get(tier.as_ref().unwrap(), &ada);
                let error = super::wait(asked).err();
                *self.error.lock().unwrap() = error;
                true
            }
            "gone, twice" if self.calls.load(Ordering::Relaxed) == 1 => {
                let tier = self.tier.lock().unwrap();
                // as that other thread would
                tier.as_ref().unwrap().hub().tell(TierWatcher::cleared);
                false
            }
            _ => false,
        }
    }
}

impl Odd {
    fn on(tier: &super::RedisTier, kind: &'static str) -> Arc<Self> {
        let (calls, own) = (AtomicUsize::new(0), Mutex::new(Some(tier.clone())));
        let odd = Arc::new(Self { kind, calls, tier: own, error: Mutex::new(None) });
        let watcher = TierWatcher::new(Arc::clone(&odd) as Arc<dyn Watch>);
        Tier::<String, String>::watch(tier, watcher).unwrap();
        odd
    }
}

#[test]
fn one_that_is_gone_takes_no_other_along_though_two_find_out_at_once() {
    let server = need_server!();
    let tier = tier(&server);
    let odd = Odd::on(&tier, "gone, twice");
    let recorder = Recorder::on(&tier);
    for times in [2, 3] {
        tier.hub().tell(TierWatcher::cleared);
        assert_eq!(recorder.count("cleared"), times);
    }
    assert_eq!(odd.calls.load(Ordering::Relaxed), 2);
    odd.tier.lock().unwrap().take();
}

#[test]
fn whoever_is_told_may_panic_go_or_ask() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let odd = ["panics", "gone", "asks"].map(|kind| Odd::on(&a, kind));
    let recorder = Recorder::on(&a);
    for name in ["one", "two"] {
        put(&b, name, "x");
        recorder.hears(&format!("changed {name}"));
    }
    let calls = odd.each_ref().map(|odd| odd.calls.load(Ordering::Relaxed));
    assert_eq!(calls, [2, 1, 2]);
    // it would have waited for itself
    let error = odd[2].error.lock().unwrap().clone();
    assert!(matches!(error, Some(TierError::Unreachable(_))));
    assert!(value(&a, "one").is_some());
    for odd in odd {
        odd.tier.lock().unwrap().take();
    }
}

#[test]
fn news_come_before_what_is_read_after_them() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let recorder = Recorder::on(&b);
    // A tag's news are pushed at the end of the server's round, so a reply of the same round may be
    // faster. What such a reply says is of after the change: it is never old.
    for round in 0..200 {
        write(&a, tagged("ada", &format!("{round}"), &["t"]));
        let seen = value(&b, "ada").unwrap();
        assert_eq!(seen, format!("{round}"));
        apply(&a, [Change::RemoveTag(tag("t"))]);
        assert_eq!(value(&b, "ada"), None);
        eventually(|| recorder.count("removed #t") == round + 1);
    }
}

#[test]
fn of_changes_in_one_round_of_the_server_the_one_before_the_last_is_told_too() {
    let server = need_server!();
    let (a, b) = (tier(&server), tier(&server));
    let recorder = Recorder::on(&a);
    let mut last = [0, 0];
    for round in 0..40 {
        let name = format!("k{round}");
        let seen = ticket(&a, &name);
        // both are carried out when the pause is over
        server.client().say("CLIENT PAUSE 20");
        std::thread::scope(|scope| {
            let (ours, theirs) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let first = scope.spawn(|| {
                if round % 2 == 0 {
                    load(ours, entry(&name, "a"), &seen);
                } else {
                    apply(ours, [Change::Remove(key(&name))]);
                }
            });
            if round % 2 == 0 {
                apply(theirs, [Change::Remove(key(&name))]);
            } else {
                load(theirs, entry(&name, "a"), &seen);
            }
            first.join().unwrap();
        });
        if value(&b, &name).is_none() {
            // whatever a has of it is not what stands there
            eventually(|| recorder.count(&format!("changed {name}")) > 0);
            last[0] += 1;
        } else {
            last[1] += 1;
        }
    }
    assert!(last[0] > 0);
}
