//! A moment: the time and the randomness a decision may use.

use uuid::Uuid;

use super::Timestamp;

/// When a decision is made, and the entropy it may spend.
///
/// Pure code takes a moment instead of reading a clock or drawing random numbers; what it makes of
/// them is written into events, so a replay draws nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock time.
    pub now: Timestamp,
    /// 128 random bits, fresh for each moment.
    pub entropy: u128,
}

impl Moment {
    /// The moment at this time with this entropy.
    pub const fn new(now: Timestamp, entropy: u128) -> Self {
        Self { now, entropy }
    }

    /// A version 7 UUID of this moment. One moment makes one id: ask twice, get the same.
    pub fn uuid(&self) -> Uuid {
        let millis = u64::try_from(self.now.as_millis()).unwrap_or(0);
        let bytes = self.entropy.to_be_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[6..]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A row of numbers drawn from this moment's entropy.
    pub fn draws(&self) -> Draws {
        let bytes = self.entropy.to_be_bytes();
        let half = |from: usize| {
            bytes[from..from + 8]
                .iter()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        Draws {
            state: half(0) ^ half(8),
        }
    }
}

/// Numbers drawn one after the other from a moment's entropy (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The next number, uniform over all `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, uniform over `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = (u128::from(self.next_u64()) * u128::from(bound)) >> 64;
        u64::try_from(wide).expect("a product of two u64 has 64 high bits")
    }

    /// The next number, uniform over `[0, 1)`.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_entropy_draws_equal_numbers() {
        let moment = Moment::new(Timestamp::from_millis(5), 77);
        let (mut a, mut b) = (moment.draws(), moment.draws());
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(a.next_u64(), a.next_u64());
    }

    #[test]
    fn a_draw_stays_below_its_bound() {
        let mut draws = Moment::new(Timestamp::from_millis(5), 3).draws();
        assert!((0..1_000).all(|_| draws.below(7) < 7));
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&draws.fraction())));
        assert_eq!(draws.below(0), 0);
    }
}
