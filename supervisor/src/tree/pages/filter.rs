//! Says of most sagas that no page has them, from memory alone: a split block Bloom filter (Putze,
//! Sanders, Singler 2007; the layout of Apache Parquet). About one byte and a half for each saga, and
//! one wrong "perhaps" in some hundred.

/// Bits for each saga that there is room for.
const BITS_PER_SAGA: usize = 12;
/// Room from the beginning: nobody grows at each page.
const ROOM_MIN: usize = 4_096;
/// One odd multiplier for each word of a block, from the Parquet format.
const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

type Block = [u32; 8];

/// What was put in is there; of what was not, nearly all is not.
pub struct Filter {
    blocks: Vec<Block>,
    room: usize,
    count: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl Filter {
    /// An empty one with room for `count` and as many again.
    pub fn with_room(count: usize) -> Self {
        let room = (count * 2).max(ROOM_MIN);
        let blocks = vec![Block::default(); room * BITS_PER_SAGA / (8 * size_of::<Block>()) + 1];
        Self { blocks, room, count: 0 }
    }

    /// Whether more were put in than it has room for: it says "perhaps" too often.
    pub const fn is_full(&self) -> bool {
        self.count > self.room
    }

    /// Puts one in.
    pub fn put(&mut self, print: u32) {
        let (at, mask) = self.place(print);
        for (word, bit) in self.blocks[at].iter_mut().zip(mask) {
            *word |= bit;
        }
        self.count += 1;
    }

    /// Whether one may be there.
    pub fn may_have(&self, print: u32) -> bool {
        let (at, mask) = self.place(print);
        self.blocks[at].iter().zip(mask).all(|(word, bit)| word & bit == bit)
    }

    fn place(&self, print: u32) -> (usize, Block) {
        // Another hash than the print's own order, so that block and bits do not hang together.
        let spread = u64::from(print).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (high, low) = ((spread >> 32) as u32, spread as u32);
        let at = (u64::from(high) * self.blocks.len() as u64) >> 32;
        (at as usize, SALT.map(|salt| 1 << (low.wrapping_mul(salt) >> 27)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forgotten_and_little_is_made_up() {
        let print = |n: u32| n.wrapping_mul(0x85eb_ca6b).rotate_left(13).wrapping_mul(0xc2b2_ae35);
        let mut filter = Filter::with_room(50_000);
        assert!(!Filter::default().may_have(1));
        (0..100_000).for_each(|n| filter.put(print(n)));
        assert!(!filter.is_full() && (0..100_000).all(|n| filter.may_have(print(n))));
        let wrong = (100_000..200_000).filter(|n| filter.may_have(print(*n))).count();
        assert!(wrong < 1_500, "{wrong} of 100,000 that are not there");
        filter.put(7);
        assert!(filter.is_full());
    }
}
