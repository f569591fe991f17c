//! What is asked of the caches: key sequences, and recorded traces.

use std::path::Path;
use std::{fs, io};

/// The finalizer of `SplitMix64`: a bijection that scatters.
pub fn mix(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `SplitMix64`: the same sequence for the same seed, on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `n`; the bias of the multiplication is far below what is measured.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// In `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The exact cumulative distribution of Zipf, over ids that are shuffled: popular ids are not
/// inserted side by side either.
pub struct Zipf {
    cumulated: Vec<f64>,
    id_of_rank: Vec<u32>,
}

impl Zipf {
    pub fn new(n: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulated: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        for c in &mut cumulated {
            *c /= sum;
        }
        let mut random = Random::new(0);
        let mut id_of_rank: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            id_of_rank.swap(i as usize, random.below(u64::from(i) + 1) as usize);
        }
        Self { cumulated, id_of_rank }
    }

    fn sample(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        let rank = self.cumulated.partition_point(|&c| c <= u);
        u64::from(self.id_of_rank[rank.min(self.id_of_rank.len() - 1)])
    }
}

/// Which ids a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    One,
    Uniform(u32),
    Zipf(u32),
    /// Never the same twice, nor the same for two threads.
    New,
    /// One after the other, for ever: every thread from a place of its own.
    Cycle(u32),
}

/// Long enough for the tail of Zipf. Long runs go round it again, by when every cache has
/// forgotten the first round but for the main part of a scan-resistant one.
const LONG: u64 = 1 << 20;

impl Ids {
    pub fn sequence(self, thread: u64, zipf: impl FnOnce(u32) -> Zipf) -> Vec<u64> {
        let mut random = Random::new(1 + thread);
        match self {
            Self::One => vec![0; 1 << 10],
            // short, so that it takes little of the processor's cache from the contender
            Self::Uniform(n) => (0..u64::from(n) * 4).map(|_| random.below(n.into())).collect(),
            Self::Zipf(n) => {
                let zipf = zipf(n);
                (0..LONG).map(|_| zipf.sample(&mut random)).collect()
            }
            Self::New => (0..LONG).map(|i| (thread + 1) << 32 | i).collect(),
            Self::Cycle(n) => {
                let n = u64::from(n);
                (0..n).map(|i| (i + thread * n / 3) % n).collect()
            }
        }
    }
}

/// A trace: the keys in the order of access, stored as little-endian `u64` without a header.
pub fn read_trace(path: &Path) -> io::Result<Vec<u64>> {
    let bytes = fs::read(path)?;
    let words = bytes.chunks_exact(8);
    Ok(words.map(|w| u64::from_le_bytes(w.try_into().expect("chunks of 8"))).collect())
}
