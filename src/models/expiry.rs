//! Values that expire while a caller waits for a lock: Caffeine 4967b480b.

use super::explore::explore;
use super::setting::Fixed;
use crate::{Cache, Clock};
use shuttle::thread;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TTL: Duration = Duration::from_millis(5);

/// A key that does something when it is compared, which is under a shard's lock.
#[derive(Clone)]
struct Key(u32, Option<Arc<dyn Fn() + Send + Sync>>);

impl Hash for Key {
    /// All of one hash, so that they are compared.
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        for act in [&self.1, &other.1].into_iter().flatten() {
            act();
        }
        self.0 == other.0
    }
}

impl Eq for Key {}

type Keyed = Cache<Key, u64, Fixed>;

/// While one caller holds the lock, another comes to wait for it, and the clock is moved: what that
/// one wants has expired before it can look.
fn is_not_returned(look: fn(&Keyed) -> Option<u64>) {
    explore(move || {
        let (clock, hand) = Clock::manual();
        let cache = Cache::builder().hasher(Fixed::default()).seed(1).shards(1).clock(clock);
        let cache: Keyed = cache.max_entries(100).time_to_live(TTL).build().unwrap();
        cache.insert(Key(1, None), 1);
        let is_held = Arc::new(AtomicBool::new(false));
        let has_come = Arc::new(AtomicBool::new(false));
        let hold = {
            let (is_held, has_come) = (Arc::clone(&is_held), Arc::clone(&has_come));
            move || {
                is_held.store(true, Ordering::SeqCst);
                wait_for(&has_come);
                hand.advance(TTL);
            }
        };
        let holder = thread::spawn({
            let cache = cache.clone();
            // there is none, but it is compared with the one that is there
            move || assert!(cache.remove(&Key(2, Some(Arc::new(hold)))).is_none())
        });
        wait_for(&is_held);
        has_come.store(true, Ordering::SeqCst);
        assert_ne!(look(&cache), Some(1), "it has expired while the lock was held");
        holder.join().unwrap();
        cache.validate();
    });
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}

#[test]
fn expired_while_get_waits_for_the_lock() {
    is_not_returned(|cache| cache.get(&Key(1, None)));
}

#[test]
fn expired_while_peek_waits_for_the_lock() {
    is_not_returned(|cache| cache.peek(&Key(1, None)).map(|got| got.value));
}

#[test]
fn expired_while_a_load_waits_for_the_lock() {
    is_not_returned(|cache| cache.get_or_load(&Key(1, None), || Ok::<_, Infallible>(2)).ok());
}

#[test]
fn expired_while_a_load_that_says_more_waits_for_the_lock() {
    is_not_returned(|cache| {
        let got = cache.at(&Key(1, None)).load(|_| Ok::<_, Infallible>(2));
        got.ok().map(|got| got.value)
    });
}

#[test]
fn expired_while_remove_waits_for_the_lock() {
    is_not_returned(|cache| cache.remove(&Key(1, None)));
}

#[test]
fn expired_while_a_walk_waits_for_the_lock() {
    is_not_returned(|cache| cache.entries().next().map(|(_, got)| got.value));
}
