//! One load over all processes.

use super::server::{PATIENCE, eventually, wait};
use super::{builder, entry, get, key, load, ms, need_server, ticket, tier, value};
use crate::rules::tier::Tier;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const LEASE: &str = "EXISTS test:v1#lease:ada";

#[test]
fn one_loads_and_the_others_get_it() {
    let server = need_server!();
    let loads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let tier = builder(&server).lease(2 * PATIENCE).open().unwrap();
                let found = get(&tier, "ada");
                if found.entry.is_none() {
                    loads.fetch_add(1, Ordering::Relaxed);
                    // the others are looking for it by now
                    eventually(|| server.client().int(LEASE) == 1);
                    load(&tier, entry("ada", "Ada"), &found.ticket);
                }
                assert_eq!(value(&tier, "ada").as_deref(), Some("Ada"));
            });
        }
    });
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(server.client().int(LEASE), 0);
}

#[test]
fn a_turn_that_came_to_nothing_is_given_on() {
    let server = need_server!();
    let leased = || builder(&server).lease(2 * PATIENCE).open().unwrap();
    let (a, b) = (leased(), leased());
    let first = get(&a, "ada");
    assert_eq!(server.client().int(LEASE), 1);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| get(&b, "ada"));
        Tier::<String, String>::release(&a, &key("ada"), &first.ticket);
        let second = second.join().unwrap();
        assert!(second.entry.is_none() && begun.elapsed() < PATIENCE);
        // it is b's now, and a cannot give it away
        Tier::<String, String>::release(&a, &key("ada"), &first.ticket);
        assert!(get(&a, "bob").entry.is_none());
        assert_eq!(server.client().int(LEASE), 1);
        load(&b, entry("ada", "Ada"), &second.ticket);
        assert_eq!(server.client().int(LEASE), 0);
    });
    assert_eq!(value(&a, "ada").as_deref(), Some("Ada"));
}

#[test]
fn a_lease_that_runs_out_costs_a_second_load() {
    let server = need_server!();
    let leased = || builder(&server).lease(ms(200)).open().unwrap();
    let (a, b) = (leased(), leased());
    // from before it was granted: a busy machine may have gone on long after that
    let begun = Instant::now();
    let first = get(&a, "ada");
    let second = get(&b, "ada");
    assert!(second.entry.is_none());
    assert!(begun.elapsed() >= ms(150) && begun.elapsed() < PATIENCE);
    load(&b, entry("ada", "second"), &second.ticket);
    load(&a, entry("ada", "first"), &first.ticket);
    assert_eq!(value(&a, "ada").as_deref(), Some("second"));
}

#[test]
fn what_is_fresh_needs_no_turn() {
    let server = need_server!();
    let leased = builder(&server).lease(2 * PATIENCE).open().unwrap();
    let plain = tier(&server);
    load(&plain, entry("ada", "Ada"), &ticket(&plain, "ada"));
    let calls = leased.stats().calls;
    assert_eq!(value(&leased, "ada").as_deref(), Some("Ada"));
    assert_eq!(leased.stats().calls - calls, 1);
    assert_eq!(server.client().int(LEASE), 0);
    // many at once take none
    let many = wait(Tier::<String, String>::get_many(&leased, &[key("bob")])).unwrap();
    assert!(many[0].entry.is_none());
    assert_eq!(server.client().int("EXISTS test:v1#lease:bob"), 0);
}

#[test]
fn a_turn_that_nobody_waits_for_any_more_is_given_on() {
    let server = need_server!();
    let leased = builder(&server).lease(Duration::from_secs(3600)).open().unwrap();
    let ada = key("ada");
    let (woken, mut client) = (Arc::new(Woken(AtomicBool::new(true))), server.client());
    let waker = Waker::from(Arc::clone(&woken));
    let mut is_granted = || client.int(LEASE) == 1;
    'anew: loop {
        let mut asked = Box::pin(Tier::<String, String>::get(&leased, &ada));
        woken.0.store(true, Ordering::SeqCst);
        while !is_granted() {
            // once it is granted, the call is not polled any more
            if woken.0.swap(false, Ordering::SeqCst) && !is_granted() {
                let polled = asked.as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(found) = polled {
                    // granted and answered just then
                    Tier::<String, String>::release(&leased, &ada, &found.unwrap().ticket);
                    eventually(|| !is_granted());
                    continue 'anew;
                }
            }
        }
        break;
    }
    eventually(|| !is_granted());
}

#[test]
fn a_turn_that_is_granted_too_late_is_given_on() {
    let server = need_server!();
    let leased = builder(&server).lease(Duration::from_secs(3600)).timeout(ms(50)).open().unwrap();
    let mut client = server.client();
    client.say("CLIENT PAUSE 60000 WRITE");
    assert!(wait(Tier::<String, String>::get(&leased, &key("ada"))).is_err());
    client.say("CLIENT UNPAUSE");
    // what this asks comes to the server after that
    eventually(|| wait(Tier::<String, String>::get_many(&leased, &[key("bob")])).is_ok());
    assert_eq!(client.int(LEASE), 0);
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
