//! The shared store of idle blocks.

use super::block::{Block, OutOfMemory};
use super::size_class::SizeClass;
use crate::sync::{ArrayQueue, AtomicUsize, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::{OnceLock, PoisonError};

/// The most bytes that one bin stores.
pub const BIN_BYTES: usize = 128 << 20;

/// The most blocks that one bin stores, so that a queue takes at most 96 KiB.
pub const BIN_BLOCKS: usize = 4096;

/// Places of the smallest bin: 384 bytes.
const FEWEST_PLACES: usize = 16;

/// The bytes of a place in a bin: a block, and the queue's mark.
const PLACE_BYTES: usize = size_of::<Block>() + size_of::<usize>();

/// The most bytes that all bins together store.
pub const DEPOT_BYTES: usize = 256 << 20;

/// A bounded store of idle blocks for all threads of the process, with one queue (bin) for each
/// class.
///
/// ```text
///            offer                                  take
///   block ──────────▶ bytes + size ≤ limit? ──┐   ┌────────▶ block
///     ▲                        │ no           ▼   │
///     └────────────────────────┘        [ ArrayQueue ] × size class
///        given back when full
/// ```
///
/// A full depot returns the block, which is no error.
///
/// A bin has places for all existing blocks of its class. It grows when the pool gets a block,
/// never when a block returns, and [shrinks](Self::shrink) after blocks are freed.
pub struct Depot {
    /// The bins, each made when its class is first used, so that an unused class costs a few bytes.
    bins: [OnceLock<Box<BinLock>>; SizeClass::COUNT],
    /// Bytes that are in the bins, or about to be. Never above `limit`.
    bytes: AtomicUsize,
    /// Never changes.
    limit: usize,
}

/// `None` while the class has no blocks.
type BinLock = RwLock<Option<Box<Bin>>>;

/// The idle blocks of one class.
struct Bin {
    blocks: ArrayQueue<Block>,
    /// The fewest blocks that were here in this interval: that many were not
    /// [needed](Depot::unused). Approximate while threads take and offer at once.
    low_watermark: AtomicUsize,
}

impl Bin {
    /// Makes a bin with `places` places, and moves the blocks of another one into it.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], with nothing changed.
    fn with_places(places: usize, before: Option<&Self>) -> Result<Box<Self>, OutOfMemory> {
        // The queue itself would abort the process if it got no memory.
        let bytes = places * PLACE_BYTES;
        if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
            return Err(OutOfMemory { bytes });
        }
        let blocks = ArrayQueue::new(places);
        let mut low_watermark = 0;
        if let Some(before) = before {
            low_watermark = before.low_watermark.load(Ordering::Relaxed);
            while let Some(block) = before.blocks.pop() {
                blocks.push(block).expect("as many places");
            }
        }
        Ok(Box::new(Self { blocks, low_watermark: AtomicUsize::new(low_watermark) }))
    }
}

impl Depot {
    /// Makes an empty depot that stores at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bins: [const { OnceLock::new() }; SizeClass::COUNT],
            bytes: AtomicUsize::new(0),
            limit,
        }
    }

    /// Makes places in the bin of `class` for `blocks` existing blocks, so that
    /// [`offer`](Self::offer) needs no memory: finalizers call that.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], with nothing changed.
    pub fn prepare(&self, class: SizeClass, blocks: usize) -> Result<(), OutOfMemory> {
        let most = self.bin_capacity(class);
        let wanted = blocks.min(most);
        let has = |place: &Option<Box<Bin>>| {
            place.as_ref().map_or(0, |place| place.blocks.capacity()) >= wanted
        };
        if wanted == 0 {
            return Ok(());
        }
        let lock = self.bins[class.index()].get_or_init(Box::default);
        if has(&read(lock)) {
            return Ok(());
        }
        let mut place = write(lock);
        if !has(&place) {
            let places = wanted.next_power_of_two().max(FEWEST_PLACES).min(most);
            *place = Some(Bin::with_places(places, place.as_deref())?);
        }
        Ok(())
    }

    /// Shrinks the bin of `class` if it has many more places than blocks exist.
    pub fn shrink(&self, class: SizeClass, blocks: usize) {
        let is_large = |place: &Option<Box<Bin>>| {
            let enough = if blocks == 0 { 0 } else { (8 * blocks).max(FEWEST_PLACES) };
            place.as_ref().is_some_and(|place| place.blocks.capacity() > enough)
        };
        let Some(lock) = self.bin(class) else { return };
        if !is_large(&read(lock)) {
            return;
        }
        let mut place = write(lock);
        let Some(before) = place.as_deref() else { return };
        let blocks = blocks.max(before.blocks.len()).min(self.bin_capacity(class));
        if blocks == 0 {
            *place = None;
        } else if is_large(&place)
            && let Ok(smaller) = Bin::with_places(
                (2 * blocks).next_power_of_two().min(self.bin_capacity(class)),
                place.as_deref(),
            )
        {
            *place = Some(smaller);
        }
    }

    /// Returns how many bytes the bins take.
    pub fn bin_bytes(&self) -> usize {
        let bytes = |lock: &BinLock| {
            let places = read(lock).as_ref().map(|bin| bin.blocks.capacity());
            places.map_or(0, |places| size_of::<Bin>() + places * PLACE_BYTES)
        };
        SizeClass::all().filter_map(|class| self.bin(class)).map(bytes).sum()
    }

    /// Returns the bin of a class, if that was used.
    fn bin(&self, class: SizeClass) -> Option<&BinLock> {
        self.bins[class.index()].get().map(|lock| &**lock)
    }

    /// Puts an idle block into its bin. Allocates nothing.
    ///
    /// # Errors
    ///
    /// Returns the block if the bin or the depot is full, or if nobody has [made](Self::prepare)
    /// the bin.
    pub fn offer(&self, block: Block) -> Result<(), Block> {
        let Some(place) = self.bin(block.class()).map(read) else { return Err(block) };
        let Some(place) = place.as_ref() else { return Err(block) };
        let size = block.size();
        if !self.reserve(size) {
            return Err(block);
        }
        place.blocks.push(block).inspect_err(|_| self.unreserve(size))
    }

    /// Takes the block of `class` that has been idle longest; `None` if there is none.
    pub fn take(&self, class: SizeClass) -> Option<Block> {
        let place = read(self.bin(class)?);
        let place = place.as_ref()?;
        let block = place.blocks.pop()?;
        // Relaxed: an approximate figure.
        place.low_watermark.fetch_min(place.blocks.len(), Ordering::Relaxed);
        self.unreserve(block.size());
        Some(block)
    }

    /// Returns how many blocks of `class` were never needed since the last call, and begins a new
    /// interval.
    pub fn unused(&self, class: SizeClass) -> usize {
        let Some(place) = self.bin(class).map(read) else { return 0 };
        place.as_ref().map_or(0, |place| {
            let length = place.blocks.len();
            let unused = place.low_watermark.load(Ordering::Relaxed).min(length);
            place.low_watermark.store(length - unused, Ordering::Relaxed);
            unused
        })
    }

    /// Takes a block of the class with the most bytes that were not needed in this interval; if all
    /// were needed, of the class with the most bytes. Needed blocks still count as needed
    /// afterwards. Returns `None` if nothing is idle.
    pub fn take_coldest(&self) -> Option<Block> {
        let class = self.coldest()?;
        let lock = self.bin(class)?;
        let low_watermark = |place: &Bin| place.low_watermark.load(Ordering::Relaxed);
        let unused = read(lock).as_deref().map_or(0, low_watermark);
        let block = self.take(class)?;
        if let Some(place) = read(lock).as_ref() {
            // The block was one of those not needed.
            place.low_watermark.fetch_min(unused.saturating_sub(1), Ordering::Relaxed);
        }
        Some(block)
    }

    fn coldest(&self) -> Option<SizeClass> {
        let mut coldest = None;
        let mut most = (0, 0);
        for class in SizeClass::all() {
            let Some(place) = self.bin(class).map(read) else { continue };
            let Some(place) = place.as_ref() else { continue };
            let length = place.blocks.len();
            let unused = place.low_watermark.load(Ordering::Relaxed).min(length);
            let bytes = (unused * class.block_size(), length * class.block_size());
            if bytes > most {
                most = bytes;
                coldest = Some(class);
            }
        }
        coldest
    }

    /// Returns how many blocks of `class` are idle here. Exact only while no other thread moves
    /// one.
    pub fn len(&self, class: SizeClass) -> usize {
        let Some(place) = self.bin(class).map(read) else { return 0 };
        place.as_ref().map_or(0, |place| place.blocks.len())
    }

    /// Returns how many bytes are idle here, or about to be.
    pub fn bytes(&self) -> usize {
        // Relaxed: a mere figure, which leads to no memory.
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many blocks of `class` the depot may store; 0 if even one is too large.
    pub fn bin_capacity(&self, class: SizeClass) -> usize {
        (BIN_BYTES.min(self.limit) / class.block_size()).min(BIN_BLOCKS)
    }

    fn reserve(&self, size: usize) -> bool {
        // Relaxed, here and in `unreserve`: the count is a budget of its own. The queue, and not
        // the count, passes the block's memory from one thread to the next.
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                bytes.checked_add(size).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    fn unreserve(&self, size: usize) {
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

fn read(lock: &BinLock) -> RwLockReadGuard<'_, Option<Box<Bin>>> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(lock: &BinLock) -> RwLockWriteGuard<'_, Option<Box<Bin>>> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    fn block(size: usize) -> Block {
        Block::obtain(class(size)).expect("memory")
    }

    fn depot(limit: usize) -> Depot {
        let depot = Depot::new(limit);
        for class in SizeClass::all() {
            depot.prepare(class, BIN_BLOCKS).expect("memory");
        }
        depot
    }

    #[test]
    fn bin_that_was_never_made() {
        let depot = Depot::new(DEPOT_BYTES);
        depot.offer(block(64)).expect_err("no bin");
        depot.prepare(class(64), 1).expect("memory");
        depot.prepare(class(64), 1).expect("made already");
        depot.offer(block(64)).expect("room");
        depot.offer(block(65)).expect_err("no bin of that class");
    }

    #[test]
    fn bin_has_places_for_as_many_as_there_are() {
        let depot = Depot::new(DEPOT_BYTES);
        let empty = depot.bin_bytes();
        assert_eq!(empty, 0);
        depot.prepare(class(64), 1).expect("memory");
        assert!(depot.bin_bytes() < 1024);
        depot.prepare(class(64), 1000).expect("memory");
        (0..1000).for_each(|_| depot.offer(block(64)).expect("room"));
        let first = depot.take(class(64)).expect("a block");
        let second = depot.take(class(64)).expect("a block").address();
        depot.prepare(class(64), 10_000).expect("memory");
        assert_eq!(depot.len(class(64)), 998, "all have come along");
        let most = size_of::<Bin>() + BIN_BLOCKS * PLACE_BYTES;
        assert_eq!(depot.bin_bytes(), most, "and no more than it keeps");
        assert_ne!(depot.take(class(64)).map(|block| block.address()), Some(second));
        drop(first);
        depot.shrink(class(64), 997);
        assert_eq!(depot.len(class(64)), 997);
        while depot.len(class(64)) > 3 {
            drop(depot.take(class(64)));
        }
        depot.shrink(class(64), 3);
        assert_eq!(depot.len(class(64)), 3);
        assert!(depot.bin_bytes() < 1024);
        while depot.take(class(64)).is_some() {}
        depot.shrink(class(64), 0);
        assert_eq!((depot.bin_bytes(), depot.bytes()), (0, 0));
    }

    #[test]
    fn first_in_first_out() {
        let depot = depot(DEPOT_BYTES);
        let (first, second) = (block(4096), block(4096));
        let (a, b) = (first.address(), second.address());
        depot.offer(first).expect("room");
        depot.offer(second).expect("room");
        assert_eq!((depot.len(class(4096)), depot.bytes()), (2, 8192));
        assert_eq!(depot.take(class(4096)).map(|block| block.address()), Some(a));
        assert_eq!(depot.take(class(4096)).map(|block| block.address()), Some(b));
        assert!(depot.take(class(4096)).is_none());
        assert_eq!(depot.bytes(), 0);
    }

    #[test]
    fn coldest_is_the_class_with_most_unneeded_bytes() {
        let depot = depot(DEPOT_BYTES);
        assert_eq!(depot.coldest(), None);
        for size in [4096, 4096, 8192, 8192, 8192] {
            depot.offer(block(size)).expect("room");
        }
        assert_eq!(depot.coldest(), Some(class(8192)), "none is known to be unneeded");
        for size in [4096, 8192] {
            assert_eq!(depot.unused(class(size)), 0);
        }
        let taken: Vec<_> = (0..3).filter_map(|_| depot.take(class(8192))).collect();
        for block in taken {
            depot.offer(block).expect("room");
        }
        assert_eq!(depot.coldest(), Some(class(4096)), "the larger ones were all needed");
    }

    #[test]
    fn take_coldest_leaves_the_needed_blocks_marked_as_needed() {
        let depot = depot(DEPOT_BYTES);
        for size in [4096; 5] {
            depot.offer(block(size)).expect("room");
        }
        assert_eq!(depot.unused(class(4096)), 0);
        let needed: Vec<_> = (0..2).filter_map(|_| depot.take(class(4096))).collect();
        for block in needed {
            depot.offer(block).expect("room");
        }
        for _ in 0..2 {
            assert_eq!(depot.take_coldest().map(|block| block.size()), Some(4096));
        }
        assert_eq!(depot.unused(class(4096)), 1, "three of five were not needed");
    }

    #[test]
    fn classes_do_not_mix() {
        let depot = depot(DEPOT_BYTES);
        depot.offer(block(1024)).expect("room");
        assert!(depot.take(class(1025)).is_none());
        assert!(depot.take(class(1023)).is_some());
    }

    #[test]
    fn bound_in_bytes() {
        let depot = depot(3 * 4096);
        depot.offer(block(4096)).expect("room");
        depot.offer(block(8192)).expect("room, to the byte");
        let refused = depot.offer(block(64)).expect_err("full");
        assert_eq!(refused.size(), 64);
        assert_eq!(depot.bytes(), 3 * 4096);
        drop(depot.take(class(4096)));
        depot.offer(refused).expect("room again");
    }

    #[test]
    fn bound_of_one_bin() {
        let depot = depot(4096);
        assert_eq!(depot.bin_capacity(class(64)), 64);
        for _ in 0..64 {
            depot.offer(block(64)).expect("room");
        }
        depot.offer(block(64)).expect_err("full");
        assert_eq!(depot.bytes(), 4096);
    }

    #[test]
    fn bounds_of_a_class() {
        let depot = depot(DEPOT_BYTES);
        for _ in 0..BIN_BLOCKS {
            depot.offer(block(64)).expect("room");
        }
        depot.offer(block(64)).expect_err("enough blocks");
        for _ in 0..BIN_BYTES / (16 << 20) {
            depot.offer(block(16 << 20)).expect("room");
        }
        depot.offer(block(16 << 20)).expect_err("enough bytes");
        assert_eq!(depot.bin_capacity(class(BIN_BYTES)), 1);
        assert_eq!(depot.bin_capacity(class(BIN_BYTES + 1)), 0);
    }

    #[test]
    fn what_lay_all_the_time_is_unused() {
        let depot = depot(DEPOT_BYTES);
        let offer = |count| (0..count).for_each(|_| depot.offer(block(64)).expect("room"));
        let take = |count| (0..count).for_each(|_| drop(depot.take(class(64)).expect("a block")));
        offer(10);
        assert_eq!(depot.unused(class(64)), 0, "they came in this interval");
        take(4);
        offer(4);
        assert_eq!(depot.unused(class(64)), 6);
        take(6);
        take(3);
        offer(3);
        assert_eq!(depot.unused(class(64)), 1, "of the four that are left");
        assert_eq!(depot.unused(class(65)), 0);
    }

    #[test]
    fn too_large_to_keep() {
        let depot = depot(4096);
        depot.offer(block(8192)).expect_err("never room");
        assert_eq!((depot.len(class(8192)), depot.bytes()), (0, 0));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads offer into a depot with room for one block: exactly one finds room, the
    /// other has its block back, and the bytes never pass the limit.
    #[test]
    fn room_for_one() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let depot = Arc::new(Depot::new(64));
            depot.prepare(class, 1).unwrap();
            let other = depot.clone();
            let thread = thread::spawn(move || {
                let result = other.offer(Block::obtain(class).unwrap()).is_ok();
                assert!(other.bytes() <= 64);
                result
            });
            let here = depot.offer(Block::obtain(class).unwrap()).is_ok();
            assert!(depot.bytes() <= 64);
            let there = thread.join().unwrap();
            assert!(here ^ there, "one block, one place");
            assert_eq!((depot.bytes(), depot.len(class)), (64, 1));
        });
    }

    /// Two threads take from a depot that holds one block: one gets it.
    #[test]
    fn one_for_two() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let depot = Arc::new(Depot::new(64));
            depot.prepare(class, 1).unwrap();
            depot.offer(Block::obtain(class).unwrap()).unwrap();
            let other = depot.clone();
            let thread = thread::spawn(move || other.take(class).is_some());
            let here = depot.take(class).is_some();
            assert!(here ^ thread.join().unwrap());
            assert_eq!((depot.bytes(), depot.len(class)), (0, 0));
        });
    }

    /// A bin grows while a block comes back to it: the block is in the bin.
    #[test]
    fn growth_against_offer() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let depot = Arc::new(Depot::new(64 * 64));
            depot.prepare(class, 1).unwrap();
            let other = depot.clone();
            let thread = thread::spawn(move || other.offer(Block::obtain(class).unwrap()).is_ok());
            depot.prepare(class, 32).unwrap();
            assert!(thread.join().unwrap());
            assert_eq!((depot.len(class), depot.bytes()), (1, 64));
            depot.shrink(class, 1);
            assert!(depot.take(class).is_some());
        });
    }

    /// A thread that takes makes room for one that offers, in every order.
    #[test]
    fn take_against_offer() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let depot = Arc::new(Depot::new(64));
            depot.prepare(class, 1).unwrap();
            depot.offer(Block::obtain(class).unwrap()).unwrap();
            let other = depot.clone();
            let thread = thread::spawn(move || other.take(class).is_some());
            let offered = depot.offer(Block::obtain(class).unwrap()).is_ok();
            let taken = thread.join().unwrap();
            let left = 1 + usize::from(offered) - usize::from(taken);
            assert_eq!((depot.len(class), depot.bytes()), (left, left * 64));
        });
    }
}
