//! The block size that serves each request.

use std::fmt;

/// The number of bytes that every block size is a multiple of: one cache line on every platform
/// that Node runs on.
pub const GRANULE: usize = 64;

/// Up to this size, in bytes, classes are one [`GRANULE`] apart.
const LINEAR_LIMIT: usize = 4 * GRANULE;

/// log2 of [`LINEAR_LIMIT`].
const LINEAR_BITS: usize = LINEAR_LIMIT.trailing_zeros() as usize;

/// Classes in each doubling above [`LINEAR_LIMIT`], as a power of two.
const STEP_BITS: usize = 2;

/// The largest block, in bytes: 1 GiB, far below the longest `ArrayBuffer` of any Node.
pub const MAX_BLOCK_SIZE: usize = 1 << 30;

/// One of the pool's block sizes.
///
/// Classes are 64 bytes apart up to 256 bytes; above, each doubling is cut into four equal
/// steps: 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, …
///
/// So the block of a request above 256 bytes is less than 25 % larger than that, and 9.6 % in the
/// mean for sizes spread log-uniformly between 10 KiB and 3 MiB. This module's tests assert both
/// bounds. The scheme is jemalloc's, with four classes a doubling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(u8);

impl SizeClass {
    /// The number of classes: 4 linear ones, and 4 for each doubling up to [`MAX_BLOCK_SIZE`].
    pub const COUNT: usize = (LINEAR_LIMIT / GRANULE)
        + ((MAX_BLOCK_SIZE.trailing_zeros() as usize - LINEAR_BITS) << STEP_BITS);

    /// Returns the smallest class whose blocks hold `size` bytes; `None` for 0 and above
    /// [`MAX_BLOCK_SIZE`].
    ///
    /// `lib/cache/size-class.js` computes the same index; a test compares the two at every edge.
    pub const fn fitting(size: usize) -> Option<Self> {
        if size == 0 || size > MAX_BLOCK_SIZE {
            return None;
        }
        let last = size - 1;
        let index = if last < LINEAR_LIMIT {
            last / GRANULE
        } else {
            let doubling = last.ilog2() as usize;
            let step = (last >> (doubling - STEP_BITS)) & ((1 << STEP_BITS) - 1);
            (LINEAR_LIMIT / GRANULE) + ((doubling - LINEAR_BITS) << STEP_BITS) + step
        };
        Self::from_index(index)
    }

    /// Returns the class at `index`, counted from the smallest; `None` past the last.
    #[expect(clippy::cast_possible_truncation, reason = "COUNT is below 256")]
    pub const fn from_index(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index as u8)) } else { None }
    }

    /// Returns the index of this class, counted from the smallest.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the length of this class's blocks, in bytes.
    pub const fn block_size(self) -> usize {
        let index = self.index();
        let linear = LINEAR_LIMIT / GRANULE;
        if index < linear {
            return (index + 1) * GRANULE;
        }
        let doubling = LINEAR_BITS + ((index - linear) >> STEP_BITS);
        let step = (index - linear) & ((1 << STEP_BITS) - 1);
        (1 << doubling) + ((step + 1) << (doubling - STEP_BITS))
    }

    /// Returns every class, the smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..Self::COUNT).filter_map(Self::from_index)
    }
}

impl fmt::Display for SizeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.block_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        for (size, block) in [
            (1, 64),
            (63, 64),
            (64, 64),
            (65, 128),
            (256, 256),
            (257, 320),
            (320, 320),
            (321, 384),
            (512, 512),
            (513, 640),
            (1023, 1024),
            (1024, 1024),
            (1025, 1280),
            (65_536, 65_536),
            (65_537, 81_920),
            (1 << 20, 1 << 20),
            ((1 << 20) + 1, 5 << 18),
            (MAX_BLOCK_SIZE, MAX_BLOCK_SIZE),
        ] {
            let class = SizeClass::fitting(size).expect("a class");
            assert_eq!(class.block_size(), block, "block for {size} bytes");
        }
        assert_eq!(SizeClass::fitting(0), None);
        assert_eq!(SizeClass::fitting(MAX_BLOCK_SIZE + 1), None);
        assert_eq!(SizeClass::from_index(SizeClass::COUNT), None);
    }

    #[test]
    fn every_class_is_the_tightest_for_its_own_size() {
        for class in SizeClass::all() {
            let size = class.block_size();
            assert_eq!(size % GRANULE, 0);
            assert_eq!(SizeClass::fitting(size), Some(class));
            assert_eq!(
                SizeClass::fitting(size + 1).map(SizeClass::index),
                (class.index() + 1 < SizeClass::COUNT).then(|| class.index() + 1)
            );
        }
    }

    #[test]
    fn waste_bound() {
        for class in SizeClass::all().filter(|class| class.block_size() > LINEAR_LIMIT) {
            let previous = SizeClass::from_index(class.index() - 1).expect("a smaller class");
            let smallest_request = previous.block_size() + 1;
            let waste = class.block_size() - smallest_request;
            assert!(waste * 4 < smallest_request, "{class}: {waste} bytes wasted");
        }
    }

    #[test]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes far below 2^52"
    )]
    fn mean_waste_of_log_uniform_sizes() {
        let (low, high): (f64, f64) = (10.0 * 1024.0, 3.0 * 1024.0 * 1024.0);
        let samples = 100_000;
        let total: f64 = (0..samples)
            .map(|i| {
                let share = (f64::from(i) + 0.5) / f64::from(samples);
                let size = (low * (high / low).powf(share)) as usize;
                let block = SizeClass::fitting(size).expect("a class").block_size();
                (block - size) as f64 / size as f64
            })
            .sum();
        let mean = total / f64::from(samples);
        assert!((0.095..0.097).contains(&mean), "mean waste {mean:.4}");
    }
}
