//! What went wrong with the second tier once: who waits for whom, what comes back, what a panic takes
//! along. A test that hangs is ended by its watchdog.

mod common;

use common::gate::Gate;
use common::{Checked, Record, Watchdog, checked, ms, parting, secs, wait_until, watched};
use larder::{
    AsyncLoader, Cache, CacheBuilder, Clock, Event, LoadCx, Loaded, Loader, ManualClock,
    MemoryTier, RefreshAhead, Refused, Removal, Runtime, Tier, TierChange, TierEntry, TierError,
    TierFound, TierKey, TierTicket, TierWatcher,
};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::future::{Future, pending};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

type Shared = MemoryTier<String, u64>;

fn builder() -> CacheBuilder<String, u64> {
    Cache::builder().max_entries(10)
}

fn shelf(tier: impl Tier<String, u64>) -> Checked<String, u64> {
    checked(builder().tier(tier))
}

/// Waits until all changes of a cache have reached its tier.
fn settled<K, V, S>(cache: &Cache<K, V, S>) {
    wait_until(|| cache.tier_pending() == 0);
}

#[allow(clippy::unnecessary_wraps, reason = "what a tier returns")]
fn nothing<K, V>() -> Result<TierFound<K, V>, TierError> {
    Ok(TierFound::new(None, TierTicket::default()))
}

/// A listener's own cache, for as long as the test has this.
#[derive(Default)]
struct Own(Arc<Mutex<Option<Cache<String, u64>>>>);

impl Own {
    fn set(&self, cache: &Cache<String, u64>) {
        *self.0.lock() = Some(cache.clone());
    }

    /// A listener that has something to do with its cache, once.
    fn once<F>(&self, act: F) -> impl Fn(Removal<String, u64>) + use<F>
    where
        F: Fn(&Cache<String, u64>, &str),
    {
        let (own, is_done) = (Arc::clone(&self.0), AtomicBool::new(false));
        move |gone| {
            let own = own.lock().clone();
            if let Some(cache) = own.filter(|_| !is_done.swap(true, Ordering::SeqCst)) {
                act(&cache, &gone.key);
            }
        }
    }

    /// One that loads what is gone.
    fn loads(&self) -> impl Fn(Removal<String, u64>) + use<> {
        self.once(|cache, key| _ = cache.get_or_load(key, || Ok::<_, String>(7)))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let own = self.0.lock().take();
        drop(own);
    }
}

/// Holds back changes, and fails them as often as is said.
#[derive(Clone)]
struct Held {
    inner: Shared,
    gate: Gate,
    fails: Arc<AtomicUsize>,
    tries: Arc<AtomicUsize>,
    cleared: Arc<AtomicBool>,
}

impl Held {
    fn over(inner: &Shared) -> Self {
        Self {
            inner: inner.join(),
            gate: Gate::new(),
            fails: Arc::default(),
            tries: Arc::default(),
            cleared: Arc::default(),
        }
    }
}

impl Tier<String, u64> for Held {
    async fn get(&self, key: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        self.inner.get(key).await
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.gate.pass_async(()).await;
        self.tries.fetch_add(1, Ordering::SeqCst);
        let one_less = |fails: usize| fails.checked_sub(1);
        if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(TierError::TimedOut);
        }
        if changes.iter().any(|change| matches!(change, TierChange::Clear)) {
            self.cleared.store(true, Ordering::SeqCst);
        }
        self.inner.apply(changes).await
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        self.inner.watch(watcher)
    }
}

/// Takes no loads.
struct NoLoads(Shared);

impl Tier<String, u64> for NoLoads {
    async fn get(&self, key: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        self.0.get(key).await
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        if changes.iter().any(|change| matches!(change, TierChange::Load(..))) {
            return Err(TierError::TimedOut);
        }
        self.0.apply(changes).await
    }
}

#[test]
fn remove_everywhere_ends_though_a_load_that_was_noted_after_it_failed() {
    let own = Own::default();
    let listener = own.once(|cache, _| {
        settled(cache); // as another thread might be late
        cache.get_or_load("b", || Ok::<_, String>(1)).unwrap();
    });
    let cache = checked(builder().tier(NoLoads(Shared::new())).on_removal(listener));
    own.set(&cache);
    cache.insert("a".to_owned(), 1);
    settled(&cache);
    assert_eq!(cache.remove_everywhere("a"), Ok(Some(1)));
}

#[test]
fn an_expiry_behind_a_change_that_failed_brings_nothing_back() {
    for is_write in [false, true] {
        let shared = Shared::new();
        let lasting = || builder().time_to_live(secs(50)).stale_if_error(secs(50));
        let before = checked(lasting().tier(shared.join()));
        before.insert("a".to_owned(), 0);
        settled(&before);
        let tier = Held::over(&shared);
        let cache = checked(lasting().tier(tier.clone()));
        if is_write {
            cache.insert("a".to_owned(), 1);
        } else {
            cache.remove("a");
        }
        tier.gate.wait_until_entered(1);
        cache.expire("a");
        tier.fails.store(1, Ordering::SeqCst);
        tier.gate.open();
        settled(&cache);
        let later = checked(lasting().tier(shared.join()));
        let got = later.get_or_load("a", || Err::<u64, _>("down"));
        assert!(got.is_err(), "a write {is_write}: {got:?} came back");
    }
}

/// A value that panics where the tier's thread drops it, once.
#[derive(Clone)]
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let is_there = thread::current().name() == Some("larder-tier");
        assert!(!(is_there && self.0.swap(false, Ordering::SeqCst)), "expected: a drop");
    }
}

/// Fails once, and then writes down which keys are changed.
#[derive(Clone, Default)]
struct FailsOnce(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>);

impl Tier<String, Bomb> for FailsOnce {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, Bomb>, TierError> {
        nothing()
    }

    async fn apply(&self, changes: &[TierChange<String, Bomb>]) -> Result<(), TierError> {
        if !self.0.swap(true, Ordering::SeqCst) {
            return Err(TierError::TimedOut);
        }
        let keys = changes.iter().filter_map(TierChange::key).map(ToString::to_string);
        self.1.lock().extend(keys);
        Ok(())
    }
}

#[test]
fn a_panic_in_a_drop_loses_no_removal() {
    let tier = FailsOnce::default();
    let cache = checked(Cache::<String, Bomb>::builder().max_entries(10).tier(tier.clone()));
    let armed = Arc::new(AtomicBool::new(true));
    cache.insert("a".to_owned(), Bomb(Arc::clone(&armed)));
    settled(&cache);
    assert!(!armed.load(Ordering::SeqCst), "nothing panicked");
    // what was written in vain is removed
    assert_eq!(*tier.1.lock(), ["a"]);
}

#[test]
fn what_waits_to_be_tried_again_is_tried_before_the_cache_is_gone() {
    let _watchdog = Watchdog::start();
    let shared = Shared::new();
    let tier = Held::over(&shared);
    tier.gate.open();
    let cache = builder().tier(tier.clone()).build().unwrap();
    cache.insert("a".to_owned(), 1);
    settled(&cache);
    tier.fails.store(usize::MAX, Ordering::SeqCst);
    let before = tier.tries.load(Ordering::SeqCst);
    cache.remove("a");
    // the pauses are long by then
    wait_until(|| tier.tries.load(Ordering::SeqCst) > before + 4);
    tier.fails.store(0, Ordering::SeqCst);
    parting(|| drop(cache), || shared.is_empty());
    assert_eq!(shelf(shared.join()).get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
}

/// Takes no changes among which is one of `k0` or of `k200`.
#[derive(Clone, Default)]
struct Picky(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>);

impl Tier<String, u64> for Picky {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        nothing()
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        let keys = changes.iter().filter_map(TierChange::key).map(ToString::to_string);
        let keys: Vec<_> = keys.collect();
        if keys.iter().any(|key| key == "k0" || key == "k200") {
            self.1.fetch_add(1, Ordering::SeqCst);
            return Err(TierError::TimedOut);
        }
        self.0.lock().extend(keys);
        Ok(())
    }
}

#[test]
fn what_is_left_is_tried_before_the_cache_is_gone_though_some_of_it_fails() {
    let tier = Picky::default();
    let cache = shelf(tier.clone());
    let name = |n: u64| format!("k{n}");
    cache.remove(&name(0));
    wait_until(|| tier.1.load(Ordering::SeqCst) > 0);
    // they wait for that one, and will be sent 128 at a time
    (1..=300).for_each(|n| _ = cache.remove(&name(n)));
    let expected: Vec<_> = (1..=128).chain(257..=300).map(name).collect();
    let begun = Instant::now();
    drop(cache);
    let is_in_time = begun.elapsed() < secs(1);
    let made = tier.0.lock().clone();
    // on a machine that is too busy, the second for which the drop waits may end before
    assert!(expected.starts_with(&made), "{made:?}");
    assert!(made == expected || !is_in_time, "{made:?}");
}

#[test]
fn a_listener_that_loads_what_expired_does_not_wait_for_itself() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(100));
    let timed = || builder().stale_if_error(secs(60)).clock(clock.clone());
    let one = checked(timed().time_to_live(secs(50)).tier(tier.join()));
    let own = Own::default();
    let other = checked(timed().time_to_live(secs(1)).tier(tier.join()).on_removal(own.loads()));
    own.set(&other);
    one.at("a").ttl(secs(50)).insert(1);
    settled(&one);
    other.get_or_load("a", || Ok::<_, String>(2)).unwrap();
    // its copy is past its windows, and what the tier has within them
    hand.advance(secs(62));
    assert!(other.get_or_load("a", || Ok::<_, String>(3)).is_ok());
}

#[test]
fn a_listener_that_loads_a_key_of_the_batch_does_not_wait_for_itself() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(100));
    let timed = || builder().time_to_live(secs(5)).stale_if_error(secs(100)).clock(clock.clone());
    let one = checked(timed().tier(tier.join()));
    let own = Own::default();
    // with room for one of the two that the tier has
    let other = checked(timed().max_entries(1).tier(tier.join()).on_removal(own.loads()));
    own.set(&other);
    let keys = ["a".to_owned(), "b".to_owned()];
    for key in &keys {
        one.insert(key.clone(), 1);
    }
    settled(&one);
    hand.advance(secs(6));
    let load = |keys: &[String]| {
        Ok::<_, String>(keys.iter().map(|key| (key.clone(), 3)).collect::<Vec<_>>())
    };
    assert_eq!(other.get_or_load_many(&keys, load).got.len(), 2);
}

#[test]
fn a_batch_dropped_in_line_reports_when_its_keys_are_free() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(1_000));
    let one = checked(builder().clock(clock.clone()).tier(tier.join()));
    one.insert("a".to_owned(), 1);
    settled(&one);
    let own = Own::default();
    let timed = builder().max_entries(1).max_concurrent_loads(1).clock(clock);
    let other = checked(timed.tier(tier.join()).on_removal(own.loads()));
    other.at("b").ttl(secs(5)).insert(1);
    settled(&other);
    hand.advance(secs(6));
    own.set(&other);
    let mut task = Context::from_waker(Waker::noop());
    let mut slot = Box::pin(other.at("z").load_async(|_| pending::<Result<u64, String>>()));
    assert!(slot.as_mut().poll(&mut task).is_pending());
    // "a" is there, and takes the place of "b", which is over and waits for the slot
    let keys = ["a".to_owned(), "b".to_owned()];
    let load = |_: Vec<String>| async { Ok::<Vec<(String, u64)>, String>(Vec::new()) };
    let mut many = Box::pin(other.get_or_load_many_async(&keys, load));
    assert!(many.as_mut().poll(&mut task).is_pending());
    drop(slot);
    drop(many);
}

/// Of two parts, of which only one is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lossy {
    hashed: u64,
    not: u64,
}

impl Hash for Lossy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hashed.hash(state);
    }
}

#[test]
fn news_of_a_name_are_about_all_keys_of_that_name() {
    for expires in [false, true] {
        let tier = MemoryTier::<Lossy, u64>::new();
        let cache = || checked(Cache::<Lossy, u64>::builder().max_entries(100).tier(tier.join()));
        let (one, other) = (cache(), cache());
        let keys: Vec<_> = (0..3).map(|not| Lossy { hashed: 1, not }).collect();
        for key in &keys {
            for key in &keys {
                other.insert(key.clone(), 1);
            }
            settled(&other);
            if expires {
                one.expire(key);
            } else {
                one.remove(key);
            }
            settled(&one);
            assert_eq!(other.get(key), None, "{key:?}, expires: {expires}");
        }
    }
}

/// Panics where a turn is given back.
struct NeverBack;

impl Tier<String, u64> for NeverBack {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        nothing()
    }

    async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
        Ok(())
    }

    fn release(&self, _: &TierKey, _: &TierTicket) {
        panic!("expected: release")
    }
}

#[test]
fn a_release_that_panics_wedges_no_key() {
    let cache = shelf(NeverBack);
    let mut load = Box::pin(cache.at("a").load_async(|_| pending::<Result<u64, ()>>()));
    assert!(load.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    _ = catch_unwind(AssertUnwindSafe(move || drop(load)));
    assert_eq!((cache.flights(), cache.get_or_insert_with("a", || 3)), (0, 3));
}

/// A value whose drop panics while it is armed.
struct Touchy(Arc<AtomicBool>);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "expected: a drop");
    }
}

/// Has its news told by the test, and counts its questions.
#[derive(Clone, Default)]
struct ByHand(Arc<Mutex<Option<TierWatcher>>>, Arc<AtomicUsize>);

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Tier<K, V> for ByHand {
    async fn get(&self, _: &TierKey) -> Result<TierFound<K, V>, TierError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        nothing()
    }

    async fn apply(&self, _: &[TierChange<K, V>]) -> Result<(), TierError> {
        Ok(())
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        *self.0.lock() = Some(watcher);
        Ok(())
    }
}

#[test]
fn news_that_panic_leave_the_thread_as_it_was() {
    let tier = ByHand::default();
    let cache = checked(Cache::<String, Touchy>::builder().max_entries(10).tier(tier.clone()));
    let armed = Arc::new(AtomicBool::new(false));
    cache.insert("a".to_owned(), Touchy(Arc::clone(&armed)));
    settled(&cache);
    // the thread that told the tier has dropped its copy
    wait_until(|| Arc::strong_count(&armed) == 2);
    armed.store(true, Ordering::SeqCst);
    let watcher = tier.0.lock().clone().unwrap();
    let told = catch_unwind(AssertUnwindSafe(|| watcher.changed(&TierKey::of("a"))));
    assert!(told.is_err());
    let before = tier.1.load(Ordering::SeqCst);
    _ = cache.get_or_load("b", || Ok::<_, String>(Touchy(Arc::clone(&armed))));
    assert_eq!(tier.1.load(Ordering::SeqCst), before + 1, "this thread asks no more");
}

/// Its hash is that of all others, and panics when it is its turn.
#[derive(Clone, PartialEq, Eq)]
struct Twin(u64);

static TURN: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Hash for Twin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert_ne!(TURN.fetch_sub(1, Ordering::SeqCst), 1, "expected: a hash");
        1.hash(state);
    }
}

#[test]
fn what_news_took_out_is_reported_though_a_hash_panics_after_that() {
    for turn in 1..4 {
        let (tier, told) = (ByHand::default(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&told);
        let builder = Cache::<Twin, u64>::builder().max_entries(10).tier(tier.clone());
        let cache = checked(builder.on_removal(move |_| _ = count.fetch_add(1, Ordering::SeqCst)));
        (0..3).for_each(|key| cache.insert(Twin(key), key));
        settled(&cache);
        let (watcher, name) = (tier.0.lock().clone().unwrap(), TierKey::of(&Twin(0)));
        TURN.store(turn, Ordering::SeqCst);
        let heard = catch_unwind(AssertUnwindSafe(|| watcher.changed(&name)));
        TURN.store(usize::MAX, Ordering::SeqCst);
        assert!(heard.is_err(), "{turn}");
        assert_eq!(cache.stats().removed, told.load(Ordering::SeqCst) as u64, "{turn}");
    }
}

/// Never has a change done with.
#[derive(Clone, Default)]
struct Hung(Arc<AtomicUsize>);

impl Tier<String, Touchy> for Hung {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, Touchy>, TierError> {
        nothing()
    }

    async fn apply(&self, _: &[TierChange<String, Touchy>]) -> Result<(), TierError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        pending().await
    }
}

#[test]
fn what_a_write_took_out_is_reported_though_a_change_that_is_not_needed_cannot_be_dropped() {
    let (tier, told) = (Hung::default(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&told);
    let builder = Cache::<String, Touchy>::builder().max_entries(10).tier(tier.clone());
    let cache = checked(builder.on_removal(move |_| _ = count.fetch_add(1, Ordering::SeqCst)));
    cache.remove("other");
    wait_until(|| tier.0.load(Ordering::SeqCst) > 0);
    let fence = cache.writing("a");
    let armed = Arc::new(AtomicBool::new(false));
    cache.insert("a".to_owned(), Touchy(Arc::clone(&armed)));
    // the end of the write replaces the change that was to bring this value to the tier
    armed.store(true, Ordering::SeqCst);
    let ended = catch_unwind(AssertUnwindSafe(|| drop(fence)));
    assert!(!armed.load(Ordering::SeqCst), "something was dropped");
    let removed = cache.stats().removed;
    assert_eq!((removed, told.load(Ordering::SeqCst)), (1, 1), "panicked: {}", ended.is_err());
}

#[test]
fn a_write_that_begins_with_a_panic_leaves_no_fence() {
    let tier = Hung::default();
    let (left, builder) = (Record::new(), Cache::<String, Touchy>::builder());
    let builder = builder.max_entries(10).tier(tier.clone()).on_removal(left.listener());
    let cache = checked(builder);
    cache.remove("other");
    wait_until(|| tier.0.load(Ordering::SeqCst) > 0);
    let armed = Arc::new(AtomicBool::new(false));
    // the listener keeps what left: the value that is dropped first is that of the change to the tier
    cache.insert("a".to_owned(), Touchy(Arc::clone(&armed)));
    armed.store(true, Ordering::SeqCst);
    let begun = catch_unwind(AssertUnwindSafe(|| cache.writing("a")));
    assert!(begun.is_err() && !armed.load(Ordering::SeqCst), "something was dropped");
    assert_eq!((cache.fences(), left.count()), (0, 1));
}

#[test]
fn what_a_load_replaced_is_reported_though_a_change_that_is_not_needed_cannot_be_dropped() {
    let tier = Hung::default();
    let (left, builder) = (Record::new(), Cache::<String, Touchy>::builder());
    let builder = builder.max_entries(10).tier(tier.clone()).on_removal(left.listener());
    let cache = checked(builder);
    let armed = Arc::new(AtomicBool::new(false));
    cache.insert("a".to_owned(), Touchy(Arc::clone(&armed)));
    // the tier is not told of what is loaded, since it has not heard of what was inserted
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        cache.at("a").force().load(|_| {
            armed.store(true, Ordering::SeqCst);
            Ok::<_, ()>(Touchy(Arc::clone(&armed)))
        })
    }));
    assert!(loaded.is_err() && !armed.load(Ordering::SeqCst), "something was dropped");
    assert_eq!((cache.stats().replaced, left.count()), (1, 1));
}

#[test]
fn loads_alone_clear_nothing() {
    let tier = Held::over(&Shared::new());
    let cache = shelf(tier.clone());
    cache.remove("first");
    tier.gate.wait_until_entered(1);
    for n in 0..70_000_u64 {
        cache.get_or_load(n.to_string().as_str(), || Ok::<_, String>(n)).unwrap();
    }
    tier.gate.open();
    settled(&cache);
    assert!(!tier.cleared.load(Ordering::SeqCst));
}

#[test]
fn the_last_handle_may_go_with_its_thread() {
    let _watchdog = Watchdog::start();
    thread_local! {
        static KEPT: RefCell<Option<Cache<String, u64>>> = const { RefCell::new(None) };
    }
    let tier = Shared::new();
    let joined = tier.join();
    let work = move || {
        let cache = builder().tier(joined).build().unwrap();
        cache.insert("a".to_owned(), 1);
        KEPT.set(Some(cache));
    };
    parting(|| thread::spawn(work).join().unwrap(), || tier.len() == 1);
    assert_eq!(tier.len(), 1);
}

#[test]
fn what_was_forced_is_not_followed_by_what_was_loaded_before() {
    let tier = Held::over(&Shared::new());
    let cache = shelf(tier.clone());
    cache.get_or_load("a", || Ok::<_, String>(1)).unwrap();
    tier.gate.wait_until_entered(1);
    let got = cache.at("a").force().load(|_| Ok::<_, String>(2)).unwrap();
    assert_eq!(got.value, 2);
    tier.gate.open();
    settled(&cache);
    let other = shelf(tier.inner.join());
    assert_eq!(other.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
}

#[test]
fn nor_is_what_was_due_of_many() {
    let (clock, hand) = Clock::manual();
    let tier = Held::over(&Shared::with(clock.clone(), None));
    let builder = builder().time_to_live(secs(100)).refresh_ahead(RefreshAhead::At(0.5));
    let cache = checked(builder.clock(clock.clone()).tier(tier.clone()));
    cache.get_or_load("a", || Ok::<_, String>(1)).unwrap();
    tier.gate.wait_until_entered(1);
    hand.advance(secs(60));
    let many = cache.get_or_load_many(&["a".to_owned()], |keys| {
        Ok::<_, String>(keys.iter().map(|key| (key.clone(), 2)).collect::<Vec<_>>())
    });
    assert_eq!(many.got[0].1.value, 2);
    tier.gate.open();
    settled(&cache);
    let other = checked(self::builder().clock(clock).tier(tier.inner.join()));
    assert_eq!(other.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
}

/// Counts its calls.
struct Counted(Arc<AtomicUsize>);

impl Loader<String, u64> for Counted {
    type Error = String;

    fn load(&self, _: &String, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Loaded::new(1))
    }
}

#[test]
fn loads_are_calls_of_the_loader() {
    for is_guarded in [false, true] {
        let (clock, hand) = Clock::manual();
        let tier = Shared::with(clock.clone(), secs(5));
        let calls = Arc::new(AtomicUsize::new(0));
        let mut builder = builder()
            .time_to_live(secs(10))
            .stale_while_revalidate(secs(100))
            .refresh_ahead(RefreshAhead::At(0.5))
            .clock(clock)
            .tier(tier);
        if is_guarded {
            builder = builder.max_concurrent_loads(4).circuit_breaker(5, secs(1));
        }
        let cache = builder.build_loading(Counted(Arc::clone(&calls))).unwrap();
        let _watched = watched(&cache);
        for n in 0..10 {
            for key in ["a", "b", "c"] {
                cache.load(key).unwrap();
            }
            cache.refresh("a");
            wait_until(|| cache.flights() == 0 && cache.tier_pending() == 0);
            hand.advance(secs([3, 6, 11, 1][n % 4]));
        }
        wait_until(|| cache.flights() == 0);
        let calls = calls.load(Ordering::SeqCst) as u64;
        assert_eq!(cache.stats().loads, calls, "guarded: {is_guarded}");
    }
}

struct One;

impl AsyncLoader<String, u64> for One {
    type Error = String;

    async fn load(&self, _: &String, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(1))
    }
}

/// Polls what it is given once, and notes whether that panicked.
#[derive(Clone, Default)]
struct OnTheSpot(Arc<AtomicBool>);

impl Runtime for OnTheSpot {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        let mut task = AssertUnwindSafe(task);
        let mut cx = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut cx).is_ready()));
        self.0.fetch_or(polled.is_err(), Ordering::SeqCst);
        Ok(())
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        job();
        Ok(())
    }
}

/// Panics where it is asked, while it is armed.
struct Panics(Arc<AtomicBool>);

impl Tier<String, u64> for Panics {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        assert!(!self.0.load(Ordering::SeqCst), "expected: get");
        Err(TierError::TimedOut)
    }

    async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
        Ok(())
    }
}

#[test]
fn a_tier_that_panics_in_the_background_spares_the_runtime() {
    let (clock, hand) = Clock::manual();
    let (runtime, armed) = (OnTheSpot::default(), Arc::new(AtomicBool::new(false)));
    let cache = builder()
        .time_to_live(secs(1))
        .stale_while_revalidate(secs(100))
        .clock(clock)
        .runtime(runtime.clone())
        .tier(Panics(Arc::clone(&armed)))
        .build_loading_async(One)
        .unwrap();
    let _watched = watched(&cache);
    cache.insert("a".to_owned(), 1);
    settled(&cache);
    hand.advance(secs(2));
    armed.store(true, Ordering::SeqCst);
    let mut got = Box::pin(cache.load("a"));
    assert!(got.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert!(!runtime.0.load(Ordering::SeqCst));
}

/// Fails the first changes that it is given, when its gate is open.
struct FailsFirst(Arc<AtomicBool>, Gate);

impl Tier<String, u64> for FailsFirst {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        nothing()
    }

    async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
        if self.0.swap(false, Ordering::SeqCst) {
            self.1.pass(());
            return Err(TierError::TimedOut);
        }
        Ok(())
    }
}

/// Who hears that a tier lags hears it on the thread that tells the tier.
#[test]
fn a_handler_of_events_does_not_wait_for_its_own_thread() {
    let (own, gate, refused) = (Own::default(), Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (its, count) = (Arc::clone(&own.0), Arc::clone(&refused));
    let tier = FailsFirst(Arc::new(AtomicBool::new(true)), gate.clone());
    let cache = checked(builder().tier(tier).on_event(move |event| {
        assert!(matches!(event, Event::TierLags { .. }), "{event}");
        let cache = its.lock().clone().unwrap();
        let told = [cache.tier_flush(), cache.remove_everywhere("b").map(drop)];
        let is_refused = |told: &&Result<(), TierError>| matches!(told, Err(TierError::Refused(_)));
        count.fetch_add(told.iter().filter(is_refused).count(), Ordering::SeqCst);
    }));
    own.set(&cache);
    // the first change is moot when it fails, and the next one stands behind it
    cache.insert("a".to_owned(), 1);
    gate.wait_until_entered(1);
    cache.insert("a".to_owned(), 2);
    gate.open();
    settled(&cache);
    assert_eq!(refused.load(Ordering::SeqCst), 2);
}

/// A tier that takes its time, by a clock in the test's hand.
struct Slow(ManualClock);

impl Tier<u64, u64> for Slow {
    async fn get(&self, _: &TierKey) -> Result<TierFound<u64, u64>, TierError> {
        self.0.advance(ms(50));
        nothing()
    }

    async fn apply(&self, _: &[TierChange<u64, u64>]) -> Result<(), TierError> {
        Ok(())
    }
}

#[test]
fn what_a_batch_brings_unasked_is_as_late_as_its_keys() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100).clock(clock).load_timeout(ms(100));
    let cache = checked(builder.tier(Slow(hand.clone())));
    let many = cache.get_or_load_many(&[1], |_| {
        hand.advance(ms(80)); // of the time for the load, half was the tier's
        Ok::<_, String>(vec![(1, 1), (2, 2)])
    });
    assert_eq!(many.got.len(), 1);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
}

/// A value that waits for the tier of its cache where it is dropped by the tier's thread.
#[derive(Clone)]
struct Waits {
    own: Arc<Mutex<Option<Cache<String, Waits>>>>,
    told: Arc<Mutex<Vec<Result<(), TierError>>>>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        if thread::current().name() == Some("larder-tier") {
            let own = self.own.lock().clone();
            self.told.lock().extend(own.map(|own| own.tier_flush()));
        }
    }
}

/// Takes everything, when it is let.
struct Takes(Gate);

impl Tier<String, Waits> for Takes {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, Waits>, TierError> {
        nothing()
    }

    async fn apply(&self, _: &[TierChange<String, Waits>]) -> Result<(), TierError> {
        self.0.pass_async(()).await;
        Ok(())
    }
}

#[test]
fn what_is_dropped_by_the_thread_that_tells_the_tier_does_not_wait_for_it() {
    let gate = Gate::new();
    let tier = Takes(gate.clone());
    let cache = checked(Cache::builder().max_entries(10).tier(tier));
    let (own, told) = (Arc::new(Mutex::new(Some((*cache).clone()))), Arc::default());
    let value = Waits { own: Arc::clone(&own), told: Arc::clone(&told) };
    cache.insert("a".to_owned(), value);
    gate.wait_until_entered(1);
    cache.remove("b"); // is to be made after that
    gate.open();
    wait_until(|| !told.lock().is_empty());
    assert!(matches!(told.lock()[0], Err(TierError::Refused(_))));
    settled(&cache);
    let own = own.lock().take();
    drop(own);
}

/// Knows which of its tickets are out.
#[derive(Clone, Default)]
struct Tickets {
    gate: Gate,
    fails: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
    out: Arc<Mutex<Vec<Vec<u8>>>>,
    longest_life: Option<Duration>,
}

impl Tickets {
    fn take_back(&self, ticket: &TierTicket) {
        self.out.lock().retain(|out| out != ticket.as_bytes());
    }
}

impl Tier<String, u64> for Tickets {
    async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        let ticket = self.last.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        self.out.lock().push(ticket.to_vec());
        Ok(TierFound::new(None, TierTicket::new(ticket.as_slice())))
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.gate.pass_async(()).await;
        if self.fails.swap(false, Ordering::SeqCst) {
            return Err(TierError::TimedOut);
        }
        for change in changes {
            if let TierChange::Load(.., ticket) = change {
                self.take_back(ticket);
            }
        }
        Ok(())
    }

    fn release(&self, _: &TierKey, ticket: &TierTicket) {
        self.take_back(ticket);
    }

    fn longest_life(&self) -> Duration {
        self.longest_life.unwrap_or(Duration::MAX)
    }
}

#[test]
fn the_tickets_of_loads_that_are_given_up_at_once_are_given_back() {
    let tier = Tickets { longest_life: Some(Duration::ZERO), ..Tickets::default() };
    tier.fails.store(true, Ordering::SeqCst);
    tier.gate.open();
    let cache = shelf(tier.clone());
    cache.get_or_load("a", || Ok::<_, String>(1)).unwrap();
    settled(&cache);
    assert_eq!(tier.out.lock().len(), 0);
}

#[test]
fn the_tickets_of_loads_that_are_not_told_are_given_back() {
    let load = |cache: &Cache<String, u64>, meanwhile: &dyn Fn()| {
        let load = || {
            meanwhile();
            Ok::<_, String>(1)
        };
        cache.get_or_load("a", load).unwrap();
    };
    for (at, fails) in [(0, false), (1, false), (2, true)] {
        let tier = Tickets::default();
        tier.fails.store(fails, Ordering::SeqCst);
        let cache = shelf(tier.clone());
        cache.remove("b");
        tier.gate.wait_until_entered(1);
        match at {
            // while a change of many keys is on its way, no load is told
            0 => load(&cache, &|| cache.remove_tag("some")),
            // a newer change takes its place
            1 => {
                load(&cache, &|| ());
                cache.remove("a");
            }
            // what was loaded is not told again
            _ => load(&cache, &|| ()),
        }
        assert_eq!(tier.out.lock().len(), usize::from(fails));
        tier.gate.open();
        settled(&cache);
        assert_eq!(tier.out.lock().len(), 0);
    }
}

#[test]
fn a_value_that_comes_late_to_the_tier_does_not_replace_what_others_wrote_after_it() {
    for is_in_hand in [false, true] {
        let shared = Shared::new();
        let held = Held::over(&shared);
        let (one, other) = (shelf(held.clone()), shelf(shared.join()));
        let source = Mutex::new(0);
        let write = |cache: &Cache<String, u64>, value| {
            let write = |_: &String, value: &u64| {
                *source.lock() = *value;
                Ok::<_, String>(())
            };
            cache.write_through("a".to_owned(), value, write).unwrap();
        };
        if is_in_hand {
            // without a removal before it, by which the worker would be busy
            one.insert("a".to_owned(), 1);
            *source.lock() = 1;
            held.gate.wait_until_entered(1);
        } else {
            one.remove("b");
            held.gate.wait_until_entered(1);
            write(&one, 1);
        }
        write(&other, 2);
        other.tier_flush().unwrap();
        held.gate.open();
        settled(&one);
        let load = |cache: &Cache<String, u64>| {
            cache.get_or_load("a", || Ok::<_, String>(*source.lock())).unwrap()
        };
        assert_eq!((load(&one), load(&other)), (2, 2));
    }
}

#[test]
fn nor_does_it_replace_what_others_may_have_written_unheard() {
    let shared = Shared::new();
    let held = Held::over(&shared);
    let (one, other) = (shelf(held.clone()), shelf(shared.join()));
    one.remove("b");
    held.gate.wait_until_entered(1);
    one.insert("a".to_owned(), 1);
    shared.deafen(true);
    other.insert("a".to_owned(), 2);
    other.tier_flush().unwrap();
    shared.deafen(false);
    // the connection is back
    shared.fail(true);
    shared.fail(false);
    held.gate.open();
    settled(&one);
    let load = |cache: &Cache<String, u64>| cache.get_or_load("a", || Ok::<_, String>(2)).unwrap();
    assert_eq!((load(&one), load(&other)), (2, 2));
}

#[test]
fn nor_does_it_come_back_when_others_have_removed_it_with_its_tag_or_with_all() {
    let happens: [fn(&Cache<String, u64>); 3] =
        [|other| other.remove_tag("some"), |other| other.expire_tag("some"), |other| other.clear()];
    for happens in happens {
        for is_in_hand in [false, true] {
            let shared = Shared::new();
            let held = Held::over(&shared);
            let (one, other) = (shelf(held.clone()), shelf(shared.join()));
            if !is_in_hand {
                one.remove("b");
                held.gate.wait_until_entered(1);
            }
            one.at("a").tag("some").insert(1);
            one.at("c").tag("another").insert(1);
            held.gate.wait_until_entered(1);
            happens(&other);
            other.tier_flush().unwrap();
            assert_eq!(one.get("a"), None);
            held.gate.open();
            settled(&one);
            let load =
                |cache: &Cache<String, u64>| cache.get_or_load("a", || Ok::<_, String>(2)).unwrap();
            assert_eq!((load(&one), load(&other)), (2, 2));
        }
    }
}

/// Takes no result of a load: each takes too long.
struct Impatient(Shared);

impl Tier<String, u64> for Impatient {
    async fn get(&self, key: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        self.0.get(key).await
    }

    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.0.apply(changes).await
    }

    fn longest_load(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn what_somebody_insisted_on_leaves_nothing_older_there_though_it_came_too_late() {
    let shared = Shared::new();
    let (one, other) = (shelf(Impatient(shared.join())), shelf(shared.join()));
    other.insert("a".to_owned(), 1);
    settled(&other);
    let newer = one.at("a").force().load(|_| Ok::<_, String>(2)).unwrap();
    settled(&one);
    assert_eq!((newer.value, other.get("a"), shared.len()), (2, None, 0));
}

/// An expiry behind it leaves it there, to be served past its life.
#[test]
fn nor_is_it_served_stale_where_it_was_expired_on_its_way() {
    let happens: [fn(&Cache<String, u64>); 4] = [
        |other| other.insert("a".to_owned(), 2),
        |other| _ = other.remove("a"),
        |other| other.remove_tag("some"),
        |other| other.clear(),
    ];
    for (n, happens) in happens.into_iter().enumerate() {
        let shared = Shared::new();
        let held = Held::over(&shared);
        let build = |tier: Held| {
            checked(builder().time_to_live(secs(60)).stale_if_error(secs(99)).tier(tier))
        };
        let free = Held::over(&shared);
        free.gate.open();
        let (one, other) = (build(held.clone()), build(free));
        one.at("a").tag("some").insert(1);
        held.gate.wait_until_entered(1);
        one.expire("a");
        happens(&other);
        other.tier_flush().unwrap();
        held.gate.open();
        settled(&one);
        for cache in [&one, &other] {
            let got = cache.get_or_load("a", || Err::<u64, _>("away"));
            assert_ne!(got.ok(), Some(1), "after {n}");
        }
    }
}

/// What others did comes first: else a value that was written here before would stay there after it, and
/// nobody would know that it is older.
#[test]
fn nobody_is_answered_before_he_is_told_the_news() {
    let (shared, gate) = (Shared::new(), Gate::new());
    let watched = checked(builder().tier(shared.join()).on_removal({
        let gate = gate.clone();
        move |_| gate.pass(())
    }));
    let other = shelf(shared.join());
    watched.insert("a".to_owned(), 1);
    settled(&watched);
    other.remove("a");
    // its news are on their way, and what comes from here is later
    gate.wait_until_entered(1);
    let (key, late) = (TierKey::of("a"), shared.join());
    let write = [TierChange::Write(key.clone(), TierEntry::new("a".to_owned(), Some(1)))];
    let (mut made, mut found) = (pin!(late.apply(&write)), pin!(late.get(&key)));
    let mut task = Context::from_waker(Waker::noop());
    assert!(made.as_mut().poll(&mut task).is_pending());
    assert!(found.as_mut().poll(&mut task).is_pending());
    gate.open();
    settled(&other);
    assert_eq!(made.as_mut().poll(&mut task), Poll::Ready(Ok(())));
    assert!(found.as_mut().poll(&mut task).is_ready());
}

/// A key whose drop does something.
#[derive(Clone)]
struct Acting(Arc<dyn Fn() + Send + Sync>);

impl Hash for Acting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        1.hash(state);
    }
}

impl PartialEq for Acting {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Acting {}

impl Drop for Acting {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn nor_before_he_is_told_that_there_may_be_some() {
    let shared = MemoryTier::<Acting, u64>::new();
    let (made, is_told) = (Arc::new(Mutex::new(None)), Arc::default());
    // taken out when it is used: the tier has the key, which has this
    let late = Mutex::new(Some(shared.join()));
    let key = Acting(Arc::new({
        let (made, is_told) = (Arc::clone(&made), Arc::clone(&is_told));
        move || {
            if AtomicBool::swap(&is_told, false, Ordering::SeqCst) {
                let late = late.lock().take().unwrap();
                let mut cleared = pin!(late.apply(&[TierChange::Clear]));
                *made.lock() = Some(cleared.as_mut().poll(&mut Context::from_waker(Waker::noop())));
            }
        }
    }));
    let negative = Cache::builder().max_entries(10).negative_ttl(secs(60));
    let cache = checked(negative.tier(shared.join()));
    _ = cache.get_or_load_optional(&key, || Ok::<Option<u64>, String>(None));
    settled(&cache);
    shared.fail(true);
    is_told.store(true, Ordering::SeqCst);
    shared.fail(false);
    let made = made.lock().take();
    assert!(matches!(made, Some(Poll::Ready(Err(_)))), "{made:?}");
}

#[test]
fn what_stands_in_line_grows_older_meanwhile() {
    // ten seconds as in a cache, and a hundred where the tier says so itself
    for (own, life) in [(None, 10), (Some(secs(100)), 100)] {
        let (clock, hand) = Clock::manual();
        let shared = Shared::with(clock.clone(), own);
        let lasting = || builder().time_to_live(secs(10)).clock(clock.clone());
        let held = Held::over(&shared);
        let (one, other) =
            (checked(lasting().tier(held.clone())), checked(lasting().tier(shared.join())));
        // refused for a while, and nobody loses a connection: the others stand behind it
        one.remove("z");
        held.gate.wait_until_entered(1);
        held.fails.store(1, Ordering::SeqCst);
        one.insert("a".to_owned(), 1);
        hand.advance(secs(6));
        one.insert("b".to_owned(), 2);
        hand.advance(secs(4));
        held.gate.open();
        settled(&one);
        let there = |key| {
            let got = other.at(key).load(|_| Ok::<_, String>(9)).unwrap();
            (got.value, got.age)
        };
        let is_over = own.is_none();
        assert_eq!(there("a"), if is_over { (9, secs(0)) } else { (1, secs(10)) });
        assert_eq!(there("b"), (2, secs(4)));
        assert_eq!(other.peek("b").unwrap().fresh_for, if is_over { secs(6) } else { secs(10) });
        // each to the end of its life, as if it had come at once
        hand.advance(secs(life - 10));
        assert_eq!(there("a").0, 9);
        hand.advance(secs(5));
        assert_eq!(other.at("b").load(|_| Ok::<_, String>(9)).unwrap().value, 2);
        hand.advance(secs(1));
        assert_eq!(there("b").0, 9);
    }
}

#[test]
fn what_is_changed_while_everything_goes_does_not_stay_there_alone() {
    let own = Own::default();
    let names = || (0..40).map(|n: u64| n.to_string());
    // most of it in shards that are not emptied yet
    let listener = own.once(move |cache, _| {
        for name in names() {
            cache.alter(&name, |value| value);
        }
        settled(cache);
    });
    let builder = Cache::builder().max_entries(1_000).shards(4);
    let cache = checked(builder.tier(Shared::new()).on_removal(listener));
    own.set(&cache);
    for name in names() {
        cache.insert(name, 1);
    }
    settled(&cache);
    cache.clear();
    settled(&cache);
    for name in names() {
        let value = cache.get_or_load(&name, || Ok::<_, String>(2)).unwrap();
        assert_eq!(value, 2, "{name} came back");
    }
}
