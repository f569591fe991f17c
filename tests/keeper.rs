//! The thread of our own. One test: it is the process's only one, and other caches would keep it.

mod common;

use common::{Watchdog, ms, wait_until};
use larder::Cache;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// Tells when it is dropped.
#[derive(Clone)]
struct Telling(#[allow(dead_code)] Arc<Last>);

struct Last(Sender<u64>, u64);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

fn keepers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim() == "larder-keeper").count()
}

#[test]
fn a_quiet_cache_lets_go_of_its_values_and_the_last_cache_of_the_thread() {
    let _watchdog = Watchdog::start();
    let (told, heard) = channel();
    let value = |id| Telling(Arc::new(Last(told.clone(), id)));

    let cache: Cache<u64, Telling> =
        Cache::builder().max_entries(100).time_to_live(ms(10)).build().unwrap();
    for id in 0..50 {
        cache.insert(id, value(id));
    }
    // nobody comes near the cache from here on
    let mut freed: Vec<u64> = (0..50).map(|_| heard.recv().unwrap()).collect();
    freed.sort_unstable();
    assert_eq!(freed, (0..50).collect::<Vec<_>>());
    wait_until(|| cache.is_empty());
    cache.validate();

    // and again, after it had nothing to look after
    cache.insert(50, value(50));
    assert_eq!(heard.recv().unwrap(), 50);

    let other: Cache<u64, Telling> =
        Cache::builder().max_entries(10).time_to_idle(ms(10)).build().unwrap();
    other.insert(1, value(60));
    drop(cache);
    assert_eq!(heard.recv().unwrap(), 60, "it serves the caches that are left");

    assert!(keepers() <= 1, "one for all of them");
    drop(other);
    wait_until(|| keepers() == 0);

    // one that has no use for a clock but for this entry's life, which is long
    let forgotten: Cache<u64, Telling> = Cache::new(10);
    forgotten.at(&1).ttl(ms(3_600_000)).insert(value(70));
    wait_until(|| keepers() == 1 || !cfg!(target_os = "linux"));
    drop(forgotten);
    assert_eq!(heard.try_recv(), Ok(70), "a dropped cache drops its values at once");
    wait_until(|| keepers() == 0);
}
