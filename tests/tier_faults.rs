//! What went wrong with the second tier once: who waits for whom, what comes back, what a panic takes along.

mod common;
use common::gate::Gate;
use common::{ms, secs, wait_until};
use larder::*;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

thread_local!(static ONCE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

type Shared = MemoryTier<String, u64>;

/// Holds back `apply`, and fails it as often as is said.
#[derive(Clone)]
struct Held {
    inner: Shared,
    gate: Gate,
    fails: Arc<AtomicUsize>,
    applied: Arc<Mutex<Vec<String>>>,
}

impl Held {
    fn over(inner: &Shared) -> Self {
        Self {
            inner: inner.join(),
            gate: Gate::new(),
            fails: Arc::default(),
            applied: Arc::default(),
        }
    }
}

impl Tier<String, u64> for Held {
    async fn get(&self, key: &TierKey) -> Result<TierFound<String, u64>, TierError> {
        self.inner.get(key).await
    }
    async fn apply(&self, changes: &[TierChange<String, u64>]) -> Result<(), TierError> {
        self.gate.pass_async(()).await;
        if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        {
            return Err(TierError::TimedOut);
        }
        self.applied.lock().unwrap().extend(changes.iter().map(|c| format!("{c:?}")));
        self.inner.apply(changes).await
    }
    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        self.inner.watch(watcher)
    }
}

fn within<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || _ = tell.send(f()));
    told.recv_timeout(limit).ok()
}

// T1
#[test]
fn remove_everywhere_ends_though_a_load_that_was_noted_after_it_failed() {
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
    let me: Arc<std::sync::OnceLock<Cache<String, u64>>> = Arc::default();
    let cache: Cache<String, u64> = Cache::builder()
        .max_entries(10)
        .tier(NoLoads(Shared::new()))
        .on_removal({
            let me = me.clone();
            move |_: Removal<String, u64>| {
                // as another thread might
                thread::sleep(ms(50));
                _ = me.get().unwrap().get_or_load("b", || Ok::<_, String>(1));
            }
        })
        .build()
        .unwrap();
    me.set(cache.clone()).unwrap();
    cache.insert("a".to_owned(), 1);
    wait_until(|| cache.tier_pending() == 0);
    let done = within(secs(3), move || cache.remove_everywhere("a"));
    assert_eq!(done, Some(Ok(Some(1))));
}

// T2
#[test]
fn an_expiry_behind_a_removal_that_failed_brings_nothing_back() {
    for write in [false, true] {
        let shared = Shared::new();
        let tier = Held::over(&shared);
        let cache: Cache<String, u64> = Cache::builder()
            .max_entries(10)
            .time_to_live(secs(50))
            .stale_if_error(secs(50))
            .tier(tier.clone())
            .build()
            .unwrap();
        let third: Cache<String, u64> = Cache::builder()
            .max_entries(10)
            .time_to_live(secs(50))
            .stale_if_error(secs(50))
            .tier(shared.join())
            .build()
            .unwrap();
        third.insert("a".to_owned(), 0);
        wait_until(|| third.tier_pending() == 0);
        drop(third);
        if write {
            cache.insert("a".to_owned(), 1);
        } else {
            cache.remove("a");
        }
        tier.gate.wait_until_entered(1);
        cache.expire("a");
        tier.fails.store(1, Ordering::SeqCst);
        tier.gate.open();
        wait_until(|| cache.tier_pending() == 0);
        let other: Cache<String, u64> = Cache::builder()
            .max_entries(10)
            .time_to_live(secs(50))
            .stale_if_error(secs(50))
            .tier(shared.join())
            .build()
            .unwrap();
        let got = other.get_or_load("a", || Err::<u64, _>("down".to_owned()));
        assert!(
            got.is_err(),
            "write {write}: {got:?} came back: {:?}",
            tier.applied.lock().unwrap()
        );
    }
}

// T3
#[test]
fn a_panic_in_a_drop_loses_no_removal() {
    #[derive(Clone)]
    struct Bomb(Arc<AtomicBool>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if thread::current().name() == Some("larder-tier")
                && self.0.swap(false, Ordering::SeqCst)
            {
                panic!("expected");
            }
        }
    }
    #[derive(Clone)]
    struct Fails(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);
    impl Tier<String, Bomb> for Fails {
        async fn get(&self, _: &TierKey) -> Result<TierFound<String, Bomb>, TierError> {
            Ok(TierFound { entry: None, ticket: TierTicket::default() })
        }
        async fn apply(&self, changes: &[TierChange<String, Bomb>]) -> Result<(), TierError> {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(TierError::TimedOut);
            }
            self.1.lock().unwrap().extend(changes.iter().map(|c| c.key().unwrap().to_string()));
            Ok(())
        }
    }
    let tier = Fails(Arc::default(), Arc::default());
    let cache: Cache<String, Bomb> =
        Cache::builder().max_entries(10).tier(tier.clone()).build().unwrap();
    let armed = Arc::new(AtomicBool::new(true));
    cache.insert("a".to_owned(), Bomb(armed.clone()));
    wait_until(|| tier.0.load(Ordering::SeqCst) > 0);
    wait_until(|| !armed.load(Ordering::SeqCst));
    thread::sleep(ms(300));
    assert_eq!(*tier.1.lock().unwrap(), ["a"]);
    assert_eq!(cache.tier_pending(), 0);
}

// T4
#[test]
fn what_waits_to_be_tried_again_is_tried_before_the_cache_is_gone() {
    let shared = Shared::new();
    let cache: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(shared.join()).build().unwrap();
    cache.insert("a".to_owned(), 1);
    wait_until(|| cache.tier_pending() == 0);
    shared.fail(true);
    cache.remove("a");
    thread::sleep(ms(900)); // pauses are longer by now
    shared.fail(false);
    drop(cache);
    let other: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(shared.join()).build().unwrap();
    assert_eq!(other.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
}

// T5
#[test]
fn a_listener_that_loads_what_expired_does_not_wait_for_itself() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(100));
    let me: Arc<std::sync::OnceLock<Cache<String, u64>>> = Arc::default();
    let builder = || {
        Cache::<String, u64>::builder()
            .max_entries(10)
            .stale_if_error(secs(100))
            .clock(clock.clone())
    };
    let one: Cache<String, u64> =
        builder().time_to_live(secs(50)).tier(tier.join()).build().unwrap();
    let other = builder()
        .time_to_live(secs(1))
        .stale_if_error(secs(60))
        .tier(tier.join())
        .on_removal({
            let me = me.clone();
            move |gone: Removal<String, u64>| {
                println!("{:?} {:?}", gone.key, gone.cause);
                if let (Some(cache), false) = (me.get(), ONCE.replace(true)) {
                    _ = cache.get_or_load(gone.key.as_str(), || Ok::<_, String>(7));
                }
            }
        })
        .build()
        .unwrap();
    me.set(other.clone()).unwrap();
    one.at("a").ttl(secs(50)).insert(1);
    wait_until(|| one.tier_pending() == 0);
    other.get_or_load("a", || Ok::<_, String>(2)).unwrap();
    hand.advance(secs(62));
    drop(one);
    let done = within(secs(5), move || other.get_or_load("a", || Ok::<_, String>(3)));
    println!("{done:?}");
    assert!(done.is_some());
}

#[test]
fn a_listener_that_loads_a_key_of_the_batch_does_not_wait_for_itself() {
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(100));
    let me: Arc<std::sync::OnceLock<Cache<String, u64>>> = Arc::default();
    let builder = || Cache::<String, u64>::builder().stale_if_error(secs(100)).clock(clock.clone());
    let one: Cache<String, u64> =
        builder().max_entries(10).time_to_live(secs(5)).tier(tier.join()).build().unwrap();
    let other = builder()
        .max_entries(1)
        .time_to_live(secs(5))
        .tier(tier.join())
        .on_removal({
            let me = me.clone();
            move |gone: Removal<String, u64>| {
                println!("{:?} {:?}", gone.key, gone.cause);
                if let (Some(cache), false) = (me.get(), ONCE.replace(true)) {
                    _ = cache.get_or_load(gone.key.as_str(), || Ok::<_, String>(7));
                }
            }
        })
        .build()
        .unwrap();
    one.at("a").insert(1);
    one.at("b").insert(1);
    wait_until(|| one.tier_pending() == 0);
    hand.advance(secs(6));
    drop(one);
    me.set(other.clone()).unwrap();
    let keys = ["a".to_owned(), "b".to_owned()];
    let done = within(secs(5), move || {
        other
            .get_or_load_many(&keys, |keys: &[String]| {
                Ok::<_, String>(keys.iter().map(|k| (k.clone(), 3)).collect::<Vec<_>>())
            })
            .got
            .len()
    });
    println!("{done:?}");
    assert!(done.is_some());
}

// T6
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
    for expire in [false, true] {
        let tier = MemoryTier::<Lossy, u64>::new();
        let cache =
            || Cache::<Lossy, u64>::builder().max_entries(100).tier(tier.join()).build().unwrap();
        let (one, other) = (cache(), cache());
        let keys: Vec<_> = (0..3).map(|not| Lossy { hashed: 1, not }).collect();
        for key in &keys {
            other.insert(key.clone(), 1);
        }
        wait_until(|| other.tier_pending() == 0);
        for key in &keys {
            if expire {
                one.expire(key);
            } else {
                one.remove(key);
            }
            wait_until(|| one.tier_pending() == 0);
            assert_eq!(other.get(key), None, "{key:?} was removed, expire {expire}");
            for key in &keys {
                other.insert(key.clone(), 1);
            }
            wait_until(|| other.tier_pending() == 0);
        }
    }
}

// T7
#[test]
fn a_release_that_panics_wedges_no_key() {
    struct Panics;
    impl Tier<String, u64> for Panics {
        async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
            Ok(TierFound { entry: None, ticket: TierTicket::default() })
        }
        async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
            Ok(())
        }
        fn release(&self, _: &TierKey, _: &TierTicket) {
            panic!("expected")
        }
    }
    let cache: Cache<String, u64> =
        Cache::builder().max_entries(10).circuit_breaker(1, secs(60)).tier(Panics).build().unwrap();
    // opens it
    _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        _ = cache.get_or_load("x", || Err::<u64, _>(()));
    }));
    // gives way
    let done = within(secs(3), move || {
        let mut fut =
            Box::pin(cache.at("a").load_async(|_| std::future::pending::<Result<u64, ()>>()));
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        _ = fut.as_mut().poll(&mut task);
        _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(fut)));
        (cache.flights(), cache.get_or_insert_with("a", || 3))
    });
    println!("{done:?}");
    assert_eq!(done, Some((0, 3)));
}

// T8
#[test]
fn news_that_panic_leave_the_thread_as_it_was() {
    #[derive(Clone, Debug)]
    struct Bomb(Arc<AtomicBool>);
    struct B(Bomb);
    impl Clone for B {
        fn clone(&self) -> Self {
            B(self.0.clone())
        }
    }
    impl Drop for B {
        fn drop(&mut self) {
            assert!(!self.0.0.swap(false, Ordering::SeqCst), "expected");
        }
    }
    #[derive(Clone, Default)]
    struct Direct(Arc<Mutex<Option<TierWatcher>>>, Arc<AtomicUsize>);
    impl Tier<String, B> for Direct {
        async fn get(&self, _: &TierKey) -> Result<TierFound<String, B>, TierError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(TierFound { entry: None, ticket: TierTicket::default() })
        }
        async fn apply(&self, _: &[TierChange<String, B>]) -> Result<(), TierError> {
            Ok(())
        }
        fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
            *self.0.lock().unwrap() = Some(watcher);
            Ok(())
        }
    }
    let tier = Direct::default();
    let cache: Cache<String, B> =
        Cache::builder().max_entries(10).tier(tier.clone()).build().unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    cache.insert("a".to_owned(), B(Bomb(armed.clone())));
    wait_until(|| cache.tier_pending() == 0);
    armed.store(true, Ordering::SeqCst);
    let watcher = tier.0.lock().unwrap().clone().unwrap();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        watcher.changed(&TierKey::of("a"))
    }));
    assert!(told.is_err());
    let before = tier.1.load(Ordering::SeqCst);
    _ = cache.get_or_load("b", || Ok::<_, String>(B(Bomb(armed.clone()))));
    assert_eq!(tier.1.load(Ordering::SeqCst), before + 1, "this thread asks no more");
}

// T11
#[test]
fn loads_alone_clear_nothing() {
    let tier = Held::over(&Shared::new());
    let cache: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(tier.clone()).build().unwrap();
    cache.remove("first");
    tier.gate.wait_until_entered(1);
    for n in 0..70_000_u64 {
        cache.get_or_load(n.to_string().as_str(), || Ok::<_, String>(n)).unwrap();
    }
    println!("{}", cache.tier_pending());
    tier.gate.open();
    wait_until(|| cache.tier_pending() == 0);
    assert!(
        !tier.applied.lock().unwrap().iter().any(|change| change.starts_with("Clear")),
        "cleared"
    );
}

// T12
#[test]
fn a_batch_dropped_in_line_reports_when_its_keys_are_free() {
    use std::future::Future;
    let (clock, hand) = Clock::manual();
    let tier = Shared::with(clock.clone(), secs(1000));
    let me: Arc<std::sync::OnceLock<Cache<String, u64>>> = Arc::default();
    let one: Cache<String, u64> =
        Cache::builder().max_entries(10).clock(clock.clone()).tier(tier.join()).build().unwrap();
    one.insert("a".to_owned(), 1);
    wait_until(|| one.tier_pending() == 0);
    let other: Cache<String, u64> = Cache::builder()
        .max_entries(1)
        .time_to_live(secs(5))
        .max_concurrent_loads(1)
        .clock(clock.clone())
        .tier(tier.join())
        .on_removal({
            let me = me.clone();
            move |gone: Removal<String, u64>| {
                println!("{:?} {:?}", gone.key, gone.cause);
                if let (Some(cache), false) = (me.get(), ONCE.replace(true)) {
                    _ = cache.get_or_load(gone.key.as_str(), || Ok::<_, String>(7));
                }
            }
        })
        .build()
        .unwrap();
    other.at("b").ttl(secs(5)).insert(1);
    wait_until(|| other.tier_pending() == 0);
    hand.advance(secs(6));
    drop(one);
    me.set(other.clone()).unwrap();
    let done = within(secs(5), move || {
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        // takes the slot
        let mut slot =
            Box::pin(other.at("z").load_async(|_| std::future::pending::<Result<u64, String>>()));
        assert!(slot.as_mut().poll(&mut task).is_pending());
        let keys = ["a".to_owned(), "b".to_owned()];
        {
            let mut many = Box::pin(other.get_or_load_many_async(&keys, |_: Vec<String>| async {
                Ok::<Vec<(String, u64)>, String>(vec![])
            }));
            assert!(many.as_mut().poll(&mut task).is_pending());
            thread::spawn(move || {
                thread::sleep(ms(500));
                drop(hand);
            });
            drop(slot);
            drop(many);
        }
    });
    assert!(done.is_some());
}

// T13
#[test]
fn the_last_handle_in_a_thread_local() {
    thread_local!(static KEPT: std::cell::RefCell<Option<Cache<String, u64>>> = const { std::cell::RefCell::new(None) });
    let tier = Shared::new();
    let t = tier.join();
    thread::spawn(move || {
        let cache: Cache<String, u64> = Cache::builder().max_entries(10).tier(t).build().unwrap();
        KEPT.set(Some(cache.clone()));
        cache.insert("a".to_owned(), 1);
    })
    .join()
    .unwrap();
    assert_eq!(tier.len(), 1);
    let _ = Instant::now();
}

// the value that was forced is newer than what the tier keeps
#[test]
fn what_was_forced_is_not_followed_by_what_was_loaded_before() {
    let tier = Held::over(&Shared::new());
    let cache: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(tier.clone()).build().unwrap();
    cache.get_or_load("a", || Ok::<_, String>(1)).unwrap();
    tier.gate.wait_until_entered(1);
    let got = cache.at("a").force().load(|_| Ok::<_, String>(2)).unwrap();
    assert_eq!(got.value, 2);
    tier.gate.open();
    wait_until(|| cache.tier_pending() == 0);
    let other: Cache<String, u64> =
        Cache::builder().max_entries(10).tier(tier.inner.join()).build().unwrap();
    assert_eq!(other.get_or_load("a", || Ok::<_, String>(2)).unwrap(), 2);
}

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
    for slots in [false, true] {
        let (clock, hand) = Clock::manual();
        let tier = Shared::with(clock.clone(), secs(5));
        let calls = Arc::new(AtomicUsize::new(0));
        let mut builder = Cache::<String, u64>::builder()
            .max_entries(100)
            .time_to_live(secs(10))
            .stale_while_revalidate(secs(100))
            .refresh_ahead(RefreshAhead::At(0.5))
            .clock(clock.clone())
            .tier(tier.join());
        if slots {
            builder = builder.max_concurrent_loads(4).circuit_breaker(5, secs(1));
        }
        let cache = builder.build_loading(Counted(calls.clone())).unwrap();
        for n in 0..10 {
            for key in ["a", "b", "c"] {
                _ = cache.load(key);
            }
            () = cache.refresh("a");
            wait_until(|| cache.flights() == 0 && cache.tier_pending() == 0);
            hand.advance(secs([3, 6, 11, 1][n % 4]));
        }
        wait_until(|| cache.flights() == 0);
        println!("{:?}", cache.stats());
        assert_eq!(cache.stats().loads, calls.load(Ordering::SeqCst) as u64, "slots {slots}");
    }
}

// a panic of the tier in a background task is not the runtime's
struct AsyncOne;
impl AsyncLoader<String, u64> for AsyncOne {
    type Error = String;
    async fn load(&self, _: &String, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(1))
    }
}

#[test]
fn a_tier_that_panics_in_the_background_spares_the_runtime() {
    #[derive(Clone)]
    struct Inline(Arc<AtomicUsize>);
    impl Runtime for Inline {
        fn spawn(
            &self,
            mut task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        ) -> Result<(), Refused> {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                _ = task.as_mut().poll(&mut cx);
            }))
            .is_err()
            {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
        fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
            job();
            Ok(())
        }
    }
    struct Panics(Arc<AtomicBool>);
    impl Tier<String, u64> for Panics {
        async fn get(&self, _: &TierKey) -> Result<TierFound<String, u64>, TierError> {
            assert!(!self.0.load(Ordering::SeqCst), "expected");
            Err(TierError::TimedOut)
        }
        async fn apply(&self, _: &[TierChange<String, u64>]) -> Result<(), TierError> {
            Ok(())
        }
    }
    let (clock, hand) = Clock::manual();
    let (escaped, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let cache = Cache::<String, u64>::builder()
        .max_entries(10)
        .time_to_live(secs(1))
        .stale_while_revalidate(secs(100))
        .clock(clock)
        .runtime(Inline(escaped.clone()))
        .tier(Panics(armed.clone()))
        .build_loading_async(AsyncOne)
        .unwrap();
    cache.insert("a".to_owned(), 1);
    wait_until(|| cache.tier_pending() == 0);
    hand.advance(secs(2));
    armed.store(true, Ordering::SeqCst);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut got = Box::pin(cache.load("a"));
    let polled = got.as_mut().poll(&mut cx);
    println!("{polled:?} {:?} {}", cache.stats(), cache.flights());
    assert_eq!(escaped.load(Ordering::SeqCst), 0);
}
