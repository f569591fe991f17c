//! The crate's own eviction code under a trace: a real cache, so that what is judged is what users
//! get, on a clock that stands still and with hashes that are the same in every run.

use crate::random::mix;
use ahash::RandomState;
use larder::{Cache, Clock};

/// How many ways to hash are averaged over: which keys share a small shard is chance.
const HASHERS: u64 = 4;

/// Into how many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// As users get it; depends on the number of cores.
    Default,
    Exactly(usize),
    /// One for 256 entries: twice as many as the default has at most.
    Most,
}

impl Shards {
    pub fn of(self, capacity: usize) -> Option<usize> {
        match self {
            Self::Default => None,
            Self::Exactly(shards) => Some(shards),
            Self::Most => Some((capacity / 256).max(1)),
        }
    }
}

pub fn cache(capacity: usize, shards: Shards, seed: u64) -> Cache<u64, (), RandomState> {
    let seeds = [1, 2, 3, 4].map(|n| mix(4 * seed + n));
    let hasher = RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
    let (clock, _) = Clock::manual();
    let builder = Cache::builder().max_entries(capacity as u64).clock(clock).seed(seed);
    let builder = builder.hasher(hasher);
    let builder = match shards.of(capacity) {
        Some(shards) => builder.shards(shards),
        None => builder,
    };
    builder.build().expect("these settings are valid")
}

/// Get, and on a miss insert. Whether it was a hit.
pub fn access(cache: &Cache<u64, (), RandomState>, key: u64) -> bool {
    let hit = cache.get(&key).is_some();
    if !hit {
        cache.insert(key, ());
    }
    hit
}

/// The share of hits, in per cent.
pub fn ratio(keys: &[u64], capacity: usize, shards: Shards) -> f64 {
    let hits = |seed| {
        let cache = cache(capacity, shards, seed);
        keys.iter().filter(|key| access(&cache, **key)).count()
    };
    let all: usize = (0..HASHERS).map(hits).sum();
    all as f64 * 100.0 / (keys.len() as f64 * HASHERS as f64)
}

/// The same for each part of a trace that is replayed as a whole.
pub fn ratios(parts: &[&[u64]], capacity: usize, shards: Shards) -> Vec<f64> {
    let mut shares = vec![0.0; parts.len()];
    for seed in 0..HASHERS {
        let cache = cache(capacity, shards, seed);
        for (share, part) in shares.iter_mut().zip(parts) {
            let hits = part.iter().filter(|key| access(&cache, **key)).count();
            *share += hits as f64 * 100.0 / (part.len() as f64 * HASHERS as f64);
        }
    }
    shares
}
