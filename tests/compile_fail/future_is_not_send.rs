//! A front's future is `Send` where its loader's is, and only there.

use larder::Cache;
use std::rc::Rc;

fn assert_send<T: Send>(_: T) {}

fn main() {
    let cache: Cache<u64, u64> = Cache::new(10);
    assert_send(cache.get_or_load_async(&1, || async {
        let held = Rc::new(1);
        std::future::ready(()).await;
        Ok::<_, String>(*held)
    }));
}
