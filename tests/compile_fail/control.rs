//! What the others do, as it is allowed: this one compiles.

use larder::Cache;
use std::sync::Arc;

fn assert_send<T: Send>(_: T) {}

fn main() {
    let cache: Cache<u64, Arc<u64>> = Cache::new(10);
    cache.insert(1, Arc::new(1));
    let _ = cache.get_or_load(&1, || Err(Arc::new("for all threads")));
    let _ = cache.get_or_load(&1, || Err(String::from("stays")));
    assert_send(cache.get_or_load_async(&1, || async {
        let held = Arc::new(1);
        std::future::ready(()).await;
        Ok::<_, String>(held)
    }));
}
