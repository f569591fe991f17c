//! A loader's error is shared by all threads that waited for it.

use larder::Cache;
use std::rc::Rc;

fn main() {
    let cache: Cache<u64, u64> = Cache::new(10);
    let _ = cache.get_or_load(&1, || Err(Rc::new("not for other threads")));
}
