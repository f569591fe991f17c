//! The policies that others are compared with, as their papers have them, over ids without values.

mod arc;
mod recency;
mod s3_fifo;
mod w_tiny_lfu;

pub use arc::Arc;
pub use recency::{Clock, Fifo, Lfu, Lru, Sieve};
pub use s3_fifo::S3Fifo;
pub use w_tiny_lfu::WTinyLfu;

pub trait Policy {
    /// Looks an id up, and stores it if it is not there. Whether it was.
    fn access(&mut self, id: u32) -> bool;
}

/// A policy by name, built for a capacity and for ids below a number.
pub struct Named {
    pub name: &'static str,
    pub build: fn(usize, usize) -> Box<dyn Policy>,
}

/// All of them, in the order of the tables.
pub const ALL: [Named; 8] = [
    Named { name: "LRU", build: |n, ids| Box::new(Lru::new(n, ids)) },
    Named { name: "FIFO", build: |n, ids| Box::new(Fifo::new(n, ids)) },
    Named { name: "CLOCK", build: |n, ids| Box::new(Clock::new(n, ids)) },
    Named { name: "LFU", build: |n, ids| Box::new(Lfu::new(n, ids)) },
    Named { name: "SIEVE", build: |n, ids| Box::new(Sieve::new(n, ids)) },
    Named { name: "S3-FIFO", build: |n, ids| Box::new(S3Fifo::new(n, ids)) },
    Named { name: "ARC", build: |n, ids| Box::new(Arc::new(n, ids)) },
    Named { name: "W-TinyLFU", build: |n, ids| Box::new(WTinyLfu::new(n, ids)) },
];

pub fn hits(policy: &mut dyn Policy, ids: &[u32]) -> usize {
    ids.iter().filter(|&&id| policy.access(id)).count()
}

pub fn lru(ids: &[u32], capacity: usize) -> usize {
    let most = ids.iter().max().map_or(0, |&id| id as usize + 1);
    hits(&mut Lru::new(capacity, most), ids)
}

#[cfg(test)]
mod tests {
    use super::{ALL, hits, lru};
    use crate::random::{Random, Zipf};

    #[test]
    fn none_beats_the_optimum_and_all_hold_what_fits() {
        let (zipf, mut random) = (Zipf::new(1_000, 0.9), Random::new(1));
        let ids: Vec<u32> = (0..20_000).map(|_| zipf.sample(&mut random) as u32).collect();
        for capacity in [1, 2, 3, 10, 100, 999] {
            let most = crate::min::hits(&ids, capacity);
            for policy in ALL {
                let got = hits(&mut *(policy.build)(capacity, 1_000), &ids);
                assert!(got <= most, "{} of {capacity}: {got} > {most}", policy.name);
                assert!(got > 0, "{} of {capacity}", policy.name);
            }
        }
        for policy in ALL {
            let once = ids.iter().collect::<std::collections::HashSet<_>>().len();
            let got = hits(&mut *(policy.build)(1_100, 1_000), &ids);
            assert_eq!(got, ids.len() - once, "{}", policy.name);
        }
    }

    #[test]
    fn lru_goes_by_the_last_use() {
        assert_eq!(lru(&[1, 2, 1, 3, 1, 2], 2), 2);
        let ids: Vec<u32> = (0..4).cycle().take(40).collect();
        assert_eq!(lru(&ids, 3), 0);
    }

    #[test]
    fn those_that_resist_a_scan_do() {
        // a hundred keys in use, then a thousand that are seen once, again and again
        let mut ids = Vec::new();
        for round in 0..50_u32 {
            (0..10).for_each(|_| ids.extend(0..100));
            ids.extend(100 + round * 1_000..1_100 + round * 1_000);
        }
        let of = |name: &str| {
            let policy = ALL.iter().find(|policy| policy.name == name).expect("its name");
            hits(&mut *(policy.build)(200, 51_000), &ids)
        };
        // LRU loses all hundred to each scan; who resists loses them to the first one only
        assert_eq!(of("LRU"), 50 * 900);
        for name in ["LFU", "ARC", "S3-FIFO", "W-TinyLFU"] {
            assert!(of(name) > 49_500, "{name}: {}", of(name));
        }
    }
}
