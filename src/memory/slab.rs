//! Gets memory for small blocks: from chunks of one block size each.
//!
//! A general allocator can't give memory back while something small beside it is in use. The
//! runtime's record of an `ArrayBuffer` always lies beside its block. A chunk contains only blocks,
//! and goes back to the operating system with the last of them. Before that, each page goes back as
//! soon as no block is left on it.
//!
//! Bonwick, "The Slab Allocator" (USENIX 1994).

use super::size_class::SizeClass;
use crate::os::pages;
use crate::os::poison;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The size of a chunk, in bytes, and its alignment. Untouched pages take no memory.
const CHUNK: usize = 1 << 20;

/// The number of bytes that go back at a time. An operating system with larger pages refuses, and
/// then the memory stays.
const PAGE: usize = 4096;

/// The chunks of each class, for all pools of the process.
static SLABS: [Mutex<Slab>; SizeClass::COUNT] =
    [const { Mutex::new(Slab::new()) }; SizeClass::COUNT];

/// Gets memory for a block of `class`, which is smaller than a chunk; `None` if the operating
/// system refuses.
pub fn obtain(class: SizeClass) -> Option<NonNull<u8>> {
    slab(class).obtain(class.block_size())
}

/// Gives memory back, overwritten with zeros. Chunks serve all pools, and a page stays while
/// another block is on it, so a pool could otherwise see another pool's bytes.
///
/// # Safety
///
/// `address` came from [`obtain`] with the same class, and nothing uses the memory any more.
pub unsafe fn give_back(address: NonNull<u8>, class: SizeClass) {
    // It may come from the depot, where the checker forbids any access.
    poison::open(address, class.block_size());
    // SAFETY: the block has that many bytes, and the caller owns them.
    unsafe { address.write_bytes(0, class.block_size()) };
    // SAFETY: passed on from the caller.
    unsafe { slab(class).give_back(address, class.block_size()) };
}

fn slab(class: SizeClass) -> MutexGuard<'static, Slab> {
    SLABS[class.index()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// One class's chunks.
struct Slab {
    /// By address.
    chunks: Vec<Chunk>,
    /// Every chunk before this one is full.
    first_open: usize,
}

struct Chunk {
    base: NonNull<u8>,
    /// The numbers of the free places. Its capacity is the number of places.
    free: Vec<u16>,
    /// A bit for each place, set if a block has it.
    taken: Vec<u64>,
}

impl Chunk {
    /// Returns whether a block has any of these places.
    fn any_taken(&self, places: RangeInclusive<usize>) -> bool {
        let (first, last) = (*places.start(), *places.end());
        (first / 64..=last / 64).any(|word| {
            let from = first.saturating_sub(word * 64);
            let to = (last - word * 64).min(63);
            let mask = (u64::MAX << from) & (u64::MAX >> (63 - to));
            self.taken[word] & mask != 0
        })
    }

    /// Gives back the pages of a free place that no other block is on.
    fn give_back_pages(&self, place: usize, size: usize) {
        let places = CHUNK / size;
        let is_free = |page: usize| {
            let last = ((page + 1) * PAGE - 1) / size;
            !self.any_taken(page * PAGE / size..=last.min(places - 1))
        };
        let mut first = place * size / PAGE;
        let mut end = ((place + 1) * size).div_ceil(PAGE);
        // Only the first and the last page can have other blocks.
        if first < end && !is_free(first) {
            first += 1;
        }
        if first < end && !is_free(end - 1) {
            end -= 1;
        }
        if first < end {
            // SAFETY: the pages are within the chunk.
            let address = unsafe { self.base.add(first * PAGE) };
            // SAFETY: no block is on them.
            unsafe { pages::forget(address, (end - first) * PAGE) };
        }
    }
}

// SAFETY: a chunk is plain memory, and each of its places goes to one block.
unsafe impl Send for Chunk {}

impl Slab {
    const fn new() -> Self {
        Self { chunks: Vec::new(), first_open: 0 }
    }

    fn obtain(&mut self, size: usize) -> Option<NonNull<u8>> {
        let open = self.chunks[self.first_open..].iter().position(|chunk| !chunk.free.is_empty());
        let index = match open {
            Some(offset) => self.first_open + offset,
            None => self.add_chunk(size)?,
        };
        // All chunks below the first open one are full. The lowest addresses are used first, so
        // that the highest chunks become empty.
        self.first_open = index;
        let chunk = &mut self.chunks[index];
        let place = usize::from(chunk.free.pop()?);
        chunk.taken[place / 64] |= 1 << (place % 64);
        // SAFETY: the place is within the chunk.
        let address = unsafe { chunk.base.add(place * size) };
        poison::open(address, size);
        Some(address)
    }

    fn add_chunk(&mut self, size: usize) -> Option<usize> {
        let places = u16::try_from(CHUNK / size).expect("2^14 places at most");
        let (mut free, mut taken) = (Vec::new(), Vec::new());
        let words = usize::from(places).div_ceil(64);
        free.try_reserve_exact(places.into()).ok()?;
        taken.try_reserve_exact(words).ok()?;
        taken.resize(words, 0);
        self.chunks.try_reserve(1).ok()?;
        // The lowest places are at the end, because `pop` takes from there.
        free.extend((0..places).rev());
        let base = pages::obtain_aligned(CHUNK)?;
        poison::close(base, CHUNK);
        let index = self.chunks.partition_point(|chunk| chunk.base < base);
        self.chunks.insert(index, Chunk { base, free, taken });
        Some(index)
    }

    /// # Safety
    ///
    /// The same as for [`give_back`].
    unsafe fn give_back(&mut self, address: NonNull<u8>, size: usize) {
        poison::close(address, size);
        let index = self.chunks.partition_point(|chunk| chunk.base <= address) - 1;
        let chunk = &mut self.chunks[index];
        let place = (address.addr().get() - chunk.base.addr().get()) / size;
        chunk.free.push(u16::try_from(place).expect("a place of this chunk"));
        chunk.taken[place / 64] &= !(1 << (place % 64));
        self.first_open = self.first_open.min(index);
        if chunk.free.len() == CHUNK / size {
            let base = self.chunks.remove(index).base;
            // SAFETY: mapped with this size, and no place of it is taken.
            unsafe { pages::give_back(base, CHUNK) };
        } else {
            chunk.give_back_pages(place, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slab of the test's own, with blocks of 1 KiB.
    const SIZE: usize = 1024;
    const PLACES: usize = CHUNK / SIZE;

    fn take(slab: &mut Slab, count: usize) -> Vec<NonNull<u8>> {
        (0..count).map(|_| slab.obtain(SIZE).expect("memory")).collect()
    }

    fn give(slab: &mut Slab, blocks: impl IntoIterator<Item = NonNull<u8>>) {
        for block in blocks {
            // SAFETY: the block was taken from this slab, and nobody uses it.
            unsafe { slab.give_back(block, SIZE) };
        }
    }

    #[test]
    fn no_two_blocks_overlap() {
        let mut slab = Slab::new();
        let mut blocks = take(&mut slab, 3 * PLACES);
        assert_eq!(slab.chunks.len(), 3);
        for block in &blocks {
            // SAFETY: the block has that many bytes.
            unsafe { block.write_bytes(1, SIZE) };
        }
        blocks.sort();
        assert!(blocks.windows(2).all(|pair| pair[1].addr().get() - pair[0].addr().get() >= SIZE));
        give(&mut slab, blocks);
        assert!(slab.chunks.is_empty());
    }

    #[test]
    fn a_chunk_goes_with_its_last_block() {
        let mut slab = Slab::new();
        let mut blocks = take(&mut slab, PLACES + 1);
        let last = blocks.pop().expect("the block of the second chunk");
        give(&mut slab, [last]);
        assert_eq!(slab.chunks.len(), 1);
        let kept = blocks.pop().expect("a block");
        give(&mut slab, blocks);
        assert_eq!(slab.chunks.len(), 1);
        give(&mut slab, [kept]);
        assert!(slab.chunks.is_empty());
    }

    #[test]
    fn memory_that_comes_back_is_zeroed() {
        // A class that no other test has.
        let class = SizeClass::fitting(448).expect("a class");
        let blocks: Vec<_> = (0..64).map(|_| obtain(class).expect("memory")).collect();
        for block in &blocks {
            // SAFETY: the block has that many bytes.
            unsafe { block.write_bytes(1, class.block_size()) };
        }
        let (given, kept): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        for (_, block) in &given {
            // SAFETY: obtained above, used by nobody.
            unsafe { give_back(*block, class) };
        }
        let again: Vec<_> = given.iter().map(|_| obtain(class).expect("memory")).collect();
        for block in &again {
            // SAFETY: the block has that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), class.block_size()) };
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
        for block in kept.into_iter().map(|(_, block)| block).chain(again) {
            // SAFETY: obtained above, used by nobody.
            unsafe { give_back(block, class) };
        }
    }

    #[test]
    fn free_places_are_used_before_new_chunks() {
        let mut slab = Slab::new();
        let mut blocks = take(&mut slab, 2 * PLACES);
        blocks.sort();
        let (low, high) = (blocks.remove(5), blocks.remove(PLACES + 5));
        give(&mut slab, [high, low]);
        assert_eq!(take(&mut slab, 2), [low, high], "the lowest first");
        assert_eq!(slab.chunks.len(), 2);
        blocks.extend([low, high]);
        give(&mut slab, blocks);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_page_goes_with_its_last_block() {
        /// Returns which of a chunk's pages are resident.
        fn resident(chunk: &Chunk) -> Vec<bool> {
            let mut pages = vec![0u8; CHUNK / PAGE];
            let base = chunk.base.as_ptr().cast();
            // SAFETY: the chunk is mapped, and there is a byte for each of its pages.
            let result = unsafe { libc::mincore(base, CHUNK, pages.as_mut_ptr()) };
            assert_eq!(result, 0);
            pages.into_iter().map(|page| page & 1 == 1).collect()
        }
        for size in [64, 320, 1024, 4096, 5120, 57_344] {
            let mut slab = Slab::new();
            let places = CHUNK / size;
            let mut blocks: Vec<_> =
                (0..places).map(|_| slab.obtain(size).expect("memory")).collect();
            for block in &blocks {
                // SAFETY: the block has that many bytes.
                unsafe { block.write_bytes(1, size) };
            }
            blocks.sort();
            let kept: Vec<_> = blocks.iter().copied().step_by(places / 3).collect();
            blocks.retain(|block| !kept.contains(block));
            for block in blocks {
                // SAFETY: the block was taken from this slab, and nobody uses it.
                unsafe { slab.give_back(block, size) };
            }
            let chunk = &slab.chunks[0];
            let offset = |block: &NonNull<u8>| block.addr().get() - chunk.base.addr().get();
            for (page, is_resident) in resident(chunk).into_iter().enumerate() {
                let (start, end) = (page * PAGE, (page + 1) * PAGE);
                let is_used = kept.iter().any(|b| offset(b) < end && offset(b) + size > start);
                // A page beyond the last place was never touched.
                assert_eq!(is_resident, is_used, "page {page} of blocks of {size}");
            }
            for block in kept {
                // SAFETY: the block has that many bytes.
                let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), size) };
                assert!(bytes.iter().all(|byte| *byte == 1), "the other blocks are untouched");
                // SAFETY: as above.
                unsafe { slab.give_back(block, size) };
            }
            assert!(slab.chunks.is_empty());
        }
    }

    #[test]
    fn random_order() {
        let mut slab = Slab::new();
        let mut blocks = Vec::new();
        for round in 0..20_000_usize {
            if round % 7 < 4 {
                blocks.extend(take(&mut slab, 1));
            } else if let Some(last) = blocks.len().checked_sub(1) {
                let block = blocks.swap_remove(round.wrapping_mul(7919) % (last + 1));
                give(&mut slab, [block]);
            }
            let free: usize = slab.chunks.iter().map(|chunk| chunk.free.len()).sum();
            assert_eq!(slab.chunks.len() * PLACES, blocks.len() + free);
        }
        give(&mut slab, blocks);
        assert!(slab.chunks.is_empty());
    }
}
