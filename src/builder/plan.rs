//! Turns settings into the plan that the engine is built from, and chooses the number of shards.

use super::settings::Settings;
use crate::engine::store::Plan;
use crate::rules::ahead::Ahead;
use crate::rules::backoff::BackOff;
use crate::rules::expiry::{Draw, Lives, NEVER, Windows, share, ticks};
use crate::words::clock::Clock;

/// How many entries a shard holds at least, by default: with 512, the hit ratio of caches of 1,000 entries and
/// more is within 0.1 points of an unsharded cache's on every trace. With 256, a loop that just fits loses 3.3
/// points, since the hash gives some shards more entries than they hold.
const ENTRIES_A_SHARD: u64 = 512;

/// How many it holds at most, by default: a shard that grows is locked while they are moved. The longest of 10
/// million inserts took 0.6 ms; with 65,536 entries a shard 3.6 ms, and nothing else was faster.
const MOST_A_SHARD: u64 = 8_192;

/// What an entry is assumed to weigh at least and at most, if the bound is a weight and the number of entries is
/// unknown: most weighers count bytes. Too many shards cost byte hits, because each needs [`ENTRIES_A_SHARD`] to
/// choose from (with sizes from 64 bytes to 256 KiB, 42.1 per cent with 16 shards and 43.8 with these); too few
/// cost long pauses when they grow.
const LEAST_WEIGHT: u64 = 1 << 10;
const MOST_WEIGHT: u64 = 1 << 15;

/// Shards a core, by default: enough that threads seldom meet in one shard. Each shard has some cache lines that
/// every write touches, and those of too many shards do not stay in the core's cache. (100k entries of `u64` on
/// two cores, medians of 11 to 15 rounds by turns, two threads and one: with 16 a core instead of 8, gets and
/// inserts mixed 1.14 and 1.00 times as fast, `get_or_insert_with` 1.12 and 0.96, new keys 1.15 and 1.01; with
/// 32, 1.18 and 0.94, 1.21 and 0.96, 1.17 and 0.93.)
const SHARDS_A_CORE: u64 = 16;

/// The most shards that a cache may have; an empty one takes some hundred bytes.
const MOST_SHARDS: u64 = 1_024;

impl<K, V> Settings<K, V> {
    pub(super) fn plan<S>(self, hasher: S) -> Plan<K, V, S> {
        let (ttl, jitter) = (self.ttl.map_or(NEVER, ticks), self.jitter.map_or(0, share));
        let bound = self.max_entries.or(self.max_weight).unwrap_or(u64::MAX);
        Plan {
            shards: shards(self.shards, bound, self.max_weight.is_some()),
            bound,
            hasher,
            clock: self.clock.unwrap_or_else(Clock::system),
            lives: Lives {
                ttl,
                jitter,
                idle: self.idle.map_or(NEVER, ticks),
                negative: ticks(self.negative),
                windows: Windows {
                    revalidate: ticks(self.revalidate),
                    on_error: ticks(self.on_error),
                },
                back_off: self.back_off.map_or_else(BackOff::default, |(min, max)| {
                    BackOff::new(ticks(min), ticks(max))
                }),
                ahead: Ahead::new(self.refresh_ahead),
                draw: Draw::new(ttl, jitter),
            },
            weigher: self.weigher,
            listener: self.listener,
            notifier: self.notifier,
            load_timeout: self.load_timeout,
            max_loads: self.max_loads,
            breaker: self.breaker,
            counted: self.counted,
            soft_timeout: self.soft_timeout,
            refresher: None,
            detaches: false,
            tier: self.tier,
            name: self.name,
            // random like the default hasher's keys: nobody outside can predict the draws
            seed: self.seed.unwrap_or_else(|| ahash::RandomState::new().hash_one(())),
        }
    }
}

fn shards(wanted: Option<usize>, bound: u64, weighted: bool) -> usize {
    let shards = if let Some(wanted) = wanted {
        (wanted as u64).min(bound)
    } else {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let (at_least, at_most) = match bound {
            // without a bound, split as for two million entries: then a shard of a cache of ten million is
            // locked for less than a millisecond when it grows
            u64::MAX => (1 << 21, 1 << 21),
            _ if weighted => (bound / MOST_WEIGHT, bound / LEAST_WEIGHT),
            _ => (bound, bound),
        };
        let for_threads = (cores * SHARDS_A_CORE).min(at_least / ENTRIES_A_SHARD);
        for_threads.max(at_most / MOST_A_SHARD)
    };
    shards.clamp(1, MOST_SHARDS) as usize
}
