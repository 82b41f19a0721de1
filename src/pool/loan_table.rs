//! Every block that is on loan, by where it is.

use super::loan::LoanKey;
use super::thread_state::ThreadState;
use super::witness::Witness;
use crate::memory::block::Block;
use crate::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Parts of the register: two threads seldom want the same. One for loom, which repeats what it has seen: addresses
/// are others each time.
const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };

/// A shard with room for so many loans is not worth making smaller.
const FEWEST_LOANS: usize = 64;

/// What a witness takes, and what is given to the finalizer, for each loan.
const WITNESS_BYTES: usize = 96;

/// The table of loans. It holds the blocks on behalf of the backing stores that have them.
pub struct LoanTable {
    shards: [Mutex<HashMap<usize, Record>>; SHARDS],
}

/// One loan.
pub struct Record {
    /// What is lent.
    pub block: Block,
    /// Who made the `ArrayBuffer`.
    pub thread: Arc<ThreadState>,
    /// Where the thread's counters keeps the block's state.
    pub row: u32,
    /// Tells the loan from an earlier one of the same block.
    pub key: LoanKey,
    /// Who knows when the backing store is gone.
    pub witness: Option<Box<dyn Witness>>,
}

impl LoanTable {
    /// A register without loans.
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Inserts a loan.
    ///
    /// # Errors
    ///
    /// Gives the record back where there is no memory for it.
    pub fn insert(&self, record: Record) -> Result<(), Record> {
        let place = record.key.place();
        let mut shard = self.shard(place);
        if shard.try_reserve(1).is_err() {
            return Err(record);
        }
        let before = shard.insert(place, record);
        debug_assert!(before.is_none(), "a block is lent once at a time");
        Ok(())
    }

    /// Removes a loan, where it has not ended.
    pub fn remove(&self, key: LoanKey) -> Option<Record> {
        self.remove_if(key, |_| true)
    }

    /// Removes a loan, where it has not ended and `condition` holds for it.
    pub fn remove_if(
        &self,
        key: LoanKey,
        condition: impl FnOnce(&Record) -> bool,
    ) -> Option<Record> {
        let mut shard = self.shard(key.place());
        let record = shard.get(&key.place())?;
        if record.key != key || !condition(record) {
            return None;
        }
        shard.remove(&key.place())
    }

    /// Removes a loan, where it has not ended, and takes its record elsewhere before anyone can
    /// look for it again.
    pub fn remove_into<T>(&self, key: LoanKey, take: impl FnOnce(Record) -> T) -> Option<T> {
        let mut shard = self.shard(key.place());
        shard.get(&key.place()).filter(|record| record.key == key)?;
        shard.remove(&key.place()).map(take)
    }

    /// Lets a witness watch over a loan, where it has not ended.
    pub fn watch(&self, key: LoanKey, witness: Box<dyn Witness>) {
        let mut shard = self.shard(key.place());
        if let Some(record) = shard.get_mut(&key.place()).filter(|record| record.key == key) {
            record.witness = Some(witness);
        }
    }

    /// Looks at the loan of the block at `address`.
    pub fn look<T>(&self, address: usize, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.shard(address).get(&address).map(look)
    }

    /// How many bytes the register takes.
    pub fn bytes(&self) -> usize {
        let bytes = |shard: &Mutex<HashMap<usize, Record>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let witnesses = shard.len() * WITNESS_BYTES;
            shard.capacity() * (size_of::<(usize, Record)>() + 1) + witnesses
        };
        self.shards.iter().map(bytes).sum()
    }

    /// Gives back memory that many loans took that have ended.
    pub fn shrink(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if shard.capacity() <= FEWEST_LOANS || shard.len() * 8 > shard.capacity() {
                continue;
            }
            let mut smaller = HashMap::new();
            // Without memory for less it stays as it is.
            if smaller.try_reserve(2 * shard.len()).is_ok() {
                smaller.extend(shard.drain());
                *shard = smaller;
            }
        }
    }

    fn shard(&self, place: usize) -> MutexGuard<'_, HashMap<usize, Record>> {
        // Blocks are multiples of 64 bytes; large ones start on pages.
        let index = ((place >> 6) ^ (place >> 12) ^ (place >> 20)) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
