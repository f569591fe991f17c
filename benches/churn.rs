//! A full cache in use: what evictions cost, and what they cost the look-ups beside them. A TTL of
//! 300 s and jitter are on. `thrpt` is operations a second, all threads together.
//!
//! - `mixed`: 75 % get, 25 % insert
//! - `get_or_insert_with`: the same keys, each miss stored
//! - `insert`: always new keys, each of which evicts another
//!
//! The first two ask for Zipf 0.99 over a million keys; 100,000 fit.
//!
//! ```sh
//! cargo bench --bench churn              # half a minute
//! cargo bench --bench churn -- mixed     # a part of it
//! ```

mod common;

use common::{Ids, Kind, Numbers, Strings, cache, rate};
use criterion::Criterion;
use larder::Cache;
use std::borrow::Borrow;
use std::hint::black_box;

const CAPACITY: u64 = 100_000;

fn main() {
    let mut criterion = common::criterion();
    mixed::<Numbers>(&mut criterion);
    mixed::<Strings>(&mut criterion);
    get_or_insert_with::<Numbers>(&mut criterion);
    get_or_insert_with::<Strings>(&mut criterion);
    insert::<Numbers>(&mut criterion);
    criterion.final_summary();
}

fn mixed<K: Kind>(criterion: &mut Criterion) {
    let steady = || steady::<K>(Ids::Zipf);
    rate::<K>(criterion, "churn/mixed", Ids::Zipf, steady, |cache, key, step| {
        if step % 4 == 3 {
            cache.insert(key.clone(), K::value(key));
        } else {
            black_box(cache.get::<K::Lookup>(key.borrow()));
        }
    });
}

fn get_or_insert_with<K: Kind>(criterion: &mut Criterion) {
    let steady = || steady::<K>(Ids::Zipf);
    rate::<K>(criterion, "churn/get_or_insert_with", Ids::Zipf, steady, |cache, key, _| {
        black_box(cache.get_or_insert_with::<K::Lookup>(key.borrow(), || K::value(key)));
    });
}

fn insert<K: Kind>(criterion: &mut Criterion) {
    let steady = || steady::<K>(Ids::New);
    rate::<K>(criterion, "churn/insert", Ids::New, steady, |cache, key, _| {
        cache.insert(key.clone(), K::value(key));
    });
}

/// Full, and used to its keys.
fn steady<K: Kind>(ids: Ids) -> Cache<K::Key, K::Value> {
    let cache = cache::<K>(CAPACITY);
    for key in ids.filler::<K>(CAPACITY) {
        cache.get_or_insert_with::<K::Lookup>(key.borrow(), || K::value(&key));
    }
    cache
}
