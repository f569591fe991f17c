//! A panic in any piece of the user's code, at any of its calls: the cache stays valid.

mod common;

use common::doubles::{Fuse, Ledger, Op, TouchyKey, TouchyValue};
use common::gate::Gate;
use common::tasks::block_on;
use common::{Watchdog, ms, wait_until};
use larder::{Cache, Clock, ManualClock};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::thread;

struct Rig {
    cache: Cache<TouchyKey, TouchyValue>,
    hand: ManualClock,
    fuse: Fuse,
    ledger: Ledger,
    /// How many values the listener was told of.
    told: Arc<AtomicUsize>,
}

impl Rig {
    fn new(shards: usize) -> Self {
        let (fuse, ledger) = (Fuse::new(), Ledger::new());
        let (clock, hand) = Clock::manual();
        let (weigher, listener) = (fuse.clone(), fuse.clone());
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let cache = Cache::builder()
            .max_weight(24)
            .weigher(move |_, _| {
                weigher.burn(Op::Weigh);
                2
            })
            .on_removal(move |_| {
                count.fetch_add(1, SeqCst);
                listener.burn(Op::Listen);
            })
            .shards(shards)
            .time_to_live(ms(20))
            .time_to_idle(ms(15))
            .negative_ttl(ms(10))
            .clock(clock)
            .seed(1)
            .build()
            .unwrap();
        Self { cache, hand, fuse, ledger, told }
    }

    fn key(&self, id: u64) -> TouchyKey {
        TouchyKey::new(id, &self.ledger, &self.fuse)
    }

    /// The value that belongs to key `id`.
    fn value(&self, id: u64) -> TouchyValue {
        TouchyValue::new(id + 1_000, &self.ledger, &self.fuse)
    }

    fn load(&self, id: u64) -> TouchyValue {
        self.fuse.burn(Op::Load);
        self.value(id)
    }

    /// One call of each kind, by turns, each of them contained.
    fn step(&self, step: u64) {
        let (cache, id) = (&self.cache, step * 7 % 30);
        let key = self.key(id);
        let check = |value: Option<TouchyValue>| {
            assert!(
                value.is_none_or(|value| value.counted.id == id + 1_000),
                "another key's value"
            );
        };
        match step % 23 {
            0..4 => cache.insert(key, self.value(id)),
            4 => {
                cache.insert(self.key(id), self.value(id));
                cache.insert(key, self.value(id));
            }
            5 => check(cache.get(&key)),
            6 => check(cache.peek(&key).map(|got| got.value)),
            7 => drop(cache.contains(&key)),
            8 => check(cache.get_or_load(&key, || Ok::<_, String>(self.load(id))).ok()),
            9 => check(Some(cache.get_or_insert_with(&key, || self.load(id)))),
            10 => drop(cache.get_or_load_optional(&key, || {
                Ok::<_, String>(Some(self.load(id)).filter(|_| false))
            })),
            11 => check(
                block_on(
                    cache.get_or_load_async(&key, || async { Ok::<_, String>(self.load(id)) }),
                )
                .ok(),
            ),
            12 => check(cache.remove(&key)),
            13 => drop(cache.expire(&key)),
            14 => {
                cache.remove_if(|key, _| {
                    self.fuse.burn(Op::Predicate);
                    key.counted.id % 5 == step % 5
                });
            }
            15 => {
                for (key, got) in cache.entries() {
                    assert_eq!(got.value.counted.id, key.counted.id + 1_000);
                }
                self.hand.advance(ms(6));
            }
            16 => {
                let change = |old: Option<TouchyValue>| {
                    (old.is_none() || step % 3 > 0).then(|| self.load(id))
                };
                drop(cache.alter(&key, change));
            }
            17 => {
                let keys: Vec<_> = (id..id + 4).map(|id| self.key(id)).collect();
                let load = |keys: &[TouchyKey]| {
                    let asked = keys.iter().map(|key| key.counted.id);
                    let brought = asked.chain(id + 4..id + 7).filter(|id| id % 6 > 0);
                    Ok::<_, String>(
                        brought.map(|id| (self.key(id), self.load(id))).collect::<Vec<_>>(),
                    )
                };
                drop(cache.get_or_load_many(&keys, load));
            }
            18 => {
                let write = |_: &TouchyKey, _: &TouchyValue| {
                    self.fuse.burn(Op::Load);
                    if step % 5 == 0 { Err("not written") } else { Ok(()) }
                };
                _ = cache.write_through(key, self.value(id), write);
            }
            19 => drop(cache.writing(&key)),
            20 => cache.at(&key).tag("odd").tag("even").insert(self.value(id)),
            21 if step % 2 == 0 => cache.remove_tag("odd"),
            21 => cache.expire_tag("even"),
            _ if step % 3 == 0 => cache.clear(),
            _ => drop(cache.sweep()),
        }
    }
}

/// Runs some rounds of everything with `op` panicking at its n-th call, for every n there is.
fn blows_at_every_call(op: Op) {
    let _watchdog = Watchdog::start();
    for shards in [1, 3] {
        let mut blown = 0;
        for nth in 1.. {
            let rig = Rig::new(shards);
            rig.fuse.arm(op, nth);
            let mut panics = 0;
            for step in 0..120 {
                let contained = AssertUnwindSafe(|| rig.step(step));
                if let Err(payload) = catch_unwind(contained) {
                    let what = payload.downcast_ref::<String>();
                    let fuse = format!("expected: the fuse of {op:?}");
                    assert_eq!(what, Some(&fuse), "at call {nth}, in step {step}");
                    panics += 1;
                    rig.cache.validate();
                    assert_eq!(rig.cache.flights(), 0, "{op:?} at call {nth} wedged a key");
                }
            }
            let stats = rig.cache.stats();
            panics += stats.listener_panics;
            let has_blown = rig.fuse.disarm();
            // a value whose drop panics in the listener's hands is the listener's panic
            assert!(panics <= 1 && (has_blown || panics == 0), "one panic, and {panics} seen");
            rig.cache.validate();
            assert!(rig.cache.weight() <= 24);

            // and it works
            for id in 0..40 {
                rig.cache.insert(rig.key(id), rig.value(id));
                let got = rig.cache.get_or_load(&rig.key(id), || Err("not there")).unwrap();
                assert_eq!(got.counted.id, id + 1_000);
            }
            rig.cache.validate();
            let stats = rig.cache.stats();
            let left = stats.replaced + stats.removed + stats.expired + stats.evicted;
            assert_eq!(
                left + stats.rejected,
                rig.told.load(SeqCst) as u64,
                "{op:?} at call {nth}: what left is what was reported"
            );
            let Rig { cache, ledger, .. } = rig;
            drop(cache);
            // what is being returned, all values of a batch perhaps, is leaked by Rust itself if a drop panics
            // on the way out (rust-lang/rust#47949); nothing else is
            let is_drop = matches!(op, Op::DropKey | Op::DropValue);
            let most = if is_drop && has_blown { 4 } else { 0 };
            assert!(ledger.alive() <= most, "{op:?} at call {nth} leaked");
            if !has_blown {
                break;
            }
            blown += 1;
        }
        assert!(blown >= 5, "{op:?} was called {blown} times only");
    }
}

#[test]
fn a_panic_in_hash_leaves_the_cache_valid() {
    blows_at_every_call(Op::Hash);
}

#[test]
fn a_panic_in_eq_leaves_the_cache_valid() {
    blows_at_every_call(Op::Eq);
}

#[test]
fn a_panic_in_a_keys_clone_leaves_the_cache_valid() {
    blows_at_every_call(Op::CloneKey);
}

#[test]
fn a_panic_in_a_values_clone_leaves_the_cache_valid() {
    blows_at_every_call(Op::CloneValue);
}

#[test]
fn a_panic_in_a_keys_drop_leaves_the_cache_valid() {
    blows_at_every_call(Op::DropKey);
}

#[test]
fn a_panic_in_a_values_drop_leaves_the_cache_valid() {
    blows_at_every_call(Op::DropValue);
}

#[test]
fn a_panic_in_a_weigher_leaves_the_cache_valid() {
    blows_at_every_call(Op::Weigh);
}

#[test]
fn a_panic_in_a_listener_leaves_the_cache_valid() {
    blows_at_every_call(Op::Listen);
}

#[test]
fn a_panic_in_a_predicate_leaves_the_cache_valid() {
    blows_at_every_call(Op::Predicate);
}

#[test]
fn a_panic_in_a_loader_leaves_the_cache_valid() {
    blows_at_every_call(Op::Load);
}

#[test]
fn caches_may_be_used_again_after_a_panic_was_caught() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn safe<T: UnwindSafe + RefUnwindSafe>() {}
    type Value = std::cell::Cell<u32>; // whatever is in it
    safe::<Cache<u64, Value>>();
    safe::<larder::Invalidator<u64, Value>>();
    safe::<larder::LoadingCache<u64, Value, u32>>();
    safe::<larder::AsyncLoadingCache<u64, Value, u32>>();
}

#[test]
fn what_left_is_reported_though_a_clone_panics_on_the_way() {
    static CLONES: AtomicUsize = AtomicUsize::new(usize::MAX);

    struct Fused;

    impl Clone for Fused {
        fn clone(&self) -> Self {
            assert_ne!(CLONES.fetch_sub(1, SeqCst), 0, "expected: the value's own trouble");
            Self
        }
    }

    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let builder = Cache::<u64, Fused>::builder().max_entries(1).shards(1);
    let cache = builder.on_removal(move |_| _ = count.fetch_add(1, SeqCst)).build().unwrap();
    cache.insert(1, Fused);
    CLONES.store(0, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.remove(&1))).is_err());
    assert_eq!((cache.stats().removed, told.load(SeqCst)), (1, 1));

    // the first clone is made before it is known that somebody waits, the second one is stored, the
    // third is for those who wait
    CLONES.store(usize::MAX, SeqCst);
    cache.insert(1, Fused);
    let gate = Gate::new();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let load = || {
                gate.pass(());
                CLONES.store(2, SeqCst);
                Ok::<_, ()>(Fused)
            };
            catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&2, load).is_ok())).is_err()
        });
        gate.wait_until_entered(1);
        let follower = scope.spawn(|| cache.get_or_load(&2, || Ok::<_, ()>(Fused)).is_err());
        wait_until(|| cache.stats().joined == 1);
        gate.open();
        assert!(leader.join().unwrap() && follower.join().unwrap());
    });
    CLONES.store(usize::MAX, SeqCst);
    assert_eq!((cache.stats().evicted, told.load(SeqCst)), (1, 2));
}

#[test]
fn the_time_of_a_load_counts_once_though_its_landing_panics() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().clock(clock).max_weight(9);
    let weigher = |_: &u64, value: &u64| {
        assert_ne!(*value, 13, "expected: the weigher's own trouble");
        1
    };
    let cache = builder.weigher(weigher).load_timeout(ms(1_000)).build().unwrap();
    let slow = |value| {
        hand.advance(ms(100));
        Ok::<_, String>(value)
    };
    let load = |value| catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&1, || slow(value))));
    assert!(load(13).is_err());
    assert_eq!((cache.stats().load_time, cache.stats().load_failures), (ms(100), 1));
    assert_eq!(load(1).unwrap().unwrap(), 1);
    assert_eq!((cache.stats().load_time, cache.stats().load_failures), (ms(200), 1));

    // of several at once, one value beside the one that was asked for
    let load_many = |_: &[u64]| slow(0).map(|_| vec![(2, 2), (3, 13)]);
    let many = catch_unwind(AssertUnwindSafe(|| drop(cache.get_or_load_many(&[2], load_many))));
    assert!(many.is_err());
    assert_eq!((cache.stats().load_time, cache.stats().load_failures), (ms(300), 2));
    cache.validate();
}

#[test]
fn a_task_whose_value_cannot_be_cloned_is_told_so_by_its_clone_alone() {
    struct Uncloned;

    impl Clone for Uncloned {
        fn clone(&self) -> Self {
            panic!("expected: made for nobody");
        }
    }

    // with no life nothing is stored, and nobody else waits: there is nothing to clone it for
    let cache: Cache<u64, Uncloned> =
        Cache::builder().max_entries(9).time_to_live(ms(0)).build().unwrap();
    block_on(cache.get_or_insert_with_async(&1, || async { Uncloned }));
}

#[test]
fn a_thread_that_ends_may_still_load() {
    struct AtTheEnd(Cache<u64, u64>);

    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            assert_eq!(self.0.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
            assert_eq!(self.0.get_or_load(&2, || Ok::<_, String>(20)).unwrap(), 20);
        }
    }

    thread_local! {
        static LAST: std::cell::RefCell<Option<AtTheEnd>> = const { std::cell::RefCell::new(None) };
    }

    let cache: Cache<u64, u64> = Cache::new(9);
    let own = cache.clone();
    thread::spawn(move || {
        // what is first used goes last
        LAST.set(Some(AtTheEnd(own.clone())));
        assert_eq!(own.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
    })
    .join()
    .unwrap();
    assert_eq!((cache.get(&2), cache.stats().loads), (Some(20), 2));
}

/// A key whose comparison panics once, when it is its turn.
#[derive(Clone, Debug)]
struct Moody(u64, Arc<AtomicUsize>);

impl Moody {
    fn key(&self, id: u64) -> Self {
        Self(id, Arc::clone(&self.1))
    }

    fn panics_at(&self, comparison: usize) {
        self.1.store(comparison, SeqCst);
    }
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        assert_ne!(self.1.fetch_sub(1, SeqCst), 1, "expected: the key's own trouble");
        self.0 == other.0
    }
}

impl Eq for Moody {}

impl std::hash::Hash for Moody {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn a_write_ends_though_its_keys_eq_panics() {
    let mood = Moody(0, Arc::new(AtomicUsize::new(usize::MAX)));
    for hold in [ms(0), ms(5)] {
        // at each of the comparisons that the end of a write comes to
        for turn in 1..6 {
            let (clock, hand) = Clock::manual();
            let cache =
                Cache::<Moody, u64>::builder().max_entries(10).clock(clock).build().unwrap();
            let key = mood.key(1);
            let fence = cache.writing(&key).hold_for(hold);
            let load = || cache.get_or_load(&key, || Ok::<_, ()>(10));
            cache.insert(key.clone(), 5);
            mood.panics_at(turn);
            let ended = catch_unwind(AssertUnwindSafe(|| drop(fence)));
            mood.panics_at(usize::MAX);
            assert!(ended.is_err() || turn > 1, "there is a comparison");
            hand.advance(ms(5));
            cache.remove(&key);
            assert_eq!((cache.fences(), load().unwrap()), (0, 10));
            assert_eq!(cache.get(&key), Some(10), "{hold:?}, {turn}");
            cache.validate();
        }
    }
}

#[test]
fn an_eq_that_panics_ends_one_write_and_not_the_other() {
    let mood = Moody(0, Arc::new(AtomicUsize::new(usize::MAX)));
    for turn in 1..6 {
        let cache: Cache<Moody, u64> = Cache::new(10);
        let key = mood.key(1);
        let (one, other) = (cache.writing(&key), cache.writing(&key));
        cache.insert(key.clone(), 5);
        mood.panics_at(turn);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(one)));
        mood.panics_at(usize::MAX);
        assert_eq!(cache.fences(), 1, "{turn}");
        drop(other);
        assert_eq!(cache.fences(), 0);
        cache.validate();
    }
}

#[test]
fn what_a_write_takes_out_is_reported_though_an_eq_panics_after_that() {
    let mood = Moody(0, Arc::new(AtomicUsize::new(usize::MAX)));
    for turn in 1..6 {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let builder = Cache::<Moody, u64>::builder().max_entries(10);
        let cache = builder.on_removal(move |_| _ = count.fetch_add(1, SeqCst)).build().unwrap();
        let key = mood.key(1);
        let fence = cache.writing(&key);
        cache.insert(key.clone(), 10);
        mood.panics_at(turn);
        let again = catch_unwind(AssertUnwindSafe(|| cache.writing(&key)));
        mood.panics_at(usize::MAX);
        assert_eq!(cache.stats().removed, told.load(SeqCst) as u64, "{turn}");
        drop((again, fence));
        assert_eq!(cache.fences(), 0);
        cache.validate();
    }
}

/// A key that cannot be dropped once it is armed.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Stubborn(u64);

static ARMED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Stubborn {
    fn drop(&mut self) {
        let is_armed = self.0 == 7 && ARMED.load(SeqCst) > 0;
        assert!(!is_armed || thread::panicking(), "expected: it does not go quietly");
    }
}

#[test]
fn what_left_is_reported_though_a_key_of_no_value_cannot_be_dropped() {
    let reported = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reported);
    let cache: Cache<Stubborn, u64> = Cache::builder()
        .max_entries(100)
        .shards(1)
        .negative_ttl(ms(60_000))
        .on_removal(move |_| {
            count.fetch_add(1, SeqCst);
        })
        .build()
        .unwrap();
    let none = cache.get_or_load_optional(&Stubborn(7), || Ok::<_, String>(None));
    assert!(none.unwrap().is_none());
    (10..60).for_each(|id| cache.insert(Stubborn(id), id));
    ARMED.store(1, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.clear())).is_err());
    assert_eq!((reported.load(SeqCst), cache.len()), (50, 0));
    cache.validate();
}

#[test]
fn what_remove_if_took_out_is_reported_though_an_eq_panics_after_that() {
    let mood = Moody(0, Arc::new(AtomicUsize::new(usize::MAX)));
    for turn in 1..12 {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let builder = Cache::<Moody, u64>::builder().max_entries(10);
        let cache = builder.on_removal(move |_| _ = count.fetch_add(1, SeqCst)).build().unwrap();
        (0..10).for_each(|id| cache.insert(mood.key(id), id));
        mood.panics_at(turn);
        let removed = catch_unwind(AssertUnwindSafe(|| cache.remove_if(|_, _| true)));
        mood.panics_at(usize::MAX);
        assert_eq!(removed.is_err(), turn <= 10, "{turn}");
        assert_eq!(cache.stats().removed, told.load(SeqCst) as u64, "{turn}");
        cache.validate();
    }
}

/// An error that cannot be dropped once it is armed, the first time.
#[derive(Debug)]
struct Barbed(Arc<AtomicUsize>);

impl Drop for Barbed {
    fn drop(&mut self) {
        let was_armed = self.0.swap(0, SeqCst) > 0;
        assert!(!was_armed, "expected: an error that does not go quietly");
    }
}

#[test]
fn a_load_that_begins_with_a_panic_leaves_nothing_under_way() {
    let _watchdog = Watchdog::start();
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(10).clock(clock);
    let builder = builder.error_backoff(ms(1_000), ms(1_000)).load_timeout(ms(10_000));
    let cache = builder.build().unwrap();
    let armed = Arc::new(AtomicUsize::new(0));
    assert!(cache.get_or_load(&1, || Err::<u64, _>(Barbed(Arc::clone(&armed)))).is_err());
    hand.advance(ms(2_000));
    let mut hung = Box::pin(cache.get_or_load_async(&1, pending::<Result<u64, Barbed>>));
    assert!(hung.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    hand.advance(ms(20_000));
    // whoever comes next takes the key from that load, notes its failure in the place of the one before, and
    // drops the error of that
    armed.store(1, SeqCst);
    let forced = || cache.at(&1).force().load(|_| Ok::<_, Barbed>(5));
    assert!(catch_unwind(AssertUnwindSafe(forced)).is_err());
    assert_eq!((armed.load(SeqCst), cache.flights()), (0, 0));
    drop(hung);
    let again = cache.at(&1).force().load(|_| Ok::<_, Barbed>(6));
    assert_eq!(again.unwrap().value, 6);
    cache.validate();
}
