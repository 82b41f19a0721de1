//! Blocks whose lending thread has ended and that another thread may still hold.

use super::block::Block;
use super::books::Count;
use super::ledger::SeatState;
use super::size_class::SizeClass;
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use super::witness::Witness;
use std::collections::HashMap;
use std::mem;
use std::sync::PoisonError;

/// Owns the blocks that were with a thread when it ended.
///
/// Such a block is neither handed out nor freed, not even when the pool itself goes, until its
/// witness says that its backing store is gone. Without a witness it stays for ever: its bytes
/// belong to whoever reads them, who may release it all the same, as if its lender lived.
#[derive(Default)]
pub struct Quarantine {
    watched: Mutex<Vec<Orphan>>,
    /// How many are watched: for a look without the lock.
    watching: AtomicUsize,
    /// Leased blocks that are set aside for good, by where they are.
    sealed_leases: Mutex<HashMap<usize, Block>>,
    sealed: Count,
    sealed_bytes: AtomicUsize,
}

/// A block whose lender has ended.
pub struct Orphan {
    /// The memory.
    pub block: Block,
    /// What it was doing when its lender ended.
    pub state: SeatState,
    /// Who tells when it is free.
    pub witness: Option<Box<dyn Witness>>,
}

impl Orphan {
    fn is_leased_at(&self, address: usize, size: usize) -> bool {
        self.block.key() == address && self.block.size() == size && self.state.is_leased()
    }
}

impl Quarantine {
    /// Takes a block in.
    pub fn admit(&self, orphan: Orphan) {
        let mut watched = self.watched();
        // Called while threads end, where memory that is refused must not abort the process.
        if orphan.witness.is_some() && watched.try_reserve(1).is_ok() {
            watched.push(orphan);
            // Relaxed, here and below: whoever looks a moment too early looks again.
            self.watching.store(watched.len(), Ordering::Relaxed);
        } else {
            drop(watched);
            self.seal(orphan);
        }
    }

    /// Sets a block aside for good. Where memory is refused, nobody can release it any more.
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

    /// Takes out one block whose backing store is gone.
    pub fn take_gone(&self) -> Option<Orphan> {
        if !self.is_watching() {
            return None;
        }
        let mut watched = self.watched();
        let is_gone =
            |orphan: &Orphan| orphan.witness.as_ref().is_some_and(|witness| witness.is_gone());
        let index = watched.iter().position(is_gone)?;
        let orphan = watched.swap_remove(index);
        self.watching.store(watched.len(), Ordering::Relaxed);
        Some(orphan)
    }

    /// Whether the block at `address`, of `size` bytes, was leased and is here.
    pub fn has(&self, address: usize, size: usize) -> bool {
        let is_watched = || self.watched().iter().any(|orphan| orphan.is_leased_at(address, size));
        self.is_watching() && is_watched()
            || self.sealed_leases().get(&address).is_some_and(|block| block.size() == size)
    }

    /// The block at `address`, of `size` bytes, is released by its last holder. Its class, if it was
    /// leased, and is here.
    pub fn surrender(&self, address: usize, size: usize) -> Option<SizeClass> {
        let mut watched = self.watched();
        if let Some(orphan) = watched.iter_mut().find(|orphan| orphan.is_leased_at(address, size)) {
            orphan.state = SeatState::Surrendered;
            return Some(orphan.block.class());
        }
        drop(watched);
        self.surrender_sealed(address, size)
    }

    /// The same of one without a witness. Native code may still hold it: it stays set aside.
    fn surrender_sealed(&self, address: usize, size: usize) -> Option<SizeClass> {
        let mut leases = self.sealed_leases();
        leases.get(&address).filter(|block| block.size() == size)?;
        let block = leases.remove(&address)?;
        let class = block.class();
        mem::forget(block);
        Some(class)
    }

    /// Whether a block may yet come out.
    pub fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    /// How many blocks are here.
    pub fn count(&self) -> u64 {
        self.sealed.get() + self.watching.load(Ordering::Relaxed) as u64
    }

    /// Bytes that are set aside for good.
    pub fn sealed_bytes(&self) -> usize {
        self.sealed_bytes.load(Ordering::Relaxed)
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Orphan>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed_leases(&self) -> MutexGuard<'_, HashMap<usize, Block>> {
        self.sealed_leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // The pool goes; who still holds one of these does not.
        for orphan in self.watched().drain(..) {
            if !orphan.witness.as_ref().is_some_and(|witness| witness.is_gone()) {
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

    /// A leased block that may come out as soon as it is in, and where it is.
    fn orphan() -> (Orphan, usize) {
        let block = Block::obtain(SizeClass::fitting(SIZE).unwrap()).unwrap();
        let address = block.key();
        (Orphan { block, state: SeatState::Leased, witness: Some(Box::new(Gone)) }, address)
    }

    /// One thread brings a block, two look for some: nobody loses it, and one has it.
    #[test]
    fn admit_against_take() {
        loom::model(|| {
            let quarantine = Arc::new(Quarantine::default());
            let (first, _) = orphan();
            quarantine.admit(first);
            let [one, other] = [quarantine.clone(), quarantine.clone()];
            let admitter = thread::spawn(move || one.admit(orphan().0));
            let taker = thread::spawn(move || other.take_gone());
            let here = quarantine.take_gone();
            admitter.join().unwrap();
            let there = taker.join().unwrap();
            let taken = [&here, &there].into_iter().flatten().count();
            assert!(taken > 0, "one was there from the start");
            assert_eq!(quarantine.count(), 2 - taken as u64);
            let left: Vec<_> = std::iter::from_fn(|| quarantine.take_gone()).collect();
            assert_eq!((left.len(), quarantine.count()), (2 - taken, 0));
            let all = [here, there].into_iter().flatten().chain(left);
            let mut addresses: Vec<_> = all.map(|orphan| orphan.block.key()).collect();
            addresses.dedup();
            assert_eq!(addresses.len(), 2, "each comes out once");
        });
    }

    /// One thread takes a block that another releases: it comes out once, released or not, and
    /// who was told that it is here has released it.
    #[test]
    fn take_against_release() {
        loom::model(|| {
            let quarantine = Arc::new(Quarantine::default());
            let (orphan, address) = orphan();
            quarantine.admit(orphan);
            let other = quarantine.clone();
            let taker = thread::spawn(move || other.take_gone().unwrap());
            let was_here = quarantine.has(address, SIZE);
            let is_released = quarantine.surrender(address, SIZE).is_some();
            assert!(was_here || !is_released);
            assert!(!quarantine.has(address, SIZE), "it is out, or not leased any more");
            let taken = taker.join().unwrap();
            assert_eq!(taken.state == SeatState::Surrendered, is_released);
            assert!(quarantine.take_gone().is_none());
            assert_eq!(quarantine.count(), 0);
        });
    }
}
