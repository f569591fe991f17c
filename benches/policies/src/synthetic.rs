//! Traces made up by rule, so that what was tuned on recorded ones shows whether it holds elsewhere.

use crate::random::{Random, Zipf};
use crate::trace::Trace;

/// Keys that nothing else uses.
const ELSEWHERE: u64 = 1 << 32;
const KEYS: u32 = 100_000;
const LENGTH: usize = 1_000_000;

/// Each with the capacities it is shown at.
pub fn all() -> Vec<(Trace, &'static [usize])> {
    let both: &[usize] = &[1_000, 10_000];
    let zipf = [("Zipf 0.7", 0.7), ("Zipf 0.9", 0.9), ("Zipf 1.1", 1.1)];
    let mut all: Vec<_> =
        zipf.into_iter().map(|(name, s)| (Trace::new(name, stationary(s)), both)).collect();
    all.extend([
        (Trace::new("Zipf 0.9 and scans", scans()), both),
        (Trace::new("Zipf 0.9 and a loop", loop_beside()), both),
        (Trace::new("loop of 1,100", cycle(1_100)), &[1_000]),
        (Trace::new("loop of 12,000", cycle(12_000)), &[1_000, 10_000]),
        (Trace::new("loops in turn", loops_in_turn()), &[1_000]),
        (Trace::new("drift", drift()), both),
        (Trace::new("sets exchanged", exchanged()), &[1_000, 5_000]),
        (Trace::new("used twice", twice()), both),
        (Trace::new("sliding set", sliding()), &[300, 1_000]),
        (Trace::new("sessions", sessions()), &[300, 1_000]),
    ]);
    all
}

/// Popularity that does not change.
fn stationary(exponent: f64) -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(KEYS, exponent), Random::new(1));
    (0..LENGTH).map(|_| zipf.sample(&mut random)).collect()
}

/// After each 40,000 accesses a scan of 10,000 keys that are never asked for again.
fn scans() -> Vec<u64> {
    let mut keys = Vec::with_capacity(LENGTH * 5 / 4);
    for (round, part) in (0..).zip(stationary(0.9).chunks(40_000)) {
        keys.extend(part);
        keys.extend((0..10_000).map(|i| ELSEWHERE + round * 10_000 + i));
    }
    keys
}

/// Every other access goes round 15,000 keys.
fn loop_beside() -> Vec<u64> {
    let beside = (0..15_000).cycle().map(|i| ELSEWHERE + i);
    stationary(0.9).into_iter().zip(beside).flat_map(|(key, other)| [key, other]).collect()
}

fn cycle(n: u64) -> Vec<u64> {
    (0..n).cycle().take(LENGTH).collect()
}

/// A loop a little longer than the cache, then others, for 200 rounds each.
fn loops_in_turn() -> Vec<u64> {
    let turn = |n: u64| (0..1_200 * 200).map(move |i| n * 10_000 + i % 1_200);
    (0..4).flat_map(turn).collect()
}

/// Zipf whose popular keys change: the next key comes in at the top every 20 accesses.
fn drift() -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(KEYS, 0.9), Random::new(2));
    (0..LENGTH as u64).map(|i| ELSEWHERE + i / 20 - zipf.rank(&mut random)).collect()
}

/// 5,000 keys, all alike, that are exchanged for others as a whole every 100,000 accesses.
fn exchanged() -> Vec<u64> {
    let mut random = Random::new(3);
    (0..LENGTH as u64).map(|i| i / 100_000 * 5_000 + random.below(5_000)).collect()
}

/// Each key comes twice, the second time up to 3,000 accesses after the first, and not again.
fn twice() -> Vec<u64> {
    let mut random = Random::new(4);
    let mut keys: Vec<(u64, u64)> = Vec::with_capacity(LENGTH);
    for key in 0..LENGTH as u64 / 2 {
        keys.extend([(2 * key, key), (2 * key + 1 + random.below(3_000), key)]);
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, key)| key).collect()
}

/// 1,000 keys, some more popular than others, one of which is replaced every five accesses.
fn sliding() -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(1_000, 0.6), Random::new(5));
    let mut keys: Vec<u64> = (0..1_000).collect();
    let mut access = |i| {
        if i % 5 == 0 {
            keys[random.below(1_000) as usize] = 1_000 + i;
        }
        keys[zipf.rank(&mut random) as usize]
    };
    (0..LENGTH as u64).map(&mut access).collect()
}

/// Some hundred keys at a time, each asked for 11 times in the mean, about every 1,000 accesses, and not
/// again.
fn sessions() -> Vec<u64> {
    let mut random = Random::new(6);
    let mut exponential = |mean: f64| (-(1.0 - random.unit()).ln() * mean) as u64;
    let mut keys: Vec<(u64, u64)> = Vec::with_capacity(LENGTH);
    let mut begin = 0;
    while begin < LENGTH as u64 {
        let (mut at, uses) = (begin, 1 + exponential(10.0));
        for _ in 0..uses {
            keys.push((at, begin));
            at += exponential(1_000.0);
        }
        begin += uses;
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, key)| key).take(LENGTH).collect()
}
