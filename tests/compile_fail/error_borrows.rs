//! A loader's error may outlive the call that brought it.

use larder::Cache;

fn main() {
    let cache: Cache<u64, u64> = Cache::new(10);
    let text = String::from("gone soon");
    let _ = cache.get_or_load(&1, || Err(&text));
}
