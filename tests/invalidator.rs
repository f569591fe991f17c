//! News from outside, by a handle that does not keep the cache alive.

mod common;

use common::{secs, with_cache};
use larder::{Cache, Invalidator, Removal, RemovalCause};
use std::sync::{Arc, OnceLock};

#[test]
fn it_does_what_the_cache_does() {
    with_cache(
        |builder| builder.time_to_live(secs(9)),
        |it| {
            let news = it.invalidator();
            it.insert(1, 10);
            it.insert(2, 20);
            it.insert(3, 30);
            assert!(news.remove(&1) && news.expire(&2) && news.remove(&4));
            assert_eq!([1, 2, 3].map(|key| it.get(&key)), [None, None, Some(30)]);
            assert!(news.clone().clear());
            assert_eq!(it.get(&3), None);
            let load = || {
                news.remove(&5);
                Ok::<_, String>(50)
            };
            assert_eq!((it.get_or_load(&5, load).unwrap(), it.get(&5)), (50, None));
        },
    );
}

#[test]
fn it_does_not_keep_the_cache_alive_and_says_when_that_is_gone() {
    let cache: Cache<String, Arc<()>> = Cache::builder().max_entries(10).build().unwrap();
    let value = Arc::new(());
    cache.insert("one".to_owned(), value.clone());
    let news: Invalidator<String, _> = cache.invalidator();
    assert!(news.is_alive() && news.expire("one"));
    cache.insert("one".to_owned(), value.clone());
    drop(cache);
    assert_eq!(Arc::strong_count(&value), 1, "its values went with it");
    assert!(!news.is_alive() && !news.remove("one") && !news.expire("one") && !news.clear());
}

#[test]
fn it_goes_to_any_thread_and_lives_as_long_as_it_likes() {
    fn is_owned<T: Send + Sync + Clone + 'static>(_: &T) {}
    is_owned(&Cache::<u64, u64>::new(10).invalidator());
}

#[test]
fn it_finds_the_cache_as_long_as_that_is_there() {
    let cache: Cache<u64, Arc<()>> = Cache::new(10);
    let news = cache.invalidator();
    let value = Arc::new(());
    news.upgrade().unwrap().insert(1, value.clone());
    assert!(cache.contains(&1));
    let found = news.upgrade().unwrap();
    drop(cache);
    assert!(news.is_alive() && found.contains(&1), "a handle like any other");
    drop(found);
    assert!(news.upgrade().is_none() && !news.is_alive());
    assert_eq!(Arc::strong_count(&value), 1, "its values went with the last one");
}

#[test]
fn a_listener_may_use_its_own_cache_and_does_not_keep_it_alive() {
    let own = Arc::new(OnceLock::<Invalidator<u64, Arc<u64>>>::new());
    let handle = Arc::clone(&own);
    let cache = Cache::builder()
        .max_entries(10)
        .on_removal(move |gone: Removal<u64, Arc<u64>>| {
            if gone.cause == RemovalCause::Removed {
                let cache = handle.get().and_then(Invalidator::upgrade).unwrap();
                cache.insert(gone.key + 1, gone.value);
            }
        })
        .build()
        .unwrap();
    own.set(cache.invalidator()).unwrap();
    let value = Arc::new(7);
    cache.insert(1, Arc::clone(&value));
    drop(cache.remove(&1));
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(Arc::clone(&value))));
    drop(cache);
    assert_eq!((Arc::strong_count(&value), own.get().unwrap().is_alive()), (1, false));
}

/// A hook may live in what the cache holds.
#[test]
fn a_value_may_hold_the_handle_of_its_own_cache() {
    #[derive(Clone)]
    struct Hooked(#[allow(dead_code)] Arc<OnceLock<Invalidator<u64, Hooked>>>);
    let cache: Cache<u64, Hooked> = Cache::new(10);
    let hook = Hooked(Arc::default());
    hook.0.set(cache.invalidator()).unwrap_or_else(|_| panic!("set once"));
    cache.insert(1, hook.clone());
    drop(cache);
    assert_eq!(Arc::strong_count(&hook.0), 1);
    assert!(!hook.0.get().unwrap().is_alive());
}
