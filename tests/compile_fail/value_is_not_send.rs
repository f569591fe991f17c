//! A cache is shared between threads, and so is what it holds.

use larder::Cache;
use std::rc::Rc;

fn main() {
    let cache: Cache<u64, Rc<u64>> = Cache::new(10);
    cache.insert(1, Rc::new(1));
}
