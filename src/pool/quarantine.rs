//! Blocks that another thread may still hold after their lender has ended.

use super::class_counters::Count;
use super::thread_counters::BlockState;
use super::witness::Witness;
use crate::memory::block::Block;
use crate::memory::size_class::SizeClass;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::HashMap;
use std::mem;
use std::sync::PoisonError;

/// Owns the blocks that a thread had when it ended.
///
/// It neither lends nor frees such a block before the witness says that the backing store is gone,
/// not even when the pool itself goes. A block without a witness stays forever. Its holder may
/// still release it, as if the lender lived.
#[derive(Default)]
pub struct Quarantine {
    watched: Mutex<Watched>,
    /// The number of watched blocks, to be read without the lock.
    watching: AtomicUsize,
    /// Leased blocks that stay forever, by address.
    sealed_leases: Mutex<HashMap<usize, Block>>,
    sealed: Count,
    sealed_bytes: AtomicUsize,
}

/// The blocks with a witness.
#[derive(Default)]
struct Watched {
    orphans: Vec<Orphan>,
    /// The index of each among them, by address.
    places: HashMap<usize, usize>,
    /// The index at which the next look begins, so that each look sees other blocks.
    next: usize,
}

impl Watched {
    /// # Errors
    ///
    /// Returns the orphan if there is no memory for it.
    fn push(&mut self, orphan: Orphan) -> Result<(), Orphan> {
        if self.orphans.try_reserve(1).is_err() || self.places.try_reserve(1).is_err() {
            return Err(orphan);
        }
        self.places.insert(orphan.block.key(), self.orphans.len());
        self.orphans.push(orphan);
        Ok(())
    }

    fn remove(&mut self, place: usize) -> Orphan {
        let orphan = self.orphans.swap_remove(place);
        self.places.remove(&orphan.block.key());
        if let Some(moved) = self.orphans.get(place) {
            self.places.insert(moved.block.key(), place);
        }
        orphan
    }

    /// Returns the orphan of `size` bytes at `address`, if it was leased.
    fn leased_at(&mut self, address: usize, size: usize) -> Option<&mut Orphan> {
        let place = *self.places.get(&address)?;
        let orphan = &mut self.orphans[place];
        (orphan.block.size() == size && orphan.state.is_leased()).then_some(orphan)
    }
}

/// A block whose lender has ended.
pub struct Orphan {
    /// The memory.
    pub block: Block,
    /// Its state when its lender ended.
    pub state: BlockState,
    /// Knows when it is free.
    pub witness: Option<Box<dyn Witness>>,
}

impl Orphan {
    fn is_gone(&self) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.is_gone())
    }
}

impl Quarantine {
    /// Takes a block in.
    pub fn admit(&self, orphan: Orphan) {
        // Called while threads end, where a refusal of memory must not abort the process.
        let unwatched = if orphan.witness.is_some() {
            let mut watched = self.watched();
            let unwatched = watched.push(orphan).err();
            // Relaxed, here and below: a thread that looks a moment too early looks again.
            self.watching.store(watched.orphans.len(), Ordering::Relaxed);
            unwatched
        } else {
            Some(orphan)
        };
        if let Some(orphan) = unwatched {
            self.seal(orphan);
        }
    }

    /// Sets a block aside forever. Without memory for its record, no thread can release it any
    /// more.
    fn seal(&self, Orphan { block, state, .. }: Orphan) {
        self.sealed.add();
        self.sealed_bytes.fetch_add(block.size(), Ordering::Relaxed);
        let mut leases = self.sealed_leases();
        if state.is_leased() && leases.try_reserve(1).is_ok() {
            leases.insert(block.key(), block);
        } else {
            mem::forget(block);
        }
    }

    /// Takes out one block whose backing store is gone. Looks at no more than `looks`, and counts
    /// them off.
    pub fn take_gone(&self, looks: &mut usize) -> Option<Orphan> {
        if !self.is_watching() {
            return None;
        }
        let mut watched = self.watched();
        while *looks > 0 && !watched.orphans.is_empty() {
            *looks -= 1;
            let place = watched.next % watched.orphans.len();
            if watched.orphans[place].is_gone() {
                // The last one moves to this index, and is looked at next.
                let orphan = watched.remove(place);
                watched.next = place;
                self.watching.store(watched.orphans.len(), Ordering::Relaxed);
                return Some(orphan);
            }
            watched.next = place + 1;
        }
        None
    }

    /// Takes out the block at `address`, if its backing store is gone.
    pub fn take_gone_at(&self, address: usize) -> Option<Orphan> {
        if !self.is_watching() {
            return None;
        }
        let mut watched = self.watched();
        let place = *watched.places.get(&address)?;
        if !watched.orphans[place].is_gone() {
            return None;
        }
        let orphan = watched.remove(place);
        self.watching.store(watched.orphans.len(), Ordering::Relaxed);
        Some(orphan)
    }

    /// Returns whether the block of `size` bytes at `address` is here, and was leased.
    pub fn has(&self, address: usize, size: usize) -> bool {
        let is_watched = || self.watched().leased_at(address, size).is_some();
        self.is_watching() && is_watched()
            || self.sealed_leases().get(&address).is_some_and(|block| block.size() == size)
    }

    /// Marks the block of `size` bytes at `address` as released remotely. Returns its class if it
    /// is here, and was leased.
    pub fn release_remotely(&self, address: usize, size: usize) -> Option<SizeClass> {
        let mut watched = self.watched();
        if let Some(orphan) = watched.leased_at(address, size) {
            orphan.state = BlockState::ReleasedRemotely;
            return Some(orphan.block.class());
        }
        drop(watched);
        self.release_sealed_remotely(address, size)
    }

    /// Does the same for one without a witness. Native code may still hold it, so it stays here.
    fn release_sealed_remotely(&self, address: usize, size: usize) -> Option<SizeClass> {
        let mut leases = self.sealed_leases();
        leases.get(&address).filter(|block| block.size() == size)?;
        let block = leases.remove(&address)?;
        let class = block.class();
        mem::forget(block);
        Some(class)
    }

    /// Returns whether a block may still leave.
    pub fn is_watching(&self) -> bool {
        self.watching() > 0
    }

    /// Returns how many blocks may still leave.
    pub fn watching(&self) -> usize {
        self.watching.load(Ordering::Relaxed)
    }

    /// Returns how many blocks are here.
    pub fn count(&self) -> u64 {
        self.sealed.get() + self.watching.load(Ordering::Relaxed) as u64
    }

    /// Returns how many bytes stay here forever.
    pub fn sealed_bytes(&self) -> usize {
        self.sealed_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many bytes the records of the blocks take.
    pub fn bytes(&self) -> usize {
        let watched = self.watched();
        watched.orphans.capacity() * size_of::<Orphan>()
            + watched.places.capacity() * size_of::<(usize, usize)>()
            + self.sealed_leases().capacity() * size_of::<(usize, Block)>()
    }

    /// Shrinks the records after many blocks have left.
    pub fn shrink(&self) {
        let mut watched = self.watched();
        if watched.orphans.capacity() > 64 && watched.orphans.len() * 4 < watched.orphans.capacity()
        {
            watched.orphans.shrink_to_fit();
            watched.places.shrink_to_fit();
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed_leases(&self) -> MutexGuard<'_, HashMap<usize, Block>> {
        self.sealed_leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // The pool goes, but not the holders of these.
        for orphan in self.watched().orphans.drain(..) {
            if !orphan.is_gone() {
                mem::forget(orphan.block);
            }
        }
        for (_, block) in self.sealed_leases().drain() {
            mem::forget(block);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    struct Gone;

    impl Witness for Gone {
        fn is_gone(&self) -> bool {
            true
        }
    }

    const SIZE: usize = 64;

    /// More than there are blocks.
    const LOOKS: usize = 9;

    /// Makes a leased block that may leave at once, and returns its address.
    fn orphan() -> (Orphan, usize) {
        let block = Block::obtain(SizeClass::fitting(SIZE).unwrap()).unwrap();
        let address = block.key();
        (Orphan { block, state: BlockState::Leased, witness: Some(Box::new(Gone)) }, address)
    }

    /// One thread adds a block while two take some: each block comes out once.
    #[test]
    fn admit_against_take() {
        loom::model(|| {
            let quarantine = Arc::new(Quarantine::default());
            let (first, _) = orphan();
            quarantine.admit(first);
            let [one, other] = [quarantine.clone(), quarantine.clone()];
            let admitter = thread::spawn(move || one.admit(orphan().0));
            let other_thread = thread::spawn(move || other.take_gone(&mut LOOKS.clone()));
            let here = quarantine.take_gone(&mut LOOKS.clone());
            admitter.join().unwrap();
            let there = other_thread.join().unwrap();
            let taken = [&here, &there].into_iter().flatten().count();
            assert!(taken > 0, "one was there from the start");
            assert_eq!(quarantine.count(), 2 - taken as u64);
            let left: Vec<_> =
                std::iter::from_fn(|| quarantine.take_gone(&mut LOOKS.clone())).collect();
            assert_eq!((left.len(), quarantine.count()), (2 - taken, 0));
            let all = [here, there].into_iter().flatten().chain(left);
            let mut addresses: Vec<_> = all.map(|orphan| orphan.block.key()).collect();
            addresses.dedup();
            assert_eq!(addresses.len(), 2, "each comes out once");
        });
    }

    /// One thread takes a block that another releases: it comes out once, released or not. A
    /// release that succeeds finds the block here.
    #[test]
    fn take_against_release() {
        loom::model(|| {
            let quarantine = Arc::new(Quarantine::default());
            let (orphan, address) = orphan();
            quarantine.admit(orphan);
            let other = quarantine.clone();
            let other_thread = thread::spawn(move || other.take_gone(&mut LOOKS.clone()).unwrap());
            let was_here = quarantine.has(address, SIZE);
            let is_released = quarantine.release_remotely(address, SIZE).is_some();
            assert!(was_here || !is_released);
            assert!(!quarantine.has(address, SIZE), "it is out, or not leased any more");
            let taken = other_thread.join().unwrap();
            assert_eq!(taken.state == BlockState::ReleasedRemotely, is_released);
            assert!(quarantine.take_gone(&mut LOOKS.clone()).is_none());
            assert_eq!(quarantine.count(), 0);
        });
    }
}
