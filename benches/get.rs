//! What a look-up costs: hits and misses, on one thread and several, by `u64` and by `&str`, with a
//! TTL of 300 s and jitter. `thrpt` is look-ups a second, all threads together.
//!
//! - `hit`: uniform over 65,536 resident keys
//! - `hot`: the same key always, the worst case for what threads share
//! - `miss`: keys that are not there, in a cache that holds 65,536 others
//!
//! ```sh
//! cargo bench --bench get             # half a minute
//! cargo bench --bench get -- hit/u64  # a part of it
//! ```

mod common;

use common::{Ids, Kind, Numbers, Strings, cache, rate};
use criterion::Criterion;
use larder::Cache;
use std::borrow::Borrow;
use std::hint::black_box;

const RESIDENT: u64 = 1 << 16;

fn main() {
    let mut criterion = common::criterion();
    hits::<Numbers>(&mut criterion);
    hits::<Strings>(&mut criterion);
    hot::<Numbers>(&mut criterion);
    misses::<Numbers>(&mut criterion);
    misses::<Strings>(&mut criterion);
    criterion.final_summary();
}

fn get<K: Kind>(cache: &Cache<K::Key, K::Value>, key: &K::Key, _: usize) {
    black_box(cache.get::<K::Lookup>(key.borrow()));
}

/// Twice as large as it must be, so that no shard is full.
fn filled<K: Kind>(ids: Ids) -> Cache<K::Key, K::Value> {
    let cache = cache::<K>(2 * RESIDENT);
    for key in ids.filler::<K>(RESIDENT) {
        let value = K::value(&key);
        cache.insert(key, value);
    }
    cache
}

fn hits<K: Kind>(criterion: &mut Criterion) {
    let ids = Ids::Uniform(RESIDENT);
    rate::<K>(criterion, "get/hit", ids, || filled::<K>(ids), get::<K>);
}

fn hot<K: Kind>(criterion: &mut Criterion) {
    rate::<K>(criterion, "get/hot", Ids::One, || filled::<K>(Ids::One), get::<K>);
}

fn misses<K: Kind>(criterion: &mut Criterion) {
    let others = || filled::<K>(Ids::Uniform(RESIDENT));
    rate::<K>(criterion, "get/miss", Ids::New, others, get::<K>);
}
