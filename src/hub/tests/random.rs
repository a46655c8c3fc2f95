//! The choices of a generated run: pseudorandom numbers that are the same for the same seed
//! (splitmix64), or the bytes of a fuzzer.

#[cfg_attr(not(fuzzing), allow(dead_code, reason = "only fuzz targets have bytes"))]
pub enum Random {
    Seed(u64),
    Bytes(std::collections::VecDeque<u8>),
}

#[cfg_attr(not(fuzzing), allow(dead_code, reason = "only fuzz targets have bytes"))]
impl Random {
    pub fn new(seed: u64) -> Random {
        Random::Seed(seed)
    }

    /// Takes the choices from bytes, and zeros after their end.
    pub fn from_bytes(bytes: &[u8]) -> Random {
        Random::Bytes(bytes.iter().copied().collect())
    }

    /// Returns whether no bytes are left.
    pub fn is_spent(&self) -> bool {
        matches!(self, Random::Bytes(bytes) if bytes.is_empty())
    }

    pub fn next(&mut self) -> u64 {
        self.number(8)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        let bytes = match end {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        self.number(bytes) % end
    }

    /// Returns one of these.
    pub fn of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize].clone()
    }

    /// Returns a number of as many bytes, or of eight if it comes from a seed.
    fn number(&mut self, bytes: usize) -> u64 {
        match self {
            Random::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Random::Bytes(left) => {
                let taken = left.drain(..bytes.min(left.len()));
                taken.fold(0, |number, byte| number << 8 | u64::from(byte))
            }
        }
    }
}
