//! Every block on loan, by its address.

use super::loan::LoanKey;
use super::thread_state::ThreadState;
use super::witness::Witness;
use crate::memory::block::Block;
use crate::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Parts of the table, so that two threads seldom want the same one. Loom gets a single one: it
/// must see the same accesses again, and addresses differ in each run.
const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };

/// The most loans for which a shard is not worth shrinking.
const FEWEST_LOANS: usize = 64;

/// The size of each loan's witness and of its finalizer's hint.
const WITNESS_BYTES: usize = 96;

/// The loan table. It owns the blocks on behalf of the backing stores that have them.
pub struct LoanTable {
    shards: [Mutex<HashMap<usize, Record>>; SHARDS],
}

/// One loan.
pub struct Record {
    /// The block that is lent.
    pub block: Block,
    /// The thread that made the `ArrayBuffer`.
    pub thread: Arc<ThreadState>,
    /// The row with the block's state in the thread's counters.
    pub row: u32,
    /// Distinguishes the loan from an earlier one of the same block.
    pub key: LoanKey,
    /// Knows whether the backing store is gone.
    pub witness: Option<Box<dyn Witness>>,
}

impl LoanTable {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Inserts a loan.
    ///
    /// # Errors
    ///
    /// Returns the record if there is no memory for it.
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

    /// Removes a loan, if it has not ended.
    pub fn remove(&self, key: LoanKey) -> Option<Record> {
        self.remove_if(key, |_| true)
    }

    /// Removes a loan, if it has not ended and `condition` holds for it.
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

    /// Removes a loan, if it has not ended, and passes its record to `take` before any other thread
    /// can look it up again.
    pub fn remove_into<T>(&self, key: LoanKey, take: impl FnOnce(Record) -> T) -> Option<T> {
        let mut shard = self.shard(key.place());
        shard.get(&key.place()).filter(|record| record.key == key)?;
        shard.remove(&key.place()).map(take)
    }

    /// Gives a loan a witness, if it has not ended.
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

    /// Returns how many bytes the table takes.
    pub fn bytes(&self) -> usize {
        let bytes = |shard: &Mutex<HashMap<usize, Record>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let witnesses = shard.len() * WITNESS_BYTES;
            shard.capacity() * (size_of::<(usize, Record)>() + 1) + witnesses
        };
        self.shards.iter().map(bytes).sum()
    }

    /// Shrinks the table after many loans have ended.
    pub fn shrink(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if shard.capacity() <= FEWEST_LOANS || shard.len() * 8 > shard.capacity() {
                continue;
            }
            let mut smaller = HashMap::new();
            // Without memory for a smaller table, the table stays as it is.
            if smaller.try_reserve(2 * shard.len()).is_ok() {
                smaller.extend(shard.drain());
                *shard = smaller;
            }
        }
    }

    #[cfg_attr(loom, expect(clippy::modulo_one, reason = "loom has one shard"))]
    fn shard(&self, place: usize) -> MutexGuard<'_, HashMap<usize, Record>> {
        // Blocks are multiples of 64 bytes; large ones start on pages.
        let index = ((place >> 6) ^ (place >> 12) ^ (place >> 20)) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
