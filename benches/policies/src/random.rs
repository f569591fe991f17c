//! Chance that is the same on every machine.

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

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `n`; the bias of the multiplication is far below what is measured.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
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

    /// From 0, the most popular.
    pub fn rank(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        self.cumulated.partition_point(|&c| c <= u).min(self.cumulated.len() - 1) as u64
    }

    pub fn sample(&self, random: &mut Random) -> u64 {
        u64::from(self.id_of_rank[self.rank(random) as usize])
    }
}
