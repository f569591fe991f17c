//! Every value that leaves is reported once, outside of all locks.

use super::explore::{draw, explore};
use super::setting::{Fixed, Moments, Shelf, builder};
use crate::Cache;
use shuttle::thread;
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Every value is its own, so that a list of them tells what came and went.
#[test]
fn inserted_is_what_lives_and_what_was_reported() {
    explore(|| {
        let left = Arc::new(Mutex::new(Vec::new()));
        let shelf = builder().0.max_weight(6).weigher(|_, value| *value % 8);
        let shelf = shelf.shards(2).on_removal({
            let left = Arc::clone(&left);
            move |removal| left.lock().unwrap().push(removal.value)
        });
        let shelf: Shelf = shelf.build().unwrap();
        let numbers = Moments::default();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (shelf, numbers) = (shelf.clone(), numbers.clone());
                thread::spawn(move || {
                    let mut came = Vec::new();
                    for _ in 0..4 {
                        // weighs 1 to 7, and 7 is too much
                        let value = numbers.next() * 8 + 1 + draw(7) as u64;
                        let key = draw(3) as u32;
                        match draw(7) {
                            0 => _ = shelf.remove(&key),
                            1 if draw(2) == 0 => shelf.clear(),
                            1 => _ = shelf.remove_if(|_, value| *value % 2 == 0),
                            2 => {
                                let load = |_: &_| Ok::<_, Infallible>(value / 8 * 8 + 1);
                                let got = shelf.at(&key).load(load).unwrap();
                                let is_mine = got.value == value / 8 * 8 + 1;
                                if is_mine && !got.fresh_for.is_zero() {
                                    came.push(got.value);
                                }
                            }
                            3 => _ = shelf.expire(&key),
                            4 => _ = shelf.sweep(),
                            _ => {
                                shelf.insert(key, value);
                                came.push(value);
                            }
                        }
                    }
                    came
                })
            })
            .collect();
        let mut came: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        shelf.validate();
        shelf.clear();
        assert_eq!((shelf.len(), shelf.weight()), (0, 0));
        let mut left = left.lock().unwrap().clone();
        came.sort_unstable();
        left.sort_unstable();
        assert_eq!(came, left, "what came is not what left");
    });
}

shuttle::thread_local! {
    /// Whether a listener or a drop runs in this thread: what they cause does not cause more.
    static IS_INSIDE: Cell<bool> = Cell::new(false);
}

/// Uses the cache in all ways that take a lock.
fn use_it<V>(cache: &Weak<Cache<u32, V, Fixed>>, value: impl Fn() -> V)
where
    V: Clone + Send + Sync + 'static,
{
    let Some(cache) = cache.upgrade() else { return };
    if IS_INSIDE.with(|inside| inside.replace(true)) {
        return;
    }
    let key = draw(3) as u32;
    match draw(5) {
        0 => cache.insert(key, value()),
        1 => _ = cache.remove(&key),
        2 => _ = cache.get_or_insert_with(&key, value),
        3 => cache.clear(),
        _ => _ = cache.entries().count(),
    }
    assert!(cache.get(&key).is_some() || cache.len() <= 3);
    IS_INSIDE.with(|inside| inside.set(false));
}

fn work<V>(cache: &Arc<Cache<u32, V, Fixed>>, value: impl Fn() -> V + Clone + Send + 'static)
where
    V: Clone + Send + Sync + 'static,
{
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (cache, value) = (Arc::clone(cache), value.clone());
            thread::spawn(move || {
                for _ in 0..3 {
                    let key = draw(3) as u32;
                    match draw(6) {
                        0 => _ = cache.remove(&key),
                        1 => _ = cache.get_or_load(&key, || Ok::<_, Infallible>(value())),
                        2 => cache.clear(),
                        3 => _ = cache.remove_if(|_, _| true),
                        _ => cache.insert(key, value()),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(cache.flights(), 0);
    cache.validate();
}

/// moka #298, Caffeine #1065.
#[test]
fn listener_calls_the_cache() {
    explore(|| {
        let itself: Arc<OnceLock<Weak<Shelf>>> = Arc::default();
        let shelf = builder().0.max_entries(2).shards(2).on_removal({
            let itself = Arc::clone(&itself);
            move |_| use_it(itself.get().unwrap(), || 1)
        });
        let shelf = Arc::new(shelf.build().unwrap());
        itself.set(Arc::downgrade(&shelf)).unwrap();
        work(&shelf, || 1);
        assert_eq!(shelf.stats().listener_panics, 0);
    });
}

/// A value whose drop calls the cache that it was in.
#[derive(Clone)]
struct CallsOnDrop(Arc<OnceLock<Weak<Cache<u32, Self, Fixed>>>>);

impl Drop for CallsOnDrop {
    fn drop(&mut self) {
        if let Some(cache) = self.0.get() {
            use_it(cache, || Self(Arc::clone(&self.0)));
        }
    }
}

/// foyer #1345: what is dropped under a lock, and comes back for it, waits for ever.
#[test]
fn value_dropped_calls_the_cache() {
    explore(|| {
        let itself: Arc<OnceLock<Weak<Cache<u32, CallsOnDrop, Fixed>>>> = Arc::default();
        let cache = builder().0.max_entries(2).shards(2).build().unwrap();
        let cache = Arc::new(cache);
        itself.set(Arc::downgrade(&cache)).unwrap();
        work(&cache, move || CallsOnDrop(Arc::clone(&itself)));
    });
}
