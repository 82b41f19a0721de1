//! The shared store of idle blocks.

use super::block::{Block, OutOfMemory};
use super::size_class::SizeClass;
use super::sync::{ArrayQueue, AtomicUsize, Ordering};
use std::sync::OnceLock;

/// The most that one class keeps idle in the depot, in bytes.
pub const SHELF_BYTES: usize = 128 << 20;

/// The most blocks that one class keeps idle in the depot: bounds the queue's own memory to 96 KiB
/// a class.
pub const SHELF_BLOCKS: usize = 4096;

/// What a place on a shelf takes, in bytes: a block, and the queue's mark.
const PLACE_BYTES: usize = size_of::<Block>() + size_of::<usize>();

/// The most that all classes together keep idle in the depot, in bytes.
pub const DEPOT_BYTES: usize = 256 << 20;

/// A bounded, lock-free store of idle blocks, one queue (shelf) for each size class, for all
/// threads of the process.
///
/// ```text
///            offer                                  take
///   block ──────────▶ bytes + size ≤ limit? ──┐   ┌────────▶ block
///     ▲                        │ no           ▼   │
///     └────────────────────────┘        [ ArrayQueue ] × size class
///        given back when full
/// ```
///
/// What it can't take it gives back: a full depot is no error.
pub struct Depot {
    /// Made when a class is first used, so that an unused class costs a few bytes.
    shelves: [OnceLock<Box<Shelf>>; SizeClass::COUNT],
    /// Bytes that are on the shelves, or about to be. Never above `limit`.
    bytes: AtomicUsize,
    /// Never changes.
    limit: usize,
}

/// One class's part.
struct Shelf {
    blocks: ArrayQueue<Block>,
    /// The fewest blocks that lay here in this interval: as many were not
    /// [needed](Depot::unused). Approximate while threads take and offer at once.
    fewest: AtomicUsize,
}

impl Depot {
    /// An empty depot that keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            shelves: [const { OnceLock::new() }; SizeClass::COUNT],
            bytes: AtomicUsize::new(0),
            limit,
        }
    }

    /// Makes the shelf of `class`, where it is not made yet, so that [`offer`](Self::offer) needs no
    /// memory: finalizers call that.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], with nothing changed.
    pub fn prepare(&self, class: SizeClass) -> Result<(), OutOfMemory> {
        let capacity = self.shelf_capacity(class);
        let queue = &self.shelves[class.index()];
        if capacity == 0 || queue.get().is_some() {
            return Ok(());
        }
        // The queue itself would abort the process where it gets no memory.
        let bytes = capacity * PLACE_BYTES;
        if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
            return Err(OutOfMemory { bytes });
        }
        queue.get_or_init(|| {
            let blocks = ArrayQueue::new(capacity);
            Box::new(Shelf { blocks, fewest: AtomicUsize::new(0) })
        });
        Ok(())
    }

    /// Puts an idle block on its shelf. Allocates nothing.
    ///
    /// # Errors
    ///
    /// Gives the block back where the shelf or the depot is full, or the shelf was never
    /// [made](Self::prepare).
    pub fn offer(&self, block: Block) -> Result<(), Block> {
        let Some(place) = self.shelves[block.class().index()].get() else {
            return Err(block);
        };
        let size = block.size();
        if !self.reserve(size) {
            return Err(block);
        }
        place.blocks.push(block).inspect_err(|_| self.unreserve(size))
    }

    /// Takes the block of `class` that has been idle longest; `None` where there is none.
    pub fn take(&self, class: SizeClass) -> Option<Block> {
        let place = self.shelves[class.index()].get()?;
        let block = place.blocks.pop()?;
        // Relaxed: a figure to go by.
        place.fewest.fetch_min(place.blocks.len(), Ordering::Relaxed);
        self.unreserve(block.size());
        Some(block)
    }

    /// How many blocks of `class` lay here all the time since this was asked last: those were not
    /// needed. Begins a new interval.
    pub fn unused(&self, class: SizeClass) -> usize {
        self.shelves[class.index()].get().map_or(0, |shelf| {
            let length = shelf.blocks.len();
            let unused = shelf.fewest.load(Ordering::Relaxed).min(length);
            shelf.fewest.store(length - unused, Ordering::Relaxed);
            unused
        })
    }

    /// How many blocks of `class` are idle here. Exact only while no other thread moves one.
    pub fn len(&self, class: SizeClass) -> usize {
        self.shelves[class.index()].get().map_or(0, |shelf| shelf.blocks.len())
    }

    /// How many bytes are idle here, or about to be.
    pub fn bytes(&self) -> usize {
        // Relaxed: a figure to look at; no memory is reached through it.
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many blocks of `class` the depot may keep; 0 for blocks too large to keep even one.
    pub fn shelf_capacity(&self, class: SizeClass) -> usize {
        (SHELF_BYTES.min(self.limit) / class.block_size()).min(SHELF_BLOCKS)
    }

    fn reserve(&self, size: usize) -> bool {
        // Relaxed, here and in `unreserve`: the count is a budget of its own. The queue, not
        // the count, hands the block's memory from one thread to the next.
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
            depot.prepare(class).expect("memory");
        }
        depot
    }

    #[test]
    fn shelf_that_was_never_made() {
        let depot = Depot::new(DEPOT_BYTES);
        depot.offer(block(64)).expect_err("no shelf");
        depot.prepare(class(64)).expect("memory");
        depot.prepare(class(64)).expect("made already");
        depot.offer(block(64)).expect("room");
        depot.offer(block(65)).expect_err("no shelf of that class");
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
    fn bound_of_one_shelf() {
        let depot = depot(4096);
        assert_eq!(depot.shelf_capacity(class(64)), 64);
        for _ in 0..64 {
            depot.offer(block(64)).expect("room");
        }
        depot.offer(block(64)).expect_err("full");
        assert_eq!(depot.bytes(), 4096);
    }

    #[test]
    fn bounds_of_a_class() {
        let depot = depot(DEPOT_BYTES);
        for _ in 0..SHELF_BLOCKS {
            depot.offer(block(64)).expect("room");
        }
        depot.offer(block(64)).expect_err("enough blocks");
        for _ in 0..SHELF_BYTES / (16 << 20) {
            depot.offer(block(16 << 20)).expect("room");
        }
        depot.offer(block(16 << 20)).expect_err("enough bytes");
        assert_eq!(depot.shelf_capacity(class(SHELF_BYTES)), 1);
        assert_eq!(depot.shelf_capacity(class(SHELF_BYTES + 1)), 0);
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
            depot.prepare(class).unwrap();
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
            depot.prepare(class).unwrap();
            depot.offer(Block::obtain(class).unwrap()).unwrap();
            let other = depot.clone();
            let thread = thread::spawn(move || other.take(class).is_some());
            let here = depot.take(class).is_some();
            assert!(here ^ thread.join().unwrap());
            assert_eq!((depot.bytes(), depot.len(class)), (0, 0));
        });
    }

    /// A thread that takes makes room for one that offers, in every order.
    #[test]
    fn take_against_offer() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let depot = Arc::new(Depot::new(64));
            depot.prepare(class).unwrap();
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
