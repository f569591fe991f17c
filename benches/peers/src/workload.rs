//! Which keys are asked for.

use policies::random::{Random, Zipf};

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

const EXPONENT: f64 = 0.99;

/// Long enough for the tail of Zipf. Long runs go round it again, by when every cache has
/// forgotten the first round but for the main part of a scan-resistant one.
const LONG: u64 = 1 << 20;

impl Ids {
    pub fn sequence(self, thread: u64) -> Vec<u64> {
        let mut random = Random::new(1 + thread);
        match self {
            Self::One => vec![0; 1 << 10],
            // short, so that it takes little of the processor's cache from the contender
            Self::Uniform(n) => (0..u64::from(n) * 4).map(|_| random.below(n.into())).collect(),
            Self::Zipf(n) => {
                let zipf = Zipf::new(n, EXPONENT);
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
