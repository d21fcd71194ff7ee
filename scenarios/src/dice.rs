//! Chance that can be repeated: everything random in a story comes from one printed seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `SKALD_SEED`, or from the clock; the seed is printed.
    pub fn from_environment() -> Self {
        let given = std::env::var("SKALD_SEED").ok().and_then(|text| text.parse().ok());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or_else(|| since.as_secs() ^ u64::from(since.subsec_nanos()));
        println!("seed {seed}: repeat the choices with SKALD_SEED={seed}");
        Self(seed)
    }

    /// With this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.roll(1_000) < per_mille
    }

    /// Some time up to `most`.
    pub fn pause(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.roll(u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1)))
    }

    /// One of `0..below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }
}
